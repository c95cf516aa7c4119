//! Writes down where each Service with a selector leads: EndpointSlices, which everybody reads who
//! carries traffic or answers for names.
//!
//! Start at [`plan()`]. `spread` is how endpoints come into slices, `hints` whom they are for.

mod endpoint;
mod hints;
mod plan;
mod spread;
#[cfg(test)]
mod tests;

pub use plan::{Observed, plan};

use super::Caches;
use super::endpoint_slices::{queue_owners_of_slices, slices_of};
use super::ownership::queue_of;
use super::service_pods::{can_be_reached, concerned, selector, selects};
use crate::api::ObjectKey;
use crate::api::pod::node_name;
use crate::client::{Cache, Change, ResourceType, Seen, key_of};
use crate::control::{Attempt, Controller, Plan, Queue};
use endpoint::MANAGER;
use hints::{counts_for_zones, wants_zones, zone};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::sync::Arc;

/// Looks at Services, their pods and slices, and the nodes of the pods.
#[derive(Debug)]
pub struct EndpointSliceController {
    services: Arc<Cache<Service>>,
    pods: Arc<Cache<Pod>>,
    nodes: Arc<Cache<Node>>,
    slices: Arc<Cache<EndpointSlice>>,
}

impl EndpointSliceController {
    #[must_use]
    pub fn new(caches: &Caches) -> Self {
        Self {
            services: Arc::clone(&caches.services),
            pods: Arc::clone(&caches.pods),
            nodes: Arc::clone(&caches.nodes),
            slices: Arc::clone(&caches.endpoint_slices),
        }
    }

    /// Queues a Service when it, one of its pods or slices, or the node of one of its pods changes.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = queue_of(&self.services);
        let (changed, services) = (queue.clone(), Arc::clone(&self.services));
        self.pods.on_change(move |change| {
            concerned(&services, change).iter().for_each(|key| changed.add(key));
        });
        queue_owners_of_slices(&queue, &self.slices, MANAGER);
        let (changed, services) = (queue.clone(), Arc::clone(&self.services));
        let pods = Arc::clone(&self.pods);
        self.nodes.on_change(move |change| {
            queue_by_node(&changed, &services, change);
            queue_by_zone(&changed, &services, &pods, change);
        });
        queue
    }
}

/// The parts of the zones follow from all nodes.
fn queue_by_node(queue: &Queue<ObjectKey>, services: &Cache<Service>, change: &Change<Node>) {
    let (old, new) = (change.old.as_deref(), change.new.as_deref());
    if old.map(counts_for_zones) != new.map(counts_for_zones) {
        let services = services.list();
        let by_zones = services.iter().filter(|service| wants_zones(service));
        by_zones.for_each(|service| queue.add(&key_of(&service.metadata)));
    }
}

/// The endpoints of a node that is new, or is in another zone than before. Those of one that is gone
/// stay until its pods are gone, too: it may be back at once.
fn queue_by_zone(
    queue: &Queue<ObjectKey>,
    services: &Cache<Service>,
    pods: &Cache<Pod>,
    change: &Change<Node>,
) {
    let Some(new) = change.new.as_deref() else { return };
    if change.old.as_deref().is_some_and(|old| zone(old) == zone(new)) {
        return;
    }
    let is_there = |pod: &Arc<Pod>| node_name(pod) == Some(&change.key.name) && can_be_reached(pod);
    for pod in pods.list().into_iter().filter(is_there) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let selecting = services.list_where(namespace, |service| {
            selector(service).is_some_and(|selector| selects(selector, &pod.metadata))
        });
        selecting.iter().for_each(|service| queue.add(&key_of(&service.metadata)));
    }
}

impl Controller for EndpointSliceController {
    const NAME: &'static str = "endpointslice-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, _attempt: Attempt) -> Option<Observed> {
        let service = self.services.get(key)?;
        let selector = selector(&service)?;
        let namespace = key.namespace.as_deref()?;
        let pods = self
            .pods
            .list_where(namespace, |pod| selects(selector, &pod.metadata) && can_be_reached(pod));
        let zones = pods.iter().filter_map(|pod| {
            let name = node_name(pod)?;
            let node = self.nodes.get(&ObjectKey::cluster(name))?;
            Some((name.to_owned(), zone(&node).map(str::to_owned)))
        });
        let zones = zones.collect();
        let nodes = if wants_zones(&service) { self.nodes.list() } else { Vec::new() };
        let slices = slices_of(&self.slices, key, MANAGER);
        Some(Observed { service, pods, slices, zones, nodes })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (ResourceType::of::<Service>(), Arc::clone(&self.services) as Arc<dyn Seen>),
            (ResourceType::of::<Pod>(), Arc::clone(&self.pods) as Arc<dyn Seen>),
            (ResourceType::of::<Node>(), Arc::clone(&self.nodes) as Arc<dyn Seen>),
            (ResourceType::of::<EndpointSlice>(), Arc::clone(&self.slices) as Arc<dyn Seen>),
        ]
    }
}
