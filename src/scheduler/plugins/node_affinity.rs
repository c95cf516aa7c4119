//! Node selectors and required node affinity. Follows upstream plugins/nodeaffinity (v1.35).

use crate::scheduler::snapshot::{NodeFacts, PodFacts};
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

pub(super) fn reasons(pod: &PodFacts, node: &NodeFacts) -> Vec<String> {
    let Some(spec) = pod.pod.spec.as_ref() else { return Vec::new() };
    if selector_matches(spec, node) && affinity_matches(spec, node) {
        Vec::new()
    } else {
        vec!["node(s) didn't match Pod's node affinity/selector".to_owned()]
    }
}

fn selector_matches(spec: &PodSpec, node: &NodeFacts) -> bool {
    let label = |key: &str| node.labels().and_then(|labels| labels.get(key));
    let mut wanted = spec.node_selector.iter().flatten();
    wanted.all(|(key, value)| label(key) == Some(value))
}

/// Any of the terms will do; without a required affinity every node will.
fn affinity_matches(spec: &PodSpec, node: &NodeFacts) -> bool {
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|selector| {
        selector.node_selector_terms.iter().any(|term| term_matches(term, node))
    })
}

/// All requirements of a term hold. A term without requirements matches nothing.
fn term_matches(term: &NodeSelectorTerm, node: &NodeFacts) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name = node.node.as_ref().and_then(|node| node.metadata.name.as_deref());
    let label = |key: &str| node.labels()?.get(key).map(String::as_str);
    let field = |key: &str| if key == "metadata.name" { name } else { None };
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|requirement| holds(requirement, label(&requirement.key)))
        && fields.iter().all(|requirement| holds(requirement, field(&requirement.key)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
}
