//! ValidatingAdmissionPolicies: what requests must be like, said in CEL.
//!
//! Follows upstream `validateValidatingAdmissionPolicySpec`
//! (pkg/apis/admissionregistration/validation, v1.35). Whether somebody may read the kind of
//! parameters that he names is not looked at.

use super::expressions::{self, Outcome, Variables, Vocabulary};
use super::{EXTENSIONS, FAILURE_POLICIES, matching};
use crate::api::{FieldError, FieldPath, names};
use crate::cel::Declared;
use crate::registry::checks::{conditions, invalid, one_of, present, to_value};
use crate::registry::managed::Resets;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{
    BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves, metadata,
};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    AuditAnnotation, ParamKind, TypeChecking, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicySpec, Validation, Variable,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// More annotations are refused.
const AUDIT_ANNOTATIONS_MAX: usize = 20;
/// A longer expression of an annotation is refused.
const AUDIT_EXPRESSION_BYTES_MAX: usize = 5 * 1024;

const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];

impl Resource for ValidatingAdmissionPolicy {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "validatingadmissionpolicy",
        categories: EXTENSIONS,
        subresources: &[Subresource::STATUS],
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::VALIDATING_ADMISSION_POLICY;
    const HALVES: Halves<Self> = halves!();
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::integer("Validations", "How many rules there are."),
        Column::text("ParamKind", "The kind of objects that have the policy's parameters."),
        Column::AGE,
    ];
    const UPDATES_UNCONDITIONALLY: bool = false;

    fn resets(subresource: &str) -> Resets {
        Resets::of_bare_status(subresource)
    }

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.failure_policy.get_or_insert_with(|| "Fail".to_owned());
        spec.match_constraints.iter_mut().for_each(matching::apply_defaults);
        self.status.get_or_insert_default();
    }

    fn prepare_status_update(&mut self, old: &Self) {
        metadata::keep_for_status(&mut self.metadata, &old.metadata);
    }

    fn validate_create(&self) -> Vec<FieldError> {
        validate(self, None)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        validate(self, old.spec.as_ref())
    }

    fn validate_status_update(&self, _old: &Self) -> Vec<FieldError> {
        let status = self.status.clone().unwrap_or_default();
        let path = FieldPath::new("status");
        let checking_path = path.child("typeChecking");
        let checking = status.type_checking.iter();
        let mut errors: Vec<_> =
            checking.flat_map(|it| validate_type_checking(it, &checking_path)).collect();
        let told = status.conditions.as_deref().unwrap_or_default();
        errors.extend(conditions(told, &path.child("conditions")));
        errors
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let kind = spec.param_kind.map(|kind| {
            let text = |text: Option<String>| text.unwrap_or_default();
            format!("{}/{}", text(kind.api_version), text(kind.kind))
        });
        vec![
            cells::name(&self.metadata),
            spec.validations.map_or(0, |validations| validations.len()).into(),
            kind.unwrap_or_else(|| "<unset>".to_owned()).into(),
            cells::age(&self.metadata, now),
        ]
    }
}

