//! One pod on every node that is to have one, and none on the others.

use super::fit::Fit;
use super::render::is_updated;
use crate::api::pod::{is_bound, is_ready, phase};
use crate::control::Report;
use crate::controllers::availability::is_available;
use crate::controllers::history::REVISION_LABEL;
use crate::controllers::share::{Rounding, scaled};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::time::Duration;

/// A look creates at most this many pods, and deletes at most as many; the next looks do the rest.
/// Upstream's `BurstReplicas` (pkg/controller/daemon, v1.35).
pub(super) const BURST_PODS_MAX: usize = 250;

/// The nodes of the cluster with a set's pods.
#[derive(Debug)]
pub(super) struct Nodes<'a> {
    pub(super) set: &'a DaemonSet,
    pub(super) spec: &'a DaemonSetSpec,
    /// By what new pods are known.
    pub(super) hash: &'a str,
    pub(super) fits: BTreeMap<&'a str, Fit>,
    /// The pods of nodes, also of nodes that are no more; the oldest first.
    pub(super) pods: BTreeMap<&'a str, Vec<&'a Pod>>,
    pub(super) waits: &'a BTreeMap<String, Duration>,
    pub(super) now: Timestamp,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Moves<'a> {
    /// Nodes that get a pod.
    pub(super) creates: Vec<&'a str>,
    pub(super) deletes: Vec<&'a Pod>,
    pub(super) reports: Vec<Report>,
    pub(super) recheck_after: Option<Duration>,
}

impl Moves<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.creates.is_empty() && self.deletes.is_empty()
    }

    fn look_again_after(&mut self, wait: Duration) {
        self.recheck_after = Some(self.recheck_after.map_or(wait, |known| known.min(wait)));
    }
}

/// Those with a node first, then the oldest: upstream `podByCreationTimestampAndPhase`.
pub(super) fn age_order(pod: &Pod) -> impl Ord + use<> {
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (!is_bound(pod), created, pod.metadata.name.clone())
}

pub(super) fn stays(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
}

impl<'a> Nodes<'a> {
    pub(super) fn is_available(&self, pod: &Pod) -> bool {
        is_available(pod, self.spec.min_ready_seconds.unwrap_or_default(), self.now)
    }

    pub(super) fn is_updated(&self, pod: &Pod) -> bool {
        is_updated(self.set, self.hash, pod)
    }

    pub(super) fn pods_on(&self, node: &str) -> &[&'a Pod] {
        self.pods.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn fit(&self, node: &str) -> Fit {
        self.fits.get(node).copied().unwrap_or_default()
    }

    /// The nodes that are to have a pod.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &'a str> {
        self.fits.iter().filter(|(_, fit)| fit.should_run).map(|(node, _)| *node)
    }

    fn rolling_update(&self) -> Option<&'a RollingUpdateDaemonSet> {
        let strategy = self.spec.update_strategy.as_ref()?;
        let is_rolling = strategy.type_.as_deref() == Some("RollingUpdate");
        strategy.rolling_update.as_ref().filter(|_| is_rolling)
    }

    /// How many nodes out of `total` may have two pods at a time: upstream `SurgeCount`.
    pub(super) fn surge(&self, total: i32) -> usize {
        let value = self.rolling_update().and_then(|rolling| rolling.max_surge.as_ref());
        let count = value.map_or(0, |value| scaled(value, total, Rounding::Up));
        usize::try_from(count).unwrap_or_default()
    }

    /// How many nodes out of `total` may have no available pod: upstream `UnavailableCount`.
    pub(super) fn unavailable(&self, total: i32) -> usize {
        let value = self.rolling_update().and_then(|rolling| rolling.max_unavailable.as_ref());
        let count = value.map_or(0, |value| scaled(value, total, Rounding::Up));
        usize::try_from(count).unwrap_or_default()
    }

    /// Pods for nodes that have none, and none for nodes that are to have none: upstream `manage`.
    pub(super) fn manage(&self) -> Moves<'a> {
        let mut moves = Moves::default();
        for (node, fit) in &self.fits {
            match (self.pods_on(node), fit) {
                ([], Fit { should_run: true, .. }) => moves.creates.push(node),
                ([], _) => {}
                (pods, Fit { may_stay: true, .. }) => self.keep_one(node, pods, &mut moves),
                (pods, _) => moves.deletes.extend(pods.iter().filter(|pod| stays(pod))),
            }
        }
        // Nobody else would: they never get to a node.
        let is_lost = |(node, _): &(&&str, &Vec<&Pod>)| !self.fits.contains_key(*node);
        let lost = self.pods.iter().filter(is_lost).flat_map(|(_, pods)| pods);
        moves.deletes.extend(lost.filter(|pod| !is_bound(pod) && stays(pod)));
        moves
    }

    /// Upstream `podsShouldBeOnNode`, where pods may be.
    fn keep_one(&self, node: &&'a str, pods: &[&'a Pod], moves: &mut Moves<'a>) {
        let mut running = Vec::new();
        for pod in pods.iter().filter(|pod| stays(pod)) {
            match phase(pod) {
                "Failed" => match self.waits.get(*node) {
                    Some(wait) => moves.look_again_after(*wait),
                    None => {
                        let message = format!(
                            "Found failed daemon pod {} on node {node}, will try to kill it",
                            full_name(pod)
                        );
                        moves.reports.push(Report::warning("FailedDaemonPod", message));
                        moves.deletes.push(pod);
                    }
                },
                "Succeeded" => {
                    let message = format!(
                        "Found succeeded daemon pod {} on node {node}, will try to delete it",
                        full_name(pod)
                    );
                    moves.reports.push(Report::normal("SucceededDaemonPod", message));
                    moves.deletes.push(pod);
                }
                _ => running.push(*pod),
            }
        }
        if self.surge(1) == 0 {
            moves.deletes.extend(running.into_iter().skip(1));
        } else if running.is_empty() && self.fit(node).should_run && !self.has_failed(pods) {
            moves.creates.push(node);
        } else {
            self.keep_two(&running, moves);
        }
    }

    /// Whether a failed pod is still in the way of another. Upstream surges beside it, again and
    /// again while the node refuses pods.
    fn has_failed(&self, pods: &[&Pod]) -> bool {
        pods.iter().any(|pod| stays(pod) && phase(pod) == "Failed")
    }

    /// Where there is a surge, an old pod that is ready stays until a new one is available.
    fn keep_two(&self, running: &[&'a Pod], moves: &mut Moves<'a>) {
        if running.len() <= 1 {
            return;
        }
        let is_new = |pod: &&&Pod| {
            let labels = pod.metadata.labels.as_ref();
            let hash = labels.and_then(|labels| labels.get(REVISION_LABEL));
            hash.is_some_and(|hash| hash == self.hash)
        };
        let (new, old): (Vec<&Pod>, Vec<&Pod>) = running.iter().partition(is_new);
        moves.deletes.extend(new.iter().skip(1).chain(old.iter().skip(1)));
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!is_ready(old) || self.is_available(new))
        {
            moves.deletes.push(old);
        }
    }
}

fn full_name(pod: &Pod) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", text(&pod.metadata.namespace), text(&pod.metadata.name))
}
