//! Endpoints given to zones in proportion to their processors: upstream staging/src/k8s.io/
//! endpointslice/topologycache (v1.35). Where upstream takes any of several zones, this takes the
//! first by name, so that a plan leads to itself.

use super::super::spread::Slices;
use super::is_ready;
use crate::api::Quantity;
use crate::api::node::ready_status;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointSlice, ForZone};
use std::collections::BTreeMap;
use std::sync::Arc;

/// No endpoint is to have more than this beyond its part of the load.
const OVERLOAD: f64 = 0.2;

const ZONE: &str = "topology.kubernetes.io/zone";

/// Nodes with one of these labels run no clients to speak of.
const EXCLUDED: &[&str] =
    &["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

const NO_NODE_INFO: &str =
    "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
const NO_ZONE: &str = "One or more endpoints do not have a zone specified";

type Counts = BTreeMap<String, usize>;

/// How many endpoints a zone is to have.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Allocation {
    minimum: usize,
    maximum: usize,
    desired: f64,
}

type Allocations = BTreeMap<String, Allocation>;

/// What of a node makes a difference to the parts of the zones.
pub(in super::super) fn counts_for_zones(node: &Node) -> (Option<&str>, bool, i64) {
    (zone(node), ready_status(node) == Some("True"), milli_cpus(node))
}

pub(in super::super) fn zone(node: &Node) -> Option<&str> {
    node.metadata.labels.as_ref()?.get(ZONE).map(String::as_str).filter(|zone| !zone.is_empty())
}

fn milli_cpus(node: &Node) -> i64 {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    allocatable.and_then(|it| it.get("cpu")).map_or(0, |cpu| Quantity::of(cpu).milli_units())
}

/// Gives every ready endpoint to one zone.
///
/// # Errors
/// Says why that cannot be done; then there are to be no hints.
pub(super) fn add(nodes: &[Arc<Node>], slices: &mut Slices) -> Result<(), String> {
    let total = slices.kept().flat_map(|slice| &slice.endpoints).filter(|it| is_ready(it)).count();
    let allocations = allocations(&parts(nodes)?, total)?;
    let mut allocated = Counts::new();
    slices.touch(|slice| match hints_by_zone(slice, &allocated, &allocations) {
        Some(hints) => {
            hints
                .into_iter()
                .for_each(|(zone, count)| *allocated.entry(zone).or_default() += count);
            false
        }
        None => true,
    });
    for slice in slices.written() {
        for endpoint in &mut slice.endpoints {
            endpoint.hints = None;
            if is_ready(endpoint) {
                let zone = endpoint.zone.clone().ok_or(NO_ZONE)?;
                *allocated.entry(zone.clone()).or_default() += 1;
                endpoint.hints = for_zone(zone);
            }
        }
    }
    let (mut giving, mut receiving) = exchange(&allocations, &allocated);
    for slice in slices.written() {
        redistribute(slice, &mut giving, &mut receiving);
    }
    Ok(())
}

fn for_zone(name: String) -> Option<EndpointHints> {
    Some(EndpointHints { for_nodes: None, for_zones: Some(vec![ForZone { name }]) })
}

/// The part that each zone has of all processors (upstream `SetNodes`).
fn parts(nodes: &[Arc<Node>]) -> Result<BTreeMap<String, f64>, String> {
    let mut cpus: BTreeMap<String, i64> = BTreeMap::new();
    for node in nodes {
        let labels = node.metadata.labels.as_ref();
        let is_excluded = labels.is_some_and(|all| EXCLUDED.iter().any(|it| all.contains_key(*it)));
        if is_excluded || ready_status(node) != Some("True") {
            continue;
        }
        match (zone(node), milli_cpus(node)) {
            (Some(zone), cpu @ 1..) => *cpus.entry(zone.to_owned()).or_default() += cpu,
            _ => return Err(NO_NODE_INFO.to_owned()),
        }
    }
    // Upstream tells both cases apart by the same words.
    if cpus.len() < 2 {
        return Err(NO_NODE_INFO.to_owned());
    }
    let total: i64 = cpus.values().sum();
    Ok(cpus.into_iter().map(|(zone, cpu)| (zone, ratio(cpu, total))).collect())
}

#[expect(clippy::cast_precision_loss, reason = "processors of a cluster are far below 2^52")]
fn ratio(part: i64, total: i64) -> f64 {
    part as f64 / total as f64
}

