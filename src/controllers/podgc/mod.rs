//! Removes pods that nobody needs any more: of nodes that are gone, and of long ago.
//!
//! Start at [`plan()`]. Upstream's controller looks through all pods every 20 s; this one looks when
//! something has changed that matters to it.

mod plan;

pub use plan::{Observed, Pods, plan};

use super::Caches;
use crate::api::ObjectKey;
use crate::api::pod::{is_terminal, node_name};
use crate::client::{Cache, Change, Client, ResourceType, Seen};
use crate::control::{Attempt, Controller, Plan, Queue};
use k8s_openapi::api::core::v1::{Node, Pod};
use plan::is_out_of_service;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Pods of a node that is gone may stay this long: it may come again. Upstream's `quarantineTime`.
const QUARANTINE: Duration = Duration::from_secs(40);

/// Pods that have ended are counted this long after one more has: upstream's `gcCheckPeriod`.
const COUNT_AFTER: Duration = Duration::from_secs(20);

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The pods of a node.
    Node(String),
    /// A pod without a node.
    Pod(ObjectKey),
    /// All pods that have ended.
    Terminated,
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(formatter, "pods of node {name}"),
            Self::Pod(key) => write!(formatter, "{key}"),
            Self::Terminated => formatter.write_str("pods that have ended"),
        }
    }
}

/// Looks at pods and their nodes.
#[derive(Debug)]
pub struct PodGarbageCollector {
    client: Client,
    nodes: Arc<Cache<Node>>,
    pods: Arc<Cache<Pod>>,
}

impl PodGarbageCollector {
    /// `client` is asked only whether a node is really gone.
    #[must_use]
    pub fn new(client: Client, caches: &Caches) -> Self {
        Self { client, nodes: Arc::clone(&caches.nodes), pods: Arc::clone(&caches.pods) }
    }

    /// See the module.
    #[must_use]
    pub fn queue(&self) -> Queue<Key> {
        let queue = Queue::new();
        let changed = queue.clone();
        self.nodes.on_change(move |change| {
            let key = Key::Node(change.key.name.clone());
            match &change.new {
                None => changed.add_after(&key, QUARANTINE),
                Some(node) if is_out_of_service(node) => changed.add(&key),
                Some(_) => {}
            }
        });
        let (changed, nodes) = (queue.clone(), Arc::clone(&self.nodes));
        self.pods.on_change(move |change| queue_pod(&changed, &nodes, change));
        queue
    }

    async fn pods_of(&self, node: &str) -> Option<Pods> {
        let key = ObjectKey::cluster(node);
        let known = self.nodes.get(&key);
        let pods = || {
            let mut pods = self.pods.list();
            pods.retain(|pod| node_name(pod) == Some(node));
            pods
        };
        match known {
            Some(node) if is_out_of_service(&node) => Some(Pods::OfLostNode(pods())),
            Some(_) => None,
            None => {
                let fresh = self.client.get::<Node>(&key).await;
                let is_gone = fresh.is_err_and(|error| error.is_not_found());
                is_gone.then(|| Pods::OfGoneNode(pods()))
            }
        }
    }
}

fn queue_pod(queue: &Queue<Key>, nodes: &Cache<Node>, change: &Change<Pod>) {
    let Some(pod) = &change.new else { return };
    let is_leaving = pod.metadata.deletion_timestamp.is_some();
    match node_name(pod) {
        None if is_leaving => queue.add(&Key::Pod(change.key.clone())),
        None => {}
        Some(name) => match nodes.get(&ObjectKey::cluster(name)) {
            None => queue.add_after(&Key::Node(name.to_owned()), QUARANTINE),
            Some(node) if is_leaving && is_out_of_service(&node) => {
                queue.add(&Key::Node(name.to_owned()));
            }
            Some(_) => {}
        },
    }
    if is_terminal(pod) && !change.old.as_ref().is_some_and(|old| is_terminal(old)) {
        queue.add_after(&Key::Terminated, COUNT_AFTER);
    }
}

impl Controller for PodGarbageCollector {
    const NAME: &'static str = "pod-garbage-collector";
    type Key = Key;
    type Observed = Observed;

    async fn observe(&self, key: &Key, attempt: Attempt) -> Option<Observed> {
        let pods = match key {
            Key::Node(name) => self.pods_of(name).await?,
            Key::Pod(key) => {
                let is_meant = |pod: &Pod| {
                    pod.metadata.deletion_timestamp.is_some() && node_name(pod).is_none()
                };
                Pods::Unscheduled(self.pods.get(key).filter(|pod| is_meant(pod))?)
            }
            Key::Terminated => {
                let mut pods = self.pods.list();
                pods.retain(|pod| is_terminal(pod));
                Pods::Terminated(pods)
            }
        };
        Some(Observed { pods, attempt })
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
