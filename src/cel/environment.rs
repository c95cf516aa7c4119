//! What an expression may use besides functions: its variables. And the way from a text to a
//! program.

use super::ast::Kind;
use super::checker::{self, Checked};
use super::declared::Declared;
use super::estimate;
use super::parser;
use super::program::{self, Program};
use super::source::{Issues, Report};
use super::types::Type;
use super::validators;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The variables of an expression, and how large they are.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, Type>,
    sizes: Option<Arc<Declared>>,
    has_bind: bool,
}

/// Why a text is not a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// It cannot be read, or its types do not fit. Shown as upstream shows it.
    #[error("{0}")]
    Issues(Issues),
    /// It is right as far as types go, and yet cannot be evaluated.
    #[error("{0}")]
    Program(String),
}

impl Environment {
    /// With one more variable.
    #[must_use]
    pub fn with(mut self, name: &str, ty: Type) -> Self {
        self.variables.insert(name.to_owned(), ty);
        self
    }

    /// Costs are estimated with the sizes that are declared below this, whichever variable is
    /// looked at (upstream `sizeEstimator`).
    #[must_use]
    pub fn sized(mut self, root: Arc<Declared>) -> Self {
        self.sizes = Some(root);
        self
    }

    /// With `cel.bind`, which most environments lack.
    #[must_use]
    pub fn binding(self) -> Self {
        Self { has_bind: true, ..self }
    }

    pub(super) fn variable(&self, name: &str) -> Option<&Type> {
        self.variables.get(name)
    }

    /// Reads, checks and estimates an expression.
    pub fn compile(&self, text: &str) -> Result<Program, CompileError> {
        let checked = self.check(text).map_err(CompileError::Issues)?;
        let cost = estimate::estimate(&checked, self.sizes.as_ref());
        program::plan(checked, cost).map_err(CompileError::Program)
    }

    fn check(&self, text: &str) -> Result<Checked, Issues> {
        let mut report = Report::of(text);
        let checked = parser::parse(text, self.has_bind, &mut report)
            .and_then(|tree| checker::check(tree, self, &mut report));
        if let Some(checked) = &checked {
            validators::validate(checked, &mut report);
        }
        let is_whole = checked.as_ref().is_some_and(|c| !matches!(c.tree.root.kind, Kind::Broken));
        if report.is_empty() && !is_whole {
            report.add_nowhere("the expression cannot be read");
        }
        report.finish()?;
        Ok(checked.expect("an expression without issues has been checked"))
    }
}
