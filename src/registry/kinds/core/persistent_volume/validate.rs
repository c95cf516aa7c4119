//! What may be wrong with a volume.
//!
//! Follows upstream `ValidatePersistentVolumeSpec` (pkg/apis/core/validation, v1.35).

use super::super::{claim_spec, podspec};
use super::sources;
use crate::api::{FieldError, FieldPath, Quantity, names};
use crate::registry::checks::{invalid, one_of, to_value};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec, VolumeNodeAffinity};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Held mount options before there was a field for them.
const MOUNT_OPTIONS_ANNOTATION: &str = "volume.beta.kubernetes.io/mount-options";

const RECLAIM_POLICIES: &[&str] = &["Delete", "Recycle", "Retain"];

pub(super) fn validate(volume: &PersistentVolume) -> Vec<FieldError> {
    let path = FieldPath::new("spec");
    let spec = volume.spec.clone().unwrap_or_default();
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    let mut errors = claim_spec::validate_modes(modes, "", &path.child("accessModes"));
    errors.extend(validate_capacity(&spec, &path.child("capacity")));
    let policy = spec.persistent_volume_reclaim_policy.as_deref().unwrap_or_default();
    let policy_path = path.child("persistentVolumeReclaimPolicy");
    errors.extend(one_of(&policy_path, policy, RECLAIM_POLICIES));
    if let Some(affinity) = &spec.node_affinity {
        errors.extend(validate_node_affinity(affinity, &path.child("nodeAffinity")));
    }
    errors.extend(sources::validate(&spec, name, &path));
    let root = spec.host_path.as_ref().filter(|source| is_root(&source.path));
    if root.is_some() && policy == "Recycle" {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(FieldError::forbidden(&policy_path, detail));
    }
    errors.extend(validate_classes(&spec, &path));
    errors.extend(validate_mount_options(&volume.metadata, &spec));
    errors
}

/// Whether the path leads to the root, whatever detours it takes.
fn is_root(path: &str) -> bool {
    let mut depth = 0_usize;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    path.starts_with('/') && depth == 0
}

fn validate_capacity(spec: &PersistentVolumeSpec, path: &FieldPath) -> Vec<FieldError> {
    let capacity = spec.capacity.clone().unwrap_or_default();
    let mut errors = Vec::new();
    if capacity.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        errors.push(FieldError::not_supported(path, to_value(&capacity), &["storage"]));
    }
    for (name, amount) in &capacity {
        let path = path.key(name);
        match amount.0.parse::<Quantity>() {
            Err(error) => {
                errors.push(FieldError::invalid(&path, amount.0.as_str(), error.to_string()));
            }
            Ok(parsed) => {
                if parsed.is_negative() {
                    let detail = "must be a valid resource quantity";
                    errors.push(FieldError::invalid(&path, parsed.units(), detail));
                }
                if parsed <= Quantity::ZERO {
                    let detail = "must be greater than zero";
                    errors.push(FieldError::invalid(&path, amount.0.as_str(), detail));
                }
            }
        }
    }
    errors
}

fn validate_node_affinity(affinity: &VolumeNodeAffinity, path: &FieldPath) -> Vec<FieldError> {
    let path = path.child("required");
    match &affinity.required {
        Some(selector) => podspec::validate_node_selector(selector, &path),
        None => vec![FieldError::required(&path, "must specify required node constraints")],
    }
}

fn validate_classes(spec: &PersistentVolumeSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(class) = &spec.storage_class_name {
        let problems = names::dns1123_subdomain(class);
        errors.extend(invalid(&path.child("storageClassName"), class, problems));
    }
    if let Some(mode) = &spec.volume_mode {
        errors.extend(one_of(&path.child("volumeMode"), mode, claim_spec::VOLUME_MODES));
    }
    if let Some(class) = &spec.volume_attributes_class_name {
        let class_path = path.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.push(FieldError::required(&class_path, "an empty string is disallowed"));
        } else {
            errors.extend(invalid(&class_path, class, names::dns1123_subdomain(class)));
        }
        if spec.csi.is_none() {
            let detail = "has to be specified when using volumeAttributesClassName";
            errors.push(FieldError::required(&path.child("csi"), detail));
        }
    }
    errors
}

/// Upstream `checkMountOption` (pkg/volume/validation, v1.35).
fn validate_mount_options(
    metadata: &ObjectMeta,
    spec: &PersistentVolumeSpec,
) -> Option<FieldError> {
    let options = metadata.annotations.as_ref()?.get(MOUNT_OPTIONS_ANNOTATION);
    let path = FieldPath::new("metadata").child("annotations").child(MOUNT_OPTIONS_ANNOTATION);
    (options.is_some() && !sources::take_mount_options(spec))
        .then(|| FieldError::forbidden(&path, "may not specify mount options for this volume type"))
}

/// What is wrong with a volume that no PersistentVolume stands for. It comes from a driver, and
/// says little.
pub(in crate::registry::kinds) fn validate_inline(
    spec: &PersistentVolumeSpec,
    path: &FieldPath,
) -> Vec<FieldError> {
    const CONTEXT: &str = "in the context of inline volumes";
    let absent = |field: &str, is_given: bool| {
        let detail = format!("may not be specified {CONTEXT}");
        is_given.then(|| FieldError::forbidden(&path.child(field), detail))
    };
    let has_capacity = spec.capacity.as_ref().is_some_and(|capacity| !capacity.is_empty());
    let mut errors = Vec::new();
    errors.extend(absent("claimRef", spec.claim_ref.is_some()));
    errors.extend(absent("capacity", has_capacity));
    if spec.csi.is_none() {
        let detail = format!("has to be specified {CONTEXT}");
        errors.push(FieldError::required(&path.child("csi"), detail));
    }
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    errors.extend(claim_spec::validate_modes(modes, "", &path.child("accessModes")));
    let policy = spec.persistent_volume_reclaim_policy.as_deref().unwrap_or_default();
    if !["", "Retain"].contains(&policy) {
        let detail = format!("may only be Retain {CONTEXT}");
        let path = path.child("persistentVolumeReclaimPolicy");
        errors.push(FieldError::forbidden(&path, detail));
    }
    errors.extend(absent("nodeAffinity", spec.node_affinity.is_some()));
    errors.extend(sources::validate(spec, "", path));
    let class = spec.storage_class_name.as_ref();
    errors.extend(absent("storageClassName", class.is_some_and(|class| !class.is_empty())));
    if spec.volume_mode.as_ref().is_some_and(|mode| mode != "Filesystem") {
        let detail = format!("may not specify volumeMode other than Filesystem {CONTEXT}");
        errors.push(FieldError::forbidden(&path.child("volumeMode"), detail));
    }
    errors
}
