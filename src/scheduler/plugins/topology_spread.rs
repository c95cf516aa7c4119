//! Spreads pods over domains: zones, nodes. Follows upstream plugins/podtopologyspread (v1.35).

use super::node_affinity::allows;
use super::{Filter, Normalize, Plugin, Rejection, SCORE_MAX, Score};
use crate::api::labels::Selector;
use crate::api::node_selector::{forbids_scheduling, tolerates};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::node::NodeFacts;
use crate::scheduler::pod::{Ask, NO_LABELS, PodFacts, SpreadConstraint};
use crate::scheduler::snapshot::Snapshot;
use k8s_openapi::api::core::v1::Node;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

const REASON: &str = "node(s) didn't match pod topology spread constraints";
const NO_LABEL_REASON: &str =
    "node(s) didn't match pod topology spread constraints (missing required label)";

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// How pods that say nothing are spread, with the skew that does not matter (upstream
/// `systemDefaultConstraints`).
const DEFAULTS: [(&str, i64); 2] = [(HOSTNAME, 3), (ZONE, 5)];

/// The raw score of a node that lacks a label; it gets nothing in the end.
const IGNORED: i64 = -1;

pub(super) const FILTER: Filter = Filter {
    plugin: Plugin::PodTopologySpread,
    concerns: |cycle| !cycle.spread.is_empty(),
    check,
    hint,
};

pub(super) const SCORE: Score = Score {
    weight: 2,
    concerns: |cycle| !cycle.spread_scores.counts.is_empty(),
    raw: score,
    normalize: Normalize::With(fewest_first),
    follows_room: false,
};

/// How many matching pods there are in each domain, by constraint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::scheduler) struct Counts(Vec<Tally>);

/// One constraint with the domains that there are for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tally {
    constraint: SpreadConstraint,
    /// One where the pod itself is counted once it is there.
    own: i64,
    by_domain: HashMap<Box<str>, i64>,
    /// How many domains have how many pods.
    sizes: BTreeMap<i64, usize>,
}

impl Counts {
    pub(in crate::scheduler) fn new(pod: &Ask, snapshot: &Snapshot) -> Self {
        let hard = pod.spread.iter().filter(|constraint| constraint.is_hard);
        let mut counts = Self(hard.map(|constraint| Tally::new(constraint, pod)).collect());
        if counts.0.is_empty() {
            return counts;
        }
        for node in snapshot.nodes() {
            counts.for_domains(pod, node, |tally, value| tally.add(value, 0));
        }
        for (other, node) in snapshot.pods_in(&pod.namespace) {
            if !other.is_terminating() {
                counts.change(pod, (&other.ask, node), 1);
            }
        }
        counts
    }

    /// As if `other` had come to (1) or gone from (-1) the node. Pods on their way out do not count.
    pub(in crate::scheduler) fn change(
        &mut self,
        pod: &Ask,
        (other, node): (&Ask, &NodeFacts),
        by: i64,
    ) {
        if other.namespace != pod.namespace
            || !self.0.iter().any(|tally| counts_for(&tally.constraint.selector, other))
        {
            return;
        }
        self.for_domains(pod, node, |tally, value| {
            if counts_for(&tally.constraint.selector, other) {
                tally.add(value, by);
            }
        });
    }

    pub(in crate::scheduler) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Calls `each` for the domain of every constraint that the node is in. A node counts only if it
    /// has the labels of all constraints.
    fn for_domains(&mut self, pod: &Ask, node: &NodeFacts, each: impl Fn(&mut Tally, &str)) {
        if !has_labels(self.0.iter().map(|tally| &tally.constraint), node) {
            return;
        }
        for tally in &mut self.0 {
            if let Some(value) = node.label(&tally.constraint.topology_key)
                && is_included(&tally.constraint, pod, node)
            {
                each(tally, value);
            }
        }
    }
}

impl Tally {
    fn new(constraint: &SpreadConstraint, pod: &Ask) -> Self {
        let own = i64::from(constraint.selector.matches(&pod.labels));
        let constraint = constraint.clone();
        Self { constraint, own, by_domain: HashMap::new(), sizes: BTreeMap::new() }
    }

    fn add(&mut self, domain: &str, by: i64) {
        let Some(count) = self.by_domain.get_mut(domain) else {
            self.by_domain.insert(domain.into(), by);
            *self.sizes.entry(by).or_default() += 1;
            return;
        };
        if by == 0 {
            return;
        }
        let before = std::mem::replace(count, *count + by);
        *self.sizes.entry(before + by).or_default() += 1;
        if let Some(domains) = self.sizes.get_mut(&before) {
            *domains -= 1;
            if *domains == 0 {
                self.sizes.remove(&before);
            }
        }
    }

