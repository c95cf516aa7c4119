//! `"%s has %d".format([name, count])`, when it is evaluated and when it is checked.
//!
//! Follows cel-go ext/formatting.go, v0.26 (the first of its two versions), in the locale `en_US`:
//! numbers have commas, and `%e` writes a power of ten.

use super::strings::{RESULT_BYTES_MAX, quote};
use crate::cel::numbers::show_double;
use crate::cel::times::{show_duration, show_timestamp};
use crate::cel::value::{Fault, List, Map, Outcome, Value};
use crate::stdx::hex;

/// No double has more digits behind its point.
const PRECISION_MAX: usize = 1_074;
const PRECISION: usize = 6;
/// Lists and maps within each other.
const DEPTH_MAX: usize = 64;

/// What is wrong with a format, and which argument it is about.
#[derive(Debug)]
pub(in crate::cel) struct FormatError {
    pub(in crate::cel) message: String,
    /// The argument, where its type is what is wrong.
    pub(in crate::cel) argument: Option<usize>,
}

impl From<String> for FormatError {
    fn from(message: String) -> Self {
        Self { message, argument: None }
    }
}

#[derive(Clone, Copy, Debug)]
struct Clause {
    letter: char,
    precision: usize,
}

pub(super) fn format<'a>(text: &str, list: &List<'a>) -> Outcome<'a> {
    let mut out = String::new();
    let mut faults = None;
    let mut write = |clause: Clause, index: usize, out: &mut String| {
        if out.len() > RESULT_BYTES_MAX {
            faults = Some(Fault::CostExceeded);
            return Err(String::new());
        }
        match list.get(index) {
            Ok(value) => written(clause, &value, out),
            Err(fault) => {
                faults = Some(fault);
                Err(String::new())
            }
        }
    };
    let result = walk(text, list.len(), &mut out, &mut write);
    match (faults, result) {
        (Some(fault), _) => Err(fault),
        (None, Err(problem)) => Err(Fault::new(problem.message)),
        (None, Ok(_)) => Ok(Value::text(out)),
    }
}

/// Checks a constant format against the names of its arguments' types; returns how many it takes.
pub(in crate::cel) fn arguments_of(text: &str, types: &[&str]) -> Result<usize, FormatError> {
    let mut check = |clause: Clause, index: usize, _: &mut String| match types[index] {
        "dyn" => Ok(()),
        name if takes(clause.letter, name) => Ok(()),
        name => Err(wrong(clause.letter, name)),
    };
    walk(text, types.len(), &mut String::new(), &mut check)
}

type Write<'w> = dyn FnMut(Clause, usize, &mut String) -> Result<(), String> + 'w;

/// cel-go `parseFormatString`.
fn walk(
    text: &str,
    count: usize,
    out: &mut String,
    write: &mut Write<'_>,
) -> Result<usize, FormatError> {
    let mut rest = text;
    let mut index = 0;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        if index >= count {
            return Err(format!("index {index} out of range").into());
        }
        if rest.is_empty() {
            return Err("unexpected end of string".to_owned().into());
        }
        let (clause, length) = clause(rest)
            .map_err(|problem| format!("could not parse formatting clause: {problem}"))?;
        write(clause, index, out).map_err(|problem| FormatError {
            message: format!("error during formatting: {problem}"),
            argument: Some(index),
        })?;
        rest = &rest[length..];
        index += 1;
    }
    out.push_str(rest);
    Ok(index)
}

