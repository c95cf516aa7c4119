//! ConfigMaps: plain data for pods.
//!
//! Follows upstream `ValidateConfigMap` (pkg/apis/core/validation, v1.35).

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::invalid;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;
use std::borrow::Cow;

/// All values of a ConfigMap or Secret together; beyond it the object is refused.
pub(super) const DATA_BYTES_MAX: usize = 1024 * 1024;

pub(super) const IMMUTABLE: &str = "field is immutable when `immutable` is set";

impl Resource for ConfigMap {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "configmap",
        short_names: &[Cow::Borrowed("cm")],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::CONFIG_MAP;
    const COLUMNS: &'static [Column] =
        &[Column::NAME, Column::text("Data", "Number of entries."), Column::AGE];

    fn apply_defaults(&mut self) {
        // An empty map and no map are the same to upstream's types.
        self.data.take_if(|data| data.is_empty());
        self.binary_data.take_if(|data| data.is_empty());
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut total_bytes = 0;
        let path = FieldPath::new("data");
        for (key, value) in self.data.iter().flatten() {
            errors.extend(invalid(&path.key(key), key, names::config_key(key)));
            if self.binary_data.iter().any(|data| data.contains_key(key)) {
                let detail = "duplicate of key present in binaryData";
                errors.push(FieldError::invalid(&path.key(key), key.as_str(), detail));
            }
            total_bytes += value.len();
        }
        let path = FieldPath::new("binaryData");
        for (key, value) in self.binary_data.iter().flatten() {
            errors.extend(invalid(&path.key(key), key, names::config_key(key)));
            total_bytes += value.0.len();
        }
        if total_bytes > DATA_BYTES_MAX {
            errors.push(FieldError::too_long(&FieldPath::new(""), DATA_BYTES_MAX));
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        if old.immutable != Some(true) {
            return Vec::new();
        }
        [
            ("immutable", self.immutable != Some(true)),
            ("data", self.data != old.data),
            ("binaryData", self.binary_data != old.binary_data),
        ]
        .into_iter()
        .filter(|(_, changed)| *changed)
        .map(|(field, _)| FieldError::forbidden(&FieldPath::new(field), IMMUTABLE))
        .collect()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let entries = self.data.as_ref().map_or(0, |data| data.len())
            + self.binary_data.as_ref().map_or(0, |data| data.len());
        let metadata = &self.metadata;
        vec![cells::name(metadata), entries.into(), cells::age(metadata, now)]
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::json;

    #[test]
    fn keys_and_sizes() {
        let case = Case::of("configmaps", json!({"metadata": {"name": "a", "namespace": "b"}}));
        check(&case.with(json!({"data": {"a": "b"}, "binaryData": {"c": "AA=="}})), &[]);
        check(
            &case
                .with(json!({"data": {"a/b": "", "x": ""}, "binaryData": {"..": "AA==", "x": ""}})),
            &[
                "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of",
                "data[x]: Invalid value: \"x\": duplicate of key present in binaryData",
                "binaryData[..]: Invalid value: \"..\": must not be '..'",
            ],
        );
        check(
            &case.with(json!({"data": {"a": "x".repeat(1024 * 1024), "b": "x"}})),
            &[": Too long: may not be more than 1048576 bytes"],
        );
    }

    #[test]
    fn an_immutable_one_stays_as_it_is() {
        let old = Case::of(
            "configmaps",
            json!({"metadata": {"name": "a", "namespace": "b"}, "immutable": true, "data": {"a": "1"}}),
        );
        check_update(&old, &old.with(json!({"metadata": {"labels": {"x": "y"}}})), &[]);
        check_update(
            &old,
            &old.with(json!({"immutable": false, "data": {"a": "2"}, "binaryData": {"c": "AA=="}})),
            &[
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
                "binaryData: Forbidden: field is immutable when `immutable` is set",
            ],
        );
    }
}
