//! What a rule allows, and which rules cover which.
//!
//! Follows upstream pkg/apis/rbac/v1/evaluation_helpers.go and `Covers`
//! (component-helpers/auth/rbac/validation/policy_comparator.go), v1.35.

use k8s_openapi::api::rbac::v1::PolicyRule;
use std::collections::{BTreeMap, BTreeSet};

const ANY: &str = "*";

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    Resource {
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        /// Empty for the object itself.
        subresource: &'a str,
        /// Empty for all objects, and for one that has no name yet.
        name: &'a str,
        /// `None` for what is in no namespace, and for all namespaces together.
        namespace: Option<&'a str>,
    },
    Path {
        verb: &'a str,
        path: &'a str,
    },
}

/// Rules that allow everything: what members of `system:masters` have (upstream
/// `NewPrivilegedGroups`), and what one must have to collect the rules of others.
#[must_use]
pub fn everything() -> [PolicyRule; 2] {
    let any = || vec![ANY.to_owned()];
    [
        PolicyRule {
            verbs: any(),
            api_groups: Some(any()),
            resources: Some(any()),
            ..PolicyRule::default()
        },
        PolicyRule { verbs: any(), non_resource_urls: Some(any()), ..PolicyRule::default() },
    ]
}

fn list(field: &Option<Vec<String>>) -> &[String] {
    field.as_deref().unwrap_or_default()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|entry| entry == wanted)
}

fn has_or_any(list: &[String], wanted: &str) -> bool {
    list.iter().any(|entry| entry == ANY || entry == wanted)
}

/// Whether one rule is enough (upstream `RuleAllows`).
#[must_use]
pub fn allows(rule: &PolicyRule, action: &Action<'_>) -> bool {
    match *action {
        Action::Resource { verb, group, resource, subresource, name, .. } => {
            has_or_any(&rule.verbs, verb)
                && has_or_any(list(&rule.api_groups), group)
                && names_resource(list(&rule.resources), resource, subresource)
                && (list(&rule.resource_names).is_empty() || has(list(&rule.resource_names), name))
        }
        Action::Path { verb, path } => {
            has_or_any(&rule.verbs, verb) && names_path(list(&rule.non_resource_urls), path)
        }
    }
}

/// `pods`, `pods/log`, `*/scale` (of all resources), `*` (all with all below them).
fn names_resource(named: &[String], resource: &str, subresource: &str) -> bool {
    named.iter().any(|entry| match entry.split_once('/') {
        None => entry == ANY || (subresource.is_empty() && entry == resource),
        Some((parent, below)) => {
            !subresource.is_empty() && below == subresource && (parent == ANY || parent == resource)
        }
    })
}

/// `/metrics`, `/apis/*`, `*`.
fn names_path(named: &[String], path: &str) -> bool {
    named.iter().any(|entry| {
        entry == path
            || entry
                .strip_suffix(ANY)
                .is_some_and(|_| path.starts_with(entry.trim_end_matches(ANY)))
    })
}

/// Rules are broken down into so many parts; further ones count as not covered, unless a single rule
/// covers all of one. A rule of a few KiB has a thousand million parts, which upstream would go through.
const PARTS_MAX: usize = 100_000;

/// The smallest parts of `wanted` that no single rule of `owned` covers. None: `owned` covers all.
#[must_use]
pub fn uncovered(owned: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let mut missing = Vec::new();
    let mut left = PARTS_MAX;
    for rule in wanted {
        if owned.iter().any(|own| covers(own, rule)) {
            continue;
        }
        match left.checked_sub(count_of_parts(rule)) {
            None => missing.push(rule.clone()),
            Some(rest) => {
                left = rest;
                let parts = break_down(rule).into_iter();
                missing.extend(parts.filter(|part| !owned.iter().any(|own| covers(own, part))));
            }
        }
    }
    missing
}

/// How many parts [`break_down`] makes.
fn count_of_parts(rule: &PolicyRule) -> usize {
    let lists = [list(&rule.api_groups).len(), list(&rule.resources).len(), rule.verbs.len()];
    let named = list(&rule.resource_names).len().max(1);
    let resources = lists.into_iter().fold(named, usize::saturating_mul);
    let paths = list(&rule.non_resource_urls).len().saturating_mul(rule.verbs.len());
    resources.saturating_add(paths)
}

/// A rule as rules with one verb, one resource and one name each.
fn break_down(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut parts = Vec::new();
    let one = |text: &String| Some(vec![text.clone()]);
    for group in list(&rule.api_groups) {
        for resource in list(&rule.resources) {
            for verb in &rule.verbs {
                let part = PolicyRule {
                    api_groups: one(group),
                    resources: one(resource),
                    verbs: vec![verb.clone()],
                    ..PolicyRule::default()
                };
                match list(&rule.resource_names) {
                    [] => parts.push(part),
                    names => parts.extend(
                        names
                            .iter()
                            .map(|name| PolicyRule { resource_names: one(name), ..part.clone() }),
                    ),
                }
            }
        }
    }
    for path in list(&rule.non_resource_urls) {
        parts.extend(rule.verbs.iter().map(|verb| PolicyRule {
            non_resource_urls: one(path),
            verbs: vec![verb.clone()],
            ..PolicyRule::default()
        }));
    }
    parts
}

