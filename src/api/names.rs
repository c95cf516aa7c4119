//! What names may look like: DNS labels, label keys and values, environment variables, ports, ...
//!
//! Each rule returns what is wrong with a text, and nothing for a good one. The sentences are
//! those of upstream's pkg/util/validation and pkg/api/validate/content (apimachinery, v1.35),
//! because users search for them and clients match them.

/// A rule for a text: what is wrong with it, in upstream's words; empty for a good one.
pub type Rule = fn(&str) -> Vec<String>;

pub const DNS1123_LABEL_BYTES_MAX: usize = 63;
pub const DNS1123_SUBDOMAIN_BYTES_MAX: usize = 253;
pub const DNS1035_LABEL_BYTES_MAX: usize = 63;
pub const LABEL_VALUE_BYTES_MAX: usize = 63;
const LABEL_NAME_BYTES_MAX: usize = 63;
const PORT_NAME_BYTES_MAX: usize = 15;

const DNS1123_LABEL: Pattern = Pattern {
    problem: "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
    examples: &["my-name", "123-abc"],
    regex: "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
};
const DNS1123_SUBDOMAIN: Pattern = Pattern {
    problem: "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
    examples: &["example.com"],
    regex: r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
};
const DNS1123_SUBDOMAIN_UNDERSCORE: Pattern = Pattern {
    problem: "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
    examples: &["example.com"],
    regex: r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
};
const DNS1035_LABEL: Pattern = Pattern {
    problem: "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
    examples: &["my-name", "abc-123"],
    regex: "[a-z]([-a-z0-9]*[a-z0-9])?",
};
const WILDCARD_SUBDOMAIN: Pattern = Pattern {
    problem: "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
    examples: &["*.example.com"],
    regex: r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
};
const LABEL_NAME: Pattern = Pattern {
    problem: "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
    examples: &["MyName", "my.name", "123-abc"],
    regex: "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]",
};
const LABEL_VALUE: Pattern = Pattern {
    problem: "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
    examples: &["MyValue", "my_value", "12345"],
    regex: "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
};
const CONFIG_KEY: Pattern = Pattern {
    problem: "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    examples: &["key.name", "KEY_NAME", "key-name"],
    regex: "[-._a-zA-Z0-9]+",
};
const C_IDENTIFIER: Pattern = Pattern {
    problem: "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
    examples: &["my_name", "MY_NAME", "MyName"],
    regex: "[A-Za-z_][A-Za-z0-9_]*",
};
const PERCENT: Pattern = Pattern {
    problem: "a valid percent string must be a numeric string followed by an ending '%'",
    examples: &["1%", "93%"],
    regex: "[0-9]+%",
};
const HTTP_HEADER: Pattern = Pattern {
    problem: "a valid HTTP header must consist of alphanumeric characters or '-'",
    examples: &["X-Header-Name"],
    regex: "[-A-Za-z0-9]+",
};

const CONDITION_REASON: Pattern = Pattern {
    problem: "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'",
    examples: &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
    regex: "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
};

/// A form that a text must have, and how its absence is explained.
struct Pattern {
    problem: &'static str,
    examples: &'static [&'static str],
    /// Shown, never run: the forms are simple enough to be checked by hand.
    regex: &'static str,
}

impl Pattern {
    fn mismatch(&self) -> String {
        let examples: Vec<_> =
            self.examples.iter().map(|example| format!("'{example}', ")).collect();
        let (problem, regex) = (self.problem, self.regex);
        format!("{problem} (e.g. {}regex used for validation is '{regex}')", examples.join(" or "))
    }
}

/// `my-name`: names of namespaces, containers, volumes.
#[must_use]
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut problems = too_long(value, DNS1123_LABEL_BYTES_MAX, "characters");
    if !is_dns1123_label(value) {
        problems.push(if is_dns1123_subdomain(value) {
            "must not contain dots".to_owned()
        } else {
            DNS1123_LABEL.mismatch()
        });
    }
    problems
}

/// `example.com`: the names of most objects.
#[must_use]
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut problems = too_long(value, DNS1123_SUBDOMAIN_BYTES_MAX, "characters");
    if !is_dns1123_subdomain(value) {
        problems.push(DNS1123_SUBDOMAIN.mismatch());
    }
    problems
}

