//! The kinds of the `rbac.authorization.k8s.io` group, and the checks they share.
//!
//! Follows upstream pkg/apis/rbac/validation (v1.35). That nobody may give out more than they have
//! is not checked here: it needs to know who asks.

mod bindings;
mod cluster_role;
mod cluster_role_binding;
mod role;
mod role_binding;

use crate::api::{FieldError, FieldPath};
use crate::registry::checks::to_value;
use crate::registry::kind::Scope;
use k8s_openapi::api::rbac::v1::PolicyRule;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Upstream `ValidatePolicyRule` of each rule.
fn validate_rules(rules: Option<&[PolicyRule]>, scope: Scope) -> Vec<FieldError> {
    let path = FieldPath::new("rules");
    let rules = rules.unwrap_or_default().iter().enumerate();
    rules.flat_map(|(index, rule)| validate_rule(rule, scope, &path.index(index))).collect()
}

fn validate_rule(rule: &PolicyRule, scope: Scope, path: &FieldPath) -> Vec<FieldError> {
    let is_empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    let mut errors = Vec::new();
    if rule.verbs.is_empty() {
        let detail = "verbs must contain at least one value";
        errors.push(FieldError::required(&path.child("verbs"), detail));
    }
    let (groups, resources) = (&rule.api_groups, &rule.resources);
    if !is_empty(&rule.non_resource_urls) {
        let path = path.child("nonResourceURLs");
        let urls = || to_value(&rule.non_resource_urls);
        if scope == Scope::Namespaced {
            let detail = "namespaced rules cannot apply to non-resource URLs";
            errors.push(FieldError::invalid(&path, urls(), detail));
        }
        if ![groups, resources, &rule.resource_names].into_iter().all(is_empty) {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(FieldError::invalid(&path, urls(), detail));
        }
        return errors;
    }
    if is_empty(groups) {
        let detail = "resource rules must supply at least one api group";
        errors.push(FieldError::required(&path.child("apiGroups"), detail));
    }
    if is_empty(resources) {
        let detail = "resource rules must supply at least one resource";
        errors.push(FieldError::required(&path.child("resources"), detail));
    }
    errors
}
