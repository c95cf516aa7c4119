//! The sandboxes and containers that there are, in memory.

use super::super::shim::Shim;
use super::super::{
    ContainerId, ContainerState, ContainerStatus, LinuxResources, PodStatus, SandboxId,
    SandboxState, SandboxStatus,
};
use super::layout::{ContainerFiles, SandboxFiles};
use super::records::{ContainerRecord, SandboxRecord};
use crate::sys::cgroup::CgroupPath;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

/// So many further processes are started at once in the containers of a sandbox. A shim starts them
/// one after another, and while it does, it keeps everybody else waiting (containerd's
/// `checkProcesses`, runtime/v2/runc/task/service.go, v1.6).
const EXEC_STARTS_AT_ONCE_MAX: usize = 2;

#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) sandboxes: BTreeMap<SandboxId, Arc<Sandbox>>,
    pub(super) containers: BTreeMap<ContainerId, Arc<Container>>,
}

/// A sandbox, all of which is there.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) id: SandboxId,
    pub(super) record: SandboxRecord,
    pub(super) files: SandboxFiles,
    pub(super) cgroup: CgroupPath,
    /// `None`: not ready, nothing can start in it any more.
    shim: Mutex<Option<Arc<Shim>>>,
    /// Whether it may have processes that nobody keeps track of. Until they are ended, nothing else
    /// of its pod is made.
    is_untracked: AtomicBool,
    /// The right to have the shim start a further process.
    exec_starts: Semaphore,
}

impl Sandbox {
    pub(super) fn new(
        id: SandboxId,
        record: SandboxRecord,
        files: SandboxFiles,
        cgroup: CgroupPath,
        shim: Option<Shim>,
    ) -> Self {
        let shim = Mutex::new(shim.map(Arc::new));
        let exec_starts = Semaphore::new(EXEC_STARTS_AT_ONCE_MAX);
        Self { id, record, files, cgroup, shim, is_untracked: AtomicBool::new(false), exec_starts }
    }

    pub(super) fn is_untracked(&self) -> bool {
        self.is_untracked.load(Ordering::Acquire)
    }

    pub(super) fn set_untracked(&self, is_untracked: bool) {
        self.is_untracked.store(is_untracked, Ordering::Release);
    }

    /// Waits for the turn to start a further process.
    pub(super) async fn exec_start(&self) -> SemaphorePermit<'_> {
        self.exec_starts.acquire().await.expect("this semaphore is never closed")
    }

    pub(super) fn shim(&self) -> Option<Arc<Shim>> {
        self.shim.lock().expect("no panics under this lock").clone()
    }

    /// From now on the sandbox is not ready. Returns the shim to the first who asks.
    pub(super) fn take_shim(&self) -> Option<Arc<Shim>> {
        self.shim.lock().expect("no panics under this lock").take()
    }

    pub(super) fn network_namespace(&self) -> Option<PathBuf> {
        super::sandbox::shared_paths(&self.record.config, &self.files).network
    }

    pub(super) fn status(&self) -> SandboxStatus {
        let is_ready = self.shim().is_some();
        SandboxStatus {
            id: self.id.clone(),
            pod: self.record.config.pod.clone(),
            attempt: self.record.config.attempt,
            state: if is_ready { SandboxState::Ready } else { SandboxState::NotReady },
            created_at: self.record.created_at,
            network_namespace: self.network_namespace(),
            labels: self.record.config.labels.clone(),
            addresses: Vec::new(),
        }
    }
}

/// A container with its bundle and its record.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: ContainerId,
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) record: ContainerRecord,
    pub(super) files: ContainerFiles,
    pub(super) cgroup: CgroupPath,
    pub(super) state: watch::Sender<ContainerState>,
    /// What it is limited to now.
    resources: Mutex<LinuxResources>,
    /// Whether somebody takes note of its end already.
    is_ending: AtomicBool,
}

impl Container {
    pub(super) fn new(
        id: ContainerId,
        sandbox: Arc<Sandbox>,
        record: ContainerRecord,
        state: ContainerState,
    ) -> Self {
        let files = sandbox.files.container(&id);
        let cgroup = sandbox.cgroup.child(&id.0).expect("an id is a name");
        let is_ending = AtomicBool::new(matches!(state, ContainerState::Exited { .. }));
        let resources = Mutex::new(record.config.resources.clone());
        let state = watch::Sender::new(state);
        Self { id, sandbox, record, files, cgroup, state, resources, is_ending }
    }

    pub(super) fn resources(&self) -> LinuxResources {
        self.resources.lock().expect("no panics under this lock").clone()
    }

    pub(super) fn set_resources(&self, resources: LinuxResources) {
        *self.resources.lock().expect("no panics under this lock") = resources;
    }

    pub(super) fn state(&self) -> ContainerState {
        self.state.borrow().clone()
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(*self.state.borrow(), ContainerState::Running { .. })
    }

    /// True for the first who asks: the one who takes note of the container's end.
    pub(super) fn begin_ending(&self) -> bool {
        !self.is_ending.swap(true, Ordering::AcqRel)
    }

    /// Returns when the container has ended.
    pub(super) async fn ended(&self) {
        let mut state = self.state.subscribe();
        let ended =
            state.wait_for(|state| matches!(state, ContainerState::Exited { .. })).await.is_ok();
        debug_assert!(ended, "the sender is in `self`");
    }

    pub(super) fn status(&self) -> ContainerStatus {
        let config = &self.record.config;
        ContainerStatus {
            id: self.id.clone(),
            sandbox: self.sandbox.id.clone(),
            pod: self.sandbox.record.config.pod.clone(),
            name: config.name.clone(),
            attempt: config.attempt,
            state: self.state(),
            created_at: self.record.created_at,
            image: config.image.clone(),
            image_reference: config.image_reference.clone(),
            log_path: config.log_path.clone(),
            resources: self.resources(),
            user: self.record.user.clone(),
            labels: config.labels.clone(),
        }
    }
}

impl Tables {
    pub(super) fn sandbox_statuses(&mut self) -> Vec<SandboxStatus> {
        self.sandboxes.values().map(|sandbox| sandbox.status()).collect()
    }

    pub(super) fn container_statuses(&mut self) -> Vec<ContainerStatus> {
        self.containers.values().map(|container| container.status()).collect()
    }

    pub(super) fn pod_status(&mut self, uid: &str) -> PodStatus {
        let of_pod = |sandbox: &Sandbox| sandbox.record.config.pod.uid == uid;
        let sandboxes = self.sandboxes.values().filter(|sandbox| of_pod(sandbox));
        let containers = self.containers.values().filter(|each| of_pod(&each.sandbox));
        PodStatus {
            sandboxes: sandboxes.map(|sandbox| sandbox.status()).collect(),
            containers: containers.map(|container| container.status()).collect(),
        }
    }

    pub(super) fn containers_of(&self, sandbox: &SandboxId) -> Vec<Arc<Container>> {
        let all = self.containers.values();
        all.filter(|container| container.sandbox.id == *sandbox).cloned().collect()
    }
}
