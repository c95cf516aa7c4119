//! A container runtime and a pod network that live in memory: containers that run, end on command
//! and refuse, for tests of whoever drives them.
//!
//! Start at [`FakeRuntime`]. It outlives the kubelets that use it, as shims outlive kinglet.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "every suite uses its own part of this")]

use futures_util::future::BoxFuture;
use ipnet::IpNet;
use jiff::Timestamp;
use kinglet::network::{Attachment, NetworkError, PodNetwork};
use kinglet::runtime::{
    ContainerConfig, ContainerId, ContainerState, ContainerStatus, ContainerUser, Credentials,
    ExecResult, ImageId, ImageStatus, LinuxResources, PodIdentity, PullError, Runtime,
    RuntimeError, RuntimeEvent, SandboxConfig, SandboxId, SandboxState, SandboxStatus, Usage,
};
use kinglet::stdx::Clock;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Exit codes of processes that a signal ended.
pub(crate) const TERMINATED: i32 = 143;
pub(crate) const KILLED: i32 = 137;

/// What a container does with the signal that asks it to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnTerm {
    #[default]
    Exits,
    Ignores,
}

#[derive(Debug)]
struct FakeContainer {
    status: ContainerStatus,
    config: ContainerConfig,
    ended: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    sandboxes: BTreeMap<SandboxId, (SandboxConfig, SandboxStatus)>,
    containers: BTreeMap<ContainerId, FakeContainer>,
    images: BTreeMap<String, ImageStatus>,
    /// Those above the pods'.
    cgroups: BTreeMap<String, LinuxResources>,
    /// What all pods together use.
    pods_usage: Option<Usage>,
    /// What a registry would give.
    registry: BTreeSet<String>,
    /// The credentials of each pull.
    pulls: Vec<(String, Vec<Credentials>)>,
    on_term: BTreeMap<String, OnTerm>,
    /// What commands that were given an exit code end with.
    exit_codes: BTreeMap<String, i32>,
    /// By operation: how often it is to fail yet.
    failures: BTreeMap<&'static str, u32>,
    /// The next call of this operation panics.
    panics_at: Option<&'static str>,
    /// `start web/0`, `stop web/0`, ... in their order.
    journal: Vec<String>,
    next_id: u32,
    events: Option<mpsc::Sender<RuntimeEvent>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct FakeRuntime {
    clock: Clock,
    state: Mutex<State>,
}

impl FakeRuntime {
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts an image on the node.
    pub(crate) fn add_image(&self, reference: &str) {
        let image = image(reference);
        self.lock().images.insert(full_name(reference), image);
    }

    /// Lets an image be fetched.
    pub(crate) fn offer_image(&self, reference: &str) {
        self.lock().registry.insert(full_name(reference));
    }

    pub(crate) fn pulls(&self) -> Vec<(String, Vec<Credentials>)> {
        self.lock().pulls.clone()
    }

    /// What containers of that name do when they are asked to end.
    pub(crate) fn on_term(&self, container: &str, what: OnTerm) {
        self.lock().on_term.insert(container.to_owned(), what);
    }

    /// What a command that is run in a container ends with from now on.
    pub(crate) fn command_exits(&self, command: &str, exit_code: i32) {
        self.lock().exit_codes.insert(command.to_owned(), exit_code);
    }

    /// Has the next `times` calls of an operation fail.
    pub(crate) fn fail(&self, operation: &'static str, times: u32) {
        self.lock().failures.insert(operation, times);
    }

    /// Has the next call of an operation panic.
    pub(crate) fn panic_at(&self, operation: &'static str) {
        self.lock().panics_at = Some(operation);
    }

    /// What all pods together use from now on.
    pub(crate) fn set_pods_usage(&self, usage: Usage) {
        self.lock().pods_usage = Some(usage);
    }

    /// Whether what was told to panic still will.
    pub(crate) fn will_panic(&self) -> bool {
        self.lock().panics_at.is_some()
    }

    /// What was done, in its order.
    pub(crate) fn journal(&self) -> Vec<String> {
        self.lock().journal.clone()
    }

    pub(crate) fn clear_journal(&self) {
        self.lock().journal.clear();
    }

    /// `web/0=run`, `web/1=exit3`, sorted.
    pub(crate) fn listing(&self) -> Vec<String> {
        let state = self.lock();
        let mut listing: Vec<_> = state
            .containers
            .values()
            .map(|container| {
                let word = match container.status.state {
                    ContainerState::Created => "made".to_owned(),
                    ContainerState::Running { .. } => "run".to_owned(),
                    ContainerState::Exited { exit_code, .. } => format!("exit{exit_code}"),
                };
                format!("{}/{}={word}", container.status.name, container.status.attempt)
            })
            .collect();
        listing.sort();
        listing
    }

