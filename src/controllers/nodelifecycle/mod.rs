//! Notices nodes that are away, and says so: in their conditions, in taints, and of their pods.
//!
//! Start at [`plan()`]; how fast nodes are emptied is in [`zones`]. Upstream looks at all nodes every
//! five seconds. This controller looks at a node when it changes, and when it would be away if
//! nothing were heard of it until then; that its lease was renewed is only noted down.

mod plan;
mod zones;

pub use plan::{Observed, plan};
pub use zones::Slot;

use super::Caches;
use crate::api::ObjectKey;
use crate::api::node::{condition, ready_status};
use crate::api::pod::node_name;
use crate::client::{Cache, Change, ResourceType, Seen, key_of};
use crate::control::{Attempt, Controller, Plan, Queue};
use crate::stdx::monotonic;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use plan::{is_known_away, needs_slot};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;
use zones::{Pace, Zones, zone_of};

/// Looks at nodes, their leases and their pods.
#[derive(Debug)]
pub struct NodeLifecycleController {
    nodes: Arc<Cache<Node>>,
    leases: Arc<Cache<Lease>>,
    pods: Arc<Cache<Pod>>,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Debug, Default)]
struct Memory {
    /// When each node was last heard of. By the clock that nobody sets.
    heard: BTreeMap<String, Instant>,
    /// Nodes that were looked at before.
    known: BTreeMap<String, String>,
    pace: Pace,
    zones: Zones,
    was_all_away: bool,
}

impl NodeLifecycleController {
    #[must_use]
    pub fn new(caches: &Caches) -> Self {
        Self {
            nodes: Arc::clone(&caches.nodes),
            leases: Arc::clone(&caches.node_leases),
            pods: Arc::clone(&caches.pods),
            memory: Arc::default(),
        }
    }

    /// Queues a node when it changes, and all of them when one comes back or goes away.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let memory = Arc::clone(&self.memory);
        self.leases.on_change(move |change| {
            if change.new.is_some()
                && renewal(change.old.as_deref()) != renewal(change.new.as_deref())
            {
                note(&memory, &change.key.name);
            }
        });
        let queue = Queue::new();
        let (changed, nodes) = (queue.clone(), Arc::clone(&self.nodes));
        let memory = Arc::clone(&self.memory);
        self.nodes.on_change(move |change| {
            if change.new.is_none() {
                forget(&memory, &change.key.name);
            } else if is_heartbeat(change) {
                note(&memory, &change.key.name);
            }
            changed.add(&change.key);
            if turns(change) && extent_changes(&memory, &nodes.list()) {
                nodes.list().iter().for_each(|node| changed.add(&key_of(&node.metadata)));
            }
        });
        queue
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("no panics under this lock")
    }
}

impl Controller for NodeLifecycleController {
    const NAME: &'static str = "node-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, attempt: Attempt) -> Option<Observed> {
        let node = self.nodes.get(key)?;
        let now = monotonic();
        // What is there says for itself that not all are away; most nodes are most of the time.
        let is_there = ready_status(&node) == Some("True");
        let zones = if is_there { Zones::default() } else { Zones::of(&self.nodes.list()) };
        let all_away = zones.all_away();
        let mut memory = self.memory();
        if memory.was_all_away && !all_away {
            // It was this side that was away: the nodes have had no chance to be heard.
            memory.heard.values_mut().for_each(|heard| *heard = now);
        }
        memory.was_all_away = all_away;
        let heard = *memory.heard.entry(key.name.clone()).or_insert(now);
        let uid = node.metadata.uid.clone().unwrap_or_default();
        let is_new = memory.known.insert(key.name.clone(), uid.clone()) != Some(uid);
        let slot = if needs_slot(&node) {
            memory.pace.take(&zones, (zone_of(&node), &key.name), now)
        } else {
            Slot::Closed
        };
        drop(memory);
        let mut pods = if is_known_away(&node) { self.pods.list() } else { Vec::new() };
        pods.retain(|pod| node_name(pod) == Some(&key.name));
        let silent_for = now.saturating_duration_since(heard);
        Some(Observed { node, silent_for, is_new, slot, all_away, pods, attempt })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        // The leases are not written here, and their cache is not one to wait for.
        vec![
            (ResourceType::of::<Node>(), Arc::clone(&self.nodes) as Arc<dyn Seen>),
            (ResourceType::of::<Pod>(), Arc::clone(&self.pods) as Arc<dyn Seen>),
        ]
    }
}

fn renewal(lease: Option<&Lease>) -> Option<jiff::Timestamp> {
    Some(lease?.spec.as_ref()?.renew_time.as_ref()?.0)
}

/// Whether the change comes from the node itself.
fn is_heartbeat(change: &Change<Node>) -> bool {
    let heartbeat = |node: &Option<Arc<Node>>| {
        let ready = node.as_ref().and_then(|node| condition(node, "Ready").cloned());
        ready.and_then(|ready| ready.last_heartbeat_time.map(|time| time.0))
    };
    change.old.is_none() || heartbeat(&change.old) != heartbeat(&change.new)
}

/// Whether a node has come back or gone away.
fn turns(change: &Change<Node>) -> bool {
    let is_there = |node: &Arc<Node>| ready_status(node) == Some("True");
    let is_now = change.new.as_ref().map(is_there);
    change.old.as_ref().is_some_and(|old| Some(is_there(old)) != is_now)
}

/// Whether other nodes are to be treated differently since the last change.
fn extent_changes(memory: &Mutex<Memory>, nodes: &[Arc<Node>]) -> bool {
    let zones = Zones::of(nodes);
    let mut memory = memory.lock().expect("no panics under this lock");
    let is_same = zones.has_extents_of(&memory.zones);
    memory.zones = zones;
    !is_same
}

fn note(memory: &Mutex<Memory>, node: &str) {
    let mut memory = memory.lock().expect("no panics under this lock");
    memory.heard.insert(node.to_owned(), monotonic());
}

fn forget(memory: &Mutex<Memory>, node: &str) {
    let mut memory = memory.lock().expect("no panics under this lock");
    memory.heard.remove(node);
    memory.known.remove(node);
}