fn clause(rest: &str) -> Result<(Clause, usize), String> {
    let mut length = 0;
    let mut precision = PRECISION;
    if let Some(after) = rest.strip_prefix('.') {
        let Some(digits) = after.find(|c: char| !c.is_ascii_digit()) else {
            return Err("error while parsing precision: could not find end of precision specifier"
                .to_owned());
        };
        precision = after[..digits].parse().map_err(|_| {
            format!(
                "error while parsing precision: error while converting precision to integer: \
                 {:?}",
                &after[..digits]
            )
        })?;
        length = 1 + digits;
    }
    let letter = rest[length..].chars().next().unwrap_or_default();
    if !matches!(letter, 's' | 'd' | 'f' | 'e' | 'b' | 'x' | 'X' | 'o') {
        return Err(format!("unrecognized formatting clause \"{letter}\""));
    }
    if precision > PRECISION_MAX {
        return Err("precision is too large".to_owned());
    }
    Ok((Clause { letter, precision }, length + 1))
}

/// Whether a clause takes what has this type.
fn takes(letter: char, name: &str) -> bool {
    match letter {
        'd' | 'o' => matches!(name, "int" | "uint"),
        'b' => matches!(name, "int" | "uint" | "bool"),
        'x' | 'X' => matches!(name, "int" | "uint" | "string" | "bytes"),
        'f' | 'e' => matches!(name, "double"),
        _ => matches!(
            name,
            "list"
                | "map"
                | "int"
                | "uint"
                | "double"
                | "bool"
                | "string"
                | "bytes"
                | "type"
                | "null_type"
                | "google.protobuf.Timestamp"
                | "google.protobuf.Duration"
        ),
    }
}

fn wrong(letter: char, name: &str) -> String {
    let rule = match letter {
        'd' => "decimal clause can only be used on integers",
        'o' => "octal clause can only be used on integers",
        'b' => "only integers and bools can be formatted as binary",
        'x' | 'X' => "only integers, byte buffers, and strings can be formatted as hex",
        'f' => "fixed-point clause can only be used on doubles",
        'e' => "scientific clause can only be used on doubles",
        _ => {
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, \
             types, durations, and timestamps"
        }
    };
    format!("{rule}, was given {name}")
}

fn written(clause: Clause, value: &Value<'_>, out: &mut String) -> Result<(), String> {
    let text = match (clause.letter, value) {
        ('s', value) => return plain(value, out, 0),
        ('d', Value::Int(value)) => value.to_string(),
        ('d', Value::Uint(value)) => value.to_string(),
        ('f', value) => fixed(number(value, 'f')?, clause.precision),
        ('e', value) => scientific(number(value, 'e')?, clause.precision),
        ('b', Value::Int(value)) => signed(*value, format!("{:b}", value.unsigned_abs())),
        ('b', Value::Uint(value)) => format!("{value:b}"),
        ('b', Value::Bool(value)) => u8::from(*value).to_string(),
        ('o', Value::Int(value)) => signed(*value, format!("{:o}", value.unsigned_abs())),
        ('o', Value::Uint(value)) => format!("{value:o}"),
        ('x' | 'X', value) => {
            let hex = match value {
                Value::Int(value) => signed(*value, format!("{:x}", value.unsigned_abs())),
                Value::Uint(value) => format!("{value:x}"),
                Value::Text(text) => hex(text.as_bytes()),
                Value::Bytes(bytes) => hex(bytes),
                other => return Err(wrong('x', other.type_name())),
            };
            if clause.letter == 'X' { hex.to_ascii_uppercase() } else { hex }
        }
        (letter, value) => return Err(wrong(letter, value.type_name())),
    };
    out.push_str(&text);
    Ok(())
}

fn signed(value: i64, digits: String) -> String {
    if value < 0 { format!("-{digits}") } else { digits }
}

fn number(value: &Value<'_>, letter: char) -> Result<f64, String> {
    match value {
        Value::Double(value) => Ok(*value),
        Value::Text(text) => match &**text {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            _ => Err(wrong(letter, "string")),
        },
        other => Err(wrong(letter, other.type_name())),
    }
}

fn not_finite(value: f64) -> Option<String> {
    if value.is_nan() {
        return Some("NaN".to_owned());
    }
    value.is_infinite().then(|| if value > 0.0 { "∞" } else { "-∞" }.to_owned())
}

