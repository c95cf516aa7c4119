//! What is worked out once for a pod, before it is held against the nodes.
//!
//! Follows upstream's PreFilter and PreScore (pkg/scheduler/framework, v1.35); what a plugin keeps
//! here is its own.

use super::node::NodeFacts;
use super::plugins::inter_pod_affinity::{self, Worth};
use super::plugins::topology_spread::{self, Crowds};
use super::plugins::volume_binding::Claims;
use super::plugins::volume_restrictions::Exclusive;
use super::plugins::volume_zone::{VolumeZone, zones};
use super::plugins::{FILTERS, Filter, Rejection};
use super::pod::PodFacts;
use super::snapshot::Snapshot;
use std::borrow::Cow;
use std::sync::Arc;

/// One attempt to place one pod. A clone can be changed to see how it would go with other pods.
#[derive(Clone)]
pub(super) struct Cycle<'a> {
    pub(super) pod: &'a PodFacts,
    pub(super) snapshot: &'a Snapshot,
    pub(super) near: inter_pod_affinity::Counts<'a>,
    pub(super) spread: topology_spread::Counts<'a>,
    pub(super) exclusive: Exclusive,
    pub(super) claims: Claims<'a>,
    pub(super) zones: Vec<VolumeZone>,
    pub(super) near_scores: Worth<'a>,
    pub(super) spread_scores: Crowds<'a>,
    /// The plugins that have something to look at.
    filters: Vec<&'static Filter>,
}

impl<'a> Cycle<'a> {
    /// Or why no node will do, whichever.
    pub(super) fn new(pod: &'a PodFacts, snapshot: &'a Snapshot) -> Result<Self, Rejection> {
        let mut cycle = Self {
            pod,
            snapshot,
            exclusive: Exclusive::new(pod, snapshot)?,
            claims: Claims::new(pod, snapshot)?,
            zones: zones(pod, snapshot)?,
            near: inter_pod_affinity::Counts::new(pod, snapshot),
            spread: topology_spread::Counts::new(pod, snapshot),
            near_scores: Worth::default(),
            spread_scores: Crowds::default(),
            filters: Vec::new(),
        };
        cycle.choose_filters();
        Ok(cycle)
    }

    fn choose_filters(&mut self) {
        self.filters = FILTERS.iter().filter(|filter| (filter.concerns)(self)).collect();
    }

    /// Works out what only scores need.
    pub(super) fn prepare_scores(&mut self, feasible: &[&'a NodeFacts]) {
        self.near_scores = Worth::new(self.pod, self.snapshot);
        self.spread_scores = Crowds::new(self.pod, self.snapshot, feasible);
    }

    /// As if `other` had come to the node.
    pub(super) fn come(&mut self, other: &PodFacts, node: &'a NodeFacts) {
        self.near.change(self.pod, (other, node), self.snapshot, 1);
        self.spread.change(self.pod, other, node, 1);
        self.exclusive.come(self.pod, other);
        self.choose_filters();
    }

    /// As if `other` had gone from the node.
    pub(super) fn gone(&mut self, other: &PodFacts, node: &'a NodeFacts) {
        self.near.change(self.pod, (other, node), self.snapshot, -1);
        self.spread.change(self.pod, other, node, -1);
        self.exclusive.gone(self.pod, other);
        self.choose_filters();
    }

    /// Whether the node can take the pod, as it is.
    pub(super) fn check(&self, node: &NodeFacts) -> Result<(), Rejection> {
        self.filters.iter().try_for_each(|filter| (filter.check)(self, node))
    }

    /// Whether the node can take the pod, also once those have come that are at least as important
    /// and for which room is being made there (upstream `RunFilterPluginsWithNominatedPods`). `node`
    /// may be a copy, of which pods have been taken away.
    pub(super) fn check_with_nominated(&self, node: &NodeFacts) -> Result<(), Rejection> {
        let nominated = self.snapshot.nominated(&node.name).iter();
        let expected: Vec<_> = nominated
            .filter(|other| other.uid != self.pod.uid && other.priority() >= self.pod.priority())
            .collect();
        if !expected.is_empty() {
            let original = self.snapshot.node(&node.name).expect("nodes are of the snapshot");
            let (mut cycle, mut fuller) = (self.clone(), Cow::Borrowed(node));
            for other in expected {
                cycle.come(other, original);
                fuller.to_mut().add(Arc::clone(other));
            }
            cycle.check(&fuller)?;
        }
        self.check(node)
    }
}
