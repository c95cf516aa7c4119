//! Values that may be absent (cel-go cel/library.go `OptionalTypes`, v0.26). `or` and `orValue` are
//! the evaluator's: they look at their second argument only where they must.

use crate::cel::value::{Fault, List, Outcome, Value};

pub(super) fn call<'a>(function: &str, mut args: Vec<Value<'a>>) -> Outcome<'a> {
    let first = args.pop();
    match (function, first) {
        ("optional.none", None) => Ok(Value::Optional(None)),
        ("optional.of", Some(value)) => Ok(Value::some(value)),
        ("optional.ofNonZeroValue", Some(value)) if value.is_zero() => Ok(Value::Optional(None)),
        ("optional.ofNonZeroValue", Some(value)) => Ok(Value::some(value)),
        ("value", Some(Value::Optional(Some(value)))) => Ok((*value).clone()),
        ("value", Some(Value::Optional(None))) => Err(Fault::new("optional.none() dereference")),
        ("hasValue", Some(Value::Optional(value))) => Ok(Value::Bool(value.is_some())),
        ("first", Some(Value::List(list))) => at(&list, Some(0)),
        ("last", Some(Value::List(list))) => at(&list, list.len().checked_sub(1)),
        ("optional.unwrap" | "unwrapOpt", Some(Value::List(list))) => unwrap(&list),
        _ => Err(Fault::NO_OVERLOAD),
    }
}

fn at<'a>(list: &List<'a>, index: Option<usize>) -> Outcome<'a> {
    match index.filter(|index| *index < list.len()) {
        Some(index) => list.get(index).map(Value::some),
        None => Ok(Value::Optional(None)),
    }
}

fn unwrap<'a>(list: &List<'a>) -> Outcome<'a> {
    let mut found = Vec::new();
    for element in list.iter() {
        match element? {
            Value::Optional(Some(value)) => found.push((*value).clone()),
            Value::Optional(None) => {}
            other => {
                let shown = crate::cel::show::shown(&other);
                return Err(Fault::new(format!("value {shown} is not optional")));
            }
        }
    }
    Ok(Value::list(found))
}