#[expect(clippy::cast_precision_loss, reason = "endpoints of a Service are far below 2^52")]
fn float(count: usize) -> f64 {
    count as f64
}

/// Upstream `getAllocations`.
fn allocations(parts: &BTreeMap<String, f64>, total: usize) -> Result<Allocations, String> {
    let counts = format!("({total} endpoints, {} zones)", parts.len());
    if parts.len() > total {
        return Err(format!("Insufficient number of endpoints {counts}"));
    }
    let mut allocations = Allocations::new();
    let mut minimums = 0;
    for (zone, part) in parts {
        let share = part * float(total);
        let minimum = at_least(share / (1.0 + OVERLOAD), total);
        minimums += minimum;
        let desired = share.max(float(minimum));
        allocations.insert(zone.clone(), Allocation { minimum, maximum: 0, desired });
    }
    let spare = total.checked_sub(minimums).ok_or_else(|| {
        let why = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold";
        format!("{why} {counts}")
    })?;
    for allocation in allocations.values_mut() {
        allocation.maximum = allocation.minimum + spare;
    }
    Ok(allocations)
}

/// The smallest count that is no less than `share`, which is at most `total`.
fn at_least(share: f64, total: usize) -> usize {
    (0..=total).find(|count| float(*count) >= share).unwrap_or(total)
}

/// The hints of a slice, where they can stay (upstream `getHintsByZone`).
fn hints_by_zone(
    slice: &EndpointSlice,
    allocated: &Counts,
    allocations: &Allocations,
) -> Option<Counts> {
    let mut counts = Counts::new();
    for endpoint in slice.endpoints.iter().filter(|endpoint| is_ready(endpoint)) {
        let zones = zones_of(endpoint).filter(|zones| !zones.is_empty())?;
        for zone in zones {
            if !allocations.contains_key(&zone.name) {
                return None;
            }
            *counts.entry(zone.name.clone()).or_default() += 1;
        }
    }
    let fits = counts.iter().all(|(zone, count)| {
        count + allocated.get(zone).copied().unwrap_or_default() <= allocations[zone].maximum
    });
    fits.then_some(counts)
}

fn zones_of(endpoint: &Endpoint) -> Option<&Vec<ForZone>> {
    endpoint.hints.as_ref()?.for_zones.as_ref()
}

/// How many endpoints each zone gives away, and how many it gets (upstream
/// `getGivingAndReceivingZones`).
fn exchange(allocations: &Allocations, allocated: &Counts) -> (Counts, Counts) {
    let mut surplus: BTreeMap<&str, f64> = BTreeMap::new();
    let mut lack: BTreeMap<&str, f64> = BTreeMap::new();
    for (zone, allocation) in allocations {
        let difference =
            float(allocated.get(zone).copied().unwrap_or_default()) - allocation.desired;
        if difference > 0.0 {
            surplus.insert(zone, difference);
        } else if difference < 0.0 {
            lack.insert(zone, -difference);
        }
    }
    let (mut giving, mut receiving) = (Counts::new(), Counts::new());
    while let (Some((from, give)), Some((to, take))) = (most(&surplus), most(&lack)) {
        if (give < 1.0 && take < 1.0) || give < 0.5 || take < 0.5 {
            break;
        }
        *giving.entry(from.to_owned()).or_default() += 1;
        *receiving.entry(to.to_owned()).or_default() += 1;
        surplus.insert(from, give - 1.0);
        lack.insert(to, take - 1.0);
    }
    (giving, receiving)
}

/// The zone with the most, the first of them by name.
fn most<'a>(zones: &BTreeMap<&'a str, f64>) -> Option<(&'a str, f64)> {
    let mut most = None;
    for (zone, count) in zones {
        if *count > most.map_or(0.0, |(_, count)| count) {
            most = Some((*zone, *count));
        }
    }
    most
}

