//! What functions do, by their names. A function finds out by itself which of its overloads is
//! meant: arguments may be of any type where the checker knew none.
//!
//! Start at [`implementation`]. Each library has a file.

mod addresses;
mod convert;
mod format_string;
pub(super) mod formats;
mod lists;
mod optionals;
mod quantities;
pub(super) mod regexes;
pub(super) mod semver;
mod strings;
pub(super) mod urls;

pub(super) use format_string::{FormatError, arguments_of as format_arguments};

use super::authorizer;
use super::compare::{compare, equal, key_of, scalar};
use super::declared::ListKind;
use super::numbers;
use super::times;
use super::value::{Fault, List, Map, Outcome, Value};
use regex::Regex;
use std::cmp::Ordering;
use std::collections::HashMap;

/// Where a function is called, with what is known of the call before it is evaluated.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) function: String,
    /// The only overload that can be meant; empty where there are several.
    pub(super) overload: String,
    /// The expression that is an argument, if that is a constant.
    pub(super) regex: Option<Regex>,
}

pub(super) type Function = for<'a> fn(&Site, Vec<Value<'a>>) -> Outcome<'a>;

pub(super) fn implementation(function: &str) -> Option<Function> {
    Some(match function {
        "!_" => |_, args| match args.as_slice() {
            [Value::Bool(value)] => Ok(Value::Bool(!value)),
            _ => Err(Fault::NO_OVERLOAD),
        },
        "_+_" => |_, args| add(args),
        "_-_" => |_, args| match args.as_slice() {
            [one, two] => subtract(one, two),
            _ => Err(Fault::NO_OVERLOAD),
        },
        "_*_" => |_, args| numbers::multiply(&args),
        "_/_" => |_, args| numbers::divide(&args),
        "_%_" => |_, args| numbers::modulo(&args),
        "-_" => |_, args| numbers::negate(&args),
        "_<_" => |_, args| ordered(&args, |order| order == Ordering::Less),
        "_<=_" => |_, args| ordered(&args, |order| order != Ordering::Greater),
        "_>_" => |_, args| ordered(&args, |order| order == Ordering::Greater),
        "_>=_" => |_, args| ordered(&args, |order| order != Ordering::Less),
        "@in" => |_, args| is_in(&args),
        "cel.@mapInsert" => |_, args| map_insert(args),
        "size" => |_, args| match args.as_slice() {
            [value @ (Value::Text(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))] => {
                Ok(Value::Int(i64::try_from(value.size()).unwrap_or(i64::MAX)))
            }
            _ => Err(Fault::NO_OVERLOAD),
        },
        "type" => |_, args| match args.as_slice() {
            [value] => Ok(Value::Type(value.type_name().into())),
            _ => Err(Fault::NO_OVERLOAD),
        },
        "dyn" => |_, mut args| args.pop().ok_or(Fault::NO_OVERLOAD),
        "matches" | "find" | "findAll" => |site, args| regexes::call(site, &args),
        "getFullYear" | "getMonth" | "getDayOfYear" | "getDayOfMonth" | "getDate"
        | "getDayOfWeek" | "getHours" | "getMinutes" | "getSeconds" | "getMilliseconds" => {
            |site, args| times::part(&site.function, &args)
        }
        name => return library(name),
    })
}

fn library(function: &str) -> Option<Function> {
    Some(match function {
        "bool" | "bytes" | "double" | "duration" | "int" | "string" | "timestamp" | "uint" => {
            |site, args| convert::call(&site.function, &args)
        }
        "contains" | "endsWith" | "startsWith" | "charAt" | "lowerAscii" | "upperAscii"
        | "replace" | "split" | "substring" | "trim" | "format" | "strings.quote" | "join" => {
            |site, args| strings::call(&site.function, &args)
        }
        "indexOf" | "lastIndexOf" => |site, args| match args.first() {
            Some(Value::List(_)) => lists::call(site, &args),
            _ => strings::call(&site.function, &args),
        },
        "slice"
        | "flatten"
        | "sort"
        | "@sortByAssociatedKeys"
        | "lists.range"
        | "reverse"
        | "distinct"
        | "sets.contains"
        | "sets.equivalent"
        | "sets.intersects"
        | "isSorted"
        | "sum"
        | "max"
        | "min" => |site, args| lists::call(site, &args),
        "optional.of"
        | "optional.ofNonZeroValue"
        | "optional.none"
        | "value"
        | "hasValue"
        | "last"
        | "first"
        | "optional.unwrap"
        | "unwrapOpt" => |site, args| optionals::call(&site.function, args),
        name => return kubernetes(name),
    })
}

