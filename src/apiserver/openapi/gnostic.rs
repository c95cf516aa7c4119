//! A document of OpenAPI v2 in the protobuf that clients before 1.27 ask for: the messages of
//! gnostic's `openapiv2/OpenAPIv2.proto`, as far as our documents need them. Pure.
//!
//! Start at [`document()`]. Every function writes the members of one JSON object as the fields of one
//! message; members that our documents do not have are left out.

use crate::registry::schema::protobuf::Writer;
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;

/// The members of an object, written as the fields of a message.
type Members = fn(&mut Writer, &Value);

/// `PathItem`.
pub(super) fn path_message(item: &Value) -> Vec<u8> {
    let mut out = Writer::default();
    path_item(&mut out, item);
    out.into_bytes()
}

/// `Schema`.
pub(super) fn schema_message(facts: &Value) -> Vec<u8> {
    let mut out = Writer::default();
    schema(&mut out, facts);
    out.into_bytes()
}

/// `Document`, of what is at its head and of messages.
pub(super) fn document(
    head: &Value,
    paths: &BTreeMap<String, Bytes>,
    definitions: &BTreeMap<String, Bytes>,
) -> Vec<u8> {
    let mut out = Writer::default();
    for (name, value) in members(head) {
        match name.as_str() {
            "swagger" => text(&mut out, 1, value),
            "info" => message(&mut out, 2, |out| info(out, value)),
            "security" => {
                for requirement in elements(value) {
                    message(&mut out, 12, |out| named(out, 1, requirement, texts_message));
                }
            }
            "securityDefinitions" => {
                message(&mut out, 13, |out| named(out, 1, value, security_definition));
            }
            _ => {}
        }
    }
    message(&mut out, 8, |out| written(out, 2, paths));
    message(&mut out, 9, |out| written(out, 1, definitions));
    out.into_bytes()
}

/// `NamedPathItem` and `NamedSchema`, one for each.
fn written(out: &mut Writer, number: u8, parts: &BTreeMap<String, Bytes>) {
    for (name, part) in parts {
        message(out, number, |out| {
            out.bytes_field(1, name.as_bytes());
            out.bytes_field(2, part);
        });
    }
}

/// `StringArray`.
fn texts_message(out: &mut Writer, list: &Value) {
    texts(out, 1, list);
}

/// `SecurityDefinitionsItem`, with the only kind that there is here: `ApiKeySecurity`.
fn security_definition(out: &mut Writer, definition: &Value) {
    message(out, 2, |out| {
        for (number, name) in [(1, "type"), (2, "name"), (3, "in"), (4, "description")] {
            text(out, number, &definition[name]);
        }
    });
}

fn info(out: &mut Writer, info: &Value) {
    for (name, value) in members(info) {
        match name.as_str() {
            "title" => text(out, 1, value),
            "version" => text(out, 2, value),
            _ => {}
        }
    }
}

fn path_item(out: &mut Writer, item: &Value) {
    for (name, value) in members(item) {
        let number = match name.as_str() {
            "get" => 2,
            "put" => 3,
            "post" => 4,
            "delete" => 5,
            "options" => 6,
            "head" => 7,
            "patch" => 8,
            "parameters" => {
                parameters(out, 9, value);
                continue;
            }
            _ => continue,
        };
        message(out, number, |out| operation(out, value));
    }
}

fn operation(out: &mut Writer, operation: &Value) {
    for (name, value) in members(operation) {
        match name.as_str() {
            "tags" => texts(out, 1, value),
            "description" => text(out, 3, value),
            "operationId" => text(out, 5, value),
            "produces" => texts(out, 6, value),
            "consumes" => texts(out, 7, value),
            "parameters" => parameters(out, 8, value),
            "schemes" => texts(out, 10, value),
            "deprecated" => flag(out, 11, value),
            "responses" => message(out, 9, |out| named(out, 1, value, response)),
            _ => extension(out, 13, name, value),
        }
    }
}

