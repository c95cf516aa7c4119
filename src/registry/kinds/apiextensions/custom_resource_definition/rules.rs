//! Rules in CEL: that they have the form of rules, that they can be compiled, and what they may cost.
//!
//! Follows upstream `ValidateCustomResourceDefinitionOpenAPISchema` (apiextensions
//! pkg/apis/apiextensions/validation/validation.go, v1.35) as far as it is about rules. Which
//! expressions were there before makes no difference: see [`validations`].

use super::rule_costs::{COST_MAX, Scope, TotalCost, exceeds};
use crate::api::field::Problem;
use crate::api::{FieldError, FieldPath};
use crate::registry::schema::structural::validations::{self, Compiled, CompiledRule};
use crate::registry::schema::structural::{Structural, find_field};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, ValidationRule,
};
use serde_json::Value;
use std::cell::LazyCell;

/// A version whose rules have more bytes of expressions together is refused: compiled, each takes some
/// hundred bytes of memory for as long as the version is served. Upstream has no such limit; it has
/// one of what the rules may cost, which an expression like `true || true || ..` hardly does.
pub(super) const RULES_BYTES_MAX: usize = 256 * 1024;

const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// The form of the rules of one schema.
pub(super) fn validate(props: &JSONSchemaProps, path: &FieldPath) -> Vec<FieldError> {
    let rules = props.x_kubernetes_validations.iter().flatten().enumerate();
    let path = path.child("x-kubernetes-validations");
    // Made once for thousands of rules, if any of them needs it. What is no structural schema has
    // errors of its own.
    let schema = LazyCell::new(|| Structural::new(props).ok());
    let is_path =
        |text: &str| schema.as_ref().is_none_or(|schema| find_field(text, schema, true).is_ok());
    rules.flat_map(|(index, rule)| validate_rule(rule, &is_path, &path.index(index))).collect()
}

/// How many bytes the expressions of the rules of a schema have, and of those below it.
pub(super) fn bytes(schema: &Structural) -> usize {
    let own = schema.rules().iter().map(|rule| rule.rule.len() + rule.message_expression.len());
    let all = |schemas: &mut dyn Iterator<Item = &Structural>| schemas.map(bytes).sum::<usize>();
    own.sum::<usize>()
        + all(&mut schema.properties().map(|(_, property)| property))
        + all(&mut schema.items().into_iter())
        + all(&mut schema.additional_schema().into_iter())
        + all(&mut schema.checks().into_iter().flat_map(|checks| checks.all_of.iter()))
}

fn validate_rule(
    rule: &ValidationRule,
    is_path: &impl Fn(&str) -> bool,
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
    if !field_path.is_empty() && !is_path(&field_path) {
        errors.push(invalid("fieldPath", &field_path, "must be a valid path"));
    }
    errors
}

fn has_breaks(text: &str) -> bool {
    text.contains(['\n', '\r'])
}

/// Compiles the rules of all schemas of a definition.
#[derive(Debug)]
pub(super) struct Compiler {
    /// Whether the definition was accepted as it is before: what each rule costs is not asked.
    pub(super) is_unchanged: bool,
    pub(super) errors: Vec<FieldError>,
    pub(super) total: TotalCost,
}

impl Compiler {
    pub(super) fn new(is_unchanged: bool) -> Self {
        Self { is_unchanged, errors: Vec::new(), total: TotalCost::default() }
    }

    /// Compiles the rules of one schema. `no_old` is the list above that does not say which of its
    /// elements was which before.
    pub(super) fn compile(
        &mut self,
        props: &JSONSchemaProps,
        scope: &Scope<'_>,
        no_old: Option<&FieldPath>,
        path: &FieldPath,
    ) {
        let rules = props.x_kubernetes_validations.as_deref().unwrap_or_default();
        if rules.is_empty() {
            return;
        }
        let path = path.child("x-kubernetes-validations");
        let Some(declared) = scope.declared() else {
            let detail = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations";
            self.errors.push(internal(&path, detail));
            return;
        };
        let compiled = validations::compile(scope.schema, declared);
        for (index, (rule, compiled)) in rules.iter().zip(&compiled).enumerate() {
            let path = path.index(index);
            match compiled {
                Compiled::Empty => {}
                Compiled::Failed(problem) => {
                    self.errors.push(wrong(&path.child("rule"), rule, problem));
                    self.errors.extend(useless_option(rule, &path));
                }
                Compiled::Rule(compiled) => {
                    self.costs((rule, compiled), scope, &path);
                    if !compiled.uses_old_self {
                        self.errors.extend(useless_option(rule, &path));
                    } else if let Some(above) = no_old {
                        let detail = format!(
                            "oldSelf cannot be used on the uncorrelatable portion of the schema within {above}"
                        );
                        let path = path.child("rule");
                        self.errors.push(FieldError::invalid(&path, rule.rule.as_str(), detail));
                    }
                }
            }
        }
    }

    fn costs(
        &mut self,
        (rule, compiled): (&ValidationRule, &CompiledRule),
        scope: &Scope<'_>,
        path: &FieldPath,
    ) {
        let cost = scope.total(compiled.program.estimated_cost().max);
        self.cost("estimated rule cost", cost, &path.child("rule"));
        let path = path.child("messageExpression");
        match &compiled.message {
            None => {}
            Some(Err(problem)) => self.errors.push(wrong(&path, rule, problem)),
            Some(Ok(program)) => {
                let cost = program.estimated_cost().max;
                self.cost("estimated messageExpression cost", cost, &path);
            }
        }
    }

    fn cost(&mut self, name: &str, cost: u64, path: &FieldPath) {
        if !self.is_unchanged && cost > COST_MAX {
            self.errors.push(FieldError::forbidden(path, exceeds(name, cost, COST_MAX)));
        }
        self.total.add(path, cost);
    }
}

fn useless_option(rule: &ValidationRule, path: &FieldPath) -> Option<FieldError> {
    let detail = "may not be set if oldSelf is not used in rule";
    let path = path.child("optionalOldSelf");
    rule.optional_old_self.map(|set| FieldError::invalid(&path, set, detail))
}

/// An error that tells all of a rule.
fn wrong(path: &FieldPath, rule: &ValidationRule, problem: &str) -> FieldError {
    FieldError::invalid_unprinted(path, format!("{}: {problem}", in_go(rule)))
}

/// A rule as Go's JSON has it of upstream's internal type.
fn in_go(rule: &ValidationRule) -> String {
    let text = |text: &Option<String>| Value::from(text.as_deref().unwrap_or_default());
    let fields = [
        ("Rule", Value::from(rule.rule.as_str())),
        ("Message", text(&rule.message)),
        ("MessageExpression", text(&rule.message_expression)),
        ("Reason", Value::from(rule.reason.as_deref())),
        ("FieldPath", text(&rule.field_path)),
        ("OptionalOldSelf", Value::from(rule.optional_old_self)),
    ];
    let fields = fields.map(|(name, value)| format!("\"{name}\":{value}"));
    let shown = format!("{{{}}}", fields.join(","));
    shown.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn internal(path: &FieldPath, detail: &str) -> FieldError {
    FieldError {
        path: path.clone(),
        problem: Problem::Internal,
        value: None,
        detail: detail.to_owned(),
    }
}
