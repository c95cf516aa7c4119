//! Which nodes a pod or a volume may use: node selectors, and taints with what tolerates them.
//!
//! Follows upstream component-helpers/scheduling/corev1/nodeaffinity and core/v1/toleration.go
//! (v1.35).

use k8s_openapi::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};
use std::collections::BTreeMap;

/// What selectors look at.
#[derive(Clone, Copy, Debug)]
pub struct NodeIdentity<'a> {
    pub name: &'a str,
    pub labels: Option<&'a BTreeMap<String, String>>,
}

impl NodeIdentity<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        self.labels?.get(key).map(String::as_str)
    }

    fn field(&self, key: &str) -> Option<&str> {
        (key == "metadata.name").then_some(self.name)
    }
}

/// Whether the pod's `nodeSelector` and its required node affinity allow this node (upstream
/// `GetRequiredNodeAffinity`).
#[must_use]
pub fn pod_may_use(spec: &PodSpec, node: NodeIdentity<'_>) -> bool {
    let mut wanted = spec.node_selector.iter().flatten();
    wanted.all(|(key, value)| node.label(key) == Some(value))
        && required_affinity(spec).is_none_or(|selector| selects(selector, node))
}

/// The pod's required node affinity.
#[must_use]
pub fn required_affinity(spec: &PodSpec) -> Option<&NodeSelector> {
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    affinity.required_during_scheduling_ignored_during_execution.as_ref()
}

/// Any of the terms will do.
#[must_use]
pub fn selects(selector: &NodeSelector, node: NodeIdentity<'_>) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, node))
}

/// All requirements of a term hold. A term without requirements matches nothing.
#[must_use]
pub fn term_matches(term: &NodeSelectorTerm, node: NodeIdentity<'_>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|requirement| holds(requirement, node.label(&requirement.key)))
        && fields.iter().all(|requirement| holds(requirement, node.field(&requirement.key)))
}

fn holds(requirement: &NodeSelectorRequirement, actual: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |actual: &str| values.iter().any(|value| value == actual);
    match (requirement.operator.as_str(), actual) {
        ("In", Some(actual)) => listed(actual),
        ("NotIn", actual) => !actual.is_some_and(listed),
        ("Exists", actual) => actual.is_some(),
        ("DoesNotExist", actual) => actual.is_none(),
        ("Gt", Some(actual)) => bounds(actual, values).is_some_and(|(left, right)| left > right),
        ("Lt", Some(actual)) => bounds(actual, values).is_some_and(|(left, right)| left < right),
        _ => false,
    }
}

fn bounds(actual: &str, values: &[String]) -> Option<(i64, i64)> {
    Some((actual.parse().ok()?, values.first()?.parse().ok()?))
}

/// Whether the taint keeps pods from being put on a node.
#[must_use]
pub fn forbids_scheduling(taint: &Taint) -> bool {
    matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
}

/// Whether any of the tolerations covers the taint.
#[must_use]
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| covers(toleration, taint))
}

/// Whether the toleration covers the taint (upstream `ToleratesTaint`).
#[must_use]
pub fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let absent_or = |wanted: &Option<String>, actual: &str| match wanted.as_deref() {
        None | Some("") => true,
        Some(wanted) => wanted == actual,
    };
    let value = taint.value.as_deref().unwrap_or_default();
    absent_or(&toleration.effect, &taint.effect)
        && absent_or(&toleration.key, &taint.key)
        && match toleration.operator.as_deref() {
            None | Some("" | "Equal") => toleration.value.as_deref().unwrap_or_default() == value,
            Some("Exists") => true,
            Some(_) => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(operator: &str, values: &[&str], actual: Option<&str>, expected: bool) {
        let requirement = json!({"key": "zone", "operator": operator, "values": values});
        let requirement = serde_json::from_value(requirement).unwrap();
        assert_eq!(holds(&requirement, actual), expected, "{operator} {values:?} {actual:?}");
    }

    #[test]
    fn requirements_hold() {
        check("In", &["a", "b"], Some("a"), true);
        check("In", &["a"], None, false);
        check("NotIn", &["a"], Some("b"), true);
        check("NotIn", &["a"], None, true);
        check("Exists", &[], Some(""), true);
        check("DoesNotExist", &[], Some("a"), false);
        check("Gt", &["3"], Some("10"), true);
        check("Lt", &["3"], Some("x"), false);
        check("Sounds like", &["a"], Some("a"), false);
    }

    #[track_caller]
    fn check_pod(spec: Value, expected: bool) {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        let node = NodeIdentity { name: "one", labels: Some(&labels) };
        let shown = spec.to_string();
        assert_eq!(pod_may_use(&serde_json::from_value(spec).unwrap(), node), expected, "{shown}");
    }

    #[test]
    fn selectors_and_any_of_the_terms_allow_a_node() {
        let required = |terms: Value| {
            json!({"affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
            }}})
        };
        let zone = |value: &str| json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [value]}]});
        let name = |value: &str| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [value]}]});
        check_pod(json!({}), true);
        check_pod(json!({"nodeSelector": {"zone": "a"}}), true);
        check_pod(json!({"nodeSelector": {"zone": "b"}}), false);
        check_pod(required(json!([zone("b"), zone("a")])), true);
        check_pod(required(json!([zone("b"), name("one")])), true);
        check_pod(required(json!([name("two")])), false);
        check_pod(required(json!([{}])), false);
    }

    #[test]
    fn tolerations_cover_taints() {
        let check = |toleration: Value, taint: &Value, expected: bool| {
            let shown = format!("{toleration} {taint}");
            let toleration = serde_json::from_value(toleration).unwrap();
            let taint = serde_json::from_value(taint.clone()).unwrap();
            assert_eq!(covers(&toleration, &taint), expected, "{shown}");
        };
        let taint = json!({"key": "gpu", "value": "yes", "effect": "NoSchedule"});
        check(json!({"operator": "Exists"}), &taint, true);
        check(json!({"key": "gpu", "operator": "Exists"}), &taint, true);
        check(json!({"key": "cpu", "operator": "Exists"}), &taint, false);
        check(json!({"key": "gpu", "value": "yes"}), &taint, true);
        check(json!({"key": "gpu", "operator": "Equal", "value": "no"}), &taint, false);
        check(json!({"key": "gpu", "value": "yes", "effect": "NoExecute"}), &taint, false);
        check(json!({"key": "gpu", "operator": "Like", "value": "yes"}), &taint, false);
    }
}
