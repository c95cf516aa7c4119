//! Functions of lists: Kubernetes' own (apiserver pkg/cel/library/lists.go, v1.35), ext.Lists in
//! version 3 and ext.Sets (cel-go ext/lists.go and ext/sets.go, v0.26).

use super::{Site, contains};
use crate::cel::compare::{compare, equal};
use crate::cel::numbers;
use crate::cel::times;
use crate::cel::value::{Fault, List, Outcome, Value};
use std::cmp::Ordering;

/// A list that [`call`] makes has at most so many elements; more are an error.
const RANGE_MAX: i64 = 1_000_000;
/// Lists within each other that `flatten` opens.
const FLATTEN_DEPTH_MAX: i64 = 500;

pub(super) fn call<'a>(site: &Site, args: &[Value<'a>]) -> Outcome<'a> {
    match (site.function.as_str(), args) {
        ("isSorted", [Value::List(list)]) => is_sorted(list).map(Value::Bool),
        ("sum", [Value::List(list)]) => sum(site, list),
        ("max", [Value::List(list)]) => extreme("max", list, Ordering::Less),
        ("min", [Value::List(list)]) => extreme("min", list, Ordering::Greater),
        ("indexOf", [Value::List(list), value]) => Ok(index(list, value, 0..list.len())),
        ("lastIndexOf", [Value::List(list), value]) => {
            Ok(index(list, value, (0..list.len()).rev()))
        }
        ("slice", [Value::List(list), Value::Int(start), Value::Int(end)]) => {
            slice(list, *start, *end)
        }
        ("flatten", [Value::List(list)]) => flatten(list, 1),
        ("flatten", [Value::List(list), Value::Int(depth)]) => flatten(list, *depth),
        ("sort", [Value::List(list)]) => sort(list, list),
        ("@sortByAssociatedKeys", [Value::List(list), Value::List(keys)]) => sort(list, keys),
        ("lists.range", [Value::Int(count)]) if *count <= RANGE_MAX => {
            Ok(Value::list((0..*count).map(Value::Int).collect()))
        }
        ("lists.range", [Value::Int(_)]) => Err(Fault::CostExceeded),
        ("reverse", [Value::List(list)]) => {
            Ok(Value::list(list.iter().rev().collect::<Result<_, _>>()?))
        }
        ("distinct", [Value::List(list)]) => distinct(list),
        ("sets.contains", [Value::List(one), Value::List(two)]) => {
            includes(one, two).map(Value::Bool)
        }
        ("sets.equivalent", [Value::List(one), Value::List(two)]) => {
            Ok(Value::Bool(includes(one, two)? && includes(two, one)?))
        }
        ("sets.intersects", [Value::List(one), Value::List(two)]) => {
            let mut shared = one.iter().filter_map(Result::ok);
            Ok(Value::Bool(shared.any(|value| contains(two, &value) == Ok(true))))
        }
        _ => Err(Fault::NO_OVERLOAD),
    }
}

fn is_sorted(list: &List<'_>) -> Result<bool, Fault> {
    let mut before: Option<Value<'_>> = None;
    for element in list.iter() {
        let element = element?;
        if let Some(before) = &before
            && compare(before, &element)? == Ordering::Greater
        {
            return Ok(false);
        }
        before = Some(element);
    }
    Ok(true)
}

/// Of nothing, the zero of the type that the list is declared to have.
fn sum<'a>(site: &Site, list: &List<'a>) -> Outcome<'a> {
    let mut total: Option<Value<'a>> = None;
    for element in list.iter() {
        let element = element?;
        total = Some(match (total, element) {
            (None, element) => element,
            (Some(total @ Value::Duration(_)), element) => times::add(&total, &element)?,
            (Some(total), element) => numbers::add(&total, &element)?,
        });
    }
    Ok(total.unwrap_or(match site.overload.as_str() {
        "list_uint_sum_uint" => Value::Uint(0),
        "list_double_sum_double" => Value::Double(0.0),
        "list_duration_sum_duration" => Value::Duration(0),
        _ => Value::Int(0),
    }))
}

