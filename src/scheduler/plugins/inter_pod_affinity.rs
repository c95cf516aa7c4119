//! Pods that want to be near other pods or apart from them, required and preferred, and the same
//! wishes of the pods that are there already. Follows upstream plugins/interpodaffinity (v1.35).

use super::domains::Domains;
use super::{Filter, Normalize, Plugin, Rejection, SCORE_MAX, Score};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::node::NodeFacts;
use crate::scheduler::pod::{Ask, NO_LABELS, PodFacts, Term};
use crate::scheduler::snapshot::Snapshot;
use k8s_openapi::api::core::v1::Node;

/// What a required term of a pod that is there is worth to the other side (upstream
/// `DefaultHardPodAffinityWeight`).
const REQUIRED_WEIGHT: i64 = 1;

pub(super) const FILTER: Filter = Filter {
    plugin: Plugin::InterPodAffinity,
    concerns: |cycle| {
        let terms = &cycle.pod.ask.affinity;
        !(cycle.near.refused.is_empty() && terms.near.is_empty() && terms.apart.is_empty())
    },
    check,
    hint,
};

pub(super) const SCORE: Score = Score {
    weight: 2,
    concerns: |cycle| !cycle.near_scores.is_empty(),
    raw: |cycle, node| cycle.near_scores.of(node),
    normalize: Normalize::With(between_extremes),
    follows_room: false,
};

/// How many pods there are in each domain that matter to the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::scheduler) struct Counts {
    /// Pods that do not want the pod near.
    refused: Domains,
    /// Pods that all of the pod's terms are about.
    near: Domains,
    /// Pods from which the pod wants to be apart.
    apart: Domains,
}

impl Counts {
    pub(in crate::scheduler) fn new(pod: &Ask, snapshot: &Snapshot) -> Self {
        let mut counts = Self::default();
        for node in snapshot.nodes_with_terms() {
            for other in node.pods() {
                counts.count_refusal(pod, (&other.ask, node), snapshot, 1);
            }
        }
        let own: Vec<&Term> = pod.affinity.near.iter().chain(&pod.affinity.apart).collect();
        if own.is_empty() {
            return counts;
        }
        for namespace in snapshot.namespaces_with_pods() {
            let labels = snapshot.namespace_labels(namespace);
            if own.iter().any(|term| term.covers_namespace(namespace, labels)) {
                for (other, node) in snapshot.pods_in(namespace) {
                    counts.count_own(pod, (&other.ask, node), snapshot, 1);
                }
            }
        }
        counts
    }

    /// As if `other` had come to (1) or gone from (-1) the node.
    pub(in crate::scheduler) fn change(
        &mut self,
        pod: &Ask,
        (other, node): (&Ask, &NodeFacts),
        snapshot: &Snapshot,
        by: i64,
    ) {
        self.count_refusal(pod, (other, node), snapshot, by);
        self.count_own(pod, (other, node), snapshot, by);
    }

    /// Whether such a pod changes anything.
    pub(in crate::scheduler) fn concerns(pod: &Ask, other: &Ask) -> bool {
        let terms = &pod.affinity;
        !(other.affinity.apart.is_empty() && terms.near.is_empty() && terms.apart.is_empty())
    }

    fn count_refusal(
        &mut self,
        pod: &Ask,
        (other, node): (&Ask, &NodeFacts),
        snapshot: &Snapshot,
        by: i64,
    ) {
        let namespace = snapshot.namespace_labels(&pod.namespace);
        for term in &other.affinity.apart {
            if term.matches(pod, namespace) {
                self.refused.add(&term.topology_key, node, by);
            }
        }
    }

    fn count_own(
        &mut self,
        pod: &Ask,
        (other, node): (&Ask, &NodeFacts),
        snapshot: &Snapshot,
        by: i64,
    ) {
        let namespace = snapshot.namespace_labels(&other.namespace);
        let terms = &pod.affinity;
        if !terms.near.is_empty() && terms.near.iter().all(|term| term.matches(other, namespace)) {
            terms.near.iter().for_each(|term| self.near.add(&term.topology_key, node, by));
        }
        for term in terms.apart.iter().filter(|term| term.matches(other, namespace)) {
            self.apart.add(&term.topology_key, node, by);
        }
    }
}