    pub(crate) fn sandbox_count(&self) -> usize {
        self.lock().sandboxes.len()
    }

    /// The configuration of the newest container of that name.
    pub(crate) fn config_of(&self, name: &str) -> ContainerConfig {
        let state = self.lock();
        let of_name = state.containers.values().filter(|it| it.status.name == name);
        of_name.max_by_key(|it| it.status.attempt).expect("such a container").config.clone()
    }

    /// What the newest container of that name is limited to.
    pub(crate) fn resources_of(&self, name: &str) -> LinuxResources {
        let state = self.lock();
        let of_name = state.containers.values().filter(|it| it.status.name == name);
        of_name
            .max_by_key(|it| it.status.attempt)
            .expect("such a container")
            .status
            .resources
            .clone()
    }

    pub(crate) fn sandbox_config(&self) -> SandboxConfig {
        self.lock().sandboxes.values().next().expect("a sandbox").0.clone()
    }

    /// What a cgroup above the pods' has been given.
    pub(crate) fn cgroup(&self, path: &str) -> Option<LinuxResources> {
        self.lock().cgroups.get(path).cloned()
    }

    /// The container of that name that runs ends by itself.
    pub(crate) fn exit(&self, name: &str, exit_code: i32) {
        let id = {
            let state = self.lock();
            let running = |it: &&FakeContainer| {
                it.status.name == name && matches!(it.status.state, ContainerState::Running { .. })
            };
            state.containers.values().find(running).expect("it runs").status.id.clone()
        };
        self.end(&id, exit_code, false);
    }

    /// A container is killed by the kernel for want of memory.
    pub(crate) fn run_out_of_memory(&self, name: &str) {
        let id = {
            let state = self.lock();
            let found = state.containers.values().find(|it| it.status.name == name);
            found.unwrap().status.id.clone()
        };
        self.end(&id, KILLED, true);
    }

    /// The shim of the only sandbox dies and takes its containers with it.
    pub(crate) fn lose_sandbox(&self) {
        let ids: Vec<_> = self.lock().containers.keys().cloned().collect();
        for id in ids {
            self.end(&id, KILLED, false);
        }
        let event = {
            let mut state = self.lock();
            let (_, status) = state.sandboxes.values_mut().last().unwrap();
            status.state = SandboxState::NotReady;
            RuntimeEvent::SandboxLost { pod: status.pod.clone(), sandbox: status.id.clone() }
        };
        self.tell(event);
    }

    /// A reboot: nothing runs, and nobody remembers what did.
    pub(crate) fn forget_everything(&self) {
        let mut state = self.lock();
        state.sandboxes.clear();
        state.containers.clear();
    }

    /// Has everybody look at everything.
    pub(crate) fn relist(&self) {
        self.tell(RuntimeEvent::Relist);
    }

    fn tell(&self, event: RuntimeEvent) {
        if let Some(events) = &self.lock().events {
            // Nobody listens between two kubelets.
            events.try_send(event).ok();
        }
    }

    fn end(&self, id: &ContainerId, exit_code: i32, oom_killed: bool) {
        let finished_at = self.clock.now();
        let event = {
            let mut state = self.lock();
            let Some(container) = state.containers.get_mut(id) else { return };
            let ContainerState::Running { started_at, .. } = container.status.state else { return };
            container.status.state = ContainerState::Exited {
                exit_code,
                oom_killed,
                started_at: Some(started_at),
                finished_at,
                message: String::new(),
            };
            container.ended.notify_waiters();
            let (name, attempt) = (container.status.name.clone(), container.status.attempt);
            let pod = container.status.pod.clone();
            write_log(&container.config, finished_at, &format!("exits with {exit_code}"));
            state.journal.push(format!("exit {name}/{attempt} {exit_code}"));
            RuntimeEvent::ContainerExited { pod, container: id.clone() }
        };
        self.tell(event);
    }

    fn check(&self, operation: &'static str) -> Result<(), RuntimeError> {
        let panicking = self.lock().panics_at.take_if(|at| *at == operation);
        assert!(panicking.is_none(), "it was told to panic");
        let mut state = self.lock();
        match state.failures.get_mut(operation).filter(|left| **left > 0) {
            Some(left) => {
                *left -= 1;
                let message = "it was told to fail".to_owned();
                Err(RuntimeError::Refused { operation, message })
            }
            None => Ok(()),
        }
    }

