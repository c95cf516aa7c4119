//! Keeps a Deployment's pods at its template, by way of ReplicaSets: one per template that it has had.
//!
//! Start at [`plan()`]. `draft` holds the sets while their sizes are decided in `rollout`; `status` says
//! how it goes; `bounds`, `revision` and `template` read the Deployment's numbers, annotations and
//! templates.

mod bounds;
mod draft;
mod plan;
mod revision;
mod rollout;
mod status;
mod template;
#[cfg(test)]
mod tests;

pub use plan::{Observed, plan};
pub use template::set_name;

use super::Caches;
use super::ownership::{matches, queue_of, queue_owners, stays};
use crate::api::ObjectKey;
use crate::api::owner::controller_of;
use crate::api::pod::is_terminal;
use crate::client::{Cache, Change, Client, ResourceType, Seen};
use crate::control::{Attempt, Controller, Plan, Queue};
use bounds::{Bounds, Strategy};
use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use plan::spec_and_selector;
use std::sync::Arc;

/// Looks at Deployments, their ReplicaSets, and where old pods matter, at pods.
#[derive(Debug)]
pub struct DeploymentController {
    client: Client,
    deployments: Arc<Cache<Deployment>>,
    sets: Arc<Cache<ReplicaSet>>,
    pods: Arc<Cache<Pod>>,
}

impl DeploymentController {
    /// `client` is asked only whether a Deployment that is to adopt sets is still there.
    #[must_use]
    pub fn new(client: Client, caches: &Caches) -> Self {
        Self {
            client,
            deployments: Arc::clone(&caches.deployments),
            sets: Arc::clone(&caches.replica_sets),
            pods: Arc::clone(&caches.pods),
        }
    }

    /// Queues a Deployment when it or one of its sets changes, and when an old pod has ended that it
    /// may be waiting for.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = queue_of(&self.deployments);
        queue_owners(&queue, &self.sets, &self.deployments, selects);
        let (changed, sets) = (queue.clone(), Arc::clone(&self.sets));
        let deployments = Arc::clone(&self.deployments);
        self.pods.on_change(move |change| {
            if let Some(key) = waiting_deployment(change, &sets, &deployments) {
                changed.add(&key);
            }
        });
        queue
    }
}

impl Controller for DeploymentController {
    const NAME: &'static str = "deployment-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, attempt: Attempt) -> Option<Observed> {
        let deployment = self.deployments.get(key)?;
        let namespace = key.namespace.as_deref()?;
        let mut sets = self.sets.owned_by(deployment.metadata.uid.as_deref()?);
        let (_, selector) = spec_and_selector(&deployment)?;
        let orphans = self.sets.list_where(namespace, |set| {
            controller_of(&set.metadata).is_none() && matches(&selector, &set.metadata)
        });
        let may_adopt = !orphans.is_empty() && stays(&self.client, &*deployment).await;
        sets.extend(orphans);
        let pods = match Bounds::of(&deployment).strategy {
            Strategy::RollingUpdate { .. } => Vec::new(),
            Strategy::Recreate => {
                let uids = sets.iter().filter_map(|set| set.metadata.uid.as_deref());
                uids.flat_map(|uid| self.pods.owned_by(uid)).collect()
            }
        };
        let name = template::set_name(&deployment);
        let namesake = self.sets.get(&ObjectKey::namespaced(namespace, name));
        Some(Observed { deployment, sets, namesake, pods, may_adopt, attempt })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (ResourceType::of::<Deployment>(), Arc::clone(&self.deployments) as Arc<dyn Seen>),
            (ResourceType::of::<ReplicaSet>(), Arc::clone(&self.sets) as Arc<dyn Seen>),
            (ResourceType::of::<Pod>(), Arc::clone(&self.pods) as Arc<dyn Seen>),
        ]
    }
}

/// Whether the Deployment may adopt what has these labels.
fn selects(deployment: &Deployment, set: &ObjectMeta) -> bool {
    spec_and_selector(deployment)
        .is_some_and(|(_, selector)| !selector.is_everything() && matches(&selector, set))
}

fn deployment_of(object: &ObjectKey, owner: &OwnerReference) -> Option<ObjectKey> {
    (owner.kind == Deployment::KIND)
        .then(|| ObjectKey { namespace: object.namespace.clone(), name: owner.name.clone() })
}

/// The Deployment with the strategy `Recreate` that may have waited for this pod to end.
fn waiting_deployment(
    change: &Change<Pod>,
    sets: &Cache<ReplicaSet>,
    deployments: &Cache<Deployment>,
) -> Option<ObjectKey> {
    let old = change.old.as_ref().filter(|pod| !is_terminal(pod))?;
    if change.new.as_ref().is_some_and(|pod| !is_terminal(pod)) {
        return None;
    }
    let owner = controller_of(&old.metadata).filter(|owner| owner.kind == ReplicaSet::KIND)?;
    let key = ObjectKey { namespace: change.key.namespace.clone(), name: owner.name.clone() };
    let set = sets.get(&key)?;
    let deployment = deployment_of(&key, controller_of(&set.metadata)?)?;
    let strategy = Bounds::of(&*deployments.get(&deployment)?).strategy;
    (strategy == Strategy::Recreate).then_some(deployment)
}
