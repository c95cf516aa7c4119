//! Gives every node the addresses of its pods: a block of each of the cluster's ranges.
//!
//! Start at [`plan()`]. All nodes are one key: they share what there is to give.

mod blocks;
mod plan;

pub use blocks::{BadNodeRange, NodeRange};
pub use plan::{Observed, plan};

use super::Caches;
use crate::client::{Cache, ResourceType, Seen};
use crate::control::{Attempt, Controller, Plan, Queue};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use plan::needs_cidrs;
use std::fmt;
use std::sync::Arc;

/// The only key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AllNodes;

impl fmt::Display for AllNodes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("all nodes")
    }
}

/// Looks at all nodes.
#[derive(Debug)]
pub struct NodeIpamController {
    nodes: Arc<Cache<Node>>,
    ranges: Vec<NodeRange>,
    reserved: Vec<IpNet>,
}

impl NodeIpamController {
    #[must_use]
    pub fn new(caches: &Caches, ranges: Vec<NodeRange>, reserved: Vec<IpNet>) -> Self {
        Self { nodes: Arc::clone(&caches.nodes), ranges, reserved }
    }

    /// Queues the nodes when one of them has no addresses, or leaves some.
    #[must_use]
    pub fn queue(&self) -> Queue<AllNodes> {
        let queue = Queue::new();
        let changed = queue.clone();
        self.nodes.on_change(move |change| {
            if change.new.as_ref().is_none_or(|node| needs_cidrs(node)) {
                changed.add(&AllNodes);
            }
        });
        queue
    }
}

impl Controller for NodeIpamController {
    const NAME: &'static str = "node-ipam-controller";
    type Key = AllNodes;
    type Observed = Observed;

    async fn observe(&self, _key: &AllNodes, _attempt: Attempt) -> Option<Observed> {
        Some(Observed {
            nodes: self.nodes.list(),
            ranges: self.ranges.clone(),
            reserved: self.reserved.clone(),
        })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![(ResourceType::of::<Node>(), Arc::clone(&self.nodes) as Arc<dyn Seen>)]
    }
}
