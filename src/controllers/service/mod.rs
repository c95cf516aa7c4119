//! Gives Services of type `LoadBalancer` addresses: those of the nodes, on which the proxy serves
//! them. Nothing is set up for that, so that there is nothing to be torn down either.
//!
//! Start at [`plan()`]. With a load balancer of somebody else this controller does not run, or the
//! Service names a class.

mod addresses;
mod plan;
#[cfg(test)]
mod tests;

pub use addresses::HostPort;
pub use plan::{Observed, plan};

use super::Caches;
use super::endpoint_slices::{SERVICE_NAME, owner_key};
use crate::api::ObjectKey;
use crate::client::{Cache, ResourceType, Seen, key_of};
use crate::control::{Attempt, Controller, Plan, Queue};
use addresses::{is_balanced, is_local, view};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Looks at Services, nodes, and the slices of Services that stay on nodes with a pod.
#[derive(Debug)]
pub struct ServiceController {
    services: Arc<Cache<Service>>,
    nodes: Arc<Cache<Node>>,
    slices: Arc<Cache<EndpointSlice>>,
    reserved: Vec<HostPort>,
}

impl ServiceController {
    /// No Service is given a port that is `reserved`.
    #[must_use]
    pub fn new(caches: &Caches, reserved: Vec<HostPort>) -> Self {
        Self {
            services: Arc::clone(&caches.services),
            nodes: Arc::clone(&caches.nodes),
            slices: Arc::clone(&caches.endpoint_slices),
            reserved,
        }
    }

    /// Queues all Services of this kind when one of them changes, which may free a port, or a node;
    /// and one of them when its slices do.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = Queue::new();
        let (changed, services) = (queue.clone(), Arc::clone(&self.services));
        self.services.on_change(move |change| {
            let versions = [&change.old, &change.new].into_iter().flatten();
            if versions.into_iter().any(|service| is_balanced(service)) {
                queue_all(&changed, &services);
            }
        });
        let (changed, services) = (queue.clone(), Arc::clone(&self.services));
        self.nodes.on_change(move |change| {
            if change.old.as_deref().map(view) != change.new.as_deref().map(view) {
                queue_all(&changed, &services);
            }
        });
        let (changed, services) = (queue.clone(), Arc::clone(&self.services));
        self.slices.on_change(move |change| {
            let versions = [&change.old, &change.new].into_iter().flatten();
            for key in versions.filter_map(|slice| owner_key(slice)) {
                if services.get(&key).is_some_and(|it| is_balanced(&it) && is_local(&it)) {
                    changed.add(&key);
                }
            }
        });
        queue
    }

    /// The nodes with a ready pod of the Service.
    fn local(&self, key: &ObjectKey) -> BTreeSet<String> {
        let Some(namespace) = key.namespace.as_deref() else { return BTreeSet::new() };
        let slices = self.slices.list_where(namespace, |slice| {
            let labels = slice.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(SERVICE_NAME)) == Some(&key.name)
        });
        let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
        let ready = endpoints.filter(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            conditions.and_then(|conditions| conditions.ready) != Some(false)
        });
        ready.filter_map(|endpoint| endpoint.node_name.clone()).collect()
    }
}

fn queue_all(queue: &Queue<ObjectKey>, services: &Cache<Service>) {
    let services = services.list();
    let balanced = services.iter().filter(|service| is_balanced(service));
    balanced.for_each(|service| queue.add(&key_of(&service.metadata)));
}

impl Controller for ServiceController {
    const NAME: &'static str = "service-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, attempt: Attempt) -> Option<Observed> {
        let service = self.services.get(key).filter(|service| is_balanced(service))?;
        let mut all = self.services.list();
        all.retain(|service| is_balanced(service));
        let local = if is_local(&service) { self.local(key) } else { BTreeSet::new() };
        let (nodes, reserved) = (self.nodes.list(), self.reserved.clone());
        Some(Observed { service, all, nodes, local, reserved, attempt })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (ResourceType::of::<Service>(), Arc::clone(&self.services) as Arc<dyn Seen>),
            (ResourceType::of::<Node>(), Arc::clone(&self.nodes) as Arc<dyn Seen>),
            (ResourceType::of::<EndpointSlice>(), Arc::clone(&self.slices) as Arc<dyn Seen>),
        ]
    }
}
