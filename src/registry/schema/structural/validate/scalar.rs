//! Checks of strings, numbers and enumerations (kube-openapi pkg/validation/validate/values.go).

use super::super::formats;
use super::super::node::Checks;
use super::outcome::{Code, Outcome, Trail};
use crate::stdx::quoted;
use serde_json::{Number, Value};
use std::cmp::Ordering;

/// The largest and least whole numbers that are exact in a double, between which upstream takes
/// doubles for integers (`swag.IsFloat64AJSONInteger`).
const EXACT_MAX: f64 = 9_007_199_254_740_991.0;
/// How close to a whole number is close enough.
const EPSILON: f64 = 1e-9;

/// Lengths are in characters. The first thing that is wrong is told.
pub(super) fn check_string(text: &str, checks: &Checks, trail: Trail<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let is_limited = checks.max_length.is_some() || checks.min_length.is_some();
    let length = if is_limited { text.chars().count() } else { 0 };
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    if let Some(max) = checks.max_length.filter(|max| length > *max) {
        outcome.add_too_long(trail, max);
        return outcome;
    }
    let wrong = |detail: String| Outcome::failed(trail, Code::Other, Some(text.into()), detail);
    if let Some(min) = checks.min_length.filter(|min| length < *min) {
        return wrong(format!("{trail} in body should be at least {min} chars long"));
    }
    if let Some(pattern) = &checks.pattern {
        let source = pattern.source();
        match pattern.is_match(text) {
            Ok(true) => {}
            Ok(false) => return wrong(format!("{trail} in body should match '{source}'")),
            Err(error) => {
                return wrong(format!(
                    "{trail} in body should match '{source}, but pattern is invalid: {error}'"
                ));
            }
        }
    }
    outcome
}

pub(super) fn check_format(text: &str, format: &str, trail: Trail<'_>) -> Outcome {
    if formats::is_valid(format, text) {
        return Outcome::default();
    }
    let detail = format!("{trail} in body must be of type {format}: {}", quoted(text));
    Outcome::failed(trail, Code::Type, Some(text.into()), detail)
}

/// An integer is compared with the whole part of a limit, as upstream does it.
pub(super) fn check_number(number: &Number, checks: &Checks, trail: Trail<'_>) -> Outcome {
    let mut outcome = Outcome::one();
    let shown = |limit: f64| match number.as_i64() {
        Some(_) => whole_part(limit).to_string(),
        None => go_float(limit),
    };
    let multiple = checks.multiple_of.map(|factor| (factor, is_multiple(number, factor)));
    if let Some((factor, None)) = multiple {
        let shown = shown(factor);
        let detail = format!("factor MultipleOf declared for {trail} must be positive: {shown}");
        outcome.add(trail, Code::Other, Some(factor.into()), detail);
    }
    let mut problems = Vec::new();
    if let Some((factor, Some(false))) = multiple {
        problems.push(format!("a multiple of {}", shown(factor)));
    }
    if let Some(min) = checks.minimum {
        match (compare(number, min), checks.is_minimum_exclusive) {
            (Ordering::Less, false) => {
                problems.push(format!("greater than or equal to {}", shown(min)));
            }
            (Ordering::Less | Ordering::Equal, true) => {
                problems.push(format!("greater than {}", shown(min)));
            }
            _ => {}
        }
    }
    if let Some(max) = checks.maximum {
        match (compare(number, max), checks.is_maximum_exclusive) {
            (Ordering::Greater, false) => {
                problems.push(format!("less than or equal to {}", shown(max)));
            }
            (Ordering::Greater | Ordering::Equal, true) => {
                problems.push(format!("less than {}", shown(max)));
            }
            _ => {}
        }
    }
    for problem in problems {
        let detail = format!("{trail} in body should be {problem}");
        outcome.add(trail, Code::Other, Some(Value::Number(number.clone())), detail);
    }
    outcome
}

fn compare(number: &Number, limit: f64) -> Ordering {
    match number.as_i64() {
        Some(whole) => whole.cmp(&whole_part(limit)),
        None => as_double(number).partial_cmp(&limit).unwrap_or(Ordering::Equal),
    }
}

/// `None`: there are no multiples of the factor.
fn is_multiple(number: &Number, factor: f64) -> Option<bool> {
    match number.as_i64() {
        Some(whole) => {
            let factor = whole_part(factor);
            (factor > 0).then(|| whole % factor == 0)
        }
        None if factor <= 0.0 => None,
        None => {
            let double = as_double(number);
            Some(is_whole_double(if factor < 1.0 {
                1.0 / factor * double
            } else {
                double / factor
            }))
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "Go's conversion; beyond the range it saturates"
)]
fn whole_part(number: f64) -> i64 {
    number as i64
}

fn as_double(number: &Number) -> f64 {
    number.as_f64().unwrap_or_default()
}

/// Whether upstream takes this number for an integer.
pub(super) fn is_whole(number: &Number) -> bool {
    is_whole_double(as_double(number))
}

fn is_whole_double(double: f64) -> bool {
    if !double.is_finite() || double.abs() > EXACT_MAX {
        return false;
    }
    let difference = (double - double.trunc()).abs();
    double == double.trunc() || difference < EPSILON * double.abs()
}

/// A double as Go's `%v` writes it.
pub(super) fn go_float(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or_default();
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    number.to_string()
}

pub(super) fn check_enum(value: &Value, checks: &Checks, trail: Trail<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let is_one = checks.one_of_values.iter().any(|allowed| is_same(value, allowed));
    if !checks.one_of_values.is_empty() && !is_one {
        outcome.add_not_supported(trail, value, &checks.one_of_values);
    }
    outcome
}

/// Numbers are converted to the kind of the allowed one first. Null is none of any values.
fn is_same(value: &Value, allowed: &Value) -> bool {
    match (value, allowed) {
        (Value::Null, _) => false,
        (Value::Number(number), Value::Number(allowed)) => {
            match (allowed.as_i64(), number.as_i64()) {
                (Some(allowed), None) => whole_part(as_double(number)) == allowed,
                (Some(allowed), Some(number)) => number == allowed,
                (None, _) => as_double(number).total_cmp(&as_double(allowed)).is_eq(),
            }
        }
        _ => value == allowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_written_as_go_writes_them() {
        for (number, expected) in [
            (0.0, "0"),
            (5.0, "5"),
            (0.5, "0.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1e-5, "1e-05"),
            (-1.5e300, "-1.5e+300"),
        ] {
            assert_eq!(go_float(number), expected);
        }
    }
}
