//! What may be wrong with where a pod wants to be.
//!
//! Follows upstream `validateAffinity` and `validateTopologySpreadConstraints`
//! (pkg/apis/core/validation, v1.35).

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid, label_selector, one_of};
use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    PodAffinityTerm, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::{BTreeMap, BTreeSet};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn validate(affinity: &Affinity, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(nodes) = &affinity.node_affinity {
        errors.extend(validate_nodes(nodes, &path.child("nodeAffinity")));
    }
    if let Some(pods) = &affinity.pod_affinity {
        let path = path.child("podAffinity");
        let required = pods.required_during_scheduling_ignored_during_execution.as_deref();
        let preferred = pods.preferred_during_scheduling_ignored_during_execution.as_deref();
        errors.extend(validate_pods(required, preferred, &path));
    }
    if let Some(pods) = &affinity.pod_anti_affinity {
        let path = path.child("podAntiAffinity");
        let required = pods.required_during_scheduling_ignored_during_execution.as_deref();
        let preferred = pods.preferred_during_scheduling_ignored_during_execution.as_deref();
        errors.extend(validate_pods(required, preferred, &path));
    }
    errors
}

/// Whether what the values of a node's labels are compared with must be a value of a label.
/// Wishes may name anything: they are merely never fulfilled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    OfLabels,
    Any,
}

fn validate_nodes(affinity: &NodeAffinity, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(selector) = &affinity.required_during_scheduling_ignored_during_execution {
        errors.extend(validate_node_selector(selector, &path.child(REQUIRED)));
    }
    let wishes = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
    for (index, wish) in wishes.enumerate() {
        let path = path.child(PREFERRED).index(index);
        errors.extend(validate_weight(wish.weight, &path));
        let path = path.child("preference");
        errors.extend(validate_node_term(&wish.preference, Values::Any, &path));
    }
    errors
}

/// Upstream `ValidateNodeSelector`.
pub(in crate::registry::kinds) fn validate_node_selector(
    selector: &NodeSelector,
    path: &FieldPath,
) -> Vec<FieldError> {
    let path = path.child("nodeSelectorTerms");
    let terms = &selector.node_selector_terms;
    let mut errors = Vec::new();
    if terms.is_empty() {
        let detail = "must have at least one node selector term";
        errors.push(FieldError::required(&path, detail));
    }
    for (index, term) in terms.iter().enumerate() {
        errors.extend(validate_node_term(term, Values::OfLabels, &path.index(index)));
    }
    errors
}

fn validate_weight(weight: i32, path: &FieldPath) -> Option<FieldError> {
    let path = path.child("weight");
    let is_wrong = !(1..=100).contains(&weight);
    is_wrong.then(|| FieldError::invalid(&path, weight, "must be in the range 1-100"))
}

fn validate_node_term(
    term: &NodeSelectorTerm,
    values: Values,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, requirement) in term.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(index);
        errors.extend(validate_expression(requirement, values, &path));
    }
    for (index, requirement) in term.match_fields.iter().flatten().enumerate() {
        errors.extend(validate_field(requirement, &path.child("matchFields").index(index)));
    }
    errors
}

fn validate_expression(
    requirement: &NodeSelectorRequirement,
    allowed: Values,
    path: &FieldPath,
) -> Vec<FieldError> {
    let values = requirement.values.as_deref().unwrap_or_default();
    let values_path = path.child("values");
    let mut errors = Vec::new();
    errors.extend(match (requirement.operator.as_str(), values.len()) {
        ("In" | "NotIn", 0) => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            Some(FieldError::required(&values_path, detail))
        }
        ("In" | "NotIn", _) | ("Exists" | "DoesNotExist", 0) | ("Gt" | "Lt", 1) => None,
        ("Exists" | "DoesNotExist", _) => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            Some(FieldError::forbidden(&values_path, detail))
        }
        ("Gt" | "Lt", _) => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            Some(FieldError::required(&values_path, detail))
        }
        (operator, _) => Some(unknown_operator(operator, path)),
    });
    let key = requirement.key.as_str();
    errors.extend(invalid(&path.child("key"), key, names::qualified_name(key)));
    if allowed == Values::OfLabels {
        for (index, value) in values.iter().enumerate() {
            errors.extend(invalid(&values_path.index(index), value, names::label_value(value)));
        }
    }
    errors
}

