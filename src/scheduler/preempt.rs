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