/// As a subdomain, with `_` allowed: DNS search domains.
#[must_use]
pub fn dns1123_subdomain_with_underscore(value: &str) -> Vec<String> {
    let mut problems = too_long(value, DNS1123_SUBDOMAIN_BYTES_MAX, "characters");
    let is_label = |label: &str| {
        let label = label.strip_prefix('_').unwrap_or(label);
        is_enclosed(label, is_lower_alphanumeric, |byte| {
            is_lower_alphanumeric(byte) || byte == b'-' || byte == b'_'
        })
    };
    if !value.split('.').all(is_label) {
        problems.push(DNS1123_SUBDOMAIN_UNDERSCORE.mismatch());
    }
    problems
}

/// As a label, starting with a letter: the names of Services.
#[must_use]
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut problems = too_long(value, DNS1035_LABEL_BYTES_MAX, "characters");
    if !is_dns1123_label(value) || !value.starts_with(|c: char| c.is_ascii_lowercase()) {
        problems.push(DNS1035_LABEL.mismatch());
    }
    problems
}

/// `*.example.com`.
#[must_use]
pub fn wildcard_dns1123_subdomain(value: &str) -> Vec<String> {
    let mut problems = too_long(value, DNS1123_SUBDOMAIN_BYTES_MAX, "characters");
    if !value.strip_prefix("*.").is_some_and(is_dns1123_subdomain) {
        problems.push(WILDCARD_SUBDOMAIN.mismatch());
    }
    problems
}

/// The key of a label, and whatever else has an optional DNS prefix: `example.com/name`.
#[must_use]
pub fn qualified_name(value: &str) -> Vec<String> {
    let (prefix, name) = match value.split_once('/') {
        None => (None, value),
        Some((_, rest)) if rest.contains('/') => {
            let mismatch = LABEL_NAME.mismatch();
            return vec![format!(
                "a valid label key {mismatch} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some((prefix, name)) => (Some(prefix), name),
    };
    let mut problems = Vec::new();
    match prefix {
        Some("") => problems.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => problems.extend(
            content_subdomain(prefix).into_iter().map(|problem| format!("prefix part {problem}")),
        ),
        None => {}
    }
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_NAME_BYTES_MAX {
        problems.push(format!("name part must be no more than {LABEL_NAME_BYTES_MAX} bytes"));
    }
    if !is_label_name(name) {
        problems.push(format!("name part {}", LABEL_NAME.mismatch()));
    }
    problems
}

/// As [`dns1123_subdomain`], in the words upstream uses inside a qualified name.
fn content_subdomain(value: &str) -> Vec<String> {
    let mut problems = too_long(value, DNS1123_SUBDOMAIN_BYTES_MAX, "bytes");
    if !is_dns1123_subdomain(value) {
        problems.push(DNS1123_SUBDOMAIN.mismatch());
    }
    problems
}

/// The value of a label: empty, or like a label's name.
#[must_use]
pub fn label_value(value: &str) -> Vec<String> {
    let mut problems = too_long(value, LABEL_VALUE_BYTES_MAX, "bytes");
    if !value.is_empty() && !is_label_name(value) {
        problems.push(LABEL_VALUE.mismatch());
    }
    problems
}

/// The key of a ConfigMap's or Secret's entry, which becomes a file name.
#[must_use]
pub fn config_key(value: &str) -> Vec<String> {
    let mut problems = too_long(value, DNS1123_SUBDOMAIN_BYTES_MAX, "characters");
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if value.is_empty() || !value.bytes().all(is_allowed) {
        problems.push(CONFIG_KEY.mismatch());
    }
    match value {
        "." => problems.push("must not be '.'".to_owned()),
        ".." => problems.push("must not be '..'".to_owned()),
        _ if value.starts_with("..") => problems.push("must not start with '..'".to_owned()),
        _ => {}
    }
    problems
}

/// The name of an environment variable: any printable ASCII but `=`
/// (upstream `IsRelaxedEnvVarName`; the relaxed form is the only one since v1.34).
#[must_use]
pub fn env_var_name(value: &str) -> Vec<String> {
    let is_allowed = |c: char| (c == ' ' || c.is_ascii_graphic()) && c != '=';
    if value.is_empty() {
        vec!["environment variable name must be non-empty".to_owned()]
    } else if !value.chars().all(is_allowed) {
        vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()]
    } else {
        Vec::new()
    }
}

#[must_use]
pub fn c_identifier(value: &str) -> Vec<String> {
    let starts_well = value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts_well && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Vec::new();
    }
    vec![C_IDENTIFIER.mismatch()]
}

/// An IANA service name, as container ports have them: `http`, `metrics-2`.
#[must_use]
pub fn port_name(value: &str) -> Vec<String> {
    let mut problems = too_long(value, PORT_NAME_BYTES_MAX, "characters");
    if value.is_empty() || !value.bytes().all(|byte| is_lower_alphanumeric(byte) || byte == b'-') {
        problems.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !value.bytes().any(|byte| byte.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        problems.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        problems.push("must not begin or end with a hyphen".to_owned());
    }
    problems
}

#[must_use]
pub fn port_number(value: i64) -> Vec<String> {
    in_range(value, 1, 65_535)
}

#[must_use]
pub fn user_id(value: i64) -> Vec<String> {
    in_range(value, 0, i64::from(i32::MAX))
}

#[must_use]
pub fn group_id(value: i64) -> Vec<String> {
    in_range(value, 0, i64::from(i32::MAX))
}

#[must_use]
pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&value) {
        Vec::new()
    } else {
        vec![format!("must be between {low} and {high}, inclusive")]
    }
}

