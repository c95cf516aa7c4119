//! Keeps numbered pods of a template running, each with claims of its own that outlive it.
//!
//! Start at [`plan()`]. `identity` says which pod is which, `storage` what claims it has, `pods` what
//! becomes of it; `status` counts.

mod identity;
mod plan;
mod pods;
mod status;
mod storage;
#[cfg(test)]
mod tests;

pub use plan::{Observed, plan, revision_name};

use super::Caches;
use super::history;
use super::ownership::{matches, queue_of, queue_owners, stays};
use super::slow_start::BURST_PODS_MAX;
use crate::api::ObjectKey;
use crate::api::labels::Selector;
use crate::api::owner::controller_of;
use crate::client::{Cache, Change, Client, ResourceType, Seen, key_of};
use crate::control::{Attempt, Controller, Plan, Queue};
use identity::{ordinal_of, ordinals};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use plan::{is_member, spec_and_selector};
use std::collections::BTreeSet;
use std::sync::Arc;
use storage::claim_names;

/// Looks at StatefulSets, their pods, revisions and claims.
#[derive(Debug)]
pub struct StatefulSetController {
    client: Client,
    sets: Arc<Cache<StatefulSet>>,
    pods: Arc<Cache<Pod>>,
    revisions: Arc<Cache<ControllerRevision>>,
    claims: Arc<Cache<PersistentVolumeClaim>>,
}

impl StatefulSetController {
    /// `client` is asked only whether a set that is to adopt something is still there.
    #[must_use]
    pub fn new(client: Client, caches: &Caches) -> Self {
        Self {
            client,
            sets: Arc::clone(&caches.stateful_sets),
            pods: Arc::clone(&caches.pods),
            revisions: Arc::clone(&caches.controller_revisions),
            claims: Arc::clone(&caches.persistent_volume_claims),
        }
    }

    /// Queues a set when it changes, one of its pods or revisions, or who has one of its claims.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = queue_of(&self.sets);
        queue_owners(&queue, &self.pods, &self.sets, selects_pod);
        history::queue_owners(&queue, &self.revisions, &self.sets, selector);
        let (changed, sets) = (queue.clone(), Arc::clone(&self.sets));
        self.claims.on_change(move |change| {
            users_of_claim(change, &sets).iter().for_each(|key| changed.add(key));
        });
        queue
    }

    /// The claims of the pods that are there and of those that may be created next.
    fn claims_of(&self, set: &StatefulSet, pods: &[Arc<Pod>]) -> Vec<Arc<PersistentVolumeClaim>> {
        let Some(spec) = &set.spec else { return Vec::new() };
        let there: BTreeSet<i32> = pods.iter().filter_map(|pod| ordinal_of(set, pod)).collect();
        let missing = ordinals(spec).filter(|ordinal| !there.contains(ordinal));
        let ordinals = there.iter().copied().chain(missing.take(BURST_PODS_MAX));
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        ordinals
            .flat_map(|ordinal| claim_names(set, ordinal))
            .filter_map(|name| self.claims.get(&ObjectKey::namespaced(namespace, name)))
            .collect()
    }
}

impl Controller for StatefulSetController {
    const NAME: &'static str = "statefulset-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, attempt: Attempt) -> Option<Observed> {
        let set = self.sets.get(key)?;
        let (uid, namespace) = (set.metadata.uid.as_deref()?, key.namespace.as_deref()?);
        let (_, selector) = spec_and_selector(&set)?;
        let mut pods = self.pods.owned_by(uid);
        let orphaned_pods = self.pods.list_where(namespace, |pod| {
            controller_of(&pod.metadata).is_none() && is_member(&set, &selector, &pod.metadata)
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
        let claims = self.claims_of(&set, &pods);
        Some(Observed { set, pods, revisions, namesake, claims, may_adopt, attempt })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (ResourceType::of::<StatefulSet>(), Arc::clone(&self.sets) as Arc<dyn Seen>),
            (ResourceType::of::<Pod>(), Arc::clone(&self.pods) as Arc<dyn Seen>),
            (
                ResourceType::of::<ControllerRevision>(),
                Arc::clone(&self.revisions) as Arc<dyn Seen>,
            ),
            (
                ResourceType::of::<PersistentVolumeClaim>(),
                Arc::clone(&self.claims) as Arc<dyn Seen>,
            ),
        ]
    }
}

fn selects_pod(set: &StatefulSet, pod: &ObjectMeta) -> bool {
    spec_and_selector(set).is_some_and(|(_, selector)| is_member(set, &selector, pod))
}

fn selector(set: &StatefulSet) -> Option<Selector> {
    spec_and_selector(set).map(|(_, selector)| selector)
}

/// The sets to look at when a claim changes: those whose pods use one of this name, where it comes,
/// goes or has other owners. What is bound to it is no concern of theirs.
fn users_of_claim(
    change: &Change<PersistentVolumeClaim>,
    sets: &Cache<StatefulSet>,
) -> Vec<ObjectKey> {
    let matter = |claim: &PersistentVolumeClaim| {
        (claim.metadata.owner_references.clone(), claim.metadata.deletion_timestamp.clone())
    };
    if change.old.as_deref().map(matter) == change.new.as_deref().map(matter) {
        return Vec::new();
    }
    let Some(namespace) = &change.key.namespace else { return Vec::new() };
    let Some((prefix, ordinal)) = change.key.name.rsplit_once('-') else { return Vec::new() };
    if ordinal.parse::<u32>().is_err() {
        return Vec::new();
    }
    let uses = |set: &StatefulSet| {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let template = prefix.strip_suffix(name).and_then(|rest| rest.strip_suffix('-'));
        let templates =
            set.spec.iter().flat_map(|spec| spec.volume_claim_templates.iter().flatten());
        template.is_some_and(|template| {
            templates.into_iter().any(|it| it.metadata.name.as_deref() == Some(template))
        })
    };
    sets.list_where(namespace, uses).iter().map(|set| key_of(&set.metadata)).collect()
}