    /// Domains that are missing count as empty.
    fn least(&self) -> i64 {
        if self.by_domain.len() < self.constraint.min_domains {
            return 0;
        }
        self.sizes.keys().next().copied().unwrap_or(i64::from(i32::MAX))
    }
}

/// Upstream `countPodsMatchSelector`: a selector of everything counts nothing.
fn counts_for(selector: &Selector, pod: &Ask) -> bool {
    !selector.is_everything() && selector.matches(&pod.labels)
}

fn has_labels<'a>(
    mut constraints: impl Iterator<Item = &'a SpreadConstraint>,
    node: &NodeFacts,
) -> bool {
    constraints.all(|constraint| node.label(&constraint.topology_key).is_some())
}

/// Upstream `matchNodeInclusionPolicies`.
fn is_included(constraint: &SpreadConstraint, pod: &Ask, node: &NodeFacts) -> bool {
    (!constraint.honors_affinity || allows(pod, node.identity()))
        && (!constraint.honors_taints
            || node
                .taints()
                .iter()
                .filter(|taint| forbids_scheduling(taint))
                .all(|taint| tolerates(&pod.tolerations, taint)))
}

fn check(cycle: &Cycle<'_>, node: &NodeFacts) -> Result<(), Rejection> {
    for tally in &cycle.spread.0 {
        let Some(value) = node.label(&tally.constraint.topology_key) else {
            return Err(Rejection::for_good(Plugin::PodTopologySpread, NO_LABEL_REASON));
        };
        let there = tally.by_domain.get(value).copied().unwrap_or_default();
        if there + tally.own - tally.least() > tally.constraint.max_skew {
            return Err(Rejection::for_now(Plugin::PodTopologySpread, REASON));
        }
    }
    Ok(())
}

/// How many matching pods there are in each domain, by soft constraint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::scheduler) struct SoftCounts {
    constraints: Vec<SpreadConstraint>,
    /// Of nodes themselves nothing is kept: their pods are counted when it is asked.
    by_domain: Vec<HashMap<Box<str>, i64>>,
    /// Whether nodes that lack a label get nothing.
    needs_all_labels: bool,
}

impl SoftCounts {
    pub(in crate::scheduler) fn new(
        pod: &Ask,
        constraints: Vec<SpreadConstraint>,
        snapshot: &Snapshot,
    ) -> Self {
        let mut counts = Self {
            by_domain: vec![HashMap::new(); constraints.len()],
            needs_all_labels: !pod.spread.is_empty(),
            constraints,
        };
        if counts.constraints.iter().any(is_counted) {
            for (other, node) in snapshot.pods_in(&pod.namespace) {
                if !other.is_terminating() {
                    counts.change(pod, (&other.ask, node), 1);
                }
            }
        }
        counts
    }

    /// As if `other` had come to (1) or gone from (-1) the node. Pods on their way out do not count.
    pub(in crate::scheduler) fn change(
        &mut self,
        pod: &Ask,
        (other, node): (&Ask, &NodeFacts),
        by: i64,
    ) {
        if self.is_empty() || other.namespace != pod.namespace || !self.takes(node) {
            return;
        }
        for (constraint, domains) in self.constraints.iter().zip(&mut self.by_domain) {
            if is_counted(constraint)
                && let Some(value) = node.label(&constraint.topology_key)
                && counts_for(&constraint.selector, other)
                && is_included(constraint, pod, node)
            {
                add(domains, value, by);
            }
        }
    }

    pub(in crate::scheduler) fn is_empty(&self) -> bool {
        self.constraints.is_empty()
    }

    pub(in crate::scheduler) fn constraints(&self) -> &[SpreadConstraint] {
        &self.constraints
    }

    fn takes(&self, node: &NodeFacts) -> bool {
        !self.needs_all_labels || has_labels(self.constraints.iter(), node)
    }
}

fn add(domains: &mut HashMap<Box<str>, i64>, domain: &str, by: i64) {
    let Some(count) = domains.get_mut(domain) else {
        domains.insert(domain.into(), by);
        return;
    };
    *count += by;
    if *count == 0 {
        domains.remove(domain);
    }
}

/// The pods of a node are counted when it is asked about: there may be many nodes.
fn is_counted(constraint: &SpreadConstraint) -> bool {
    constraint.topology_key != HOSTNAME
}

/// What soft constraints say of the nodes that the pod could go to.
#[derive(Clone, Debug, Default)]
pub(in crate::scheduler) struct Crowds {
    counts: Arc<SoftCounts>,
    /// What one pod more is worth: more where there are more domains.
    weights: Vec<f64>,
}