/// `25%`.
#[must_use]
pub fn percent(value: &str) -> Vec<String> {
    let is_percent = value.strip_suffix('%').is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    if is_percent { Vec::new() } else { vec![PERCENT.mismatch()] }
}

/// `ReasonA`: why a condition is as it is (upstream `isValidConditionReason`).
#[must_use]
pub fn condition_reason(value: &str) -> Vec<String> {
    let is_of_reason = |byte: u8| byte.is_ascii_alphanumeric() || b"_,:".contains(&byte);
    let is_reason = value.starts_with(|c: char| c.is_ascii_alphabetic())
        && value.bytes().all(is_of_reason)
        && !value.ends_with([',', ':']);
    if is_reason { Vec::new() } else { vec![CONDITION_REASON.mismatch()] }
}

#[must_use]
pub fn http_header_name(value: &str) -> Vec<String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !value.is_empty() && value.bytes().all(is_allowed) {
        return Vec::new();
    }
    vec![HTTP_HEADER.mismatch()]
}

/// A segment of a path, which is the least that any name must be.
#[must_use]
pub fn path_segment(value: &str) -> Vec<String> {
    if matches!(value, "." | "..") {
        return vec![format!("may not be '{value}'")];
    }
    let forbidden = ["/", "%"].into_iter().filter(|mark| value.contains(mark));
    forbidden.map(|mark| format!("may not contain '{mark}'")).collect()
}

/// The name that `generateName` would lead to, for checking: what is generated begins with the
/// prefix and ends with a letter or digit (upstream `maskTrailingDash`).
#[must_use]
pub fn without_trailing_dash(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{rest}a"),
        _ => prefix.to_owned(),
    }
}

