//! What may be wrong with a Pod, beyond its spec.
//!
//! Follows upstream `ValidatePodCreate` and `ValidatePodSpecificAnnotations`
//! (pkg/apis/core/validation, v1.35).

use super::super::podspec;
use crate::api::{FieldError, FieldPath};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(super) const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
const DELETION_COST_ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";

pub(super) fn validate(pod: &Pod) -> Vec<FieldError> {
    let spec = pod.spec.clone().unwrap_or_default();
    let path = FieldPath::new("spec");
    let annotations_path = FieldPath::new("metadata").child("annotations");
    let mut errors = validate_annotations(&pod.metadata, &spec, &annotations_path);
    errors.extend(podspec::validate(&spec, Some(&pod.metadata), &path));
    errors.extend(validate_tokens(&spec, &path));
    let lists: [(&str, &[Container]); 2] = [
        ("containers", &spec.containers),
        ("initContainers", spec.init_containers.as_deref().unwrap_or_default()),
    ];
    for (field, list) in lists {
        let path = path.child(field);
        let each = list.iter().enumerate();
        errors.extend(each.filter_map(|(index, container)| {
            podspec::validate_padding(container, &path.index(index))
        }));
    }
    errors
}

/// What only a new pod is asked for.
pub(super) fn validate_create(pod: &Pod) -> Vec<FieldError> {
    let spec = pod.spec.clone().unwrap_or_default();
    let path = FieldPath::new("spec");
    let mut errors = Vec::new();
    if spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        let path = path.child("ephemeralContainers");
        errors.push(FieldError::forbidden(&path, "cannot be set on create"));
    }
    let is_gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    if is_gated && spec.node_name.as_ref().is_some_and(|name| !name.is_empty()) {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden(&path.child("nodeName"), detail));
    }
    errors
}

pub(in crate::registry::kinds::core) fn validate_annotations(
    metadata: &ObjectMeta,
    spec: &PodSpec,
    path: &FieldPath,
) -> Vec<FieldError> {
    let annotation =
        |key: &str| metadata.annotations.as_ref().and_then(|annotations| annotations.get(key));
    let mut errors = Vec::new();
    if let Some(value) = annotation(MIRROR_ANNOTATION)
        && spec.node_name.as_ref().is_none_or(String::is_empty)
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        let path = path.key(MIRROR_ANNOTATION);
        errors.push(FieldError::invalid(&path, value.as_str(), detail));
    }
    if let Some(cost) = annotation(DELETION_COST_ANNOTATION)
        && !is_cost(cost)
    {
        let path = path.key(DELETION_COST_ANNOTATION);
        errors.push(FieldError::invalid(&path, cost.as_str(), "must be a 32bit integer"));
    }
    errors
}

/// A number in the one form upstream takes: no plus sign, no leading zeros (upstream
/// `GetDeletionCostFromPodAnnotations`, pkg/apis/core/helper).
fn is_cost(text: &str) -> bool {
    let is_plain = !text.starts_with('+') && (text == "0" || !text.starts_with('0'));
    is_plain && text.parse::<i32>().is_ok()
}

/// A token is the service account's: there must be one.
fn validate_tokens(spec: &PodSpec, path: &FieldPath) -> Vec<FieldError> {
    if spec.service_account_name.as_ref().is_some_and(|name| !name.is_empty()) {
        return Vec::new();
    }
    let mut errors = Vec::new();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let sources = volume.projected.iter().flat_map(|source| source.sources.iter().flatten());
        for (source_index, source) in sources.enumerate() {
            if source.service_account_token.is_some() {
                let path = path.child("volumes").index(index).child("projected");
                let path = path.child("sources").index(source_index).child("serviceAccountToken");
                let detail = "must not be specified when serviceAccountName is not set";
                errors.push(FieldError::forbidden(&path, detail));
            }
        }
    }
    errors
}
