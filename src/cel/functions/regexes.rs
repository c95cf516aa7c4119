//! `matches`, `find` and `findAll`: regular expressions as Go reads them.
//!
//! Both Go's and the `regex` crate's are RE2's, and linear. [`translate`] writes what differs in the
//! crate's way: classes such as `\d` are of ASCII only, `[` within a class is itself, and `{`
//! that repeats nothing is too.

use super::Site;
use crate::cel::value::{Fault, Outcome, Value};
use regex::{Regex, RegexBuilder};
use std::borrow::Cow;

/// What a compiled expression may take in memory; a larger one is refused.
const REGEX_BYTES_MAX: usize = 2 << 20;

/// Compiles an expression, or says what is wrong with it.
pub(in crate::cel) fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&translate(pattern))
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|problem| format!("error parsing regexp: {problem}"))
}

pub(super) fn call<'a>(site: &Site, args: &[Value<'a>]) -> Outcome<'a> {
    let (Some(Value::Text(text)), Some(Value::Text(pattern))) = (args.first(), args.get(1)) else {
        return Err(Fault::NO_OVERLOAD);
    };
    let regex = match &site.regex {
        Some(regex) => Cow::Borrowed(regex),
        None => Cow::Owned(compile(pattern).map_err(|problem| match site.function.as_str() {
            "matches" => Fault::new(problem),
            _ => Fault::new(format!("Illegal regex: {problem}")),
        })?),
    };
    match (site.function.as_str(), args.get(2)) {
        ("matches", None) => Ok(Value::Bool(regex.is_match(text))),
        ("find", None) => Ok(Value::text(regex.find(text).map_or("", |found| found.as_str()))),
        ("findAll", None) => Ok(all(&regex, text, usize::MAX)),
        ("findAll", Some(Value::Int(count))) => {
            Ok(all(&regex, text, usize::try_from(*count).unwrap_or(usize::MAX)))
        }
        _ => Err(Fault::NO_OVERLOAD),
    }
}

fn all<'a>(regex: &Regex, text: &str, count: usize) -> Value<'a> {
    Value::texts(regex.find_iter(text).take(count).map(|found| found.as_str()))
}

/// Go's expression in the words of the `regex` crate.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        match c {
            '\\' => length = escaped(rest, in_class, &mut out),
            '[' if in_class && rest.starts_with("[:") => match rest.find(":]") {
                Some(end) => {
                    length = end + 2;
                    out.push_str(&rest[..length]);
                }
                None => out.push_str("\\["),
            },
            '[' if in_class => out.push_str("\\["),
            '[' => {
                in_class = true;
                let start = &rest[1..];
                let negation = usize::from(start.starts_with('^'));
                // A bracket that comes first is one of the class.
                let literal = usize::from(start[negation..].starts_with(']'));
                out.push_str(&rest[..=negation]);
                out.push_str(if literal == 1 { "\\]" } else { "" });
                length += negation + literal;
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            '-' if in_class && rest.starts_with("--") => out.push_str("\\-"),
            '{' if !in_class && !repeats(rest) => out.push_str("\\{"),
            c => out.push(c),
        }
        rest = &rest[length..];
    }
    out
}

/// Whether this is `{2}`, `{2,}` or `{2,3}`.
fn repeats(rest: &str) -> bool {
    let Some((inner, _)) = rest[1..].split_once('}') else { return false };
    let (low, high) = inner.split_once(',').unwrap_or((inner, ""));
    !low.is_empty() && low.bytes().chain(high.bytes()).all(|b| b.is_ascii_digit())
}

/// Writes an escape sequence; returns its length.
fn escaped(rest: &str, in_class: bool, out: &mut String) -> usize {
    let Some(c) = rest[1..].chars().next() else {
        out.push('\\');
        return 1;
    };
    let class = match c.to_ascii_lowercase() {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        's' => "\\t\\n\\f\\r ",
        _ => "",
    };
    match c {
        'd' | 'w' | 's' if in_class => out.push_str(class),
        'd' | 'w' | 's' => out.push_str(&format!("[{class}]")),
        'D' | 'W' | 'S' => out.push_str(&format!("[^{class}]")),
        'b' if !in_class => out.push_str("(?-u:\\b)"),
        'B' if !in_class => out.push_str("(?-u:\\B)"),
        '<' | '>' => out.push(c),
        'Q' => {
            let quoted = &rest[2..];
            let end = quoted.find("\\E");
            let literal = &quoted[..end.unwrap_or(quoted.len())];
            out.push_str(&regex::escape(literal));
            return 2 + literal.len() + end.map_or(0, |_| 2);
        }
        c => {
            out.push('\\');
            out.push(c);
        }
    }
    1 + c.len_utf8()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(compile(pattern).unwrap().is_match(text), expected, "{pattern} on {text}");
    }

    #[test]
    fn expressions_mean_what_go_means() {
        check(r"^\d+$", "12", true);
        check(r"^\d+$", "١", false);
        check(r"^[\w-]+$", "a-b", true);
        check(r"^[[]$", "[", true);
        check(r"^[]a]$", "]", true);
        check(r"^[^]]$", "a", true);
        check(r"^{a}$", "{a}", true);
        check(r"^a{2}$", "aa", true);
        check(r"^[a&&b]$", "&", true);
        check(r"^\Qa.b\E+$", "a.bb", true);
        check(r"^[[:alpha:]]$", "b", true);
        check(r"^\<$", "<", true);
        check(r"^[\D]$", "x", true);
    }

    #[test]
    fn large_expressions_are_refused() {
        assert!(compile("((a{100}){100}){100}").is_err());
        assert!(compile("(").is_err());
    }
}
