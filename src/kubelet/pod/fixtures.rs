//! Pods, statuses and facts for the tables of this module's tests.

use super::bound::BoundPod;
use super::facts::{ContainerFacts, PodFacts};
use crate::runtime::{
    ContainerId, ContainerState as RuntimeState, ContainerStatus as RuntimeStatus, ImageId,
    LinuxResources, PodIdentity, SandboxId, SandboxState, SandboxStatus,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, Pod, PodSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

pub(in crate::kubelet) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Containers named with a leading `+` are sidecars.
fn containers(names: &[String]) -> Vec<Container> {
    let container = |name: &String| Container {
        name: name.trim_start_matches('+').to_owned(),
        image: Some("web:1".to_owned()),
        restart_policy: name.starts_with('+').then(|| "Always".to_owned()),
        ..Container::default()
    };
    names.iter().map(container).collect()
}

pub(in crate::kubelet) fn object(policy: &str, init: &[String], app: &[String]) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some("web".to_owned()),
            namespace: Some("default".to_owned()),
            uid: Some("u1".to_owned()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            restart_policy: Some(policy.to_owned()),
            termination_grace_period_seconds: Some(30),
            init_containers: Some(containers(init)),
            containers: containers(app),
            ..PodSpec::default()
        }),
        status: None,
    }
}

pub(in crate::kubelet) fn pod(policy: &str, init: &[String], app: &[String]) -> BoundPod {
    bound(object(policy, init, app))
}

pub(in crate::kubelet) fn bound(object: Pod) -> BoundPod {
    BoundPod::read(Arc::new(object)).unwrap()
}

pub(in crate::kubelet) fn names(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn status(name: &str, state: ContainerState) -> ContainerStatus {
    ContainerStatus { name: name.to_owned(), state: Some(state), ..ContainerStatus::default() }
}

pub(in crate::kubelet) fn running(name: &str) -> ContainerStatus {
    let running = Some(ContainerStateRunning::default());
    status(name, ContainerState { running, ..ContainerState::default() })
}

pub(in crate::kubelet) fn ended(name: &str, exit_code: i32) -> ContainerStatus {
    let terminated = ContainerStateTerminated { exit_code, ..Default::default() };
    let terminated = Some(terminated);
    status(name, ContainerState { terminated, ..ContainerState::default() })
}

pub(in crate::kubelet) fn waiting(name: &str) -> ContainerStatus {
    let waiting = Some(ContainerStateWaiting::default());
    status(name, ContainerState { waiting, ..ContainerState::default() })
}

/// Waiting after it ended.
pub(in crate::kubelet) fn waiting_after(name: &str, exit_code: i32) -> ContainerStatus {
    ContainerStatus { last_state: ended(name, exit_code).state, ..waiting(name) }
}

pub(in crate::kubelet) fn sandbox(attempt: u32, state: SandboxState) -> SandboxStatus {
    SandboxStatus {
        id: SandboxId(format!("s{attempt}")),
        pod: PodIdentity::default(),
        attempt,
        state,
        created_at: at(i64::from(attempt)),
        network_namespace: Some(PathBuf::from("/run/netns/x")),
        labels: BTreeMap::new(),
        addresses: vec![],
    }
}

/// What the runtime knows, from words: `s0` is a ready sandbox and `s0!` a lost one;
/// `a:0@s0=run`, `a:0@s0=created`, `a:0@s0=exit1` are containers with name, attempt, sandbox and
/// state. They run and end at second 1,000 unless another follows: `exit1/990`.
pub(in crate::kubelet) fn facts(text: &str) -> PodFacts {
    let mut sandboxes = Vec::new();
    let mut containers = Vec::new();
    for word in text.split_whitespace() {
        match word.split_once('=') {
            Some((container, state)) => containers.push(container_facts(container, state)),
            None => {
                let state = match word.ends_with('!') {
                    true => SandboxState::NotReady,
                    false => SandboxState::Ready,
                };
                let attempt = word.trim_matches(['s', '!']).parse().unwrap();
                sandboxes.push(sandbox(attempt, state));
            }
        }
    }
    PodFacts::new(sandboxes, containers)
}

impl PodFacts {
    /// Has the containers of that name run with these limits.
    pub(in crate::kubelet) fn give(&mut self, name: &str, resources: LinuxResources) {
        let containers = self.containers().to_vec().into_iter().map(|mut container| {
            if container.name() == name {
                container.status.resources = resources.clone();
            }
            container
        });
        *self = PodFacts::new(self.sandboxes().to_vec(), containers.collect());
    }
}

fn container_facts(container: &str, state: &str) -> ContainerFacts {
    let (name, rest) = container.split_once(':').unwrap();
    let (attempt, sandbox) = rest.split_once('@').unwrap();
    let (state, second) = state.split_once('/').unwrap_or((state, "1000"));
    let second = at(second.parse().unwrap());
    let state = match state.strip_prefix("exit") {
        None if state == "run" => RuntimeState::Running { pid: 7, started_at: second },
        None => RuntimeState::Created,
        Some(code) => RuntimeState::Exited {
            exit_code: code.parse().unwrap(),
            oom_killed: false,
            started_at: Some(second),
            finished_at: second,
            message: String::new(),
        },
    };
    ContainerFacts {
        status: RuntimeStatus {
            id: ContainerId(format!("{name}{attempt}")),
            sandbox: SandboxId(sandbox.to_owned()),
            pod: PodIdentity::default(),
            name: name.to_owned(),
            attempt: attempt.parse().unwrap(),
            state,
            created_at: second,
            image: ImageId("sha256:1".to_owned()),
            image_reference: "web:1".to_owned(),
            log_path: PathBuf::new(),
            resources: LinuxResources { cpu_shares: Some(2), ..LinuxResources::default() },
            user: None,
            labels: BTreeMap::new(),
        },
        termination_message: String::new(),
        lost: false,
    }
}
