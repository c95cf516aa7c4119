//! Which requests a webhook or policy is about.
//!
//! Follows upstream `validateRuleWithOperations` and `validateMatchResources`
//! (pkg/apis/admissionregistration/validation, v1.35).

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid, label_selector, one_of, to_value};
use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, NamedRuleWithOperations, RuleWithOperations,
};
use std::collections::BTreeSet;

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];
pub(super) const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];

/// A rule of either kind, by its parts.
#[derive(Clone, Copy, Debug)]
struct Rule<'a> {
    operations: &'a [String],
    groups: &'a [String],
    versions: &'a [String],
    resources: &'a [String],
    scope: Option<&'a str>,
}

/// Resources of any scope.
pub(super) fn default_scope(scope: &mut Option<String>) {
    scope.get_or_insert_with(|| "*".to_owned());
}

/// What `MatchResources` are about where they do not say.
pub(super) fn apply_defaults(resources: &mut MatchResources) {
    resources.match_policy.get_or_insert_with(|| "Equivalent".to_owned());
    resources.namespace_selector.get_or_insert_default();
    resources.object_selector.get_or_insert_default();
    let named = resources.resource_rules.iter_mut().chain(&mut resources.exclude_resource_rules);
    named.flatten().for_each(|rule| default_scope(&mut rule.scope));
}

pub(super) fn validate_rule(rule: &RuleWithOperations, path: &FieldPath) -> Vec<FieldError> {
    let parts = Rule {
        operations: rule.operations.as_deref().unwrap_or_default(),
        groups: rule.api_groups.as_deref().unwrap_or_default(),
        versions: rule.api_versions.as_deref().unwrap_or_default(),
        resources: rule.resources.as_deref().unwrap_or_default(),
        scope: rule.scope.as_deref(),
    };
    validate_parts(parts, path)
}

fn validate_named(rule: &NamedRuleWithOperations, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, name) in rule.resource_names.iter().flatten().enumerate() {
        let path = path.child("resourceNames").index(index);
        errors.extend(invalid(&path, name, names::path_segment(name)));
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path, name.as_str()));
        }
    }
    let parts = Rule {
        operations: rule.operations.as_deref().unwrap_or_default(),
        groups: rule.api_groups.as_deref().unwrap_or_default(),
        versions: rule.api_versions.as_deref().unwrap_or_default(),
        resources: rule.resources.as_deref().unwrap_or_default(),
        scope: rule.scope.as_deref(),
    };
    errors.extend(validate_parts(parts, path));
    errors
}

pub(super) fn validate_resources(resources: &MatchResources, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let policy_path = path.child("matchPolicy");
    match resources.match_policy.as_deref() {
        None => errors.push(FieldError::required(&policy_path, "")),
        Some(policy) => errors.extend(one_of(&policy_path, policy, MATCH_POLICIES)),
    }
    for (field, selector) in [
        ("namespaceSelector", &resources.namespace_selector),
        ("objectSelector", &resources.object_selector),
    ] {
        let path = path.child(field);
        match selector {
            None => errors.push(FieldError::required(&path, "")),
            Some(selector) => errors.extend(label_selector(selector, &path)),
        }
    }
    for (field, rules) in [
        ("resourceRules", &resources.resource_rules),
        ("excludeResourceRules", &resources.exclude_resource_rules),
    ] {
        for (index, rule) in rules.iter().flatten().enumerate() {
            errors.extend(validate_named(rule, &path.child(field).index(index)));
        }
    }
    errors
}

fn validate_parts(rule: Rule<'_>, path: &FieldPath) -> Vec<FieldError> {
    let operations_path = path.child("operations");
    let mut errors = Vec::new();
    errors.extend(validate_all_or_some(rule.operations, "operations", &operations_path));
    for (index, operation) in rule.operations.iter().enumerate() {
        errors.extend(one_of(&operations_path.index(index), operation, OPERATIONS));
    }
    errors.extend(validate_all_or_some(rule.groups, "API groups", &path.child("apiGroups")));
    let versions_path = path.child("apiVersions");
    errors.extend(validate_all_or_some(rule.versions, "API versions", &versions_path));
    for (index, _) in rule.versions.iter().enumerate().filter(|(_, version)| version.is_empty()) {
        errors.push(FieldError::required(&versions_path.index(index), ""));
    }
    errors.extend(validate_resource_names(rule.resources, &path.child("resources")));
    errors.extend(rule.scope.and_then(|scope| one_of(&path.child("scope"), scope, SCOPES)));
    errors
}

