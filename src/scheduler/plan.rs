//! The scheduling decision: a place for each pod, or why there is none.
//!
//! Start at [`Search::place`]. Follows upstream `schedulePod` (pkg/scheduler/schedule_one.go, v1.35):
//! refuse nodes, score the others, take the best; where none is left, see whether less important
//! pods can go. Pods that ask for the same are placed from one ranking of nodes where they can be.

use super::cycle::Cycle;
use super::known::Memory;
use super::message::Refusals;
use super::node::{NodeFacts, Slot};
use super::plugins::node_affinity::named_nodes;
use super::plugins::{Plugin, PluginSet, Rejection, SCORES, volume_binding};
use super::pod::PodFacts;
use super::preempt::{self, Room};
use super::ranking::{self, Candidate, Ranking};
use super::snapshot::Snapshot;
use super::storage::VolumePlan;

/// In clusters up to this size every node is looked at (upstream `minFeasibleNodesToFind`).
const NODES_TO_FIND_MIN: usize = 100;

/// In larger ones, at least this part of them (upstream `minFeasibleNodesPercentageToFind`).
const PERCENT_TO_FIND_MIN: usize = 5;

/// Where a pod goes.
#[derive(Clone, Debug)]
pub(super) enum Placement {
    Node { node: String, volumes: VolumePlan },
    Nowhere(Nowhere),
}

/// Why a pod goes nowhere, and what is done about it.
#[derive(Clone, Debug)]
pub(super) struct Nowhere {
    /// What users see in the FailedScheduling event.
    pub(super) message: String,
    /// Those that refused nodes; only what they wait for can help.
    pub(super) plugins: PluginSet,
    pub(super) room: Room,
}

/// Places pods one after another, and remembers what helps with the next.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Where among the nodes to begin, so that all take turns.
    start: usize,
    /// Counts decisions, so that equal nodes take turns.
    turns: usize,
    memory: Memory,
}

impl Search {
    /// Chooses a node for one pod. The caller counts it in the snapshot before the next.
    pub(super) fn place(&mut self, pod: &PodFacts, snapshot: &Snapshot) -> Placement {
        self.turns = self.turns.wrapping_add(1);
        if snapshot.nodes_count() == 0 {
            return nowhere("no nodes available to schedule pods".to_owned());
        }
        let class = self.memory.recall(&pod.ask, snapshot);
        let cycle = match Cycle::new(pod, &class.known, snapshot) {
            Ok(cycle) => cycle,
            Err(rejection) => return refused_everywhere(&rejection, snapshot),
        };
        if is_repeatable(&cycle)
            && let Some(slot) = class.ranking.as_mut().and_then(|ranking| ranking.take(&cycle))
        {
            return choose(&cycle, snapshot.at(slot));
        }
        if let Some(node) = pod.nominated_node().and_then(|name| snapshot.node(name))
            && cycle.check_with_nominated(node).is_ok()
        {
            return choose(&cycle, node);
        }
        self.search(cycle)
    }

    fn search(&mut self, mut cycle: Cycle<'_>) -> Placement {
        let mut refusals = Refusals::new(cycle.snapshot.nodes_count());
        let feasible = match named_nodes(&cycle.pod.ask) {
            Some(names) if names.is_empty() => {
                let conflict =
                    Rejection::for_good(Plugin::NodeAffinity, "pod affinity terms conflict");
                return refused_everywhere(&conflict, cycle.snapshot);
            }
            Some(names) => {
                refusals.set_others("node(s) didn't satisfy plugin(s) [NodeAffinity]");
                let nodes = names.into_iter().filter_map(|name| cycle.snapshot.node(name));
                feasible(&cycle, nodes, usize::MAX, &mut refusals)
            }
            None => {
                let count = cycle.snapshot.nodes_count();
                let around =
                    (self.start..self.start + count).map(|at| cycle.snapshot.node_around(at));
                let feasible = feasible(&cycle, around, nodes_to_find(count), &mut refusals);
                self.start = (self.start + feasible.len() + refusals.len()) % count;
                feasible
            }
        };
        match feasible[..] {
            [] => {
                let (message, room) = preempt::make_room(&cycle, &refusals);
                let message = format!("{} preemption: {message}", refusals.message());
                Placement::Nowhere(Nowhere { message, plugins: refusals.plugins(), room })
            }
            [node] => choose(&cycle, node),
            _ => {
                cycle.prepare_scores(&feasible);
                let slot = self.rank(&cycle, &feasible, &refusals);
                choose(&cycle, cycle.snapshot.at(slot))
            }
        }
    }

