//! The container runtime of a node: images, sandboxes and containers.
//!
//! Start at [`Runtime`], which offers the kubelet the meaning of the CRI (cri-api v1, Kubernetes
//! v1.35). Architecture invariants: containers outlive this process, and a new process finds them
//! all again from what is on disk; nothing here knows the API server.

pub mod companion;
mod config;
mod engine;
mod error;
pub mod images;
mod logger;
mod pause;
mod rootfs;
mod session;
mod shim;
mod spec;
mod status;

pub use crate::sys::cgroup::{Activity, DeviceActivity, Stall, Stalls, Usage};
pub use config::{
    Bandwidth, ContainerConfig, DEFAULT_APPARMOR_PROFILE, DeviceMapping, HugepageLimit, ImageMount,
    LinuxResources, Mount, MountPropagation, NamespaceMode, PodIdentity, SandboxConfig,
    SandboxNamespaces, SecurityConfig,
};
pub use engine::{LogLimits, ShimRuntime, ShimRuntimeConfig};
pub use error::{PullError, RuntimeError};
pub use rootfs::{ImageSource, owner as owner_of_rootfs};
pub use session::{
    Control, Controls, ExecRequest, Input, Output, Session, SessionKeeper, SessionProcess,
};
pub use status::{
    ContainerId, ContainerState, ContainerStatus, ContainerUser, ImageId, ImageStatus, PodStatus,
    RuntimeEvent, SandboxId, SandboxState, SandboxStatus,
};

use futures_util::future::BoxFuture;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;

/// What this runtime calls itself: nodes show it as `kinglet://<version>`, statuses of containers as
/// `kinglet://<id>`. Not containerd's name: who goes by it looks for containerd's socket.
pub const RUNTIME_NAME: &str = "kinglet";

/// Credentials for one registry, from an imagePullSecret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Credentials({}, ...)", self.username)
    }
}

/// How a command that ran in a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecResult {
    pub exit_code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// Makes containers. One implementation drives real shims, another is a fake for tests.
///
/// Every method may be called again after a failure or a crash: stopping what is stopped and
/// removing what is gone succeed.
pub trait Runtime: Send + Sync + fmt::Debug {
    /// The image of that reference on this node, where it is here.
    fn image(&self, reference: &str) -> BoxFuture<'_, Result<Option<ImageStatus>, RuntimeError>>;

    fn images(&self) -> BoxFuture<'_, Result<Vec<ImageStatus>, RuntimeError>>;

    /// Fetches an image. Two pulls of one reference share the work. `credentials` are tried in
    /// their order and then none.
    fn pull_image(
        &self,
        reference: &str,
        credentials: Vec<Credentials>,
    ) -> BoxFuture<'_, Result<ImageStatus, PullError>>;

    fn remove_image(&self, reference: &str) -> BoxFuture<'_, Result<(), RuntimeError>>;

    /// Limits a cgroup that pods' are below, and makes it where it is not there. What `resources`
    /// leaves open stays as it is.
    fn limit_cgroup(
        &self,
        cgroup: &str,
        resources: LinuxResources,
    ) -> BoxFuture<'_, Result<(), RuntimeError>>;

    /// Makes the pinned namespaces and the cgroup of a pod. The caller attaches the network to
    /// [`SandboxStatus::network_namespace`] before it makes containers.
    fn run_sandbox(
        &self,
        config: SandboxConfig,
    ) -> BoxFuture<'_, Result<SandboxStatus, RuntimeError>>;

    /// Ends all processes of the sandbox at once.
    fn stop_sandbox(&self, sandbox: &SandboxId) -> BoxFuture<'_, Result<(), RuntimeError>>;

    /// Removes a sandbox with its containers, namespaces, cgroup and files (logs stay).
    fn remove_sandbox(&self, sandbox: &SandboxId) -> BoxFuture<'_, Result<(), RuntimeError>>;

    fn sandboxes(&self) -> BoxFuture<'_, Result<Vec<SandboxStatus>, RuntimeError>>;

