//! What is worked out once for a pod, before it is held against the nodes.
//!
//! Follows upstream's PreFilter and PreScore (pkg/scheduler/framework, v1.35); what a plugin keeps
//! here is its own. What does not depend on the single pod comes from [`Known`].

use super::known::Known;
use super::node::NodeFacts;
use super::plugins::inter_pod_affinity::{self, Worth};
use super::plugins::topology_spread::{self, Crowds, SoftCounts};
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
    pub(super) near: Arc<inter_pod_affinity::Counts>,
    pub(super) spread: Arc<topology_spread::Counts>,
    pub(super) exclusive: Exclusive,
    pub(super) claims: Claims<'a>,
    pub(super) zones: Vec<VolumeZone>,
    pub(super) near_scores: Arc<Worth>,
    pub(super) soft_spread: Arc<SoftCounts>,
    pub(super) spread_scores: Crowds,
    /// The plugins that have something to look at.
    filters: Vec<&'static Filter>,
}

impl<'a> Cycle<'a> {
    /// Or why no node will do, whichever. `known` is about pods that ask for the same.
    pub(super) fn new(
        pod: &'a PodFacts,
        known: &Known,
        snapshot: &'a Snapshot,
    ) -> Result<Self, Rejection> {
        let mut cycle = Self {
            pod,
            snapshot,
            exclusive: Exclusive::new(pod, snapshot)?,
            claims: Claims::new(pod, snapshot)?,
            zones: zones(pod, snapshot)?,
            near: Arc::clone(&known.near),
            spread: Arc::clone(&known.spread),
            near_scores: Arc::clone(&known.worth),
            soft_spread: Arc::clone(&known.soft_spread),
            spread_scores: Crowds::default(),
            filters: Vec::new(),
        };
        cycle.choose_filters();
        Ok(cycle)
    }

    fn choose_filters(&mut self) {
        self.filters = FILTERS.iter().filter(|filter| (filter.concerns)(self)).collect();
    }

    /// Works out what scores need to know of all the nodes that are scored.
    pub(super) fn prepare_scores(&mut self, feasible: &[&NodeFacts]) {
        self.spread_scores = Crowds::new(&self.soft_spread, feasible);
    }

    /// As if `other` had come to the node.
    pub(super) fn come(&mut self, other: &PodFacts, node: &NodeFacts) {
        self.count(other, node, 1);
        self.exclusive.come(self.pod, other);
        self.choose_filters();
    }

    /// As if `other` had gone from the node.
    pub(super) fn gone(&mut self, other: &PodFacts, node: &NodeFacts) {
        self.count(other, node, -1);
        self.exclusive.gone(self.pod, other);
        self.choose_filters();
    }

    fn count(&mut self, other: &PodFacts, node: &NodeFacts, by: i64) {
        let (ask, seen) = (&self.pod.ask, (&*other.ask, node));
        if inter_pod_affinity::Counts::concerns(ask, &other.ask) {
            Arc::make_mut(&mut self.near).change(ask, seen, self.snapshot, by);
        }
        if !self.spread.is_empty() && !other.is_terminating() {
            Arc::make_mut(&mut self.spread).change(ask, seen, by);
        }
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
