//! Functions of strings: the standard ones, and ext.Strings in version 2 (cel-go ext/strings.go,
//! v0.26). Positions are in code points.

use super::format_string;
use crate::cel::value::{Fault, List, Outcome, Value};

/// A string that is made is at most so long; a longer one exceeds any budget.
pub(super) const RESULT_BYTES_MAX: usize = 16 << 20;

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Outcome<'a> {
    match (function, args) {
        ("contains", [Value::Text(text), Value::Text(part)]) => {
            Ok(Value::Bool(text.contains(&**part)))
        }
        ("startsWith", [Value::Text(text), Value::Text(part)]) => {
            Ok(Value::Bool(text.starts_with(&**part)))
        }
        ("endsWith", [Value::Text(text), Value::Text(part)]) => {
            Ok(Value::Bool(text.ends_with(&**part)))
        }
        ("charAt", [Value::Text(text), Value::Int(index)]) => char_at(text, *index),
        ("indexOf", [Value::Text(text), Value::Text(part)]) => index_of(text, part, 0),
        ("indexOf", [Value::Text(text), Value::Text(part), Value::Int(offset)]) => {
            index_of(text, part, *offset)
        }
        ("lastIndexOf", [Value::Text(text), Value::Text(part)]) => last_index_of(text, part, None),
        ("lastIndexOf", [Value::Text(text), Value::Text(part), Value::Int(offset)]) => {
            last_index_of(text, part, Some(*offset))
        }
        ("lowerAscii", [Value::Text(text)]) => Ok(Value::text(text.to_ascii_lowercase())),
        ("upperAscii", [Value::Text(text)]) => Ok(Value::text(text.to_ascii_uppercase())),
        ("replace", [Value::Text(text), Value::Text(old), Value::Text(new)]) => {
            replace(text, (old, new), -1)
        }
        ("replace", [Value::Text(text), Value::Text(old), Value::Text(new), Value::Int(count)]) => {
            replace(text, (old, new), *count)
        }
        ("split", [Value::Text(text), Value::Text(separator)]) => Ok(split(text, separator, -1)),
        ("split", [Value::Text(text), Value::Text(separator), Value::Int(count)]) => {
            Ok(split(text, separator, *count))
        }
        ("substring", [Value::Text(text), Value::Int(start)]) => substring(text, *start, None),
        ("substring", [Value::Text(text), Value::Int(start), Value::Int(end)]) => {
            substring(text, *start, Some(*end))
        }
        ("trim", [Value::Text(text)]) => Ok(Value::text(text.trim())),
        ("format", [Value::Text(text), Value::List(list)]) => format_string::format(text, list),
        ("strings.quote", [Value::Text(text)]) => Ok(Value::text(quote(text))),
        ("join", [Value::List(list)]) => join(list, ""),
        ("join", [Value::List(list), Value::Text(separator)]) => join(list, separator),
        _ => Err(Fault::NO_OVERLOAD),
    }
}

fn out_of_range(index: i64) -> Fault {
    Fault::new(format!("index out of range: {index}"))
}

/// The byte that a code point begins at; the end is a position too.
fn byte_at(text: &str, index: i64) -> Option<usize> {
    let index = usize::try_from(index).ok()?;
    let ends = std::iter::once(text.len());
    text.char_indices().map(|(at, _)| at).chain(ends).nth(index)
}

fn char_at<'a>(text: &str, index: i64) -> Outcome<'a> {
    let at = byte_at(text, index).ok_or_else(|| out_of_range(index))?;
    Ok(Value::text(text[at..].chars().next().map(String::from).unwrap_or_default()))
}

fn index_of<'a>(text: &str, part: &str, offset: i64) -> Outcome<'a> {
    if part.is_empty() {
        return Ok(Value::Int(offset));
    }
    if offset < 0 {
        return Err(out_of_range(offset));
    }
    let found = byte_at(text, offset).and_then(|from| Some(from + text[from..].find(part)?));
    Ok(found.map_or(Value::Int(-1), |at| Value::count(text[..at].chars().count())))
}

fn last_index_of<'a>(text: &str, part: &str, offset: Option<i64>) -> Outcome<'a> {
    let length = text.chars().count();
    if part.is_empty() {
        return Ok(offset.map_or(Value::count(length), Value::Int));
    }
    let until = match offset {
        Some(offset) if offset < 0 => return Err(out_of_range(offset)),
        Some(offset) if usize::try_from(offset).is_ok_and(|offset| offset >= length) => {
            return Ok(Value::Int(-1));
        }
        Some(offset) => byte_at(text, offset).map_or(text.len(), |at| at + part.len()),
        None => text.len(),
    };
    let mut until = until.min(text.len());
    while !text.is_char_boundary(until) {
        until += 1;
    }
    let found = text[..until].rfind(part);
    Ok(found.map_or(Value::Int(-1), |at| Value::count(text[..at].chars().count())))
}

fn replace<'a>(text: &str, (old, new): (&str, &str), count: i64) -> Outcome<'a> {
    let most = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() };
    let count = usize::try_from(count).unwrap_or(most).min(most);
    if text.len().saturating_add(count.saturating_mul(new.len())) > RESULT_BYTES_MAX {
        return Err(Fault::CostExceeded);
    }
    Ok(Value::text(text.replacen(old, new, count)))
}

/// Go's `SplitN`: no part where none is wanted, characters where there is no separator.
fn split<'a>(text: &str, separator: &str, count: i64) -> Value<'a> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count == 0 {
        return Value::list(Vec::new());
    }
    if !separator.is_empty() {
        return Value::texts(text.splitn(count, separator));
    }
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).take(count).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    Value::texts(starts.iter().zip(ends).map(|(start, end)| &text[*start..end]))
}

fn substring<'a>(text: &str, start: i64, end: Option<i64>) -> Outcome<'a> {
    if let Some(end) = end
        && start > end
    {
        let message = format!("invalid substring range. start: {start}, end: {end}");
        return Err(Fault::new(message));
    }
    let from = byte_at(text, start).ok_or_else(|| out_of_range(start))?;
    let to = match end {
        Some(end) => byte_at(text, end).ok_or_else(|| out_of_range(end))?,
        None => text.len(),
    };
    Ok(Value::text(&text[from..to]))
}

/// As a CEL literal.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn join<'a>(list: &List<'a>, separator: &str) -> Outcome<'a> {
    let mut joined = String::new();
    for (index, element) in list.iter().enumerate() {
        if joined.len() > RESULT_BYTES_MAX {
            return Err(Fault::CostExceeded);
        }
        if index > 0 {
            joined.push_str(separator);
        }
        match element? {
            Value::Text(text) => joined.push_str(&text),
            other => {
                let shown = crate::cel::show::shown(&other);
                return Err(Fault::new(format!("join: invalid input: {shown}")));
            }
        }
    }
    Ok(Value::text(joined))
}
