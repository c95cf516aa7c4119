//! What is checked of every object's metadata.
//!
//! Follows upstream `ValidateObjectMeta` and `ValidateObjectMetaUpdate` (apimachinery
//! pkg/api/validation/objectmeta.go, v1.35). That an update names a `resourceVersion` is not
//! checked here but by the verb that needs it.

use super::checks::{self, to_value};
use super::kind::Scope;
use crate::api::field::ERRORS_MAX;
use crate::api::{FieldError, FieldPath, names};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    ManagedFieldsEntry, ObjectMeta, OwnerReference,
};
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// All keys and values of an object's annotations together; beyond it they are refused.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
const FIELD_MANAGER_BYTES_MAX: usize = 128;
const SUBRESOURCE_BYTES_MAX: usize = 256;

pub const ORPHAN_FINALIZER: &str = "orphan";
pub const FOREGROUND_FINALIZER: &str = "foregroundDeletion";

/// What a kind asks of its objects' metadata.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub scope: Scope,
    pub name: names::Rule,
}

/// What is wrong with the metadata of a new object.
#[must_use]
pub fn validate(metadata: &ObjectMeta, rules: Rules) -> Vec<FieldError> {
    let path = FieldPath::new("metadata");
    let mut errors = validate_at(metadata, rules, &path);
    errors.extend(validate_finalizer_domains(metadata, &path));
    errors
}

/// As [`validate`], of metadata at `path`. Finalizers need no domain: only upstream's own kinds ask
/// for that.
#[must_use]
pub fn validate_at(metadata: &ObjectMeta, rules: Rules, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = validate_name(metadata, rules.name, path);
    errors.extend(validate_namespace(metadata.namespace.as_deref(), rules.scope, path));
    if metadata.generation.unwrap_or_default() < 0 {
        errors.push(FieldError::invalid(
            &path.child("generation"),
            metadata.generation,
            "must be greater than or equal to 0",
        ));
    }
    errors.extend(checks::labels(metadata.labels.as_ref(), &path.child("labels")));
    errors.extend(validate_annotations(metadata.annotations.as_ref(), &path.child("annotations")));
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    errors.extend(validate_owners(owners, &path.child("ownerReferences")));
    let finalizers = metadata.finalizers.as_deref().unwrap_or_default();
    errors.extend(validate_finalizers(finalizers, &path.child("finalizers")));
    errors.extend(validate_managed_fields(metadata, path));
    errors
}

/// Upstream's core kinds ask this of new and updated objects alike.
fn validate_finalizer_domains(metadata: &ObjectMeta, path: &FieldPath) -> Vec<FieldError> {
    let path = path.child("finalizers");
    let finalizers = metadata.finalizers.iter().flatten().enumerate();
    finalizers
        .filter_map(|(index, name)| checks::finalizer_domain(&path.index(index), name))
        .collect()
}

fn validate_name(metadata: &ObjectMeta, rule: names::Rule, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(prefix) = metadata.generate_name.as_deref().filter(|prefix| !prefix.is_empty()) {
        let problems = rule(&names::without_trailing_dash(prefix));
        errors.extend(checks::invalid(&path.child("generateName"), prefix, problems));
    }
    match metadata.name.as_deref().unwrap_or_default() {
        "" => errors
            .push(FieldError::required(&path.child("name"), "name or generateName is required")),
        name => errors.extend(checks::invalid(&path.child("name"), name, rule(name))),
    }
    errors
}

fn validate_namespace(namespace: Option<&str>, scope: Scope, path: &FieldPath) -> Vec<FieldError> {
    let path = path.child("namespace");
    match (scope, namespace.unwrap_or_default()) {
        (Scope::Namespaced, "") => vec![FieldError::required(&path, "")],
        (Scope::Namespaced, namespace) => {
            checks::invalid(&path, namespace, names::dns1123_label(namespace))
        }
        (Scope::Cluster, "") => Vec::new(),
        (Scope::Cluster, _) => vec![FieldError::forbidden(&path, "not allowed on this type")],
    }
}