/// The libraries that are Kubernetes' own.
fn kubernetes(function: &str) -> Option<Function> {
    Some(match function {
        "url" | "getScheme" | "getHost" | "getHostname" | "getPort" | "getEscapedPath"
        | "getQuery" | "isURL" => |site, args| urls::call(&site.function, &args),
        "quantity" | "isQuantity" | "sign" | "asApproximateFloat" | "asInteger" | "isInteger"
        | "add" | "sub" => |site, args| quantities::call(&site.function, &args),
        "isGreaterThan" | "isLessThan" | "compareTo" => |site, args| match args.first() {
            Some(Value::Foreign(super::foreign::Foreign::Semver(_))) => {
                semver::call(&site.function, &args)
            }
            _ => quantities::call(&site.function, &args),
        },
        "semver" | "isSemver" | "major" | "minor" | "patch" => {
            |site, args| semver::call(&site.function, &args)
        }
        "ip"
        | "family"
        | "ip.isCanonical"
        | "isUnspecified"
        | "isLoopback"
        | "isLinkLocalMulticast"
        | "isLinkLocalUnicast"
        | "isGlobalUnicast"
        | "isIP"
        | "cidr"
        | "containsIP"
        | "containsCIDR"
        | "prefixLength"
        | "masked"
        | "isCIDR" => |site, args| addresses::call(&site.function, &args),
        "path" | "group" | "serviceAccount" | "resource" | "subresource" | "namespace" | "name"
        | "fieldSelector" | "labelSelector" | "check" | "errored" | "error" | "allowed"
        | "reason" => |site, args| authorizer::call(&site.function, &args),
        name if name == "validate" || name.starts_with("format.") => {
            |site, args| formats::call(&site.function, &args)
        }
        _ => return None,
    })
}

fn subtract<'a>(one: &Value<'a>, two: &Value<'a>) -> Outcome<'a> {
    match (one, two) {
        (Value::Timestamp(_) | Value::Duration(_), _) => times::subtract(one, two),
        _ => numbers::subtract(one, two),
    }
}

fn add(args: Vec<Value<'_>>) -> Outcome<'_> {
    let [one, two]: [Value<'_>; 2] = args.try_into().map_err(|_| Fault::NO_OVERLOAD)?;
    match (one, two) {
        (Value::Text(one), Value::Text(two)) => Ok(Value::text(format!("{}{}", &*one, &*two))),
        (Value::Bytes(one), Value::Bytes(two)) => Ok(Value::Bytes([one, two].concat().into())),
        (Value::List(one), Value::List(two)) => add_lists(one, two).map(Value::List),
        (one @ (Value::Duration(_) | Value::Timestamp(_)), two) => times::add(&one, &two),
        (one, two) => numbers::add(&one, &two),
    }
}

/// Sets are united, lists with keys merged (upstream `Add` of `unstructuredSetList` and
/// `unstructuredMapList`).
fn add_lists<'a>(one: List<'a>, two: List<'a>) -> Result<List<'a>, Fault> {
    let kind = one.kind.clone();
    let key = |element: &Value<'_>| match &kind {
        ListKind::Map(keys) => key_of(element, keys),
        _ => Ok(vec![scalar(element)]),
    };
    if kind == ListKind::Atomic {
        return Ok(List::join(one, two));
    }
    let mut places = HashMap::new();
    let mut elements: Vec<Value<'a>> = Vec::with_capacity(one.len() + two.len());
    for element in one.iter().chain(two.iter()) {
        let element = element?;
        match places.entry(key(&element)?) {
            std::collections::hash_map::Entry::Occupied(place) => {
                elements[*place.get()] = element;
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(elements.len());
                elements.push(element);
            }
        }
    }
    let items = super::value::Items::Made(std::sync::Arc::new(elements));
    Ok(List { items, kind })
}

fn ordered<'a>(args: &[Value<'a>], holds: fn(Ordering) -> bool) -> Outcome<'a> {
    match args {
        [one, two] => compare(one, two).map(|order| Value::Bool(holds(order))),
        _ => Err(Fault::NO_OVERLOAD),
    }
}

fn is_in<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value, Value::List(list)] => contains(list, value).map(Value::Bool),
        [key, Value::Map(map)] => map.find(key).map(|found| Value::Bool(found.is_some())),
        _ => Err(Fault::NO_OVERLOAD),
    }
}

/// An element that cannot be compared is an error only if no other is equal.
fn contains(list: &List<'_>, value: &Value<'_>) -> Result<bool, Fault> {
    let mut problem = None;
    for element in list.iter() {
        match element.and_then(|element| equal(&element, value)) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(fault) => problem = problem.or(Some(fault)),
        }
    }
    problem.map_or(Ok(false), Err)
}

fn map_insert(args: Vec<Value<'_>>) -> Outcome<'_> {
    let mut args = args.into_iter();
    let (Some(Value::Map(map)), Some(second), third) = (args.next(), args.next(), args.next())
    else {
        return Err(Fault::NO_OVERLOAD);
    };
    match (second, third) {
        (key, Some(value)) => map.insert(key, value).map(Value::Map),
        (Value::Map(more), None) => merge(map, &more).map(Value::Map),
        _ => Err(Fault::NO_OVERLOAD),
    }
}

fn merge<'a>(mut map: Map<'a>, more: &Map<'a>) -> Result<Map<'a>, Fault> {
    for key in more.keys() {
        if let Some(value) = more.find(&key)? {
            map = map.insert(key, value)?;
        }
    }
    Ok(map)
}
