//! CSIStorageCapacities: how much a driver could still make, and where.
//!
//! Follows upstream `ValidateCSIStorageCapacity` (pkg/apis/storage/validation, v1.35).

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{immutable, invalid, label_selector, quantity, to_value};
use crate::registry::kinds::core::podspec;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::storage::v1::CSIStorageCapacity;
use serde_json::Value;

impl Resource for CSIStorageCapacity {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "csistoragecapacity",
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::CSI_STORAGE_CAPACITY;
    // Upstream has a printer for these, and does not ask it.
    const COLUMNS: &'static [Column] = &[Column::NAME, Column::CREATED_AT];
    const UPDATES_UNCONDITIONALLY: bool = false;

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let Some(selector) = &self.node_topology {
            errors.extend(label_selector(selector, &FieldPath::new("nodeTopology")));
        }
        let class = &self.storage_class_name;
        let path = FieldPath::new("storageClassName");
        errors.extend(invalid(&path, class, names::dns1123_subdomain(class)));
        if let Some(capacity) = &self.capacity {
            errors.extend(quantity(&FieldPath::new("capacity"), &capacity.0));
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let topology = |one: &Self| to_value(&one.node_topology);
        let class = |one: &Self| Value::from(one.storage_class_name.clone());
        let topology_error =
            immutable(&FieldPath::new("nodeTopology"), topology(self), &topology(old));
        let class_error = immutable(&FieldPath::new("storageClassName"), class(self), &class(old));
        topology_error.into_iter().chain(class_error).collect()
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let Some(selector) = &self.node_topology else { return Vec::new() };
        let path = FieldPath::new("nodeTopology");
        let mut warnings = Vec::new();
        for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
            let key = &expression.key;
            if let Some(message) = podspec::deprecated_label(key) {
                let path = path.child("matchExpressions").index(index).child("key");
                warnings.push(format!("{path}: {key} is {message}"));
            }
        }
        for key in selector.match_labels.iter().flatten().map(|(key, _)| key) {
            if let Some(message) = podspec::deprecated_label(key) {
                warnings.push(format!("{}: {message}", path.child("matchLabels").child(key)));
            }
        }
        warnings
    }

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        vec![cells::name(&self.metadata), cells::created_at(&self.metadata)]
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::json;

    #[test]
    fn amounts_change_and_places_do_not() {
        let capacity = Case::of(
            "csistoragecapacities",
            json!({
                "metadata": {"name": "a", "namespace": "b"},
                "storageClassName": "fast", "capacity": "1Gi",
                "nodeTopology": {"matchLabels": {"zone": "a"}},
            }),
        );
        check(&capacity, &[]);
        check(
            &capacity.with(json!({
                "nodeTopology": {"matchLabels": {"-": "a"}}, "storageClassName": "", "capacity": "-1",
            })),
            &[
                "nodeTopology.matchLabels: Invalid value: \"-\": name part must consist of",
                "storageClassName: Invalid value: \"\": a lowercase RFC 1123 subdomain",
                "capacity: Invalid value: \"-1\": must be greater than or equal to 0",
            ],
        );
        check_update(&capacity, &capacity.with(json!({"capacity": "2Gi"})), &[]);
        check_update(
            &capacity,
            &capacity.with(json!({"nodeTopology": null, "storageClassName": "slow"})),
            &[
                "nodeTopology: Invalid value: null: field is immutable",
                "storageClassName: Invalid value: \"slow\": field is immutable",
            ],
        );
    }
}
