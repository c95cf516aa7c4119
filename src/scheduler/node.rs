//! A node with the pods on it and what they take of it.

use super::pod::{Labels, NO_LABELS, PodFacts};
use super::resources::Resources;
use crate::api::host_port::HostPort;
use crate::api::node_selector::NodeIdentity;
use k8s_openapi::api::core::v1::{Node, Taint};
use std::sync::Arc;

/// Where a node is kept in the snapshot. Stays the same as long as the node or a pod on it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Slot(pub(super) usize);

/// A node with what its pods take of it.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeFacts {
    pub(super) slot: Slot,
    pub(super) name: String,
    /// `None` while pods name a node that is not there.
    pub(super) node: Option<Arc<Node>>,
    pub(super) allocatable: Resources,
    pub(super) pods_max: i64,
    pub(super) requested: Resources,
    pub(super) requested_for_scoring: Resources,
    pub(super) ports: Vec<HostPort>,
    pods: Vec<Arc<PodFacts>>,
    /// How many of the pods have terms about other pods.
    pub(super) pods_with_terms: usize,
}

impl NodeFacts {
    pub(super) fn new(slot: Slot, name: &str) -> Self {
        Self { slot, name: name.to_owned(), ..Self::default() }
    }

    pub(super) fn set(&mut self, node: Option<Arc<Node>>) {
        (self.allocatable, self.pods_max) =
            node.as_deref().map(Resources::of_node).unwrap_or_default();
        self.node = node;
    }

    pub(super) fn pods(&self) -> &[Arc<PodFacts>] {
        &self.pods
    }

    pub(super) fn pods_count(&self) -> i64 {
        i64::try_from(self.pods.len()).unwrap_or(i64::MAX)
    }

    pub(super) fn identity(&self) -> NodeIdentity<'_> {
        NodeIdentity { name: &self.name, labels: Some(self.labels()) }
    }

    pub(super) fn taints(&self) -> &[Taint] {
        let spec = self.node.as_ref().and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
    }

    pub(super) fn labels(&self) -> &Labels {
        let labels = self.node.as_ref().and_then(|node| node.metadata.labels.as_ref());
        labels.unwrap_or(&NO_LABELS)
    }

    pub(super) fn label(&self, key: &str) -> Option<&str> {
        self.labels().get(key).map(String::as_str)
    }

    pub(super) fn is_cordoned(&self) -> bool {
        let spec = self.node.as_ref().and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.unschedulable).unwrap_or_default()
    }

    pub(super) fn add(&mut self, pod: Arc<PodFacts>) {
        self.requested.add(&pod.ask.requests);
        self.requested_for_scoring.add(&pod.ask.requests_for_scoring);
        self.ports.extend(pod.ask.ports.iter().cloned());
        self.pods_with_terms += usize::from(!pod.ask.affinity.is_empty());
        self.pods.push(pod);
    }

    pub(super) fn remove(&mut self, uid: &str) -> Option<Arc<PodFacts>> {
        let at = self.pods.iter().position(|pod| pod.uid == uid)?;
        let pod = self.pods.swap_remove(at);
        self.requested.subtract(&pod.ask.requests);
        self.requested_for_scoring.subtract(&pod.ask.requests_for_scoring);
        for port in &pod.ask.ports {
            if let Some(at) = self.ports.iter().position(|taken| taken == port) {
                self.ports.swap_remove(at);
            }
        }
        self.pods_with_terms -= usize::from(!pod.ask.affinity.is_empty());
        Some(pod)
    }

    /// A newer view of a pod that asks for the same.
    pub(super) fn renew(&mut self, pod: &Arc<PodFacts>) {
        if let Some(known) = self.pods.iter_mut().find(|known| known.uid == pod.uid) {
            *known = Arc::clone(pod);
        }
    }
}
