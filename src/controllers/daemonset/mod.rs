//! Keeps a pod of a template on every node that it fits.
//!
//! Start at [`plan()`]. `fit` says which nodes, `nodes` what becomes of the pods there, `rollout` how
//! a new template gets to them.

mod backoff;
mod fit;
mod nodes;
mod plan;
mod render;
mod rollout;
mod status;
#[cfg(test)]
mod tests;

pub use plan::{Observed, plan, revision_name};

use super::Caches;
use super::history;
use super::ownership::{concerned, matches, queue_of, stays};
use crate::api::ObjectKey;
use crate::api::labels::Selector;
use crate::api::owner::controller_of;
use crate::api::pod::phase;
use crate::client::{Cache, Change, Client, ResourceType, Seen, key_of};
use crate::control::{Attempt, Controller, Plan, Queue};
use crate::stdx::Clock;
use backoff::Failures;
use fit::Fit;
use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use plan::spec_and_selector;
use render::target_node;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Looks at DaemonSets, their pods and revisions, and at nodes.
#[derive(Debug)]
pub struct DaemonSetController {
    client: Client,
    clock: Clock,
    sets: Arc<Cache<DaemonSet>>,
    pods: Arc<Cache<Pod>>,
    nodes: Arc<Cache<Node>>,
    revisions: Arc<Cache<ControllerRevision>>,
    /// Lost with a restart: then nodes begin anew.
    failures: Arc<Mutex<Failures>>,
}

impl DaemonSetController {
    /// `client` is asked only whether a set that is to adopt something is still there.
    #[must_use]
    pub fn new(client: Client, caches: &Caches, clock: Clock) -> Self {
        Self {
            client,
            clock,
            sets: Arc::clone(&caches.daemon_sets),
            pods: Arc::clone(&caches.pods),
            nodes: Arc::clone(&caches.nodes),
            revisions: Arc::clone(&caches.controller_revisions),
            failures: Arc::default(),
        }
    }

    /// Queues a set when it changes, one of its pods or revisions, or whether a node suits it.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = queue_of(&self.sets);
        let (changed, sets) = (queue.clone(), Arc::clone(&self.sets));
        let (failures, clock) = (Arc::clone(&self.failures), self.clock.clone());
        self.pods.on_change(move |change| {
            if let Some((set_uid, node)) = failed_pod_that_goes(change) {
                lock(&failures).note(set_uid, node, clock.now());
            }
            let selects = |set: &DaemonSet, pod: &ObjectMeta| {
                spec_and_selector(set).is_some_and(|(_, selector)| {
                    !selector.is_everything() && matches(&selector, pod)
                })
            };
            concerned(change, &sets, selects).iter().for_each(|key| changed.add(key));
        });
        history::queue_owners(&queue, &self.revisions, &self.sets, selector);
        let (changed, sets) = (queue.clone(), Arc::clone(&self.sets));
        self.nodes.on_change(move |change| {
            if matters(change.old.as_deref()) != matters(change.new.as_deref()) {
                suited(change, &sets).iter().for_each(|key| changed.add(key));
            }
        });
        queue
    }
}

impl Controller for DaemonSetController {
    const NAME: &'static str = "daemon-set-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, attempt: Attempt) -> Option<Observed> {
        let set = self.sets.get(key)?;
        let (uid, namespace) = (set.metadata.uid.as_deref()?, key.namespace.as_deref()?);
        let (_, selector) = spec_and_selector(&set)?;
        let mut pods = self.pods.owned_by(uid);
        let orphaned_pods = self.pods.list_where(namespace, |pod| {
            controller_of(&pod.metadata).is_none() && matches(&selector, &pod.metadata)
        });
        let mut revisions = self.revisions.owned_by(uid);
        let orphaned_revisions = self.revisions.list_where(namespace, |revision| {
            controller_of(&revision.metadata).is_none() && matches(&selector, &revision.metadata)
        });
        let has_orphans = !orphaned_pods.is_empty() || !orphaned_revisions.is_empty();
        let may_adopt = has_orphans && stays(&self.client, &*set).await;
        pods.extend(orphaned_pods);
        revisions.extend(orphaned_revisions);
        let namesake = self.revisions.get(&ObjectKey::namespaced(namespace, revision_name(&set)?));
        let waits = lock(&self.failures).waits(uid, attempt.now);
        let nodes = self.nodes.list();
        Some(Observed { set, nodes, pods, revisions, namesake, waits, may_adopt, attempt })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (ResourceType::of::<DaemonSet>(), Arc::clone(&self.sets) as Arc<dyn Seen>),
            (ResourceType::of::<Pod>(), Arc::clone(&self.pods) as Arc<dyn Seen>),
            (ResourceType::of::<Node>(), Arc::clone(&self.nodes) as Arc<dyn Seen>),
            (
                ResourceType::of::<ControllerRevision>(),
                Arc::clone(&self.revisions) as Arc<dyn Seen>,
            ),
        ]
    }
}

fn lock(failures: &Mutex<Failures>) -> MutexGuard<'_, Failures> {
    failures.lock().expect("no panics under this lock")
}

fn selector(set: &DaemonSet) -> Option<Selector> {
    spec_and_selector(set).map(|(_, selector)| selector)
}

/// The uid of the DaemonSet and the node of a pod that failed and goes with this change.
fn failed_pod_that_goes(change: &Change<Pod>) -> Option<(&str, &str)> {
    let stays = |pod: &&Arc<Pod>| pod.metadata.deletion_timestamp.is_none();
    let pod = change.old.as_ref().filter(stays).filter(|pod| phase(pod) == "Failed")?;
    if change.new.as_ref().is_some_and(|new| stays(&new)) {
        return None;
    }
    let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == DaemonSet::KIND)?;
    Some((&owner.uid, target_node(pod)?))
}

/// What of a node matters to DaemonSets: not that it lives, which it says all the time.
#[derive(PartialEq)]
struct Matters<'a> {
    labels: Option<&'a BTreeMap<String, String>>,
    taints: &'a [Taint],
}

fn matters(node: Option<&Node>) -> Option<Matters<'_>> {
    let node = node?;
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
    let labels = node.metadata.labels.as_ref();
    Some(Matters { labels, taints: taints.unwrap_or_default() })
}

/// The sets which a node suits otherwise than before.
fn suited(change: &Change<Node>, sets: &Cache<DaemonSet>) -> Vec<ObjectKey> {
    let fit = |set: &DaemonSet, node: Option<&Arc<Node>>| {
        node.map_or_else(Fit::default, |node| Fit::of(set, node))
    };
    let is_other =
        |set: &Arc<DaemonSet>| fit(set, change.old.as_ref()) != fit(set, change.new.as_ref());
    let others = sets.list().into_iter().filter(is_other);
    others.map(|set| key_of(&set.metadata)).collect()
}
