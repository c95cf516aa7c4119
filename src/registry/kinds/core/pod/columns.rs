//! How `kubectl get pods` shows a pod.
//!
//! Follows upstream `printPod` (pkg/printers/internalversion/printers.go, v1.35).

use crate::api::pod;
use crate::registry::{Column, cells};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Ready", "Containers that are ready, of all."),
    Column::text("Status", "What the containers do, or why they do not."),
    Column::text("Restarts", "How often containers have restarted, and when the last did."),
    Column::AGE,
    Column::wide("IP", "Address of the pod."),
    Column::wide("Node", "Node that the pod is bound to."),
    Column::wide("Nominated Node", "Node where room is being made for the pod."),
    Column::wide("Readiness Gates", "Conditions of the readiness gates that are true, of all."),
];

pub(super) fn row(pod: &Pod, now: Timestamp) -> Vec<Value> {
    let summary = summarize(pod);
    let status = pod.status.as_ref();
    let nominated = status.and_then(|status| status.nominated_node_name.as_deref());
    vec![
        cells::name(&pod.metadata),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        summary.restarts.text(now).into(),
        cells::age(&pod.metadata, now),
        cells::or_none(pod_ip(pod)),
        cells::or_none(pod::node_name(pod)),
        cells::or_none(nominated),
        readiness_gates(pod),
    ]
}

/// The first of the pod's addresses.
pub(super) fn pod_ip(pod: &Pod) -> Option<&str> {
    let first = pod.status.as_ref()?.pod_ips.as_ref()?.first()?;
    Some(&first.ip)
}

/// What the containers add up to.
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: Restarts,
}

#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: &ContainerStatus) {
        self.count += i64::from(container.restart_count);
        let last_end = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let ended = last_end.and_then(|ended| ended.finished_at.as_ref());
        self.last = self.last.max(ended.map(|time| time.0));
    }

    fn text(self, now: Timestamp) -> String {
        match (self.count, self.last) {
            (0, _) | (_, None) => self.count.to_string(),
            (count, Some(last)) => {
                format!("{count} ({} ago)", cells::since(Some(&Time(last)), now))
            }
        }
    }
}

fn summarize(pod: &Pod) -> Summary {
    let status = pod.status.clone().unwrap_or_default();
    let init_containers = init_containers(pod);
    let sidecars = init_containers.iter().filter(|container| pod::is_sidecar(container)).count();
    let starting = summarize_init_containers(&status, init_containers);
    let is_initialized = is_true(&status, "Initialized");
    let mut summary = Summary {
        ready: starting.ready_sidecars,
        total: pod.spec.as_ref().map_or(0, |spec| spec.containers.len()) + sidecars,
        reason: starting.reason.clone().unwrap_or_else(|| base_reason(&status)),
        restarts: starting.restarts,
    };
    if starting.reason.is_none() || is_initialized {
        summary.restarts = starting.sidecar_restarts;
        summarize_containers(&status, &mut summary);
    }
    if pod.metadata.deletion_timestamp.is_some() {
        if status.reason.as_deref() == Some("NodeLost") {
            summary.reason = "Unknown".to_owned();
        } else if !pod::is_terminal(pod) {
            summary.reason = "Terminating".to_owned();
        }
    }
    summary
}

fn init_containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default()
}

/// What is said of a pod whose containers have nothing to say.
fn base_reason(status: &PodStatus) -> String {
    let is_gated = |condition: &k8s_openapi::api::core::v1::PodCondition| {
        condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("SchedulingGated")
    };
    if status.conditions.iter().flatten().any(is_gated) {
        return "SchedulingGated".to_owned();
    }
    let reason = status.reason.clone().filter(|reason| !reason.is_empty());
    reason.or_else(|| status.phase.clone()).unwrap_or_default()
}

#[derive(Default)]
struct Starting {
    /// Why the containers cannot run yet; `None` when all init containers have done their part.
    reason: Option<String>,
    restarts: Restarts,
    sidecar_restarts: Restarts,
    ready_sidecars: usize,
}

