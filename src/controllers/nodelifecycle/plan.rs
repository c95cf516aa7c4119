//! The decision about a node: whether it is there, what its taints say, and what becomes of its
//! pods.
//!
//! Follows upstream `tryUpdateNodeHealth`, `doNoScheduleTaintingPass` and
//! `processTaintBaseEviction` (pkg/controller/nodelifecycle/node_lifecycle_controller.go, v1.35).

use super::zones::Slot;
use crate::api::node::{condition, ready_status};
use crate::api::pod::is_ready;
use crate::client::{Patch, ResourceType, key_of, object_reference};
use crate::control::{Attempt, Plan, Report, Write};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// A node of which nothing was heard for so long is away: upstream's `NodeMonitorGracePeriod`.
pub(super) const GRACE: Duration = Duration::from_secs(50);

/// As above for a node that has not said yet how it is: upstream's `NodeStartupGracePeriod`.
pub(super) const STARTUP_GRACE: Duration = Duration::from_secs(60);

/// What nobody knows about a node that is away.
const HEALTH_CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";

/// Which state of which condition means which taint.
const CONDITION_TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub node: Arc<Node>,
    /// For how long nothing was heard of it.
    pub silent_for: Duration,
    /// It is seen for the first time.
    pub is_new: bool,
    /// Whether its pods may be driven away. Asked only where they are to be.
    pub slot: Slot,
    /// All nodes seem to be away: nobody is driven anywhere.
    pub all_away: bool,
    /// Its pods, where it is known to be away.
    pub pods: Vec<Arc<Pod>>,
    pub attempt: Attempt,
}

pub fn plan(observed: &Observed) -> Plan {
    let node = &*observed.node;
    let mut plan = Plan { regarding: object_reference(node), ..Plan::default() };
    let name = node.metadata.name.as_deref().unwrap_or_default();
    if observed.is_new {
        let message = format!("Node {name} event: Registered Node {name} in Controller");
        plan.reports.push(Report::normal("RegisteredNode", message));
    }
    if is_silent(observed) {
        plan.then(mark_unknown(node, observed.attempt.now));
        if ready_status(node) == Some("True") {
            let message = format!("Node {name} status is now: NodeNotReady");
            plan.reports.push(Report::normal("NodeNotReady", message));
        }
    }
    if !plan.steps.is_empty() {
        // The taints follow from what is said now.
        return plan;
    }
    plan.then(retaint(observed));
    plan.then(mark_pods(observed));
    let unheard = grace(node).saturating_sub(observed.silent_for).max(Duration::from_millis(1));
    let deadline = (!is_known_away(node)).then_some(unheard);
    let next_slot = match observed.slot {
        Slot::After(left) => Some(left),
        Slot::Now | Slot::Closed => None,
    };
    plan.recheck_after = deadline.into_iter().chain(next_slot).min();
    plan
}

fn grace(node: &Node) -> Duration {
    if condition(node, "Ready").is_some() { GRACE } else { STARTUP_GRACE }
}

/// Nothing was heard of the node for too long, and that is not told yet.
fn is_silent(observed: &Observed) -> bool {
    observed.silent_for >= grace(&observed.node) && !is_known_away(&observed.node)
}

/// It is told that the node is away.
pub(super) fn is_known_away(node: &Node) -> bool {
    ready_status(node) == Some("Unknown")
}

/// Only if the node has not been heard of while this is written.
fn mark_unknown(node: &Node, now: Timestamp) -> Option<Write> {
    let unknown = |kind: &&str| -> Option<Value> {
        let (reason, message, heard) = match condition(node, kind) {
            Some(NodeCondition { status, .. }) if status == "Unknown" => return None,
            Some(known) => (
                "NodeStatusUnknown",
                "Kubelet stopped posting node status.",
                known.last_heartbeat_time.clone(),
            ),
            None => (
                "NodeStatusNeverUpdated",
                "Kubelet never posted node status.",
                node.metadata.creation_timestamp.clone(),
            ),
        };
        Some(json!({"type": kind, "status": "Unknown", "reason": reason, "message": message,
            "lastHeartbeatTime": heard, "lastTransitionTime": Time(now)}))
    };
    let conditions: Vec<Value> = HEALTH_CONDITIONS.iter().filter_map(unknown).collect();
    (!conditions.is_empty()).then(|| Write::Patch {
        resource: ResourceType::of::<Node>(),
        key: key_of(&node.metadata),
        subresource: Some("status"),
        patch: Patch::Strategic(json!({
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "status": {"conditions": conditions},
        })),
    })
}

