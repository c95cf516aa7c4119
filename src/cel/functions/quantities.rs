//! Quantities of resources (apiserver pkg/cel/library/quantity.go, v1.35).

use crate::api::Quantity;
use crate::cel::foreign::Foreign;
use crate::cel::value::{Fault, Outcome, Value};
use std::cmp::Ordering;

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Outcome<'a> {
    match (function, args) {
        ("quantity", [Value::Text(text)]) => {
            text.parse::<Quantity>().map(of).map_err(|problem| Fault::new(problem.to_string()))
        }
        ("isQuantity", [Value::Text(text)]) => Ok(Value::Bool(text.parse::<Quantity>().is_ok())),
        (_, [Value::Foreign(Foreign::Quantity(one))]) => alone(function, *one),
        (_, [Value::Foreign(Foreign::Quantity(one)), Value::Foreign(Foreign::Quantity(two))]) => {
            with(function, *one, *two)
        }
        ("add" | "sub", [Value::Foreign(Foreign::Quantity(one)), Value::Int(two)]) => {
            with(function, *one, Quantity::decimal(*two))
        }
        _ => Err(Fault::NO_OVERLOAD),
    }
}

fn of<'a>(quantity: Quantity) -> Value<'a> {
    Value::Foreign(Foreign::Quantity(quantity))
}

fn alone<'a>(function: &str, one: Quantity) -> Outcome<'a> {
    let is_integer = one.is_integer() && Quantity::decimal(one.units()) == one;
    Ok(match function {
        "sign" if one.is_zero() => Value::Int(0),
        "sign" => Value::Int(if one.is_negative() { -1 } else { 1 }),
        "isInteger" => Value::Bool(is_integer),
        "asInteger" if is_integer => Value::Int(one.units()),
        "asInteger" => return Err(Fault::new("cannot convert value to integer")),
        "asApproximateFloat" => Value::Double(one.approximate()),
        _ => return Err(Fault::NO_OVERLOAD),
    })
}

fn with<'a>(function: &str, one: Quantity, two: Quantity) -> Outcome<'a> {
    let order = one.cmp(&two);
    Ok(match function {
        "isGreaterThan" => Value::Bool(order == Ordering::Greater),
        "isLessThan" => Value::Bool(order == Ordering::Less),
        "compareTo" => Value::Int(order as i64),
        "add" => of(one + two),
        "sub" => of(one - two),
        _ => return Err(Fault::NO_OVERLOAD),
    })
}
