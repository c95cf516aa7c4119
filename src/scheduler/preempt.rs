//! Preemption: which less important pods have to go so that a pod fits somewhere. Pure.
//!
//! Start at [`make_room`]. Follows upstream pkg/scheduler/framework/preemption and
//! plugins/defaultpreemption (v1.35). Absent: the random start among nodes, so that the same cluster
//! gives the same decision.

use super::cycle::Cycle;
use super::message::{Refusals, unavailable};
use super::node::NodeFacts;
use super::plugins::Reason;
use super::pod::PodFacts;
use super::snapshot::Snapshot;
use crate::api::labels::Selector;
use crate::api::pod;
use jiff::Timestamp;
use std::cmp::Reverse;
use std::sync::Arc;

/// At least so many nodes are tried before the best is taken (upstream `MinCandidateNodesAbsolute`).
const CANDIDATES_MIN: usize = 100;

/// And at least this part of them (upstream `MinCandidateNodesPercentage`).
const CANDIDATES_PERCENT: usize = 10;

/// Why a pod was stopped, in its DisruptionTarget condition.
pub(super) const PREEMPTED_REASON: &str = "PreemptionByScheduler";

/// What becomes of the room that is being made for a pod.
#[derive(Clone, Debug)]
pub(super) enum Room {
    /// It stays as it is.
    Kept,
    /// None is made any more.
    Withdrawn,
    Made(Preemption),
}

/// The pods that have to go for another to come to a node.
#[derive(Clone, Debug)]
pub(super) struct Preemption {
    pub(super) node: String,
    pub(super) victims: Vec<Arc<PodFacts>>,
    /// Less important pods for which room was being made there: they look elsewhere.
    pub(super) displaced: Vec<Arc<PodFacts>>,
}

/// A node on which pods could go.
#[derive(Debug)]
struct Candidate<'a> {
    node: &'a NodeFacts,
    /// The most important first; at least one.
    victims: Vec<Arc<PodFacts>>,
    /// How many of them a disruption budget would rather keep.
    violations: usize,
}

/// Looks for pods to stop. Says in users' words why that does not help, where it does not.
pub(super) fn make_room(cycle: &Cycle<'_>, refusals: &Refusals) -> (String, Room) {
    if let Err(reason) = may_preempt(cycle, refusals) {
        return (reason.to_owned(), Room::Kept);
    }
    let (snapshot, total) = (cycle.snapshot, refusals.nodes_count());
    let potential: Vec<_> = refusals
        .iter()
        .filter(|(_, rejection)| rejection.is_resolvable)
        .map(|(slot, _)| slot)
        .collect();
    let enough = (potential.len() * CANDIDATES_PERCENT / 100).max(CANDIDATES_MIN);
    let mut reasons: Vec<Reason> = vec![NOT_HELPFUL.into(); total - potential.len()];
    let mut candidates = Vec::new();
    for slot in potential {
        match try_node(cycle, snapshot.at(slot)) {
            Ok(candidate) => candidates.push(candidate),
            Err(why) => reasons.extend(why),
        }
        if candidates.len() >= enough
            && candidates.iter().any(|candidate| candidate.violations == 0)
        {
            break;
        }
    }
    match best(candidates) {
        None => (unavailable(total, reasons.into_iter()), Room::Withdrawn),
        Some(candidate) => {
            let nominated = snapshot.nominated(&candidate.node.name).iter();
            let displaced = nominated.filter(|other| other.priority() < cycle.pod.priority());
            let preemption = Preemption {
                node: candidate.node.name.clone(),
                displaced: displaced.cloned().collect(),
                victims: candidate.victims,
            };
            (String::new(), Room::Made(preemption))
        }
    }
}

const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

/// What is said where no pod that goes would change anything.
pub(super) fn not_helpful(nodes: usize) -> String {
    unavailable(nodes, std::iter::repeat_n(NOT_HELPFUL.into(), nodes))
}

