//! What a pod's status says of each of its containers: upstream `convertToAPIContainerStatuses`
//! (pkg/kubelet/kubelet_pods.go, v1.35) and `UpdatePodStatus` (pkg/kubelet/prober).

use super::bound::restarts;
use super::facts::ContainerFacts;
use super::probes::ProbeKind;
use super::resize::in_sync;
use super::status::Inputs;
use crate::api::pod::is_sidecar;
use crate::runtime::{ContainerState as RuntimeState, ContainerUser as Identity, RUNTIME_NAME};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, LinuxContainerUser,
    ResourceRequirements, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The label of a container that holds the image's name with its digest, as statuses show it.
pub const IMAGE_ID_LABEL: &str = "kinglet.io/image-id";
/// The label of a container that holds the image's own name, as statuses show it.
pub const IMAGE_NAME_LABEL: &str = "kinglet.io/image-name";

/// All termination messages of one pod together: upstream `MaxPodTerminationMessageLogLength`.
/// Longer ones are cut.
const TERMINATION_MESSAGES_BYTES_MAX: usize = 12 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Init,
    App,
    Ephemeral,
}

/// The statuses of the containers of a group, in the order in which upstream lists them: init
/// containers as in the spec, others by name.
pub(super) fn statuses(inputs: &Inputs<'_>, group: Group) -> Vec<ContainerStatus> {
    let (containers, old) = match group {
        Group::Init => (inputs.pod.init_containers(), &inputs.last.init_container_statuses),
        Group::App => (inputs.pod.containers(), &inputs.last.container_statuses),
        Group::Ephemeral => {
            (inputs.pod.ephemeral_containers(), &inputs.last.ephemeral_container_statuses)
        }
    };
    let old = old.as_deref().unwrap_or_default();
    let mut statuses: Vec<_> = containers
        .iter()
        .map(|container| {
            let old = old.iter().find(|status| status.name == container.name);
            one(inputs, container, old, group)
        })
        .collect();
    if group != Group::Init {
        statuses.sort_by(|left, right| left.name.cmp(&right.name));
    }
    statuses
}

fn one(
    inputs: &Inputs<'_>,
    container: &Container,
    old: Option<&ContainerStatus>,
    group: Group,
) -> ContainerStatus {
    let mut status = match inputs.facts.latest(&container.name) {
        Some(latest) => from_facts(inputs, container, latest, old),
        None => never_ran(inputs, container, old),
    };
    if let Some(waiting) = inputs.waiting.get(&container.name)
        && starts_again(inputs, container, group)
    {
        let state = status.state.take().unwrap_or_default();
        if state.terminated.is_some() {
            status.last_state = Some(state);
        }
        let message = Some(waiting.message.clone()).filter(|message| !message.is_empty());
        status.state = Some(waiting_state(waiting.reason, message));
    }
    set_readiness(inputs, container, group, &mut status);
    status
}

/// Whether a reason to wait is what its status should show, or its end: upstream
/// `ShouldContainerBeRestarted`.
fn starts_again(inputs: &Inputs<'_>, container: &Container, group: Group) -> bool {
    if inputs.pod.is_deleted() || inputs.ending.is_some() {
        return false;
    }
    let Some(latest) = inputs.facts.latest(&container.name) else {
        return true;
    };
    match latest.exit_code() {
        None => !latest.is_running(),
        Some(_) if group == Group::Ephemeral => false,
        Some(0) if group == Group::Init && !is_sidecar(container) => false,
        Some(exit_code) => restarts(container, inputs.pod.restart_policy(), exit_code),
    }
}

fn from_facts(
    inputs: &Inputs<'_>,
    container: &Container,
    latest: &ContainerFacts,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let facts = &latest.status;
    let label = |name: &str| facts.labels.get(name).filter(|value| !value.is_empty()).cloned();
    let previous = inputs.facts.previous(&container.name);
    let kept = old.and_then(|old| old.last_state.clone());
    let lost_text = |text: fn(&ContainerStatus) -> &String| {
        old.filter(|_| latest.lost).map(text).cloned().unwrap_or_default()
    };
    let image = label(IMAGE_NAME_LABEL).unwrap_or_else(|| match latest.lost {
        true => lost_text(|old| &old.image),
        false => facts.image_reference.clone(),
    });
    let image_id = label(IMAGE_ID_LABEL).unwrap_or_else(|| match latest.lost {
        true => lost_text(|old| &old.image_id),
        false => facts.image.0.clone(),
    });
    let state = state(inputs, latest);
    let state = match old.and_then(|old| old.state.as_ref()) {
        // What was lost long ago keeps the times that it had when that was seen.
        Some(old) if latest.lost && old.terminated.is_some() => old.clone(),
        _ => state,
    };
    ContainerStatus {
        name: container.name.clone(),
        container_id: container_id(latest),
        image,
        image_id,
        restart_count: i32::try_from(facts.attempt).unwrap_or(i32::MAX),
        last_state: Some(
            previous.map(|previous| self::state(inputs, previous)).or(kept).unwrap_or_default(),
        ),
        state: Some(state),
        resources: Some(resources(inputs, container, latest, old)),
        allocated_resources: container.resources.as_ref().and_then(|it| it.requests.clone()),
        volume_mounts: volume_mounts(container),
        user: facts.user.as_ref().map(user),
        ..ContainerStatus::default()
    }
}

