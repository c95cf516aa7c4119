//! Answers in YAML: the JSON that another client would get, written for people.
//!
//! Texts that a reader of YAML 1.1 would take for something else, such as `yes` or `1e3`, are in
//! quotes: clients written in Go read it that way, and so does this server.

use crate::api::Status;
use crate::stdx::http::{Response, full};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde_json::Value;

const YAML: HeaderValue = HeaderValue::from_static("application/yaml");

/// The same document. Maps are in the order of their keys, as upstream writes them.
pub(super) fn of_json(json: &[u8]) -> Result<String, Status> {
    let value: Value = serde_json::from_slice(json).map_err(Status::internal)?;
    serde_saphyr::to_string(&value).map_err(|error| {
        Status::internal(format_args!("the object cannot be written in YAML: {error}"))
    })
}

pub(crate) fn response(code: StatusCode, json: &[u8]) -> Result<Response, Status> {
    let mut response = Response::new(full(of_json(json)?));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, YAML);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::schema::{self, Format};
    use proptest::prelude::*;
    use serde_json::json;

    #[track_caller]
    fn check(value: &Value) {
        let yaml = of_json(value.to_string().as_bytes()).unwrap();
        let read = schema::decode(yaml.as_bytes(), Format::Yaml);
        assert_eq!(read.unwrap().value, *value, "{yaml}");
    }

    #[test]
    fn texts_stay_texts() {
        let texts = [
            "",
            " ",
            "yes",
            "No",
            "on",
            "y",
            "~",
            "null",
            "true",
            "0x1f",
            "1e3",
            "1_000",
            "0o7",
            "012",
            ".5",
            "1:30",
            "2001-01-01",
            ".inf",
            ".NaN",
            "- a",
            "a: b",
            "a #b",
            "#a",
            "'a'",
            "\"",
            "&a",
            "*a",
            "!a",
            "|",
            ">",
            "%a",
            "@a",
            "`a`",
            "[a",
            "{a",
            "a\nb",
            "a\n",
            "\n a",
            "  a\nb\n\n",
            "\t",
            "\u{7f}",
            "\u{85}",
            "\u{2028}",
            "\u{feff}",
            "é",
            "鸟",
            "a\\b",
            "---",
            "...",
            "?",
            "? a",
            ":",
            "<<",
            "=",
            "a\r\nb",
            "-",
            "-1",
            "+1",
        ];
        for text in texts {
            check(&json!({ "text": text }));
            check(&json!({ text: [text, {"inner": text}] }));
        }
    }

    #[test]
    fn everything_else_is_what_it_was() {
        check(&json!({"metadata": {"name": "a", "labels": {}}, "items": [], "n": null, "b": true,
            "i": -7, "u": u64::MAX, "f": 1.5, "nested": [[1, [2]], [{"a": []}]]}));
    }

    fn documents() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(document in documents()) {
            check(&json!({ "document": document }));
        }
    }
}
