//! Room for what a pod asks, and more room as the better choice. Follows upstream
//! plugins/noderesources fit.go and least_allocated.go (v1.35).

use super::{Filter, Normalize, Plugin, Reason, Rejection, SCORE_MAX, Score};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::node::NodeFacts;
use crate::scheduler::pod::PodFacts;
use crate::scheduler::resources::Resources;
use k8s_openapi::api::core::v1::Node;
use std::sync::Arc;

pub(super) const FILTER: Filter = Filter {
    plugin: Plugin::NodeResourcesFit,
    concerns: |_| true,
    check: |cycle, node| check(&cycle.pod.ask.requests, node),
    hint,
};

/// The mean over processor and memory of the share that would stay free.
pub(super) const SCORE: Score = Score {
    weight: 1,
    concerns: |_| true,
    raw: least_allocated,
    normalize: Normalize::Never,
    follows_room: true,
};

fn check(wanted: &Resources, node: &NodeFacts) -> Result<(), Rejection> {
    if fits(wanted, node) {
        return Ok(());
    }
    let mut reasons: Vec<Reason> = Vec::new();
    let mut is_resolvable = true;
    if node.pods_count() >= node.pods_max {
        reasons.push("Too many pods".into());
    }
    let mut ask = |reason: &dyn Fn() -> Reason, wanted: i64, have: i64, used: i64| {
        if is_short(wanted, have, used) {
            reasons.push(reason());
            is_resolvable &= wanted <= have;
        }
    };
    let (have, used) = (&node.allocatable, &node.requested);
    ask(&|| "Insufficient cpu".into(), wanted.milli_cpu, have.milli_cpu, used.milli_cpu);
    ask(
        &|| "Insufficient memory".into(),
        wanted.memory_bytes,
        have.memory_bytes,
        used.memory_bytes,
    );
    let (storage, all, taken) = (wanted.storage_bytes, have.storage_bytes, used.storage_bytes);
    ask(&|| "Insufficient ephemeral-storage".into(), storage, all, taken);
    for (name, wanted) in &wanted.others {
        ask(&|| format!("Insufficient {name}").into(), *wanted, have.other(name), used.other(name));
    }
    Err(Rejection { plugin: Plugin::NodeResourcesFit, reasons, is_resolvable })
}

fn is_short(wanted: i64, have: i64, used: i64) -> bool {
    wanted > 0 && wanted > have.saturating_sub(used)
}

fn fits(wanted: &Resources, node: &NodeFacts) -> bool {
    let (have, used) = (&node.allocatable, &node.requested);
    node.pods_count() < node.pods_max
        && !is_short(wanted.milli_cpu, have.milli_cpu, used.milli_cpu)
        && !is_short(wanted.memory_bytes, have.memory_bytes, used.memory_bytes)
        && !is_short(wanted.storage_bytes, have.storage_bytes, used.storage_bytes)
        && wanted
            .others
            .iter()
            .all(|(name, wanted)| !is_short(*wanted, have.other(name), used.other(name)))
}

fn least_allocated(cycle: &Cycle<'_>, node: &NodeFacts) -> i64 {
    let (have, used) = (&node.allocatable, &node.requested_for_scoring);
    let wanted = &cycle.pod.ask.requests_for_scoring;
    let free = |have: i64, used: i64| {
        (have > 0).then(|| (have.saturating_sub(used)).max(0).saturating_mul(SCORE_MAX) / have)
    };
    let cpu = free(have.milli_cpu, used.milli_cpu.saturating_add(wanted.milli_cpu));
    let memory = free(have.memory_bytes, used.memory_bytes.saturating_add(wanted.memory_bytes));
    match (cpu, memory) {
        (Some(cpu), Some(memory)) => i64::midpoint(cpu, memory),
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => 0,
    }
}

fn hint(pod: &PodFacts, event: &Event<'_>) -> bool {
    let wanted = &pod.ask.requests;
    let empty = |node: &Node| {
        let mut facts = NodeFacts::default();
        facts.set(Some(Arc::new(node.clone())));
        facts
    };
    match event {
        Event::NodeAdded(node) => fits(wanted, &empty(node)),
        Event::NodeChanged(old, new) => {
            let (old, new) = (empty(old), empty(new));
            fits(wanted, &new)
                && (new.pods_max > old.pods_max
                    || some_wanted(wanted, &new.allocatable, &old.allocatable))
        }
        Event::PodGone(_) => true,
        Event::PodChanged(old, new) => some_wanted(wanted, &old.ask.requests, &new.ask.requests),
        Event::OwnChange(old, new) => {
            some_wanted(wanted, &old.ask.requests, &new.ask.requests)
                || old.ask.requests != new.ask.requests
        }
        _ => false,
    }
}

