//! What to report of a pod: upstream `generateAPIPodStatus` (pkg/kubelet/kubelet_pods.go, v1.35)
//! and the rules of its status manager (pkg/kubelet/status/status_manager.go). Pure.
//!
//! Start at [`status()`]; [`patch()`](super::patch::patch) says what has to be written then.

use super::bound::BoundPod;
use super::conditions::{Basis, Optional, conditions};
use super::container_status::{Group, statuses, whole_seconds};
use super::facts::PodFacts;
use super::phase::{Phase, Statuses, phase};
use super::plan::{Ending, Waiting};
use super::probes::Probes;
use super::resize::{Denied, in_sync};
use crate::api::pod::{is_sidecar, qos_class};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, HostIP, PodIP, PodStatus,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Everything [`status()`] may look at.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    pub pod: &'a BoundPod,
    pub facts: &'a PodFacts,
    /// The last status that this node has reported or the API had: what stays the same is taken
    /// from it.
    pub last: &'a PodStatus,
    /// Why containers that should start have not, by name.
    pub waiting: &'a BTreeMap<String, Waiting>,
    pub probes: &'a Probes,
    /// Of the sandbox, the primary one first.
    pub addresses: &'a [IpAddr],
    pub node_addresses: &'a [IpAddr],
    /// Why the pod ends, where it does, and whether nothing of it runs any more.
    pub ending: Option<(&'a Ending, bool)>,
    pub resize: ResizeNews<'a>,
    pub now: Timestamp,
}

/// How the pod's resize goes, where it has one.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResizeNews<'a> {
    /// It asks for what it is not granted.
    pub denied: Option<&'a Denied>,
    /// What it was granted could not be given to it.
    pub error: Option<&'a str>,
}

/// What to report.
#[must_use]
pub fn status(inputs: &Inputs<'_>) -> PodStatus {
    let mut init = statuses(inputs, Group::Init);
    let mut app = statuses(inputs, Group::App);
    let ephemeral = statuses(inputs, Group::Ephemeral);
    let over = matches!(inputs.ending, Some((_, true)));
    if over {
        end_all(inputs, &mut init, &mut app);
    }
    let (phase, reason, message) = phase_of(inputs, &init, &app);
    let on_network = inputs.pod.uses_node_network() || !inputs.addresses.is_empty();
    let optional = optional(inputs);
    let basis = Basis {
        optional: &optional,
        pod: inputs.pod,
        phase,
        init: &init,
        app: &app,
        sandbox_ready: inputs.facts.ready_sandbox().is_some() && on_network,
        last: inputs.last.conditions.as_deref().unwrap_or_default(),
        now: inputs.now,
    };
    let conditions = conditions(&basis);
    let (pod_ips, host_ips) = addresses(inputs);
    let start_time = inputs.last.start_time.clone();
    PodStatus {
        phase: Some(phase.as_str().to_owned()),
        reason,
        message,
        conditions: Some(conditions),
        container_statuses: Some(app),
        init_container_statuses: (!init.is_empty()).then_some(init),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        pod_ip: pod_ips.first().map(|it| it.ip.clone()),
        pod_ips: (!pod_ips.is_empty()).then_some(pod_ips),
        host_ip: host_ips.first().map(|it| it.ip.clone()),
        host_ips: (!host_ips.is_empty()).then_some(host_ips),
        qos_class: Some(qos_class(inputs.pod.spec()).as_str().to_owned()),
        start_time: start_time.or_else(|| Some(whole_seconds(inputs.now))),
        observed_generation: inputs.pod.generation().max(inputs.last.observed_generation),
        // What others own is theirs to say: see `patch`.
        ..PodStatus::default()
    }
}

/// The conditions that are there only while they hold.
fn optional(inputs: &Inputs<'_>) -> Vec<Optional> {
    let mut optional = Vec::new();
    if let Some((Ending::Failed { disruption: Some(message), .. }, _)) = inputs.ending {
        let (reason, message) = ("TerminationByKubelet", message.clone());
        optional.push(Optional { kind: "DisruptionTarget", reason, message });
    }
    if inputs.ending.is_some() {
        return optional;
    }
    if let Some(denied) = inputs.resize.denied {
        let (reason, message) = (denied.reason, denied.message.clone());
        optional.push(Optional { kind: "PodResizePending", reason, message });
    }
    let pod = inputs.pod;
    let sidecars = pod.init_containers().iter().filter(|container| is_sidecar(container));
    let under_way = sidecars.chain(pod.containers()).any(|container| {
        let latest = inputs.facts.latest(&container.name);
        latest.is_some_and(|latest| latest.is_running() && !in_sync(pod, container, latest))
    });
    if under_way {
        let message = inputs.resize.error.unwrap_or_default().to_owned();
        let reason = if message.is_empty() { "" } else { "Error" };
        optional.push(Optional { kind: "PodResizeInProgress", reason, message });
    }
    optional
}

