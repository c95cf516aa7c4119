//! What an update of a claim may not change.
//!
//! Follows upstream `ValidatePersistentVolumeClaimUpdate` (pkg/apis/core/validation, v1.35).

use super::super::volume_cells::CLASS_ANNOTATION;
use crate::api::{FieldError, FieldPath, Quantity};
use crate::registry::checks::{diff, immutable, to_value};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec};
use k8s_openapi::apimachinery::pkg::api::resource;
use std::collections::BTreeMap;

const UNCHANGING: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

pub(super) fn validate(
    new: &PersistentVolumeClaim,
    old: &PersistentVolumeClaim,
) -> Vec<FieldError> {
    let path = FieldPath::new("spec");
    let mut errors = Vec::new();
    let (spec, old_spec) =
        (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
    let old_class = annotated_class(old);
    if !moves_class_from_annotation(new, old) && annotated_class(new) != old_class {
        let path = FieldPath::new("metadata").child("annotations").child(CLASS_ANNOTATION);
        let new_class = annotated_class(new).unwrap_or_default();
        errors.push(FieldError::invalid(&path, new_class, "field is immutable"));
    }
    let wanted = restored(new, old);
    if wanted != old_spec {
        let detail = format!("{UNCHANGING}\n{}", diff(&wanted, &old_spec));
        errors.push(FieldError::forbidden(&path, detail));
    }
    errors.extend(validate_size(new, old, &path));
    let mode = |spec: &PersistentVolumeClaimSpec| to_value(&spec.volume_mode);
    errors.extend(immutable(&FieldPath::new("volumeMode"), mode(&spec), &mode(&old_spec)));
    errors.extend(validate_attributes_class(&spec, old, &path));
    errors
}

fn annotated_class(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.metadata.annotations.as_ref()?.get(CLASS_ANNOTATION).map(String::as_str)
}

/// Whether the class moves from the old annotation to the field that took its place.
fn moves_class_from_annotation(new: &PersistentVolumeClaim, old: &PersistentVolumeClaim) -> bool {
    let class = |claim: &PersistentVolumeClaim| {
        claim.spec.as_ref().and_then(|spec| spec.storage_class_name.clone())
    };
    let Some(annotated) = annotated_class(old) else {
        return false;
    };
    class(old).is_none()
        && class(new).as_deref() == Some(annotated)
        && annotated_class(new).is_none_or(|still| still == annotated)
}

/// The new spec with everything put back that may change.
fn restored(new: &PersistentVolumeClaim, old: &PersistentVolumeClaim) -> PersistentVolumeClaimSpec {
    let mut spec = new.spec.clone().unwrap_or_default();
    let old_spec = old.spec.clone().unwrap_or_default();
    // Binding sets the volume, once.
    if old_spec.volume_name.is_none() {
        spec.volume_name = None;
    }
    // A claim without a class may be given one, as long as its annotation names no other.
    let is_free = old_spec.storage_class_name.is_none();
    let agrees = annotated_class(old)
        .is_none_or(|annotated| spec.storage_class_name.as_deref() == Some(annotated));
    if is_free && agrees {
        spec.storage_class_name = None;
    }
    let phase = new.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase == Some("Bound") {
        let requests = spec.resources.as_mut().and_then(|resources| resources.requests.as_mut());
        if let (Some(requests), Some(size)) = (requests, amount(requests_of(&old_spec)).cloned()) {
            requests.insert("storage".to_owned(), size);
        }
        spec.volume_attributes_class_name = old_spec.volume_attributes_class_name;
    }
    spec
}

fn requests_of(spec: &PersistentVolumeClaimSpec) -> Option<&BTreeMap<String, resource::Quantity>> {
    spec.resources.as_ref()?.requests.as_ref()
}

fn amount(amounts: Option<&BTreeMap<String, resource::Quantity>>) -> Option<&resource::Quantity> {
    amounts?.get("storage")
}

/// A request may shrink again while its volume has not grown to it.
fn validate_size(
    new: &PersistentVolumeClaim,
    old: &PersistentVolumeClaim,
    path: &FieldPath,
) -> Option<FieldError> {
    let parsed = |amount: Option<&resource::Quantity>| {
        amount.and_then(|amount| amount.0.parse::<Quantity>().ok()).unwrap_or(Quantity::ZERO)
    };
    let requested = |claim: &PersistentVolumeClaim| {
        parsed(claim.spec.as_ref().and_then(|spec| amount(requests_of(spec))))
    };
    let capacity = old.status.as_ref().and_then(|status| amount(status.capacity.as_ref()));
    let path = path.child("resources").child("requests").child("storage");
    let size = requested(new);
    (size < requested(old) && size <= parsed(capacity))
        .then(|| FieldError::forbidden(&path, "field can not be less than status.capacity"))
}

/// A volume that has the attributes of a class cannot go back to those of none.
fn validate_attributes_class(
    spec: &PersistentVolumeClaimSpec,
    old: &PersistentVolumeClaim,
    path: &FieldPath,
) -> Option<FieldError> {
    old.status.as_ref()?.current_volume_attributes_class_name.as_ref()?;
    let class = spec.volume_attributes_class_name.as_deref();
    if old.spec.as_ref()?.volume_attributes_class_name.as_deref() == class {
        return None;
    }
    let what = match class {
        None => "nil",
        Some("") => "empty string",
        Some(_) => return None,
    };
    let detail = format!(
        "update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil"
    );
    Some(FieldError::forbidden(&path.child("volumeAttributesClassName"), detail))
}
