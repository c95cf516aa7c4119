//! Arithmetic that says where it overflows, and numbers of one type as another.
//!
//! Follows cel-go common/types/overflow.go and compare.go, v0.26.

use super::value::{Fault, Outcome, Value};
use std::cmp::Ordering;

const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;

pub(super) fn int_overflow() -> Fault {
    Fault::new("integer overflow")
}

fn uint_overflow() -> Fault {
    Fault::new("unsigned integer overflow")
}

fn int<'a>(value: Option<i64>) -> Outcome<'a> {
    value.map(Value::Int).ok_or_else(int_overflow)
}

fn uint<'a>(value: Option<u64>) -> Outcome<'a> {
    value.map(Value::Uint).ok_or_else(uint_overflow)
}

pub(super) fn add<'a>(one: &Value<'_>, two: &Value<'_>) -> Outcome<'a> {
    match (one, two) {
        (Value::Int(one), Value::Int(two)) => int(one.checked_add(*two)),
        (Value::Uint(one), Value::Uint(two)) => uint(one.checked_add(*two)),
        (Value::Double(one), Value::Double(two)) => Ok(Value::Double(one + two)),
        _ => Err(Fault::NO_OVERLOAD),
    }
}

pub(super) fn subtract<'a>(one: &Value<'_>, two: &Value<'_>) -> Outcome<'a> {
    match (one, two) {
        (Value::Int(one), Value::Int(two)) => int(one.checked_sub(*two)),
        (Value::Uint(one), Value::Uint(two)) => uint(one.checked_sub(*two)),
        (Value::Double(one), Value::Double(two)) => Ok(Value::Double(one - two)),
        _ => Err(Fault::NO_OVERLOAD),
    }
}

pub(super) fn multiply<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(one), Value::Int(two)] => int(one.checked_mul(*two)),
        [Value::Uint(one), Value::Uint(two)] => uint(one.checked_mul(*two)),
        [Value::Double(one), Value::Double(two)] => Ok(Value::Double(one * two)),
        _ => Err(Fault::NO_OVERLOAD),
    }
}

pub(super) fn divide<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(Fault::new("division by zero"))
        }
        [Value::Int(one), Value::Int(two)] => int(one.checked_div(*two)),
        [Value::Uint(one), Value::Uint(two)] => uint(one.checked_div(*two)),
        [Value::Double(one), Value::Double(two)] => Ok(Value::Double(one / two)),
        _ => Err(Fault::NO_OVERLOAD),
    }
}

pub(super) fn modulo<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(Fault::new("modulus by zero"))
        }
        [Value::Int(one), Value::Int(two)] => int(one.checked_rem(*two)),
        [Value::Uint(one), Value::Uint(two)] => uint(one.checked_rem(*two)),
        _ => Err(Fault::NO_OVERLOAD),
    }
}

pub(super) fn negate<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(value)] => int(value.checked_neg()),
        [Value::Double(value)] => Ok(Value::Double(-value)),
        _ => Err(Fault::NO_OVERLOAD),
    }
}

#[expect(clippy::cast_precision_loss, reason = "CEL's conversion rounds")]
pub(super) fn to_double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Int(value) => Some(*value as f64),
        Value::Uint(value) => Some(*value as f64),
        Value::Double(value) => Some(*value),
        _ => None,
    }
}

/// Without what is behind the point.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
pub(super) fn truncated(value: f64) -> Result<i64, Fault> {
    if value.is_finite() && value > -TWO_TO_63 && value < TWO_TO_63 {
        Ok(value as i64)
    } else {
        Err(int_overflow())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked first"
)]
pub(super) fn truncated_unsigned(value: f64) -> Result<u64, Fault> {
    if (0.0..TWO_TO_64).contains(&value) { Ok(value as u64) } else { Err(uint_overflow()) }
}

/// The whole number that this is, if it is one.
pub(super) fn double_to_int(value: f64) -> Option<i64> {
    truncated(value).ok().filter(|_| value.fract() == 0.0)
}

/// How a whole number compares with a double: exactly, not rounded. `None` for what is no number.
#[expect(clippy::cast_possible_truncation, reason = "a cast from a float saturates")]
pub(super) fn compare_with_double(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    let floor = double.floor();
    let order = whole.cmp(&(floor as i128));
    Some(match order {
        Ordering::Equal if double > floor => Ordering::Less,
        order => order,
    })
}

/// As Go writes it with `%g`: the fewest digits, with an exponent where it is large or small.
pub(super) fn show_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) || value == 0.0 {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_shown_as_go_shows_them() {
        for (value, expected) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (1e6, "1e+06"),
            (123_456_789.0, "1.23456789e+08"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (-2.5, "-2.5"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(show_double(value), expected);
        }
    }

    #[test]
    fn whole_numbers_compare_with_doubles_exactly() {
        use Ordering::{Equal, Greater, Less};
        let near = 9_007_199_254_740_993;
        for (whole, double, expected) in [
            (1, 1.0, Some(Equal)),
            (1, 1.5, Some(Less)),
            (-1, -1.5, Some(Greater)),
            (near, 9_007_199_254_740_992.0, Some(Greater)),
            (0, f64::NAN, None),
            (0, f64::NEG_INFINITY, Some(Greater)),
        ] {
            assert_eq!(compare_with_double(whole, double), expected, "{whole} {double}");
        }
    }
}