/// Whether there is more of something that is wanted.
fn some_wanted(wanted: &Resources, more: &Resources, than: &Resources) -> bool {
    (wanted.milli_cpu > 0 && more.milli_cpu > than.milli_cpu)
        || (wanted.memory_bytes > 0 && more.memory_bytes > than.memory_bytes)
        || (wanted.storage_bytes > 0 && more.storage_bytes > than.storage_bytes)
        || wanted
            .others
            .iter()
            .any(|(name, wanted)| *wanted > 0 && more.other(name) > than.other(name))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, scores_with, snapshot};
    use super::*;
    use serde_json::{Value, json};

    fn asking(requests: Value) -> PodFacts {
        pod("p", json!({"containers": [{"name": "c", "resources": {"requests": requests}}]}))
    }

    fn sized(allocatable: Value) -> Node {
        let node_json = json!({"status": {"allocatable": allocatable}});
        node("a", node_json)
    }

    #[track_caller]
    fn check_room(wanted: Value, taken: Value, expected: &str) {
        let have = json!({"cpu": "2", "memory": "4Gi", "ephemeral-storage": "10Gi", "example.com/gpu": "2", "pods": "3"});
        let mut there = asking(taken);
        there.uid = "there".to_owned();
        let snapshot = snapshot(&[sized(have)], &[(there, "a")]);
        let pod = asking(wanted);
        let found = match check(&pod.ask.requests, snapshot.node("a").unwrap()) {
            Ok(()) => "ok".to_owned(),
            Err(rejection) => {
                let suffix = if rejection.is_resolvable { "" } else { " for good" };
                format!("{}{suffix}", rejection.reasons.join(", "))
            }
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn pods_go_only_where_there_is_room() {
        let nothing = || json!({});
        check_room(nothing(), nothing(), "ok");
        check_room(json!({"cpu": "2", "memory": "4Gi"}), nothing(), "ok");
        check_room(json!({"cpu": "1001m"}), json!({"cpu": "1"}), "Insufficient cpu");
        check_room(json!({"cpu": "3"}), nothing(), "Insufficient cpu for good");
        check_room(
            json!({"cpu": "2", "memory": "4Gi"}),
            json!({"cpu": "1", "memory": "1"}),
            "Insufficient cpu, Insufficient memory",
        );
        check_room(
            json!({"ephemeral-storage": "11Gi"}),
            nothing(),
            "Insufficient ephemeral-storage for good",
        );
        check_room(
            json!({"example.com/gpu": "1"}),
            json!({"example.com/gpu": "2"}),
            "Insufficient example.com/gpu",
        );
        check_room(
            json!({"example.com/fpga": "1"}),
            nothing(),
            "Insufficient example.com/fpga for good",
        );
    }

    #[test]
    fn a_full_node_takes_no_more_pods() {
        let pods = |uid: &str| (pod(uid, json!({})), "a");
        let snapshot =
            snapshot(&[sized(json!({"cpu": "1", "pods": "2"}))], &[pods("x"), pods("y")]);
        let rejection = check(&asking(json!({})).ask.requests, snapshot.node("a").unwrap());
        assert_eq!(rejection.unwrap_err().reasons, ["Too many pods"]);
    }

    #[test]
    fn the_emptier_node_is_better() {
        let mut busy = asking(json!({"cpu": "1", "memory": "2Gi"}));
        busy.uid = "busy".to_owned();
        let nodes = [sized(json!({"cpu": "4", "memory": "8Gi", "pods": "9"})), {
            let mut other = sized(json!({"cpu": "4", "memory": "8Gi", "pods": "9"}));
            other.metadata.name = Some("b".to_owned());
            other
        }];
        let pod = asking(json!({"cpu": "1", "memory": "2Gi"}));
        assert_eq!(scores_with(&SCORE, &pod, &nodes, &[(busy, "a")]), [50, 75]);
    }

    #[test]
    fn only_what_the_pod_wants_helps_it() {
        let pod = asking(json!({"cpu": "2"}));
        let (small, large) =
            (sized(json!({"cpu": "1", "pods": "9"})), sized(json!({"cpu": "2", "pods": "9"})));
        let memory = sized(json!({"cpu": "1", "memory": "9Gi", "pods": "9"}));
        assert!(hint(&pod, &Event::NodeChanged(&small, &large)));
        assert!(!hint(&pod, &Event::NodeChanged(&small, &memory)));
        assert!(!hint(&pod, &Event::NodeAdded(&small)));
        assert!(hint(&pod, &Event::PodGone(&asking(json!({})))));
        let (more, less) = (asking(json!({"cpu": "2"})), asking(json!({"cpu": "1"})));
        assert!(hint(&pod, &Event::PodChanged(&more, &less)));
        assert!(!hint(&pod, &Event::PodChanged(&less, &more)));
    }
}
