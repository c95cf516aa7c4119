//! Rules in CEL: that they have the form of rules. Whether they can be compiled is asked of whoever
//! knows the language, through one function ([`COMPILE`]).
//!
//! Follows upstream `ValidateCustomResourceDefinitionOpenAPISchema` (apiextensions
//! pkg/apis/apiextensions/validation/validation.go, v1.35) as far as it is about rules.

use crate::api::{FieldError, FieldPath};
use crate::registry::schema::structural::{Structural, find_field};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, ValidationRule,
};

const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Compiles the rules of a schema at a path, and says what is wrong with them. The schema is
/// structural; `is_unchanged` where it was accepted before, so that what it costs is not asked.
pub(super) type CompileRules =
    fn(path: &FieldPath, schema: &Structural, is_unchanged: bool) -> Vec<FieldError>;

/// Whom definitions are given to. Nobody knows the language yet.
pub(super) const COMPILE: CompileRules = |_path, _schema, _is_unchanged| Vec::new();

/// The form of the rules of one schema.
pub(super) fn validate(props: &JSONSchemaProps, path: &FieldPath) -> Vec<FieldError> {
    let rules = props.x_kubernetes_validations.iter().flatten().enumerate();
    let path = path.child("x-kubernetes-validations");
    rules.flat_map(|(index, rule)| validate_rule(rule, props, &path.index(index))).collect()
}

fn validate_rule(
    rule: &ValidationRule,
    props: &JSONSchemaProps,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (message, expression) = (text(&rule.message), text(&rule.message_expression));
    let field_path = text(&rule.field_path);
    let invalid = |name: &str, value: &str, detail: &str| {
        FieldError::invalid(&path.child(name), value, detail)
    };
    if rule.rule.trim().is_empty() {
        errors.push(FieldError::required(&path.child("rule"), "rule is not specified"));
    } else if !message.is_empty() && message.trim().is_empty() {
        errors.push(invalid("message", &message, "must be non-empty if specified"));
    } else if has_breaks(message.trim()) {
        errors.push(invalid("message", &message, "must not contain line breaks"));
    } else if has_breaks(rule.rule.trim()) && message.trim().is_empty() {
        let detail = "message must be specified if rule contains line breaks";
        errors.push(FieldError::required(&path.child("message"), detail));
    }
    if !expression.is_empty() && expression.trim().is_empty() {
        let detail = "messageExpression must be non-empty if specified";
        errors.push(FieldError::required(&path.child("messageExpression"), detail));
    }
    if let Some(reason) = rule.reason.as_deref().filter(|reason| !REASONS.contains(reason)) {
        errors.push(FieldError::not_supported(&path.child("reason"), reason, &REASONS));
    }
    if !field_path.is_empty() && field_path.trim().is_empty() {
        errors.push(invalid("fieldPath", &field_path, "must be non-empty if specified"));
    }
    if has_breaks(&field_path) {
        errors.push(invalid("fieldPath", &field_path, "must not contain line breaks"));
    }
    if !field_path.is_empty() && !is_path(props, &field_path) {
        errors.push(invalid("fieldPath", &field_path, "must be a valid path"));
    }
    errors
}

fn has_breaks(text: &str) -> bool {
    text.contains(['\n', '\r'])
}

/// What is no structural schema has errors of its own.
fn is_path(props: &JSONSchemaProps, path: &str) -> bool {
    Structural::new(props).is_ok_and(|schema| find_field(path, &schema, true).is_ok())
        || Structural::new(props).is_err()
}