fn unknown_operator(operator: &str, path: &FieldPath) -> FieldError {
    FieldError::invalid(&path.child("operator"), operator, "not a valid selector operator")
}

/// Of a node's fields, only the name can be asked for.
fn validate_field(requirement: &NodeSelectorRequirement, path: &FieldPath) -> Vec<FieldError> {
    let values = requirement.values.as_deref().unwrap_or_default();
    let values_path = path.child("values");
    let mut errors = Vec::new();
    match (requirement.operator.as_str(), values.len()) {
        ("In" | "NotIn", 1) => {}
        ("In" | "NotIn", _) => {
            let detail =
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(FieldError::required(&values_path, detail));
        }
        (operator, _) => errors.push(unknown_operator(operator, path)),
    }
    if requirement.key != "metadata.name" {
        let detail = "not a valid field selector key";
        let key = requirement.key.as_str();
        errors.push(FieldError::invalid(&path.child("key"), key, detail));
        return errors;
    }
    for (index, name) in values.iter().enumerate() {
        errors.extend(invalid(&values_path.index(index), name, names::dns1123_subdomain(name)));
    }
    errors
}

fn validate_pods(
    required: Option<&[PodAffinityTerm]>,
    preferred: Option<&[WeightedPodAffinityTerm]>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, term) in required.unwrap_or_default().iter().enumerate() {
        errors.extend(validate_pod_term(term, &path.child(REQUIRED).index(index)));
    }
    for (index, wish) in preferred.unwrap_or_default().iter().enumerate() {
        let path = path.child(PREFERRED).index(index);
        errors.extend(validate_weight(wish.weight, &path));
        errors.extend(validate_pod_term(&wish.pod_affinity_term, &path.child("podAffinityTerm")));
    }
    errors
}

fn validate_pod_term(term: &PodAffinityTerm, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (field, selector) in
        [("labelSelector", &term.label_selector), ("namespaceSelector", &term.namespace_selector)]
    {
        if let Some(selector) = selector {
            errors.extend(label_selector(selector, &path.child(field)));
        }
    }
    for name in term.namespaces.iter().flatten() {
        errors.extend(invalid(&path.child("namespace"), name, names::dns1123_label(name)));
    }
    let keys = LabelKeys {
        matching: term.match_label_keys.as_deref().unwrap_or_default(),
        mismatching: term.mismatch_label_keys.as_deref().unwrap_or_default(),
        selector: term.label_selector.as_ref(),
    };
    errors.extend(keys.validate(path));
    let key = term.topology_key.as_str();
    let key_path = path.child("topologyKey");
    if key.is_empty() {
        errors.push(FieldError::required(&key_path, "can not be empty"));
    }
    errors.extend(invalid(&key_path, key, names::qualified_name(key)));
    errors
}

/// Labels whose values are those of the pod itself.
struct LabelKeys<'a> {
    matching: &'a [String],
    mismatching: &'a [String],
    selector: Option<&'a LabelSelector>,
}

impl LabelKeys<'_> {
    /// Upstream `ValidateMatchLabelKeysAndMismatchLabelKeys`. When this runs, the keys have become
    /// expressions of the selector already: one that is there twice was there before.
    fn validate(&self, path: &FieldPath) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (field, keys) in
            [("matchLabelKeys", self.matching), ("mismatchLabelKeys", self.mismatching)]
        {
            let path = path.child(field);
            if !keys.is_empty() && self.selector.is_none() {
                let detail = "must not be specified when labelSelector is not set";
                errors.push(FieldError::forbidden(&path, detail));
                continue;
            }
            for (index, key) in keys.iter().enumerate() {
                errors.extend(invalid(&path.index(index), key, names::qualified_name(key)));
            }
        }
        errors.extend(self.validate_selector(path));
        let mismatching: BTreeSet<_> = self.mismatching.iter().collect();
        for (index, key) in self.matching.iter().enumerate() {
            if mismatching.contains(key) {
                let path = path.child("matchLabelKeys").index(index);
                let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
                errors.push(FieldError::invalid(&path, key.as_str(), detail));
            }
        }
        errors
    }

    fn validate_selector(&self, path: &FieldPath) -> Vec<FieldError> {
        let Some(selector) = self.selector else {
            return Vec::new();
        };
        let mut errors = Vec::new();
        let places: BTreeMap<_, _> =
            self.matching.iter().enumerate().map(|(index, key)| (key.as_str(), index)).collect();
        let mut seen: BTreeSet<&str> =
            selector.match_labels.iter().flatten().map(|(key, _)| key.as_str()).collect();
        for expression in selector.match_expressions.iter().flatten() {
            let key = expression.key.as_str();
            let index = places.get(key).copied();
            if let Some(index) = index.filter(|_| seen.contains(key)) {
                let detail = "exists in both matchLabelKeys and labelSelector";
                errors.push(FieldError::invalid(&path.index(index), key, detail));
            }
            seen.insert(key);
        }
        errors
    }
}

