//! `int()`, `string()`, `timestamp()` and their like (cel-go `ConvertToType`, v0.26).

use crate::cel::foreign::Foreign;
use crate::cel::numbers::{self, show_double, to_double};
use crate::cel::times;
use crate::cel::value::{Fault, Outcome, Value};
use std::sync::Arc;

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Outcome<'a> {
    let [value] = args else { return Err(Fault::NO_OVERLOAD) };
    if value.type_name() == type_name(function) {
        return Ok(value.clone());
    }
    let found = match function {
        "bool" => to_bool(value),
        "bytes" => match value {
            Value::Text(text) => Some(Ok(Value::Bytes(text.as_bytes().into()))),
            _ => None,
        },
        "double" => match value {
            Value::Text(text) => parse_double(text).map(|double| Ok(Value::Double(double))),
            other => to_double(other).map(|double| Ok(Value::Double(double))),
        },
        "duration" => match value {
            Value::Text(text) => times_duration(text).map(|span| Ok(Value::Duration(span))),
            _ => None,
        },
        "int" => to_int(value),
        "string" => to_text(value),
        "timestamp" => match value {
            Value::Text(text) => {
                times::parse_timestamp(text).map(|time| times::checked(time).map(Value::Timestamp))
            }
            Value::Int(seconds) => Some(times::of_seconds(*seconds).map(Value::Timestamp)),
            _ => None,
        },
        _ => to_uint(value),
    };
    found.unwrap_or_else(|| {
        let (from, to) = (value.type_name(), type_name(function));
        Err(Fault::new(format!("type conversion error from '{from}' to '{to}'")))
    })
}

fn type_name(function: &str) -> &str {
    match function {
        "duration" => "google.protobuf.Duration",
        "timestamp" => "google.protobuf.Timestamp",
        name => name,
    }
}

/// Only in Go's form: `1h30m`.
fn times_duration(text: &str) -> Option<i64> {
    let span = crate::api::duration::parse(text).ok()?;
    i64::try_from(span.as_nanos()).ok()
}

/// As Go's `ParseBool`.
fn to_bool<'a>(value: &Value<'a>) -> Option<Outcome<'a>> {
    let Value::Text(text) = value else { return None };
    match &**text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(Ok(Value::Bool(true))),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(Ok(Value::Bool(false))),
        _ => None,
    }
}

fn parse_double(text: &str) -> Option<f64> {
    let found: f64 = text.parse().ok()?;
    let names_infinity = text.to_ascii_lowercase().contains("inf");
    (found.is_finite() || found.is_nan() || names_infinity).then_some(found)
}

fn to_int<'a>(value: &Value<'a>) -> Option<Outcome<'a>> {
    Some(match value {
        Value::Uint(value) => {
            i64::try_from(*value).map(Value::Int).map_err(|_| numbers::int_overflow())
        }
        Value::Double(value) => numbers::truncated(*value).map(Value::Int),
        Value::Text(text) => Ok(Value::Int(text.parse().ok()?)),
        Value::Timestamp(time) => Ok(Value::Int(time.as_second())),
        Value::Duration(nanoseconds) => Ok(Value::Int(*nanoseconds)),
        _ => return None,
    })
}

fn to_uint<'a>(value: &Value<'a>) -> Option<Outcome<'a>> {
    Some(match value {
        Value::Int(value) => u64::try_from(*value)
            .map(Value::Uint)
            .map_err(|_| Fault::new("unsigned integer overflow")),
        Value::Double(value) => numbers::truncated_unsigned(*value).map(Value::Uint),
        Value::Text(text) if !text.starts_with('+') => Ok(Value::Uint(text.parse().ok()?)),
        _ => return None,
    })
}

fn to_text<'a>(value: &Value<'a>) -> Option<Outcome<'a>> {
    let text = match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => show_double(*value),
        Value::Timestamp(time) => times::show_timestamp(*time),
        Value::Duration(nanoseconds) => times::show_duration(*nanoseconds),
        Value::Bytes(bytes) => {
            let text = std::str::from_utf8(bytes)
                .map_err(|_| Fault::new("invalid UTF-8 in bytes, cannot convert to string"));
            return Some(text.map(Value::text));
        }
        Value::Foreign(Foreign::Ip(address)) => address.to_string(),
        Value::Foreign(Foreign::Cidr(address, bits)) => format!("{address}/{bits}"),
        Value::Type(name) => return Some(Ok(Value::text(Arc::clone(name)))),
        _ => return None,
    };
    Some(Ok(Value::text(text)))
}
