//! StorageClasses: how volumes are made for claims.
//!
//! Follows upstream `ValidateStorageClass` (pkg/apis/storage/validation, v1.35).

use super::{validate_parameters, validate_provisioner};
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{immutable, invalid, one_of, to_value};
use crate::registry::kinds::core::podspec;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{TopologySelectorLabelRequirement, TopologySelectorTerm};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Classes with any of these, set to `true`, are for claims that name none.
const DEFAULT_ANNOTATIONS: &[&str] = &[
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

impl Resource for StorageClass {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "storageclass",
        short_names: &[Cow::Borrowed("sc")],
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::STORAGE_CLASS;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Provisioner", "Who makes the volumes."),
        Column::text("ReclaimPolicy", "What becomes of a volume when its claim goes."),
        Column::text("VolumeBindingMode", "When a claim gets its volume."),
        Column::text("AllowVolumeExpansion", "Whether claims may grow."),
        Column::AGE,
    ];
    const RETURNS_DELETED: bool = true;

    fn apply_defaults(&mut self) {
        self.reclaim_policy.get_or_insert_with(|| "Delete".to_owned());
        self.volume_binding_mode.get_or_insert_with(|| "Immediate".to_owned());
        self.parameters.take_if(|parameters| parameters.is_empty());
        self.mount_options.take_if(|options| options.is_empty());
        self.allowed_topologies.take_if(|terms| terms.is_empty());
    }

    fn validate(&self) -> Vec<FieldError> {
        let path = FieldPath::new("provisioner");
        let mut errors = validate_provisioner(&self.provisioner, &path);
        let path = FieldPath::new("parameters");
        errors.extend(validate_parameters(self.parameters.as_ref(), &path));
        let policy = self.reclaim_policy.as_deref().filter(|policy| !policy.is_empty());
        if let Some(policy) = policy {
            let path = FieldPath::new("reclaimPolicy");
            errors.extend(one_of(&path, policy, &["Delete", "Retain"]));
        }
        let mode = self.volume_binding_mode.as_deref().unwrap_or_default();
        let path = FieldPath::new("volumeBindingMode");
        errors.extend(one_of(&path, mode, &["Immediate", "WaitForFirstConsumer"]));
        errors.extend(validate_topologies(self.allowed_topologies.as_deref().unwrap_or_default()));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (field, is_same) in [
            ("parameters", self.parameters == old.parameters),
            ("provisioner", self.provisioner == old.provisioner),
            ("reclaimPolicy", self.reclaim_policy == old.reclaim_policy),
        ] {
            if !is_same {
                let detail = format!("updates to {field} are forbidden.");
                errors.push(FieldError::forbidden(&FieldPath::new(field), detail));
            }
        }
        let mode = |class: &Self| to_value(&class.volume_binding_mode);
        errors.extend(immutable(&FieldPath::new("volumeBindingMode"), mode(self), &mode(old)));
        errors
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let mut warnings = Vec::new();
        for (index, term) in self.allowed_topologies.iter().flatten().enumerate() {
            let path = FieldPath::new("allowedTopologies").index(index);
            let path = path.child("matchLabelExpressions");
            for (index, expression) in term.match_label_expressions.iter().flatten().enumerate() {
                if let Some(message) = podspec::deprecated_label(&expression.key) {
                    let path = path.index(index).child("key");
                    warnings.push(format!("{path}: {message}"));
                }
            }
        }
        warnings
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let annotations = self.metadata.annotations.iter().flatten();
        let mut defaults = annotations
            .filter(|(key, value)| DEFAULT_ANNOTATIONS.contains(&key.as_str()) && *value == "true");
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let name = match defaults.next() {
            Some(_) => format!("{name} (default)"),
            None => name.to_owned(),
        };
        vec![
            name.into(),
            self.provisioner.clone().into(),
            self.reclaim_policy.clone().unwrap_or_default().into(),
            self.volume_binding_mode.clone().unwrap_or_default().into(),
            self.allow_volume_expansion.unwrap_or_default().into(),
            cells::age(&self.metadata, now),
        ]
    }
}

type Topology<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

