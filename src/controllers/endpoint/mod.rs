//! Writes down where each Service with a selector leads in the older form, Endpoints, which clients
//! read that know no EndpointSlices.
//!
//! Start at [`plan()`].

mod plan;
#[cfg(test)]
mod tests;

pub use plan::{Observed, plan};

use super::Caches;
use super::ownership::queue_of;
use super::service_pods::{can_be_reached, concerned, selector, selects};
use crate::api::ObjectKey;
use crate::client::{Cache, ResourceType, Seen};
use crate::control::{Attempt, Controller, Plan, Queue};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use std::sync::Arc;

/// Looks at Services, their pods and Endpoints.
#[derive(Debug)]
pub struct EndpointController {
    services: Arc<Cache<Service>>,
    pods: Arc<Cache<Pod>>,
    endpoints: Arc<Cache<Endpoints>>,
}

impl EndpointController {
    #[must_use]
    pub fn new(caches: &Caches) -> Self {
        Self {
            services: Arc::clone(&caches.services),
            pods: Arc::clone(&caches.pods),
            endpoints: Arc::clone(&caches.endpoints),
        }
    }

    /// Queues a Service when it, one of its pods or its Endpoints change.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = queue_of(&self.services);
        let (changed, services) = (queue.clone(), Arc::clone(&self.services));
        self.pods.on_change(move |change| {
            concerned(&services, change).iter().for_each(|key| changed.add(key));
        });
        let changed = queue.clone();
        self.endpoints.on_change(move |change| changed.add(&change.key));
        queue
    }
}

impl Controller for EndpointController {
    const NAME: &'static str = "endpoint-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, _attempt: Attempt) -> Option<Observed> {
        let endpoints = self.endpoints.get(key);
        let Some(service) = self.services.get(key) else {
            return Some(Observed { service: None, pods: Vec::new(), endpoints });
        };
        let selector = selector(&service)?;
        let pods = self.pods.list_where(key.namespace.as_deref()?, |pod| {
            selects(selector, &pod.metadata) && can_be_reached(pod)
        });
        Some(Observed { service: Some(service), pods, endpoints })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (ResourceType::of::<Service>(), Arc::clone(&self.services) as Arc<dyn Seen>),
            (ResourceType::of::<Pod>(), Arc::clone(&self.pods) as Arc<dyn Seen>),
            (ResourceType::of::<Endpoints>(), Arc::clone(&self.endpoints) as Arc<dyn Seen>),
        ]
    }
}
