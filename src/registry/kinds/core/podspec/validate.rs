//! What may be wrong with a pod spec.

use crate::api::{FieldError, FieldPath};
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};

pub(in crate::registry::kinds) fn validate(spec: &PodSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if spec.containers.is_empty() {
        errors.push(FieldError::required(&path.child("containers"), ""));
    }
    errors
}

pub(in crate::registry::kinds) fn validate_template(
    template: &PodTemplateSpec,
    path: &FieldPath,
) -> Vec<FieldError> {
    let spec = template.spec.clone().unwrap_or_default();
    validate(&spec, &path.child("spec"))
}
