//! Regular expressions as Go reads them (`regexp`, which is RE2), run by the `regex` crate.
//!
//! Both are automata with the same matches; what they read differs. [`go`] rewrites the one for
//! the other: `\d`, `\w`, `\s` and `\b` know ASCII alone in Go, `[` is a letter within brackets, and
//! so are `&&`, `--` and `~~`; `{` that begins no repetition is a letter, `\Q..\E` quotes, `\101` is an
//! octal code. What differs still: `\B` knows Unicode here, and `\C` (a single byte) is refused.

mod go;

use regex::{Regex, RegexBuilder};
use std::fmt;
use std::sync::OnceLock;

/// A compiled expression larger than this is refused, as upstream refuses those that are too large.
const COMPILED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A longer expression is refused, whatever it is compiled to: reading one takes microseconds a letter.
const SOURCE_BYTES_MAX: usize = 16 * 1024;

/// A byte of an expression counts as so many that are compiled: there are expressions that take long
/// to read and are compiled to little.
const SOURCE_WEIGHT: usize = 256;

/// How large a compiled expression is, is found out by trying these. Most are of the first size.
const SIZES: [usize; 5] = [8 << 10, 32 << 10, 128 << 10, 1 << 20, COMPILED_BYTES_MAX];

/// What an expression counts as that was compiled in all these sizes for nothing.
const TOO_LARGE_COST: usize = 4 * COMPILED_BYTES_MAX;

/// What a search may remember while it runs, and keeps for the next.
const SEARCH_BYTES_MAX: usize = 64 * 1024;

/// An expression that cannot be read. The texts are Go's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {problem}")]
pub struct BadPattern {
    problem: String,
    /// What it has cost to find that out, in bytes that were compiled.
    pub cost: usize,
}

impl BadPattern {
    fn of_syntax(source: &str, problem: String) -> Self {
        Self { problem, cost: cost(source, 0) }
    }

    fn too_large(source: &str, compiled_bytes: usize) -> Self {
        let problem = format!("expression too large: `{source}`");
        Self { problem, cost: cost(source, compiled_bytes) }
    }
}

fn cost(source: &str, compiled_bytes: usize) -> usize {
    compiled_bytes.max(source.len().min(SOURCE_BYTES_MAX) * SOURCE_WEIGHT)
}

/// A regular expression of a schema, compiled when it is first used and kept: a list may have a
/// hundred thousand values to be matched. A schema has only so many and so large ones
/// ([`super::rules`]).
pub struct Pattern {
    source: Box<str>,
    kept: OnceLock<Regex>,
}

impl Pattern {
    pub(super) fn new(source: &str) -> Self {
        Self { source: source.into(), kept: OnceLock::new() }
    }

    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// About how many bytes it takes to keep it, or how many would be as much work as it was to
    /// compile it.
    ///
    /// # Errors
    /// If this is no regular expression.
    pub fn check(&self) -> Result<usize, BadPattern> {
        self.compiled().map(|(_, bytes)| cost(&self.source, bytes))
    }

    /// Whether some part of `text` matches.
    ///
    /// # Errors
    /// If this is no regular expression.
    pub fn is_match(&self, text: &str) -> Result<bool, BadPattern> {
        if let Some(regex) = self.kept.get() {
            return Ok(regex.is_match(text));
        }
        let (regex, _) = self.compiled()?;
        Ok(self.kept.get_or_init(|| regex).is_match(text))
    }

    /// And about how large it is.
    fn compiled(&self) -> Result<(Regex, usize), BadPattern> {
        let source = &*self.source;
        if source.len() > SOURCE_BYTES_MAX {
            return Err(BadPattern::too_large(source, 0));
        }
        let translated =
            go::translate(source).map_err(|problem| BadPattern::of_syntax(source, problem))?;
        for bytes_max in SIZES {
            match compile(&translated, bytes_max) {
                Ok(regex) => return Ok((regex, bytes_max)),
                Err(regex::Error::CompiledTooBig(_)) => {}
                Err(_) => {
                    let problem = format!("invalid or unsupported syntax: `{source}`");
                    return Err(BadPattern::of_syntax(source, problem));
                }
            }
        }
        Err(BadPattern::too_large(source, TOO_LARGE_COST))
    }
}

fn compile(translated: &str, bytes_max: usize) -> Result<Regex, regex::Error> {
    RegexBuilder::new(translated).size_limit(bytes_max).dfa_size_limit(SEARCH_BYTES_MAX).build()
}

