//! The runtime that drives real shims.
//!
//! Start at [`ShimRuntime::open`]. What it does is by subject: `sandbox`, `container`, `exec`,
//! `attach`; how
//! it learns that containers have ended in `supervise`; how it finds what an earlier process left
//! in `adopt`; where everything is on disk in `layout`.
//!
//! Architecture invariants: a sandbox or container is in the tables when all of it is there, and on
//! disk before it is in the tables; what is on disk without a record is a leftover and removed; a
//! container's state goes from created to running to exited and never back. Operations that change
//! something run to their end also when nobody waits for them any more.

mod adopt;
mod attach;
mod container;
mod event_sink;
mod exec;
mod host;
mod image_mounts;
mod image_volumes;
mod layout;
mod pipes;
mod profiles;
mod records;
mod sandbox;
mod stdio;
mod stray;
mod supervise;
mod tables;
mod update;

use super::shim::EventsServer;
use super::spec::HostTraits;
use super::{
    Activity, ContainerConfig, ContainerId, ContainerStatus, Credentials, ExecRequest, ExecResult,
    ImageSource, ImageStatus, LinuxResources, PodStatus, PullError, Runtime, RuntimeError,
    RuntimeEvent, SandboxConfig, SandboxId, SandboxStatus, Session, Usage,
};
use crate::stdx::Clock;
use crate::sys::cgroup::{CgroupPath, Cgroups};
use crate::sys::host::boot_id;
use event_sink::EventSink;
use futures_util::future::BoxFuture;
use layout::Layout;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tables::Tables;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where shims are, below the cgroup that the configuration names.
const SHIMS_CGROUP: &str = "shims";

/// What a [`ShimRuntime`] needs to know.
#[derive(Clone, Debug)]
pub struct ShimRuntimeConfig {
    /// Records are in `agent/sandboxes` below it.
    pub data_dir: PathBuf,
    /// Everything that ends with the machine's running time is below it. Its path is short: a
    /// socket's path has at most 107 bytes.
    pub run_dir: PathBuf,
    /// The cgroup that the shims are below, and with them all that they start outside of pods:
    /// `/kinglet-1a2b3c4d`. They must not be in this process's own, which a service manager empties
    /// when it stops this process.
    pub cgroup_root: String,
    /// This executable, which is started again as the logger of each container.
    pub executable: PathBuf,
    pub log_limits: LogLimits,
    pub clock: Clock,
}

/// When a container's log is begun anew, and how much of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// The kubelet's `containerLogMaxSize`.
    pub bytes_max: u64,
    /// The kubelet's `containerLogMaxFiles`, the one being written included.
    pub files_max: usize,
}

impl LogLimits {
    /// Upstream's defaults: 10 MiB, 5 files.
    pub const UPSTREAM: Self = Self { bytes_max: 10 << 20, files_max: 5 };
}

/// Makes containers through containerd's shims. Dropping it leaves them all running.
#[derive(Debug)]
pub struct ShimRuntime {
    engine: Arc<Engine>,
}

#[derive(Debug)]
struct Engine {
    config: ShimRuntimeConfig,
    layout: Layout,
    images: Arc<dyn ImageSource>,
    cgroups: Cgroups,
    shims_cgroup: CgroupPath,
    host: HostTraits,
    boot_id: String,
    tables: Mutex<Tables>,
    events: EventSink,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// Shims report to it for as long as it is here.
    events_server: tokio::sync::Mutex<EventsServer>,
}

impl ShimRuntime {
    /// Opens the runtime and adopts every container that an earlier process left running. Those
    /// that ended meanwhile have by now.
    ///
    /// # Errors
    /// Where the directories cannot be used or the machine lacks what containers need.
    pub async fn open(
        config: ShimRuntimeConfig,
        images: Arc<dyn ImageSource>,
    ) -> Result<Self, RuntimeError> {
        let layout = Layout::new(&config);
        layout.create()?;
        let cgroups = Cgroups::detect().map_err(|error| failed("finding cgroups", error))?;
        let shims_cgroup =
            sandbox::parse_cgroup(&format!("{}/{SHIMS_CGROUP}", config.cgroup_root))?;
        let host = host::observe(&cgroups).map_err(|error| failed("looking at the node", error))?;
        let boot_id = boot_id().map_err(|error| failed("looking at the node", error))?;
        let events_server = EventsServer::listen(&layout.events_socket())
            .await
            .map_err(|error| failed("listening for shims", error))?;
        let engine = Arc::new(Engine {
            config,
            layout,
            images,
            cgroups,
            shims_cgroup,
            host,
            boot_id,
            tables: Mutex::default(),
            events: EventSink::new(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            events_server: tokio::sync::Mutex::new(events_server),
        });
        adopt::adopt_all(&engine).await?;
        Ok(Self { engine })
    }

    /// Lets go of everything, which runs on. Waits for operations under way, `deadline` at most.
    pub async fn close(&self, deadline: Duration) {
        self.engine.shutdown.cancel();
        self.engine.tasks.close();
        if tokio::time::timeout(deadline, self.engine.tasks.wait()).await.is_err() {
            tracing::warn!(
                "the runtime closes with operations under way; the next start undoes them"
            );
        }
        if let Err(error) = self.engine.events_server.lock().await.close().await {
            tracing::debug!(%error, "the shims' events socket did not close");
        }
    }

    /// Runs an operation to its end, also when the caller stops waiting.
    fn to_its_end<T, F>(
        &self,
        operation: impl FnOnce(Arc<Engine>) -> F,
    ) -> BoxFuture<'_, Result<T, RuntimeError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RuntimeError>> + Send + 'static,
    {
        let running = self.engine.tasks.spawn(operation(Arc::clone(&self.engine)));
        Box::pin(async move {
            match running.await {
                Ok(result) => result,
                Err(error) => Err(failed("an operation of the runtime", error)),
            }
        })
    }
}

impl Drop for ShimRuntime {
    fn drop(&mut self) {
        self.engine.shutdown.cancel();
    }
}

impl Runtime for ShimRuntime {
    fn image(&self, reference: &str) -> BoxFuture<'_, Result<Option<ImageStatus>, RuntimeError>> {
        self.engine.images.image(reference)
    }

