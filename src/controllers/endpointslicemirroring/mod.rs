//! Says in EndpointSlices what users say in Endpoints, where a Service has no selector.
//!
//! Start at [`plan()`].

mod plan;
#[cfg(test)]
mod tests;

pub use plan::{Observed, plan};

use super::Caches;
use super::endpoint_slices::{queue_owners_of_slices, slices_of};
use crate::api::ObjectKey;
use crate::client::{Cache, ResourceType, Seen};
use crate::control::{Attempt, Controller, Plan, Queue};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use plan::{MANAGER, is_mirrored};
use std::sync::Arc;

/// Looks at Endpoints, the Services of the same names, and slices.
#[derive(Debug)]
pub struct EndpointSliceMirroringController {
    endpoints: Arc<Cache<Endpoints>>,
    services: Arc<Cache<Service>>,
    slices: Arc<Cache<EndpointSlice>>,
}

impl EndpointSliceMirroringController {
    #[must_use]
    pub fn new(caches: &Caches) -> Self {
        Self {
            endpoints: Arc::clone(&caches.endpoints),
            services: Arc::clone(&caches.services),
            slices: Arc::clone(&caches.endpoint_slices),
        }
    }

    /// Queues Endpoints when they, the Service or the slices change. Those of a Service with a
    /// selector are another controller's, and change most often.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = Queue::new();
        let has_selector =
            |service: &Service| service.spec.as_ref().is_some_and(|spec| spec.selector.is_some());
        let (changed, services) = (queue.clone(), Arc::clone(&self.services));
        self.endpoints.on_change(move |change| {
            let versions = [&change.old, &change.new].into_iter().flatten();
            let is_any_mirrored = versions.into_iter().any(|endpoints| is_mirrored(endpoints));
            let is_others = services.get(&change.key).is_some_and(|it| has_selector(&it));
            if is_any_mirrored && !is_others {
                changed.add(&change.key);
            }
        });
        let changed = queue.clone();
        self.services.on_change(move |change| {
            let versions =
                [&change.old, &change.new].map(|it| it.as_ref().map(|it| has_selector(it)));
            // It is new or gone without a selector, or has got one or lost it.
            if versions[0] != versions[1] && versions.contains(&Some(false)) {
                changed.add(&change.key);
            }
        });
        queue_owners_of_slices(&queue, &self.slices, MANAGER);
        queue
    }
}

impl Controller for EndpointSliceMirroringController {
    const NAME: &'static str = "endpointslicemirroring-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, _attempt: Attempt) -> Option<Observed> {
        Some(Observed {
            endpoints: self.endpoints.get(key),
            service: self.services.get(key),
            slices: slices_of(&self.slices, key, MANAGER),
        })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (ResourceType::of::<Endpoints>(), Arc::clone(&self.endpoints) as Arc<dyn Seen>),
            (ResourceType::of::<Service>(), Arc::clone(&self.services) as Arc<dyn Seen>),
            (ResourceType::of::<EndpointSlice>(), Arc::clone(&self.slices) as Arc<dyn Seen>),
        ]
    }
}