/// Phase, reason and message. A phase that is the last one is reported only when nothing runs any
/// more (upstream `mergePodStatus`), and once reported it stays.
fn phase_of(
    inputs: &Inputs<'_>,
    init: &[ContainerStatus],
    app: &[ContainerStatus],
) -> (Phase, Option<String>, Option<String>) {
    let last = match inputs.last.phase.as_deref() {
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        Some("Running") => Phase::Running,
        _ => Phase::Pending,
    };
    let kept = |phase| (phase, inputs.last.reason.clone(), inputs.last.message.clone());
    if last.is_terminal() {
        return kept(last);
    }
    let app_runs = inputs.pod.containers().iter().any(|container| {
        inputs.facts.latest(&container.name).is_some_and(|latest| latest.is_running())
    });
    let over = matches!(inputs.ending, Some((_, true)));
    let computed = phase(inputs.pod, Statuses { init, app }, over, app_runs);
    match inputs.ending {
        Some((Ending::Failed { reason, message, .. }, true)) => {
            (Phase::Failed, Some(reason.to_string()), Some(message.clone()))
        }
        // Upstream `TerminatePod`: a pod that ends without an outcome has failed.
        Some((_, true)) if !computed.is_terminal() => (Phase::Failed, None, None),
        Some((_, true)) => (computed, None, None),
        _ if computed.is_terminal() => kept(last),
        _ if computed == last => kept(last),
        _ => (computed, None, None),
    }
}

/// A pod that is over has no container that waits: what never ran, or was not seen to end, counts
/// as failed once the pod was initialized (upstream `TerminatePod`).
fn end_all(inputs: &Inputs<'_>, init: &mut [ContainerStatus], app: &mut [ContainerStatus]) {
    let ran = |statuses: &[ContainerStatus]| {
        let has_run = |status: &ContainerStatus| {
            status.state.as_ref().is_some_and(|state| state.waiting.is_none())
                || status.last_state.as_ref().is_some_and(|state| state.terminated.is_some())
        };
        statuses.iter().rposition(has_run)
    };
    let initialized = ran(app).is_some();
    let init_reached = if initialized { init.len() } else { ran(init).map_or(0, |last| last + 1) };
    let app_reached = if initialized { app.len() } else { 0 };
    for status in init[..init_reached].iter_mut().chain(&mut app[..app_reached]) {
        let terminated = status.state.as_ref().and_then(|state| state.terminated.as_ref());
        if terminated.is_none() {
            status.state = Some(located_nowhere());
            status.ready = false;
            status.started = Some(false);
        }
    }
    debug_assert!(inputs.facts.running().next().is_none(), "over means that nothing runs");
}

fn located_nowhere() -> ContainerState {
    let terminated = ContainerStateTerminated {
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some("The container could not be located when the pod was terminated".to_owned()),
        ..ContainerStateTerminated::default()
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

/// The pod's addresses and the node's. A pod that ends keeps the ones it had.
fn addresses(inputs: &Inputs<'_>) -> (Vec<PodIP>, Vec<HostIP>) {
    let host_ips: Vec<_> =
        inputs.node_addresses.iter().map(|ip| HostIP { ip: ip.to_string() }).collect();
    let last = inputs.last.pod_ips.clone().unwrap_or_default();
    let shown = |addresses: &[IpAddr]| -> Vec<PodIP> {
        addresses.iter().map(|ip| PodIP { ip: ip.to_string() }).collect()
    };
    let pod_ips = if inputs.pod.uses_node_network() {
        if last.is_empty() { shown(inputs.node_addresses) } else { last }
    } else if inputs.addresses.is_empty() && inputs.ending.is_some() {
        last
    } else {
        shown(inputs.addresses)
    };
    (pod_ips, host_ips)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
