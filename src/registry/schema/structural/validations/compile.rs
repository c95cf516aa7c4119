//! Makes the rules of one schema programs (upstream `Compile`, apiextensions
//! pkg/apiserver/schema/cel/compilation.go, v1.35).

use super::super::field_path::find_field;
use super::super::node::{Rule, Structural};
use super::{OLD_SELF, SELF};
use crate::cel::{CompileError, Declared, Environment, Program, Type};
use std::sync::Arc;

/// What became of a rule.
#[derive(Debug)]
pub enum Compiled {
    /// There was nothing to compile.
    Empty,
    /// Why it is no rule.
    Failed(String),
    Rule(Box<CompiledRule>),
}

/// A rule that can be evaluated.
#[derive(Debug)]
pub struct CompiledRule {
    pub program: Program,
    /// What makes the message; or why nothing does.
    pub message: Option<Result<Program, String>>,
    /// Whether it compares with what was there before.
    pub uses_old_self: bool,
    /// The field that it is about, below its own place.
    pub(super) field_path: Option<Box<str>>,
}

/// Compiles the rules of `schema`, whose values are `declared`. What it says of others below is not
/// looked at.
#[must_use]
pub fn compile(schema: &Structural, declared: &Arc<Declared>) -> Box<[Compiled]> {
    if schema.rules().is_empty() {
        return Box::default();
    }
    let own = declared.to_type();
    let environment = Environment::default().with(SELF, own.clone()).sized(Arc::clone(declared));
    let plain = environment.clone().with(OLD_SELF, own.clone());
    let optional = environment.with(OLD_SELF, Type::optional(own));
    let compile = |rule: &Rule| {
        let environment = if is_optional(rule) { &optional } else { &plain };
        compile_rule(rule, schema, environment)
    };
    schema.rules().iter().map(compile).collect()
}

/// Whether a rule is asked also where nothing was there before.
pub(super) fn is_optional(rule: &Rule) -> bool {
    rule.optional_old_self == Some(true)
}

fn compile_rule(rule: &Rule, schema: &Structural, environment: &Environment) -> Compiled {
    if rule.rule.trim().is_empty() {
        return Compiled::Empty;
    }
    let program = match environment.compile(&rule.rule) {
        Ok(program) => program,
        Err(CompileError::Issues(issues)) => {
            return Compiled::Failed(format!("compilation failed: {issues}"));
        }
        Err(CompileError::Program(problem)) => {
            return Compiled::Failed(format!("program instantiation failed: {problem}"));
        }
    };
    if !matches!(program.output(), Type::Bool) {
        return Compiled::Failed("cel expression must evaluate to a bool".to_owned());
    }
    let message = Some(&*rule.message_expression).filter(|text| !text.is_empty());
    let found = find_field(&rule.field_path, schema, true).ok();
    let field_path = found.filter(|_| !rule.field_path.is_empty());
    Compiled::Rule(Box::new(CompiledRule {
        uses_old_self: program.uses(OLD_SELF),
        program,
        message: message.map(|text| compile_message(text, environment)),
        field_path: field_path.map(|found| found.path.to_string().into()),
    }))
}

fn compile_message(text: &str, environment: &Environment) -> Result<Program, String> {
    let program = environment.compile(text).map_err(|error| match error {
        CompileError::Issues(issues) => format!("messageExpression compilation failed: {issues}"),
        CompileError::Program(problem) => {
            format!("messageExpression instantiation failed: {problem}")
        }
    })?;
    match program.output() {
        Type::String => Ok(program),
        _ => Err("messageExpression must evaluate to a string".to_owned()),
    }
}