fn validate(
    policy: &ValidatingAdmissionPolicy,
    old: Option<&ValidatingAdmissionPolicySpec>,
) -> Vec<FieldError> {
    let spec = policy.spec.clone().unwrap_or_default();
    let path = FieldPath::new("spec");
    let mut errors = Vec::new();
    let failure_path = path.child("failurePolicy");
    match spec.failure_policy.as_deref() {
        None => errors.push(FieldError::required(&failure_path, "")),
        Some(chosen) => errors.extend(one_of(&failure_path, chosen, FAILURE_POLICIES)),
    }
    let kind = spec.param_kind.iter();
    errors.extend(kind.flat_map(|it| validate_param_kind(it, &path.child("paramKind"))));
    let constraints_path = path.child("matchConstraints");
    match &spec.match_constraints {
        None => errors.push(FieldError::required(&constraints_path, "")),
        Some(constraints) => {
            errors.extend(matching::validate_resources(constraints, &constraints_path));
            if constraints.resource_rules.as_ref().is_none_or(Vec::is_empty) {
                let path = constraints_path.child("resourceRules");
                errors.push(FieldError::required(&path, ""));
            }
        }
    }
    let has_params = spec.param_kind.is_some();
    let are_conditions_kept = old.is_some_and(|old| {
        (&old.param_kind, &old.match_conditions) == (&spec.param_kind, &spec.match_conditions)
    });
    if !are_conditions_kept {
        let conditions = spec.match_conditions.as_deref().unwrap_or_default();
        let path = path.child("matchConditions");
        errors.extend(expressions::validate_match_conditions(conditions, has_params, &path));
    }
    let variables = spec.variables.as_deref().unwrap_or_default();
    let mut known = Arc::new(Variables::new());
    for (index, variable) in variables.iter().enumerate() {
        let path = path.child("variables").index(index);
        let vocabulary = Vocabulary { has_params, has_authorizer: true, variables: Some(&known) };
        let (declared, found) = validate_variable(variable, vocabulary, &path);
        errors.extend(found);
        // Nobody else has them between two expressions, so nothing is copied here.
        let all = Arc::make_mut(&mut known);
        all.extend(declared.map(|declared| (variable.name.clone(), declared)));
    }
    let known = Some(&known).filter(|_| !variables.is_empty());
    let vocabulary = Vocabulary { has_params, has_authorizer: true, variables: known };
    let name = policy.metadata.name.as_deref().unwrap_or_default();
    errors.extend(validate_demands(&spec, name, vocabulary, &path));
    errors
}