/// With a comma between thousands.
fn fixed(value: f64, precision: usize) -> String {
    if let Some(text) = not_finite(value) {
        return text;
    }
    let text = format!("{value:.precision$}");
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("-", rest));
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, format!(".{fraction}")),
        None => (digits, String::new()),
    };
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{fraction}")
}

/// `1.05×10⁰³`.
fn scientific(value: f64, precision: usize) -> String {
    if let Some(text) = not_finite(value) {
        return text;
    }
    let text = format!("{value:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(("", exponent), |e| ("⁻", e));
    let raised: String = format!("{exponent:0>2}")
        .bytes()
        .filter_map(|digit| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(usize::from(digit.saturating_sub(b'0'))))
        .collect();
    format!("{digits}×10{sign}{raised}")
}

/// `%s`.
fn plain(value: &Value<'_>, out: &mut String, depth: usize) -> Result<(), String> {
    let text = match value {
        Value::List(list) => return list_of(list, out, depth + 1),
        Value::Map(map) => return map_of(map, out, depth + 1),
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => show_double(*value),
        Value::Text(text) => text.to_string(),
        Value::Type(name) => name.to_string(),
        Value::Timestamp(time) => show_timestamp(*time),
        Value::Duration(nanoseconds) => show_duration(*nanoseconds),
        Value::Bytes(bytes) => std::str::from_utf8(bytes)
            .map_err(|_| {
                "could not convert argument \"invalid UTF-8 in bytes, cannot convert to string\" \
                 to string"
            })?
            .to_owned(),
        other => return Err(wrong('s', other.type_name())),
    };
    out.push_str(&text);
    Ok(())
}

/// A value within a list or map, as a CEL literal.
fn literal(value: &Value<'_>, out: &mut String, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX || out.len() > RESULT_BYTES_MAX {
        return Err("the argument is too large".to_owned());
    }
    match value {
        Value::Text(text) => out.push_str(&quote(text)),
        Value::Bytes(bytes) => {
            out.push('b');
            out.push_str(&quote(&String::from_utf8_lossy(bytes)));
        }
        Value::Double(value) if value.is_finite() => out.push_str(&format!("{value:.PRECISION$}")),
        Value::Double(value) => out.push_str(&format!("\"{}\"", show_double(*value))),
        Value::Timestamp(time) => {
            out.push_str(&format!("timestamp(\"{}\")", show_timestamp(*time)));
        }
        Value::Duration(nanoseconds) => {
            out.push_str(&format!("duration(\"{}\")", show_duration(*nanoseconds)));
        }
        Value::Optional(_) | Value::Foreign(_) | Value::Question(_) | Value::Decision(_) => {
            return Err(format!("no formatting function for {}", value.type_name()));
        }
        other => return plain(other, out, depth),
    }
    Ok(())
}

fn list_of(list: &List<'_>, out: &mut String, depth: usize) -> Result<(), String> {
    out.push('[');
    for (index, element) in list.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        let element = element.map_err(|fault| fault.to_string())?;
        literal(&element, out, depth)?;
    }
    out.push(']');
    Ok(())
}

fn map_of(map: &Map<'_>, out: &mut String, depth: usize) -> Result<(), String> {
    let mut pairs = Vec::new();
    for key in map.keys() {
        if !matches!(key.type_name(), "string" | "bool" | "int" | "uint") {
            let name = key.type_name();
            return Err(format!("no formatting function for map key of type {name}"));
        }
        let mut name = String::new();
        literal(&key, &mut name, depth)?;
        let value = map.find(&key).map_err(|fault| fault.to_string())?;
        let mut text = String::new();
        literal(&value.unwrap_or(Value::Null), &mut text, depth)?;
        pairs.push((name, text));
    }
    pairs.sort();
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    out.push_str(&format!("{{{}}}", pairs.join(", ")));
    Ok(())
}