fn check(cycle: &Cycle<'_>, node: &NodeFacts) -> Result<(), Rejection> {
    let (plugin, counts) = (Plugin::InterPodAffinity, &cycle.near);
    if !is_near(cycle, node) {
        return Err(Rejection::for_good(plugin, "node(s) didn't match pod affinity rules"));
    }
    let mut apart = cycle.pod.ask.affinity.apart.iter();
    if apart.any(|term| counts.apart.of(&term.topology_key, node) > 0) {
        return Err(Rejection::for_now(plugin, "node(s) didn't match pod anti-affinity rules"));
    }
    if counts.refused.all_of(node).any(|count| count > 0) {
        return Err(Rejection::for_now(
            plugin,
            "node(s) didn't satisfy existing pods anti-affinity rules",
        ));
    }
    Ok(())
}

/// Upstream `satisfyPodAffinity`. The first of a group of pods that want to be near each other has
/// nobody to be near to, and may go anywhere where there are such domains.
fn is_near(cycle: &Cycle<'_>, node: &NodeFacts) -> bool {
    let (terms, near) = (&cycle.pod.ask.affinity.near, &cycle.near.near);
    let has_domain = |term: &Term| node.label(&term.topology_key).is_some();
    if !terms.iter().all(has_domain) {
        return false;
    }
    if terms.iter().all(|term| near.of(&term.topology_key, node) > 0) {
        return true;
    }
    let namespace = cycle.snapshot.namespace_labels(cycle.pod.namespace());
    near.is_empty() && terms.iter().all(|term| term.matches(&cycle.pod.ask, namespace))
}

/// What each domain is worth to the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::scheduler) struct Worth(Domains);

impl Worth {
    pub(in crate::scheduler) fn new(pod: &Ask, snapshot: &Snapshot) -> Self {
        let mut worth = Self::default();
        let wishes = &pod.affinity.wishes;
        if !wishes.is_empty() {
            for namespace in snapshot.namespaces_with_pods() {
                let labels = snapshot.namespace_labels(namespace);
                if wishes.iter().any(|(_, term)| term.covers_namespace(namespace, labels)) {
                    for (other, node) in snapshot.pods_in(namespace) {
                        worth.add_wishes_of_pod(pod, (&other.ask, node), snapshot, 1);
                    }
                }
            }
        }
        for node in snapshot.nodes_with_terms() {
            for other in node.pods() {
                worth.add_wishes_of_other(pod, (&other.ask, node), snapshot, 1);
            }
        }
        worth
    }

    /// As if `other` had come to (1) or gone from (-1) the node.
    pub(in crate::scheduler) fn change(
        &mut self,
        pod: &Ask,
        (other, node): (&Ask, &NodeFacts),
        snapshot: &Snapshot,
        by: i64,
    ) {
        self.add_wishes_of_pod(pod, (other, node), snapshot, by);
        self.add_wishes_of_other(pod, (other, node), snapshot, by);
    }

    /// Whether such a pod changes anything.
    pub(in crate::scheduler) fn concerns(pod: &Ask, other: &Ask) -> bool {
        let terms = &other.affinity;
        !(pod.affinity.wishes.is_empty() && terms.near.is_empty() && terms.wishes.is_empty())
    }

    fn add_wishes_of_pod(
        &mut self,
        pod: &Ask,
        (other, node): (&Ask, &NodeFacts),
        snapshot: &Snapshot,
        by: i64,
    ) {
        let labels = snapshot.namespace_labels(&other.namespace);
        for (weight, term) in &pod.affinity.wishes {
            if term.matches(other, labels) {
                self.0.add(&term.topology_key, node, weight * by);
            }
        }
    }

    fn add_wishes_of_other(
        &mut self,
        pod: &Ask,
        (other, node): (&Ask, &NodeFacts),
        snapshot: &Snapshot,
        by: i64,
    ) {
        let labels = snapshot.namespace_labels(&pod.namespace);
        let required = other.affinity.near.iter().map(|term| (REQUIRED_WEIGHT, term));
        let wished = other.affinity.wishes.iter().map(|(weight, term)| (*weight, term));
        for (weight, term) in required.chain(wished) {
            if term.matches(pod, labels) {
                self.0.add(&term.topology_key, node, weight * by);
            }
        }
    }

