//! Holds rules against an object (upstream `Validator.Validate`, apiextensions
//! pkg/apiserver/schema/cel/validation.go, v1.35).

use super::super::node::{Rule, Structural, Type};
use super::super::place::Place;
use super::super::validate::correlate::{Correlated, Elements};
use super::super::validate::nowhere;
use super::compile::{Compiled, CompiledRule, is_optional};
use super::rules::{Node, Rules};
use super::{OLD_SELF, SELF};
use crate::api::field::{ERRORS_MAX, Problem};
use crate::api::{FieldError, FieldPath};
use crate::cel::{Budget, Fault, Output, Program, Value, evaluate};
use serde_json::{Map, Value as Json};
use std::cell::OnceCell;
use std::sync::Arc;

/// A longer message is not shown (upstream `MaxEvaluatedMessageExpressionSizeBytes`).
const MESSAGE_BYTES_MAX: usize = 5 * 1024;

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// What rules are held against.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What the rules were compiled of.
    pub schema: &'a Structural,
    pub value: &'a Json,
    pub before: Before<'a>,
}

/// What was there before.
#[derive(Clone, Copy, Debug)]
pub enum Before<'a> {
    Nothing,
    /// For rules to compare with; everything counts as new.
    Compared(&'a Json),
    /// What was wrong before and has not changed is tolerated (KEP-4008).
    Tolerated(&'a Json),
}

/// What rules have against an object.
#[derive(Debug, Default)]
pub struct Finding {
    pub errors: Vec<FieldError>,
    /// What is wrong and tolerated.
    pub warnings: Vec<String>,
    /// What may still be spent; `None` where it did not suffice, and rules were left out.
    pub budget: Option<u64>,
}

impl Rules {
    /// What the rules have against an object at a path. They may cost no more than `budget`.
    #[must_use]
    pub fn check(&self, subject: Subject<'_>, path: &FieldPath, budget: u64) -> Finding {
        let mut checker =
            Checker { finding: Finding { budget: Some(budget), ..Finding::default() } };
        let (old, known) = match subject.before {
            Before::Nothing => (None, None),
            Before::Compared(old) => (Some(old), None),
            Before::Tolerated(old) => {
                let (new, schema) = (subject.value, subject.schema);
                (Some(old), Some(Known::of(Correlated { new, old, schema })))
            }
        };
        let past = Past { old, known: known.as_ref(), above: None };
        // A rule that takes all that there is ends it.
        let _is_over =
            checker.visit(&self.root, (subject.schema, subject.value), past, Place::Root(path));
        checker.finding
    }
}

/// A value with what it was before; whether that is the same is found out once.
struct Known<'a> {
    correlated: Correlated<'a>,
    is_unchanged: OnceCell<bool>,
}

impl<'a> Known<'a> {
    fn of(correlated: Correlated<'a>) -> Self {
        Self { correlated, is_unchanged: OnceCell::new() }
    }

    fn is_unchanged(&self) -> bool {
        *self.is_unchanged.get_or_init(|| self.correlated.is_unchanged())
    }
}

/// What a part of an object was before.
#[derive(Clone, Copy)]
struct Past<'k, 'a> {
    old: Option<&'a Json>,
    known: Option<&'k Known<'a>>,
    /// Of the nearest part above this one whose past is known (upstream `ratchetingOptions`).
    above: Option<&'k Known<'a>>,
}

impl<'k, 'a> Past<'k, 'a> {
    /// Whether errors here were there before (upstream `shouldRatchetError`).
    fn is_unchanged(&self) -> bool {
        self.known.or(self.above).is_some_and(Known::is_unchanged)
    }

    /// The past of a part of this, which `known` may know.
    fn part(&self, old: Option<&'a Json>, known: Option<&'k Known<'a>>) -> Self {
        let old = old.filter(|old| !old.is_null());
        Self { old, known, above: self.known.or(self.above) }
    }

    /// What is known of a property. Version and kind are as the request has them, in both objects.
    fn key(&self, name: &str) -> Option<Known<'a>> {
        let is_type = self.above.is_none() && matches!(name, "apiVersion" | "kind");
        let known = self.known.filter(|_| !is_type)?;
        known.correlated.key(name).map(Known::of)
    }

    fn is_type_of_root(&self, name: &str) -> bool {
        self.known.is_some() && self.above.is_none() && matches!(name, "apiVersion" | "kind")
    }
}

/// Nothing more is evaluated.
struct Over;

struct Checker {
    finding: Finding,
}

/// A schema with rules, with a value of it.
type At<'a> = (&'a Structural, &'a Json);