    /// Takes the best of several nodes, and remembers the others.
    fn rank(&mut self, cycle: &Cycle<'_>, feasible: &[&NodeFacts], refusals: &Refusals) -> Slot {
        let candidates = candidates(cycle, feasible);
        if !is_repeatable(cycle) {
            return ranking::best(&candidates, self.turns).expect("there are several");
        }
        let refused = refusals.iter().map(|(slot, _)| slot);
        let mut ranking = Ranking::new(&candidates, self.turns, refused);
        let slot = ranking.take(cycle).expect("feasible nodes can take the pod");
        self.memory.keep_ranking(ranking);
        slot
    }
}

/// Whether a second pod like this would score every node but the chosen one as this one did. Wishes
/// about other pods, and volumes, make each pod a case of its own.
fn is_repeatable(cycle: &Cycle<'_>) -> bool {
    let ask = &cycle.pod.ask;
    ask.claims.is_empty()
        && ask.disks.is_empty()
        && cycle.near_scores.is_empty()
        && cycle.soft_spread.is_empty()
        && !cycle.snapshot.has_nominations()
}

fn nowhere(message: String) -> Placement {
    let room = Room::Withdrawn;
    Placement::Nowhere(Nowhere { message, plugins: PluginSet::default(), room })
}

/// No node had to be looked at to know that none will do.
fn refused_everywhere(rejection: &Rejection, snapshot: &Snapshot) -> Placement {
    let count = snapshot.nodes_count();
    let useless = preempt::not_helpful(count);
    let message = format!(
        "0/{count} nodes are available: {}. preemption: {useless}",
        rejection.reasons.join(", ")
    );
    let plugins = PluginSet::from_iter([rejection.plugin]);
    Placement::Nowhere(Nowhere { message, plugins, room: Room::Withdrawn })
}

fn choose(cycle: &Cycle<'_>, node: &NodeFacts) -> Placement {
    let volumes = if cycle.claims.is_empty() {
        VolumePlan::default()
    } else {
        volume_binding::plan(cycle, node).expect("the node was found to do")
    };
    Placement::Node { node: node.name.clone(), volumes }
}

/// Upstream `numFeasibleNodesToFind`: the larger the cluster, the smaller the part of it that is
/// looked at.
fn nodes_to_find(nodes: usize) -> usize {
    if nodes < NODES_TO_FIND_MIN {
        return nodes;
    }
    let percent = 50_usize.saturating_sub(nodes / 125).max(PERCENT_TO_FIND_MIN);
    (nodes * percent / 100).max(NODES_TO_FIND_MIN)
}

fn feasible<'a>(
    cycle: &Cycle<'a>,
    nodes: impl Iterator<Item = &'a NodeFacts>,
    enough: usize,
    refusals: &mut Refusals,
) -> Vec<&'a NodeFacts> {
    let mut found = Vec::new();
    for node in nodes {
        match cycle.check_with_nominated(node) {
            Ok(()) => found.push(node),
            Err(rejection) => refusals.add(node.slot, rejection),
        }
        if found.len() >= enough {
            break;
        }
    }
    found
}

