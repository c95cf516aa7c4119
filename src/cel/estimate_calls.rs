//! What a call may cost at most, and how large its result may be.
//!
//! First upstream's own functions and those it counts otherwise (`EstimateCallCost`, apiserver
//! pkg/cel/library/cost.go, v1.35; cel-go ext/lists.go and ext/sets.go), then cel-go's
//! (`coster.functionCost`). Any change here changes which rules may be written.

use super::cost::{
    AUTHORIZER_CHECK, FORMAT_REGEX_MAX, LIST_CREATE, REGEX, Range, STRUCT_CREATE, TRAVERSAL,
    as_float, scaled,
};
use super::estimate::{Call, Estimator, Node};
use super::types::Type;

/// What a call costs without its target, and the size of what it returns where that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimate {
    pub(super) cost: Range,
    pub(super) size: Option<Range>,
}

impl Estimate {
    fn sized(cost: Range, size: Range) -> Self {
        Self { cost, size: Some(size) }
    }

    fn fixed(cost: u64) -> Self {
        Self::of(Range::fixed(cost))
    }
}

/// With the costs of the arguments.
pub(super) fn estimate(estimator: &mut Estimator<'_>, call: &Call<'_>) -> Estimate {
    let args = call.costs.iter().fold(Range::NOTHING, |sum, cost| sum.plus(*cost));
    let own = lists_and_sets(estimator, call).or_else(|| kubernetes(estimator, call));
    if let Some(found) = own {
        return Estimate { cost: found.cost.plus(args), ..found };
    }
    if let Some(found) = branching(estimator, call) {
        return found;
    }
    let found = standard(estimator, call).unwrap_or(Estimate::fixed(1));
    Estimate { cost: found.cost.plus(args), ..found }
}

/// The size of a part, by its declaration if by nothing else.
fn size(estimator: &Estimator<'_>, node: &Node<'_>) -> Range {
    node.size.or_else(|| estimator.declared_size(&node.path)).unwrap_or(Range::UNKNOWN)
}

fn known(node: &Node<'_>) -> Range {
    node.size.unwrap_or(Range::UNKNOWN)
}

/// A list's elements.
fn items<'e>(list: &Node<'e>) -> Option<Node<'e>> {
    let ty = match &list.ty {
        Type::List(element) => (**element).clone(),
        Type::Map(pair) => pair.0.clone(),
        Type::Opaque(_, Some(inner)) | Type::Type(Some(inner)) => (**inner).clone(),
        _ => return None,
    };
    let mut path = list.path.clone();
    if !path.is_empty() {
        path.push("@items".to_owned());
    }
    Some(Node { path, ty, expr: None, size: None })
}

/// ext.Lists and ext.Sets.
fn lists_and_sets(estimator: &Estimator<'_>, call: &Call<'_>) -> Option<Estimate> {
    let int = |index: usize, otherwise: u64| {
        let value = call.args.get(index).and_then(|arg| arg.expr?.as_int());
        value.map_or(otherwise, |value| u64::try_from(value).unwrap_or(0))
    };
    let made = |factor: f64, size: Range| {
        let cost = size.scaled(factor).plus(Range::fixed(1 + LIST_CREATE));
        Some(Estimate::sized(cost, size))
    };
    let list = call.target.as_ref().map(|list| size(estimator, list));
    let sort = |list: Range| {
        let is_text = call.overload.contains("_string_") || call.overload.contains("_bytes_");
        made(if is_text { 2.0 + TRAVERSAL } else { 2.0 }, list.times(list))
    };
    match call.overload {
        "list_slice" => {
            let end = int(1, list?.max);
            made(1.0, Range::fixed(end.wrapping_sub(int(0, 0))))
        }
        "lists_range" => made(1.0, Range::fixed(int(0, u64::MAX))),
        "list_reverse" => made(1.0, list?),
        "list_flatten" => made(1.0, list?),
        "list_flatten_int" => made(as_float(int(0, u64::MAX)), list?),
        "list_distinct" => made(2.0, list?.times(list?)),
        "list_sets_contains_list" | "list_sets_intersects_list" | "list_sets_equivalent_list" => {
            let factor = if call.overload.contains("equivalent") { 2.0 } else { 1.0 };
            let sizes = size(estimator, &call.args[0]).times(size(estimator, &call.args[1]));
            Some(Estimate::of(sizes.scaled(factor).plus(Range::fixed(1))))
        }
        name if name.ends_with("_sort") => sort(list?),
        name if name.ends_with("_sortByAssociatedKeys") => sort(size(estimator, &call.args[0])),
        _ => None,
    }
}

