//! What is wrong with a document, worded as upstream words it (structured-merge-diff v6,
//! typed/helpers.go `ValidationErrors`).

use std::fmt::{self, Display};

/// So many problems are told at most.
const PROBLEMS_MAX: usize = 100;

/// Problems and where they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// Path and text.
    found: Vec<(String, String)>,
}

impl Problems {
    pub(super) fn one(text: impl Into<String>) -> Self {
        Self { found: vec![(String::new(), text.into())] }
    }

    pub(super) fn push(&mut self, text: String) {
        if self.found.len() < PROBLEMS_MAX {
            self.found.push((String::new(), text));
        }
    }

    pub(super) fn extend(&mut self, other: Self) {
        let room = PROBLEMS_MAX.saturating_sub(self.found.len());
        self.found.extend(other.found.into_iter().take(room));
    }

    /// These, as they are seen from further out.
    pub(super) fn below(mut self, element: impl Display) -> Self {
        for (path, _) in &mut self.found {
            *path = format!("{element}{path}");
        }
        self
    }

    pub(super) fn none(self) -> Result<(), Self> {
        if self.found.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |out: &mut fmt::Formatter<'_>, (path, text): &(String, String)| {
            let colon = if path.is_empty() { "" } else { ": " };
            write!(out, "{path}{colon}{text}")
        };
        if let [only] = &self.found[..] {
            return one(out, only);
        }
        out.write_str("errors:")?;
        for problem in &self.found {
            out.write_str("\n  ")?;
            one(out, problem)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
