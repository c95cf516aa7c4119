//! What is wrong with literals although their types are right.
//!
//! Follows the validators of upstream's base environment (apiserver pkg/cel/environment/base.go,
//! v1.35; cel-go cel/validator.go and ext/formatting.go, v0.26): durations, timestamps and regular
//! expressions that are constants, lists and maps of one type, and formats with their arguments.

use super::ast::{Expr, Kind, Literal};
use super::checker::Checked;
use super::functions::{FormatError, Site, format_arguments, implementation, regexes};
use super::source::Report;
use super::types::Type;
use super::unify::Unifier;
use super::value::Value;

pub(super) fn validate(checked: &Checked, report: &mut Report<'_>) {
    let mut validator = Validator { checked, report, unifier: Unifier::default() };
    validator.expr(&checked.tree.root, false);
}

struct Validator<'c, 'r, 'l> {
    checked: &'c Checked,
    report: &'r mut Report<'l>,
    unifier: Unifier,
}

impl Validator<'_, '_, '_> {
    fn problem(&mut self, expr: &Expr, message: impl Into<String>) {
        let at = self.checked.tree.places.get(expr.id).copied().unwrap_or_default();
        self.report.add(at, message);
    }

    /// `is_exempt` within the arguments of `format`: these may be of any types.
    fn expr(&mut self, expr: &Expr, is_exempt: bool) {
        let mut is_exempt_below = is_exempt;
        match &expr.kind {
            Kind::Call { function, target, args } => {
                is_exempt_below |= function == "format";
                self.call(expr, function, target.as_deref(), args);
            }
            Kind::List { elements, optional } if !is_exempt => {
                let elements = elements.iter().enumerate();
                let elements =
                    elements.map(|(index, element)| (element, optional.contains(&index)));
                self.homogeneous(elements);
            }
            Kind::Map(entries) if !is_exempt => {
                self.homogeneous(entries.iter().map(|entry| (&entry.key, false)));
                self.homogeneous(entries.iter().map(|entry| (&entry.value, entry.is_optional)));
            }
            _ => {}
        }
        for child in expr.children() {
            self.expr(child, is_exempt_below);
        }
    }

    fn call(&mut self, expr: &Expr, function: &str, target: Option<&Expr>, args: &[Expr]) {
        match (function, args) {
            ("duration" | "timestamp", [arg]) => {
                let Kind::Literal(Literal::Text(text)) = &arg.kind else { return };
                let site =
                    Site { function: function.to_owned(), overload: String::new(), regex: None };
                let run = implementation(function).expect("conversions are implemented");
                if run(&site, vec![Value::text(text.as_ref())]).is_err() {
                    self.problem(arg, format!("invalid {function} argument"));
                }
            }
            ("matches", [arg, ..]) => {
                if let Some(pattern) = arg.as_text()
                    && regexes::compile(pattern).is_err()
                {
                    self.problem(arg, "invalid matches argument");
                }
            }
            ("format", [list]) => {
                if let (Some(text), Kind::List { elements, .. }) =
                    (target.and_then(Expr::as_text), &list.kind)
                {
                    self.format(expr, text, elements);
                }
            }
            _ => {}
        }
    }

    fn format(&mut self, expr: &Expr, text: &str, args: &[Expr]) {
        let types: Vec<&str> = args.iter().map(|arg| self.checked.ty(arg.id).name()).collect();
        match format_arguments(text, &types) {
            Ok(count) if count < args.len() => {
                let given = args.len();
                let message = "too many arguments supplied to string.format";
                self.problem(expr, format!("{message} (expected {count}, got {given})"));
            }
            Ok(_) => {}
            Err(FormatError { message, argument }) => {
                let place = argument.and_then(|index| args.get(index)).unwrap_or(expr);
                self.problem(place, message);
            }
        }
    }

    fn homogeneous<'e>(&mut self, elements: impl Iterator<Item = (&'e Expr, bool)>) {
        let mut common: Option<Type> = None;
        for (element, is_optional) in elements {
            let ty = self.checked.ty(element.id);
            let ty = if is_optional { ty.unwrapped().0 } else { ty }.clone();
            let Some(common) = &common else {
                common = Some(ty);
                continue;
            };
            if !self.unifier.same(common, &ty) {
                let message = format!("expected type '{common}' but found '{ty}'");
                self.problem(element, message);
                return;
            }
        }
    }
}
