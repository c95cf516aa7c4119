//! What checks find, and where.

use crate::api::field::{ERRORS_MAX, Problem, shown_name};
use crate::api::{FieldError, FieldPath};
use serde_json::Value;
use std::fmt;

/// What kind of error it is, where that decides how it is told (upstream's codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Type,
    Required,
    Other,
}

/// Where a check is, as upstream's validator writes it: properties that are not listed, and
/// required ones, have a dot before them at the root as well.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trail<'a> {
    Root,
    Name { above: &'a Trail<'a>, name: &'a str },
    Dotted { above: &'a Trail<'a>, name: &'a str },
    Index { above: &'a Trail<'a>, index: usize },
}

impl<'a> Trail<'a> {
    pub(super) fn name(&'a self, name: &'a str) -> Self {
        Self::Name { above: self, name }
    }

    pub(super) fn dotted(&'a self, name: &'a str) -> Self {
        Self::Dotted { above: self, name }
    }

    pub(super) fn index(&'a self, index: usize) -> Self {
        Self::Index { above: self, index }
    }
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Name { above: Self::Root, name } => formatter.write_str(&shown_name(name)),
            Self::Name { above, name } | Self::Dotted { above, name } => {
                write!(formatter, "{above}.{}", shown_name(name))
            }
            Self::Index { above, index } => write!(formatter, "{above}[{index}]"),
        }
    }
}

#[derive(Debug)]
struct Found {
    /// By this text errors are the same.
    text: String,
    /// Empty: of the whole.
    place: String,
    problem: Problem,
    value: Option<Value>,
    detail: String,
}

/// What is wrong, and how much matched (upstream `Result`).
#[derive(Debug, Default)]
pub(super) struct Outcome {
    found: Vec<Found>,
    matches: usize,
}

impl Outcome {
    /// One thing that matched.
    pub(super) fn one() -> Self {
        Self { found: Vec::new(), matches: 1 }
    }

    pub(super) fn failed(
        trail: Trail<'_>,
        code: Code,
        value: Option<Value>,
        detail: String,
    ) -> Self {
        let mut outcome = Self::default();
        outcome.add(trail, code, value, detail);
        outcome
    }

    pub(super) fn is_valid(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn matches(&self) -> usize {
        self.matches
    }

    pub(super) fn count(&mut self) {
        self.matches += 1;
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.matches += other.matches;
        for found in other.found {
            self.push(found);
        }
    }

    /// This with nothing wrong.
    pub(super) fn tolerated(self) -> Self {
        Self { found: Vec::new(), ..self }
    }

    pub(super) fn add(
        &mut self,
        trail: Trail<'_>,
        code: Code,
        value: Option<Value>,
        detail: String,
    ) {
        let text = detail.clone();
        let place = trail.to_string();
        let value = Some(value.unwrap_or_else(|| "".into()));
        self.push(match code {
            Code::Type => Found { text, place, problem: Problem::TypeInvalid, value, detail },
            Code::Required => {
                let detail = String::new();
                Found { text, place, problem: Problem::Required, value: None, detail }
            }
            Code::Other => Found { text, place, problem: Problem::Invalid, value, detail },
        });
    }

    pub(super) fn add_too_many(&mut self, trail: Trail<'_>, size: i64, max: i64) {
        let items = if max == 1 { "item" } else { "items" };
        let place = trail.to_string();
        self.push(Found {
            text: format!("{place} too many: {max}"),
            place,
            problem: Problem::TooMany,
            value: Some(size.into()),
            detail: format!("must have at most {max} {items}"),
        });
    }

    pub(super) fn add_too_long(&mut self, trail: Trail<'_>, max: i64) {
        let bytes = if max == 1 { "byte" } else { "bytes" };
        let place = trail.to_string();
        self.push(Found {
            text: format!("{place} too long: {max}"),
            place,
            problem: Problem::TooLong,
            value: None,
            detail: format!("may not be more than {max} {bytes}"),
        });
    }

    pub(super) fn add_not_supported(&mut self, trail: Trail<'_>, value: &Value, values: &[Value]) {
        let quote = |value: &Value| match value {
            Value::String(text) => format!("{text:?}"),
            other => format!("{:?}", other.to_string()),
        };
        let listed: Vec<_> = values.iter().map(quote).collect();
        let listed = listed.join(", ");
        let place = trail.to_string();
        self.push(Found {
            text: format!("{place} not one of: {listed}"),
            place,
            problem: Problem::NotSupported,
            value: Some(value.clone()),
            detail: format!("supported values: {listed}"),
        });
    }

    /// An error that is of no field.
    pub(super) fn add_plain(&mut self, detail: String) {
        let text = detail.clone();
        let value = Some("".into());
        let place = String::new();
        self.push(Found { text, place, problem: Problem::Invalid, value, detail });
    }

    /// Whether no more errors are kept: there is no need to look for more.
    pub(super) fn is_full(&self) -> bool {
        self.found.len() >= ERRORS_MAX
    }

    fn push(&mut self, found: Found) {
        if !self.is_full() && self.found.iter().all(|other| other.text != found.text) {
            self.found.push(found);
        }
    }

    /// The errors, of a value at `root` (upstream `kubeOpenAPIResultToFieldErrors`).
    pub(super) fn into_errors(self, root: Option<&FieldPath>) -> Vec<FieldError> {
        let path = |place: &str| {
            let place = place.strip_prefix('.').unwrap_or(place);
            match (root, place) {
                (None, "") => super::nowhere(),
                (None, place) => FieldPath::new(place),
                (Some(root), "") => root.clone(),
                (Some(root), place) => root.child(place),
            }
        };
        let error = |found: Found| FieldError {
            path: path(&found.place),
            problem: found.problem,
            value: found.value,
            detail: found.detail,
        };
        self.found.into_iter().map(error).collect()
    }
}
