//! What an update of a Pod may not change.
//!
//! Follows upstream `ValidatePodUpdate` (pkg/apis/core/validation, v1.35).

use super::super::taints::validate_tolerations;
use super::validate::MIRROR_ANNOTATION;
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{diff, to_value};
use k8s_openapi::api::core::v1::{
    Affinity, Container, NodeAffinity, NodeSelectorTerm, Pod, PodSpec, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, HashSet};

const CHANGEABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn validate(new: &Pod, old: &Pod) -> Vec<FieldError> {
    let annotations_path = FieldPath::new("metadata").child("annotations");
    let mut errors = validate_annotations(&new.metadata, &old.metadata, &annotations_path);
    let new = new.spec.clone().unwrap_or_default();
    let old = old.spec.clone().unwrap_or_default();
    let path = FieldPath::new("spec");
    for (field, new, old) in [
        ("containers", &new.containers[..], &old.containers[..]),
        ("initContainers", init_containers(&new), init_containers(&old)),
    ] {
        if new.len() != old.len() {
            let detail = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(&path.child(field), detail));
            return errors;
        }
    }
    let deadline = validate_deadline(&new, &old, &path.child("activeDeadlineSeconds"));
    let is_fatal = deadline.is_some() && new.active_deadline_seconds.is_some();
    errors.extend(deadline);
    if is_fatal {
        return errors;
    }
    errors.extend(validate_added(&new, &old, &path));
    if new != old {
        errors.extend(validate_rest(new, &old, &path));
    }
    errors
}

fn init_containers(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

/// What is a mirror of a static pod stays one, and nothing else becomes one.
pub(super) fn validate_annotations(
    new: &ObjectMeta,
    old: &ObjectMeta,
    path: &FieldPath,
) -> Vec<FieldError> {
    let nothing = BTreeMap::new();
    let new = new.annotations.as_ref().unwrap_or(&nothing).get(MIRROR_ANNOTATION);
    let old = old.annotations.as_ref().unwrap_or(&nothing).get(MIRROR_ANNOTATION);
    let detail = match (old, new) {
        (None, Some(_)) => "may not add mirror pod annotation",
        (Some(old), new) if new != Some(old) => "may not remove or update mirror pod annotation",
        _ => return Vec::new(),
    };
    vec![FieldError::forbidden(&path.key(MIRROR_ANNOTATION), detail)]
}

/// A deadline may come, and come nearer.
fn validate_deadline(new: &PodSpec, old: &PodSpec, path: &FieldPath) -> Option<FieldError> {
    let most = i64::from(i32::MAX);
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), _) if !(0..=most).contains(&new) => {
            let detail = format!("must be between 0 and {most}, inclusive");
            Some(FieldError::invalid(path, new, detail))
        }
        (Some(new), Some(old)) if new > old => {
            let detail = "must be less than or equal to previous value";
            Some(FieldError::invalid(path, new, detail))
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            Some(FieldError::invalid(path, to_value(&None::<i64>), detail))
        }
        _ => None,
    }
}

/// Tolerations may be added, gates taken away.
fn validate_added(new: &PodSpec, old: &PodSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let tolerations_path = path.child("tolerations");
    let tolerations = new.tolerations.as_deref().unwrap_or_default();
    let known: HashSet<_> = tolerations.iter().map(but_seconds).collect();
    if old.tolerations.iter().flatten().all(|old| known.contains(&but_seconds(old))) {
        errors.extend(validate_tolerations(tolerations, &tolerations_path));
    } else {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(&tolerations_path, detail));
    }
    let old_gates: HashSet<_> =
        old.scheduling_gates.iter().flatten().map(|gate| &gate.name).collect();
    for (index, gate) in new.scheduling_gates.iter().flatten().enumerate() {
        if !old_gates.contains(&gate.name) {
            let path = path.child("schedulingGates").index(index).child("name");
            let detail =
                format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
    errors
}

/// What of a toleration stays.
fn but_seconds(of: &Toleration) -> [Option<&str>; 4] {
    let Toleration { key, operator, value, effect, toleration_seconds: _ } = of;
    [key.as_deref(), operator.as_deref(), value.as_deref(), effect.as_deref()]
}

/// Puts back what may change; what differs then may not.
fn validate_rest(mut new: PodSpec, old: &PodSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    restore_images(&mut new.containers, &old.containers);
    if let (Some(new), Some(old)) = (&mut new.init_containers, &old.init_containers) {
        restore_images(new, old);
    }
    new.active_deadline_seconds = old.active_deadline_seconds;
    new.scheduling_gates.clone_from(&old.scheduling_gates);
    new.tolerations.clone_from(&old.tolerations);
    let grace = old.termination_grace_period_seconds;
    if new.termination_grace_period_seconds == Some(1) && grace.is_some_and(|grace| grace < 0) {
        new.termination_grace_period_seconds = grace;
    }
    if old.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        errors.extend(restore_placement(&mut new, old, path));
    }
    if new != *old {
        let detail = format!(
            "pod updates may not change fields other than {CHANGEABLE}\n{}",
            diff(&new, old)
        );
        errors.push(FieldError::forbidden(path, detail));
    }
    errors
}

