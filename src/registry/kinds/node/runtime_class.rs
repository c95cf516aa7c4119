//! RuntimeClasses: which shim runs a pod.
//!
//! Follows upstream `ValidateRuntimeClass` (pkg/apis/node/validation, v1.35).

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{immutable, invalid, labels, repeated, to_value};
use crate::registry::kinds::core::{podspec, resources, taints};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::node::v1::{RuntimeClass, Scheduling};
use serde_json::Value;

impl Resource for RuntimeClass {
    const FACTS: KindFacts =
        KindFacts::built_in::<Self>(BuiltIn { singular: "runtimeclass", ..BuiltIn::CLUSTER });
    const SCHEMA: TypeRef = types::RUNTIME_CLASS;
    const COLUMNS: &'static [Column] =
        &[Column::NAME, Column::text("Handler", "Shim that runs the pods."), Column::AGE];
    const CREATES_ON_UPDATE: bool = true;
    const UPDATES_UNCONDITIONALLY: bool = false;

    fn apply_defaults(&mut self) {
        if let Some(overhead) = &mut self.overhead {
            podspec::round_up(overhead.pod_fixed.as_mut());
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let path = FieldPath::new("handler");
        let mut errors = invalid(&path, &self.handler, names::dns1123_label(&self.handler));
        if let Some(overhead) = &self.overhead {
            let path = FieldPath::new("overhead");
            errors.extend(resources::validate_overhead(overhead.pod_fixed.as_ref(), &path));
        }
        errors.extend(self.scheduling.iter().flat_map(validate_scheduling));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let path = FieldPath::new("handler");
        immutable(&path, self.handler.clone().into(), &old.handler.clone().into())
            .into_iter()
            .collect()
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let scheduling = self.scheduling.iter().flat_map(|it| it.node_selector.iter().flatten());
        let told = scheduling.filter_map(|(key, _)| podspec::deprecated_label(key));
        told.map(|message| format!("scheduling.nodeSelector: {message}")).collect()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let handler = self.handler.clone().into();
        vec![cells::name(&self.metadata), handler, cells::age(&self.metadata, now)]
    }
}

fn validate_scheduling(scheduling: &Scheduling) -> Vec<FieldError> {
    let path = FieldPath::new("scheduling");
    let mut errors = labels(scheduling.node_selector.as_ref(), &path.child("nodeSelector"));
    let tolerations = scheduling.tolerations.as_deref().unwrap_or_default();
    let path = path.child("tolerations");
    errors.extend(taints::validate_tolerations(tolerations, &path.child("tolerations")));
    let is_repeated =
        repeated(tolerations.iter().map(|one| (&one.key, &one.operator, &one.value, &one.effect)));
    for (index, toleration) in tolerations.iter().enumerate() {
        if is_repeated[index] {
            errors.push(FieldError::duplicate(&path.index(index), to_value(toleration)));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::json;

    #[test]
    fn handler_overhead_and_scheduling() {
        let case =
            Case::of("runtimeclasses", json!({"metadata": {"name": "kata"}, "handler": "kata"}));
        check(&case.with(json!({"overhead": {"podFixed": {"memory": "120Mi"}}})), &[]);
        let toleration = json!({"key": "a", "operator": "Exists"});
        check(
            &case.with(json!({
                "handler": "",
                "overhead": {"podFixed": {"memory": "-1"}},
                "scheduling": {"nodeSelector": {"-": ""}, "tolerations": [toleration, toleration]},
            })),
            &[
                "handler: Invalid value: \"\": a lowercase RFC 1123 label must consist of",
                "overhead.limits[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
                "scheduling.nodeSelector: Invalid value: \"-\": name part must consist of",
                "scheduling.tolerations[1]: Duplicate value: {",
            ],
        );
        check_update(
            &case,
            &case.with(json!({"handler": "runc"})),
            &["handler: Invalid value: \"runc\": field is immutable"],
        );
    }
}
