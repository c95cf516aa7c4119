//! The conditions of a pod that the kubelet owns: upstream pkg/kubelet/status/generate.go (v1.35).

use super::bound::BoundPod;
use super::container_status::whole_seconds;
use super::phase::Phase;
use crate::api::pod::is_sidecar;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodCondition};

/// Whatever stands in these is what this node says.
pub(super) const OWN_CONDITIONS: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// Those of them that are there only while they hold.
pub(super) const OPTIONAL_CONDITIONS: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

/// A condition that holds, of those that are not always there.
#[derive(Clone, Debug)]
pub(super) struct Optional {
    pub(super) kind: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// What the conditions are made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Basis<'a> {
    pub(super) pod: &'a BoundPod,
    pub(super) phase: Phase,
    pub(super) init: &'a [ContainerStatus],
    pub(super) app: &'a [ContainerStatus],
    pub(super) sandbox_ready: bool,
    pub(super) optional: &'a [Optional],
    /// The conditions that were there before.
    pub(super) last: &'a [PodCondition],
    pub(super) now: Timestamp,
}

/// A condition without its times.
struct Verdict {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn yes() -> Self {
        Self { holds: true, reason: None, message: None }
    }

    fn no(reason: &'static str) -> Self {
        Self { holds: false, reason: Some(reason), message: None }
    }
}

/// What others have set, as it is, and then the kubelet's own.
pub(super) fn conditions(basis: &Basis<'_>) -> Vec<PodCondition> {
    let status = basis.pod.object().status.as_ref();
    let in_api = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is_own = |kind: &str| OWN_CONDITIONS.contains(&kind) || OPTIONAL_CONDITIONS.contains(&kind);
    let is_said = |kind: &str| basis.optional.iter().any(|optional| optional.kind == kind);
    let others = in_api.iter().filter(|it| !is_own(&it.type_) && !is_said(&it.type_));
    let mut conditions: Vec<_> = others.cloned().collect();
    let sandbox = Verdict { holds: basis.sandbox_ready, reason: None, message: None };
    let own = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized(basis)),
        ("Ready", ready(basis, &conditions)),
        ("ContainersReady", containers_ready(basis)),
        ("PodScheduled", Verdict::yes()),
    ];
    conditions.extend(own.into_iter().map(|(kind, verdict)| timed(basis, kind, verdict)));
    conditions.extend(basis.optional.iter().map(|optional| {
        let message = Some(optional.message.clone()).filter(|message| !message.is_empty());
        let reason = Some(optional.reason).filter(|reason| !reason.is_empty());
        timed(basis, optional.kind, Verdict { reason, message, ..Verdict::yes() })
    }));
    conditions
}

/// With the time of its last change.
fn timed(basis: &Basis<'_>, kind: &str, verdict: Verdict) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let before = basis.last.iter().find(|it| it.type_ == kind && it.status == status);
    let since = before.and_then(|before| before.last_transition_time.clone());
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        observed_generation: basis.pod.generation(),
        last_transition_time: Some(since.unwrap_or_else(|| whole_seconds(basis.now))),
        last_probe_time: None,
    }
}

fn containers_ready(basis: &Basis<'_>) -> Verdict {
    let mut unknown = Vec::new();
    let mut unready = Vec::new();
    let sidecars = basis.pod.init_containers().iter().filter(|container| is_sidecar(container));
    let asked = sidecars
        .map(|container| (container, basis.init))
        .chain(basis.pod.containers().iter().map(|container| (container, basis.app)));
    for (container, statuses) in asked {
        match of(statuses, container) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !status.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    match basis.phase {
        Phase::Succeeded if unknown.is_empty() => return Verdict::no("PodCompleted"),
        Phase::Failed => return Verdict::no("PodFailed"),
        _ => {}
    }
    match problems(&unknown, "unready", &unready) {
        None => Verdict::yes(),
        message => Verdict { message, ..Verdict::no("ContainersNotReady") },
    }
}

fn ready(basis: &Basis<'_>, others: &[PodCondition]) -> Verdict {
    let containers = containers_ready(basis);
    if !containers.holds {
        return containers;
    }
    let gates = basis.pod.spec().readiness_gates.as_deref().unwrap_or_default();
    let closed: Vec<_> = gates
        .iter()
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            let condition = others.iter().find(|condition| condition.type_ == *kind);
            match condition.map(|condition| condition.status.as_str()) {
                Some("True") => None,
                Some(status) => Some(format!(
                    "the status of pod readiness gate {kind:?} is not \"True\", but {status}"
                )),
                None => Some(format!(
                    "corresponding condition of pod readiness gate {kind:?} does not exist."
                )),
            }
        })
        .collect();
    if closed.is_empty() {
        return Verdict::yes();
    }
    Verdict { message: Some(closed.join(", ")), ..Verdict::no("ReadinessGatesNotReady") }
}

fn initialized(basis: &Basis<'_>) -> Verdict {
    let mut unknown = Vec::new();
    let mut incomplete = Vec::new();
    for container in basis.pod.init_containers() {
        let Some(status) = of(basis.init, container) else {
            unknown.push(container.name.as_str());
            continue;
        };
        let passed =
            if is_sidecar(container) { status.started == Some(true) } else { status.ready };
        if !passed {
            incomplete.push(container.name.as_str());
        }
    }
    if basis.phase == Phase::Succeeded && unknown.is_empty() {
        return Verdict { reason: Some("PodCompleted"), ..Verdict::yes() };
    }
    let any_ran = basis.app.iter().filter_map(|status| status.state.as_ref());
    if any_ran.into_iter().any(|state| state.running.is_some() || state.terminated.is_some()) {
        return Verdict::yes();
    }
    match problems(&unknown, "incomplete", &incomplete) {
        None => Verdict::yes(),
        message => Verdict { message, ..Verdict::no("ContainersNotInitialized") },
    }
}

fn of<'a>(statuses: &'a [ContainerStatus], container: &Container) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|status| status.name == container.name)
}

/// In upstream's words, with lists as Go prints them.
fn problems(unknown: &[&str], word: &str, others: &[&str]) -> Option<String> {
    let mut parts = Vec::new();
    for (names, word) in [(unknown, "unknown"), (others, word)] {
        if !names.is_empty() {
            parts.push(format!("containers with {word} status: [{}]", names.join(" ")));
        }
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}
