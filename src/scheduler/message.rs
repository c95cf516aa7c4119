//! Why the nodes refused a pod, and how users are told.

use super::node::Slot;
use super::plugins::{Plugin, PluginSet, Reason, Rejection};
use std::collections::BTreeMap;

/// The nodes that refused a pod.
#[derive(Debug)]
pub(super) struct Refusals {
    nodes_count: usize,
    by_node: Vec<(Slot, Rejection)>,
    /// What is said of nodes that were not looked at.
    others: Option<&'static str>,
}

impl Refusals {
    pub(super) fn new(nodes_count: usize) -> Self {
        Self { nodes_count, by_node: Vec::new(), others: None }
    }

    pub(super) fn add(&mut self, node: Slot, rejection: Rejection) {
        self.by_node.push((node, rejection));
    }

    pub(super) fn set_others(&mut self, reason: &'static str) {
        self.others = Some(reason);
    }

    pub(super) fn len(&self) -> usize {
        self.by_node.len()
    }

    pub(super) fn nodes_count(&self) -> usize {
        self.nodes_count
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Rejection)> {
        self.by_node.iter().map(|(slot, rejection)| (*slot, rejection))
    }

    pub(super) fn plugins(&self) -> PluginSet {
        let others = self.others.map(|_| Plugin::NodeAffinity);
        self.by_node.iter().map(|(_, rejection)| rejection.plugin).chain(others).collect()
    }

    pub(super) fn message(&self) -> String {
        let reasons = self.by_node.iter().flat_map(|(_, rejection)| &rejection.reasons).cloned();
        let others = self.nodes_count - self.by_node.len();
        let others =
            self.others.into_iter().flat_map(|reason| std::iter::repeat_n(reason.into(), others));
        unavailable(self.nodes_count, reasons.chain(others))
    }
}

/// The words of upstream `FitError.Error` (pkg/scheduler/framework/types.go, v1.35).
pub(super) fn unavailable(nodes: usize, reasons: impl Iterator<Item = Reason>) -> String {
    let mut counts: BTreeMap<Reason, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut counts: Vec<_> =
        counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    if counts.is_empty() {
        return format!("0/{nodes} nodes are available:");
    }
    counts.sort();
    format!("0/{nodes} nodes are available: {}.", counts.join(", "))
}

/// What is written on a pod that has no node, and into its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// Where room is being made for the pod now; empty where none is any more.
    pub(super) nomination: Option<String>,
}

impl Told {
    pub(super) fn unschedulable(message: String) -> Self {
        Self { reason: "Unschedulable", message, nomination: None }
    }

    pub(super) fn failed(message: String) -> Self {
        Self { reason: "SchedulerError", message, nomination: None }
    }
}
