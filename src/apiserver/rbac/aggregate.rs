//! Roles whose rules are those of others, chosen by labels.
//!
//! Follows upstream `syncClusterRole` (pkg/controller/clusterroleaggregation, v1.35).

use crate::api::labels::Selector;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};

/// The rules that `role` should have, given all roles. `None` if it collects none, or if one of its
/// selectors cannot be read.
pub fn aggregate<'a>(
    role: &ClusterRole,
    all: impl IntoIterator<Item = &'a ClusterRole>,
) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref()?;
    let mut others: Vec<_> =
        all.into_iter().filter(|other| other.metadata.name != role.metadata.name).collect();
    others.sort_by(|left, right| left.metadata.name.cmp(&right.metadata.name));
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors {
        let selector = Selector::of_object(Some(selector)).ok()?;
        for other in &others {
            if !selector.matches(&other.metadata.labels.clone().unwrap_or_default()) {
                continue;
            }
            for rule in other.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn role(name: &str, label: &str, verbs: &[&str]) -> ClusterRole {
        let rules: Vec<_> = verbs.iter().map(|verb| json!({"verbs": [verb]})).collect();
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {label: "true"}}, "rules": rules,
        }))
        .unwrap()
    }

    #[test]
    fn rules_come_in_the_order_of_names_and_once() {
        let mut collector = role("all", "a", &["own"]);
        let roles = [
            role("z", "a", &["get", "list"]),
            role("b", "a", &["watch", "get"]),
            role("c", "x", &["no"]),
        ];
        let mut everybody = roles.to_vec();
        everybody.push(collector.clone());
        assert_eq!(aggregate(&collector, &everybody), None);
        collector.aggregation_rule = serde_json::from_value(json!({
            "clusterRoleSelectors": [{"matchLabels": {"none": "true"}}, {"matchLabels": {"a": "true"}}],
        }))
        .unwrap();
        let rules = aggregate(&collector, &everybody).unwrap();
        let verbs: Vec<_> = rules.iter().flat_map(|rule| rule.verbs.clone()).collect();
        assert_eq!(verbs, ["watch", "get", "list"]);
    }
}
