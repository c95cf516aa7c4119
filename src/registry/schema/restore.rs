//! What upstream says of a document that a strategic merge patch made of one of a built-in type.
//!
//! It becomes an object without being written as JSON in between, by a converter that has words of its
//! own for values of a wrong type (`fromUnstructured`, apimachinery pkg/runtime/converter.go, v1.35).
//! [`check`](super::check()) decides whether there are any; this only tells of the first.

use super::formats;
use super::table::{BUILT_IN, Shape, TypeRef};
use serde_json::Value;

/// Why `value` cannot be one of type `of`, where the converter has words of its own for that.
#[must_use]
pub fn unrestorable(of: TypeRef, value: &Value) -> Option<String> {
    visit(Shape::Struct(of), value)
}

fn visit(shape: Shape, value: &Value) -> Option<String> {
    match (shape, value) {
        (_, Value::Null) => None,
        (Shape::String, value) => scalar("string", value),
        (Shape::Bool, value) => scalar("bool", value),
        (Shape::Int32, value) => scalar("int32", value),
        (Shape::Int64, value) => scalar("int64", value),
        (Shape::Double, value) => scalar("float64", value),
        (Shape::Bytes, Value::String(text)) => {
            let problem = formats::check_base64(text).err()?;
            Some(format!("error decoding from json: {problem}"))
        }
        (Shape::List(of), Value::Array(list)) => {
            let element = BUILT_IN.element(of);
            list.iter().find_map(|value| visit(element, value))
        }
        (Shape::List(_) | Shape::Bytes, other) => {
            Some(format!("cannot restore slice from {}", go_kind(other)))
        }
        (Shape::Map(of), Value::Object(map)) => {
            let element = BUILT_IN.element(of);
            map.values().find_map(|value| visit(element, value))
        }
        (Shape::Map(_), other) => Some(format!("cannot restore map from {}", go_kind(other))),
        (Shape::Struct(of), _) if BUILT_IN.get(of).is_any() => None,
        (Shape::Struct(of), Value::Object(map)) => {
            BUILT_IN.get(of).fields().find_map(|field| visit(field.shape(), map.get(field.name())?))
        }
        (Shape::Struct(_), other) => {
            Some(format!("cannot restore struct from: {}", go_kind(other)))
        }
        // These read JSON themselves, and free-form JSON is of any type.
        (
            Shape::Quantity
            | Shape::IntOrString
            | Shape::Time
            | Shape::MicroTime
            | Shape::Object
            | Shape::Any,
            _,
        ) => None,
    }
}

/// Go converts numbers to numbers, and would make a text of an integer, which this refuses.
fn scalar(wanted: &str, value: &Value) -> Option<String> {
    let is_number = matches!(wanted, "int32" | "int64" | "float64");
    match value {
        Value::String(_) if wanted == "string" => None,
        Value::Bool(_) if wanted == "bool" => None,
        Value::Number(number) if is_number => {
            let is_fraction = number.is_f64() && number.as_f64().is_some_and(|x| x.fract() != 0.0);
            (wanted != "float64" && is_fraction)
                .then(|| format!("cannot convert float64 to {wanted}"))
        }
        Value::Number(number) if wanted == "string" && !number.is_f64() => {
            Some("cannot convert int64 to string".to_owned())
        }
        _ => Some(format!("unrecognized type: {wanted}")),
    }
}

/// What Go calls the kind of a value that was read without a type.
fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_value_of_a_wrong_type_is_told_as_the_converter_tells_it() {
        let deployment = BUILT_IN.find("apps", "v1", "Deployment").unwrap();
        let check = |spec: Value, expected: Option<&str>| {
            let told = unrestorable(deployment, &json!({ "spec": spec }));
            assert_eq!(told.as_deref(), expected, "{spec}");
        };
        check(json!({"replicas": 3, "paused": true}), None);
        check(json!({"replicas": null}), None);
        check(json!({"replicas": "3"}), Some("unrecognized type: int32"));
        check(json!({"replicas": 3.5}), Some("cannot convert float64 to int32"));
        check(json!({"paused": "true"}), Some("unrecognized type: bool"));
        check(json!({"strategy": {"type": 1}}), Some("cannot convert int64 to string"));
        check(json!({"strategy": {"type": 1.5}}), Some("unrecognized type: string"));
        check(json!({"strategy": []}), Some("cannot restore struct from: slice"));
        check(json!({"selector": {"matchLabels": 5}}), Some("cannot restore map from int64"));
        let containers = |value: Value| json!({"template": {"spec": {"containers": value}}});
        check(containers(json!("x")), Some("cannot restore slice from string"));
        check(containers(json!([{"image": {}}])), Some("unrecognized type: string"));
        let secret = BUILT_IN.find("", "v1", "Secret").unwrap();
        assert_eq!(
            unrestorable(secret, &json!({"data": {"a": "!"}})).unwrap(),
            "error decoding from json: illegal base64 data at input byte 0"
        );
    }
}
