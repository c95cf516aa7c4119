//! What the runtime knows of one pod.

use crate::kubelet::pod::BoundPod;
use crate::runtime::{
    ContainerId, ContainerState, ContainerStatus, ImageId, LinuxResources, SandboxId, SandboxState,
    SandboxStatus,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A container of this pod, now or before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerFacts {
    pub status: ContainerStatus,
    /// What it left at its termination message path, or the end of its log.
    pub termination_message: String,
    /// The runtime does not know it any more, only the API does: after a reboot, for example.
    pub lost: bool,
}

impl ContainerFacts {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.status.name
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.status.state, ContainerState::Running { .. })
    }

    /// Made and not started. Making and starting are one step of the worker, so that whoever
    /// looks and finds this knows that a crash or a failure came between.
    #[must_use]
    pub fn is_left_over(&self) -> bool {
        self.status.state == ContainerState::Created
    }

    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self.status.state {
            ContainerState::Exited { exit_code, .. } => Some(exit_code),
            ContainerState::Created | ContainerState::Running { .. } => None,
        }
    }

    #[must_use]
    pub fn finished_at(&self) -> Option<Timestamp> {
        match self.status.state {
            ContainerState::Exited { finished_at, .. } => Some(finished_at),
            ContainerState::Created | ContainerState::Running { .. } => None,
        }
    }
}

/// The sandboxes and containers of one pod, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    sandboxes: Vec<SandboxStatus>,
    containers: Vec<ContainerFacts>,
}

impl PodFacts {
    #[must_use]
    pub fn new(mut sandboxes: Vec<SandboxStatus>, mut containers: Vec<ContainerFacts>) -> Self {
        sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.attempt, sandbox.created_at)));
        containers.sort_by_key(|container| {
            std::cmp::Reverse((container.status.attempt, container.status.created_at))
        });
        Self { sandboxes, containers }
    }

    /// The newest sandbox.
    #[must_use]
    pub fn sandbox(&self) -> Option<&SandboxStatus> {
        self.sandboxes.first()
    }

    /// The newest sandbox, where containers can start in it.
    #[must_use]
    pub fn ready_sandbox(&self) -> Option<&SandboxStatus> {
        self.sandbox().filter(|sandbox| sandbox.state == SandboxState::Ready)
    }

    #[must_use]
    pub fn sandboxes(&self) -> &[SandboxStatus] {
        &self.sandboxes
    }

    #[must_use]
    pub fn containers(&self) -> &[ContainerFacts] {
        &self.containers
    }

    /// The newest container of that name.
    #[must_use]
    pub fn latest(&self, name: &str) -> Option<&ContainerFacts> {
        self.of(name).next()
    }

    /// The one before the newest.
    #[must_use]
    pub fn previous(&self, name: &str) -> Option<&ContainerFacts> {
        self.of(name).nth(1)
    }

    /// All containers of that name, the newest first.
    pub fn of(&self, name: &str) -> impl Iterator<Item = &ContainerFacts> {
        self.containers.iter().filter(move |container| container.name() == name)
    }

    /// Containers that run, the newest first.
    pub fn running(&self) -> impl Iterator<Item = &ContainerFacts> {
        self.containers.iter().filter(|container| container.is_running())
    }

    /// Adds what only the API knows: containers that ran once and that the runtime has lost. They
    /// count as ended with 137, so that a pod that runs once does not run twice. (Upstream's
    /// runtimes keep their records over a reboot; `convertToAPIContainerStatuses` infers the same.)
    #[must_use]
    pub fn with_lost(mut self, pod: &BoundPod, last: &core::PodStatus, now: Timestamp) -> Self {
        let statuses = [
            &last.init_container_statuses,
            &last.container_statuses,
            &last.ephemeral_container_statuses,
        ];
        for status in statuses.into_iter().flatten().flatten() {
            if self.latest(&status.name).is_none() {
                self.containers.extend(lost(pod, status, now));
            }
        }
        self
    }
}

/// The container that a status tells of, as if it had just been found dead. `None` where it never
/// ran.
fn lost(pod: &BoundPod, status: &core::ContainerStatus, now: Timestamp) -> Option<ContainerFacts> {
    let current = status.state.as_ref()?;
    let previous = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let (id, state) = match (&current.running, current.terminated.as_ref().or(previous)) {
        (Some(running), _) => {
            let started_at = running.started_at.as_ref().map(|time| time.0);
            (status.container_id.as_deref(), lost_state(started_at, now))
        }
        (None, Some(terminated)) => (terminated.container_id.as_deref(), ended(terminated, now)),
        (None, None) => return None,
    };
    let id = id.and_then(|id| id.split_once("://")).map_or("", |(_runtime, id)| id);
    let status = ContainerStatus {
        id: ContainerId(id.to_owned()),
        sandbox: SandboxId(String::new()),
        pod: pod.identity().clone(),
        name: status.name.clone(),
        attempt: u32::try_from(status.restart_count).unwrap_or_default(),
        state,
        created_at: Timestamp::UNIX_EPOCH,
        image: ImageId(String::new()),
        image_reference: String::new(),
        log_path: PathBuf::new(),
        resources: LinuxResources::default(),
        user: None,
        labels: BTreeMap::new(),
    };
    Some(ContainerFacts { status, termination_message: String::new(), lost: true })
}

fn ended(terminated: &core::ContainerStateTerminated, now: Timestamp) -> ContainerState {
    ContainerState::Exited {
        exit_code: terminated.exit_code,
        oom_killed: terminated.reason.as_deref() == Some("OOMKilled"),
        started_at: terminated.started_at.as_ref().map(|time| time.0),
        finished_at: terminated.finished_at.as_ref().map_or(now, |time| time.0),
        message: String::new(),
    }
}

fn lost_state(started_at: Option<Timestamp>, now: Timestamp) -> ContainerState {
    ContainerState::Exited {
        // 128 + SIGKILL, as upstream reports it.
        exit_code: 137,
        oom_killed: false,
        started_at,
        finished_at: now,
        message: "The container could not be located when the pod was terminated".to_owned(),
    }
}
