//! DeviceClasses: devices of a kind, and what their driver is told.
//!
//! Follows upstream `validateDeviceClassSpec` (pkg/apis/resource/validation, v1.35).

use super::configuration::{self, Novelty};
use super::selectors::validate_selectors;
use super::{CONFIGURATIONS_MAX, validate_each};
use crate::api::{FieldError, FieldPath};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{DeviceClass, DeviceClassSpec};
use serde_json::Value;

impl Resource for DeviceClass {
    const FACTS: KindFacts =
        KindFacts::built_in::<Self>(BuiltIn { singular: "deviceclass", ..BuiltIn::CLUSTER });
    const SCHEMA: TypeRef = types::DEVICE_CLASS;
    const RETURNS_DELETED: bool = true;
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = &[Column::NAME, Column::AGE];

    fn prepare_create(&mut self) {
        self.spec.extended_resource_name = None;
    }

    fn prepare_update(&mut self, _old: &Self) {
        self.spec.extended_resource_name = None;
    }

    fn validate_create(&self) -> Vec<FieldError> {
        validate(&self.spec, Novelty::New)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let is_kept = self.spec.config == old.spec.config;
        validate(&self.spec, if is_kept { Novelty::Stored } else { Novelty::New })
    }

    fn is_new_generation(&self, old: &Self) -> bool {
        self.spec != old.spec
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![cells::name(&self.metadata), cells::age(&self.metadata, now)]
    }
}

fn validate(spec: &DeviceClassSpec, novelty: Novelty) -> Vec<FieldError> {
    let path = FieldPath::new("spec");
    let mut errors = validate_selectors(spec.selectors.as_deref(), &path.child("selectors"));
    let config = spec.config.as_deref().unwrap_or_default();
    errors.extend(validate_each(config, CONFIGURATIONS_MAX, &path.child("config"), |it, path| {
        configuration::validate(it.opaque.as_ref(), novelty, path)
    }));
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::{Value, json};

    fn class(spec: Value) -> Case {
        Case::of("deviceclasses", json!({"metadata": {"name": "gpu"}, "spec": spec}))
    }

    #[test]
    fn a_class_selects_and_configures() {
        let config = json!([{"opaque": {"driver": "d.io", "parameters": {"a": 1}}}]);
        check(
            &class(json!({"selectors": [{"cel": {"expression": "true"}}], "config": config})),
            &[],
        );
        check(
            &class(json!({
                "selectors": [{}, {"cel": {"expression": "x".repeat(10_241)}}, {"cel": {"expression": ""}}],
                "config": [{}, {"opaque": {"driver": "-", "parameters": []}},
                    {"opaque": {"driver": "", "parameters": null}}],
            })),
            &[
                "spec.selectors[0].cel: Required value",
                "spec.selectors[1].cel.expression: Too long: may not be more than 10240 bytes",
                "spec.selectors[2].cel.expression: Invalid value: \"\": compilation failed",
                "spec.config[0].opaque: Required value",
                "spec.config[1].opaque.driver: Invalid value: \"-\": a lowercase RFC 1123 subdomain",
                "spec.config[1].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
                "spec.config[2].opaque.driver: Required value",
                "spec.config[2].opaque.parameters: Required value",
            ],
        );
        let many: Vec<_> = (0..33).map(|_| json!({"cel": {"expression": "true"}})).collect();
        check(
            &class(json!({"selectors": many})),
            &["spec.selectors: Too many: 33: must have at most 32 items"],
        );
    }

    #[test]
    fn large_parameters_stay_and_do_not_come() {
        let config = |name: &str| {
            let parameters = json!({"a": "x".repeat(10_240)});
            class(json!({"config": [{"opaque": {"driver": name, "parameters": parameters}}]}))
        };
        let long = "spec.config[0].opaque.parameters: Too long: may not be more than 10240 bytes";
        check(&config("d.io"), &[long]);
        check_update(&config("d.io"), &config("d.io"), &[]);
        check_update(&config("d.io"), &config("e.io"), &[long]);
    }

    #[test]
    fn names_of_extended_resources_are_not_kept() {
        let created = class(json!({"extendedResourceName": "example.com/gpu"})).created();
        assert_eq!(created.to_value()["spec"], json!({}));
    }
}
