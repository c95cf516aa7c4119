//! The kinds of the `apps` group.

mod controller_revision;
mod counts;
mod daemon_set;
mod deployment;
mod replica_set;
mod replica_table;
mod share;
mod stateful_set;

use super::core::podspec;
use crate::api::labels::Selector;
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{immutable, label_selector, to_value};
pub(super) use counts::{validate_counts, validate_replica_counts};
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
pub(super) use replica_table::{REPLICA_COLUMNS, ReplicaRow};
pub(super) use share::{validate_share, validate_whole};

/// What ReplicaSets and Deployments ask of their selector and their template (upstream
/// `ValidateDeploymentSpec` and `ValidatePodTemplateSpecForReplicaSet`, pkg/apis/apps/validation,
/// v1.35).
fn validate_selector_and_template(
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    path: &FieldPath,
) -> Vec<FieldError> {
    let selector_path = path.child("selector");
    let mut errors = label_selector(selector, &selector_path);
    let is_empty = is_empty(selector);
    if is_empty {
        errors.push(FieldError::required(&selector_path, ""));
    }
    let Ok(parsed) = Selector::of_object((!is_empty).then_some(selector)) else {
        let detail = "invalid label selector";
        errors.push(FieldError::invalid(&selector_path, to_value(selector), detail));
        return errors;
    };
    let path = path.child("template");
    errors.extend(validate_match(&parsed, template, &path));
    errors.extend(podspec::validate_template(template, &path));
    errors.extend(validate_runs_forever("ReplicaSet", template, &path.child("spec")));
    errors
}

/// Which pods are a workload's own never changes.
fn validate_same_selector(
    new: Option<LabelSelector>,
    old: Option<LabelSelector>,
) -> Option<FieldError> {
    let path = FieldPath::new("spec").child("selector");
    immutable(&path, to_value(&new), &to_value(&old))
}

/// A workload selects the pods that it makes.
pub(super) fn validate_match(
    selector: &Selector,
    template: &PodTemplateSpec,
    path: &FieldPath,
) -> Option<FieldError> {
    let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    let is_match = selector.matches(&labels.cloned().unwrap_or_default());
    let path = path.child("metadata").child("labels");
    let detail = "`selector` does not match template `labels`";
    (!is_match).then(|| FieldError::invalid(&path, to_value(&labels), detail))
}

/// A selector that says nothing at all: as if there were none.
fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(|labels| labels.is_empty())
        && selector.match_expressions.as_ref().is_none_or(|list| list.is_empty())
}

/// What is replaced when it ends must not end by itself. `owner` is the kind that would do it.
pub(super) fn validate_runs_forever(
    owner: &str,
    template: &PodTemplateSpec,
    path: &FieldPath,
) -> Vec<FieldError> {
    let spec = template.spec.as_ref();
    let policy = spec.and_then(|spec| spec.restart_policy.as_deref()).unwrap_or_default();
    let mut errors = Vec::new();
    if policy != "Always" {
        let path = path.child("restartPolicy");
        errors.push(FieldError::not_supported(&path, policy, &["Always"]));
    }
    if spec.is_some_and(|spec| spec.active_deadline_seconds.is_some()) {
        let path = path.child("activeDeadlineSeconds");
        let detail = format!("activeDeadlineSeconds in {owner} is not Supported");
        errors.push(FieldError::forbidden(&path, detail));
    }
    errors
}

/// Names and images of the template's containers, for the columns of `-o wide`.
pub(super) fn container_cells(template: Option<&PodTemplateSpec>) -> (String, String) {
    let containers = template.and_then(|template| template.spec.as_ref());
    let containers = containers.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let joined =
        |text: fn(&Container) -> &str| containers.iter().map(text).collect::<Vec<_>>().join(",");
    (
        joined(|container| &container.name),
        joined(|container| container.image.as_deref().unwrap_or_default()),
    )
}

/// A count in a status never goes back (upstream `IsDecremented`).
fn validate_collisions(new: Option<i32>, old: Option<i32>) -> Option<FieldError> {
    let is_less = old.is_some_and(|old| new.is_none_or(|new| new < old));
    let path = FieldPath::new("status").child("collisionCount");
    let value = new.unwrap_or_default();
    is_less.then(|| FieldError::invalid(&path, value, "cannot be decremented"))
}
