//! Labels of nodes that have other names now (upstream pkg/api/node/util.go, v1.35).

use crate::api::{FieldPath, names};
use k8s_openapi::api::core::v1::{NodeSelectorTerm, PodSpec};

const DEPRECATED: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

/// What is to be said of a label's key (upstream `GetNodeLabelDeprecatedMessage`).
pub(in crate::registry::kinds) fn deprecated_label(key: &str) -> Option<&'static str> {
    DEPRECATED.iter().find(|(known, _)| *known == key).map(|(_, message)| *message)
}

/// What a pod asks of its node.
pub(super) fn of_spec(spec: &PodSpec, path: &FieldPath) -> Vec<String> {
    let mut warnings = Vec::new();
    for key in spec.node_selector.iter().flatten().map(|(key, _)| key) {
        if let Some(message) = deprecated_label(key) {
            warnings.push(format!("{}: {message}", path.child("nodeSelector").key(key)));
        }
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let Some(affinity) = affinity else { return warnings };
    let path = path.child("affinity").child("nodeAffinity");
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        let path = path.child("requiredDuringSchedulingIgnoredDuringExecution");
        let path = path.child("nodeSelectorTerms");
        for (index, term) in required.node_selector_terms.iter().enumerate() {
            warnings.extend(of_term(term, false, &path.index(index)));
        }
    }
    let path = path.child("preferredDuringSchedulingIgnoredDuringExecution");
    let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
    for (index, term) in preferred.enumerate() {
        warnings.extend(of_term(&term.preference, true, &path.index(index).child("preference")));
    }
    warnings
}

/// Upstream `GetWarningsForNodeSelectorTerm`. Values are doubtful where validation takes all of
/// them.
pub(in crate::registry::kinds) fn of_term(
    term: &NodeSelectorTerm,
    check_values: bool,
    path: &FieldPath,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, expression) in term.match_expressions.iter().flatten().enumerate() {
        let (path, key) = (path.child("matchExpressions").index(index), &expression.key);
        if let Some(message) = deprecated_label(key) {
            warnings.push(format!("{}: {key} is {message}", path.child("key")));
        }
        for (index, value) in expression.values.iter().flatten().enumerate() {
            let problems = if check_values { names::label_value(value) } else { Vec::new() };
            let path = path.child("values").index(index);
            let told = problems.iter().map(|why| format!("{path}: {value} is invalid, {why}"));
            warnings.extend(told);
        }
    }
    warnings
}