fn validate_topologies(terms: &[TopologySelectorTerm]) -> Vec<FieldError> {
    let path = FieldPath::new("allowedTopologies");
    let mut errors = Vec::new();
    let mut seen: BTreeSet<Topology<'_>> = BTreeSet::new();
    for (index, term) in terms.iter().enumerate() {
        let path = path.index(index).child("matchLabelExpressions");
        let requirements = term.match_label_expressions.as_deref().unwrap_or_default();
        let mut topology = Topology::new();
        for (index, requirement) in requirements.iter().enumerate() {
            let path = path.index(index);
            errors.extend(validate_requirement(requirement, &path));
            let values = requirement.values.iter().map(String::as_str).collect();
            if topology.insert(&requirement.key, values).is_some() {
                let key = requirement.key.as_str();
                errors.push(FieldError::duplicate(&path.child("key"), key));
            }
        }
        // Upstream compares with an empty term too, so that a term without requirements counts as
        // given twice.
        if topology.is_empty() || !seen.insert(topology) {
            errors.push(FieldError::duplicate(&path, ""));
        }
    }
    errors
}

/// Upstream `validateTopologySelectorLabelRequirement` (pkg/apis/core/validation, v1.35).
fn validate_requirement(
    requirement: &TopologySelectorLabelRequirement,
    path: &FieldPath,
) -> Vec<FieldError> {
    let values_path = path.child("values");
    let mut errors = Vec::new();
    if requirement.values.is_empty() {
        errors.push(FieldError::required(&values_path, ""));
    }
    let mut seen = BTreeSet::new();
    for (index, value) in requirement.values.iter().enumerate() {
        if !seen.insert(value) {
            errors.push(FieldError::duplicate(&values_path.index(index), value.as_str()));
        }
    }
    let key = &requirement.key;
    errors.extend(invalid(&path.child("key"), key, names::qualified_name(key)));
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::json;

    fn class() -> Case {
        Case::of(
            "storageclasses",
            json!({"metadata": {"name": "a"}, "provisioner": "Example.com/a", "parameters": {"a": "b"}}),
        )
    }

    #[test]
    fn fields() {
        check(&class(), &[]);
        check(
            &class().with(json!({
                "provisioner": "a b", "parameters": {"": "c"},
                "reclaimPolicy": "Recycle", "volumeBindingMode": "Later",
            })),
            &[
                "provisioner: Invalid value: \"a b\": name part must consist of",
                "parameters: Invalid value: \"\": field can not be empty.",
                "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
                "volumeBindingMode: Unsupported value: \"Later\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
            ],
        );
        check(
            &class().with(json!({"provisioner": "", "parameters": {"a": "b".repeat(262_144)}})),
            &[
                "provisioner: Required value",
                "parameters: Too long: may not be more than 262144 bytes",
            ],
        );
    }

    #[test]
    fn topologies() {
        let zone = |values: &[&str]| json!({"key": "zone", "values": values});
        let term = |requirements: serde_json::Value| json!({"matchLabelExpressions": requirements});
        check(&class().with(json!({"allowedTopologies": [term(json!([zone(&["a"])]))]})), &[]);
        check(
            &class().with(json!({"allowedTopologies": [
                term(json!([zone(&["a", "b"]), zone(&[])])),
                term(json!([zone(&["c", "c"])])),
                term(json!([zone(&["c"])])),
            ]})),
            &[
                "allowedTopologies[0].matchLabelExpressions[1].values: Required value",
                "allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: \"zone\"",
                "allowedTopologies[1].matchLabelExpressions[0].values[1]: Duplicate value: \"c\"",
                "allowedTopologies[2].matchLabelExpressions: Duplicate value: \"\"",
            ],
        );
    }

    #[test]
    fn a_class_says_the_same_to_all_its_claims() {
        check_update(&class(), &class().with(json!({"allowVolumeExpansion": true})), &[]);
        check_update(
            &class(),
            &class().with(json!({
                "provisioner": "b", "parameters": null, "reclaimPolicy": "Retain",
                "volumeBindingMode": "WaitForFirstConsumer",
            })),
            &[
                "parameters: Forbidden: updates to parameters are forbidden.",
                "provisioner: Forbidden: updates to provisioner are forbidden.",
                "reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.",
                "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
            ],
        );
    }
}