    pub(in crate::scheduler) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of(&self, node: &NodeFacts) -> i64 {
        self.0.all_of(node).sum()
    }
}

/// The worst node gets nothing, the best the most.
fn between_extremes(scores: &mut [i64]) {
    let least = scores.iter().copied().min().unwrap_or_default();
    let most = scores.iter().copied().max().unwrap_or_default();
    for score in scores {
        *score = if most > least { SCORE_MAX * (*score - least) / (most - least) } else { 0 };
    }
}

fn hint(pod: &PodFacts, event: &Event<'_>) -> bool {
    let terms = &pod.ask.affinity;
    // Labels of namespaces are not at hand: a namespace selector may select.
    let may_match = |term: &Term, other: &PodFacts| {
        let is_there = term.namespaces.contains(other.namespace())
            || term.namespace_selector != crate::api::labels::Selector::nothing();
        is_there && term.selector.matches(&other.ask.labels)
    };
    let near = |other: &PodFacts| {
        !terms.near.is_empty() && terms.near.iter().all(|term| may_match(term, other))
    };
    let apart = |other: &PodFacts| terms.apart.iter().any(|term| may_match(term, other));
    let refuses =
        |other: &PodFacts| other.ask.affinity.apart.iter().any(|term| may_match(term, pod));
    match event {
        Event::PodPlaced(other) => near(other),
        Event::PodGone(other) => apart(other) || refuses(other),
        Event::PodChanged(old, new) => {
            old.ask.labels != new.ask.labels
                && ((!near(old) && near(new)) || (apart(old) && !apart(new)))
        }
        Event::NodeAdded(node) => {
            !terms.apart.is_empty()
                || terms.near.is_empty()
                || terms.near.iter().any(|term| label(node, term).is_some())
        }
        Event::NodeChanged(old, new) => {
            let moves = |term: &Term| label(old, term) != label(new, term);
            terms.near.iter().any(|term| moves(term) && label(new, term).is_some())
                || terms.apart.iter().any(|term| moves(term) && label(old, term).is_some())
                || (terms.near.is_empty() && old.metadata.labels != new.metadata.labels)
        }
        Event::OwnChange(old, new) => old.ask.labels != new.ask.labels,
        _ => false,
    }
}