    fn make_sandbox(&self, config: SandboxConfig) -> Result<SandboxStatus, RuntimeError> {
        self.check("run_sandbox")?;
        let created_at = self.clock.now();
        let mut state = self.lock();
        state.next_id += 1;
        let id = SandboxId(format!("s{}", state.next_id));
        let own_network = config.namespaces.network == kinglet::runtime::NamespaceMode::Pod;
        let status = SandboxStatus {
            id: id.clone(),
            pod: config.pod.clone(),
            attempt: config.attempt,
            state: SandboxState::Ready,
            created_at,
            network_namespace: own_network.then(|| PathBuf::from(format!("/run/netns/{id}"))),
            labels: BTreeMap::new(),
            addresses: Vec::new(),
        };
        state.journal.push(format!("sandbox {}/{}", config.pod.name, config.attempt));
        state.sandboxes.insert(id, (config, status.clone()));
        Ok(status)
    }

    fn make_container(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
    ) -> Result<ContainerId, RuntimeError> {
        self.check("create_container")?;
        let created_at = self.clock.now();
        let mut state = self.lock();
        let pod = match state.sandboxes.get(sandbox) {
            Some((config, status)) if status.state == SandboxState::Ready => config.pod.clone(),
            _ => return Err(RuntimeError::NotFound { what: "sandbox", id: sandbox.0.clone() }),
        };
        assert!(config.log_path.parent().unwrap().is_dir(), "the log's directory is there");
        for mount in &config.mounts {
            assert!(mount.host_path.exists(), "{mount:?} is there");
        }
        state.next_id += 1;
        let id = ContainerId(format!("c{}", state.next_id));
        state.journal.push(format!("create {}/{}", config.name, config.attempt));
        let status = ContainerStatus {
            id: id.clone(),
            sandbox: sandbox.clone(),
            pod,
            name: config.name.clone(),
            attempt: config.attempt,
            state: ContainerState::Created,
            created_at,
            image: config.image.clone(),
            image_reference: config.image_reference.clone(),
            log_path: config.log_path.clone(),
            resources: config.resources.clone(),
            user: Some(ContainerUser { uid: 33, gid: 34, groups: vec![34, 50] }),
            labels: config.labels.clone(),
        };
        let container = FakeContainer { status, config, ended: Arc::new(Notify::new()) };
        state.containers.insert(id.clone(), container);
        Ok(id)
    }

    fn launch(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        self.check("start_container")?;
        let started_at = self.clock.now();
        let event = {
            let mut state = self.lock();
            let container = state.containers.get_mut(id);
            let container = container
                .ok_or_else(|| RuntimeError::NotFound { what: "container", id: id.0.clone() })?;
            assert_eq!(container.status.state, ContainerState::Created, "nothing starts twice");
            container.status.state = ContainerState::Running { pid: 1, started_at };
            write_log(&container.config, started_at, "starts");
            let (name, attempt) = (container.status.name.clone(), container.status.attempt);
            let pod = container.status.pod.clone();
            state.journal.push(format!("start {name}/{attempt}"));
            RuntimeEvent::ContainerStarted { pod, container: id.clone() }
        };
        self.tell(event);
        Ok(())
    }

    async fn end_within(&self, id: ContainerId, grace: Duration) -> Result<(), RuntimeError> {
        self.check("stop_container")?;
        let (ended, on_term) = {
            let mut state = self.lock();
            let Some(container) = state.containers.get(&id) else { return Ok(()) };
            if !matches!(container.status.state, ContainerState::Running { .. }) {
                return Ok(());
            }
            let (name, attempt) = (container.status.name.clone(), container.status.attempt);
            let ended = Arc::clone(&container.ended);
            let on_term = state.on_term.get(&name).copied().unwrap_or_default();
            state.journal.push(format!("stop {name}/{attempt} {}", grace.as_secs()));
            (ended, on_term)
        };
        match on_term {
            OnTerm::Exits => self.end(&id, TERMINATED, false),
            OnTerm::Ignores => {
                let end = ended.notified();
                if tokio::time::timeout(grace, end).await.is_err() {
                    self.end(&id, KILLED, false);
                }
            }
        }
        Ok(())
    }

    fn clear_sandbox(&self, id: &SandboxId) {
        let mut state = self.lock();
        if state.sandboxes.remove(id).is_some() {
            state.journal.push(format!("remove sandbox {id}"));
        }
        state.containers.retain(|_, container| container.status.sandbox != *id);
    }

