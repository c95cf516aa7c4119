//! FlowSchemas: which requests belong to which priority level.
//!
//! Follows upstream `ValidateFlowSchema` (pkg/apis/flowcontrol/validation, v1.35).

use super::well_known::mandatory_spec;
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid, present, to_value};
use crate::registry::managed::Resets;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves};
use jiff::Timestamp;
use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, FlowSchemaSpec, NonResourcePolicyRule, PolicyRulesWithSubjects, ResourcePolicyRule,
    Subject,
};
use serde_json::Value;
use std::collections::BTreeSet;

const PRECEDENCE: i32 = 1_000;
const PRECEDENCE_MAX: i32 = 10_000;
/// The one schema that may come before all others.
const EXEMPT: &str = "exempt";
const ALL: &str = "*";

const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const DISTINGUISHERS: &[&str] = &["ByNamespace", "ByUser"];

impl Resource for FlowSchema {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "flowschema",
        subresources: &[Subresource::STATUS],
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::FLOW_SCHEMA;
    const HALVES: Halves<Self> = halves!();
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("PriorityLevel", "Where the requests go."),
        Column::text("MatchingPrecedence", "Of several schemas that match, the lowest counts."),
        Column::text("DistinguisherMethod", "What tells one flow from another."),
        Column::AGE,
        Column::text("MissingPL", "Whether the priority level is missing."),
    ];

    fn resets(subresource: &str) -> Resets {
        Resets::of_bare_status(subresource)
    }

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.matching_precedence.take_if(|precedence| *precedence == 0);
        spec.matching_precedence.get_or_insert(PRECEDENCE);
        let rules = spec.rules.iter_mut().flatten();
        for rule in rules.flat_map(|rule| rule.resource_rules.iter_mut().flatten()) {
            // What says no says nothing.
            rule.cluster_scope.take_if(|is_outside| !*is_outside);
            rule.namespaces.take_if(|namespaces| namespaces.is_empty());
        }
        self.status.get_or_insert_default();
    }

    fn prepare_status_update(&mut self, old: &Self) {
        self.metadata.clone_from(&old.metadata);
    }

    fn validate(&self) -> Vec<FieldError> {
        let spec = self.spec.clone().unwrap_or_default();
        let path = FieldPath::new("spec");
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let mut errors = validate_spec(&spec, name, &path);
        let shown = to_value(&spec);
        if mandatory_spec("flowschemas", name).is_some_and(|fixed| fixed != shown) {
            let detail = format!("spec of '{name}' must equal the fixed value");
            errors.push(FieldError::invalid(&path, shown, detail));
        }
        errors.extend(validate_status(self));
        errors
    }

    fn validate_status_update(&self, _old: &Self) -> Vec<FieldError> {
        validate_status(self)
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let conditions = self.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut dangling = conditions.filter(|it| it.type_.as_deref() == Some("Dangling"));
        let is_missing = dangling.next().map(|it| it.status.clone().unwrap_or_default());
        let distinguisher = spec.distinguisher_method.map(|method| method.type_);
        vec![
            cells::name(&self.metadata),
            spec.priority_level_configuration.name.into(),
            spec.matching_precedence.unwrap_or_default().into(),
            distinguisher.unwrap_or_else(|| cells::NONE.to_owned()).into(),
            cells::age(&self.metadata, now),
            is_missing.unwrap_or_else(|| "?".to_owned()).into(),
        ]
    }
}

/// Upstream `ValidateFlowSchemaStatus`.
fn validate_status(schema: &FlowSchema) -> Vec<FieldError> {
    let conditions = schema.status.iter().flat_map(|status| status.conditions.iter().flatten());
    validate_condition_types(conditions.map(|it| it.type_.as_deref().unwrap_or_default()))
}