fn kubernetes(estimator: &Estimator<'_>, call: &Call<'_>) -> Option<Estimate> {
    let arg = |index: usize| call.args.get(index).map(|arg| size(estimator, arg));
    let target = call.target.as_ref().map(|target| size(estimator, target));
    Some(match call.function {
        "check" => Estimate::fixed(AUTHORIZER_CHECK),
        "serviceAccount" | "path" | "group" | "resource" | "subresource" | "namespace" | "name"
        | "allowed" | "reason" | "error" | "errored" => Estimate::fixed(1),
        "fieldSelector" | "labelSelector" => Estimate::of(selector(arg(0)?)),
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
            each(estimator, call.target.as_ref()?)
        }
        "url" => Estimate::sized(arg(0)?.scaled(TRAVERSAL), arg(0)?),
        "lowerAscii" | "upperAscii" | "substring" | "trim" => {
            Estimate::sized(target?.scaled(TRAVERSAL), target?)
        }
        "replace" => replace(target?, arg(0)?, arg(1)?),
        "split" => {
            let count = call.args.get(1).and_then(|count| count.expr?.as_int());
            let max = count.map_or(target?.max, i64::cast_unsigned);
            Estimate::sized(target?.scaled(2.0 * TRAVERSAL), Range { min: 0, max })
        }
        "join" => join(estimator, call)?,
        "find" | "findAll" => {
            let text = target?.plus(Range::fixed(1)).scaled(TRAVERSAL);
            let cost = text.times(arg(0)?.scaled(REGEX));
            Estimate::sized(cost, Range { min: 0, max: target?.max })
        }
        "ip" if call.overload == "cidr_ip" => Estimate::fixed(1),
        "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
            Estimate::of(arg(0)?.scaled(TRAVERSAL))
        }
        "ip.isCanonical" => Estimate::of(arg(0)?.scaled(2.0 * TRAVERSAL)),
        "containsIP" | "containsCIDR" => contains(call, arg(0)?),
        "validate" => {
            let text = arg(0)?.scaled(TRAVERSAL);
            Estimate::of(text.scaled(FORMAT_REGEX_MAX * REGEX))
        }
        "_==_" => equals(call)?,
        name if is_nominal(name) => Estimate::fixed(1),
        _ => return None,
    })
}

/// Whether a function only looks at something that is at hand.
pub(super) fn is_nominal(function: &str) -> bool {
    matches!(
        function,
        "masked"
            | "prefixLength"
            | "family"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast"
            | "format.named"
    ) || matches!(
        function,
        "sign"
            | "asInteger"
            | "isInteger"
            | "asApproximateFloat"
            | "isGreaterThan"
            | "isLessThan"
            | "compareTo"
            | "add"
            | "sub"
            | "major"
            | "minor"
            | "patch"
    ) || matches!(
        function,
        "getScheme" | "getHostname" | "getHost" | "getPort" | "getEscapedPath" | "getQuery"
    )
}

/// Reading a selector: its text, and a list of requirements (upstream `selectorCostEstimate`).
pub(super) fn selector(size: Range) -> Range {
    let requirement = as_float(LIST_CREATE + STRUCT_CREATE);
    Range::fixed(LIST_CREATE)
        .plus(size.scaled(TRAVERSAL))
        .plus(size.scaled(0.5).scaled(requirement))
}

/// Every element of a list is looked at, or every character of a text.
fn each(estimator: &Estimator<'_>, target: &Node<'_>) -> Estimate {
    let count = size(estimator, target);
    let Some(element) = items(target) else { return Estimate::of(count.scaled(TRAVERSAL)) };
    let mut cost = Range::fixed(1);
    if matches!(element.ty, Type::String | Type::Bytes) {
        cost = cost.plus(size(estimator, &element).scaled(TRAVERSAL));
    }
    Estimate::of(count.times(cost))
}

fn replace(text: Range, old: Range, new: Range) -> Estimate {
    let ratio =
        |text: u64, old: u64| super::cost::from_float((as_float(text) / as_float(old)).ceil());
    let (mut count, mut kept) = (Range::NOTHING, Range::NOTHING);
    if old.min == 0 {
        (count.max, kept.max) = (text.max.saturating_add(1), text.max);
    } else if new.max <= old.min {
        kept.max = text.max;
    } else {
        count.max = ratio(text.max, old.min);
    }
    if old.max == 0 {
        (count.min, kept.min) = (text.min.saturating_add(1), text.min);
    } else if old.max <= new.min {
        kept.min = text.min;
    } else {
        count.min = ratio(text.min, old.max);
    }
    Estimate::sized(text.scaled(2.0 * TRAVERSAL), count.times(new).plus(kept))
}

fn join(estimator: &Estimator<'_>, call: &Call<'_>) -> Option<Estimate> {
    let list = call.target.as_ref()?;
    let count = size(estimator, list);
    let mut text = Range::NOTHING;
    if let Some(element) = items(list) {
        text = count.times(size(estimator, &element));
    }
    if let Some(separator) = call.args.first() {
        let separators =
            Range { min: count.min.saturating_sub(1), max: count.max.saturating_sub(1) };
        text = text.plus(size(estimator, separator).times(separators));
    }
    Some(Estimate::sized(text.scaled(TRAVERSAL), text))
}

