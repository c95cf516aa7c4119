//! What drivers are told besides which devices: opaque to everybody else.
//!
//! Follows upstream `validateOpaqueConfiguration` (pkg/apis/resource/validation, v1.35).

use crate::api::{FieldError, FieldPath};
use crate::registry::kinds::core::podspec;
use k8s_openapi::api::resource::v1::OpaqueDeviceConfiguration;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::Value;

/// Larger parameters are refused where they are new.
const PARAMETERS_BYTES_MAX: usize = 10 * 1024;

/// Whether something has been judged before. What was stored under an older limit stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Novelty {
    New,
    Stored,
}

pub(super) fn validate(
    opaque: Option<&OpaqueDeviceConfiguration>,
    novelty: Novelty,
    path: &FieldPath,
) -> Vec<FieldError> {
    let path = path.child("opaque");
    let Some(opaque) = opaque else { return vec![FieldError::required(&path, "")] };
    let mut errors = podspec::validate_driver_name(&opaque.driver, &path.child("driver"));
    let limit = (novelty == Novelty::New).then_some(PARAMETERS_BYTES_MAX);
    errors.extend(validate_object(&opaque.parameters, limit, &path.child("parameters")));
    errors
}

/// Upstream `validateRawExtension`: an object, and not too large.
pub(super) fn validate_object(
    extension: &RawExtension,
    bytes_max: Option<usize>,
    path: &FieldPath,
) -> Option<FieldError> {
    let bytes = extension.0.to_string().len();
    match (&extension.0, bytes_max) {
        (Value::Null, _) => Some(FieldError::required(path, "")),
        (_, Some(max)) if bytes > max => Some(FieldError::too_long(path, max)),
        (Value::Object(_), _) => None,
        _ => {
            let detail = "must be a valid JSON object";
            Some(FieldError::invalid(path, "<value omitted>", detail))
        }
    }
}
