//! Deletes pods from nodes whose taints they do not tolerate, or not any longer.
//!
//! Start at [`plan()`]. How long a pod has been there is counted from when this controller has seen
//! it, as upstream does: after a restart nodes get time to say that they are well.

mod plan;

pub use plan::{Observed, plan};

use super::Caches;
use crate::api::ObjectKey;
use crate::api::pod::node_name;
use crate::client::{Cache, Change, ResourceType, Seen, key_of};
use crate::control::{Attempt, Controller, Plan, Queue};
use crate::stdx::monotonic;
use k8s_openapi::api::core::v1::{Node, Pod};
use plan::{Stay, no_execute, stay};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Looks at pods and the nodes that they are on.
#[derive(Debug)]
pub struct TaintEvictionController {
    nodes: Arc<Cache<Node>>,
    pods: Arc<Cache<Pod>>,
    /// The pods that are to leave some time, by uid, and since when.
    leaving: Mutex<BTreeMap<ObjectKey, (String, Instant)>>,
}

impl TaintEvictionController {
    #[must_use]
    pub fn new(caches: &Caches) -> Self {
        let (nodes, pods) = (Arc::clone(&caches.nodes), Arc::clone(&caches.pods));
        Self { nodes, pods, leaving: Mutex::default() }
    }

    /// Queues the pods of a node when its taints change, and a pod that changes on a node that has
    /// some.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = Queue::new();
        let (changed, pods) = (queue.clone(), Arc::clone(&self.pods));
        self.nodes.on_change(move |change| {
            if drive_the_same(change) {
                return;
            }
            for pod in pods.list() {
                if node_name(&pod) == Some(&change.key.name) {
                    changed.add(&key_of(&pod.metadata));
                }
            }
        });
        let (changed, nodes) = (queue.clone(), Arc::clone(&self.nodes));
        self.pods.on_change(move |change| {
            let Some(pod) = change.new.as_ref().or(change.old.as_ref()) else { return };
            let node = node_name(pod).and_then(|name| nodes.get(&ObjectKey::cluster(name)));
            if node.is_some_and(|node| no_execute(&node).next().is_some()) {
                changed.add(&change.key);
            }
        });
        queue
    }

    /// For how long the pod has been leaving, from now on where it has not been.
    fn leaving_for(&self, key: &ObjectKey, pod: &Pod, stay: Stay) -> Option<Duration> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let now = monotonic();
        let mut leaving = self.leaving.lock().expect("no panics under this lock");
        let since = leaving.get(key).filter(|(of, _)| *of == uid).map(|(_, since)| *since);
        if stay == Stay::Forever {
            leaving.remove(key);
        } else {
            leaving.insert(key.clone(), (uid, since.unwrap_or(now)));
        }
        since.map(|since| now.saturating_duration_since(since))
    }
}

impl Controller for TaintEvictionController {
    const NAME: &'static str = "taint-eviction-controller";
    const ACCOUNT: &'static str = "node-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, attempt: Attempt) -> Option<Observed> {
        let pod = self.pods.get(key);
        let node = pod.as_deref().and_then(node_name).map(ObjectKey::cluster);
        let node = node.and_then(|node| self.nodes.get(&node));
        let (Some(pod), Some(node)) = (pod, node) else {
            self.leaving.lock().expect("no panics under this lock").remove(key);
            return None;
        };
        let leaving_for = self.leaving_for(key, &pod, stay(&pod, &node));
        Some(Observed { pod, node, leaving_for, attempt })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (ResourceType::of::<Node>(), Arc::clone(&self.nodes) as Arc<dyn Seen>),
            (ResourceType::of::<Pod>(), Arc::clone(&self.pods) as Arc<dyn Seen>),
        ]
    }
}

/// Whether a change of a node leaves the taints that drive pods away as they were.
fn drive_the_same(change: &Change<Node>) -> bool {
    let keys = |node: &Option<Arc<Node>>| -> Vec<(String, Option<String>)> {
        let taints = node.iter().flat_map(|node| no_execute(node));
        taints.map(|taint| (taint.key.clone(), taint.value.clone())).collect()
    };
    keys(&change.old) == keys(&change.new)
}