/// Conditions of this group have types, each another.
pub(super) fn validate_condition_types<'a>(
    types: impl Iterator<Item = &'a str>,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, kind) in types.enumerate() {
        let path = FieldPath::new("status").child("conditions").index(index).child("type");
        if !seen.insert(kind) {
            errors.push(FieldError::duplicate(&path, kind));
        }
        errors.extend(present(&path, Some(kind)));
    }
    errors
}

/// Upstream `ValidateFlowSchemaSpec`.
fn validate_spec(spec: &FlowSchemaSpec, name: &str, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let precedence = spec.matching_precedence.unwrap_or_default();
    let wrong = match precedence {
        ..=0 => Some("must be a positive value".to_owned()),
        1 if name != EXEMPT => {
            Some("only the schema named 'exempt' may have matchingPrecedence 1".to_owned())
        }
        1..=PRECEDENCE_MAX => None,
        _ => Some(format!("must not be greater than {PRECEDENCE_MAX}")),
    };
    let precedence_path = path.child("matchingPrecedence");
    errors.extend(wrong.map(|detail| FieldError::invalid(&precedence_path, precedence, detail)));
    if let Some(method) = &spec.distinguisher_method
        && !DISTINGUISHERS.contains(&method.type_.as_str())
    {
        let path = path.child("distinguisherMethod").child("type");
        errors.push(FieldError::not_supported(&path, to_value(method), DISTINGUISHERS));
    }
    let level_path = path.child("priorityLevelConfiguration").child("name");
    errors.extend(match spec.priority_level_configuration.name.as_str() {
        "" => vec![FieldError::required(&level_path, "must reference a priority level")],
        level => invalid(&level_path, level, names::dns1123_subdomain(level)),
    });
    for (index, rule) in spec.rules.iter().flatten().enumerate() {
        errors.extend(validate_rule(rule, &path.child("rules").index(index)));
    }
    errors
}

/// Upstream `ValidateFlowSchemaPolicyRulesWithSubjects`.
fn validate_rule(rule: &PolicyRulesWithSubjects, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if rule.subjects.is_empty() {
        let detail = "subjects must contain at least one value";
        errors.push(FieldError::required(&path.child("subjects"), detail));
    }
    for (index, subject) in rule.subjects.iter().enumerate() {
        errors.extend(validate_subject(subject, &path.child("subjects").index(index)));
    }
    let resources = rule.resource_rules.as_deref().unwrap_or_default();
    let paths = rule.non_resource_rules.as_deref().unwrap_or_default();
    if resources.is_empty() && paths.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(FieldError::required(path, detail));
    }
    for (index, rule) in resources.iter().enumerate() {
        errors.extend(validate_resources(rule, &path.child("resourceRules").index(index)));
    }
    for (index, rule) in paths.iter().enumerate() {
        errors.extend(validate_paths(rule, &path.child("nonResourceRules").index(index)));
    }
    errors
}

/// Upstream `ValidateFlowSchemaSubject`: the one of the parts that the kind says, and no other.
fn validate_subject(subject: &Subject, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = match subject.kind.as_str() {
        "ServiceAccount" => validate_account(subject, &path.child("serviceAccount")),
        "User" => {
            let name = subject.user.as_ref().map(|user| user.name.as_str());
            validate_named("User", name, &path.child("user"))
        }
        "Group" => {
            let name = subject.group.as_ref().map(|group| group.name.as_str());
            validate_named("Group", name, &path.child("group"))
        }
        other => {
            let kinds = &["Group", "ServiceAccount", "User"];
            return vec![FieldError::not_supported(&path.child("kind"), other, kinds)];
        }
    };
    for (field, kind, is_there) in [
        ("serviceAccount", "ServiceAccount", subject.service_account.is_some()),
        ("user", "User", subject.user.is_some()),
        ("group", "Group", subject.group.is_some()),
    ] {
        if is_there && kind != subject.kind {
            let detail = format!("{field} is forbidden when subject kind is not '{kind}'");
            errors.push(FieldError::forbidden(&path.child(field), detail));
        }
    }
    errors
}

