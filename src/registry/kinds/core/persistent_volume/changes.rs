//! What an update of a volume may not change.
//!
//! Follows upstream `ValidatePersistentVolumeUpdate` (pkg/apis/core/validation, v1.35).

use super::sources::SOURCES;
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{diff, immutable, to_value};
use k8s_openapi::api::core::v1::{NodeSelectorTerm, PersistentVolumeSpec, VolumeNodeAffinity};
use serde_json::Value;

/// Labels of nodes that have been renamed: a volume may follow the new name.
const RENAMED_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
];

pub(super) fn validate(
    mut new: PersistentVolumeSpec,
    old: &PersistentVolumeSpec,
) -> Vec<FieldError> {
    let path = FieldPath::new("spec");
    let mut errors = Vec::new();
    // A secret for expansion may come later.
    if let (Some(new), Some(old)) = (&mut new.csi, &old.csi)
        && old.controller_expand_secret_ref.is_none()
    {
        new.controller_expand_secret_ref = None;
    }
    let (new_source, old_source) = (source_of(&new), source_of(old));
    if new_source != old_source {
        let difference = diff(&new_source, &old_source);
        errors.push(FieldError::forbidden(
            &path.child("persistentvolumesource"),
            format!("spec.persistentvolumesource is immutable after creation\n{difference}"),
        ));
    }
    let mode = |spec: &PersistentVolumeSpec| to_value(&spec.volume_mode);
    errors.extend(immutable(&FieldPath::new("volumeMode"), mode(&new), &mode(old)));
    if old.node_affinity.is_some() && !is_same_place(new.node_affinity.as_ref(), old) {
        let detail = "field is immutable, except for updating from beta label to GA";
        let path = FieldPath::new("nodeAffinity");
        errors.push(FieldError::invalid(&path, to_value(&new.node_affinity), detail));
    }
    if old.volume_attributes_class_name.is_some() && new.volume_attributes_class_name.is_none() {
        let detail = "update from non-nil value to nil is forbidden";
        errors.push(FieldError::forbidden(&path.child("volumeAttributesClassName"), detail));
    }
    errors
}

fn source_of(spec: &PersistentVolumeSpec) -> Value {
    let Value::Object(mut fields) = to_value(spec) else {
        return Value::Null;
    };
    fields.retain(|name, _| SOURCES.contains(&name.as_str()));
    Value::Object(fields)
}

/// Whether both name the same nodes, but for labels that have been renamed.
fn is_same_place(new: Option<&VolumeNodeAffinity>, old: &PersistentVolumeSpec) -> bool {
    let terms = |affinity: Option<&VolumeNodeAffinity>| {
        let selector = affinity.and_then(|affinity| affinity.required.as_ref());
        selector.map(|selector| selector.node_selector_terms.clone())
    };
    let (new, old) = match (new, old.node_affinity.as_ref()) {
        (Some(new), Some(old)) => (terms(Some(new)), terms(Some(old))),
        (new, old) => return new == old,
    };
    match (new, old) {
        (Some(new), Some(old)) => {
            new.len() == old.len()
                && new.iter().zip(&old).all(|(new, old)| renamed(new, old) == *new)
        }
        (new, old) => new == old,
    }
}

/// The old term with those labels renamed that the new one has renamed.
fn renamed(new: &NodeSelectorTerm, old: &NodeSelectorTerm) -> NodeSelectorTerm {
    let mut term = old.clone();
    let new = new.match_expressions.iter().flatten();
    for (old, new) in term.match_expressions.iter_mut().flatten().zip(new) {
        if RENAMED_LABELS.contains(&(old.key.as_str(), new.key.as_str())) {
            old.key.clone_from(&new.key);
        }
    }
    term
}