/// Upstream `ValidateLabels`.
#[must_use]
pub fn validate_labels(
    labels: Option<&BTreeMap<String, String>>,
    path: &FieldPath,
) -> Vec<FieldError> {
    checks::labels(labels, path)
}

#[must_use]
pub fn validate_annotations(
    annotations: Option<&BTreeMap<String, String>>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut total_bytes = 0;
    for (key, value) in annotations.into_iter().flatten() {
        // Keys of annotations are qualified names in any case.
        if errors.len() < ERRORS_MAX {
            errors.extend(checks::invalid(path, key, names::qualified_name(&key.to_lowercase())));
        }
        total_bytes += key.len() + value.len();
    }
    if total_bytes > ANNOTATIONS_BYTES_MAX {
        errors.push(FieldError::too_long(path, ANNOTATIONS_BYTES_MAX));
    }
    errors
}

fn validate_owners(owners: &[OwnerReference], path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut controller: Option<String> = None;
    for owner in owners {
        errors.extend(validate_owner(owner, path));
        if owner.controller != Some(true) {
            continue;
        }
        let name = format!("{}/{}", owner.kind, owner.name);
        match &controller {
            Some(first) => errors.push(FieldError::invalid(
                path,
                to_value(&owners),
                format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                ),
            )),
            None => controller = Some(name),
        }
    }
    errors
}

fn validate_owner(owner: &OwnerReference, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let version = owner.api_version.rsplit('/').next().unwrap_or_default();
    if version.is_empty() {
        let path = path.child("apiVersion");
        errors.push(FieldError::invalid(
            &path,
            owner.api_version.as_str(),
            "version must not be empty",
        ));
    }
    for (name, value) in [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
        if value.is_empty() {
            errors.push(FieldError::invalid(&path.child(name), "", "must not be empty"));
        }
    }
    if owner.api_version == "v1" && owner.kind == "Event" {
        let detail = "/v1, Kind=Event is disallowed from being an owner";
        errors.push(FieldError::invalid(path, to_value(owner), detail));
    }
    errors
}

fn validate_finalizers(finalizers: &[String], path: &FieldPath) -> Vec<FieldError> {
    let mut errors: Vec<_> = finalizers
        .iter()
        .flat_map(|finalizer| checks::invalid(path, finalizer, names::qualified_name(finalizer)))
        .collect();
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    if has(ORPHAN_FINALIZER) && has(FOREGROUND_FINALIZER) {
        let detail =
            format!("finalizer {ORPHAN_FINALIZER} and {FOREGROUND_FINALIZER} cannot be both set");
        errors.push(FieldError::invalid(path, json!(finalizers), detail));
    }
    errors
}

fn validate_managed_fields(metadata: &ObjectMeta, path: &FieldPath) -> Vec<FieldError> {
    let entries = metadata.managed_fields.iter().flatten();
    let path = path.child("managedFields");
    entries
        .enumerate()
        .flat_map(|(index, entry)| validate_managed_entry(entry, &path.index(index)))
        .collect()
}

fn validate_managed_entry(entry: &ManagedFieldsEntry, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let operation = entry.operation.as_deref().unwrap_or_default();
    if !["Apply", "Update"].contains(&operation) {
        let path = path.child("operation");
        errors.push(FieldError::invalid(&path, operation, "must be `Apply` or `Update`"));
    }
    let fields_type = entry.fields_type.as_deref().unwrap_or_default();
    if !["", "FieldsV1"].contains(&fields_type) {
        let path = path.child("fieldsType");
        errors.push(FieldError::invalid(&path, fields_type, "must be `FieldsV1`"));
    }
    if entry.manager.as_ref().is_some_and(|manager| manager.len() > FIELD_MANAGER_BYTES_MAX) {
        errors.push(FieldError::too_long(&path.child("manager"), FIELD_MANAGER_BYTES_MAX));
    }
    if entry.subresource.as_ref().is_some_and(|name| name.len() > SUBRESOURCE_BYTES_MAX) {
        errors.push(FieldError::too_long(&path.child("subresource"), SUBRESOURCE_BYTES_MAX));
    }
    errors
}