impl Checker {
    fn visit<'a>(
        &mut self,
        node: &Node,
        (schema, value): At<'a>,
        past: Past<'_, 'a>,
        place: Place<'_>,
    ) -> Result<(), Over> {
        // Whether there may be none is a rule of what it is in.
        if value.is_null() {
            return Ok(());
        }
        if self.finding.errors.len() >= ERRORS_MAX {
            return self.over();
        }
        if !schema.rules().is_empty() {
            self.rules(node, (schema, value), past, place)?;
        }
        match value {
            Json::Object(object) => self.object(node, (schema, object), past, place),
            Json::Array(list) => self.list(node, (schema, list), past, place),
            _ => Ok(()),
        }
    }

    fn object<'a>(
        &mut self,
        node: &Node,
        (schema, object): (&'a Structural, &'a Map<String, Json>),
        past: Past<'_, 'a>,
        place: Place<'_>,
    ) -> Result<(), Over> {
        if node.additional.is_none() && node.properties.is_empty() {
            return Ok(());
        }
        let old = past.old.and_then(Json::as_object);
        for (name, value) in object {
            let additional = node.additional.as_deref().zip(schema.additional_schema());
            let property = node.property(name).zip(schema.property(name));
            let below = [
                additional.map(|below| (below, place.key(name))),
                property.map(|below| (below, place.child(name))),
            ];
            for ((node, schema), place) in below.into_iter().flatten() {
                let known = past.key(name);
                let mut part = past.part(old.and_then(|old| old.get(name)), known.as_ref());
                if past.is_type_of_root(name) {
                    part.above = None;
                }
                self.visit(node, (schema, value), part, place)?;
            }
        }
        Ok(())
    }

    fn list<'a>(
        &mut self,
        node: &Node,
        (schema, list): (&'a Structural, &'a [Json]),
        past: Past<'_, 'a>,
        place: Place<'_>,
    ) -> Result<(), Over> {
        let Some((node, items)) = node.items.as_deref().zip(schema.items()) else { return Ok(()) };
        let old = past.old.and_then(Json::as_array).map(|old| Elements::of(schema, old));
        for (index, value) in list.iter().enumerate() {
            let old = old.as_ref().and_then(|old| old.find(value));
            let correlated =
                past.known.and(old).map(|old| Correlated { new: value, old, schema: items });
            let known = correlated.map(Known::of);
            let part = past.part(old, known.as_ref());
            self.visit(node, (items, value), part, place.index(index))?;
        }
        Ok(())
    }

    /// The rules of one schema (upstream `validateExpressions`).
    fn rules<'a>(
        &mut self,
        node: &Node,
        at: At<'a>,
        past: Past<'_, 'a>,
        place: Place<'_>,
    ) -> Result<(), Over> {
        let (schema, value) = at;
        let Some(declared) = &node.declared else {
            let problem = "rule compiler initialization error: failed to convert to declType for CEL validation rules";
            self.invalid((schema, place), problem);
            return Ok(());
        };
        if self.finding.budget.unwrap_or_default() == 0 {
            return self.stop((schema, place), OUT_OF_BUDGET);
        }
        let own = Value::of_json(value, declared);
        let old = past.old.filter(|_| node.uses_old_self);
        let old = old.map(|old| Value::of_json(old, declared));
        let variables = Variables { own, old, has_old: past.old.is_some() };
        for (rule, compiled) in schema.rules().iter().zip(&node.rules) {
            let compiled = match compiled {
                Compiled::Empty => continue,
                Compiled::Failed(problem) => {
                    self.invalid((schema, place), &format!("rule compile error: {problem}"));
                    continue;
                }
                Compiled::Rule(compiled) => &**compiled,
            };
            // Rules about a change are for changes, unless they say otherwise.
            if compiled.uses_old_self && !variables.has_old && !is_optional(rule) {
                continue;
            }
            if self.holds((rule, compiled), &variables, (schema, place))? {
                continue;
            }
            let error = self.failed((rule, compiled), &variables, (at, place));
            let is_last = error.is_err();
            let (Ok(error) | Err(error)) = error;
            if !compiled.uses_old_self && past.is_unchanged() {
                if self.finding.warnings.len() < ERRORS_MAX {
                    self.finding.warnings.push(error.to_string());
                }
            } else {
                self.finding.errors.push(error);
            }
            if is_last {
                return self.over();
            }
        }
        Ok(())
    }

    /// Whether a rule holds. Where that cannot be told, this has been reported.
    fn holds(
        &mut self,
        (rule, compiled): (&Rule, &CompiledRule),
        variables: &Variables<'_>,
        (schema, place): (&Structural, Place<'_>),
    ) -> Result<bool, Over> {
        let output = variables.evaluate(&compiled.program, is_optional(rule));
        if !self.charge(output.cost) {
            self.stop((schema, place), OUT_OF_BUDGET)?;
        }
        let shown = shown(rule);
        match output.result {
            Ok(Value::Bool(holds)) => return Ok(holds),
            Ok(_) => return Ok(false),
            Err(fault @ Fault::CostExceeded) => {
                let detail = format!(
                    "'{fault}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}"
                );
                self.stop((schema, place), &detail)?;
            }
            Err(fault) if fault.is_no_overload() => {
                let detail = format!(
                    "'{fault}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
                );
                self.invalid((schema, place), &detail);
            }
            Err(fault) => {
                self.invalid((schema, place), &format!("{fault} evaluating rule: {shown}"));
            }
        }
        Ok(true)
    }

    /// The error of a rule that does not hold; `Err` where no more may be evaluated.
    fn failed(
        &mut self,
        (rule, compiled): (&Rule, &CompiledRule),
        variables: &Variables<'_>,
        ((schema, value), place): (At<'_>, Place<'_>),
    ) -> Result<FieldError, FieldError> {
        let mut path = place.path();
        if let Some(field) = &compiled.field_path {
            path = path.child(field);
        }
        let path = if path == FieldPath::default() { nowhere() } else { path };
        let mut detail = None;
        if let Some(Ok(program)) = &compiled.message {
            let output = variables.evaluate(program, false);
            if !self.charge(output.cost) {
                let detail = "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run";
                return Err(FieldError::invalid(&path, schema.type_name(), detail));
            }
            if matches!(output.result, Err(Fault::CostExceeded)) {
                let detail = format!(
                    "no further validation rules will be run due to call cost exceeds limit for messageExpression: {:?}",
                    rule.message_expression
                );
                return Err(FieldError::invalid(&path, schema.type_name(), detail));
            }
            detail = output.result.ok().as_ref().and_then(message);
        }
        let detail = detail.unwrap_or_else(|| default_message(rule));
        let is_large = matches!(schema.kind(), Type::Object | Type::Array);
        let value = (!is_large).then(|| value.clone());
        Ok(match &*rule.reason {
            "FieldValueForbidden" => FieldError::forbidden(&path, detail),
            "FieldValueRequired" => FieldError::required(&path, detail),
            "FieldValueDuplicate" => {
                FieldError { path, problem: Problem::Duplicate, value, detail: String::new() }
            }
            _ => FieldError { path, problem: Problem::Invalid, value, detail },
        })
    }

    /// Whether there was enough left.
    fn charge(&mut self, cost: u64) -> bool {
        self.finding.budget = self.finding.budget.and_then(|left| left.checked_sub(cost));
        self.finding.budget.is_some()
    }

    /// An error that tells the type in place of the value.
    fn invalid(&mut self, (schema, place): (&Structural, Place<'_>), detail: &str) {
        let path = place.path();
        let path = if path == FieldPath::default() { nowhere() } else { path };
        self.finding.errors.push(FieldError::invalid(&path, schema.type_name(), detail));
    }

    fn stop(&mut self, at: (&Structural, Place<'_>), detail: &str) -> Result<(), Over> {
        self.invalid(at, detail);
        self.over()
    }

    fn over(&mut self) -> Result<(), Over> {
        self.finding.budget = None;
        Err(Over)
    }
}

/// What the rules of one value see.
struct Variables<'a> {
    own: Result<Value<'a>, Fault>,
    /// `None` where no rule asks for it.
    old: Option<Result<Value<'a>, Fault>>,
    has_old: bool,
}

impl<'a> Variables<'a> {
    fn evaluate(&self, program: &Program, is_optional: bool) -> Output<'a> {
        let own = (SELF, self.own.clone());
        let old = match (&self.old, is_optional) {
            (None, false) => return evaluate(program, &[own], Budget::CALL),
            (None, true) => Ok(Value::Optional(None)),
            (Some(old), false) => old.clone(),
            (Some(old), true) => old.clone().map(|old| Value::Optional(Some(Arc::new(old)))),
        };
        evaluate(program, &[own, (OLD_SELF, old)], Budget::CALL)
    }
}

/// What a message expression says, where that is of use (upstream `evalMessageExpression`).
fn message(value: &Value<'_>) -> Option<String> {
    let text = value.as_text()?.trim();
    let is_fit = !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n');
    is_fit.then(|| text.to_owned())
}

/// Upstream `ruleMessageOrDefault`.
fn default_message(rule: &Rule) -> String {
    match &*rule.message {
        "" => format!("failed rule: {}", shown(rule)),
        message => message.trim().to_owned(),
    }
}

/// Upstream `ruleErrorString`.
fn shown(rule: &Rule) -> &str {
    match &*rule.message {
        "" => rule.rule.trim(),
        message => message.trim(),
    }
}