/// The score of each node, and the part of it that stays as it is when pods come.
fn candidates(cycle: &Cycle<'_>, feasible: &[&NodeFacts]) -> Vec<Candidate> {
    let candidate = |node: &&NodeFacts| Candidate { slot: node.slot, score: 0, fixed: 0 };
    let mut candidates: Vec<_> = feasible.iter().map(candidate).collect();
    let mut scores = vec![0; feasible.len()];
    for plugin in SCORES.iter().filter(|plugin| (plugin.concerns)(cycle)) {
        for (score, node) in scores.iter_mut().zip(feasible) {
            *score = (plugin.raw)(cycle, node);
        }
        plugin.normalize.apply(&mut scores);
        for (candidate, score) in candidates.iter_mut().zip(&scores) {
            candidate.score += plugin.weight * score;
            candidate.fixed += if plugin.follows_room { 0 } else { plugin.weight * score };
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::super::plugins::testing::{node, pod, snapshot, whole_pod};
    use super::*;
    use k8s_openapi::api::core::v1::Node;
    use serde_json::{Value, json};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn small(name: &str, spec: Value) -> Node {
        let allocatable = json!({"cpu": "1", "memory": "1Gi", "pods": "2"});
        node(name, json!({"spec": spec, "status": {"allocatable": allocatable}}))
    }

    fn asking(name: &str, cpu: &str) -> PodFacts {
        let resources = json!({"requests": {"cpu": cpu}});
        pod(name, json!({"containers": [{"name": "c", "resources": resources}]}))
    }

    fn render(placement: Placement) -> String {
        match placement {
            Placement::Node { node, .. } => node,
            Placement::Nowhere(nowhere) => nowhere.message,
        }
    }

    #[track_caller]
    fn check(pod: &PodFacts, nodes: &[Node], expected: &str) {
        assert_eq!(render(Search::default().place(pod, &snapshot(nodes, &[]))), expected);
    }

    #[test]
    fn a_pod_goes_where_it_fits() {
        let plain = || pod("p", json!({}));
        let free = |name: &str| small(name, json!({}));
        let cordoned = small("a", json!({"unschedulable": true}));
        let taints = json!({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]});
        let tainted = || small("d", taints.clone());
        check(&plain(), &[], "no nodes available to schedule pods");
        check(&plain(), &[free("a")], "a");
        check(&plain(), &[cordoned.clone(), free("b")], "b");
        check(
            &asking("p", "2"),
            &[cordoned, free("b"), free("c"), tainted()],
            "0/4 nodes are available: 1 node(s) had untolerated taint {gpu: yes}, \
             1 node(s) were unschedulable, 2 Insufficient cpu. preemption: 0/4 nodes are available: \
             4 Preemption is not helpful for scheduling.",
        );
        let tolerant = pod("p", json!({"tolerations": [{"key": "gpu", "operator": "Exists"}]}));
        check(&tolerant, &[tainted()], "d");
        let pinned = pod("p", json!({"nodeSelector": {"kubernetes.io/hostname": "b"}}));
        check(&pinned, &[free("a"), free("b")], "b");
    }

    #[test]
    fn a_pod_without_victims_is_told_so() {
        let snapshot = snapshot(&[small("a", json!({}))], &[(asking("x", "600m"), "a")]);
        assert_eq!(
            render(Search::default().place(&asking("p", "500m"), &snapshot)),
            "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
             1 No preemption victims found for incoming pod."
        );
    }

    #[test]
    fn a_pod_that_names_its_nodes_is_held_against_no_others() {
        let fields = json!([{"key": "metadata.name", "operator": "In", "values": ["b"]}]);
        let terms = json!({"nodeSelectorTerms": [{"matchFields": fields}]});
        let affinity = json!({"requiredDuringSchedulingIgnoredDuringExecution": terms});
        let pinned = pod("p", json!({"affinity": {"nodeAffinity": affinity}}));
        let nodes = [small("a", json!({})), small("b", json!({})), small("c", json!({}))];
        check(&pinned, &nodes, "b");
        check(
            &pinned,
            &[small("a", json!({})), small("b", json!({"unschedulable": true}))],
            "0/2 nodes are available: 1 node(s) didn't satisfy plugin(s) [NodeAffinity], \
             1 node(s) were unschedulable. preemption: 0/2 nodes are available: \
             2 Preemption is not helpful for scheduling.",
        );
    }

    #[test]
    fn the_emptier_node_is_better() {
        let nodes = [small("a", json!({})), small("b", json!({}))];
        let snapshot = snapshot(&nodes, &[(asking("busy", "500m"), "a")]);
        let mut search = Search::default();
        for _ in 0..4 {
            assert_eq!(render(search.place(&pod("p", json!({})), &snapshot)), "b");
        }
    }

    /// Places equal pods, each counted before the next.
    fn fill(nodes: &[Node], pods: usize, cpu: &str) -> String {
        let mut snapshot = snapshot(nodes, &[]);
        let mut search = Search::default();
        let mut places = Vec::new();
        for index in 0..pods {
            let mut pod = asking("p", cpu);
            pod.uid = index.to_string();
            match search.place(&pod, &snapshot) {
                Placement::Node { node, .. } => {
                    snapshot.assume(Arc::new(pod), &node);
                    places.push(node);
                }
                Placement::Nowhere(_) => places.push("-".to_owned()),
            }
        }
        places.join(" ")
    }

    #[test]
    fn equal_pods_spread_over_equal_nodes_until_these_are_full() {
        let nodes = [small("a", json!({})), small("b", json!({})), small("c", json!({}))];
        let mut places: Vec<_> = fill(&nodes, 3, "100m").split(' ').map(str::to_owned).collect();
        places.sort();
        assert_eq!(places, ["a", "b", "c"]);
        let filled = fill(&nodes, 7, "100m");
        assert!(filled.ends_with(" -") && filled.matches('-').count() == 1, "{filled}");
        let filled = fill(&nodes, 4, "600m");
        assert!(filled.ends_with(" -") && filled.matches('-').count() == 1, "{filled}");
    }

    #[test]
    fn a_ranking_does_not_outlive_a_change() {
        let nodes = [small("a", json!({})), small("b", json!({}))];
        let mut snapshot = snapshot(&nodes, &[]);
        let mut search = Search::default();
        let first = render(search.place(&asking("p", "100m"), &snapshot));
        snapshot.assume(Arc::new(asking("p", "100m")), &first);
        let other = if first == "a" { "b" } else { "a" };
        snapshot.assume(Arc::new(asking("big", "950m")), other);
        let mut second = asking("p", "100m");
        second.uid = "second".to_owned();
        assert_eq!(render(search.place(&second, &snapshot)), first);
    }

    /// A pod that wants its app to be level over zones, or each on a node of its own.
    fn constrained(app: &str, index: usize) -> PodFacts {
        let selector = json!({"matchLabels": {"app": app}});
        let spec = match app {
            "level" => json!({"topologySpreadConstraints": [{
                "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": selector,
            }]}),
            _ => json!({"affinity": {"podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [{
                    "topologyKey": "kubernetes.io/hostname", "labelSelector": selector,
                }],
            }}}),
        };
        let labels = json!({"labels": {"app": app}});
        whole_pod(&format!("{app}-{index}"), json!({"metadata": labels, "spec": spec}))
    }

    #[test]
    fn kinds_that_take_turns_stay_level_and_apart() {
        const NODES: usize = 12;
        let zoned = |index: usize| {
            let labels = json!({"labels": {"zone": (index % 3).to_string()}});
            node(&format!("n-{index}"), json!({"metadata": labels}))
        };
        let nodes: Vec<_> = (0..NODES).map(zoned).collect();
        let mut snapshot = snapshot(&nodes, &[]);
        let mut search = Search::default();
        let (mut apart, mut zones) = (BTreeSet::new(), [0_usize; 3]);
        for index in 0..NODES {
            for app in ["level", "apart"] {
                let pod = constrained(app, index);
                let name = render(search.place(&pod, &snapshot));
                snapshot.assume(Arc::new(pod), &name);
                let number: usize = name.strip_prefix("n-").unwrap().parse().unwrap();
                match app {
                    "level" => zones[number % 3] += 1,
                    _ => assert!(apart.insert(number), "two on {name}"),
                }
                assert!(zones.iter().max().unwrap() - zones.iter().min().unwrap() <= 1);
            }
        }
        let refused = render(search.place(&constrained("apart", NODES), &snapshot));
        assert!(refused.starts_with("0/12 nodes are available: 12 node(s) didn't match"));
        snapshot.forget("apart-3");
        let place = render(search.place(&constrained("apart", NODES), &snapshot));
        assert!(place.starts_with("n-"), "{place}");
    }

    #[test]
    fn large_clusters_are_looked_at_in_part() {
        for (nodes, expected) in
            [(3, 3), (99, 99), (100, 100), (200, 100), (1_000, 420), (5_000, 500), (6_000, 300)]
        {
            assert_eq!(nodes_to_find(nodes), expected, "{nodes}");
        }
    }
}
