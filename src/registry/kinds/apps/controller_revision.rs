//! ControllerRevisions: what a workload looked like at some time.
//!
//! Follows upstream `ValidateControllerRevisionCreate` (pkg/apis/apps/validation, v1.35).

use crate::api::{FieldError, FieldPath, owner};
use crate::registry::checks::{immutable, not_negative, to_value};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::Value;

impl Resource for ControllerRevision {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "controllerrevision",
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::CONTROLLER_REVISION;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Controller", "Object whose state this is."),
        Column::text("Revision", "Number of the state."),
        Column::AGE,
    ];

    fn validate(&self) -> Vec<FieldError> {
        let mut errors: Vec<_> =
            not_negative(&FieldPath::new("revision"), Some(self.revision)).into_iter().collect();
        let path = FieldPath::new("data");
        match self.data.as_ref().map(|data| &data.0) {
            Some(Value::Object(_)) => {}
            None | Some(Value::Null) => {
                errors.push(FieldError::required(&path, "data is mandatory"));
            }
            Some(_) => {
                errors.push(FieldError::required(&path, "data must be a valid JSON object"));
            }
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let path = FieldPath::new("data");
        immutable(&path, to_value(&self.data), &to_value(&old.data)).into_iter().collect()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let controller = owner::controller_of(&self.metadata).map(|owner| {
            let group = owner.api_version.split_once('/').map(|(group, _)| group);
            let group = group.map(|group| format!(".{group}")).unwrap_or_default();
            format!("{}{group}/{}", owner.kind.to_lowercase(), owner.name)
        });
        vec![
            cells::name(&self.metadata),
            cells::or_none(controller.as_deref()),
            self.revision.into(),
            cells::age(&self.metadata, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::json;

    #[test]
    fn the_data_is_an_object_that_stays() {
        let case = Case::of(
            "controllerrevisions",
            json!({"metadata": {"name": "a", "namespace": "b"}, "revision": 1, "data": {"a": 1}}),
        );
        check(&case, &[]);
        check(
            &case.with(json!({"revision": -1, "data": null})),
            &[
                "revision: Invalid value: -1: must be greater than or equal to 0",
                "data: Required value: data is mandatory",
            ],
        );
        check(
            &case.with(json!({"data": 1})),
            &["data: Required value: data must be a valid JSON object"],
        );
        check_update(
            &case,
            &case.with(json!({"data": {"a": 2}})),
            &["data: Invalid value: {\"a\":2}: field is immutable"],
        );
    }
}