    fn create_container(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
    ) -> BoxFuture<'_, Result<ContainerId, RuntimeError>>;

    fn start_container(&self, container: &ContainerId) -> BoxFuture<'_, Result<(), RuntimeError>>;

    /// Changes what a running container is limited to. What `resources` leaves open is as if it had
    /// never been limited; scores and huge pages stay as they are.
    fn update_container(
        &self,
        container: &ContainerId,
        resources: LinuxResources,
    ) -> BoxFuture<'_, Result<(), RuntimeError>>;

    /// Sends the stop signal, and SIGKILL after `grace`. Returns when the container has ended.
    fn stop_container(
        &self,
        container: &ContainerId,
        grace: Duration,
    ) -> BoxFuture<'_, Result<(), RuntimeError>>;

    fn remove_container(&self, container: &ContainerId) -> BoxFuture<'_, Result<(), RuntimeError>>;

    /// All containers of all sandboxes, ended ones included until they are removed.
    fn containers(&self) -> BoxFuture<'_, Result<Vec<ContainerStatus>, RuntimeError>>;

    /// The sandboxes and containers of one pod, by its uid. One that has them indexed does better
    /// than going through all.
    fn pod(&self, uid: &str) -> BoxFuture<'_, Result<PodStatus, RuntimeError>> {
        let uid = uid.to_owned();
        Box::pin(async move {
            let mut sandboxes = self.sandboxes().await?;
            sandboxes.retain(|sandbox| sandbox.pod.uid == uid);
            let mut containers = self.containers().await?;
            containers.retain(|container| container.pod.uid == uid);
            Ok(PodStatus { sandboxes, containers })
        })
    }

    /// Runs a command in a container and collects what it prints.
    fn exec(
        &self,
        container: &ContainerId,
        command: Vec<String>,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<ExecResult, RuntimeError>>;

    /// Starts a command in a container and connects whoever asks with it. When that one goes, the
    /// command is told as on any Unix: its input ends, a terminal hangs up, and to write to a pipe
    /// means SIGPIPE; what does none of this runs on.
    fn open_exec(
        &self,
        container: &ContainerId,
        request: ExecRequest,
    ) -> BoxFuture<'_, Result<Session, RuntimeError>> {
        let _unused = (container, request);
        Box::pin(async {
            Err(RuntimeError::Invalid("this runtime talks to no commands".to_owned()))
        })
    }

    /// Connects whoever asks with a container's own process, as it goes on. Its output is logged
    /// all the same. With `stdin` the container is written to, where it has an input.
    fn attach(
        &self,
        container: &ContainerId,
        stdin: bool,
    ) -> BoxFuture<'_, Result<Session, RuntimeError>> {
        let _unused = (container, stdin);
        Box::pin(async {
            Err(RuntimeError::Invalid("this runtime talks to no containers".to_owned()))
        })
    }

    /// What the processes of a container use. Fails where it is not running.
    fn usage(&self, container: &ContainerId) -> BoxFuture<'_, Result<Usage, RuntimeError>>;

    /// What the processes of a container have done since it began, and the cgroup they are in, as
    /// far as that is known. Waits for the kernel.
    fn activity(&self, _container: &ContainerId) -> Option<(String, Activity)> {
        None
    }

    /// What all processes in a cgroup and below it use, where that is known. Waits for the kernel.
    fn cgroup_usage(&self, _cgroup: &str) -> Option<Usage> {
        None
    }

    /// Where what a container writes to its root file system is on this node, where that is known.
    fn writable_layer(&self, _container: &ContainerId) -> Option<PathBuf> {
        None
    }

    /// Has the log of a running container opened anew, after its file was renamed.
    fn reopen_log(&self, container: &ContainerId) -> BoxFuture<'_, Result<(), RuntimeError>>;

    /// What happens to containers from now on. One receiver gets all events; when it is slow,
    /// events are merged into [`RuntimeEvent::Relist`].
    fn events(&self) -> mpsc::Receiver<RuntimeEvent>;
}