/// A list is there, and says either `*` or something else.
fn validate_all_or_some(list: &[String], of: &str, path: &FieldPath) -> Option<FieldError> {
    if list.is_empty() {
        return Some(FieldError::required(path, ""));
    }
    let is_mixed = list.len() > 1 && list.iter().any(|one| one == "*");
    let detail = format!("if '*' is present, must not specify other {of}");
    is_mixed.then(|| FieldError::invalid(path, to_value(&list), detail))
}

/// Upstream `validateResources`: nothing is said twice.
fn validate_resource_names(resources: &[String], path: &FieldPath) -> Vec<FieldError> {
    if resources.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let mut errors = Vec::new();
    let (mut whole, mut everywhere) = (BTreeSet::new(), BTreeSet::new());
    let (mut has_all, mut has_bare) = (false, false);
    for (index, named) in resources.iter().enumerate() {
        let path = path.index(index);
        if named.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        has_all |= named == "*";
        let Some((resource, part)) = named.split_once('/') else {
            // As upstream has it, the last one without a subresource decides.
            has_bare = named != "*";
            continue;
        };
        for (rule, is_said) in [
            (format!("{resource}/*"), whole.contains(resource)),
            (format!("*/{part}"), everywhere.contains(part)),
        ] {
            if is_said {
                let detail = format!("if '{rule}' is present, must not specify {named}");
                errors.push(FieldError::invalid(&path, named.as_str(), detail));
            }
        }
        if part == "*" {
            whole.insert(resource);
        }
        if resource == "*" {
            everywhere.insert(part);
        }
    }
    if resources.len() > 1 && resources.iter().any(|named| named == "*/*") {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(path, to_value(&resources), detail));
    }
    if has_all && has_bare {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(path, to_value(&resources), detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::testing::compare;
    use serde_json::{Value, json};

    #[track_caller]
    fn check_rule(rule: Value, expected: &[&str]) {
        let rule: RuleWithOperations = serde_json::from_value(rule).unwrap();
        compare(validate_rule(&rule, &FieldPath::new("r")), expected);
    }

    #[test]
    fn a_rule_says_each_of_its_parts() {
        check_rule(
            json!({"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["pods", "pods/status"], "scope": "*"}),
            &[],
        );
        check_rule(
            json!({}),
            &[
                "r.operations: Required value",
                "r.apiGroups: Required value",
                "r.apiVersions: Required value",
                "r.resources: Required value",
            ],
        );
        check_rule(
            json!({"operations": ["*", "READ"], "apiGroups": ["*", "apps"],
                "apiVersions": ["*", ""], "resources": ["pods"], "scope": "Node"}),
            &[
                "r.operations: Invalid value: [\"*\",\"READ\"]: if '*' is present, must not specify other operations",
                "r.operations[1]: Unsupported value: \"READ\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
                "r.apiGroups: Invalid value: [\"*\",\"apps\"]: if '*' is present, must not specify other API groups",
                "r.apiVersions: Invalid value: [\"*\",\"\"]: if '*' is present, must not specify other API versions",
                "r.apiVersions[1]: Required value",
                "r.scope: Unsupported value: \"Node\": supported values: \"*\", \"Cluster\", \"Namespaced\"",
            ],
        );
    }

    #[test]
    fn resources_are_named_once() {
        let check = |resources: Value, expected: &[&str]| {
            let rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
                "resources": resources});
            check_rule(rule, expected);
        };
        check(json!(["*/*"]), &[]);
        check(json!(["*", "pods/log"]), &[]);
        check(json!(["pods/*", "*/scale"]), &[]);
        check(
            json!(["pods/*", "pods/log", "", "*/scale", "x/scale"]),
            &[
                "r.resources[1]: Invalid value: \"pods/log\": if 'pods/*' is present, must not specify pods/log",
                "r.resources[2]: Required value",
                "r.resources[4]: Invalid value: \"x/scale\": if '*/scale' is present, must not specify x/scale",
            ],
        );
        check(
            json!(["*/*", "*", "pods"]),
            &[
                "r.resources: Invalid value: [\"*/*\",\"*\",\"pods\"]: if '*/*' is present, must not specify other resources",
                "r.resources: Invalid value: [\"*/*\",\"*\",\"pods\"]: if '*' is present, must not specify other resources without subresources",
            ],
        );
    }
}