impl Crowds {
    pub(in crate::scheduler) fn new(counts: &Arc<SoftCounts>, feasible: &[&NodeFacts]) -> Self {
        let counts = Arc::clone(counts);
        let candidates: Vec<_> = feasible.iter().filter(|node| counts.takes(node)).collect();
        let domains = |constraint: &SpreadConstraint| {
            if !is_counted(constraint) {
                return candidates.len();
            }
            // Nodes without the label are one nameless domain.
            let values = candidates.iter().map(|node| node.label(&constraint.topology_key));
            values.collect::<HashSet<_>>().len()
        };
        let weights = counts.constraints.iter().map(|one| weight(domains(one))).collect();
        Self { counts, weights }
    }
}

/// The pod's own, or where it has none at all, the cluster's for pods like it.
pub(in crate::scheduler) fn soft_constraints(
    pod: &Ask,
    snapshot: &Snapshot,
) -> Vec<SpreadConstraint> {
    if !pod.spread.is_empty() {
        return pod.spread.iter().filter(|constraint| !constraint.is_hard).cloned().collect();
    }
    let Some(selector) = snapshot.workloads.selector_of(pod) else { return Vec::new() };
    let constraint = |(topology_key, max_skew): (&str, i64)| SpreadConstraint {
        max_skew,
        topology_key: topology_key.to_owned(),
        selector: selector.clone(),
        min_domains: 1,
        honors_affinity: true,
        honors_taints: false,
        is_hard: false,
    };
    DEFAULTS.map(constraint).into()
}

#[expect(clippy::cast_precision_loss, reason = "there are not that many domains")]
fn weight(domains: usize) -> f64 {
    ((domains + 2) as f64).ln()
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "there are not that many pods"
)]
fn score(cycle: &Cycle<'_>, node: &NodeFacts) -> i64 {
    let Crowds { counts, weights } = &cycle.spread_scores;
    if !counts.takes(node) {
        return IGNORED;
    }
    let all = counts.constraints.iter().zip(&counts.by_domain).zip(weights);
    let scores = all.filter_map(|((constraint, domains), weight)| {
        let value = node.label(&constraint.topology_key)?;
        let count = if is_counted(constraint) {
            domains.get(value).copied().unwrap_or_default()
        } else {
            matching_on(node, cycle.pod.namespace(), &constraint.selector)
        };
        Some(count as f64 * weight + (constraint.max_skew - 1) as f64)
    });
    scores.sum::<f64>().round() as i64
}

fn matching_on(node: &NodeFacts, namespace: &str, selector: &Selector) -> i64 {
    let matching = node.pods().iter().filter(|pod| {
        pod.namespace() == namespace && !pod.is_terminating() && counts_for(selector, &pod.ask)
    });
    i64::try_from(matching.count()).unwrap_or(i64::MAX)
}

/// The fewer pods there are, the better; a node that lacks a label gets nothing.
fn fewest_first(scores: &mut [i64]) {
    let counted = || scores.iter().copied().filter(|score| *score != IGNORED);
    let (least, most) = (counted().min().unwrap_or_default(), counted().max().unwrap_or_default());
    for score in scores {
        *score = match *score {
            IGNORED => 0,
            _ if most == 0 => SCORE_MAX,
            score => SCORE_MAX * (most + least - score) / most,
        };
    }
}

