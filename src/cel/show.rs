//! Values in the words of messages, as Go's `%v` has them.

use super::foreign::Foreign;
use super::numbers::show_double;
use super::times::{show_duration, show_timestamp};
use super::value::Value;

/// What is shown of a value is cut at about this length.
const SHOWN_BYTES_MAX: usize = 1_024;

pub(super) fn shown(value: &Value<'_>) -> String {
    let mut text = String::new();
    write(value, &mut text, 0);
    text
}

fn write(value: &Value<'_>, out: &mut String, depth: usize) {
    if out.len() > SHOWN_BYTES_MAX || depth > 16 {
        return;
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => out.push_str(&value.to_string()),
        Value::Uint(value) => out.push_str(&value.to_string()),
        Value::Double(value) => out.push_str(&show_double(*value)),
        Value::Text(text) => out.push_str(text),
        Value::Bytes(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
        Value::Timestamp(time) => out.push_str(&show_timestamp(*time)),
        Value::Duration(nanoseconds) => out.push_str(&show_duration(*nanoseconds)),
        Value::Type(name) => out.push_str(name),
        Value::Optional(None) => out.push_str("optional.none()"),
        Value::Optional(Some(value)) => {
            out.push_str("optional(");
            write(value, out, depth + 1);
            out.push(')');
        }
        Value::List(list) => {
            out.push('[');
            for (index, item) in list.iter().take(SHOWN_BYTES_MAX).enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                if let Ok(item) = item {
                    write(&item, out, depth + 1);
                }
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (index, key) in map.keys().iter().take(SHOWN_BYTES_MAX).enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write(key, out, depth + 1);
                out.push_str(": ");
                if let Ok(Some(value)) = map.find(key) {
                    write(&value, out, depth + 1);
                }
            }
            out.push('}');
        }
        Value::Foreign(Foreign::Quantity(quantity)) => out.push_str(&quantity.to_string()),
        other => out.push_str(other.type_name()),
    }
}
