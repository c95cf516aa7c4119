//! Makes the claims of volumes that pods bring as templates. They belong to their pod and go with it.
//!
//! Start at [`plan()`]. Upstream pkg/controller/volume/ephemeral (v1.35).

mod plan;

pub use plan::{Observed, plan};

use super::Caches;
use crate::api::ObjectKey;
use crate::api::volume::{ClaimKind, claim_used};
use crate::client::{Cache, ResourceType, Seen, key_of};
use crate::control::{Attempt, Controller, Plan, Queue};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use std::sync::Arc;

/// Looks at pods with such volumes.
#[derive(Debug)]
pub struct EphemeralVolumeController {
    pods: Arc<Cache<Pod>>,
    claims: Arc<Cache<PersistentVolumeClaim>>,
}

impl EphemeralVolumeController {
    #[must_use]
    pub fn new(caches: &Caches) -> Self {
        Self {
            pods: Arc::clone(&caches.pods),
            claims: Arc::clone(&caches.persistent_volume_claims),
        }
    }

    /// Queues a pod that may have claims to be made, and again when one of them is deleted.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = Queue::new();
        let changed = queue.clone();
        self.pods.on_change(move |change| {
            if change.new.as_ref().is_some_and(|pod| plan::claims(pod).next().is_some()) {
                changed.add(&change.key);
            }
        });
        let (changed, pods) = (queue.clone(), Arc::clone(&self.pods));
        self.claims.on_change(move |change| {
            if change.new.is_some() {
                return;
            }
            let uses = |pod: &&Arc<Pod>| {
                let mut volumes = plan::claims(pod).map(|(volume, _)| claim_used(pod, volume));
                volumes.any(|used| used == Some((change.key.clone(), ClaimKind::Ephemeral)))
            };
            let namespace = change.key.namespace.as_deref().unwrap_or_default();
            for pod in pods.list_in(namespace).iter().filter(uses) {
                changed.add(&key_of(&pod.metadata));
            }
        });
        queue
    }
}

impl Controller for EphemeralVolumeController {
    const NAME: &'static str = "ephemeral-volume-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, _attempt: Attempt) -> Option<Observed> {
        let pod = self.pods.get(key)?;
        let claims = plan::claims(&pod).filter_map(|(_, key)| self.claims.get(&key)).collect();
        Some(Observed { pod, claims })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (ResourceType::of::<Pod>(), Arc::clone(&self.pods) as Arc<dyn Seen>),
            (
                ResourceType::of::<PersistentVolumeClaim>(),
                Arc::clone(&self.claims) as Arc<dyn Seen>,
            ),
        ]
    }
}