    fn close_sandbox(&self, id: &SandboxId) {
        let containers: Vec<_> = {
            let state = self.lock();
            let of_sandbox = state.containers.values().filter(|it| it.status.sandbox == *id);
            of_sandbox.map(|it| it.status.id.clone()).collect()
        };
        containers.iter().for_each(|container| self.end(container, KILLED, false));
        if let Some((_, status)) = self.lock().sandboxes.get_mut(id) {
            status.state = SandboxState::NotReady;
        }
    }
}

fn write_log(config: &ContainerConfig, at: Timestamp, text: &str) {
    let mut file = fs::File::options().append(true).create(true).open(&config.log_path).unwrap();
    writeln!(file, "{at} stdout F {} {} {text}", config.name, config.attempt).unwrap();
}

fn full_name(reference: &str) -> String {
    reference.parse::<kinglet::runtime::images::Reference>().unwrap().to_string()
}

fn image(reference: &str) -> ImageStatus {
    let reference: kinglet::runtime::images::Reference = reference.parse().unwrap();
    ImageStatus {
        id: ImageId(format!("sha256:{reference}")),
        tags: vec![reference.to_string()],
        digests: vec![format!("{}@sha256:{}", reference.name(), "0".repeat(64))],
        size_bytes: 1_000,
        user: String::new(),
        pinned: false,
    }
}

impl Runtime for FakeRuntime {
    fn image(&self, reference: &str) -> BoxFuture<'_, Result<Option<ImageStatus>, RuntimeError>> {
        let found = self.lock().images.get(&full_name(reference)).cloned();
        Box::pin(async move { Ok(found) })
    }

    fn images(&self) -> BoxFuture<'_, Result<Vec<ImageStatus>, RuntimeError>> {
        let images = self.lock().images.values().cloned().collect();
        Box::pin(async move { Ok(images) })
    }

    fn pull_image(
        &self,
        reference: &str,
        credentials: Vec<Credentials>,
    ) -> BoxFuture<'_, Result<ImageStatus, PullError>> {
        let reference = full_name(reference);
        Box::pin(async move {
            tokio::task::yield_now().await;
            let mut state = self.lock();
            state.pulls.push((reference.clone(), credentials));
            if !state.registry.contains(&reference) {
                return Err(PullError::NotFound { reference });
            }
            let image = image(&reference);
            state.images.insert(reference, image.clone());
            Ok(image)
        })
    }

    fn remove_image(&self, reference: &str) -> BoxFuture<'_, Result<(), RuntimeError>> {
        self.lock().images.remove(&full_name(reference));
        Box::pin(async { Ok(()) })
    }

    fn limit_cgroup(
        &self,
        cgroup: &str,
        resources: LinuxResources,
    ) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let failed = self.check("limit_cgroup");
        if failed.is_ok() {
            self.lock().cgroups.insert(cgroup.to_owned(), resources);
        }
        Box::pin(async { failed })
    }

    fn run_sandbox(
        &self,
        config: SandboxConfig,
    ) -> BoxFuture<'_, Result<SandboxStatus, RuntimeError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.make_sandbox(config)
        })
    }

    fn stop_sandbox(&self, sandbox: &SandboxId) -> BoxFuture<'_, Result<(), RuntimeError>> {
        self.close_sandbox(sandbox);
        Box::pin(async { Ok(()) })
    }

    fn remove_sandbox(&self, sandbox: &SandboxId) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let sandbox = sandbox.clone();
        Box::pin(async move {
            self.check("remove_sandbox")?;
            self.clear_sandbox(&sandbox);
            Ok(())
        })
    }

    fn sandboxes(&self) -> BoxFuture<'_, Result<Vec<SandboxStatus>, RuntimeError>> {
        let sandboxes = self.lock().sandboxes.values().map(|(_, status)| status.clone()).collect();
        Box::pin(async move { Ok(sandboxes) })
    }

    fn create_container(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
    ) -> BoxFuture<'_, Result<ContainerId, RuntimeError>> {
        let sandbox = sandbox.clone();
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.make_container(&sandbox, config)
        })
    }

    fn start_container(&self, container: &ContainerId) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let container = container.clone();
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.launch(&container)
        })
    }

    fn stop_container(
        &self,
        container: &ContainerId,
        grace: Duration,
    ) -> BoxFuture<'_, Result<(), RuntimeError>> {
        Box::pin(self.end_within(container.clone(), grace))
    }

    fn remove_container(&self, container: &ContainerId) -> BoxFuture<'_, Result<(), RuntimeError>> {
        if let Some(removed) = self.lock().containers.remove(container) {
            assert!(!matches!(removed.status.state, ContainerState::Running { .. }));
        }
        Box::pin(async { Ok(()) })
    }

    fn containers(&self) -> BoxFuture<'_, Result<Vec<ContainerStatus>, RuntimeError>> {
        let containers = self.lock().containers.values().map(|it| it.status.clone()).collect();
        Box::pin(async move { Ok(containers) })
    }

    fn exec(
        &self,
        container: &ContainerId,
        command: Vec<String>,
        _timeout: Duration,
    ) -> BoxFuture<'_, Result<ExecResult, RuntimeError>> {
        let name = {
            let state = self.lock();
            state.containers.get(container).map(|it| it.status.name.clone()).unwrap_or_default()
        };
        let words = command.join(" ");
        self.lock().journal.push(format!("exec {name} {words}"));
        let fails = i32::from(command.first().is_some_and(|word| word == "false"));
        let exit_code = self.lock().exit_codes.get(&words).copied().unwrap_or(fails);
        Box::pin(async move { Ok(ExecResult { exit_code, stdout: vec![], stderr: vec![] }) })
    }

    fn update_container(
        &self,
        container: &ContainerId,
        resources: LinuxResources,
    ) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let outcome = self.check("update_container");
        if outcome.is_ok()
            && let Some(container) = self.lock().containers.get_mut(container)
        {
            container.status.resources = resources;
        }
        Box::pin(async { outcome })
    }

    fn usage(&self, container: &ContainerId) -> BoxFuture<'_, Result<Usage, RuntimeError>> {
        let id = container.0.clone();
        Box::pin(async move { Err(RuntimeError::NotFound { what: "container", id }) })
    }

    fn cgroup_usage(&self, cgroup: &str) -> Option<Usage> {
        self.lock().pods_usage.filter(|_| cgroup.ends_with("/kubepods"))
    }

    fn reopen_log(&self, _container: &ContainerId) -> BoxFuture<'_, Result<(), RuntimeError>> {
        Box::pin(async { Ok(()) })
    }

    fn events(&self) -> mpsc::Receiver<RuntimeEvent> {
        let (sender, receiver) = mpsc::channel(1_000);
        self.lock().events = Some(sender);
        receiver
    }
}