impl fmt::Debug for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(formatter)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(pattern: &str, good: &[&str], bad: &[&str]) {
        let pattern = Pattern::new(pattern);
        for text in good {
            assert_eq!(pattern.is_match(text), Ok(true), "{pattern:?} on {text:?}");
        }
        for text in bad {
            assert_eq!(pattern.is_match(text), Ok(false), "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn expressions_mean_what_they_mean_in_go() {
        check("^[a-z]+$", &["abc"], &["aBc", "abc\n"]);
        check(r"^\d+$", &["12"], &["\u{0664}", ""]);
        check(r"^\w+$", &["a_1"], &["\u{e9}"]);
        check(r"^\s$", &[" ", "\t"], &["\u{a0}", "\u{b}"]);
        check(r"^[\d.]+$", &["1.2"], &["a"]);
        check(r"^[^\s]+$", &["a"], &["a b"]);
        check(r"^[\D]+$", &["ab"], &["a1"]);
        check(r"\bcat\b", &["a cat", "cat\u{e9}"], &["concat"]);
        check(r"^[[a]+$", &["[a"], &["b"]);
        check(r"^[a&&b]+$", &["a&b"], &["c"]);
        check(r"^[*--~~]+$", &["+-~"], &["a"]);
        check(r"^[]a]+$", &["]a"], &["b"]);
        check(r"^[^]a]+$", &["b"], &["]"]);
        check(r"^[[:alpha:]_]+$", &["a_"], &["1"]);
        check(r"^a{,5}$", &["a{,5}"], &["aaa"]);
        check(r"^a{b}$", &["a{b}"], &["a"]);
        check(r"^{$", &["{"], &[""]);
        check(r"^a{2}$", &["aa"], &["a"]);
        check(r"^\Qa.b\E$", &["a.b"], &["axb"]);
        check(r"^\x41\x{1F600}$", &["A\u{1F600}"], &["A"]);
        check(r"^\101$", &["A"], &["101"]);
        check(r"^\<a\>$", &["<a>"], &["a"]);
        check(r"^\p{Lu}\P{Lu}\pL$", &["Aab"], &["aab"]);
        check(r"^\p{^Lu}$", &["a"], &["A"]);
        check(r"(?i)^abc$", &["ABC"], &["abd"]);
        check(r"^(?P<name>a)(?:b)$", &["ab"], &["a"]);
        check("^.{1,3}$", &["\u{e9}\u{e9}\u{e9}"], &["abcd", "a\nb"]);
        check(r"^\-\/\:\@$", &["-/:@"], &[]);
        check(r"^[\w\-\.]+$", &["a-.b"], &["a b"]);
    }

    #[test]
    fn what_is_wrong_is_said_as_go_says_it() {
        for (pattern, expected) in [
            ("[a-z", "missing closing ]: `[a-z`"),
            ("a(b", "missing closing ): `a(b`"),
            ("a)b", "unexpected ): `a)b`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("(|+)", "missing argument to repetition operator: `+`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{2,1}", "invalid repeat count: `{2,1}`"),
            (r"a\y", r"invalid escape sequence: `\y`"),
            (r"a\1", r"invalid escape sequence: `\1`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
            ("(?<!a)", "invalid named capture: `(?<!a)`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            (r"\p{Nope}", r"invalid character class range: `\p{Nope}`"),
        ] {
            let error = Pattern::new(pattern).check().unwrap_err();
            assert_eq!(error.to_string(), format!("error parsing regexp: {expected}"), "{pattern}");
        }
    }

    #[test]
    fn large_expressions_are_bounded() {
        let pattern = Pattern::new(r"^(\pL{100}){90}$");
        assert!(pattern.check().unwrap_err().to_string().contains("expression too large"));
        let large = Pattern::new(r"^\pL{40}$");
        assert_eq!(large.is_match(&"a".repeat(40)), Ok(true));
        assert!(large.kept.get().is_some(), "compiled once, however often it is used");
        assert_eq!(large.check(), Ok(COMPILED_BYTES_MAX));
        assert_eq!(Pattern::new("^[a-z]+$").check(), Ok(8 << 10));
    }

    #[test]
    fn long_expressions_are_bounded_and_count_for_more() {
        let optional = |bytes: usize| Pattern::new(&"a?".repeat(bytes / 2));
        let error = optional(SOURCE_BYTES_MAX + 2).check().unwrap_err();
        assert!(error.to_string().contains("expression too large"));
        assert_eq!(optional(SOURCE_BYTES_MAX).check(), Ok(SOURCE_BYTES_MAX * SOURCE_WEIGHT));
        let large = Pattern::new(r"^(\pL{100}){90}$").check().unwrap_err();
        assert_eq!(large.cost, TOO_LARGE_COST);
        let bad = Pattern::new("[").check().unwrap_err();
        assert_eq!(bad.cost, SOURCE_WEIGHT);
    }

    proptest! {
        #[test]
        fn no_text_panics(pattern in r"[\[\]\\(){}?*+|^$.,:\-a-c0-9&~<>PQEpxdwsb ]{0,24}", text in "[ab1-]{0,6}") {
            let _either = Pattern::new(&pattern).is_match(&text);
        }

        #[test]
        fn plain_texts_match_themselves(text in "[a-zA-Z0-9 _=/@%:;,<>'\"!#&~-]{1,20}") {
            prop_assert_eq!(Pattern::new(&text).is_match(&text), Ok(true));
        }
    }
}
