//! Reads parts of JSON documents as their declarations say, when an expression asks for them.
//!
//! Follows `UnstructuredToVal` and `unstructuredMap` (apiserver pkg/cel/common/
//! valuesunstructured.go, v1.35), errors included: a document that does not fit its schema is
//! an error where it is looked at.

use super::declared::{Declared, Shape};
use super::escape::{escape, unescape};
use super::foreign::Foreign;
use super::times;
use super::value::{Fault, Items, List, Map, Outcome, Properties, Text, Value};
use crate::api::Quantity;
use base64::Engine;
use serde_json::Value as Json;
use std::sync::Arc;

pub(super) fn read<'a>(json: &'a Json, declared: &Declared) -> Outcome<'a> {
    if json.is_null() {
        if declared.is_nullable || matches!(declared.shape, Shape::Any) {
            return Ok(Value::Null);
        }
        return Err(Fault::new("invalid data, got null for schema with nullable=false"));
    }
    match &declared.shape {
        Shape::Any => Ok(untyped(json)),
        Shape::IntOrString => match json {
            Json::String(text) => Ok(Value::Text(Text::Borrowed(text))),
            Json::Number(number) if number.is_i64() => integer(json),
            _ => Err(Fault::new(
                "invalid data, expected XIntOrString value to be either a string or integer",
            )),
        },
        Shape::Bool => match json {
            Json::Bool(value) => Ok(Value::Bool(*value)),
            _ => Err(unexpected("bool", json)),
        },
        Shape::Int => integer(json),
        Shape::Uint => json.as_u64().map(Value::Uint).ok_or_else(|| unexpected("uint", json)),
        Shape::Double => json.as_f64().map(Value::Double).ok_or_else(|| unexpected("float", json)),
        Shape::String
        | Shape::Bytes
        | Shape::Timestamp
        | Shape::Date
        | Shape::Duration
        | Shape::Quantity => match json {
            Json::String(text) => formatted(text, &declared.shape),
            _ => Err(unexpected("string", json)),
        },
        Shape::List(element, kind) => match json {
            Json::Array(items) => {
                let items = Items::Json(items, Arc::clone(element));
                Ok(Value::List(List { items, kind: kind.clone() }))
            }
            _ => Err(Fault::new(
                "invalid data, expected an array for the provided schema with type=array",
            )),
        },
        Shape::Map(values) => object(json, Properties::All(Arc::clone(values))),
        Shape::Object(fields) => object(json, Properties::Of(fields.clone())),
        Shape::Opaque | Shape::Native(_) => Err(Fault::new("invalid data")),
    }
}

fn object(json: &Json, properties: Properties) -> Outcome<'_> {
    match json {
        Json::Object(map) => Ok(Value::Map(Map::Json(map, properties))),
        _ => {
            Err(Fault::new("invalid data, expected a map for the provided schema with type=object"))
        }
    }
}

fn integer(json: &Json) -> Outcome<'_> {
    json.as_i64().map(Value::Int).ok_or_else(|| unexpected("int", json))
}

/// The second name is what Go calls the type that JSON has there.
fn unexpected(wanted: &str, json: &Json) -> Fault {
    let found = match json {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Number(number) if number.is_i64() => "int64",
        Json::Number(_) => "float64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    };
    Fault::new(format!("invalid data, expected {wanted}, got {found}"))
}

/// A part of which nothing is declared.
fn untyped(json: &Json) -> Value<'_> {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::Int(value),
            (None, Some(value)) => Value::Uint(value),
            (None, None) => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(Text::Borrowed(text)),
        Json::Array(items) => {
            let items = Items::Json(items, Arc::new(Declared::of(Shape::Any)));
            Value::List(List { items, kind: super::declared::ListKind::Atomic })
        }
        Json::Object(map) => Value::Map(Map::Json(map, Properties::Unknown)),
    }
}

fn formatted<'a>(text: &'a str, shape: &Shape) -> Outcome<'a> {
    match shape {
        // `strfmt.Base64.UnmarshalText` reads the alphabet of URLs.
        Shape::Bytes => base64::engine::general_purpose::URL_SAFE
            .decode(text)
            .map(|bytes| Value::Bytes(bytes.into()))
            .map_err(|problem| {
                Fault::new(format!("Invalid byte formatted string {text}: {problem}"))
            }),
        Shape::Timestamp => times::parse_timestamp(text)
            .map(Value::Timestamp)
            .ok_or_else(|| Fault::new(format!("Invalid date-time formatted string {text}"))),
        Shape::Date => times::parse_date(text)
            .map(Value::Timestamp)
            .ok_or_else(|| Fault::new(format!("Invalid date formatted string {text}"))),
        Shape::Duration => times::parse_duration(text)
            .map(Value::Duration)
            .map_err(|problem| Fault::new(format!("Invalid duration {text}: {problem}"))),
        Shape::Quantity => text
            .parse::<Quantity>()
            .map(|quantity| Value::Foreign(Foreign::Quantity(quantity)))
            .map_err(|problem| Fault::new(problem.to_string())),
        _ => Ok(Value::Text(Text::Borrowed(text))),
    }
}

/// A property by the name that an expression has for it.
pub(super) fn property<'a>(
    map: &'a serde_json::Map<String, Json>,
    properties: &Properties,
    name: &str,
) -> Option<Outcome<'a>> {
    match properties {
        Properties::Unknown => map.get(name).map(|value| Ok(untyped(value))),
        Properties::All(declared) => map.get(name).map(|value| read(value, declared)),
        Properties::Of(object) => {
            let name = unescape(name)?;
            // A field that is null is one that is not there.
            let value = map.get(&name).filter(|value| !value.is_null())?;
            Some(read(value, &*object.fields().property(&name)?))
        }
    }
}

/// The names that expressions have for the properties that are there and declared.
pub(super) fn keys<'a>(
    map: &'a serde_json::Map<String, Json>,
    properties: &Properties,
) -> Vec<Value<'a>> {
    let Properties::Of(object) = properties else {
        return map.keys().map(|key| Value::Text(Text::Borrowed(key))).collect();
    };
    let declared = map.keys().filter(|key| object.fields().property(key).is_some());
    declared
        .map(|key| match escape(key) {
            Some(escaped) if escaped != **key => Value::text(escaped),
            _ => Value::Text(Text::Borrowed(key)),
        })
        .collect()
}