fn summarize_init_containers(status: &PodStatus, init_containers: &[Container]) -> Starting {
    let mut starting = Starting::default();
    let sidecars: BTreeSet<_> = init_containers
        .iter()
        .filter(|spec| pod::is_sidecar(spec))
        .map(|spec| spec.name.as_str())
        .collect();
    for (index, container) in status.init_container_statuses.iter().flatten().enumerate() {
        let is_sidecar = sidecars.contains(container.name.as_str());
        starting.restarts.add(container);
        if is_sidecar {
            starting.sidecar_restarts.add(container);
        }
        let state = container.state.clone().unwrap_or_default();
        if state.terminated.as_ref().is_some_and(|ended| ended.exit_code == 0) {
            continue;
        }
        if is_sidecar && container.started == Some(true) {
            starting.ready_sidecars += usize::from(container.ready);
            continue;
        }
        let position = format!("{index}/{}", init_containers.len());
        starting.reason = Some(format!("Init:{}", init_reason(&state, position)));
        break;
    }
    starting
}

fn init_reason(state: &ContainerState, position: String) -> String {
    if let Some(ended) = &state.terminated {
        return end_reason(ended);
    }
    let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone());
    waiting.filter(|reason| !reason.is_empty() && reason != "PodInitializing").unwrap_or(position)
}