fn validate_named(kind: &str, name: Option<&str>, path: &FieldPath) -> Vec<FieldError> {
    match name {
        None => {
            let field = kind.to_lowercase();
            let detail = format!("{field} is required when subject kind is '{kind}'");
            vec![FieldError::required(path, detail)]
        }
        Some(name) => present(&path.child("name"), Some(name)).into_iter().collect(),
    }
}

/// Upstream `ValidateServiceAccountSubject`.
fn validate_account(subject: &Subject, path: &FieldPath) -> Vec<FieldError> {
    let Some(account) = &subject.service_account else {
        let detail = "serviceAccount is required when subject kind is 'ServiceAccount'";
        return vec![FieldError::required(path, detail)];
    };
    let (name_path, namespace_path) = (path.child("name"), path.child("namespace"));
    let mut errors = match account.name.as_str() {
        "" => vec![FieldError::required(&name_path, "")],
        ALL => Vec::new(),
        name => invalid(&name_path, name, names::dns1123_subdomain(name)),
    };
    errors.extend(match account.namespace.as_str() {
        "" => {
            let detail = "must specify namespace for service account";
            vec![FieldError::required(&namespace_path, detail)]
        }
        name => invalid(&namespace_path, name, names::dns1123_label(name)),
    });
    errors
}

/// A list is there, and says either `*` or something else.
fn validate_list(
    list: &[String],
    (missing, of): (&str, &str),
    path: &FieldPath,
) -> Option<FieldError> {
    if list.is_empty() {
        return Some(FieldError::required(path, missing));
    }
    let detail = format!("if '*' is present, must not specify other {of}");
    (list.len() > 1 && has_all(list)).then(|| FieldError::invalid(path, to_value(&list), detail))
}

fn has_all(list: &[String]) -> bool {
    list.iter().any(|one| one == ALL)
}

fn validate_verbs(verbs: &[String], path: &FieldPath) -> Option<FieldError> {
    let path = path.child("verbs");
    let words = ("verbs must contain at least one value", "verbs");
    let is_unknown = !has_all(verbs) && verbs.iter().any(|verb| !VERBS.contains(&verb.as_str()));
    validate_list(verbs, words, &path)
        .or_else(|| is_unknown.then(|| FieldError::not_supported(&path, to_value(&verbs), VERBS)))
}

/// Upstream `ValidateFlowSchemaResourcePolicyRule`.
fn validate_resources(rule: &ResourcePolicyRule, path: &FieldPath) -> Vec<FieldError> {
    let mut errors: Vec<_> = validate_verbs(&rule.verbs, path).into_iter().collect();
    let words = ("resource rules must supply at least one api group", "api groups");
    errors.extend(validate_list(&rule.api_groups, words, &path.child("apiGroups")));
    let words = ("resource rules must supply at least one resource", "resources");
    errors.extend(validate_list(&rule.resources, words, &path.child("resources")));
    let path = path.child("namespaces");
    let namespaces = rule.namespaces.as_deref().unwrap_or_default();
    if !namespaces.is_empty() || rule.cluster_scope != Some(true) {
        let missing =
            "resource rules that are not cluster scoped must supply at least one namespace";
        errors.extend(validate_list(namespaces, (missing, "namespaces"), &path));
    }
    if !has_all(namespaces) {
        for (index, namespace) in namespaces.iter().enumerate() {
            for problem in names::dns1123_label(namespace) {
                let detail =
                    format!("each member of this list must be '*' or a DNS-1123 label; {problem}");
                errors.push(FieldError::invalid(&path.index(index), namespace.as_str(), detail));
            }
        }
    }
    errors
}

