//! Which node gets which addresses, decided over all nodes at once so that no two get the same.

use super::blocks::{FreeBlocks, NodeRange};
use crate::client::{Patch, object_reference};
use crate::control::{Plan, Report, Write};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use std::sync::Arc;

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub nodes: Vec<Arc<Node>>,
    /// Each node gets a block of each: one range, or one of each family.
    pub ranges: Vec<NodeRange>,
    /// Addresses that nodes do not get: those of Services.
    pub reserved: Vec<IpNet>,
}

/// Upstream `AllocateOrOccupyCIDR` (pkg/controller/nodeipam/ipam/range_allocator.go, v1.35), with
/// the lowest free block instead of the one after the last.
pub fn plan(observed: &Observed) -> Plan {
    let taken: Vec<IpNet> = observed.nodes.iter().flat_map(|node| pod_cidrs(node)).collect();
    let taken = || taken.iter().chain(&observed.reserved);
    let mut pools: Vec<FreeBlocks> =
        observed.ranges.iter().map(|range| FreeBlocks::of(*range, taken())).collect();
    let mut plan = Plan::default();
    let mut writes = Vec::new();
    for node in observed.nodes.iter().filter(|node| needs_cidrs(node)) {
        let blocks: Option<Vec<IpNet>> = pools.iter_mut().map(Iterator::next).collect();
        if let Some(blocks) = blocks {
            writes.push(assign(node, &blocks));
        } else {
            plan.regarding = object_reference(&**node);
            plan.reports = vec![no_cidr_available(node)];
            break;
        }
    }
    plan.then(writes);
    plan
}

pub(super) fn needs_cidrs(node: &Node) -> bool {
    node.metadata.deletion_timestamp.is_none()
        && node.spec.as_ref().is_none_or(|spec| {
            spec.pod_cidrs.as_ref().is_none_or(Vec::is_empty)
                && spec.pod_cidr.as_deref().unwrap_or_default().is_empty()
        })
}

/// The addresses that a node has. What cannot be read cannot be in anybody's way.
fn pod_cidrs(node: &Node) -> impl Iterator<Item = IpNet> {
    let spec = node.spec.as_ref();
    let all = spec.and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
    let first = spec.and_then(|spec| spec.pod_cidr.as_ref());
    all.iter().chain(first).filter_map(|cidr| cidr.parse().ok())
}

fn assign(node: &Node, blocks: &[IpNet]) -> Write {
    let cidrs: Vec<_> = blocks.iter().map(ToString::to_string).collect();
    let patch = json!({
        "metadata": {"uid": node.metadata.uid},
        "spec": {"podCIDR": cidrs.first(), "podCIDRs": cidrs},
    });
    Write::patch(node, Patch::Merge(patch))
}

fn no_cidr_available(node: &Node) -> Report {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    Report::normal("CIDRNotAvailable", format!("Node {name} status is now: CIDRNotAvailable"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn node((name, cidrs): &(&str, &[&str])) -> Arc<Node> {
        let spec = match cidrs {
            [] => json!({}),
            cidrs => json!({"podCIDR": cidrs[0], "podCIDRs": cidrs}),
        };
        let node = json!({"metadata": {"name": name, "uid": name}, "spec": spec});
        Arc::new(serde_json::from_value(node).unwrap())
    }

    fn observed(ranges: &[(&str, u8)], nodes: &[(&str, &[&str])]) -> Observed {
        let range =
            |(cidr, prefix): &(&str, u8)| NodeRange::new(cidr.parse().unwrap(), *prefix).unwrap();
        Observed {
            nodes: nodes.iter().map(node).collect(),
            ranges: ranges.iter().map(range).collect(),
            reserved: vec!["10.43.0.0/16".parse().unwrap()],
        }
    }

    #[track_caller]
    fn check(ranges: &[(&str, u8)], nodes: &[(&str, &[&str])], expected: &[&str]) {
        let plan = plan(&observed(ranges, nodes));
        let writes = plan.writes().map(|write| {
            let spec = &write.body()["spec"];
            assert_eq!(spec["podCIDR"], spec["podCIDRs"][0]);
            let text = |cidr: &Value| cidr.as_str().unwrap().to_owned();
            let cidrs: Vec<_> = spec["podCIDRs"].as_array().unwrap().iter().map(text).collect();
            format!("{}={}", write.key().unwrap().name, cidrs.join(","))
        });
        let reports = plan.reports.iter().map(|report| report.message.clone());
        assert_eq!(writes.chain(reports).collect::<Vec<_>>(), expected);
    }

    const CLUSTER: &[(&str, u8)] = &[("10.42.0.0/16", 24)];

    #[test]
    fn every_node_gets_a_block_of_its_own() {
        check(CLUSTER, &[], &[]);
        check(CLUSTER, &[("a", &[])], &["a=10.42.0.0/24"]);
        check(CLUSTER, &[("a", &[]), ("b", &[])], &["a=10.42.0.0/24", "b=10.42.1.0/24"]);
        check(CLUSTER, &[("a", &["10.42.0.0/24"]), ("b", &[])], &["b=10.42.1.0/24"]);
        check(
            CLUSTER,
            &[("a", &["10.42.1.0/24"]), ("b", &[]), ("c", &[])],
            &["b=10.42.0.0/24", "c=10.42.2.0/24"],
        );
        check(CLUSTER, &[("a", &["10.42.0.0/24"])], &[]);
    }

    #[test]
    fn dual_stack_nodes_get_one_of_each() {
        check(
            &[("10.42.0.0/16", 24), ("fd00:42::/56", 64)],
            &[("a", &["10.42.0.0/24", "fd00:42::/64"]), ("b", &[])],
            &["b=10.42.1.0/24,fd00:42:0:1::/64"],
        );
    }

    #[test]
    fn addresses_of_services_are_left_out() {
        check(&[("10.42.255.0/24", 24)], &[("a", &[])], &["a=10.42.255.0/24"]);
        check(
            &[("10.42.0.0/15", 16)],
            &[("a", &[]), ("b", &[])],
            &["a=10.42.0.0/16", "Node b status is now: CIDRNotAvailable"],
        );
    }

    #[test]
    fn nodes_on_their_way_out_get_nothing() {
        let mut observed = observed(CLUSTER, &[("a", &[])]);
        let going = Arc::make_mut(&mut observed.nodes[0]);
        going.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-11-20T12:00:00Z")).unwrap();
        assert_eq!(plan(&observed), Plan::default());
    }
}