/// Makes the taints say what the conditions say.
fn retaint(observed: &Observed) -> Option<Write> {
    let node = &*observed.node;
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let wanted = wanted_taints(observed);
    let is_wanted = |taint: &Taint| wanted.iter().any(|wanted| is_same(taint, wanted));
    let kept = taints.iter().filter(|taint| !is_ours(taint) || is_wanted(taint));
    let mut next: Vec<Taint> = kept.cloned().collect();
    let missing = wanted.iter().filter(|wanted| !taints.iter().any(|taint| is_same(taint, wanted)));
    next.extend(missing.map(|(key, effect)| Taint {
        key: (*key).to_owned(),
        effect: (*effect).to_owned(),
        time_added: Some(Time(observed.attempt.now)),
        value: None,
    }));
    (next != taints).then(|| {
        let next = if next.is_empty() { Value::Null } else { json!(next) };
        let version = &node.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": next}});
        Write::patch(node, Patch::Merge(patch))
    })
}

type KeyAndEffect = (&'static str, &'static str);

fn is_same(taint: &Taint, (key, effect): &KeyAndEffect) -> bool {
    taint.key == *key && taint.effect == *effect
}

/// Whether nobody else sets such taints.
fn is_ours(taint: &Taint) -> bool {
    let of_condition = CONDITION_TAINTS.iter().any(|(_, _, key)| *key == taint.key);
    match taint.effect.as_str() {
        NO_SCHEDULE => of_condition || taint.key == UNSCHEDULABLE,
        NO_EXECUTE => taint.key == NOT_READY || taint.key == UNREACHABLE,
        _ => false,
    }
}

fn wanted_taints(observed: &Observed) -> Vec<KeyAndEffect> {
    let node = &*observed.node;
    let holds = |kind: &str, status: &str| {
        condition(node, kind).is_some_and(|condition| condition.status == status)
    };
    let said = CONDITION_TAINTS.into_iter().filter(|(kind, status, _)| holds(kind, status));
    let mut wanted: Vec<KeyAndEffect> = said.map(|(_, _, key)| (key, NO_SCHEDULE)).collect();
    if node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true)) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let is_driven = !observed.all_away && (observed.slot == Slot::Now || drives_pods(node));
    wanted.extend(reason_to_drive(node).filter(|_| is_driven).map(|key| (key, NO_EXECUTE)));
    wanted
}

/// Why pods are to leave the node, if they are.
fn reason_to_drive(node: &Node) -> Option<&'static str> {
    match ready_status(node) {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        _ => None,
    }
}

/// Pods are driven away already, for the one reason or the other.
fn drives_pods(node: &Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.any(|taint| taint.effect == NO_EXECUTE && is_ours(taint))
}

/// Whether a slot is needed to drive the pods away.
pub(super) fn needs_slot(node: &Node) -> bool {
    reason_to_drive(node).is_some() && !drives_pods(node)
}