    fn images(&self) -> BoxFuture<'_, Result<Vec<ImageStatus>, RuntimeError>> {
        self.engine.images.images()
    }

    fn pull_image(
        &self,
        reference: &str,
        credentials: Vec<Credentials>,
    ) -> BoxFuture<'_, Result<ImageStatus, PullError>> {
        self.engine.images.pull(reference, credentials)
    }

    fn remove_image(&self, reference: &str) -> BoxFuture<'_, Result<(), RuntimeError>> {
        self.engine.images.remove(reference)
    }

    fn limit_cgroup(
        &self,
        cgroup: &str,
        resources: LinuxResources,
    ) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let cgroup = cgroup.to_owned();
        self.to_its_end(move |engine| async move { engine.limit_cgroup(&cgroup, resources).await })
    }

    fn run_sandbox(
        &self,
        config: SandboxConfig,
    ) -> BoxFuture<'_, Result<SandboxStatus, RuntimeError>> {
        self.to_its_end(|engine| async move { engine.run_sandbox(config).await })
    }

    fn stop_sandbox(&self, sandbox: &SandboxId) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let sandbox = sandbox.clone();
        self.to_its_end(|engine| async move { engine.stop_sandbox(&sandbox).await })
    }

    fn remove_sandbox(&self, sandbox: &SandboxId) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let sandbox = sandbox.clone();
        self.to_its_end(|engine| async move { engine.remove_sandbox(&sandbox).await })
    }

    fn sandboxes(&self) -> BoxFuture<'_, Result<Vec<SandboxStatus>, RuntimeError>> {
        let statuses = self.engine.with_tables(Tables::sandbox_statuses);
        Box::pin(async { Ok(statuses) })
    }

    fn create_container(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
    ) -> BoxFuture<'_, Result<ContainerId, RuntimeError>> {
        let sandbox = sandbox.clone();
        self.to_its_end(|engine| async move { engine.create_container(&sandbox, config).await })
    }

    fn start_container(&self, container: &ContainerId) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let container = container.clone();
        self.to_its_end(|engine| async move { engine.start_container(&container).await })
    }

    fn stop_container(
        &self,
        container: &ContainerId,
        grace: Duration,
    ) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let container = container.clone();
        self.to_its_end(move |engine| async move { engine.stop_container(&container, grace).await })
    }

    fn remove_container(&self, container: &ContainerId) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let container = container.clone();
        self.to_its_end(|engine| async move { engine.remove_container(&container).await })
    }

    fn containers(&self) -> BoxFuture<'_, Result<Vec<ContainerStatus>, RuntimeError>> {
        let statuses = self.engine.with_tables(Tables::container_statuses);
        Box::pin(async { Ok(statuses) })
    }

    fn pod(&self, uid: &str) -> BoxFuture<'_, Result<PodStatus, RuntimeError>> {
        let status = self.engine.with_tables(|tables| tables.pod_status(uid));
        Box::pin(async { Ok(status) })
    }

    fn exec(
        &self,
        container: &ContainerId,
        command: Vec<String>,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<ExecResult, RuntimeError>> {
        let container = container.clone();
        self.to_its_end(
            move |engine| async move { engine.exec(&container, command, timeout).await },
        )
    }

    fn open_exec(
        &self,
        container: &ContainerId,
        request: ExecRequest,
    ) -> BoxFuture<'_, Result<Session, RuntimeError>> {
        let container = container.clone();
        self.to_its_end(move |engine| async move { engine.open_exec(&container, request).await })
    }

    fn attach(
        &self,
        container: &ContainerId,
        stdin: bool,
    ) -> BoxFuture<'_, Result<Session, RuntimeError>> {
        let container = container.clone();
        self.to_its_end(move |engine| async move { engine.attach(&container, stdin).await })
    }

    fn writable_layer(&self, container: &ContainerId) -> Option<PathBuf> {
        self.engine.images.writable_layer(container)
    }

    fn update_container(
        &self,
        container: &ContainerId,
        resources: LinuxResources,
    ) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let container = container.clone();
        self.to_its_end(move |engine| async move {
            engine.update_container(&container, resources).await
        })
    }

    fn usage(&self, container: &ContainerId) -> BoxFuture<'_, Result<Usage, RuntimeError>> {
        let usage = self.engine.usage(container);
        Box::pin(async { usage })
    }

    fn activity(&self, container: &ContainerId) -> Option<(String, Activity)> {
        let container = self.engine.container(container).ok()?;
        Some((container.cgroup.to_string(), self.engine.cgroups.activity(&container.cgroup)))
    }

    fn cgroup_usage(&self, cgroup: &str) -> Option<Usage> {
        self.engine.cgroups.usage(&cgroup.parse().ok()?).ok()
    }

    fn reopen_log(&self, container: &ContainerId) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let reopened = self.engine.reopen_log(container);
        Box::pin(async { reopened })
    }

    fn events(&self) -> mpsc::Receiver<RuntimeEvent> {
        self.engine.events.receiver()
    }
}

impl Engine {
    fn with_tables<T>(&self, look: impl FnOnce(&mut Tables) -> T) -> T {
        look(&mut self.tables.lock().expect("no panics under this lock"))
    }
}

fn failed(
    operation: &'static str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> RuntimeError {
    RuntimeError::Failed { operation, source: Arc::new(error) }
}
