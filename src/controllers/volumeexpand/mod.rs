//! Says that a claim which asks for more than it has waits for whoever made its volume: nobody else
//! can make a volume larger.
//!
//! Start at [`plan()`]. Upstream pkg/controller/volume/expand (v1.35), without volume plugins.

use super::Caches;
use crate::api::volume::{is_fully_bound, requested};
use crate::api::{ObjectKey, Quantity};
use crate::client::{Cache, ResourceType, Seen, object_reference};
use crate::control::{Attempt, Controller, Plan, Queue, Report};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use std::sync::Arc;

/// Looks at claims that have become larger.
#[derive(Debug)]
pub struct ExpandController {
    claims: Arc<Cache<PersistentVolumeClaim>>,
}

impl ExpandController {
    #[must_use]
    pub fn new(caches: &Caches) -> Self {
        Self { claims: Arc::clone(&caches.persistent_volume_claims) }
    }

    /// Queues a claim when what it asks for changes.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = Queue::new();
        let changed = queue.clone();
        self.claims.on_change(move |change| {
            let (Some(old), Some(new)) = (&change.old, &change.new) else { return };
            if requested(old) != requested(new) {
                changed.add(&change.key);
            }
        });
        queue
    }
}

/// See the module.
pub fn plan(claim: &PersistentVolumeClaim) -> Plan {
    let capacity = claim.status.as_ref().and_then(|status| status.capacity.as_ref());
    let has = capacity.and_then(|capacity| capacity.get("storage")).map(Quantity::of);
    let wants = requested(claim);
    let mut plan = Plan { regarding: object_reference(claim), ..Plan::default() };
    if is_fully_bound(claim) && has.is_some() && wants > has {
        let message = "waiting for an external controller to expand this PVC";
        plan.reports = vec![Report::normal("ExternalExpanding", message)];
    }
    plan
}

impl Controller for ExpandController {
    const NAME: &'static str = "expand-controller";
    type Key = ObjectKey;
    type Observed = Arc<PersistentVolumeClaim>;

    async fn observe(&self, key: &ObjectKey, _attempt: Attempt) -> Option<Self::Observed> {
        self.claims.get(key)
    }

    fn plan(observed: &Self::Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        let claims = Arc::clone(&self.claims) as Arc<dyn Seen>;
        vec![(ResourceType::of::<PersistentVolumeClaim>(), claims)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_claims_that_have_less_than_they_ask_for_wait() {
        for (bound, has, wants, expected) in
            [("yes", "1Gi", "2Gi", 1), ("yes", "2Gi", "2Gi", 0), ("yes", "3Gi", "2Gi", 0)]
        {
            let claim = json!({
                "metadata": { "annotations": { "pv.kubernetes.io/bind-completed": bound } },
                "spec": { "volumeName": "v", "resources": { "requests": { "storage": wants } } },
                "status": { "capacity": { "storage": has } },
            });
            let claim: PersistentVolumeClaim = serde_json::from_value(claim).unwrap();
            assert_eq!(plan(&claim).reports.len(), expected, "{has} {wants}");
        }
    }
}
