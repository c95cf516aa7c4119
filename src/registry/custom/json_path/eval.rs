//! Finds what expressions say (upstream `JSONPath`, client-go util/jsonpath/jsonpath.go).

use super::{Comparison, Filter, RESULTS_MAX, Slice, Step};
use serde_json::Value;
use std::cmp::Ordering;

pub(super) fn find<'v>(steps: &'v [Step], value: &'v Value) -> Result<Vec<&'v Value>, String> {
    let mut found = vec![value];
    for step in steps {
        found = take(step, found)?;
        if found.len() > RESULTS_MAX {
            return Err(format!("more than {RESULTS_MAX} results"));
        }
    }
    Ok(found)
}

fn take<'v>(step: &'v Step, values: Vec<&'v Value>) -> Result<Vec<&'v Value>, String> {
    let mut found = Vec::new();
    match step {
        Step::Literal(literal) => found.push(literal),
        Step::Field(name) => {
            found.extend(values.into_iter().filter_map(|value| value.get(&**name)));
        }
        Step::Wildcard => found.extend(values.into_iter().flat_map(parts)),
        Step::Recursive => {
            for value in values {
                descend(value, &mut found)?;
            }
        }
        Step::Slice(slice) => {
            for value in values.into_iter().filter(|value| !value.is_null()) {
                let Value::Array(list) = value else {
                    return Err("the value is not array or slice".to_owned());
                };
                cut(*slice, list, &mut found)?;
            }
        }
        Step::Union(paths) => {
            for path in paths {
                for value in &values {
                    found.extend(find(&path.steps, value)?);
                }
            }
        }
        Step::Filter(filter) => {
            for value in values.into_iter().filter(|value| !value.is_null()) {
                let Value::Array(list) = value else {
                    return Err("the value is not array or slice and cannot be filtered".to_owned());
                };
                for element in list {
                    if is_chosen(filter, element)? {
                        found.push(element);
                    }
                }
            }
        }
    }
    Ok(found)
}

/// The values of a map, sorted by their keys, or the elements of a list.
fn parts(value: &Value) -> Vec<&Value> {
    match value {
        Value::Object(object) => object.values().collect(),
        Value::Array(list) => list.iter().collect(),
        _ => Vec::new(),
    }
}

/// Documents are bounded in depth when they are read.
fn descend<'v>(value: &'v Value, found: &mut Vec<&'v Value>) -> Result<(), String> {
    let parts = parts(value);
    if parts.is_empty() {
        return Ok(());
    }
    if found.len() > RESULTS_MAX {
        return Err(format!("more than {RESULTS_MAX} results"));
    }
    found.push(value);
    parts.into_iter().try_for_each(|part| descend(part, found))
}

fn cut<'v>(slice: Slice, list: &'v [Value], found: &mut Vec<&'v Value>) -> Result<(), String> {
    let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
    let from_end = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
    let start = from_end(slice.start.unwrap_or(0));
    let end = match slice.end {
        _ if slice.is_index => start.saturating_add(1),
        Some(end) => from_end(end),
        None => length,
    };
    if start != end {
        if !(0..length).contains(&start) {
            return Err(format!("array index out of bounds: index {start}, length {length}"));
        }
        if !(0..=length).contains(&end) {
            let last = end.saturating_sub(1);
            return Err(format!("array index out of bounds: index {last}, length {length}"));
        }
    }
    if start > end {
        return Err(format!("starting index {start} is greater than ending index {end}"));
    }
    let step = slice.step.unwrap_or(1);
    let Some(step) = usize::try_from(step).ok().filter(|step| *step > 0) else {
        return Err("step must be > 0".to_owned());
    };
    let at = |index: i64| usize::try_from(index).unwrap_or(0).min(list.len());
    found.extend(list[at(start)..at(end)].iter().step_by(step));
    Ok(())
}

fn is_chosen(filter: &Filter, element: &Value) -> Result<bool, String> {
    let left = find(&filter.left.steps, element)?;
    let Some((comparison, right)) = &filter.comparison else { return Ok(!left.is_empty()) };
    let right = find(&right.steps, element)?;
    match (left.as_slice(), right.as_slice()) {
        ([], _) | (_, []) => Ok(false),
        ([left], [right]) => compare(*comparison, left, right),
        _ => Err("can only compare one element at a time".to_owned()),
    }
}

fn compare(comparison: Comparison, left: &Value, right: &Value) -> Result<bool, String> {
    let ordering = match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            // Go compares whole numbers with whole ones alone.
            (None, None) => left.as_f64().partial_cmp(&right.as_f64()),
            _ => None,
        },
        (Value::Bool(left), Value::Bool(right)) => match comparison {
            Comparison::Equal | Comparison::NotEqual => Some(left.cmp(right)),
            _ => None,
        },
        _ => None,
    };
    let Some(ordering) = ordering else {
        return Err("incompatible types for comparison".to_owned());
    };
    Ok(match comparison {
        Comparison::Equal => ordering == Ordering::Equal,
        Comparison::NotEqual => ordering != Ordering::Equal,
        Comparison::Less => ordering == Ordering::Less,
        Comparison::LessOrEqual => ordering != Ordering::Greater,
        Comparison::Greater => ordering == Ordering::Greater,
        Comparison::GreaterOrEqual => ordering != Ordering::Less,
    })
}