/// Nobody is to be sent to the pods of a node that is away: upstream `MarkPodsNotReady`.
fn mark_pods(observed: &Observed) -> Vec<Write> {
    let now = observed.attempt.now;
    let ready = observed.pods.iter().filter(|pod| is_ready(pod));
    let mark = |pod: &Arc<Pod>| Write::Patch {
        resource: ResourceType::of::<Pod>(),
        key: key_of(&pod.metadata),
        subresource: Some("status"),
        patch: Patch::Strategic(json!({
            "metadata": {"uid": pod.metadata.uid},
            "status": {"conditions":
                [{"type": "Ready", "status": "False", "lastTransitionTime": Time(now)}]},
        })),
    };
    ready.map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node with these conditions (`Kind=Status`) and taints (`key:effect`).
    fn node(conditions: &[&str], taints: &[&str]) -> Value {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|text| {
                let (kind, status) = text.split_once('=').unwrap();
                json!({"type": kind, "status": status})
            })
            .collect();
        let taints: Vec<Value> = taints
            .iter()
            .map(|text| {
                let (key, effect) = text.split_once(':').unwrap();
                let key = if key == "mine" {
                    key.to_owned()
                } else {
                    format!("node.kubernetes.io/{key}")
                };
                json!({"key": key, "effect": effect})
            })
            .collect();
        json!({"metadata": {"name": "n", "uid": "N", "resourceVersion": "7"},
            "spec": {"taints": taints}, "status": {"conditions": conditions}})
    }

    fn observed(node: Value, silent_seconds: u64) -> Observed {
        Observed {
            node: Arc::new(serde_json::from_value(node).unwrap()),
            silent_for: Duration::from_secs(silent_seconds),
            is_new: false,
            slot: Slot::Now,
            all_away: false,
            pods: Vec::new(),
            attempt: Attempt { now: "2026-11-20T12:00:00Z".parse().unwrap(), failure: None },
        }
    }

    fn render(plan: &Plan) -> Vec<String> {
        let mut lines: Vec<String> = plan
            .writes()
            .map(|write| {
                let body = write.body();
                let list = |at: &Value, fields: [&str; 2], sign: &str| -> String {
                    let all = at.as_array().into_iter().flatten().map(|it| {
                        let [key, value] = fields.map(|field| it[field].as_str().unwrap());
                        format!("{}{sign}{value}", key.trim_start_matches("node.kubernetes.io/"))
                    });
                    all.collect::<Vec<_>>().join(" ")
                };
                if body["status"].is_object() {
                    let name = &write.key().unwrap().name;
                    format!(
                        "{name}: {}",
                        list(&body["status"]["conditions"], ["type", "status"], "=")
                    )
                } else {
                    assert_eq!(body["metadata"]["resourceVersion"], "7");
                    format!("taints: {}", list(&body["spec"]["taints"], ["key", "effect"], ":"))
                }
            })
            .collect();
        lines.extend(plan.reports.iter().map(|it| format!("{}: {}", it.reason, it.message)));
        if let Some(after) = plan.recheck_after {
            lines.push(format!("again in {}", after.as_secs()));
        }
        lines
    }

    #[track_caller]
    fn check(observed: &Observed, expected: &[&str]) {
        assert_eq!(render(&plan(observed)), expected);
    }

    #[test]
    fn a_node_that_is_silent_for_too_long_is_away() {
        let ready = || node(&["Ready=True", "DiskPressure=False"], &[]);
        check(&observed(ready(), 0), &["again in 50"]);
        check(&observed(ready(), 49), &["again in 1"]);
        check(
            &observed(ready(), 50),
            &[
                "n: Ready=Unknown MemoryPressure=Unknown DiskPressure=Unknown PIDPressure=Unknown",
                "NodeNotReady: Node n status is now: NodeNotReady",
            ],
        );
        check(&observed(node(&[], &[]), 59), &["again in 1"]);
        check(
            &observed(node(&[], &[]), 60),
            &["n: Ready=Unknown MemoryPressure=Unknown DiskPressure=Unknown PIDPressure=Unknown"],
        );
        let mut new = observed(ready(), 0);
        new.is_new = true;
        check(
            &new,
            &["RegisteredNode: Node n event: Registered Node n in Controller", "again in 50"],
        );
    }

    #[test]
    fn taints_say_what_conditions_say() {
        check(
            &observed(node(&["Ready=True", "MemoryPressure=True"], &["mine:NoExecute"]), 0),
            &["taints: mine:NoExecute memory-pressure:NoSchedule", "again in 50"],
        );
        check(
            &observed(node(&["Ready=True"], &["not-ready:NoSchedule", "unreachable:NoExecute"]), 0),
            &["taints: ", "again in 50"],
        );
        let mut cordoned = node(&["Ready=True"], &[]);
        cordoned["spec"]["unschedulable"] = json!(true);
        check(&observed(cordoned, 0), &["taints: unschedulable:NoSchedule", "again in 50"]);
    }

    #[test]
    fn pods_are_driven_from_nodes_that_are_away() {
        let away = || node(&["Ready=Unknown"], &["unreachable:NoSchedule"]);
        check(&observed(away(), 100), &["taints: unreachable:NoSchedule unreachable:NoExecute"]);
        let mut later = observed(away(), 100);
        later.slot = Slot::After(Duration::from_secs(7));
        check(&later, &["again in 7"]);
        later.slot = Slot::Closed;
        check(&later, &[]);
        // From the one reason to the other at once.
        let mut worse = observed(
            node(&["Ready=Unknown"], &["not-ready:NoSchedule", "not-ready:NoExecute"]),
            100,
        );
        worse.slot = Slot::Closed;
        check(&worse, &["taints: unreachable:NoSchedule unreachable:NoExecute"]);
        // Where all are away, nobody is driven anywhere.
        worse.all_away = true;
        check(&worse, &["taints: unreachable:NoSchedule"]);
    }

    #[test]
    fn pods_of_a_node_that_is_away_are_not_ready() {
        let pod = |name: &str, ready: &str| {
            let pod = json!({"metadata": {"name": name}, "status": {"conditions":
                [{"type": "Ready", "status": ready}]}});
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let mut away = observed(
            node(&["Ready=Unknown"], &["unreachable:NoSchedule", "unreachable:NoExecute"]),
            100,
        );
        away.pods = vec![pod("a", "True"), pod("b", "False")];
        check(&away, &["a: Ready=False"]);
    }
}