fn restore_images(new: &mut [Container], old: &[Container]) {
    for (new, old) in new.iter_mut().zip(old) {
        new.image.clone_from(&old.image);
    }
}

/// Where a pod may be can still be narrowed down while it is not to be scheduled.
fn restore_placement(new: &mut PodSpec, old: &PodSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let nothing = BTreeMap::new();
    let selector = new.node_selector.as_ref().unwrap_or(&nothing);
    let mut wanted = old.node_selector.iter().flatten();
    if !wanted.all(|(key, value)| selector.get(key) == Some(value)) {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        let path = path.child("nodeSelector");
        errors.push(FieldError::invalid(&path, to_value(&new.node_selector), detail));
    }
    new.node_selector.clone_from(&old.node_selector);

    let nodes = |spec: &PodSpec| spec.affinity.as_ref().and_then(|all| all.node_affinity.clone());
    let (new_nodes, old_nodes) = (nodes(new), nodes(old));
    if new_nodes != old_nodes {
        let path = path.child("affinity").child("nodeAffinity");
        errors.extend(validate_node_affinity(new_nodes.as_ref(), old_nodes.as_ref(), &path));
        let affinity = new.affinity.take().unwrap_or_default();
        let restored = Affinity { node_affinity: old_nodes, ..affinity };
        let is_nothing = old.affinity.is_none() && restored == Affinity::default();
        new.affinity = (!is_nothing).then_some(restored);
    }
    errors
}

fn validate_node_affinity(
    new: Option<&NodeAffinity>,
    old: Option<&NodeAffinity>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let terms = |affinity: Option<&NodeAffinity>| {
        let required = affinity
            .and_then(|all| all.required_during_scheduling_ignored_during_execution.as_ref());
        required.map(|selector| selector.node_selector_terms.clone()).unwrap_or_default()
    };
    let (new, old) = (terms(new), terms(old));
    let path =
        path.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
    if !old.is_empty() && new.len() != old.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return vec![FieldError::invalid(&path, to_value(&new), detail)];
    }
    let pairs = new.iter().zip(&old).enumerate();
    pairs
        .filter(|(_, (new, old))| !is_narrowed(new, old))
        .map(|(index, (new, _))| {
            let detail = "only additions are allowed (no mutations or deletions)";
            FieldError::invalid(&path.index(index), to_value(new), detail)
        })
        .collect()
}