/// Upstream `PodEligibleToPreemptOthers`: a pod for which pods are going already waits for them.
fn may_preempt(cycle: &Cycle<'_>, refusals: &Refusals) -> Result<(), &'static str> {
    let pod = cycle.pod;
    if !pod.ask.may_preempt {
        return Err("not eligible due to preemptionPolicy=Never.");
    }
    let Some(node) = pod.nominated_node().and_then(|name| cycle.snapshot.node(name)) else {
        return Ok(());
    };
    let is_hopeless = refusals.iter().any(|(slot, why)| slot == node.slot && !why.is_resolvable);
    let mut going = node.pods().iter().filter(|other| other.priority() < pod.priority());
    if !is_hopeless && going.any(|other| is_going(other)) {
        return Err("not eligible due to a terminating pod on the nominated node.");
    }
    Ok(())
}

fn is_going(pod: &PodFacts) -> bool {
    pod.is_terminating()
        && pod::condition(&pod.pod, "DisruptionTarget").is_some_and(|condition| {
            condition.status == "True" && condition.reason.as_deref() == Some(PREEMPTED_REASON)
        })
}

/// Upstream `SelectVictimsOnNode`: all less important pods go, and come back one after another as
/// long as there is room, those that a budget protects first.
fn try_node<'a>(cycle: &Cycle<'a>, node: &'a NodeFacts) -> Result<Candidate<'a>, Vec<Reason>> {
    let less_important = node.pods().iter().filter(|other| other.priority() < cycle.pod.priority());
    let mut potential: Vec<_> = less_important.cloned().collect();
    if potential.is_empty() {
        return Err(vec![NO_VICTIMS.into()]);
    }
    let (mut cycle, mut emptier) = (cycle.clone(), node.clone());
    for other in &potential {
        emptier.remove(&other.uid);
        cycle.gone(other, node);
    }
    cycle.check_with_nominated(&emptier).map_err(|rejection| rejection.reasons)?;
    potential.sort_by_key(|pod| importance(pod));
    let (protected, others) = by_budgets(potential, cycle.snapshot);
    let is_protected = protected.iter().map(|_| true).chain(others.iter().map(|_| false));
    let is_protected: Vec<_> = is_protected.collect();
    let (mut victims, mut violations) = (Vec::new(), 0);
    for (other, is_protected) in protected.into_iter().chain(others).zip(is_protected) {
        emptier.add(Arc::clone(&other));
        cycle.come(&other, node);
        if cycle.check_with_nominated(&emptier).is_err() {
            emptier.remove(&other.uid);
            cycle.gone(&other, node);
            violations += usize::from(is_protected);
            victims.push(other);
        }
    }
    victims.sort_by_key(|pod| importance(pod));
    Ok(Candidate { node, victims, violations })
}

/// The most important first (upstream `MoreImportantPod`).
fn importance(pod: &PodFacts) -> (Reverse<i32>, Timestamp) {
    (Reverse(pod.priority()), started(pod))
}

fn started(pod: &PodFacts) -> Timestamp {
    let started = pod.pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    started.map_or(Timestamp::MAX, |time| time.0)
}

type Pods = Vec<Arc<PodFacts>>;

/// Those that a disruption budget would rather keep, and the others (upstream
/// `filterPodsWithPDBViolation`).
fn by_budgets(pods: Pods, snapshot: &Snapshot) -> (Pods, Pods) {
    let status = |budget: &k8s_openapi::api::policy::v1::PodDisruptionBudget| {
        let status = budget.status.clone().unwrap_or_default();
        (status.disruptions_allowed, status.disrupted_pods.unwrap_or_default())
    };
    let selector = |budget: &k8s_openapi::api::policy::v1::PodDisruptionBudget| {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        Selector::of_object(selector).unwrap_or_else(|_| Selector::nothing())
    };
    let mut budgets: Vec<_> = snapshot
        .budgets
        .iter()
        .map(|((namespace, _), budget)| (namespace, selector(budget), status(budget)))
        .collect();
    pods.into_iter().partition(|pod| {
        let mut is_protected = false;
        for (namespace, selector, (allowed, disrupted)) in &mut budgets {
            let concerns = *namespace == pod.namespace()
                && !pod.ask.labels.is_empty()
                && !selector.is_everything()
                && selector.matches(&pod.ask.labels)
                && !disrupted.contains_key(&pod.key.name);
            if concerns {
                *allowed -= 1;
                is_protected |= *allowed < 0;
            }
        }
        is_protected
    })
}

/// Upstream `pickOneNodeForPreemption`: the fewest violated budgets, the least important victims, the
/// fewest, and those that have run least.
fn best(candidates: Vec<Candidate<'_>>) -> Option<Candidate<'_>> {
    candidates.into_iter().filter(|candidate| !candidate.victims.is_empty()).min_by_key(
        |candidate| {
            let victims = &candidate.victims;
            let highest = victims.first().map_or(i32::MIN, |pod| pod.priority());
            // Every victim counts for something, also those with negative priorities.
            let sum: i64 = victims.iter().map(|pod| i64::from(pod.priority()) + (1 << 31)).sum();
            let important = victims.iter().filter(|pod| pod.priority() == highest);
            let earliest = important.map(|pod| started(pod)).min().unwrap_or(Timestamp::MAX);
            (candidate.violations, highest, sum, victims.len(), Reverse(earliest))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Placement, Search};
    use super::super::plugins::testing::{node, snapshot, whole_pod};
    use super::*;
    use serde_json::{Value, json};

    /// A pod of one processor.
    fn pod(name: &str, priority: i32, more: Value) -> PodFacts {
        let mut pod = json!({"spec": {
            "priority": priority,
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}],
        }});
        for (part, fields) in more.as_object().unwrap() {
            for (field, value) in fields.as_object().unwrap() {
                pod[part][field] = value.clone();
            }
        }
        whole_pod(name, pod)
    }

    fn plain(name: &str, priority: i32) -> PodFacts {
        pod(name, priority, json!({}))
    }

    /// Nodes `a` and `b`, of two processors each.
    fn cluster(there: &[(PodFacts, &str)]) -> Snapshot {
        let small = |name: &str| node(name, json!({"status": {"allocatable": {"cpu": "2"}}}));
        snapshot(&[small("a"), small("b")], there)
    }

    fn render(placement: Placement) -> String {
        let nowhere = match placement {
            Placement::Node { node, .. } => return node,
            Placement::Nowhere(nowhere) => nowhere,
        };
        let names = |pods: &[Arc<PodFacts>]| {
            pods.iter().map(|pod| pod.uid.as_str()).collect::<Vec<_>>().join(",")
        };
        match nowhere.room {
            Room::Made(made) => format!("{}: {}", made.node, names(&made.victims)),
            Room::Kept => format!("kept, {}", nowhere.message),
            Room::Withdrawn => nowhere.message,
        }
    }

    #[track_caller]
    fn check_in(pod: &PodFacts, snapshot: &Snapshot, expected: &str) {
        assert_eq!(render(Search::default().place(pod, snapshot)), expected);
    }

    #[track_caller]
    fn check(pod: &PodFacts, there: &[(PodFacts, &str)], expected: &str) {
        check_in(pod, &cluster(there), expected);
    }

    #[test]
    fn the_least_important_go_and_no_more_than_needed() {
        let there = |priorities: [i32; 4]| {
            let names = ["a1", "a2", "b1", "b2"];
            let pods = names
                .into_iter()
                .zip(priorities)
                .map(|(name, priority)| (plain(name, priority), &name[..1]));
            pods.collect::<Vec<_>>()
        };
        check(&plain("p", 10), &there([5, 1, 5, 2]), "a: a2");
        check(&plain("p", 10), &there([5, 20, 20, 5])[..], "a: a1");
        check(&plain("p", 10), &there([20, 20, 20, 3]), "b: b2");
        let large = pod(
            "p",
            10,
            json!({"spec": {
                "containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}],
            }}),
        );
        check(&large, &there([1, 9, 8, 8]), "b: b1,b2");
        check(&large, &there([8, 1, 8, 8]), "a: a1,a2");
    }

    #[test]
    fn where_pods_are_as_important_none_goes() {
        let full = ["a", "a", "b", "b"].into_iter().enumerate();
        let there: Vec<_> =
            full.map(|(index, node)| (plain(&format!("x{index}"), 10), node)).collect();
        check(
            &plain("p", 10),
            &there,
            "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: \
             2 No preemption victims found for incoming pod.",
        );
        let never = pod("p", 99, json!({"spec": {"preemptionPolicy": "Never"}}));
        check(
            &never,
            &there,
            "kept, 0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to \
             preemptionPolicy=Never.",
        );
    }

    #[test]
    fn among_equals_those_that_have_run_least_go() {
        let started = |name: &str, node: &'static str, minute: u32| {
            let at = format!("2026-01-01T00:{minute:02}:00Z");
            (pod(name, 1, json!({"status": {"startTime": at}})), node)
        };
        let there = [
            started("a1", "a", 1),
            started("a2", "a", 9),
            started("b1", "b", 2),
            started("b2", "b", 3),
        ];
        check(&plain("p", 10), &there, "a: a2");
    }

    #[test]
    fn disruption_budgets_are_kept_where_that_is_possible() {
        let guarded = |name: &str, node: &'static str| {
            (pod(name, 1, json!({"metadata": {"labels": {"app": "guarded"}}})), node)
        };
        let budget = |allowed: i32| {
            let budget = json!({
                "metadata": {"name": "b", "namespace": "default"},
                "spec": {"selector": {"matchLabels": {"app": "guarded"}}},
                "status": {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1},
            });
            Arc::new(serde_json::from_value(budget).unwrap())
        };
        let check = |there: &[(PodFacts, &str)], allowed: i32, expected: &str| {
            let mut snapshot = cluster(there);
            snapshot.budgets.insert(("default".to_owned(), "b".to_owned()), budget(allowed));
            check_in(&plain("p", 10), &snapshot, expected);
        };
        let there =
            [guarded("a1", "a"), (plain("a2", 5), "a"), guarded("b1", "b"), guarded("b2", "b")];
        check(&there, 0, "a: a2");
        check(&there, 9, "a: a1");
        check(&there[2..], 0, "a");
    }

    #[test]
    fn a_pod_waits_for_those_that_go_for_it_already() {
        let going = json!({
            "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": PREEMPTED_REASON}]},
        });
        let there = [
            (pod("a1", 1, going), "a"),
            (plain("a2", 1), "a"),
            (plain("b1", 1), "b"),
            (plain("b2", 1), "b"),
        ];
        let nominated = pod("p", 10, json!({"status": {"nominatedNodeName": "a"}}));
        check(
            &nominated,
            &there,
            "kept, 0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to a \
             terminating pod on the nominated node.",
        );
    }

    #[test]
    fn room_that_is_made_for_a_pod_is_not_for_less_important_ones() {
        let there = [(plain("a1", 50), "a"), (plain("b1", 50), "b"), (plain("b2", 50), "b")];
        let mut snapshot = cluster(&there);
        snapshot.nominate(Arc::new(plain("n", 10)), "a");
        let refused = "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: \
             2 No preemption victims found for incoming pod.";
        check_in(&plain("p", 5), &snapshot, refused);
        check_in(&plain("p", 10), &snapshot, refused);
        check_in(&plain("p", 20), &snapshot, "a");
        check_in(&plain("n", 10), &snapshot, "a");
    }

    #[test]
    fn pods_that_are_to_be_apart_go_as_well() {
        let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "shy"}}});
        let apart =
            json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
        let pinned = pod(
            "p",
            10,
            json!({"spec": {"affinity": apart, "nodeSelector": {"kubernetes.io/hostname": "a"}}}),
        );
        let there = [(plain("shy", 1), "a"), (plain("a2", 1), "a")];
        check(&pinned, &there, "a: shy");
        check(&pinned, &there[..1], "a: shy");
        check(&pinned, &there[1..], "a");
    }
}
