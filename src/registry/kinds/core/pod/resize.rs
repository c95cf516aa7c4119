//! `pods/resize`: more or less of processor and memory for containers that run.
//!
//! Follows upstream `podResizeStrategy` (pkg/registry/core/pod/strategy.go) and `ValidatePodResize`
//! (pkg/apis/core/validation), v1.35.

use super::{is_mirror, restore_around_spec, validate};
use crate::api::pod::{is_sidecar, qos_class};
use crate::api::{FieldError, FieldPath};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// What can be changed while a container runs.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// Puts back all but the resources, as long as the containers are the same: otherwise
/// [`validate()`] says so.
pub(super) fn prepare(new: &mut Pod, old: &Pod) {
    let (Some(wanted), Some(spec)) = (&new.spec, &old.spec) else {
        return;
    };
    if ordering(wanted, spec, &FieldPath::new("spec")).is_empty() {
        let mut spec = spec.clone();
        take_resources(&mut spec.containers, &wanted.containers);
        if let (Some(own), Some(wanted)) = (&mut spec.init_containers, &wanted.init_containers) {
            take_resources(own, wanted);
        }
        new.spec = Some(spec);
        restore_around_spec(new, old);
    }
}

fn take_resources(containers: &mut [Container], wanted: &[Container]) {
    for (container, wanted) in containers.iter_mut().zip(wanted) {
        container.resources.clone_from(&wanted.resources);
        container.resize_policy.clone_from(&wanted.resize_policy);
    }
}