fn contains(call: &Call<'_>, arg: Range) -> Estimate {
    let address = Range { min: 4, max: 16 };
    let mut cost = address.plus(address).scaled(TRAVERSAL);
    if call.function == "containsCIDR" {
        cost = cost.plus(address.scaled(TRAVERSAL)).plus(Range::fixed(1));
    }
    if call.overload.ends_with("_string") {
        cost = cost.plus(arg.scaled(TRAVERSAL));
    }
    Estimate::of(cost)
}

/// Types of libraries are compared at a cost that is known.
fn equals(call: &Call<'_>) -> Option<Estimate> {
    let [one, two] = call.args.as_slice() else { return None };
    match (&one.ty, &two.ty) {
        (Type::Opaque(a @ ("net.IP" | "net.CIDR"), _), Type::Opaque(b, _)) if a == b => {
            Some(Estimate::fixed(1))
        }
        (Type::Named(a), Type::Named(b)) if a == b => Some(match *a {
            "kubernetes.NamedFormat" => Estimate::of(Range { min: 1, max: scaled(64, TRAVERSAL) }),
            "kubernetes.URL" => {
                let max = two.size.map_or(1, |size| size.max);
                Estimate::of(Range { min: 1, max }.scaled(TRAVERSAL))
            }
            _ => Estimate::fixed(1),
        }),
        _ => None,
    }
}

/// Where not all arguments are evaluated.
fn branching(estimator: &mut Estimator<'_>, call: &Call<'_>) -> Option<Estimate> {
    match (call.overload, call.costs.as_slice()) {
        ("logical_or" | "logical_and", [left, right]) => {
            let max = left.plus(*right).max;
            Some(Estimate::of(Range { min: left.min, max }))
        }
        ("conditional", [condition, yes, no]) => {
            let size = known(&call.args[1]).union(known(&call.args[2]));
            let entries = estimator.entries_of_both(&call.args[1], &call.args[2]);
            estimator.set_entries(call.expr, entries);
            Some(Estimate::sized(condition.plus(yes.union(*no)), size))
        }
        _ => None,
    }
}

fn standard(estimator: &mut Estimator<'_>, call: &Call<'_>) -> Option<Estimate> {
    let arg = |index: usize| call.args.get(index).map(known);
    let target = call.target.as_ref().map(known);
    Some(match call.overload {
        "string_format" => Estimate::of(target?.scaled(TRAVERSAL)),
        "string_to_bytes" => {
            let size = arg(0)?;
            let result = Range { min: size.min, max: size.max.wrapping_mul(4) };
            Estimate::sized(size.scaled(TRAVERSAL), result)
        }
        "bytes_to_string" => {
            let size = arg(0)?;
            Estimate::sized(size.scaled(TRAVERSAL), Range { min: size.min / 4, max: size.max })
        }
        "strings_quote" => {
            let size = arg(0)?;
            let max = size.max.wrapping_mul(2).wrapping_add(2);
            let result = Range { min: size.min.wrapping_add(2), max };
            Estimate::sized(size.scaled(TRAVERSAL), result)
        }
        "starts_with_string" | "ends_with_string" => Estimate::of(arg(0)?.scaled(TRAVERSAL)),
        "in_list" => Estimate::of(arg(1)?.scaled(1.0)),
        "matches_string" => {
            let text = target?.plus(Range::fixed(1)).scaled(TRAVERSAL);
            Estimate::of(text.times(arg(0)?.scaled(REGEX)))
        }
        "contains_string" => {
            Estimate::of(target?.scaled(TRAVERSAL).times(arg(0)?.scaled(TRAVERSAL)))
        }
        "add_string" | "add_bytes" | "add_list" => {
            let size = arg(0)?.plus(arg(1)?);
            let entries = estimator.entries_of_both(&call.args[0], &call.args[1]);
            estimator.set_entries(call.expr, entries);
            let is_list = call.overload == "add_list";
            let cost = if is_list { Range::fixed(1) } else { size.scaled(TRAVERSAL) };
            Estimate::sized(cost, size)
        }
        name if compares_all(name) => {
            let max = arg(0)?.max.min(arg(1)?.max);
            Estimate::of(Range { min: u64::from(max > 0), max }.scaled(TRAVERSAL))
        }
        _ => return None,
    })
}

/// Whether an overload looks at both of its arguments as far as the shorter goes.
pub(super) fn compares_all(overload: &str) -> bool {
    matches!(overload, "equals" | "not_equals")
        || ["less_", "less_equals_", "greater_", "greater_equals_"].iter().any(|word| {
            matches!(overload.strip_prefix(word), Some("string_string" | "bytes_bytes"))
        })
}
