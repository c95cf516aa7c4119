//! Which functions there are, and of what types: functions.txt, read once.
//!
//! They are those of upstream's base environment for expressions that are written to v1.35
//! (apiserver pkg/cel/environment/base.go; the compatibility version is 1.34), with the names
//! that upstream gives overloads: costs go by them.

use super::types::{Param, Type};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// One of the ways to call a function.
#[derive(Clone, Debug)]
pub(super) struct Overload {
    pub(super) name: Arc<str>,
    /// Whether the first argument comes before the function, with a dot.
    pub(super) is_member: bool,
    /// What it returns, then what it takes.
    pub(super) types: Vec<Type>,
}

static FUNCTIONS: LazyLock<HashMap<String, Vec<Overload>>> = LazyLock::new(|| {
    let mut functions: HashMap<String, Vec<Overload>> = HashMap::new();
    for (name, overload) in comparisons().into_iter().chain(declared()) {
        functions.entry(name).or_default().push(overload);
    }
    functions
});

/// The overloads of a function.
pub(super) fn overloads(function: &str) -> Option<&'static [Overload]> {
    FUNCTIONS.get(function).map(Vec::as_slice)
}

const COMPARABLE: &[&str] =
    &["int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"];
const SUMMABLE: &[&str] = &["int", "uint", "double", "duration"];

fn declared() -> Vec<(String, Overload)> {
    let mut found = Vec::new();
    for line in include_str!("functions.txt").lines() {
        if line.is_empty() || line.starts_with("# ") {
            continue;
        }
        let (line, types) = match line.strip_prefix('+') {
            Some(line) if line.starts_with(|c: char| c.is_ascii_alphabetic()) => (line, SUMMABLE),
            _ => (line, COMPARABLE),
        };
        if line.contains('#') {
            found.extend(types.iter().map(|ty| parse(&line.replace('#', ty))));
        } else {
            found.push(parse(line));
        }
    }
    found
}

/// `<`, `<=`, `>` and `>=` of each type with itself, and of numbers with each other.
fn comparisons() -> Vec<(String, Overload)> {
    let mut found = Vec::new();
    for (function, word) in
        [("_<_", "less"), ("_<=_", "less_equals"), ("_>_", "greater"), ("_>=_", "greater_equals")]
    {
        for one in COMPARABLE {
            for two in COMPARABLE {
                let numbers = ["int", "uint", "double"];
                if one == two || (numbers.contains(one) && numbers.contains(two)) {
                    let line = format!("{function} {word}_{one}_{two} ({one}, {two}) bool");
                    found.push(parse(&line));
                }
            }
        }
    }
    found
}

fn parse(line: &str) -> (String, Overload) {
    let mut words = line.splitn(3, ' ');
    let mut word = || words.next().expect("functions.txt has three columns");
    let (function, name, types) = (word(), word(), word());
    let (is_member, types) = match types.strip_prefix('.') {
        Some(types) => (true, types),
        None => (false, types),
    };
    let close = closing(types);
    let mut all = vec![ty(&types[close + 2..])];
    all.extend(split(&types[1..close]).into_iter().map(ty));
    (function.to_owned(), Overload { name: name.into(), is_member, types: all })
}

/// Where the parenthesis is closed that the text begins with.
fn closing(text: &str) -> usize {
    let mut ends = text.match_indices(')').map(|(at, _)| at);
    ends.find(|at| balanced(&text[..=*at])).expect("arguments end with a parenthesis")
}

fn balanced(text: &str) -> bool {
    text.matches('(').count() == text.matches(')').count()
}

/// The parts between commas that are in no parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(", ") {
        if balanced(&text[start..at]) {
            parts.push(&text[start..at]);
            start = at + 2;
        }
    }
    if !text.is_empty() {
        parts.push(&text[start..]);
    }
    parts
}

/// The type of a name in functions.txt.
fn ty(text: &str) -> Type {
    if let Some((name, rest)) = text.split_once('(') {
        let inner = split(rest.strip_suffix(')').expect("parentheses are closed"));
        return match name {
            "list" => Type::list(ty(inner[0])),
            "optional" => Type::optional(ty(inner[0])),
            "type" => Type::Type(Some(Arc::new(ty(inner[0])))),
            _ => Type::map(ty(inner[0]), ty(inner[1])),
        };
    }
    match text {
        "dyn" => Type::Dyn,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "ip" => Type::Opaque("net.IP", None),
        "cidr" => Type::Opaque("net.CIDR", None),
        "url" => Type::Named("kubernetes.URL"),
        "quantity" => Type::Named("kubernetes.Quantity"),
        "semver" => Type::Named("kubernetes.Semver"),
        "format" => Type::Named("kubernetes.NamedFormat"),
        "authorizer" => Type::Named("kubernetes.authorization.Authorizer"),
        "path" => Type::Named("kubernetes.authorization.PathCheck"),
        "group" => Type::Named("kubernetes.authorization.GroupCheck"),
        "resource" => Type::Named("kubernetes.authorization.ResourceCheck"),
        "decision" => Type::Named("kubernetes.authorization.Decision"),
        letter => Type::Param(Param::Declared(letter.chars().next().expect("no empty type"))),
    }
}

/// The types that expressions can name.
pub(super) fn named_type(name: &str) -> Option<Type> {
    Some(match name {
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "null_type" => Type::Null,
        "type" => Type::Type(None),
        "google.protobuf.Timestamp" => Type::Timestamp,
        "google.protobuf.Duration" => Type::Duration,
        "optional_type" => Type::optional(Type::Dyn),
        "net.IP" => ty("ip"),
        "net.CIDR" => ty("cidr"),
        "bool" | "int" | "uint" | "double" | "string" | "bytes" => ty(name),
        _ => return library_type(name).map(Type::Named),
    })
}

fn library_type(name: &str) -> Option<&'static str> {
    const NAMES: &[&str] = &[
        "kubernetes.URL",
        "kubernetes.Quantity",
        "kubernetes.Semver",
        "kubernetes.NamedFormat",
        "kubernetes.authorization.Authorizer",
        "kubernetes.authorization.PathCheck",
        "kubernetes.authorization.GroupCheck",
        "kubernetes.authorization.ResourceCheck",
        "kubernetes.authorization.Decision",
    ];
    NAMES.iter().copied().find(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(function: &str, expected: &[&str]) {
        let found: Vec<String> = overloads(function)
            .unwrap()
            .iter()
            .map(|o| {
                let types: Vec<String> = o.types.iter().map(Type::to_string).collect();
                let dot = if o.is_member { "." } else { "" };
                format!("{} {dot}({}) {}", o.name, types[1..].join(", "), types[0])
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn declarations_are_read() {
        check("getQuery", &["url_get_query .(kubernetes.URL) map(string, list(string))"]);
        check("optional.none", &["optional_none () optional_type(V)"]);
        check(
            "validate",
            &["format-validate .(kubernetes.NamedFormat, string) optional_type(list(string))"],
        );
        check("ip", &["string_to_ip (string) net.IP", "cidr_ip .(net.CIDR) net.IP"]);
        assert_eq!(overloads("sum").unwrap().len(), 4);
        assert_eq!(overloads("sort").unwrap().len(), 8);
        assert_eq!(overloads("_<_").unwrap().len(), 14);
        assert_eq!(overloads("_+_").unwrap().len(), 9);
    }
}
