//! VolumeAttributesClasses: attributes of volumes that can change while they are used.
//!
//! Follows upstream `ValidateVolumeAttributesClass` (pkg/apis/storage/validation, v1.35).

use super::{validate_parameters, validate_provisioner};
use crate::api::{FieldError, FieldPath};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use serde_json::Value;
use std::borrow::Cow;

impl Resource for VolumeAttributesClass {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "volumeattributesclass",
        short_names: &[Cow::Borrowed("vac")],
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::VOLUME_ATTRIBUTES_CLASS;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("DriverName", "The driver that knows the attributes."),
        Column::AGE,
    ];
    const RETURNS_DELETED: bool = true;

    fn apply_defaults(&mut self) {
        self.parameters.take_if(|parameters| parameters.is_empty());
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = validate_provisioner(&self.driver_name, &FieldPath::new("driverName"));
        let path = FieldPath::new("parameters");
        errors.extend(validate_parameters(self.parameters.as_ref(), &path));
        if self.parameters.is_none() {
            let detail = "must contain at least one key/value pair";
            errors.push(FieldError::required(&path, detail));
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (field, is_same) in [
            ("driverName", self.driver_name == old.driver_name),
            ("parameters", self.parameters == old.parameters),
        ] {
            if !is_same {
                let detail = format!("updates to {field} are forbidden.");
                errors.push(FieldError::forbidden(&FieldPath::new(field), detail));
            }
        }
        errors
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let driver = self.driver_name.clone().into();
        vec![cells::name(&self.metadata), driver, cells::age(&self.metadata, now)]
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::json;

    #[test]
    fn a_class_says_something_and_always_the_same() {
        let class = Case::of(
            "volumeattributesclasses",
            json!({"metadata": {"name": "a"}, "driverName": "d.io", "parameters": {"a": "b"}}),
        );
        check(&class, &[]);
        check(
            &class.with(json!({"driverName": "", "parameters": null})),
            &[
                "driverName: Required value",
                "parameters: Required value: must contain at least one key/value pair",
            ],
        );
        check_update(
            &class,
            &class.with(json!({"driverName": "e.io", "parameters": {"a": "c"}})),
            &[
                "driverName: Forbidden: updates to driverName are forbidden.",
                "parameters: Forbidden: updates to parameters are forbidden.",
            ],
        );
    }
}
