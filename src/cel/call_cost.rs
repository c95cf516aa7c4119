//! What a call has cost, by the sizes of what it was called with.
//!
//! Upstream's own functions first (`CallCost`, apiserver pkg/cel/library/cost.go, v1.35; cel-go
//! ext/lists.go and ext/sets.go), then cel-go's (`CostTracker.costCall`, interpreter/
//! runtimecost.go, v0.26).

use super::cost::{
    AUTHORIZER_CHECK, LIST_CREATE, REGEX, Range, TRAVERSAL, as_float, from_float, scaled,
};
use super::estimate_calls::{compares_all, is_nominal, selector};
use super::foreign::Foreign;
use super::functions::Site;
use super::value::{Outcome, Value};

pub(super) fn cost(site: &Site, args: &[Value<'_>], result: &Outcome<'_>) -> u64 {
    lists_and_sets(site, args, result)
        .or_else(|| kubernetes(site, args, result))
        .unwrap_or_else(|| standard(&site.overload, args))
}

fn size(args: &[Value<'_>], index: usize) -> u64 {
    args.get(index).map_or(1, Value::size)
}

/// The size of what an optional holds.
fn unwrapped_size(value: &Value<'_>) -> u64 {
    match value {
        Value::Optional(Some(value)) => unwrapped_size(value),
        value => value.size(),
    }
}

/// `==` and `!=`: as far as the shorter goes.
pub(super) fn equality(one: &Value<'_>, two: &Value<'_>) -> u64 {
    match one {
        Value::Foreign(_) | Value::Question(_) | Value::Decision(_) => 1,
        one => scaled(unwrapped_size(one).min(unwrapped_size(two)), TRAVERSAL),
    }
}

fn lists_and_sets(site: &Site, args: &[Value<'_>], result: &Outcome<'_>) -> Option<u64> {
    let made = |factor: f64, size: u64| {
        Some(from_float(as_float(size) * factor).saturating_add(1 + LIST_CREATE))
    };
    let output = || result.as_ref().map_or(1, Value::size);
    let within = |index: usize| {
        let size = size(args, index);
        let is_text = match args.get(index) {
            Some(Value::List(list)) if size > 0 => {
                matches!(list.get(0), Ok(Value::Text(_) | Value::Bytes(_)))
            }
            _ => false,
        };
        made(if is_text { 2.0 + TRAVERSAL } else { 2.0 }, size.saturating_mul(size))
    };
    match site.overload.as_str() {
        "list_slice" | "lists_range" | "list_reverse" => made(1.0, output()),
        "list_flatten" => made(1.0, size(args, 0)),
        "list_flatten_int" => match args.get(1) {
            Some(Value::Int(depth)) => {
                made(as_float(u64::try_from(*depth).unwrap_or(0)), size(args, 0))
            }
            _ => made(1.0, size(args, 0)),
        },
        "list_distinct" => within(0),
        "list_sets_contains_list" | "list_sets_intersects_list" => {
            Some(size(args, 0).saturating_mul(size(args, 1)).saturating_add(1))
        }
        "list_sets_equivalent_list" => {
            Some(size(args, 0).saturating_mul(size(args, 1)).saturating_mul(2).saturating_add(1))
        }
        name if name.ends_with("_sort") => within(0),
        name if name.ends_with("_sortByAssociatedKeys") => within(1),
        _ => None,
    }
}

fn kubernetes(site: &Site, args: &[Value<'_>], result: &Outcome<'_>) -> Option<u64> {
    let first = size(args, 0);
    Some(match site.function.as_str() {
        "check" => AUTHORIZER_CHECK,
        "serviceAccount" | "path" | "group" | "resource" | "subresource" | "namespace" | "name"
        | "allowed" | "reason" | "error" | "errored" => 1,
        "fieldSelector" | "labelSelector" => selector(Range::fixed(size(args, 1))).max,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
            args.first().map_or(0, traversal)
        }
        "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" => scaled(first, TRAVERSAL),
        "replace" | "split" => scaled(first, 2.0 * TRAVERSAL),
        "join" => scaled(result.as_ref().map_or(1, Value::size), 2.0 * TRAVERSAL),
        "find" | "findAll" => regex(first, size(args, 1)),
        "ip" if site.overload == "cidr_ip" => 1,
        "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
            scaled(first, TRAVERSAL)
        }
        "ip.isCanonical" => scaled(first, 2.0 * TRAVERSAL),
        "containsIP" | "containsCIDR" => {
            let mut cost = scaled(first * 2, TRAVERSAL);
            if site.function == "containsCIDR" {
                cost += scaled(first, TRAVERSAL) + 1;
            }
            if site.overload.ends_with("_string") {
                cost += scaled(size(args, 1), TRAVERSAL);
            }
            cost
        }
        "validate" => match args.first() {
            Some(Value::Foreign(Foreign::Format(format))) => {
                regex(size(args, 1), format.regex_size)
            }
            _ => return None,
        },
        name if is_nominal(name) => 1,
        _ => return None,
    })
}

fn regex(text: u64, pattern: u64) -> u64 {
    scaled(text.saturating_add(1), TRAVERSAL).saturating_mul(scaled(pattern, REGEX))
}

/// Everything in a value is looked at, by its bytes (upstream `traversalCost`).
fn traversal(value: &Value<'_>) -> u64 {
    let bytes = |length: usize| from_float(as_float(length as u64) * TRAVERSAL);
    match value {
        Value::Text(text) => bytes(text.len()),
        Value::Bytes(content) => bytes(content.len()),
        Value::List(list) => {
            let items = list.iter().map(|item| item.map_or(1, |item| traversal(&item)));
            items.fold(0, u64::saturating_add)
        }
        Value::Map(map) => {
            let entries = map.keys().into_iter().map(|key| {
                let value = map.find(&key).ok().flatten();
                traversal(&key).saturating_add(value.map_or(1, |value| traversal(&value)))
            });
            entries.fold(0, u64::saturating_add)
        }
        _ => 1,
    }
}

fn standard(overload: &str, args: &[Value<'_>]) -> u64 {
    let size = |index: usize| args.get(index).map_or(1, unwrapped_size);
    match overload {
        "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string"
        | "strings_quote" | "string_format" => scaled(size(0), TRAVERSAL),
        "in_list" => size(1),
        "add_string" | "add_bytes" => scaled(size(0).saturating_add(size(1)), TRAVERSAL),
        "matches_string" => regex(size(0), size(1)),
        "contains_string" => scaled(size(0), TRAVERSAL).saturating_mul(scaled(size(1), TRAVERSAL)),
        name if compares_all(name) => scaled(size(0).min(size(1)), TRAVERSAL),
        _ => 1,
    }
}
