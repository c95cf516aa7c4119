//! What may be wrong with the status of a claim.
//!
//! Follows upstream `ValidatePersistentVolumeClaimStatusUpdate` (pkg/apis/core/validation, v1.35).

use crate::api::{FieldError, FieldPath, Quantity, names};
use crate::registry::checks::invalid;
use crate::registry::kinds::core::resources;
use k8s_openapi::api::core::v1::PersistentVolumeClaimStatus;
use k8s_openapi::apimachinery::pkg::api::resource;

const RESIZE_STATES: &[&str] = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

pub(super) fn validate(status: &PersistentVolumeClaimStatus) -> Vec<FieldError> {
    let path = FieldPath::new("status");
    let mut errors = Vec::new();
    for (name, amount) in status.capacity.iter().flatten() {
        errors.extend(validate_amount(amount, &path.child("capacity").key(name)));
    }
    let states_path = path.child("allocatedResourceStatuses");
    for (name, state) in status.allocated_resource_statuses.iter().flatten() {
        errors.extend(validate_name(name, &states_path));
        if !RESIZE_STATES.contains(&state.as_str()) {
            // As upstream: the error shows the name and not the state.
            errors.push(FieldError::not_supported(&states_path, name.as_str(), RESIZE_STATES));
        }
    }
    let amounts_path = path.child("allocatedResources");
    for (name, amount) in status.allocated_resources.iter().flatten() {
        let problems = validate_name(name, &amounts_path);
        if !problems.is_empty() {
            errors.extend(problems);
            continue;
        }
        let path = amounts_path.key(name);
        match validate_amount(amount, &path) {
            Some(error) => errors.push(error),
            None => errors.extend(resources::validate_quantity("storage", &amount.0, &path)),
        }
    }
    errors
}

/// Upstream `validateBasicResource`.
fn validate_amount(amount: &resource::Quantity, path: &FieldPath) -> Option<FieldError> {
    match amount.0.parse::<Quantity>() {
        Ok(parsed) if parsed.is_negative() => {
            let detail = "must be a valid resource quantity";
            Some(FieldError::invalid(path, parsed.units(), detail))
        }
        Ok(_) => None,
        Err(error) => Some(FieldError::invalid(path, amount.0.as_str(), error.to_string())),
    }
}

/// Of the resources of Kubernetes itself, a claim has storage only (upstream
/// `validatePersistentVolumeClaimResourceKey`).
fn validate_name(name: &str, path: &FieldPath) -> Vec<FieldError> {
    let problems = invalid(path, name, names::qualified_name(name));
    if !problems.is_empty() || !resources::is_native(name) || name == "storage" {
        return problems;
    }
    vec![FieldError::not_supported(path, name, &["storage"])]
}