fn too_long(value: &str, bytes_max: usize, unit: &str) -> Vec<String> {
    if value.len() <= bytes_max {
        return Vec::new();
    }
    vec![format!("must be no more than {bytes_max} {unit}")]
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Whether the first and last byte satisfy `outer`, and all between `inner`.
fn is_enclosed(value: &str, outer: fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    match value.as_bytes() {
        [] => false,
        [only] => outer(*only),
        [first, middle @ .., last] => {
            outer(*first) && outer(*last) && middle.iter().all(|byte| inner(*byte))
        }
    }
}

fn is_dns1123_label(value: &str) -> bool {
    is_enclosed(value, is_lower_alphanumeric, |byte| is_lower_alphanumeric(byte) || byte == b'-')
}

fn is_dns1123_subdomain(value: &str) -> bool {
    value.split('.').all(is_dns1123_label)
}

fn is_label_name(value: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    is_enclosed(value, |byte| byte.is_ascii_alphanumeric(), inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each good text passes, each bad one has a problem that contains the words given.
    fn check(rule: Rule, good: &[&str], bad: &[(&str, &str)]) {
        for text in good {
            assert_eq!(rule(text), Vec::<String>::new(), "{text:?}");
        }
        for (text, words) in bad {
            let problems = rule(text);
            assert!(problems.iter().any(|one| one.contains(words)), "{text:?}: {problems:?}");
        }
    }

    #[test]
    fn labels_and_subdomains() {
        let long_label = "a".repeat(64);
        let long_name = "a.".repeat(127) + "a";
        check(
            dns1123_label,
            &["a", "0", "a-b", "a--b", "0-0", "123"],
            &[
                ("", "RFC 1123 label"),
                ("A", "RFC 1123 label"),
                ("-a", "RFC 1123 label"),
                ("a-", "RFC 1123 label"),
                ("a_b", "RFC 1123 label"),
                ("a.b", "must not contain dots"),
                (&long_label, "no more than 63 characters"),
            ],
        );
        check(
            dns1123_subdomain,
            &["a", "a.b", "0.0-1.c"],
            &[
                ("a..b", "RFC 1123 subdomain"),
                (".", "RFC 1123 subdomain"),
                ("a.-b", "RFC 1123 subdomain"),
                (&long_name, "no more than 253 characters"),
            ],
        );
        check(dns1035_label, &["a", "a-1"], &[("1a", "DNS-1035"), ("a-", "DNS-1035")]);
        check(
            dns1123_subdomain_with_underscore,
            &["_a.b", "a_b.c"],
            &[("a_", "'_', '-' or '.'"), ("", "'_', '-' or '.'")],
        );
        check(
            wildcard_dns1123_subdomain,
            &["*.a", "*.a.b"],
            &[("a.b", "start with '*.'"), ("*.*.a", "start with '*.'")],
        );
    }

    #[test]
    fn keys_and_values_of_labels() {
        let long = "a".repeat(64);
        check(
            qualified_name,
            &["a", "A.b_c-1", "example.com/a"],
            &[
                ("", "name part must be non-empty"),
                ("/a", "prefix part must be non-empty"),
                ("a/b/c", "a valid label key must consist"),
                ("Example.com/a", "prefix part a lowercase RFC 1123 subdomain"),
                (&long, "name part must be no more than 63 bytes"),
                ("a-", "name part must consist of"),
            ],
        );
        check(label_value, &["", "a", "A_b"], &[("-", "a valid label must be an empty string")]);
        check(label_value, &[], &[(&long, "no more than 63 bytes")]);
    }

    #[test]
    fn keys_of_entries_variables_and_ports() {
        check(
            config_key,
            &["a", ".a", "A_b.c-d"],
            &[
                ("", "config key"),
                ("a/b", "config key"),
                (".", "must not be '.'"),
                ("..", "must not be '..'"),
                ("..a", "must not start with '..'"),
            ],
        );
        check(env_var_name, &["A", "1a b", "x.y"], &[("", "non-empty"), ("a=b", "other than '='")]);
        check(c_identifier, &["_a1"], &[("1a", "C identifier"), ("", "C identifier")]);
        check(
            port_name,
            &["http", "a-1"],
            &[
                ("", "at least one letter"),
                ("12", "at least one letter"),
                ("a--b", "consecutive"),
                ("-a", "begin or end"),
                ("abcdefghijklmnop", "no more than 15 characters"),
                ("Http", "only alpha-numeric"),
            ],
        );
        check(percent, &["0%", "100%"], &[("%", "percent"), ("1", "percent")]);
        check(path_segment, &["a b", "A.b"], &[("..", "may not be"), ("a/b", "may not contain")]);
        check(http_header_name, &["X-A"], &[("", "HTTP header"), ("a b", "HTTP header")]);
    }

    #[test]
    fn a_mismatch_reads_as_upstreams() {
        assert_eq!(
            dns1123_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
    }

    #[test]
    fn generated_names_do_not_end_with_their_dash() {
        assert_eq!(without_trailing_dash("web-"), "weba");
        assert_eq!(without_trailing_dash("web"), "web");
        assert_eq!(without_trailing_dash("-"), "-");
    }
}
