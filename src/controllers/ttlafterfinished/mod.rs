//! Deletes Jobs some time after they have ended, where they say so.
//!
//! Start at [`plan()`]. Follows upstream pkg/controller/ttlafterfinished (v1.35).

mod plan;

pub use plan::{Observed, plan};

use super::Caches;
use crate::api::ObjectKey;
use crate::client::{Cache, ResourceType, Seen};
use crate::control::{Attempt, Controller, Plan, Queue};
use k8s_openapi::api::batch::v1::Job;
use std::sync::Arc;

/// Looks at Jobs that have ended.
#[derive(Debug)]
pub struct TtlAfterFinishedController {
    jobs: Arc<Cache<Job>>,
}

impl TtlAfterFinishedController {
    #[must_use]
    pub fn new(caches: &Caches) -> Self {
        Self { jobs: Arc::clone(&caches.jobs) }
    }

    /// Queues a Job that is to go when it changes.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = Queue::new();
        let changed = queue.clone();
        self.jobs.on_change(move |change| {
            if change.new.as_ref().is_some_and(|job| plan::expires_at(job).is_some()) {
                changed.add(&change.key);
            }
        });
        queue
    }
}

impl Controller for TtlAfterFinishedController {
    const NAME: &'static str = "ttl-after-finished-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, attempt: Attempt) -> Option<Observed> {
        Some(Observed { job: self.jobs.get(key)?, attempt })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![(ResourceType::of::<Job>(), Arc::clone(&self.jobs) as Arc<dyn Seen>)]
    }
}