/// What is wrong with going from the metadata `old` to `new`.
#[must_use]
pub fn validate_update(new: &ObjectMeta, old: &ObjectMeta) -> Vec<FieldError> {
    let mut errors = validate_change(new, old);
    errors.extend(validate_finalizer_domains(new, &FieldPath::new("metadata")));
    errors
}

/// What is wrong where a field that stays what it is has changed.
fn unchanged<T: Serialize + PartialEq>(
    path: &FieldPath,
    field: &str,
    (new, old): (&T, &T),
) -> Option<FieldError> {
    if new == old {
        return None;
    }
    checks::immutable(&path.child(field), to_value(new), &to_value(old))
}

/// As [`validate_update`]; finalizers need no domain.
#[must_use]
pub fn validate_change(new: &ObjectMeta, old: &ObjectMeta) -> Vec<FieldError> {
    let path = FieldPath::new("metadata");
    let mut errors = Vec::new();
    if old.deletion_timestamp.is_some() {
        errors.extend(validate_no_new_finalizers(new, old, &path.child("finalizers")));
    }
    if new.generation.unwrap_or_default() < old.generation.unwrap_or_default() {
        errors.push(FieldError::invalid(
            &path.child("generation"),
            new.generation.unwrap_or_default(),
            "must not be decremented",
        ));
    }
    let fixed = [
        unchanged(&path, "name", (&new.name, &old.name)),
        unchanged(&path, "namespace", (&new.namespace, &old.namespace)),
        unchanged(&path, "uid", (&new.uid, &old.uid)),
        unchanged(&path, "creationTimestamp", (&new.creation_timestamp, &old.creation_timestamp)),
        unchanged(&path, "deletionTimestamp", (&new.deletion_timestamp, &old.deletion_timestamp)),
        unchanged(
            &path,
            "deletionGracePeriodSeconds",
            (&new.deletion_grace_period_seconds, &old.deletion_grace_period_seconds),
        ),
    ];
    errors.extend(fixed.into_iter().flatten());
    errors.extend(checks::labels(new.labels.as_ref(), &path.child("labels")));
    errors.extend(validate_annotations(new.annotations.as_ref(), &path.child("annotations")));
    let owners = new.owner_references.as_deref().unwrap_or_default();
    errors.extend(validate_owners(owners, &path.child("ownerReferences")));
    errors.extend(validate_managed_fields(new, &path));
    errors
}

/// Puts back what of the metadata is not for those who write a status (upstream
/// `ResetObjectMetaForStatus`, apimachinery pkg/apis/meta/v1, v1.35).
pub(super) fn keep_for_status(new: &mut ObjectMeta, old: &ObjectMeta) {
    new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    new.generation = old.generation;
    new.labels.clone_from(&old.labels);
    new.annotations.clone_from(&old.annotations);
    new.finalizers.clone_from(&old.finalizers);
    new.owner_references.clone_from(&old.owner_references);
}

