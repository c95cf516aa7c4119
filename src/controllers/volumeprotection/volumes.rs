//! Volumes stay while claims have them.
//!
//! Upstream pkg/controller/volume/pvprotection (v1.35).

use super::{Protected, Use, concerns, plan, queue_of};
use crate::api::ObjectKey;
use crate::api::volume::PV_PROTECTION;
use crate::client::{Cache, ResourceType, Seen};
use crate::control::{Attempt, Controller, Plan, Queue};
use crate::controllers::Caches;
use k8s_openapi::api::core::v1::PersistentVolume;
use std::sync::Arc;

/// Protects volumes.
#[derive(Debug)]
pub struct VolumeProtection {
    volumes: Arc<Cache<PersistentVolume>>,
}

impl VolumeProtection {
    #[must_use]
    pub fn new(caches: &Caches) -> Self {
        Self { volumes: Arc::clone(&caches.persistent_volumes) }
    }

    /// Queues a volume that has a finalizer to get or to lose.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        queue_of(&self.volumes, PV_PROTECTION)
    }
}

impl Controller for VolumeProtection {
    const NAME: &'static str = "pv-protection-controller";
    type Key = ObjectKey;
    type Observed = Protected<PersistentVolume>;

    async fn observe(&self, key: &ObjectKey, _attempt: Attempt) -> Option<Self::Observed> {
        let object = self.volumes.get(key).filter(|volume| concerns(&**volume, PV_PROTECTION))?;
        let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
        let used = if phase == Some("Bound") { Use::Used } else { Use::Unused };
        Some(Protected { object, used })
    }

    fn plan(observed: &Self::Observed) -> Plan {
        plan(observed, PV_PROTECTION)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![(ResourceType::of::<PersistentVolume>(), Arc::clone(&self.volumes) as Arc<dyn Seen>)]
    }
}
