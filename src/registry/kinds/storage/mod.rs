//! The kinds of the `storage.k8s.io` group, and the checks they share.

mod csi_driver;
mod csi_node;
mod csi_storage_capacity;
mod storage_class;
mod volume_attachment;
mod volume_attributes_class;

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::invalid;
use std::collections::BTreeMap;

/// A class with more parameters is refused.
const PARAMETERS_MAX: usize = 512;
/// All keys and values of a class's parameters together; beyond it the class is refused.
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;

/// Upstream `validateProvisioner` (pkg/apis/storage/validation, v1.35).
fn validate_provisioner(name: &str, path: &FieldPath) -> Vec<FieldError> {
    if name.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let name = name.to_lowercase();
    invalid(path, &name, names::qualified_name(&name))
}

/// Upstream `validateParameters`.
fn validate_parameters(
    parameters: Option<&BTreeMap<String, String>>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let parameters = || parameters.into_iter().flatten();
    if parameters().count() > PARAMETERS_MAX {
        return vec![FieldError::too_long(path, PARAMETERS_MAX)];
    }
    let mut errors = Vec::new();
    if parameters().any(|(key, _)| key.is_empty()) {
        errors.push(FieldError::invalid(path, "", "field can not be empty."));
    }
    if parameters().map(|(key, value)| key.len() + value.len()).sum::<usize>()
        > PARAMETERS_BYTES_MAX
    {
        errors.push(FieldError::too_long(path, PARAMETERS_BYTES_MAX));
    }
    errors
}
