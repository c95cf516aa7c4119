//! Which values are equal, and which comes first.
//!
//! Follows `Equal` and `Compare` of cel-go's types (common/types, v0.26), and of the lists and maps
//! that have a schema (apiserver pkg/cel/common/valuesunstructured.go, v1.35): sets and lists
//! with keys are equal in any order.

use super::declared::ListKind;
use super::value::{Fault, Key, List, Map, Properties, Value};
use serde_json::Value as Json;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

/// Values within each other that are compared; deeper ones are an error.
const DEPTH_MAX: u16 = 500;

pub(super) fn equal(one: &Value<'_>, two: &Value<'_>) -> Result<bool, Fault> {
    equal_at(one, two, 0)
}

fn equal_at(one: &Value<'_>, two: &Value<'_>, depth: u16) -> Result<bool, Fault> {
    if depth > DEPTH_MAX {
        return Err(Fault::new("values are nested too deeply to be compared"));
    }
    Ok(match (one, two) {
        (Value::Null, two) => matches!(two, Value::Null),
        (_, Value::Null) => false,
        (Value::Bool(one), Value::Bool(two)) => one == two,
        (Value::Text(one), Value::Text(two)) => **one == **two,
        (Value::Bytes(one), Value::Bytes(two)) => one == two,
        (Value::Timestamp(one), Value::Timestamp(two)) => one == two,
        (Value::Duration(one), Value::Duration(two)) => one == two,
        (Value::Type(one), Value::Type(two)) => one == two,
        (Value::List(one), Value::List(two)) => return lists(one, two, depth + 1),
        (Value::Map(one), Value::Map(two)) => return maps(one, two, depth + 1),
        (Value::Optional(None), Value::Optional(None)) => true,
        (Value::Optional(Some(one)), Value::Optional(Some(two))) => {
            return equal_at(one, two, depth + 1);
        }
        (Value::Foreign(one), Value::Foreign(two)) => one == two,
        (Value::Question(one), Value::Question(two)) => std::sync::Arc::ptr_eq(one, two),
        (Value::Decision(one), Value::Decision(two)) => std::sync::Arc::ptr_eq(one, two),
        (Value::List(list), _) if list.is_typed() => return Err(Fault::NO_OVERLOAD),
        (Value::Map(map), _) if map.is_typed() => return Err(Fault::NO_OVERLOAD),
        (Value::Foreign(_) | Value::Question(_) | Value::Decision(_), _) => {
            return Err(Fault::NO_OVERLOAD);
        }
        (one, two) => numbers(one, two) == Some(Some(Ordering::Equal)),
    })
}

fn lists(one: &List<'_>, two: &List<'_>, depth: u16) -> Result<bool, Fault> {
    if one.len() != two.len() {
        return Ok(false);
    }
    match &one.kind {
        ListKind::Set => return sets(one, two),
        ListKind::Map(keys) => return keyed(one, two, keys, depth),
        ListKind::Atomic => {}
    }
    for (one, two) in one.iter().zip(two.iter()) {
        if !equal_at(&one?, &two?, depth)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Elements of sets are scalars.
fn sets(one: &List<'_>, two: &List<'_>) -> Result<bool, Fault> {
    let mut known = HashSet::new();
    for element in one.iter() {
        known.insert(scalar(&element?));
    }
    for element in two.iter() {
        if !known.contains(&scalar(&element?)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What tells a scalar from all others.
pub(super) fn scalar(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) => format!("s{}", &**text),
        other => match Key::of(other) {
            Some(key) => format!("k{key:?}"),
            None => format!("o{}", super::show::shown(other)),
        },
    }
}

/// The values of an element's keys.
pub(super) fn key_of(element: &Value<'_>, keys: &[String]) -> Result<Vec<String>, Fault> {
    let Value::Map(map) = element else {
        return Err(Fault::new(
            "unexpected data format for element of array with x-kubernetes-list-type=map",
        ));
    };
    let values = keys.iter().map(|key| {
        let name = super::escape(key).unwrap_or_else(|| key.clone());
        let value = map.find(&Value::text(name))?;
        Ok(value.map(|value| scalar(&value)).unwrap_or_default())
    });
    values.collect()
}

fn keyed(one: &List<'_>, two: &List<'_>, keys: &[String], depth: u16) -> Result<bool, Fault> {
    let mut known = HashMap::new();
    for element in one.iter() {
        let element = element?;
        known.insert(key_of(&element, keys)?, element);
    }
    for element in two.iter() {
        let element = element?;
        match known.get(&key_of(&element, keys)?) {
            Some(before) if equal_at(before, &element, depth)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

fn maps(one: &Map<'_>, two: &Map<'_>, depth: u16) -> Result<bool, Fault> {
    if one.len() != two.len() {
        return Ok(false);
    }
    for key in one.keys() {
        let equal = match (one.find(&key)?, two.find(&key)?) {
            (Some(one), Some(two)) => equal_at(&one, &two, depth)?,
            (one, two) => one.is_none() && two.is_none(),
        };
        if !equal {
            return Ok(false);
        }
    }
    Ok(undeclared_are_equal(one, two))
}

/// Properties that no schema declares are compared as they are, where both objects have them.
fn undeclared_are_equal(one: &Map<'_>, two: &Map<'_>) -> bool {
    let (Map::Json(one, Properties::Of(object)), Map::Json(two, _)) = (one, two) else {
        return true;
    };
    let mut undeclared = one.iter().filter(|(key, _)| object.fields().property(key).is_none());
    undeclared.all(|(key, value): (&String, &Json)| two.get(key).is_none_or(|two| two == value))
}

/// How two numbers compare: `None` where one is none, `Some(None)` where one is not a number.
fn numbers(one: &Value<'_>, two: &Value<'_>) -> Option<Option<Ordering>> {
    use super::numbers::compare_with_double;
    Some(match (one, two) {
        (Value::Int(one), Value::Int(two)) => Some(one.cmp(two)),
        (Value::Uint(one), Value::Uint(two)) => Some(one.cmp(two)),
        (Value::Double(one), Value::Double(two)) => one.partial_cmp(two),
        (Value::Int(one), Value::Uint(two)) => Some(i128::from(*one).cmp(&i128::from(*two))),
        (Value::Uint(one), Value::Int(two)) => Some(i128::from(*one).cmp(&i128::from(*two))),
        (Value::Int(one), Value::Double(two)) => compare_with_double(i128::from(*one), *two),
        (Value::Uint(one), Value::Double(two)) => compare_with_double(i128::from(*one), *two),
        (Value::Double(one), Value::Int(two)) => {
            compare_with_double(i128::from(*two), *one).map(Ordering::reverse)
        }
        (Value::Double(one), Value::Uint(two)) => {
            compare_with_double(i128::from(*two), *one).map(Ordering::reverse)
        }
        _ => return None,
    })
}

pub(super) fn compare(one: &Value<'_>, two: &Value<'_>) -> Result<Ordering, Fault> {
    Ok(match (one, two) {
        (Value::Bool(one), Value::Bool(two)) => one.cmp(two),
        (Value::Text(one), Value::Text(two)) => (**one).cmp(&**two),
        (Value::Bytes(one), Value::Bytes(two)) => one.cmp(two),
        (Value::Timestamp(one), Value::Timestamp(two)) => one.cmp(two),
        (Value::Duration(one), Value::Duration(two)) => one.cmp(two),
        (one, two) => {
            let found = numbers(one, two).ok_or(Fault::NO_OVERLOAD)?;
            found.ok_or(Fault::new("NaN values cannot be ordered"))?
        }
    })
}