/// Gives each sandbox an address of its own.
#[derive(Debug, Default)]
pub(crate) struct FakeNetwork {
    state: Mutex<NetworkRecords>,
}

#[derive(Debug, Default)]
struct NetworkRecords {
    configured: Vec<IpNet>,
    attached: BTreeMap<String, (Attachment, IpAddr)>,
    next: u8,
    failures: u32,
}

impl FakeNetwork {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Has the next `times` attachments fail.
    pub(crate) fn fail(&self, times: u32) {
        self.state.lock().unwrap().failures = times;
    }

    pub(crate) fn attached(&self) -> Vec<Attachment> {
        let state = self.state.lock().unwrap();
        state.attached.values().map(|(attachment, _)| attachment.clone()).collect()
    }
}

impl PodNetwork for FakeNetwork {
    fn configure(&self, pod_cidrs: Vec<IpNet>) -> BoxFuture<'_, Result<(), NetworkError>> {
        self.state.lock().unwrap().configured = pod_cidrs;
        Box::pin(async { Ok(()) })
    }

    fn attach(&self, attachment: Attachment) -> BoxFuture<'_, Result<Vec<IpAddr>, NetworkError>> {
        let mut state = self.state.lock().unwrap();
        let attached = if state.configured.is_empty() {
            Err(NetworkError::NotConfigured)
        } else if let Some((_, address)) = state.attached.get(&attachment.sandbox) {
            Ok(vec![*address])
        } else if state.failures > 0 {
            state.failures -= 1;
            Err(NetworkError::Exhausted { range: state.configured[0] })
        } else {
            state.next += 1;
            let address = IpAddr::V4(Ipv4Addr::new(10, 42, 0, state.next));
            state.attached.insert(attachment.sandbox.clone(), (attachment, address));
            Ok(vec![address])
        };
        Box::pin(async move { attached })
    }

    fn detach(&self, sandbox: &str) -> BoxFuture<'_, Result<(), NetworkError>> {
        self.state.lock().unwrap().attached.remove(sandbox);
        Box::pin(async { Ok(()) })
    }

    fn attached(&self) -> Vec<kinglet::network::Attached> {
        Vec::new()
    }

    fn retain(&self, sandboxes: Vec<String>) -> BoxFuture<'_, Result<(), NetworkError>> {
        self.state.lock().unwrap().attached.retain(|sandbox, _| sandboxes.contains(sandbox));
        Box::pin(async { Ok(()) })
    }
}

/// Whose pod a sandbox belongs to, for those who only have its identity.
pub(crate) fn name_of(pod: &PodIdentity) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}