/// Upstream `ValidateFlowSchemaNonResourcePolicyRule`.
fn validate_paths(rule: &NonResourcePolicyRule, path: &FieldPath) -> Vec<FieldError> {
    let mut errors: Vec<_> = validate_verbs(&rule.verbs, path).into_iter().collect();
    let path = path.child("nonResourceURLs");
    let words = ("nonResourceURLs must contain at least one value", "non-resource URLs");
    let urls = &rule.non_resource_urls;
    errors.extend(validate_list(urls, words, &path));
    if !has_all(urls) {
        let each = urls.iter().enumerate();
        errors.extend(each.filter_map(|(index, url)| validate_path(url, &path.index(index))));
    }
    errors
}

/// Upstream `ValidateNonResourceURLPath`.
fn validate_path(url: &str, path: &FieldPath) -> Option<FieldError> {
    let marks = url.matches('*').count();
    let detail = if url.is_empty() {
        "must not be empty"
    } else if !url.starts_with('/') {
        "must start with slash"
    } else if url.contains(' ') {
        "must not contain white-space"
    } else if url.contains("//") {
        "must not contain double slash"
    } else if marks > 1 || (marks == 1 && !url.ends_with("/*")) {
        "wildcard can only do suffix matching"
    } else {
        return None;
    };
    Some(FieldError::invalid(path, url, detail))
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_status_update};
    use serde_json::{Value, json};

    fn schema(spec: Value) -> Case {
        let object = json!({"metadata": {"name": "x"}, "spec": {
            "priorityLevelConfiguration": {"name": "workload-low"},
        }});
        Case::of("flowschemas", object).with(json!({"spec": spec}))
    }

    fn rules(rule: Value) -> Case {
        schema(json!({"rules": [rule]}))
    }

    #[test]
    fn a_schema_leads_to_a_level_at_its_turn() {
        check(&schema(json!({})), &[]);
        let created = schema(json!({"matchingPrecedence": 0})).created().to_value();
        assert_eq!(created["spec"]["matchingPrecedence"], 1_000);
        check(
            &schema(json!({"matchingPrecedence": -1, "distinguisherMethod": {"type": "ByHost"},
                "priorityLevelConfiguration": {"name": "A"}})),
            &[
                "spec.matchingPrecedence: Invalid value: -1: must be a positive value",
                "spec.distinguisherMethod.type: Unsupported value: {\"type\":\"ByHost\"}: supported values: \"ByNamespace\", \"ByUser\"",
                "spec.priorityLevelConfiguration.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
            ],
        );
        check(
            &schema(
                json!({"matchingPrecedence": 10_001, "priorityLevelConfiguration": {"name": ""}}),
            ),
            &[
                "spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000",
                "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
            ],
        );
        check(
            &schema(json!({"matchingPrecedence": 1})),
            &["spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have"],
        );
    }

    #[test]
    fn what_must_be_may_not_be_otherwise() {
        let exempt = schema(json!({})).with(json!({"metadata": {"name": "exempt"}}));
        check(&exempt, &["spec: Invalid value: {\"matchingPrecedence\":1000,"]);
    }

    #[test]
    fn a_rule_says_who_and_what() {
        check(
            &rules(json!({"subjects": []})),
            &[
                "spec.rules[0].subjects: Required value: subjects must contain at least one value",
                "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
            ],
        );
        let paths = json!([{"verbs": ["get"], "nonResourceURLs": ["/"]}]);
        check(
            &rules(json!({"nonResourceRules": paths, "subjects": [
                {"kind": "User", "user": {"name": ""}, "group": {"name": "g"}},
                {"kind": "Group"}, {"kind": "ServiceAccount"}, {"kind": "Robot"},
                {"kind": "ServiceAccount", "serviceAccount": {"namespace": "", "name": "A"}},
                {"kind": "ServiceAccount", "serviceAccount": {"namespace": "N", "name": "*"}},
            ]})),
            &[
                "spec.rules[0].subjects[0].user.name: Required value",
                "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                "spec.rules[0].subjects[1].group: Required value: group is required when subject kind is 'Group'",
                "spec.rules[0].subjects[2].serviceAccount: Required value: serviceAccount is required when subject kind is 'ServiceAccount'",
                "spec.rules[0].subjects[3].kind: Unsupported value: \"Robot\": supported values: \"Group\", \"ServiceAccount\", \"User\"",
                "spec.rules[0].subjects[4].serviceAccount.name: Invalid value: \"A\"",
                "spec.rules[0].subjects[4].serviceAccount.namespace: Required value: must specify namespace for service account",
                "spec.rules[0].subjects[5].serviceAccount.namespace: Invalid value: \"N\"",
            ],
        );
    }

    #[test]
    fn a_rule_of_resources_is_whole() {
        let of = |rule: Value| {
            let subjects = json!([{"kind": "User", "user": {"name": "u"}}]);
            rules(json!({"subjects": subjects, "resourceRules": [rule]}))
        };
        check(
            &of(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"],
                "clusterScope": true})),
            &[],
        );
        check(
            &of(json!({"verbs": [], "apiGroups": [], "resources": []})),
            &[
                "spec.rules[0].resourceRules[0].verbs: Required value: verbs must contain at least one value",
                "spec.rules[0].resourceRules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "spec.rules[0].resourceRules[0].resources: Required value: resource rules must supply at least one resource",
                "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace",
            ],
        );
        check(
            &of(json!({"verbs": ["*", "get"], "apiGroups": ["*", "a"], "resources": ["*", "a"],
                "namespaces": ["*", "a"]})),
            &[
                "spec.rules[0].resourceRules[0].verbs: Invalid value: [\"*\",\"get\"]: if '*' is present, must not specify other verbs",
                "spec.rules[0].resourceRules[0].apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other api groups",
                "spec.rules[0].resourceRules[0].resources: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other resources",
                "spec.rules[0].resourceRules[0].namespaces: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other namespaces",
            ],
        );
        check(
            &of(json!({"verbs": ["read"], "apiGroups": ["a"], "resources": ["a"],
                "namespaces": ["A"]})),
            &[
                "spec.rules[0].resourceRules[0].verbs: Unsupported value: [\"read\"]: supported values: \"create\", \"delete\",",
                "spec.rules[0].resourceRules[0].namespaces[0]: Invalid value: \"A\": each member of this list must be '*' or a DNS-1123 label; a lowercase",
            ],
        );
    }

    #[test]
    fn a_rule_of_paths_is_whole() {
        let of = |urls: Value| {
            let subjects = json!([{"kind": "User", "user": {"name": "u"}}]);
            let rule = json!({"verbs": ["get"], "nonResourceURLs": urls});
            rules(json!({"subjects": subjects, "nonResourceRules": [rule]}))
        };
        check(&of(json!(["/", "/a/*"])), &[]);
        let at = "spec.rules[0].nonResourceRules[0].nonResourceURLs";
        for (url, why) in [
            ("", "must not be empty"),
            ("a", "must start with slash"),
            ("/a b", "must not contain white-space"),
            ("/a//b", "must not contain double slash"),
            ("/a*", "wildcard can only do suffix matching"),
            ("/*/*", "wildcard can only do suffix matching"),
        ] {
            check(&of(json!([url])), &[&format!("{at}[0]: Invalid value: {url:?}: {why}")]);
        }
        check(
            &of(json!([])),
            &[&format!("{at}: Required value: nonResourceURLs must contain at least one value")],
        );
        check(
            &of(json!(["*", "/a"])),
            &[&format!("{at}: Invalid value: [\"*\",\"/a\"]: if '*' is present, must not")],
        );
    }

    #[test]
    fn conditions_are_of_different_types() {
        let old = schema(json!({}));
        let status = json!({"conditions": [{"type": "Dangling", "status": "True"}, {}, {"type": "Dangling"}]});
        let new = old.with(json!({"status": status}));
        check_status_update(
            &old,
            &new,
            &[
                "status.conditions[1].type: Required value",
                "status.conditions[2].type: Duplicate value: \"Dangling\"",
            ],
        );
        let row = new.decode().row("2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(row[5], "True");
    }
}