/// Whether a rule allows all that a part of another allows.
fn covers(rule: &PolicyRule, part: &PolicyRule) -> bool {
    let names = list(&rule.resource_names);
    let part_names = list(&part.resource_names);
    let covers_names = names.is_empty()
        || (!part_names.is_empty() && part_names.iter().all(|name| has(names, name)));
    part.verbs.iter().all(|verb| has_or_any(&rule.verbs, verb))
        && list(&part.api_groups).iter().all(|group| has_or_any(list(&rule.api_groups), group))
        && list(&part.resources).iter().all(|resource| covers_resource(rule, resource))
        && covers_names
        && list(&part.non_resource_urls).iter().all(|path| covers_path(rule, path))
}

fn covers_resource(rule: &PolicyRule, resource: &str) -> bool {
    let resources = list(&rule.resources);
    has_or_any(resources, resource)
        || resource
            .split_once('/')
            .is_some_and(|(_, below)| has(resources, &format!("{ANY}/{below}")))
}

fn covers_path(rule: &PolicyRule, path: &str) -> bool {
    names_path(list(&rule.non_resource_urls), path)
}

/// What somebody is told who gives out `missing` without having it (upstream
/// `ConfirmNoEscalation`, pkg/registry/rbac/validation/rule.go, v1.35).
#[must_use]
pub fn describe_escalation(user: &str, groups: &[String], missing: &[PolicyRule]) -> String {
    let lines: BTreeSet<String> = compact(missing).iter().map(describe).collect();
    let lines: Vec<_> = lines.into_iter().collect();
    format!(
        "user {user:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        quoted(groups),
        lines.join("\n")
    )
}

/// Joins the verbs of rules for the same resource and name (upstream `CompactRules`).
fn compact(rules: &[PolicyRule]) -> Vec<PolicyRule> {
    let mut verbs: BTreeMap<String, usize> = BTreeMap::new();
    let mut compacted: Vec<PolicyRule> = Vec::new();
    for rule in rules {
        let is_simple = list(&rule.resource_names).len() <= 1
            && list(&rule.non_resource_urls).is_empty()
            && list(&rule.api_groups).len() == 1
            && list(&rule.resources).len() == 1;
        let subject = describe(&PolicyRule { verbs: Vec::new(), ..rule.clone() });
        match verbs.get(&subject) {
            Some(index) if is_simple => compacted[*index].verbs.extend_from_slice(&rule.verbs),
            _ => {
                verbs.insert(subject, compacted.len());
                compacted.push(rule.clone());
            }
        }
    }
    compacted
}

/// `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}` (upstream `CompactString`).
fn describe(rule: &PolicyRule) -> String {
    let parts: Vec<_> = [
        ("APIGroups", list(&rule.api_groups)),
        ("Resources", list(&rule.resources)),
        ("NonResourceURLs", list(&rule.non_resource_urls)),
        ("ResourceNames", list(&rule.resource_names)),
        ("Verbs", &rule.verbs),
    ]
    .into_iter()
    .filter(|(_, values)| !values.is_empty())
    .map(|(name, values)| format!("{name}:{}", quoted(values)))
    .collect();
    format!("{{{}}}", parts.join(", "))
}

