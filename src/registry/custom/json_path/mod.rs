//! JSONPath as Kubernetes understands it: `.status.conditions[?(@.type=="Ready")].status` (upstream
//! client-go util/jsonpath, v1.35).
//!
//! What is read is one expression without its braces. As upstream has it, a missing field is
//! nothing, an index beyond a list is an error, and a key in brackets is read like a path:
//! `['a.b']` is `.a.b`, and a dot in a key is escaped with `\`.

mod eval;
mod parse;

use serde_json::Value;

/// A longer expression is refused.
pub const PATH_BYTES_MAX: usize = 4_096;

/// Filters and unions within one another beyond this depth are refused.
const NESTED_MAX: usize = 8;

/// An expression that finds more than this fails.
const RESULTS_MAX: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    #[error("{0}")]
    Syntax(String),
    #[error("the path is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    #[error("the path nests more than {NESTED_MAX} levels deep")]
    TooDeep,
}

/// An expression, read.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Box<[Step]>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(Box<str>),
    /// `*`: all values.
    Wildcard,
    /// `..`: this, and all that is below.
    Recursive,
    Slice(Slice),
    /// `[0,2]`: what each finds.
    Union(Box<[JsonPath]>),
    Filter(Box<Filter>),
    /// A text, a number or a boolean.
    Literal(Value),
}

/// `[start:end:step]`; absent: from the first, to the last, each.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Slice {
    start: Option<i64>,
    end: Option<i64>,
    step: Option<i64>,
    /// `[2]`.
    is_index: bool,
}

/// `[?(left operator right)]`.
#[derive(Clone, Debug, PartialEq)]
struct Filter {
    left: JsonPath,
    comparison: Option<(Comparison, JsonPath)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Reads `.spec.replicas`.
    ///
    /// # Errors
    /// If it is no expression.
    pub fn parse(text: &str) -> Result<Self, BadPath> {
        if text.len() > PATH_BYTES_MAX {
            return Err(BadPath::TooLong);
        }
        parse::parse(text, 0)
    }

    /// What the expression finds.
    ///
    /// # Errors
    /// Where it asks of a value what only others have.
    pub fn find<'v>(&'v self, value: &'v Value) -> Result<Vec<&'v Value>, String> {
        eval::find(&self.steps, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[track_caller]
    fn check(path: &str, expected: Result<Value, &str>) {
        let value = json!({
            "spec": {"replicas": 3, "a.b": "dotted", "list": ["x", "y", "z"], "none": null},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "age": 5},
                {"type": "Synced", "status": "False", "age": 7},
            ]},
        });
        let found = JsonPath::parse(path).map_err(|error| error.to_string()).and_then(|path| {
            path.find(&value).map(|found| Value::from_iter(found.into_iter().cloned()))
        });
        assert_eq!(found, expected.map_err(str::to_owned), "{path}");
    }

    #[test]
    fn paths_find_values() {
        check(".spec.replicas", Ok(json!([3])));
        check("$.spec.replicas", Ok(json!([3])));
        check(".spec['replicas']", Ok(json!([3])));
        check(r".spec.a\.b", Ok(json!(["dotted"])));
        check(r".spec['a\.b']", Ok(json!(["dotted"])));
        check(".spec['a.b']", Ok(json!([])));
        check(".spec.missing.more", Ok(json!([])));
        check(".spec.none", Ok(json!([null])));
        check(".spec.list[0]", Ok(json!(["x"])));
        check(".spec.list[-1]", Ok(json!(["z"])));
        check(".spec.list[0:2]", Ok(json!(["x", "y"])));
        check(".spec.list[1:]", Ok(json!(["y", "z"])));
        check(".spec.list[::2]", Ok(json!(["x", "z"])));
        check(".spec.list[*]", Ok(json!(["x", "y", "z"])));
        check(".spec.list[0,2]", Ok(json!(["x", "z"])));
        check(".spec.list[5]", Err("array index out of bounds: index 5, length 3"));
        check(".spec[0]", Err("the value is not array or slice"));
        check(".status.conditions[?(@.type==\"Ready\")].status", Ok(json!(["True"])));
        check(".status.conditions[?(@.type == 'Synced')].age", Ok(json!([7])));
        check(".status.conditions[?(@.age>5)].type", Ok(json!(["Synced"])));
        check(".status.conditions[?(@.age<=5)].type", Ok(json!(["Ready"])));
        check(".status.conditions[?(@.status!=\"True\")].type", Ok(json!(["Synced"])));
        check(".status.conditions[?(@.reason)].type", Ok(json!([])));
        check(".status.conditions[?(@.type)].type", Ok(json!(["Ready", "Synced"])));
        check(".status.conditions[*].type", Ok(json!(["Ready", "Synced"])));
        check("..age", Ok(json!([5, 7])));
        check(".status.*[0].type", Ok(json!(["Ready"])));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for (path, expected) in [
            (".a[", "unterminated array"),
            (".a[x]", "invalid array index x"),
            (".a[?(@.b", "unterminated filter"),
            (".a[?(@.b)", "unclosed array expect ]"),
            (".a}", "unrecognized character in action: U+007D '}'"),
            ("a", "unrecognized identifier a"),
            (".a \"b", "unterminated quoted string"),
        ] {
            assert_eq!(JsonPath::parse(path).unwrap_err().to_string(), expected, "{path}");
        }
        let deep = format!("{}@.a{}", "[?(".repeat(20), ")]".repeat(20));
        assert!(JsonPath::parse(&deep).is_err());
        assert_eq!(JsonPath::parse(&".a".repeat(4_096)), Err(BadPath::TooLong));
    }

    proptest! {
        #[test]
        fn no_text_panics(path in r#"[\[\]\\(){}?*.,:$@'"=<>!a-c0-9 -]{0,24}"#) {
            let value = json!({"a": [{"b": 1, "c": [1, 2]}, {"b": "x"}], "b": {"a": null}});
            if let Ok(path) = JsonPath::parse(&path) {
                drop(path.find(&value));
            }
        }
    }
}
