//! Claims stay while pods use them.
//!
//! Upstream pkg/controller/volume/pvcprotection (v1.35).

use super::{Protected, Use, concerns, plan, queue_of};
use crate::api::ObjectKey;
use crate::api::owner::is_controlled_by;
use crate::api::volume::{ClaimKind, PVC_PROTECTION, claim_used};
use crate::client::{Cache, Client, ResourceType, Seen, Selection, key_of};
use crate::control::{Attempt, Controller, Plan, Queue};
use crate::controllers::Caches;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use std::sync::Arc;

/// Protects claims.
#[derive(Debug)]
pub struct ClaimProtection {
    client: Client,
    claims: Arc<Cache<PersistentVolumeClaim>>,
    pods: Arc<Cache<Pod>>,
}

impl ClaimProtection {
    #[must_use]
    pub fn new(client: Client, caches: &Caches) -> Self {
        let (claims, pods) =
            (Arc::clone(&caches.persistent_volume_claims), Arc::clone(&caches.pods));
        Self { client, claims, pods }
    }

    /// Queues a claim that has a finalizer to get or to lose, and those of pods that have ended.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = queue_of(&self.claims, PVC_PROTECTION);
        let changed = queue.clone();
        self.pods.on_change(move |change| {
            let Some(pod) = change.old.as_ref().or(change.new.as_ref()) else { return };
            // Of a name that is used again at once the end of the first is not told.
            let uid = |pod: &Option<Arc<Pod>>| pod.as_ref().map(|pod| pod.metadata.uid.clone());
            let is_gone = change.old.is_some() && uid(&change.old) != uid(&change.new);
            let is_ended = change.new.as_ref().is_some_and(|pod| !crate::api::pod::is_active(pod));
            if is_gone || is_ended {
                let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
                volumes
                    .filter_map(|volume| claim_used(pod, volume))
                    .for_each(|(key, _)| changed.add(&key));
            }
        });
        queue
    }

    /// Whether a pod uses the claim. That none does, the API server itself has to say: a pod may be
    /// on its way to a node and not in the cache yet.
    async fn use_of(&self, claim: &PersistentVolumeClaim) -> Use {
        let namespace = claim.metadata.namespace.clone().unwrap_or_default();
        if self.pods.list_in(&namespace).iter().any(|pod| uses(pod, claim)) {
            return Use::Used;
        }
        match self.client.list::<Pod>(&Selection::namespace(namespace)).await {
            Ok(pods) if pods.items.iter().any(|pod| uses(pod, claim)) => Use::Used,
            Ok(_) => Use::Unused,
            Err(_) => Use::Unknown,
        }
    }
}

/// Upstream `podUsesPVC`: a pod without a node can still be kept from its claim.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let metadata = &pod.metadata;
    let is_shut_down =
        metadata.deletion_timestamp.is_some() && metadata.deletion_grace_period_seconds == Some(0);
    let key = key_of(&claim.metadata);
    spec.node_name.as_ref().is_some_and(|name| !name.is_empty())
        && spec.volumes.iter().flatten().any(|volume| match claim_used(pod, volume) {
            Some((used, ClaimKind::Named)) => used == key,
            Some((used, ClaimKind::Ephemeral)) => {
                let uid = metadata.uid.as_deref().unwrap_or_default();
                used == key && !is_shut_down && is_controlled_by(&claim.metadata, uid)
            }
            None => false,
        })
}

impl Controller for ClaimProtection {
    const NAME: &'static str = "pvc-protection-controller";
    type Key = ObjectKey;
    type Observed = Protected<PersistentVolumeClaim>;

    async fn observe(&self, key: &ObjectKey, _attempt: Attempt) -> Option<Self::Observed> {
        let object = self.claims.get(key).filter(|claim| concerns(&**claim, PVC_PROTECTION))?;
        let used = match object.metadata.deletion_timestamp {
            Some(_) => self.use_of(&object).await,
            None => Use::Used,
        };
        Some(Protected { object, used })
    }

    fn plan(observed: &Self::Observed) -> Plan {
        plan(observed, PVC_PROTECTION)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (
                ResourceType::of::<PersistentVolumeClaim>(),
                Arc::clone(&self.claims) as Arc<dyn Seen>,
            ),
            (ResourceType::of::<Pod>(), Arc::clone(&self.pods) as Arc<dyn Seen>),
        ]
    }
}