fn label<'a>(node: &'a Node, term: &Term) -> Option<&'a String> {
    node.metadata.labels.as_ref().unwrap_or(&NO_LABELS).get(&term.topology_key)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, scores_in, snapshot, verdict_in, whole_pod};
    use super::*;
    use serde_json::{Value, json};

    const APART: &str = "node(s) didn't match pod anti-affinity rules";
    const NEAR: &str = "node(s) didn't match pod affinity rules";
    const REFUSED: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

    /// Two nodes in zone `a`, one in zone `b`, one in none.
    fn nodes() -> Vec<Node> {
        let zoned =
            |name: &str, zone: &str| node(name, json!({"metadata": {"labels": {"zone": zone}}}));
        vec![zoned("one", "a"), zoned("two", "a"), zoned("three", "b"), node("four", json!({}))]
    }

    fn term(app: &str) -> Value {
        json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app}}})
    }

    fn requiring(kind: &str, terms: Value) -> Value {
        json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
    }

    fn wishing(kind: &str, weight: i64, term: Value) -> Value {
        let wish = json!([{"weight": weight, "podAffinityTerm": term}]);
        json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": wish}}})
    }

    fn elsewhere(name: &str, spec: Value) -> PodFacts {
        whole_pod(name, json!({"metadata": {"namespace": "elsewhere"}, "spec": spec}))
    }

    fn cluster(pods: &[(PodFacts, &str)]) -> Snapshot {
        let mut snapshot = snapshot(&nodes(), pods);
        let labels = [("team".to_owned(), "red".to_owned())].into();
        snapshot.set_namespace("elsewhere", Some(labels));
        snapshot
    }

    #[track_caller]
    fn check(pod: &PodFacts, there: &[(PodFacts, &str)], expected: [&str; 4]) {
        assert_eq!(verdict_in(&FILTER, pod, &cluster(there)), expected);
    }

    #[test]
    fn pods_go_near_and_apart_by_domain() {
        let db = || (pod("db", json!({})), "one");
        let near = |terms: Value| pod("p", requiring("podAffinity", terms));
        let apart = |terms: Value| pod("p", requiring("podAntiAffinity", terms));
        check(&near(json!([term("db")])), &[db()], ["ok", "ok", NEAR, NEAR]);
        check(&near(json!([term("db")])), &[], [NEAR; 4]);
        check(&near(json!([term("p")])), &[], ["ok", "ok", "ok", NEAR]);
        check(&near(json!([term("db"), term("web")])), &[db()], [NEAR; 4]);
        check(&apart(json!([term("db")])), &[db()], [APART, APART, "ok", "ok"]);
        check(&apart(json!([term("web")])), &[db()], ["ok"; 4]);
    }

    #[test]
    fn pods_that_are_there_keep_others_apart() {
        let shy = (pod("db", requiring("podAntiAffinity", json!([term("p")]))), "three");
        check(&pod("p", json!({})), std::slice::from_ref(&shy), ["ok", "ok", REFUSED, "ok"]);
        check(&pod("q", json!({})), &[shy], ["ok"; 4]);
    }

    #[test]
    fn terms_are_about_their_own_namespace_unless_they_say_others() {
        let db = || (elsewhere("db", json!({})), "one");
        let with = |key: &str, value: Value| {
            let mut term = term("db");
            term[key] = value;
            pod("p", requiring("podAntiAffinity", json!([term])))
        };
        check(&with("namespaces", json!(["default"])), &[db()], ["ok"; 4]);
        check(&with("namespaces", json!(["elsewhere"])), &[db()], [APART, APART, "ok", "ok"]);
        check(&with("namespaceSelector", json!({})), &[db()], [APART, APART, "ok", "ok"]);
        let team = |team: &str| json!({"matchLabels": {"team": team}});
        check(&with("namespaceSelector", team("red")), &[db()], [APART, APART, "ok", "ok"]);
        check(&with("namespaceSelector", team("blue")), &[db()], ["ok"; 4]);
    }

    #[test]
    fn wishes_of_both_sides_count() {
        let check = |pod: PodFacts, there: &[(PodFacts, &str)], expected: [i64; 4]| {
            assert_eq!(scores_in(&SCORE, &pod, &cluster(there)), expected);
        };
        let db = || (pod("db", json!({})), "one");
        check(pod("p", json!({})), &[db()], [0; 4]);
        check(pod("p", wishing("podAffinity", 5, term("db"))), &[db()], [100, 100, 0, 0]);
        check(pod("p", wishing("podAntiAffinity", 5, term("db"))), &[db()], [0, 0, 100, 100]);
        let fond = (pod("db", wishing("podAffinity", 5, term("p"))), "three");
        check(pod("p", json!({})), &[fond], [0, 0, 100, 0]);
        let needy = (pod("db", requiring("podAffinity", json!([term("p")]))), "three");
        check(pod("p", json!({})), &[needy], [0, 0, 100, 0]);
    }

    #[test]
    fn only_pods_that_matter_help() {
        let near = pod("p", requiring("podAffinity", json!([term("db")])));
        let apart = pod("p", requiring("podAntiAffinity", json!([term("db")])));
        let (db, web) = (pod("db", json!({})), pod("web", json!({})));
        assert!(hint(&near, &Event::PodPlaced(&db)) && !hint(&near, &Event::PodPlaced(&web)));
        assert!(hint(&apart, &Event::PodGone(&db)) && !hint(&apart, &Event::PodGone(&web)));
        assert!(!hint(&apart, &Event::PodPlaced(&db)));
        let shy = pod("web", requiring("podAntiAffinity", json!([term("p")])));
        assert!(hint(&pod("p", json!({})), &Event::PodGone(&shy)));
    }
}
