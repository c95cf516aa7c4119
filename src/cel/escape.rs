//! Field names as expressions write them: `spec.my__dash__field`, `self.__namespace__`.
//!
//! Follows `Escape` and `Unescape` of apiserver pkg/cel/escaping.go, v1.35.

/// What CEL keeps for itself: no variable can be called so.
pub const RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

const SEQUENCES: &[(&str, &str)] =
    &[("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

/// The identifier for a field, if it can have one.
#[must_use]
pub fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut escaped = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if let Some((plain, sequence)) = SEQUENCES.iter().find(|(plain, _)| rest.starts_with(plain))
        {
            escaped.push_str(sequence);
            rest = &rest[plain.len()..];
        } else if c.is_ascii_alphanumeric() || c == '_' {
            escaped.push(c);
            rest = &rest[1..];
        } else {
            return None;
        }
    }
    Some(escaped)
}

/// The field of an identifier, unless it has a sequence that stands for nothing.
#[must_use]
pub fn unescape(identifier: &str) -> Option<String> {
    let mut name = String::with_capacity(identifier.len());
    let mut rest = identifier;
    while let Some(at) = rest.find("__") {
        let after = &rest[at + 2..];
        let word = &after[..after.find('_').unwrap_or(after.len())];
        if word.is_empty() || !after[word.len()..].starts_with("__") {
            // No sequence begins here.
            name.push_str(&rest[..=at]);
            rest = &rest[at + 1..];
            continue;
        }
        let sequence = &rest[at..at + word.len() + 4];
        name.push_str(&rest[..at]);
        match SEQUENCES.iter().find(|(_, escaped)| *escaped == sequence) {
            Some((plain, _)) => name.push_str(plain),
            None if RESERVED.contains(&word) && sequence.len() == identifier.len() => {
                name.push_str(word);
            }
            None => return None,
        }
        rest = &rest[at + sequence.len()..];
    }
    name.push_str(rest);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, escaped: Option<&str>) {
        assert_eq!(escape(name).as_deref(), escaped, "{name}");
        if let Some(escaped) = escaped {
            assert_eq!(unescape(escaped).as_deref(), Some(name), "{escaped}");
        }
    }

    #[test]
    fn what_no_identifier_may_have_is_escaped_and_comes_back() {
        check("a", Some("a"));
        check("a.b-c/d", Some("a__dot__b__dash__c__slash__d"));
        check("a__b", Some("a__underscores__b"));
        check("namespace", Some("__namespace__"));
        check("_a_", Some("_a_"));
        check("1a", None);
        check("a b", None);
        check("é", None);
        assert_eq!(unescape("a__nothing__"), None);
        assert_eq!(unescape("a__if__"), None);
        assert_eq!(unescape("a___b").as_deref(), Some("a___b"));
    }
}
