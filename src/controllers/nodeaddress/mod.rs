//! Tells of nodes that say that they have the same address: what is sent there reaches one of them.
//!
//! Start at [`plan()`]; who has what is in [`owners`]. Upstream leaves it to users to find out. Nothing
//! else is done about it: the machine that a new one has replaced may have a Node yet, and everything
//! goes to whoever answers.

mod owners;
mod plan;

pub use owners::Twin;
pub use plan::{Observed, plan};

use super::Caches;
use super::node_addresses::internal;
use crate::api::ObjectKey;
use crate::client::{Cache, ResourceType, Seen};
use crate::control::{Attempt, Controller, Plan, Queue};
use k8s_openapi::api::core::v1::Node;
use owners::Owners;
use std::sync::{Arc, Mutex};

/// Looks at addresses of nodes.
#[derive(Debug)]
pub struct NodeAddressController {
    nodes: Arc<Cache<Node>>,
    owners: Arc<Mutex<Owners>>,
}

impl NodeAddressController {
    #[must_use]
    pub fn new(caches: &Caches) -> Self {
        Self { nodes: Arc::clone(&caches.nodes), owners: Arc::default() }
    }

    /// Queues the nodes that share an address from now on.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = Queue::new();
        let (changed, owners) = (queue.clone(), Arc::clone(&self.owners));
        self.nodes.on_change(move |change| {
            let addresses = |node: Option<&Node>| node.map(internal).unwrap_or_default();
            let (old, new) = (addresses(change.old.as_deref()), addresses(change.new.as_deref()));
            // Most of what nodes say of themselves is about something else.
            if old == new {
                return;
            }
            let mut owners = owners.lock().expect("no panics under this lock");
            for sharing in owners.change(&change.key.name, (&old, &new)) {
                changed.add(&ObjectKey::cluster(sharing));
            }
        });
        queue
    }
}

impl Controller for NodeAddressController {
    const NAME: &'static str = "node-address-controller";
    /// What it may do, the one that notices nodes that are away may as well.
    const ACCOUNT: &'static str = "node-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, _attempt: Attempt) -> Option<Observed> {
        let node = self.nodes.get(key)?;
        let mut owners = self.owners.lock().expect("no panics under this lock");
        let twins = owners.untold(&key.name, &internal(&node));
        Some(Observed { node, twins })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![(ResourceType::of::<Node>(), Arc::clone(&self.nodes) as Arc<dyn Seen>)]
    }
}