/// Whether `new` asks for all that `old` asks for. A term that asks for nothing matches nothing,
/// so that adding to it would widen it.
fn is_narrowed(new: &NodeSelectorTerm, old: &NodeSelectorTerm) -> bool {
    let lists = |term: &NodeSelectorTerm| {
        let expressions = term.match_expressions.clone().unwrap_or_default();
        (expressions, term.match_fields.clone().unwrap_or_default())
    };
    let ((new_expressions, new_fields), (old_expressions, old_fields)) = (lists(new), lists(old));
    if old_expressions.is_empty() && old_fields.is_empty() {
        return new_expressions.is_empty() && new_fields.is_empty();
    }
    new_expressions.starts_with(&old_expressions) && new_fields.starts_with(&old_fields)
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check_update};
    use serde_json::{Value, json};

    fn pod() -> Case {
        Case::of(
            "pods",
            json!({
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {"containers": [{"name": "c", "image": "i:1"}]},
            }),
        )
    }

    #[track_caller]
    fn check(old: Value, new: Value, expected: &[&str]) {
        let old = pod().with(json!({"spec": old}));
        check_update(&old, &old.with(json!({"spec": new})), expected);
    }

    #[test]
    fn images_and_metadata_may_change() {
        check(
            json!({}),
            json!({"containers": [{"name": "c", "image": "i:2", "imagePullPolicy": "IfNotPresent"}]}),
            &[],
        );
        check_update(&pod(), &pod().with(json!({"metadata": {"labels": {"a": "b"}}})), &[]);
        check(
            json!({}),
            json!({"containers": [{"name": "c", "image": "i:1"}, {"name": "d", "image": "i"}]}),
            &["spec.containers: Forbidden: pod updates may not add or remove containers"],
        );
    }

    #[test]
    fn nothing_else_may() {
        check(
            json!({}),
            json!({"containers": [{"name": "c", "image": "i:1", "command": ["x"]}]}),
            &[
                "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n- containers: [",
            ],
        );
        check(
            json!({"nodeName": "a"}),
            json!({"nodeName": "b"}),
            &["spec: Forbidden: pod updates may not change fields other than"],
        );
        check(
            json!({"terminationGracePeriodSeconds": -5}),
            json!({"terminationGracePeriodSeconds": 1}),
            &[],
        );
    }

    #[test]
    fn deadlines_come_nearer() {
        check(json!({}), json!({"activeDeadlineSeconds": 10}), &[]);
        check(json!({"activeDeadlineSeconds": 10}), json!({"activeDeadlineSeconds": 5}), &[]);
        check(
            json!({"activeDeadlineSeconds": 10}),
            json!({"activeDeadlineSeconds": 15}),
            &[
                "spec.activeDeadlineSeconds: Invalid value: 15: must be less than or equal to previous value",
            ],
        );
        check(
            json!({"activeDeadlineSeconds": 10}),
            json!({"activeDeadlineSeconds": null}),
            &[
                "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value",
            ],
        );
    }

    #[test]
    fn tolerations_come_and_gates_go() {
        let first = json!({"key": "a", "operator": "Exists", "effect": "NoExecute"});
        let longer = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
        let second = json!({"key": "b", "operator": "Exists"});
        check(json!({"tolerations": [first]}), json!({"tolerations": [longer, second]}), &[]);
        check(
            json!({"tolerations": [first]}),
            json!({"tolerations": [second]}),
            &[
                "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
            ],
        );
        let gates = |names: &[&str]| {
            let gates: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
            json!({"schedulingGates": gates})
        };
        check(gates(&["a", "b"]), gates(&["b"]), &[]);
        check(
            gates(&["a"]),
            gates(&["c"]),
            &[
                "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'c'",
            ],
        );
    }

    #[test]
    fn a_gated_pod_may_be_narrowed_down() {
        let required = |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
        let a = json!({"key": "a", "operator": "Exists"});
        let b = json!({"key": "b", "operator": "Exists"});
        let gated = |mut spec: Value| {
            json_patch::merge(&mut spec, &json!({"schedulingGates": [{"name": "g"}]}));
            spec
        };
        check(gated(json!({})), json!({"nodeSelector": {"x": "y"}}), &[]);
        check(json!({}), json!({"nodeSelector": {"x": "y"}}), &["spec: Forbidden: "]);
        check(
            gated(json!({"nodeSelector": {"x": "y"}})),
            json!({"nodeSelector": {"x": "z"}}),
            &[
                "spec.nodeSelector: Invalid value: {\"x\":\"z\"}: only additions to spec.nodeSelector are allowed",
            ],
        );
        check(gated(json!({})), required(json!([{"matchExpressions": [a]}])), &[]);
        let old = gated(required(json!([{"matchExpressions": [a]}])));
        check(old.clone(), required(json!([{"matchExpressions": [a, b]}])), &[]);
        check(
            old.clone(),
            required(json!([{"matchExpressions": [b]}])),
            &[
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]: Invalid value: {",
            ],
        );
        check(
            old,
            required(json!([{"matchExpressions": [a]}, {"matchExpressions": [b]}])),
            &[
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Invalid value: [",
            ],
        );
    }

    #[test]
    fn a_mirror_stays_one() {
        let mirror = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": {"nodeName": "n"}});
        let bound = pod().with(json!({"spec": {"nodeName": "n"}}));
        check_update(
            &bound,
            &bound.with(mirror.clone()),
            &[
                "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation",
            ],
        );
        check_update(
            &bound.with(mirror),
            &bound,
            &[
                "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation",
            ],
        );
    }
}