pub(super) fn validate(new: &Pod, old: &Pod) -> Vec<FieldError> {
    let nowhere = FieldPath::new("");
    let (none, path) = (PodSpec::default(), FieldPath::new("spec"));
    let (spec, old_spec) = (new.spec.as_ref().unwrap_or(&none), old.spec.as_ref().unwrap_or(&none));
    if has_pod_level_resources(spec) || has_pod_level_resources(old_spec) {
        let detail = "pods with pod-level resources cannot be resized";
        return vec![FieldError::forbidden(&nowhere, detail)];
    }
    if is_mirror(old) {
        return vec![FieldError::forbidden(&nowhere, "static pods cannot be resized")];
    }
    if old_spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return vec![FieldError::forbidden(&nowhere, "windows pods cannot be resized")];
    }
    let mut errors = validate::validate(new);
    let (class, old_class) = (qos_class(spec), qos_class(old_spec));
    if class != old_class {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(&path, class.as_str(), detail));
    }
    let misplaced = ordering(spec, old_spec, &path);
    if !misplaced.is_empty() {
        errors.extend(misplaced);
        return errors;
    }
    let list = path.child("initContainers");
    let pairs = init_containers(spec).iter().zip(init_containers(old_spec)).enumerate();
    for (index, (new, old)) in pairs {
        if is_sidecar(old) {
            errors.extend(validate_removal(new, old, &list.index(index)));
            if !differ_in_resizable_only(new, old) {
                let detail = "only cpu and memory resources for sidecar containers are mutable";
                errors.push(FieldError::forbidden(&path, detail));
            }
        } else if new != old {
            let detail = "resources for non-sidecar init containers are immutable";
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
    let list = path.child("containers");
    for (index, (new, old)) in spec.containers.iter().zip(&old_spec.containers).enumerate() {
        errors.extend(validate_removal(new, old, &list.index(index)));
        if !differ_in_resizable_only(new, old) {
            let detail = "only cpu and memory resources are mutable";
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
    errors
}

fn init_containers(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

fn has_pod_level_resources(spec: &PodSpec) -> bool {
    spec.resources.as_ref().is_some_and(|own| {
        [&own.requests, &own.limits].into_iter().flatten().any(|amounts| !amounts.is_empty())
    })
}

/// Containers may not come, go, or change places.
fn ordering(new: &PodSpec, old: &PodSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (field, new, old) in [
        ("containers", &new.containers[..], &old.containers[..]),
        ("initContainers", init_containers(new), init_containers(old)),
    ] {
        let path = path.child(field);
        if new.len() != old.len() {
            let detail = format!("{field} may not be added or removed on resize");
            errors.push(FieldError::forbidden(&path, detail));
            continue;
        }
        for (index, (new, old)) in new.iter().zip(old).enumerate() {
            if new.name != old.name {
                let detail = format!("{field} may not be renamed or reordered on resize");
                errors.push(FieldError::forbidden(&path.index(index).child("name"), detail));
            }
        }
    }
    errors
}

fn validate_removal(new: &Container, old: &Container, path: &FieldPath) -> Vec<FieldError> {
    let none = ResourceRequirements::default();
    let new = new.resources.as_ref().unwrap_or(&none);
    let old = old.resources.as_ref().unwrap_or(&none);
    let path = path.child("resources");
    let mut errors = Vec::new();
    for (field, new, old) in
        [("requests", &new.requests, &old.requests), ("limits", &new.limits, &old.limits)]
    {
        let kept = |name: &String| new.as_ref().is_some_and(|new| new.contains_key(name));
        if !old.iter().flatten().all(|(name, _)| kept(name)) {
            let detail = format!("resource {field} cannot be removed");
            errors.push(FieldError::forbidden(&path.child(field), detail));
        }
    }
    errors
}

/// What is not of processor or memory stays, but for how a container takes a change.
fn differ_in_resizable_only(new: &Container, old: &Container) -> bool {
    let rest = |amounts: &Option<BTreeMap<String, Quantity>>| -> BTreeMap<String, Quantity> {
        let amounts = amounts.iter().flatten();
        let others = amounts.filter(|(name, _)| !RESIZABLE.contains(&name.as_str()));
        others.map(|(name, amount)| (name.clone(), amount.clone())).collect()
    };
    let none = ResourceRequirements::default();
    let (new_own, old_own) =
        (new.resources.as_ref().unwrap_or(&none), old.resources.as_ref().unwrap_or(&none));
    rest(&new_own.requests) == rest(&old_own.requests)
        && rest(&new_own.limits) == rest(&old_own.limits)
        && new_own.claims == old_own.claims
        && new.resize_policy == old.resize_policy
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check_part};
    use serde_json::{Value, json};

    fn pod(cpu: &str, memory: &str) -> Case {
        let amounts = json!({"cpu": cpu, "memory": memory});
        Case::of(
            "pods",
            json!({
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {"containers": [
                    {"name": "c", "image": "i", "resources": {"requests": amounts}},
                ]},
            }),
        )
    }

    #[track_caller]
    fn check(resources: Value, expected: &[&str]) {
        let old = pod("1", "1Gi");
        let containers = json!([{"name": "c", "image": "other", "resources": resources}]);
        check_part(
            "resize",
            &old,
            &old.with(json!({"spec": {"containers": containers}})),
            expected,
        );
    }

    #[test]
    fn processor_and_memory_change() {
        check(json!({"requests": {"cpu": "2", "memory": "2Gi"}}), &[]);
        check(json!({"requests": {"cpu": "2", "memory": "2Gi"}, "limits": {"cpu": "3"}}), &[]);
        check(
            json!({"requests": {"cpu": "2"}}),
            &[
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
            ],
        );
        check(
            json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}),
            &[
                "spec: Invalid value: \"Guaranteed\": Pod QOS Class may not change as a result of resizing",
            ],
        );
        check(
            json!({"requests": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}}),
            &["spec: Forbidden: only cpu and memory resources are mutable"],
        );
    }

    #[test]
    fn containers_stay_where_they_are() {
        let old = pod("1", "1Gi");
        check_part(
            "resize",
            &old,
            &old.with(json!({"spec": {"containers": [{"name": "d", "image": "i"}]}})),
            &[
                "spec: Invalid value: \"BestEffort\": Pod QOS Class",
                "spec.containers[0].name: Forbidden: containers may not be renamed or reordered",
            ],
        );
    }
}
