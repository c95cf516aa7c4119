//! ClusterRoles: what may be done everywhere, or in the namespace of whoever binds one.

use super::validate_rules;
use crate::api::labels::Selector;
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{label_selector, to_value};
use crate::registry::kind::Scope;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{AggregationRule, ClusterRole};
use serde_json::Value;

impl Resource for ClusterRole {
    const FACTS: KindFacts =
        KindFacts::built_in::<Self>(BuiltIn { singular: "clusterrole", ..BuiltIn::CLUSTER });
    const SCHEMA: TypeRef = types::CLUSTER_ROLE;
    const COLUMNS: &'static [Column] = &[Column::NAME, Column::CREATED_AT];
    const NAME_RULE: names::Rule = names::path_segment;
    const CREATES_ON_UPDATE: bool = true;

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = validate_rules(self.rules.as_deref(), Scope::Cluster);
        errors.extend(self.aggregation_rule.iter().flat_map(validate_aggregation));
        errors
    }

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        vec![cells::name(&self.metadata), cells::created_at(&self.metadata)]
    }
}

fn validate_aggregation(rule: &AggregationRule) -> Vec<FieldError> {
    let path = FieldPath::new("aggregationRule").child("clusterRoleSelectors");
    let selectors = rule.cluster_role_selectors.as_deref().unwrap_or_default();
    let mut errors = Vec::new();
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(FieldError::required(&path, detail));
    }
    for (index, selector) in selectors.iter().enumerate() {
        let path = path.index(index);
        errors.extend(label_selector(selector, &path));
        if Selector::of_object(Some(selector)).is_err() {
            let detail = "invalid label selector.";
            errors.push(FieldError::invalid(&path, to_value(selector), detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check};
    use serde_json::{Value, json};

    fn role(rest: Value) -> Case {
        Case::of("clusterroles", json!({"metadata": {"name": "a"}})).with(rest)
    }

    #[test]
    fn rules_and_selectors() {
        check(&role(json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]})), &[]);
        check(
            &role(json!({
                "rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"], "apiGroups": [""]}],
                "aggregationRule": {},
            })),
            &[
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both",
                "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required",
            ],
        );
        check(
            &role(json!({"aggregationRule": {"clusterRoleSelectors": [
                {"matchLabels": {"a": "true"}},
                {"matchExpressions": [{"key": "a", "operator": "Like"}]},
            ]}})),
            &[
                "aggregationRule.clusterRoleSelectors[1].matchExpressions[0].operator: Invalid value: \"Like\": not a valid selector operator",
                "aggregationRule.clusterRoleSelectors[1]: Invalid value: {\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Like\"}]}: invalid label selector.",
            ],
        );
    }
}