/// Who its first process is (upstream `convertToAPIContainerStatuses`).
fn user(user: &Identity) -> ContainerUser {
    let linux = LinuxContainerUser {
        uid: user.uid.into(),
        gid: user.gid.into(),
        supplemental_groups: Some(user.groups.iter().map(|gid| i64::from(*gid)).collect()),
    };
    ContainerUser { linux: Some(linux) }
}

/// What a container has. One that runs and is not there yet has what it was said to have.
fn resources(
    inputs: &Inputs<'_>,
    container: &Container,
    latest: &ContainerFacts,
    old: Option<&ContainerStatus>,
) -> ResourceRequirements {
    let known = old.filter(|old| old.container_id == container_id(latest));
    let known = known.and_then(|old| old.resources.clone());
    let is_there = !latest.is_running() || in_sync(inputs.pod, container, latest);
    let granted = container.resources.clone().unwrap_or_default();
    if is_there { granted } else { known.unwrap_or(granted) }
}

fn container_id(facts: &ContainerFacts) -> Option<String> {
    let id = &facts.status.id;
    (!id.0.is_empty()).then(|| format!("{RUNTIME_NAME}://{id}"))
}

fn never_ran(
    inputs: &Inputs<'_>,
    container: &Container,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let reason = if inputs.pod.init_containers().is_empty() {
        "ContainerCreating"
    } else {
        "PodInitializing"
    };
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(waiting_state(reason, None)),
        last_state: Some(old.and_then(|old| old.last_state.clone()).unwrap_or_default()),
        restart_count: old.map_or(0, |old| old.restart_count),
        volume_mounts: volume_mounts(container),
        ..ContainerStatus::default()
    }
}

fn waiting_state(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn state(inputs: &Inputs<'_>, facts: &ContainerFacts) -> ContainerState {
    match &facts.status.state {
        RuntimeState::Created => {
            let waiting = Some(ContainerStateWaiting::default());
            ContainerState { waiting, ..ContainerState::default() }
        }
        RuntimeState::Running { started_at, .. } => {
            let running = ContainerStateRunning { started_at: Some(whole_seconds(*started_at)) };
            ContainerState { running: Some(running), ..ContainerState::default() }
        }
        RuntimeState::Exited { exit_code, started_at, finished_at, message, .. } => {
            let message = [message.as_str(), facts.termination_message.as_str()];
            let message: Vec<_> = message.into_iter().filter(|text| !text.is_empty()).collect();
            let message = cut(&message.join(": "), message_bytes_max(inputs)).to_owned();
            let terminated = ContainerStateTerminated {
                exit_code: *exit_code,
                reason: Some(exit_reason(facts).to_owned()),
                message: Some(message).filter(|message| !message.is_empty()),
                started_at: started_at.map(whole_seconds),
                finished_at: Some(whole_seconds(*finished_at)),
                container_id: container_id(facts),
                signal: None,
            };
            ContainerState { terminated: Some(terminated), ..ContainerState::default() }
        }
    }
}

fn exit_reason(facts: &ContainerFacts) -> &'static str {
    match &facts.status.state {
        _ if facts.lost => "ContainerStatusUnknown",
        RuntimeState::Exited { oom_killed: true, .. } => "OOMKilled",
        RuntimeState::Exited { started_at: None, .. } => "ContainerCannotRun",
        RuntimeState::Exited { exit_code: 0, .. } => "Completed",
        RuntimeState::Exited { .. } | RuntimeState::Created | RuntimeState::Running { .. } => {
            "Error"
        }
    }
}

fn message_bytes_max(inputs: &Inputs<'_>) -> usize {
    let containers = inputs.pod.init_containers().len() + inputs.pod.containers().len();
    TERMINATION_MESSAGES_BYTES_MAX / containers.max(1)
}

/// The beginning of a text, `bytes_max` bytes at most.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// The API's times have whole seconds; anything finer would look like a change each time.
pub(super) fn whole_seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref()?;
    let status = mounts.iter().map(|mount| {
        let read_only = mount.read_only == Some(true);
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: read_only.then_some(true),
            recursive_read_only: read_only.then(|| {
                // Where the kernel cannot, the container is not made.
                let is_recursive = mount.recursive_read_only.as_deref() == Some("Enabled");
                if is_recursive { "Enabled" } else { "Disabled" }.to_owned()
            }),
        }
    });
    Some(status.collect())
}

fn set_readiness(
    inputs: &Inputs<'_>,
    container: &Container,
    group: Group,
    status: &mut ContainerStatus,
) {
    if group == Group::Ephemeral {
        // Nobody asks whether they are ready.
        return;
    }
    let running = inputs.facts.latest(&container.name).filter(|latest| latest.is_running());
    let id = running.map(|latest| &latest.status.id);
    let started = id.is_some_and(|id| inputs.probes.has_started(id));
    status.started = Some(started);
    status.ready = if group == Group::Init && !is_sidecar(container) {
        let ended = status.state.as_ref().and_then(|state| state.terminated.as_ref());
        ended.is_some_and(|terminated| terminated.exit_code == 0)
    } else {
        started && id.is_some_and(|id| inputs.probes.passes(id, ProbeKind::Readiness))
    };
}