/// Why a container has ended.
fn end_reason(ended: &ContainerStateTerminated) -> String {
    match (ended.reason.as_deref().unwrap_or_default(), ended.signal.unwrap_or_default()) {
        ("", 0) => format!("ExitCode:{}", ended.exit_code),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn summarize_containers(status: &PodStatus, summary: &mut Summary) {
    let mut has_running = false;
    let mut failure = None;
    // The first container has the last word.
    for container in status.container_statuses.iter().flatten().rev() {
        summary.restarts.add(container);
        let state = container.state.clone().unwrap_or_default();
        let waiting = state.waiting.and_then(|waiting| waiting.reason);
        if let Some(reason) = waiting.filter(|reason| !reason.is_empty()) {
            summary.reason = reason;
        } else if let Some(ended) = &state.terminated {
            summary.reason = end_reason(ended);
            if ended.exit_code != 0 {
                failure = Some(summary.reason.clone());
            }
        } else if container.ready && state.running.is_some() {
            has_running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" {
        if has_running && is_true(status, "Ready") {
            summary.reason = "Running".to_owned();
        } else if let Some(failure) = failure {
            summary.reason = failure;
        } else if has_running {
            summary.reason = "NotReady".to_owned();
        }
    }
}

fn is_true(status: &PodStatus, kind: &str) -> bool {
    pod::status_condition(status, kind).is_some_and(|condition| condition.status == "True")
}

fn readiness_gates(pod: &Pod) -> Value {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref());
    let gates = gates.unwrap_or_default();
    if gates.is_empty() {
        return Value::from(cells::NONE);
    }
    let open = gates.iter().filter(|gate| {
        pod.status.as_ref().is_some_and(|status| is_true(status, &gate.condition_type))
    });
    Value::from(format!("{}/{}", open.count(), gates.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(pod: Value, expected: &str) {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let cells: Vec<_> =
            row(&pod, now).iter().map(|cell| cell.as_str().unwrap_or("?").to_owned()).collect();
        assert_eq!(cells.join(" | "), expected);
    }

    fn pod(status: Value) -> Value {
        json!({
            "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}]},
            "status": status,
        })
    }

    #[test]
    fn a_running_pod() {
        check(
            pod(json!({
                "phase": "Running", "podIPs": [{"ip": "10.42.0.5"}],
                "containerStatuses": [
                    {"name": "a", "ready": true, "restartCount": 1, "image": "", "imageID": "",
                     "state": {"running": {}},
                     "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:55:00Z"}}},
                    {"name": "b", "ready": true, "restartCount": 0, "image": "", "imageID": "",
                     "state": {"running": {}}},
                ],
            })),
            "p | 2/2 | Running | 1 (5m ago) | 60m | 10.42.0.5 | <none> | <none> | <none>",
        );
    }

    #[test]
    fn why_a_pod_does_not_run() {
        let container = |state: Value| json!({"name": "a", "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": state});
        for (state, expected) in [
            (json!({"waiting": {"reason": "ImagePullBackOff"}}), "ImagePullBackOff"),
            (json!({"terminated": {"exitCode": 3}}), "ExitCode:3"),
            (json!({"terminated": {"exitCode": 137, "signal": 9}}), "Signal:9"),
            (json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}), "OOMKilled"),
            (json!({"running": {}}), "Pending"),
        ] {
            check(
                pod(json!({"phase": "Pending", "containerStatuses": [container(state)]})),
                &format!("p | 0/2 | {expected} | 0 | 60m | <none> | <none> | <none> | <none>"),
            );
        }
    }

    #[test]
    fn a_completed_container_beside_others() {
        let ended = json!({"name": "a", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
        let running = json!({"name": "b", "ready": true, "restartCount": 0, "image": "", "imageID": "",
            "state": {"running": {}}});
        let failed = json!({"name": "b", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": {"terminated": {"exitCode": 1, "reason": "Error"}}});
        for (statuses, conditions, expected) in [
            (json!([ended, running]), json!([]), "p | 1/2 | NotReady"),
            (
                json!([ended, running]),
                json!([{"type": "Ready", "status": "True"}]),
                "p | 1/2 | Running",
            ),
            (json!([ended, failed]), json!([]), "p | 0/2 | Error"),
            (json!([ended]), json!([]), "p | 0/2 | Completed"),
        ] {
            check(
                pod(
                    json!({"phase": "Running", "containerStatuses": statuses, "conditions": conditions}),
                ),
                &format!("{expected} | 0 | 60m | <none> | <none> | <none> | <none>"),
            );
        }
    }

    #[test]
    fn init_containers_come_first() {
        let init = |state: Value| json!({"name": "i", "ready": false, "restartCount": 2, "image": "", "imageID": "", "state": state});
        for (state, expected) in [
            (json!({"running": {}}), "Init:0/1"),
            (json!({"waiting": {"reason": "PodInitializing"}}), "Init:0/1"),
            (json!({"waiting": {"reason": "CrashLoopBackOff"}}), "Init:CrashLoopBackOff"),
            (json!({"terminated": {"exitCode": 2}}), "Init:ExitCode:2"),
            (json!({"terminated": {"exitCode": 2, "reason": "Error"}}), "Init:Error"),
        ] {
            let mut pod = pod(json!({"phase": "Pending", "initContainerStatuses": [init(state)]}));
            pod["spec"]["initContainers"] = json!([{"name": "i"}]);
            check(
                pod,
                &format!("p | 0/2 | {expected} | 2 | 60m | <none> | <none> | <none> | <none>"),
            );
        }
    }

    #[test]
    fn sidecars_count_as_containers() {
        let mut pod = pod(json!({"phase": "Running", "initContainerStatuses": [
            {"name": "i", "ready": true, "started": true, "restartCount": 1, "image": "", "imageID": "", "state": {"running": {}}},
        ]}));
        pod["spec"]["initContainers"] = json!([{"name": "i", "restartPolicy": "Always"}]);
        check(pod, "p | 1/3 | Running | 1 | 60m | <none> | <none> | <none> | <none>");
    }

    #[test]
    fn a_pod_on_its_way_out() {
        let mut pod = pod(json!({"phase": "Running"}));
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:59:00Z");
        check(pod.clone(), "p | 0/2 | Terminating | 0 | 60m | <none> | <none> | <none> | <none>");
        pod["status"]["reason"] = json!("NodeLost");
        check(pod, "p | 0/2 | Unknown | 0 | 60m | <none> | <none> | <none> | <none>");
    }

    #[test]
    fn gates() {
        let mut pod = pod(json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"},
            {"type": "x", "status": "True"},
        ]}));
        pod["spec"]["readinessGates"] = json!([{"conditionType": "x"}, {"conditionType": "y"}]);
        check(pod, "p | 0/2 | SchedulingGated | 0 | 60m | <none> | <none> | <none> | 1/2");
    }
}