pub(super) fn validate_spread(
    constraints: &[TopologySpreadConstraint],
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, constraint) in constraints.iter().enumerate() {
        let path = path.index(index);
        errors.extend(validate_constraint(constraint, &path));
        let is_same = |other: &TopologySpreadConstraint| {
            (&other.topology_key, &other.when_unsatisfiable)
                == (&constraint.topology_key, &constraint.when_unsatisfiable)
        };
        if constraints[index + 1..].iter().any(is_same) {
            let path = path.child("{topologyKey, whenUnsatisfiable}");
            let (key, action) = (&constraint.topology_key, &constraint.when_unsatisfiable);
            errors.push(FieldError::duplicate(&path, format!("{{{key}, {action}}}")));
        }
    }
    errors
}

fn validate_constraint(constraint: &TopologySpreadConstraint, path: &FieldPath) -> Vec<FieldError> {
    let positive = |field: &str, value: i32| {
        let path = path.child(field);
        (value <= 0).then(|| FieldError::invalid(&path, value, "must be greater than zero"))
    };
    let mut errors: Vec<_> = positive("maxSkew", constraint.max_skew).into_iter().collect();
    if constraint.topology_key.is_empty() {
        errors.push(FieldError::required(&path.child("topologyKey"), "can not be empty"));
    }
    let action = constraint.when_unsatisfiable.as_str();
    let actions = &["DoNotSchedule", "ScheduleAnyway"];
    errors.extend(one_of(&path.child("whenUnsatisfiable"), action, actions));
    if let Some(domains) = constraint.min_domains {
        errors.extend(positive("minDomains", domains));
        if action != "DoNotSchedule" {
            let detail =
                format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
            errors.push(FieldError::invalid(&path.child("minDomains"), domains, detail));
        }
    }
    for (field, policy) in [
        ("nodeAffinityPolicy", &constraint.node_affinity_policy),
        ("nodeTaintsPolicy", &constraint.node_taints_policy),
    ] {
        if let Some(policy) = policy.as_deref() {
            errors.extend(one_of(&path.child(field), policy, &["Honor", "Ignore"]));
        }
    }
    let keys = LabelKeys {
        matching: constraint.match_label_keys.as_deref().unwrap_or_default(),
        mismatching: &[],
        selector: constraint.label_selector.as_ref(),
    };
    errors.extend(keys.validate(path));
    if let Some(selector) = &constraint.label_selector {
        errors.extend(label_selector(selector, &path.child("labelSelector")));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::testing::compare;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(affinity: Value, expected: &[&str]) {
        let affinity = serde_json::from_value(affinity).unwrap();
        compare(validate(&affinity, &FieldPath::new("a")), expected);
    }

    #[track_caller]
    fn check_spread(constraints: Value, expected: &[&str]) {
        let constraints: Vec<TopologySpreadConstraint> =
            serde_json::from_value(constraints).unwrap();
        compare(validate_spread(&constraints, &FieldPath::new("s")), expected);
    }

    #[test]
    fn nodes() {
        let required =
            |term: Value| json!({"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}});
        check(
            required(
                json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}),
            ),
            &[],
        );
        check(
            json!({"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": []}}}),
            &[
                "a.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
            ],
        );
        let terms =
            "a.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]";
        check(
            required(json!({
                "matchExpressions": [
                    {"key": "a", "operator": "In"}, {"key": "a", "operator": "Gt", "values": ["1", "2"]},
                    {"key": "-", "operator": "Is", "values": ["-"]},
                ],
                "matchFields": [
                    {"key": "metadata.name", "operator": "In", "values": ["A"]},
                    {"key": "spec", "operator": "Exists"},
                ],
            })),
            &[
                &format!(
                    "{terms}.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
                ),
                &format!(
                    "{terms}.matchExpressions[1].values: Required value: must be specified single value"
                ),
                &format!(
                    "{terms}.matchExpressions[2].operator: Invalid value: \"Is\": not a valid selector operator"
                ),
                &format!(
                    "{terms}.matchExpressions[2].key: Invalid value: \"-\": name part must consist of"
                ),
                &format!(
                    "{terms}.matchExpressions[2].values[0]: Invalid value: \"-\": a valid label must be"
                ),
                &format!(
                    "{terms}.matchFields[0].values[0]: Invalid value: \"A\": a lowercase RFC 1123 subdomain"
                ),
                &format!(
                    "{terms}.matchFields[1].operator: Invalid value: \"Exists\": not a valid selector operator"
                ),
                &format!(
                    "{terms}.matchFields[1].key: Invalid value: \"spec\": not a valid field selector key"
                ),
            ],
        );
        let wish = json!({"weight": 101, "preference": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["-"]}]}});
        check(
            json!({"nodeAffinity": {PREFERRED: [wish]}}),
            &[
                "a.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100",
            ],
        );
    }

    #[test]
    fn pods() {
        let selector = json!({"matchLabels": {"app": "web"}});
        check(
            json!({"podAffinity": {REQUIRED: [{"topologyKey": "zone", "labelSelector": selector}]}}),
            &[],
        );
        let term = "a.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]";
        check(
            json!({"podAntiAffinity": {REQUIRED: [{
                "topologyKey": "", "namespaces": ["A"], "matchLabelKeys": ["x"],
            }]}}),
            &[
                &format!("{term}.namespace: Invalid value: \"A\": a lowercase RFC 1123 label"),
                &format!(
                    "{term}.matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"
                ),
                &format!("{term}.topologyKey: Required value: can not be empty"),
                &format!("{term}.topologyKey: Invalid value: \"\": name part must be non-empty"),
                &format!("{term}.topologyKey: Invalid value: \"\": name part must consist of"),
            ],
        );
        check(
            json!({"podAntiAffinity": {REQUIRED: [{
                "topologyKey": "zone", "labelSelector": {
                    "matchLabels": {"x": "1"}, "matchExpressions": [{"key": "x", "operator": "Exists"}],
                },
                "matchLabelKeys": ["x"], "mismatchLabelKeys": ["x"],
            }]}}),
            &[
                &format!(
                    "{term}[0]: Invalid value: \"x\": exists in both matchLabelKeys and labelSelector"
                ),
                &format!(
                    "{term}.matchLabelKeys[0]: Invalid value: \"x\": exists in both matchLabelKeys and mismatchLabelKeys"
                ),
            ],
        );
    }

    #[test]
    fn spreading() {
        let good =
            json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
        check_spread(json!([good]), &[]);
        check_spread(
            json!([good, good]),
            &["s[0].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{zone, DoNotSchedule}\""],
        );
        check_spread(
            json!([{
                "maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 0,
                "nodeAffinityPolicy": "x", "nodeTaintsPolicy": "Honor",
                "labelSelector": {"matchLabels": {"-": ""}},
            }]),
            &[
                "s[0].maxSkew: Invalid value: 0: must be greater than zero",
                "s[0].topologyKey: Required value: can not be empty",
                "s[0].minDomains: Invalid value: 0: must be greater than zero",
                "s[0].minDomains: Invalid value: 0: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
                "s[0].nodeAffinityPolicy: Unsupported value: \"x\": supported values: \"Honor\", \"Ignore\"",
                "s[0].labelSelector.matchLabels: Invalid value: \"-\": name part must consist of",
            ],
        );
    }
}