/// As Go prints a list of texts.
fn quoted(texts: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", texts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Value {
        json!({"verbs": verbs, "apiGroups": groups, "resources": resources, "resourceNames": names})
    }

    fn paths(verbs: &[&str], paths: &[&str]) -> Value {
        json!({"verbs": verbs, "nonResourceURLs": paths})
    }

    /// `verb group/resource[/subresource] [name]`, or `verb /path`.
    #[track_caller]
    fn check(rule: &Value, request: &str, expected: bool) {
        let rule = serde_json::from_value(rule.clone()).unwrap();
        let mut words = request.split(' ');
        let (verb, what) = (words.next().unwrap(), words.next().unwrap());
        let name = words.next().unwrap_or_default();
        let action = if what.starts_with('/') {
            Action::Path { verb, path: what }
        } else {
            let mut parts = what.split('/');
            Action::Resource {
                verb,
                group: parts.next().unwrap().trim_start_matches("core"),
                resource: parts.next().unwrap(),
                subresource: parts.next().unwrap_or_default(),
                name,
                namespace: None,
            }
        };
        assert_eq!(allows(&rule, &action), expected, "{rule:?} {request}");
    }

    #[test]
    fn rules_are_not_multiplied_out_without_end() {
        let words: Vec<_> = (0..1_000).map(|index| index.to_string()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let huge = serde_json::from_value(rule(&words, &words, &words, &[])).unwrap();
        let all = serde_json::from_value(rule(&["*"], &["*"], &["*"], &[])).unwrap();
        let one = serde_json::from_value(rule(&["get"], &[""], &["pods"], &[])).unwrap();
        assert!(uncovered(&[all], std::slice::from_ref(&huge)).is_empty());
        assert_eq!(uncovered(std::slice::from_ref(&one), &[huge.clone(), one.clone()]), [huge]);
    }

    #[test]
    fn resources() {
        let pods = rule(&["get", "list"], &[""], &["pods", "pods/log"], &[]);
        check(&pods, "get core/pods", true);
        check(&pods, "get core/pods web", true);
        check(&pods, "get core/pods/log web", true);
        check(&pods, "get core/pods/exec web", false);
        check(&pods, "watch core/pods", false);
        check(&pods, "get apps/pods", false);
        check(&pods, "get /pods", false);
        let all = rule(&["*"], &["*"], &["*"], &[]);
        check(&all, "escalate rbac/roles", true);
        check(&all, "get core/pods/log a", true);
        check(&all, "get /metrics", false);
        let scale = rule(&["update"], &["apps"], &["*/scale"], &[]);
        check(&scale, "update apps/deployments/scale a", true);
        check(&scale, "update apps/deployments a", false);
        check(&scale, "update apps/deployments/status a", false);
        check(&rule(&["get"], &[""], &["pods/*"], &[]), "get core/pods/log a", false);
        let parent_only = rule(&["get"], &[""], &["pods"], &[]);
        check(&parent_only, "get core/pods/log a", false);
    }

    #[test]
    fn names() {
        let one = rule(&["get", "create", "list"], &[""], &["secrets"], &["a", "b"]);
        check(&one, "get core/secrets b", true);
        check(&one, "get core/secrets c", false);
        check(&one, "list core/secrets", false);
        check(&one, "create core/secrets", false);
    }

    #[test]
    fn other_paths() {
        let some = paths(&["get"], &["/metrics", "/apis/*"]);
        check(&some, "get /metrics", true);
        check(&some, "get /metrics/x", false);
        check(&some, "get /apis/apps", true);
        check(&some, "get /apis/", true);
        check(&some, "get /apis", false);
        check(&some, "post /metrics", false);
        check(&paths(&["*"], &["*"]), "delete /anything", true);
        check(&some, "get core/metrics", false);
    }

    #[track_caller]
    fn check_covered(owned: &[Value], wanted: &[Value], missing: &[&str]) {
        let rules = |rules: &[Value]| -> Vec<PolicyRule> {
            rules.iter().map(|rule| serde_json::from_value(rule.clone()).unwrap()).collect()
        };
        let found: Vec<_> = uncovered(&rules(owned), &rules(wanted)).iter().map(describe).collect();
        assert_eq!(found, missing);
    }

    #[test]
    fn nobody_gives_out_more_than_they_have() {
        let pods = rule(&["get", "list"], &[""], &["pods"], &[]);
        let named = rule(&["get"], &[""], &["pods"], &["a"]);
        let all = rule(&["*"], &["*"], &["*"], &[]);
        check_covered(&[], &[], &[]);
        check_covered(std::slice::from_ref(&pods), std::slice::from_ref(&named), &[]);
        check_covered(
            std::slice::from_ref(&named),
            std::slice::from_ref(&pods),
            &[
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#,
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["list"]}"#,
            ],
        );
        check_covered(
            &[pods.clone(), rule(&["get"], &[""], &["*/log"], &[])],
            &[rule(&["get"], &[""], &["pods", "pods/log", "pods/exec"], &[])],
            &[r#"{APIGroups:[""], Resources:["pods/exec"], Verbs:["get"]}"#],
        );
        check_covered(std::slice::from_ref(&all), std::slice::from_ref(&pods), &[]);
        check_covered(&[pods], &[all], &[r#"{APIGroups:["*"], Resources:["*"], Verbs:["*"]}"#]);
        // What two rules cover together is covered part by part.
        check_covered(
            &[rule(&["get"], &[""], &["pods"], &[]), rule(&["get"], &["apps"], &["pods"], &[])],
            &[rule(&["get"], &["", "apps"], &["pods"], &[])],
            &[],
        );
    }

    #[test]
    fn other_paths_are_covered_by_their_beginnings() {
        check_covered(&[paths(&["get"], &["/a/*"])], &[paths(&["get"], &["/a/b", "/a/*"])], &[]);
        check_covered(
            &[paths(&["get"], &["/a/b"])],
            &[paths(&["get"], &["/a/*"])],
            &[r#"{NonResourceURLs:["/a/*"], Verbs:["get"]}"#],
        );
    }

    #[test]
    fn an_escalation_is_told_in_few_lines() {
        let wanted = rule(&["get", "list"], &[""], &["pods", "nodes"], &[]);
        let missing = uncovered(&[], &[serde_json::from_value(wanted).unwrap()]);
        assert_eq!(
            describe_escalation("eve", &["a".to_owned(), "b".to_owned()], &missing),
            "user \"eve\" (groups=[\"a\" \"b\"]) is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"list\"]}\n\
             {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\" \"list\"]}"
        );
    }
}