fn extreme<'a>(name: &str, list: &List<'a>, gives_way: Ordering) -> Outcome<'a> {
    let mut found: Option<Value<'a>> = None;
    for element in list.iter() {
        let element = element?;
        let better = match &found {
            Some(found) => compare(found, &element)? == gives_way,
            None => true,
        };
        if better {
            found = Some(element);
        }
    }
    found.ok_or_else(|| Fault::new(format!("{name} called on empty list")))
}

fn index<'a>(
    list: &List<'a>,
    value: &Value<'a>,
    mut indices: impl Iterator<Item = usize>,
) -> Value<'a> {
    let found = indices
        .find(|index| list.get(*index).and_then(|element| equal(&element, value)) == Ok(true));
    found.map_or(Value::Int(-1), Value::count)
}

fn slice<'a>(list: &List<'a>, start: i64, end: i64) -> Outcome<'a> {
    let problem = if start < 0 || end < 0 {
        "negative indexes not supported".to_owned()
    } else if start > end {
        "start index must be less than or equal to end index".to_owned()
    } else {
        format!("list is length {}", list.len())
    };
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    match range.filter(|(start, end)| start <= end && *end <= list.len()) {
        Some((start, end)) => {
            Ok(Value::list((start..end).map(|index| list.get(index)).collect::<Result<_, _>>()?))
        }
        None => Err(Fault::new(format!("cannot slice({start}, {end}), {problem}"))),
    }
}

fn flatten<'a>(list: &List<'a>, depth: i64) -> Outcome<'a> {
    if depth < 0 {
        return Err(Fault::new("level must be non-negative"));
    }
    let mut found = Vec::new();
    open(list, depth.min(FLATTEN_DEPTH_MAX), &mut found)?;
    Ok(Value::list(found))
}

fn open<'a>(list: &List<'a>, depth: i64, found: &mut Vec<Value<'a>>) -> Result<(), Fault> {
    for element in list.iter() {
        if i64::try_from(found.len()).unwrap_or(i64::MAX) > RANGE_MAX {
            return Err(Fault::CostExceeded);
        }
        match element? {
            Value::List(inner) if depth > 0 => open(&inner, depth - 1, found)?,
            element => found.push(element),
        }
    }
    Ok(())
}

fn sort<'a>(list: &List<'a>, keys: &List<'a>) -> Outcome<'a> {
    if list.len() != keys.len() {
        return Err(Fault::new(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys \
             list, but got {} and {} elements respectively",
            list.len(),
            keys.len()
        )));
    }
    let keys: Vec<Value<'a>> = keys.iter().collect::<Result<_, _>>()?;
    let Some(first) = keys.first() else { return Ok(Value::list(Vec::new())) };
    if compare(first, first).is_err_and(|fault| fault == Fault::NO_OVERLOAD) {
        return Err(Fault::new("list elements must be comparable"));
    }
    if keys.iter().any(|key| key.type_name() != first.type_name()) {
        return Err(Fault::new("list elements must have the same type"));
    }
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|one, two| compare(&keys[*one], &keys[*two]).unwrap_or(Ordering::Equal));
    Ok(Value::list(order.into_iter().map(|index| list.get(index)).collect::<Result<_, _>>()?))
}

fn distinct<'a>(list: &List<'a>) -> Outcome<'a> {
    let mut found: Vec<Value<'a>> = Vec::new();
    for element in list.iter() {
        let element = element?;
        if !found.iter().any(|known| equal(&element, known) == Ok(true)) {
            found.push(element);
        }
    }
    Ok(Value::list(found))
}

fn includes(list: &List<'_>, part: &List<'_>) -> Result<bool, Fault> {
    for element in part.iter() {
        if !contains(list, &element?)? {
            return Ok(false);
        }
    }
    Ok(true)
}