/// `ParametersItem` and `Parameter`, and in them what there is of each place.
fn parameters(out: &mut Writer, number: u8, list: &Value) {
    for parameter in elements(list) {
        match parameter["in"].as_str() {
            Some("body") => within(out, &[number, 1, 1], |out| body_parameter(out, parameter)),
            // `NonBodyParameter` with a `PathParameterSubSchema` or a `QueryParameterSubSchema`.
            Some("path") => {
                within(out, &[number, 1, 2, 4], |out| plain_parameter(out, parameter, (5, 19)));
            }
            _ => within(out, &[number, 1, 2, 3], |out| plain_parameter(out, parameter, (6, 20))),
        }
    }
}

fn body_parameter(out: &mut Writer, parameter: &Value) {
    for (name, value) in members(parameter) {
        match name.as_str() {
            "name" => text(out, 2, value),
            "in" => text(out, 3, value),
            "required" => flag(out, 4, value),
            "schema" => message(out, 5, |out| schema(out, value)),
            _ => {}
        }
    }
}

/// The two kinds differ in the numbers of `type` and `unique_items`.
fn plain_parameter(out: &mut Writer, parameter: &Value, (kind, is_unique): (u8, u8)) {
    for (name, value) in members(parameter) {
        match name.as_str() {
            "required" => flag(out, 1, value),
            "in" => text(out, 2, value),
            "description" => text(out, 3, value),
            "name" => text(out, 4, value),
            "type" => text(out, kind, value),
            "uniqueItems" => flag(out, is_unique, value),
            _ => {}
        }
    }
}

/// `ResponseValue`, with a `Response` in it.
fn response(out: &mut Writer, response: &Value) {
    message(out, 1, |out| {
        for (name, value) in members(response) {
            match name.as_str() {
                "description" => text(out, 1, value),
                // `SchemaItem`
                "schema" => within(out, &[2, 1], |out| schema(out, value)),
                _ => {}
            }
        }
    });
}

fn schema(out: &mut Writer, facts: &Value) {
    for (name, value) in members(facts) {
        match name.as_str() {
            "$ref" => text(out, 1, value),
            "format" => text(out, 2, value),
            "description" => text(out, 4, value),
            "required" => texts(out, 19, value),
            "enum" => {
                for value in elements(value) {
                    message(out, 20, |out| any(out, value));
                }
            }
            "additionalProperties" => {
                within(out, &[21, 1], |out| schema(out, value));
            }
            "type" => message(out, 22, |out| text(out, 1, value)),
            "items" => within(out, &[23, 1], |out| schema(out, value)),
            "properties" => message(out, 25, |out| named(out, 1, value, schema)),
            _ => extension(out, 31, name, value),
        }
    }
}

/// `NamedAny`, for members whose names begin with `x-`.
fn extension(out: &mut Writer, number: u8, name: &str, value: &Value) {
    if name.starts_with("x-") {
        message(out, number, |out| {
            out.bytes_field(1, name.as_bytes());
            message(out, 2, |out| any(out, value));
        });
    }
}

/// `Any`: free-form values travel as YAML, and JSON is YAML.
fn any(out: &mut Writer, value: &Value) {
    out.bytes_field(2, value.to_string().as_bytes());
}

/// `NamedSchema` and its like, one for each member: the name, and what it names.
fn named(out: &mut Writer, number: u8, object: &Value, write: Members) {
    for (name, value) in members(object) {
        message(out, number, |out| {
            out.bytes_field(1, name.as_bytes());
            message(out, 2, |out| write(out, value));
        });
    }
}

fn message(out: &mut Writer, number: u8, write: impl FnOnce(&mut Writer)) {
    let opened = out.open(number);
    write(out);
    out.close(opened);
}

/// Messages whose only field is the next one.
fn within(out: &mut Writer, numbers: &[u8], write: impl FnOnce(&mut Writer)) {
    let opened: Vec<_> = numbers.iter().map(|number| out.open(*number)).collect();
    write(out);
    for message in opened.into_iter().rev() {
        out.close(message);
    }
}

fn texts(out: &mut Writer, number: u8, list: &Value) {
    for value in elements(list) {
        text(out, number, value);
    }
}

fn text(out: &mut Writer, number: u8, value: &Value) {
    out.bytes_field(number, value.as_str().unwrap_or_default().as_bytes());
}

fn flag(out: &mut Writer, number: u8, value: &Value) {
    out.varint_field(number, u64::from(value == &Value::Bool(true)));
}

