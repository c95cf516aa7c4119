//! Keeps as many pods of a template running as a ReplicaSet or a ReplicationController asks for.
//!
//! Start at [`plan()`]. This is the reference controller: the others have its shape. `owner` is what
//! the two kinds have in common.

mod owner;
mod plan;
mod rank;
mod status;
#[cfg(test)]
mod tests;

pub use owner::Replicated;
pub use plan::{Observed, plan};

use super::Caches;
use super::ownership::{matches, queue_of, queue_owners, stays};
use crate::api::ObjectKey;
use crate::api::owner::controller_of;
use crate::api::pod::{is_active, node_name};
use crate::client::{Cache, Client, ResourceType, Seen};
use crate::control::{Attempt, Controller, Plan, Queue};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Looks at ReplicaSets and their pods.
pub type ReplicaSetController = ReplicasController<ReplicaSet>;

/// Looks at ReplicationControllers and their pods.
pub type ReplicationControllerController = ReplicasController<ReplicationController>;

/// Looks at objects of one of the kinds that keep so many pods of a template, and at their pods.
#[derive(Debug)]
pub struct ReplicasController<O> {
    client: Client,
    sets: Arc<Cache<O>>,
    pods: Arc<Cache<Pod>>,
}

impl<O: Replicated> ReplicasController<O> {
    /// `client` is asked only whether a set that is to adopt pods is still there.
    #[must_use]
    pub fn new(client: Client, caches: &Caches) -> Self {
        Self { client, sets: O::cache(caches), pods: Arc::clone(&caches.pods) }
    }

    /// Queues a set when it or one of its pods changes.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = queue_of(&self.sets);
        queue_owners(&queue, &self.pods, &self.sets, |set, pod| {
            set.selector().is_some_and(|selector| matches(&selector, pod))
        });
        queue
    }

    /// How many active pods each node has of the sets that `set`'s controller controls.
    fn active_by_node(&self, set: &O, own: &[Arc<Pod>]) -> BTreeMap<String, usize> {
        let mut on_node = BTreeMap::new();
        let mut count = |pods: &[Arc<Pod>]| {
            for node in pods.iter().filter(|pod| is_active(pod)).filter_map(|pod| node_name(pod)) {
                *on_node.entry(node.to_owned()).or_default() += 1;
            }
        };
        count(own);
        let Some(controller) = controller_of(set.metadata()) else { return on_node };
        for sibling in self.sets.owned_by(&controller.uid) {
            if sibling.metadata().uid != set.metadata().uid {
                count(&self.pods.owned_by(sibling.metadata().uid.as_deref().unwrap_or_default()));
            }
        }
        on_node
    }
}

impl<O: Replicated> Controller for ReplicasController<O> {
    const NAME: &'static str = O::CONTROLLER;
    type Key = ObjectKey;
    type Observed = Observed<O>;

    async fn observe(&self, key: &ObjectKey, attempt: Attempt) -> Option<Observed<O>> {
        let set = self.sets.get(key)?;
        let uid = set.metadata().uid.as_deref()?;
        let selector = set.selector()?;
        let mut pods = self.pods.owned_by(uid);
        let is_surplus = pods.len() > plan::wanted_replicas(&*set);
        let on_node = if is_surplus { self.active_by_node(&set, &pods) } else { BTreeMap::new() };

        let orphans = self.pods.list_where(key.namespace.as_deref()?, |pod| {
            is_active(pod)
                && controller_of(&pod.metadata).is_none()
                && matches(&selector, &pod.metadata)
        });
        let may_adopt = !orphans.is_empty() && stays(&self.client, &*set).await;
        pods.extend(orphans);
        Some(Observed { set, pods, may_adopt, on_node, attempt })
    }

    fn plan(observed: &Observed<O>) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (ResourceType::of::<O>(), Arc::clone(&self.sets) as Arc<dyn Seen>),
            (ResourceType::of::<Pod>(), Arc::clone(&self.pods) as Arc<dyn Seen>),
        ]
    }
}