fn validate_no_new_finalizers(
    new: &ObjectMeta,
    old: &ObjectMeta,
    path: &FieldPath,
) -> Option<FieldError> {
    let old: BTreeSet<_> = old.finalizers.iter().flatten().collect();
    let new: BTreeSet<_> = new.finalizers.iter().flatten().collect();
    let added: Vec<_> = new.difference(&old).map(|finalizer| format!("{finalizer:?}")).collect();
    let listed = added.join(", ");
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{listed}}}"
    );
    (!added.is_empty()).then(|| FieldError::forbidden(path, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn metadata(json: Value) -> ObjectMeta {
        serde_json::from_value(json).unwrap()
    }

    #[track_caller]
    fn check(json: Value, expected: &[&str]) {
        let rules = Rules { scope: Scope::Namespaced, name: names::dns1123_subdomain };
        let errors = validate(&metadata(json), rules);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), expected.len(), "{texts:#?}");
        for (text, expected) in texts.iter().zip(expected) {
            assert!(text.starts_with(expected), "{text}\nshould start with\n{expected}");
        }
    }

    #[test]
    fn names_and_namespaces() {
        check(json!({"name": "a.b", "namespace": "ns"}), &[]);
        check(
            json!({}),
            &[
                "metadata.name: Required value: name or generateName is required",
                "metadata.namespace: Required value",
            ],
        );
        check(
            json!({"generateName": "A-", "name": "A-x", "namespace": "n.s"}),
            &[
                "metadata.generateName: Invalid value: \"A-\": a lowercase RFC 1123 subdomain",
                "metadata.name: Invalid value: \"A-x\": a lowercase RFC 1123 subdomain",
                "metadata.namespace: Invalid value: \"n.s\": must not contain dots",
            ],
        );
        let rules = Rules { scope: Scope::Cluster, name: names::dns1123_label };
        let errors = validate(&metadata(json!({"name": "a", "namespace": "b"})), rules);
        assert_eq!(
            errors[0].to_string(),
            "metadata.namespace: Forbidden: not allowed on this type"
        );
    }

    #[test]
    fn everything_wrong_is_listed() {
        let long = "x".repeat(ANNOTATIONS_BYTES_MAX);
        check(
            json!({
                "name": "a", "namespace": "b",
                "generation": -1,
                "labels": {"-": "ok", "ok": "-"},
                "annotations": {"UPPER": long, "a b": ""},
                "finalizers": ["orphan", "foregroundDeletion", ""],
            }),
            &[
                "metadata.generation: Invalid value: -1: must be greater than or equal to 0",
                "metadata.labels: Invalid value: \"-\": name part must consist of",
                "metadata.labels: Invalid value: \"-\": a valid label must be",
                "metadata.annotations: Invalid value: \"a b\": name part must consist of",
                "metadata.annotations: Too long: may not be more than 262144 bytes",
                "metadata.finalizers: Invalid value: \"\": name part must be non-empty",
                "metadata.finalizers: Invalid value: \"\": name part must consist of",
                "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\",\"\"]: finalizer orphan and foregroundDeletion cannot be both set",
                "metadata.finalizers[2]: Invalid value: \"\": name is neither a standard finalizer name",
            ],
        );
    }

    #[test]
    fn owners() {
        let owner = |name: &str| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "1", "controller": true});
        check(
            json!({"name": "a", "namespace": "b", "ownerReferences": [owner("x"), owner("y")]}),
            &["metadata.ownerReferences: Invalid value: [{"],
        );
        check(
            json!({"name": "a", "namespace": "b", "ownerReferences": [
                {"apiVersion": "", "kind": "", "name": "", "uid": ""},
                {"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "1"},
            ]}),
            &[
                "metadata.ownerReferences.apiVersion: Invalid value: \"\": version must not be empty",
                "metadata.ownerReferences.kind: Invalid value: \"\": must not be empty",
                "metadata.ownerReferences.name: Invalid value: \"\": must not be empty",
                "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty",
                "metadata.ownerReferences: Invalid value: {",
            ],
        );
    }

    #[test]
    fn what_may_not_change() {
        let old = metadata(json!({
            "name": "a", "namespace": "b", "uid": "1", "generation": 2,
            "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"],
        }));
        let new = metadata(json!({
            "name": "c", "namespace": "b", "uid": "2", "generation": 1, "finalizers": ["x/y", "x/z"],
        }));
        let texts: Vec<_> = validate_update(&new, &old).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x/z\"}",
                "metadata.generation: Invalid value: 1: must not be decremented",
                "metadata.name: Invalid value: \"c\": field is immutable",
                "metadata.uid: Invalid value: \"2\": field is immutable",
                "metadata.deletionTimestamp: Invalid value: null: field is immutable",
            ]
        );
    }
}