fn elements(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn members(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn encode(parts: &Value) -> Vec<u8> {
        let encoded = |name: &str, encode: fn(&Value) -> Vec<u8>| -> BTreeMap<String, Bytes> {
            let encode = |(name, part): (&String, &Value)| (name.clone(), encode(part).into());
            members(&parts[name]).map(encode).collect()
        };
        let (paths, definitions) =
            (encoded("paths", path_message), encoded("definitions", schema_message));
        document(parts, &paths, &definitions)
    }

    /// The fields of a message in short: texts as they are, messages in braces.
    fn show(bytes: &[u8]) -> String {
        let mut shown = Vec::new();
        let mut rest = bytes;
        while let [key, tail @ ..] = rest {
            let mut number = u64::from(*key);
            let mut tail = tail;
            if let ([high, after @ ..], true) = (tail, key & 0x80 != 0) {
                number = number & 0x7f | u64::from(*high) << 7;
                tail = after;
            }
            let [length, tail @ ..] = tail else { panic!("a field without a value") };
            if number & 7 == 0 {
                shown.push(format!("{}={length}", number >> 3));
                rest = tail;
                continue;
            }
            let (value, tail) = tail.split_at(usize::from(*length));
            // Texts here have no control characters; messages have a short length somewhere.
            let is_message = value.iter().any(u8::is_ascii_control);
            let value = if is_message {
                format!("{{{}}}", show(value))
            } else {
                String::from_utf8(value.to_vec()).unwrap()
            };
            shown.push(format!("{}={value}", number >> 3));
            rest = tail;
        }
        shown.join(" ")
    }

    fn check(document: &Value, expected: &str) {
        let shown = show(&encode(document));
        assert!(shown.contains(expected), "{shown} for {document}");
    }

    #[test]
    fn the_head_of_a_document() {
        let document = json!({"swagger": "2.0", "info": {"title": "K", "version": "v1"}});
        let shown = show(&encode(&document));
        assert!(shown.contains("1=2.0") && shown.contains("2={1=K 2=v1}"), "{shown}");
    }

    #[test]
    fn who_asks_shows_a_token() {
        let token = json!({"type": "k", "name": "n", "in": "h", "description": "d"});
        let document = json!({"security": [{"T": ["s"]}], "securityDefinitions": {"T": token}});
        check(&document, "12={1={1=T 2={1=s}}}");
        check(&document, "13={1={1=T 2={2={1=k 2=n 3=h 4=d}}}}");
    }

    #[test]
    fn schemas_have_their_fields() {
        let of = |schema: Value| json!({"definitions": {"T": schema}});
        let wrap = |fields: &str| format!("9={{1={{1=T 2={{{fields}}}}}}}");
        check(&of(json!({"$ref": "#/d/X"})), &wrap("1=#/d/X"));
        check(&of(json!({"type": "object"})), &wrap("22={1=object}"));
        check(&of(json!({"required": ["a", "b"]})), &wrap("19=a 19=b"));
        check(&of(json!({"enum": ["a"]})), &wrap("20={2=\"a\"}"));
        check(&of(json!({"items": {"format": "x"}})), &wrap("23={1={2=x}}"));
        check(&of(json!({"additionalProperties": {"format": "x"}})), &wrap("21={1={2=x}}"));
        check(&of(json!({"properties": {"p": {"format": "x"}}})), &wrap("25={1={1=p 2={2=x}}}"));
        check(&of(json!({"x-a": "b", "unknown": 1})), &wrap("31={1=x-a 2={2=\"b\"}}"));
    }

    #[test]
    fn operations_have_their_parameters() {
        let patch = json!({
            "parameters": [{"name": "dryRun", "in": "query"}],
            "responses": {"200": {"description": "OK"}},
        });
        let shown = show(&encode(&json!({"paths": {"/p": {"patch": patch}}})));
        assert!(shown.contains("8={2={1=/p 2={8={"), "{shown}");
        assert!(shown.contains("9={1={1=200 2={1={1=OK}}}}"), "{shown}");
        assert!(shown.contains("4=dryRun") && shown.contains("2=query"), "{shown}");
        assert!(shown.contains("8={1={2={3={"), "{shown}");
    }
}
