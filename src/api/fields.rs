//! Field selectors: `metadata.name=web,spec.nodeName!=`.
//!
//! Grammar, escapes and error texts follow upstream (apimachinery pkg/fields/selector.go, v1.35).
//! Which fields a kind offers is not known here.

use std::fmt;
use std::str::FromStr;

/// Which field values are wanted: all terms hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

/// What must hold for one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub field: String,
    pub comparison: Comparison,
    pub value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
}

/// A field selector that cannot be understood. The messages are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFieldSelector {
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term { selector: String, term: String },
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    #[error("invalid field selector: unescaped character in value: {}", u32::from(*.0))]
    Unescaped(char),
}

impl FieldSelector {
    #[must_use]
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value that `field` must have, where the selector says so.
    #[must_use]
    pub fn required(&self, field: &str) -> Option<&str> {
        let wanted = |term: &&Term| term.comparison == Comparison::Equal && term.field == field;
        self.terms.iter().find(wanted).map(|term| term.value.as_str())
    }

    /// Adds that `field` must have this value.
    pub fn require(&mut self, field: &str, value: &str) {
        let (field, value) = (field.to_owned(), value.to_owned());
        self.terms.push(Term { field, comparison: Comparison::Equal, value });
    }

    /// Whether no object can be selected, because one field would have to have two values, or one
    /// that it must not have.
    #[must_use]
    pub fn is_contradictory(&self) -> bool {
        self.terms.iter().any(|term| {
            let required = self.required(&term.field);
            required.is_some_and(|required| {
                (required == term.value) != (term.comparison == Comparison::Equal)
            })
        })
    }

    /// Whether an object is selected whose fields `lookup` knows; a field it does not know is
    /// empty.
    pub fn matches_by<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|term| {
            let equal = lookup(&term.field).unwrap_or_default() == term.value;
            equal == (term.comparison == Comparison::Equal)
        })
    }
}

impl FromStr for FieldSelector {
    type Err = BadFieldSelector;

    fn from_str(text: &str) -> Result<Self, BadFieldSelector> {
        let mut terms = Vec::new();
        for part in split_terms(text) {
            if part.is_empty() {
                continue;
            }
            let (field, comparison, value) = split_term(part).ok_or_else(|| {
                BadFieldSelector::Term { selector: text.to_owned(), term: part.to_owned() }
            })?;
            terms.push(Term { field: field.to_owned(), comparison, value: unescape(value)? });
        }
        Ok(Self { terms })
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let operator = match term.comparison {
                Comparison::Equal => "=",
                Comparison::NotEqual => "!=",
            };
            write!(formatter, "{comma}{}{operator}{}", term.field, escape(&term.value))?;
        }
        Ok(())
    }
}

/// `value` as it is written in a field selector.
#[must_use]
pub fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '\\' | ',' | '=') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn unescape(value: &str) -> Result<String, BadFieldSelector> {
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                Some(other) => return Err(BadFieldSelector::Escape(format!("\\{other}"))),
                None => return Err(BadFieldSelector::Escape("\\".to_owned())),
            },
            ',' | '=' => return Err(BadFieldSelector::Unescaped(c)),
            plain_character => plain.push(plain_character),
        }
    }
    Ok(plain)
}

/// Splits at commas that are not escaped.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Splits at the first operator: fields have no escapes.
fn split_term(term: &str) -> Option<(&str, Comparison, &str)> {
    let operators =
        [("!=", Comparison::NotEqual), ("==", Comparison::Equal), ("=", Comparison::Equal)];
    term.char_indices().find_map(|(index, _)| {
        let rest = &term[index..];
        operators.iter().find_map(|(operator, comparison)| {
            let value = rest.strip_prefix(operator)?;
            Some((&term[..index], *comparison, value))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(selector: &str, fields: &[(&str, &str)], expected: bool) {
        let parsed: FieldSelector = selector.parse().unwrap();
        let lookup =
            |name: &str| fields.iter().find(|(field, _)| *field == name).map(|(_, value)| *value);
        assert_eq!(parsed.matches_by(lookup), expected, "{selector:?} on {fields:?}");
        assert_eq!(parsed.to_string().parse::<FieldSelector>().unwrap(), parsed);
    }

    #[test]
    fn selects_what_upstream_selects() {
        check("", &[], true);
        check("a=b", &[("a", "b")], true);
        check("a==b", &[("a", "c")], false);
        check("a!=b", &[("a", "c")], true);
        check("a!=b,c=d", &[("a", "c"), ("c", "d")], true);
        check("a=", &[], true);
        check("a!=", &[], false);
        check(r"a=x\,y\=z\\", &[("a", r"x,y=z\")], true);
        check("a=b,", &[("a", "b")], true);
    }

    #[test]
    fn contradictions_are_seen() {
        for (selector, expected) in [
            ("a=b", false),
            ("a=b,a=b", false),
            ("a=b,a!=c", false),
            ("a!=b,a!=c", false),
            ("a=b,a=c", true),
            ("a!=b,a=b", true),
        ] {
            let parsed: FieldSelector = selector.parse().unwrap();
            assert_eq!(parsed.is_contradictory(), expected, "{selector}");
        }
    }

    #[test]
    fn refuses_with_upstreams_words() {
        for (selector, expected) in [
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            ("x=1,a", "invalid selector: 'x=1,a'; can't understand 'a'"),
            (r"a=\n", r"invalid field selector: invalid escape sequence: \n"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ] {
            let error = selector.parse::<FieldSelector>().unwrap_err();
            assert_eq!(error.to_string(), expected, "{selector:?}");
        }
    }
}
