//! The text of an expression, and what is wrong with it, as users are shown it.
//!
//! The form is that of cel-go (common/error.go, v0.26): a line `ERROR: <input>:1:5: ...`, the line
//! of the source, and a caret below the place.

use std::fmt;

/// More problems than this are counted, not shown (upstream `maxErrorsToReport`).
const ISSUES_MAX: usize = 100;
/// A longer line is not shown below a message (upstream `maxSnippetLength`).
const SNIPPET_BYTES_MAX: usize = 16_384;

/// How far into the text, in code points.
pub(super) type Offset = u32;

/// A line from one, and a column from nought, in code points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    line: usize,
    column: usize,
}

/// Everything that is wrong with an expression. Shown, it reads as cel-go's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issues {
    text: String,
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Issues {}

/// Collects what is wrong with one text.
#[derive(Debug)]
pub(super) struct Report<'s> {
    lines: Vec<&'s str>,
    /// The offset at which each line begins.
    starts: Vec<Offset>,
    found: Vec<(Option<Place>, String)>,
    count: usize,
}

impl<'s> Report<'s> {
    pub(super) fn of(text: &'s str) -> Self {
        let lines: Vec<&str> = text.split('\n').collect();
        let mut starts = Vec::with_capacity(lines.len());
        let mut at: usize = 0;
        for line in &lines {
            starts.push(Offset::try_from(at).unwrap_or(Offset::MAX));
            at += line.chars().count() + 1;
        }
        Self { lines, starts, found: Vec::new(), count: 0 }
    }

    pub(super) fn add(&mut self, at: Offset, message: impl Into<String>) {
        let line = self.starts.partition_point(|start| *start <= at).saturating_sub(1);
        let column = at.saturating_sub(self.starts[line]) as usize;
        self.push(Some(Place { line: line + 1, column }), message.into());
    }

    /// Something that is wrong with the whole.
    pub(super) fn add_nowhere(&mut self, message: impl Into<String>) {
        self.push(None, message.into());
    }

    fn push(&mut self, place: Option<Place>, message: String) {
        self.count += 1;
        if self.found.len() < ISSUES_MAX {
            self.found.push((place, message));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What was found, if anything.
    pub(super) fn finish(mut self) -> Result<(), Issues> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort_by_key(|(place, _)| *place);
        let mut shown: Vec<String> =
            self.found.iter().map(|(place, message)| self.show(*place, message)).collect();
        if self.count > self.found.len() {
            shown.push(format!("{} more errors were truncated", self.count - self.found.len()));
        }
        Err(Issues { text: shown.join("\n") })
    }

    fn show(&self, place: Option<Place>, message: &str) -> String {
        let Some(place) = place else {
            return format!("ERROR: <input>:-1:0: {message}");
        };
        let head = format!("ERROR: <input>:{}:{}: {message}", place.line, place.column + 1);
        let Some(line) = self.lines.get(place.line - 1) else { return head };
        if line.len() > SNIPPET_BYTES_MAX {
            return head;
        }
        let mut marks = String::new();
        let mut rest = line.chars();
        for c in rest.by_ref().take(place.column) {
            marks.push(if c.len_utf8() > 1 { '\u{ff0e}' } else { '.' });
        }
        let is_wide = rest.next().is_some_and(|c| c.len_utf8() > 1);
        marks.push(if is_wide { '\u{ff3e}' } else { '^' });
        format!("{head}\n | {}\n | {marks}", line.replace('\t', " "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_shown_in_order_below_their_line() {
        let mut report = Report::of("a\tb\nçd +");
        report.add(6, "second");
        report.add(2, "first");
        let text = report.finish().unwrap_err().to_string();
        let expected = "ERROR: <input>:1:3: first\n | a b\n | ..^\n\
                        ERROR: <input>:2:3: second\n | çd +\n | \u{ff0e}.^";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_wrong_with_the_whole_has_no_place() {
        let mut report = Report::of("x");
        report.add_nowhere("too long");
        assert_eq!(report.finish().unwrap_err().to_string(), "ERROR: <input>:-1:0: too long");
    }
}