/// Upstream `redistributeHints`.
fn redistribute(slice: &mut EndpointSlice, giving: &mut Counts, receiving: &mut Counts) {
    for endpoint in slice.endpoints.iter_mut().filter(|endpoint| is_ready(endpoint)) {
        let Some(zone) = endpoint.zone.clone() else { continue };
        if giving.get(&zone).is_none_or(|count| *count == 0) {
            continue;
        }
        let Some((to, count)) = receiving.iter_mut().find(|(_, count)| **count > 0) else { return };
        *count -= 1;
        endpoint.hints = for_zone(to.clone());
        *giving.entry(zone).or_default() -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(zone: &str, cpu: &str) -> Arc<Node> {
        node_with(json!({ZONE: zone}), cpu, "True")
    }

    fn node_with(labels: serde_json::Value, cpu: &str, ready: &str) -> Arc<Node> {
        let node = json!({"metadata": {"labels": labels}, "status": {
            "allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": ready}]}});
        Arc::new(serde_json::from_value(node).unwrap())
    }

    /// A slice from words: the zone of an endpoint, and after `>` that of its hint.
    fn slice(name: &str, words: &str) -> EndpointSlice {
        let endpoints = words.split_whitespace().enumerate().map(|(index, word)| {
            let (zone, hint) = word.split_once('>').unwrap_or((word, ""));
            let mut endpoint = json!({"addresses": [format!("10.0.0.{index}")],
                "conditions": {"ready": !zone.starts_with('!')}});
            if !zone.is_empty() {
                endpoint["zone"] = json!(zone.trim_start_matches('!'));
            }
            if !hint.is_empty() {
                endpoint["hints"] = json!({"forZones": [{"name": hint}]});
            }
            endpoint
        });
        let endpoints: Vec<_> = endpoints.collect();
        let slice =
            json!({"metadata": {"name": name}, "addressType": "IPv4", "endpoints": endpoints});
        serde_json::from_value(slice).unwrap()
    }

    fn show(slices: &Slices) -> String {
        let words = slices.kept().flat_map(|slice| &slice.endpoints).map(|endpoint| {
            let zone = endpoint.zone.as_deref().unwrap_or_default();
            match zones_of(endpoint) {
                Some(zones) if zones[0].name == zone => format!("{zone}>"),
                Some(zones) => format!("{zone}>{}", zones[0].name),
                None => zone.to_owned(),
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn check(nodes: &[Arc<Node>], created: &str, unchanged: &str, expected: &str) {
        let mut slices = Slices {
            created: vec![slice("new", created)],
            unchanged: vec![Arc::new(slice("old", unchanged))],
            ..Slices::default()
        };
        let shown = match add(nodes, &mut slices) {
            Ok(()) => show(&slices),
            Err(why) => why,
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn each_zone_has_its_part() {
        let even = [node("a", "1"), node("b", "1")];
        check(&even, "a b", "", "a> b>");
        check(&even, "a a a a", "", "a>b a>b a> a>");
        check(&even, "a a b b !b", "", "a> a> b> b> b");
        let uneven = [node("a", "3"), node("b", "1")];
        check(&uneven, "a a b b", "", "a> a> b>a b>");
    }

    #[test]
    fn what_is_there_stays_where_it_fits() {
        let even = [node("a", "1"), node("b", "1")];
        check(&even, "a", "a>a b>b b>b", "a> a> b> b>");
        check(&even, "", "a>a b>b", "a> b>");
        // A zone that there is no more.
        check(&even, "", "a>c b>b", "a> b>");
        check(&even, "", "a>a a>a a>a a>a", "a>b a>b a> a>");
    }

    #[test]
    fn hints_need_zones_and_endpoints_enough() {
        let three = [node("a", "1"), node("b", "1"), node("c", "1")];
        check(&three, "a b", "", "Insufficient number of endpoints (2 endpoints, 3 zones)");
        check(&three[..1], "a b", "", NO_NODE_INFO);
        check(&[node("a", "1"), node("", "1")], "a b", "", NO_NODE_INFO);
        check(&[node("a", "1"), node("b", "0")], "a b", "", NO_NODE_INFO);
        let even = [node("a", "1"), node("b", "1")];
        check(&even, "a b b >", "", NO_ZONE);
        let uneven = [node("a", "1"), node("b", "1"), node("c", "10")];
        check(
            &uneven,
            "a b c",
            "",
            "Unable to allocate minimum required endpoints to each zone without exceeding \
             overload threshold (3 endpoints, 3 zones)",
        );
    }

    #[test]
    fn nodes_that_serve_no_clients_do_not_count() {
        let control = json!({ZONE: "c", "node-role.kubernetes.io/control-plane": ""});
        let nodes = [
            node("a", "1"),
            node("b", "1"),
            node_with(control, "8", "True"),
            node_with(json!({}), "8", "False"),
        ];
        check(&nodes, "a b", "", "a> b>");
    }
}