fn hint(pod: &PodFacts, event: &Event<'_>) -> bool {
    let hard = || pod.ask.spread.iter().filter(|constraint| constraint.is_hard);
    let selects = |other: &PodFacts| {
        other.namespace() == pod.namespace()
            && hard().any(|one| one.selector.matches(&other.ask.labels))
    };
    let label = |node: &Node, key: &str| {
        node.metadata.labels.as_ref().unwrap_or(&NO_LABELS).get(key).cloned()
    };
    let has_all = |node: &Node| hard().all(|one| label(node, &one.topology_key).is_some());
    match event {
        Event::PodPlaced(other) | Event::PodGone(other) => selects(other),
        Event::PodChanged(old, new) => {
            selects(old) != selects(new)
                || (selects(new) && old.is_terminating() != new.is_terminating())
        }
        Event::NodeAdded(node) | Event::NodeRemoved(node) => has_all(node),
        Event::NodeChanged(old, new) => {
            let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
            has_all(old) != has_all(new)
                || (has_all(new)
                    && (taints(old) != taints(new)
                        || hard().any(|one| {
                            label(old, &one.topology_key) != label(new, &one.topology_key)
                        })))
        }
        Event::OwnChange(old, new) => {
            old.ask.labels != new.ask.labels || old.ask.tolerations != new.ask.tolerations
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, scores_in, snapshot, verdict_in, whole_pod};
    use super::*;
    use serde_json::{Value, json};

    /// `one` and `two` in zone `a`, `three` in zone `b`, `four` in none.
    fn nodes() -> Vec<Node> {
        let zoned =
            |name: &str, zone: &str| node(name, json!({"metadata": {"labels": {"zone": zone}}}));
        vec![zoned("one", "a"), zoned("two", "a"), zoned("three", "b"), node("four", json!({}))]
    }

    fn spreading(name: &str, more: Value) -> PodFacts {
        let mut constraint = json!({
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"group": "web"}},
        });
        for (key, value) in more.as_object().unwrap() {
            constraint[key] = value.clone();
        }
        whole_pod(
            name,
            json!({
                "metadata": {"labels": {"group": "web"}},
                "spec": {"topologySpreadConstraints": [constraint]},
            }),
        )
    }

    fn web(name: &str, node: &'static str) -> (PodFacts, &'static str) {
        (whole_pod(name, json!({"metadata": {"labels": {"group": "web"}}})), node)
    }

    #[track_caller]
    fn check(pod: &PodFacts, there: &[(PodFacts, &str)], expected: [&str; 4]) {
        assert_eq!(verdict_in(&FILTER, pod, &snapshot(&nodes(), there)), expected);
    }

    #[test]
    fn domains_stay_level() {
        let plain = || spreading("p", json!({}));
        let no_label = NO_LABEL_REASON;
        check(&plain(), &[], ["ok", "ok", "ok", no_label]);
        check(&plain(), &[web("x", "one")], [REASON, REASON, "ok", no_label]);
        check(&plain(), &[web("x", "one"), web("y", "three")], ["ok", "ok", "ok", no_label]);
        check(
            &spreading("p", json!({"maxSkew": 2})),
            &[web("x", "one")],
            ["ok", "ok", "ok", no_label],
        );
        check(&plain(), &[(pod("other", json!({})), "one")], ["ok", "ok", "ok", no_label]);
        let hostname = json!({"topologyKey": "kubernetes.io/hostname"});
        check(&spreading("p", hostname), &[web("x", "one")], [REASON, "ok", "ok", "ok"]);
    }

    #[test]
    fn missing_domains_count_as_empty() {
        let three = json!({"minDomains": 3});
        let there = [web("x", "one"), web("y", "three")];
        check(&spreading("p", three), &there, [REASON, REASON, REASON, NO_LABEL_REASON]);
    }

    #[test]
    fn nodes_that_the_pod_cannot_use_count_by_policy() {
        let pinned = |more: Value| {
            let mut pod = spreading("p", more);
            let mut ask = (*pod.ask).clone();
            ask.node_selector = [("zone".to_owned(), "a".to_owned())].into();
            pod.ask = std::sync::Arc::new(ask);
            pod
        };
        let there = [web("x", "one")];
        check(&pinned(json!({})), &there, ["ok", "ok", "ok", NO_LABEL_REASON]);
        let ignoring = json!({"nodeAffinityPolicy": "Ignore"});
        check(&pinned(ignoring), &there, [REASON, REASON, "ok", NO_LABEL_REASON]);
    }

    #[test]
    fn emptier_domains_are_better() {
        let soft = || spreading("p", json!({"whenUnsatisfiable": "ScheduleAnyway"}));
        let check = |there: &[(PodFacts, &str)], expected: [i64; 4]| {
            assert_eq!(scores_in(&SCORE, &soft(), &snapshot(&nodes(), there)), expected);
        };
        check(&[], [100, 100, 100, 0]);
        check(&[web("x", "one"), web("y", "two")], [0, 0, 100, 0]);
        check(&[web("x", "one"), web("y", "two"), web("z", "three")], [33, 33, 100, 0]);
    }

    #[test]
    fn replicas_spread_over_nodes_without_being_asked() {
        let replica = |name: &str| {
            let owner = json!([{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1",
                "controller": true,
            }]);
            whole_pod(
                name,
                json!({"metadata": {"labels": {"group": "web"}, "ownerReferences": owner}}),
            )
        };
        let mut snapshot = snapshot(&nodes(), &[(replica("x"), "one")]);
        assert_eq!(scores_in(&SCORE, &replica("p"), &snapshot), [0; 4]);
        let selector = "group=web".parse().unwrap();
        let key = crate::api::ObjectKey::namespaced("default", "web");
        snapshot.workloads.set_owner("ReplicaSet", &key, Some(selector));
        let scores = scores_in(&SCORE, &replica("p"), &snapshot);
        assert!(scores[0] < scores[1] && scores[1] == scores[3], "{scores:?}");
    }

    #[test]
    fn only_pods_of_the_same_group_help() {
        let pod = spreading("p", json!({}));
        let (other, _) = web("x", "one");
        assert!(hint(&pod, &Event::PodGone(&other)) && hint(&pod, &Event::PodPlaced(&other)));
        let stranger = whole_pod("y", json!({}));
        assert!(!hint(&pod, &Event::PodGone(&stranger)));
    }
}