/// What the policy demands, and what it writes down.
fn validate_demands(
    spec: &ValidatingAdmissionPolicySpec,
    name: &str,
    vocabulary: Vocabulary<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let validations = spec.validations.as_deref().unwrap_or_default();
    let annotations = spec.audit_annotations.as_deref().unwrap_or_default();
    let (validations_path, annotations_path) =
        (path.child("validations"), path.child("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        let missing = |path| FieldError::required(path, detail);
        return vec![missing(&validations_path), missing(&annotations_path)];
    }
    let mut errors = Vec::new();
    for (index, validation) in validations.iter().enumerate() {
        let path = validations_path.index(index);
        errors.extend(validate_validation(validation, vocabulary, &path));
    }
    if annotations.len() > AUDIT_ANNOTATIONS_MAX {
        let detail = format!("must not have more than {AUDIT_ANNOTATIONS_MAX} auditAnnotations");
        errors.push(FieldError::invalid(&annotations_path, to_value(&annotations), detail));
    }
    let mut seen = BTreeSet::new();
    for (index, annotation) in annotations.iter().enumerate() {
        let path = annotations_path.index(index);
        errors.extend(validate_annotation(annotation, name, vocabulary, &path));
        if !seen.insert(&annotation.key) {
            errors.push(FieldError::duplicate(&path.child("key"), annotation.key.as_str()));
        }
    }
    errors
}

/// Upstream `validateParamKind`.
fn validate_param_kind(param: &ParamKind, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let version_path = path.child("apiVersion");
    match param.api_version.as_deref().unwrap_or_default() {
        "" => errors.push(FieldError::required(&version_path, "")),
        text => errors.extend(validate_api_version(text, &version_path)),
    }
    let kind_path = path.child("kind");
    let kind = param.kind.as_deref().unwrap_or_default();
    let problems = names::dns1035_label(&kind.to_lowercase());
    if kind.is_empty() {
        errors.push(FieldError::required(&kind_path, ""));
    } else if !problems.is_empty() {
        let problems = problems.join(",");
        let detail = format!("may have mixed case, but should otherwise match: {problems}");
        errors.push(FieldError::invalid(&kind_path, kind, detail));
    }
    errors
}

fn validate_api_version(text: &str, path: &FieldPath) -> Vec<FieldError> {
    let (group, version) = match text.split('/').collect::<Vec<_>>()[..] {
        [version] => ("", version),
        [group, version] => (group, version),
        _ => {
            let detail = format!("unexpected GroupVersion string: {text}");
            return vec![FieldError::invalid(path, text, detail)];
        }
    };
    let wrong = |part: &str, problems: Vec<String>| {
        (!problems.is_empty()).then(|| FieldError::invalid(path, part, problems.join(",")))
    };
    let mut errors = Vec::new();
    if !group.is_empty() {
        errors.extend(wrong(group, names::dns1123_subdomain(group)));
    }
    errors.extend(match version {
        "" => Some(FieldError::invalid(path, text, "version must be specified")),
        version => wrong(version, names::dns1035_label(version)),
    });
    errors
}

/// What a variable is, and what is wrong with it (upstream `validateVariable`).
fn validate_variable(
    variable: &Variable,
    vocabulary: Vocabulary<'_>,
    path: &FieldPath,
) -> (Option<Arc<Declared>>, Vec<FieldError>) {
    let mut errors = Vec::new();
    let (name_path, expression_path) = (path.child("name"), path.child("expression"));
    let name = variable.name.as_str();
    if name.trim().is_empty() {
        errors.push(FieldError::required(&name_path, "name is not specified"));
    } else if !expressions::is_identifier(name) {
        errors.push(FieldError::invalid(&name_path, name, "must be a valid CEL identifier"));
    }
    let expression = variable.expression.as_str();
    if expression.trim().is_empty() {
        errors.push(FieldError::required(&expression_path, "expression is not specified"));
        return (None, errors);
    }
    let ty = expressions::compile(expression, vocabulary, Outcome::Any, &expression_path);
    let declared = expressions::declared(ty.as_ref().ok());
    errors.extend(ty.err());
    (Some(declared), errors)
}

/// Upstream `validateValidation`.
fn validate_validation(
    validation: &Validation,
    vocabulary: Vocabulary<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let expression_path = path.child("expression");
    let expression = validation.expression.as_str();
    if expression.trim().is_empty() {
        errors.push(FieldError::required(&expression_path, "expression is not specified"));
    } else {
        let outcome = Outcome::Bool;
        errors.extend(expressions::validate(expression, vocabulary, outcome, &expression_path));
    }
    let blank = "must be non-empty if specified";
    if let Some(text) = validation.message_expression.as_deref().filter(|text| !text.is_empty()) {
        let path = path.child("messageExpression");
        if text.trim().is_empty() {
            errors.push(FieldError::invalid(&path, text, blank));
        } else {
            let vocabulary = Vocabulary { has_authorizer: false, ..vocabulary };
            errors.extend(expressions::validate(text, vocabulary, Outcome::String, &path));
        }
    }
    if let Some(text) = validation.message.as_deref().filter(|text| !text.is_empty()) {
        let path = path.child("message");
        match text.trim() {
            "" => errors.push(FieldError::invalid(&path, text, blank)),
            trimmed if trimmed.contains(['\n', '\r']) => {
                errors.push(FieldError::invalid(&path, text, "must not contain line breaks"));
            }
            _ => {}
        }
    }
    let reason = validation.reason.as_deref();
    errors.extend(reason.and_then(|reason| one_of(&path.child("reason"), reason, REASONS)));
    errors
}

/// Upstream `validateAuditAnnotation`.
fn validate_annotation(
    annotation: &AuditAnnotation,
    policy: &str,
    vocabulary: Vocabulary<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let key_path = path.child("key");
    if policy.is_empty() {
        let detail = "requires metadata.name be non-empty";
        errors.push(FieldError::invalid(&key_path, annotation.key.as_str(), detail));
    } else {
        let key = format!("{policy}/{}", annotation.key);
        errors.extend(invalid(&key_path, &key, names::qualified_name(&key)));
    }
    let path = path.child("valueExpression");
    match annotation.value_expression.trim() {
        "" => errors.push(FieldError::required(&path, "valueExpression is not specified")),
        text if text.len() > AUDIT_EXPRESSION_BYTES_MAX => {
            let detail = format!("must not exceed {AUDIT_EXPRESSION_BYTES_MAX} bytes in length");
            errors.push(FieldError::required(&path, detail));
        }
        text => {
            let outcome = Outcome::StringOrNull;
            errors.extend(expressions::validate(text, vocabulary, outcome, &path));
        }
    }
    errors
}

/// Upstream `validateTypeChecking`. That a reference is a JSONPath is not looked at: it is shown to
/// people, and nothing here follows it.
fn validate_type_checking(checking: &TypeChecking, path: &FieldPath) -> Vec<FieldError> {
    let path = path.child("expressionWarnings");
    let mut errors = Vec::new();
    for (index, warning) in checking.expression_warnings.iter().flatten().enumerate() {
        let path = path.index(index);
        errors.extend(present(&path.child("warning"), Some(&warning.warning)));
        errors.extend(present(&path.child("fieldRef"), Some(warning.field_ref.trim())));
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_status_update, check_update};
    use serde_json::{Value, json};

    fn policy(spec: Value) -> Case {
        let rule = json!({
            "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["pods"],
        });
        let object = json!({"metadata": {"name": "p"}, "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "true"}],
        }});
        Case::of("validatingadmissionpolicies", object).with(json!({"spec": spec}))
    }

    #[test]
    fn a_policy_says_what_it_is_about_and_what_it_demands() {
        check(&policy(json!({})), &[]);
        check(
            &policy(json!({"failurePolicy": "Maybe", "matchConstraints": null,
                "validations": null, "matchConditions": [{"name": "a", "expression": ""}]})),
            &[
                "spec.failurePolicy: Unsupported value: \"Maybe\": supported values: \"Fail\", \"Ignore\"",
                "spec.matchConstraints: Required value",
                "spec.matchConditions[0].expression: Required value",
                "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
            ],
        );
        check(
            &policy(json!({"matchConstraints": {"resourceRules": []}})),
            &["spec.matchConstraints.resourceRules: Required value"],
        );
        check(
            &policy(json!({
                "variables": [{"name": "in", "expression": "1"}, {"name": " ", "expression": ""}],
                "validations": [
                    {"expression": " ", "message": " ", "messageExpression": " ", "reason": "No"},
                    {"expression": "true", "message": "a\nb", "reason": "Forbidden"},
                ],
            })),
            &[
                "spec.variables[0].name: Invalid value: \"in\": must be a valid CEL identifier",
                "spec.variables[1].name: Required value: name is not specified",
                "spec.variables[1].expression: Required value: expression is not specified",
                "spec.validations[0].expression: Required value: expression is not specified",
                "spec.validations[0].messageExpression: Invalid value: \" \": must be non-empty if specified",
                "spec.validations[0].message: Invalid value: \" \": must be non-empty if specified",
                "spec.validations[0].reason: Unsupported value: \"No\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
                "spec.validations[1].message: Invalid value: \"a\\nb\": must not contain line breaks",
            ],
        );
    }

    #[test]
    fn expressions_are_of_their_type_and_speak_of_what_there_is() {
        let demanding = |validation: Value| {
            policy(json!({
                "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
                "variables": [
                    {"name": "count", "expression": "object.spec.replicas.size()"},
                    {"name": "many", "expression": "variables.count > 3"},
                ],
                "validations": [validation],
            }))
        };
        check(
            &demanding(json!({"expression": "!variables.many && params.data.max == 'x'",
                "messageExpression": "string(variables.count)"})),
            &[],
        );
        check(
            &demanding(json!({"expression": "variables.count", "messageExpression": "authorizer"})),
            &[
                "spec.validations[0].expression: Invalid value: \"variables.count\": must evaluate to bool but got int",
                "spec.validations[0].messageExpression: Invalid value: \"authorizer\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'authorizer'",
            ],
        );
        check(
            &policy(json!({"variables": [
                {"name": "a", "expression": "variables.b"}, {"name": "b", "expression": "1"},
            ], "validations": [{"expression": "params == null"}]})),
            &[
                "spec.variables[0].expression: Invalid value: \"variables.b\": compilation failed: ERROR: <input>:1:10: undefined field 'b'",
                "spec.validations[0].expression: Invalid value: \"params == null\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params'",
            ],
        );
    }

    #[test]
    fn parameters_are_of_a_kind() {
        let kind = |version: &str, kind: &str| {
            policy(json!({"paramKind": {"apiVersion": version, "kind": kind}}))
        };
        check(&kind("v1", "ConfigMap"), &[]);
        check(&kind("a.io/v1", "Rule"), &[]);
        check(
            &kind("", ""),
            &["spec.paramKind.apiVersion: Required value", "spec.paramKind.kind: Required value"],
        );
        check(
            &kind("a/b/c", "A-"),
            &[
                "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                "spec.paramKind.kind: Invalid value: \"A-\": may have mixed case, but should otherwise match: a DNS-1035 label",
            ],
        );
        check(
            &kind("A/1", "K"),
            &[
                "spec.paramKind.apiVersion: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
                "spec.paramKind.apiVersion: Invalid value: \"1\": a DNS-1035 label",
            ],
        );
        check(
            &kind("a.io/", "K"),
            &["spec.paramKind.apiVersion: Invalid value: \"a.io/\": version must be specified"],
        );
    }

    #[test]
    fn annotations_have_keys_of_their_own_and_values() {
        let annotations = |list: Value| policy(json!({"auditAnnotations": list}));
        check(&annotations(json!([{"key": "a", "valueExpression": "'x'"}])), &[]);
        let long = "x".repeat(5 * 1024 + 1);
        check(
            &annotations(json!([
                {"key": "a", "valueExpression": ""}, {"key": "a", "valueExpression": long},
                {"key": "-", "valueExpression": "'x'"},
            ])),
            &[
                "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified",
                "spec.auditAnnotations[1].valueExpression: Required value: must not exceed 5120 bytes in length",
                "spec.auditAnnotations[1].key: Duplicate value: \"a\"",
                "spec.auditAnnotations[2].key: Invalid value: \"p/-\": name part must consist of",
            ],
        );
        let many: Vec<_> =
            (0..21).map(|n| json!({"key": format!("k{n}"), "valueExpression": "'x'"})).collect();
        check(&annotations(json!(many)), &["spec.auditAnnotations: Invalid value: [{"]);
    }

    #[test]
    fn a_change_is_a_new_generation_and_as_whole_as_the_first() {
        let old = policy(json!({}));
        check_update(&old, &policy(json!({"failurePolicy": "Ignore"})), &[]);
        check_update(
            &old,
            &policy(json!({"matchConstraints": null})),
            &["spec.matchConstraints: Required value"],
        );
        let new = policy(json!({"failurePolicy": "Ignore"})).created();
        assert!(new.is_new_generation(&*old.created()));
    }

    #[test]
    fn warnings_in_the_status_say_where_and_what() {
        let old = policy(json!({}));
        let status = json!({"typeChecking": {"expressionWarnings": [
            {"fieldRef": "spec.validations[0].expression", "warning": "no"},
            {"fieldRef": " ", "warning": ""},
        ]}, "conditions": [{"type": "", "status": "True", "reason": "R", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        check_status_update(
            &old,
            &old.with(json!({"status": status})),
            &[
                "status.typeChecking.expressionWarnings[1].warning: Required value",
                "status.typeChecking.expressionWarnings[1].fieldRef: Required value",
                "status.conditions[0].type: Invalid value: \"\": name part must be non-empty",
                "status.conditions[0].type: Invalid value: \"\": name part must consist of",
            ],
        );
    }
}
