//! Finding what an earlier process left: running containers are adopted, half-made things and
//! leftovers are removed.

use super::super::shim::{CallError, Process, Reach, SIGKILL, Shim, TaskState};
use super::super::{ContainerId, ContainerState, RuntimeError, SandboxId};
use super::layout::ContainerFiles;
use super::records::{self, ContainerRecord, SandboxRecord, StartedRecord};
use super::sandbox::{KILL_DEADLINE, pause_cgroup};
use super::stray::{end_strays, find_shim};
use super::supervise::Ending;
use super::tables::{Container, Sandbox};
use super::{Engine, failed};
use crate::stdx::{blocking, chain};
use crate::sys::cgroup::CgroupPath;
use futures_util::StreamExt as _;
use futures_util::stream;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How many sandboxes are looked at side by side.
const SANDBOXES_AT_ONCE: usize = 16;

/// Fills the tables from what is on disk.
pub(super) async fn adopt_all(engine: &Arc<Engine>) -> Result<(), RuntimeError> {
    const OPERATION: &str = "looking for sandboxes";
    let layout = engine.layout.clone();
    let ids =
        blocking(move || layout.sandboxes()).await.map_err(|error| failed(OPERATION, error))?;
    let (mut whole, mut leftovers) = (Vec::new(), Vec::new());
    for id in ids {
        match read_record(&engine.layout.sandbox(&id).record()) {
            Some(record) => whole.push((id, record)),
            None => leftovers.push(id),
        }
    }
    side_by_side(whole.into_iter().map(|(id, record)| engine.adopt_sandbox(id, record))).await;
    // The sandboxes of a pod share a cgroup. It goes with a leftover, unless it is known by then
    // who else is in it.
    side_by_side(leftovers.into_iter().map(|id| engine.remove_leftover(id))).await;
    engine.retain_rootfs().await
}

async fn side_by_side(work: impl Iterator<Item = impl Future<Output = ()>>) {
    stream::iter(work).buffer_unordered(SANDBOXES_AT_ONCE).collect::<()>().await;
}

impl Engine {
    async fn adopt_sandbox(
        self: &Arc<Self>,
        id: SandboxId,
        (record, cgroup): (SandboxRecord, CgroupPath),
    ) {
        let files = self.layout.sandbox(&id);
        let is_same_boot = record.boot_id == self.boot_id;
        let shim = if is_same_boot { find_shim(&files).await } else { None };
        let is_stopped = record.is_stopped;
        let sandbox = Arc::new(Sandbox::new(id.clone(), record, files, cgroup, shim));
        // First of all: whatever fails, its pod is seen to have it.
        self.with_tables(|tables| tables.sandboxes.insert(id.clone(), Arc::clone(&sandbox)));
        let adopting = async {
            self.adopt_containers(&sandbox, is_same_boot).await?;
            // The process before this one was ending it.
            if is_stopped { self.stop_sandbox(&id).await } else { Ok(()) }
        };
        match adopting.await {
            Ok(()) => self.watch_sandbox(&sandbox),
            Err(error) => {
                tracing::warn!(sandbox = %id, error = chain(&error), "a sandbox cannot be adopted");
                sandbox.set_untracked(true);
                if let Some(shim) = sandbox.take_shim() {
                    self.lose_sandbox(&sandbox, &shim).await;
                }
            }
        }
    }

    async fn adopt_containers(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        is_same_boot: bool,
    ) -> Result<(), RuntimeError> {
        const OPERATION: &str = "looking for containers";
        let files = &sandbox.files;
        if sandbox.shim().is_none() {
            end_strays(files).await?;
        }
        for id in files.containers().map_err(|error| failed(OPERATION, error))? {
            let record = records::read::<ContainerRecord>(&files.container(&id).record());
            if let Ok(Some(record)) = record {
                self.adopt_container(sandbox, id, record, is_same_boot).await;
            } else if let Err(error) = self.remove_half_made(sandbox, &id).await {
                tracing::warn!(
                    container = %id,
                    error = chain(&error),
                    "a half-made container stays until the restart"
                );
            }
        }
        Ok(())
    }

    /// Ends the processes of a pod that nobody keeps track of, so that nothing of it runs twice.
    pub(super) async fn end_untracked(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        let untracked: Vec<_> = self.with_tables(|tables| {
            let all = tables.sandboxes.values();
            let of_pod = all.filter(|sandbox| sandbox.record.config.pod.uid == pod_uid);
            of_pod.filter(|sandbox| sandbox.is_untracked()).cloned().collect()
        });
        for sandbox in untracked {
            end_strays(&sandbox.files).await?;
            let known = self.cgroups_of_others(&sandbox);
            let (cgroups, cgroup) = (self.cgroups.clone(), sandbox.cgroup.clone());
            blocking(move || {
                let children = cgroups.children(&cgroup)?;
                children.iter().filter(|name| !known.contains(*name)).try_for_each(|name| {
                    cgroups.kill(&cgroup.child(name).map_err(io::Error::other)?)
                })
            })
            .await
            .map_err(|error| failed("ending what is left of a sandbox", error))?;
            sandbox.set_untracked(false);
        }
        Ok(())
    }

    /// The cgroups of other sandboxes that may be beside those of this one.
    fn cgroups_of_others(&self, sandbox: &Sandbox) -> BTreeSet<String> {
        self.with_tables(|tables| {
            let containers = tables.containers.values();
            let containers = containers.filter(|each| each.sandbox.id != sandbox.id);
            let others = tables.sandboxes.values().filter(|other| other.id != sandbox.id);
            let pauses = others.map(|other| pause_cgroup(&other.files));
            containers.map(|each| each.id.0.clone()).chain(pauses).collect()
        })
    }

    /// Removes what containers have written of which nothing else is left. What could not be adopted
    /// or removed keeps it.
    async fn retain_rootfs(&self) -> Result<(), RuntimeError> {
        let layout = self.layout.clone();
        match blocking(move || layout.containers()).await {
            Ok(kept) => self.images.retain_rootfs(kept.into_iter().collect()).await,
            Err(error) => {
                tracing::warn!(%error, "what ended containers have written stays until the restart");
                Ok(())
            }
        }
    }

    async fn adopt_container(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        id: ContainerId,
        record: ContainerRecord,
        is_same_boot: bool,
    ) {
        let files = sandbox.files.container(&id);
        let exited = records::read::<ContainerState>(&files.exit()).unwrap_or_default();
        let started = records::read::<StartedRecord>(&files.started()).unwrap_or_default();
        let shim = sandbox.shim();
        let (state, ending) = match (exited, &shim) {
            (Some(exited), shim) => {
                forget_task(shim.as_deref(), &id).await;
                (exited, None)
            }
            (None, Some(shim)) => look(shim, &id, started, &files).await,
            (None, None) if is_same_boot && started.is_none() => (ContainerState::Created, None),
            (None, None) if is_same_boot => (ContainerState::Created, Some(Found::ShimGone)),
            (None, None) => {
                let ending = Ending::unknown("the node was restarted");
                (ContainerState::Created, Some(Found::Ended(ending)))
            }
        };
        let container = Arc::new(Container::new(id.clone(), Arc::clone(sandbox), record, state));
        self.with_tables(|tables| tables.containers.insert(id, Arc::clone(&container)));
        match (ending, shim) {
            (Some(Found::Ended(ending)), shim) => {
                self.end(&container, shim.as_deref(), ending).await;
            }
            (Some(Found::ShimGone), _) => self.lose_container(&container).await,
            (None, Some(shim)) if container.is_running() => self.supervise(&container, shim),
            (None, _) => {}
        }
    }

    /// Removes a container that was being made when the process before this one ended, or whose
    /// record is damaged.
    async fn remove_half_made(
        &self,
        sandbox: &Sandbox,
        id: &ContainerId,
    ) -> Result<(), RuntimeError> {
        let cgroup = sandbox.cgroup.child(&id.0).expect("an id is a name");
        let cgroups = self.cgroups.clone();
        blocking(move || cgroups.kill(&cgroup).and_then(|()| cgroups.remove(&cgroup)))
            .await
            .map_err(|error| failed("ending a half-made container", error))?;
        forget_task(sandbox.shim().as_deref(), id).await;
        self.discard_container(id, &sandbox.files.container(id)).await
    }

    /// Removes a sandbox that was being made or removed when the process before this one ended.
    async fn remove_leftover(&self, id: SandboxId) {
        let files = self.layout.sandbox(&id);
        let Some((record, cgroup)) = read_record(&files.intent()) else {
            // Nothing was made before the intent was written down.
            if let Err(error) = blocking(move || files.remove_empty()).await {
                tracing::warn!(sandbox = %id, %error, "a leftover cannot be removed");
            }
            return;
        };
        let sandbox = Arc::new(Sandbox::new(id.clone(), record, files, cgroup, None));
        let removing = async {
            let containers = sandbox.files.containers();
            for container in containers.map_err(|error| failed("looking for containers", error))? {
                self.remove_half_made(&sandbox, &container).await?;
            }
            self.dismantle(&sandbox).await
        };
        if let Err(error) = removing.await {
            tracing::warn!(sandbox = %id, error = chain(&error), "a leftover cannot be removed");
            sandbox.set_untracked(true);
            self.with_tables(|tables| tables.sandboxes.insert(id, sandbox));
        }
    }
}

/// What is found of a container whose end was not recorded.
enum Found {
    Ended(Ending),
    ShimGone,
}

/// Asks the shim what became of a container.
async fn look(
    shim: &Shim,
    id: &ContainerId,
    started: Option<StartedRecord>,
    files: &ContainerFiles,
) -> (ContainerState, Option<Found>) {
    let state = shim.state(&id.0).await;
    match (state, started) {
        (Ok(TaskState::Running { pid }), Some(started)) => {
            (ContainerState::Running { pid, started_at: started.started_at }, None)
        }
        // Nobody has ordered its start: it did not run, and may be made again.
        (Ok(TaskState::Created), None) => match undo_create(shim, id).await {
            Ok(()) => (ContainerState::Created, None),
            Err(error) => {
                let why = format!("its start was interrupted: {error}");
                (ContainerState::Created, Some(Found::Ended(Ending::unknown(&why))))
            }
        },
        // It was being started when the process before this one ended, and nobody has been told. It may
        // have run for a moment: that counts.
        (Ok(TaskState::Running { .. } | TaskState::Created), _) => {
            let process = Process::first_of(&id.0);
            let ending = match shim.signal(process, SIGKILL, Reach::All).await {
                Ok(()) => Ending::unknown("its start was interrupted"),
                Err(error) => Ending::unknown(&format!("its start was interrupted: {error}")),
            };
            (ContainerState::Created, Some(Found::Ended(ending)))
        }
        (Ok(TaskState::Stopped(exit)), _) => {
            (ContainerState::Created, Some(Found::Ended(Ending::seen(exit))))
        }
        (Err(CallError::NotFound), None) => (ContainerState::Created, None),
        (Err(CallError::NotFound), Some(_)) => {
            let ending = Ending::unknown("the shim has forgotten the container");
            (ContainerState::Created, Some(Found::Ended(ending)))
        }
        (Err(error), started) if shim.is_running() => {
            // A slow shim is no reason to end anything. Whether the container has ended is told by
            // the wait for that, whenever the shim gets round to it.
            tracing::warn!(container = %id, error = chain(&error), "a shim is slow to answer");
            let running = |started: StartedRecord| ContainerState::Running {
                pid: first_process(files),
                started_at: started.started_at,
            };
            (started.map_or(ContainerState::Created, running), None)
        }
        (Err(_), _) => (ContainerState::Created, Some(Found::ShimGone)),
    }
}

/// Takes back a task that has not been started.
async fn undo_create(shim: &Shim, id: &ContainerId) -> Result<(), CallError> {
    let process = Process::first_of(&id.0);
    shim.signal(process, SIGKILL, Reach::All).await?;
    match tokio::time::timeout(KILL_DEADLINE, shim.wait(process)).await {
        Ok(Ok(_) | Err(CallError::NotFound)) => shim.delete(process).await,
        Ok(Err(error)) => Err(error),
        Err(_elapsed) => Err(CallError::Timeout(KILL_DEADLINE)),
    }
}

/// Zero where it is not known.
fn first_process(files: &ContainerFiles) -> u32 {
    let written = fs::read_to_string(files.first_process()).unwrap_or_default();
    written.trim().parse().unwrap_or_default()
}

/// The process before this one may have ended between taking note of a container's end and telling
/// the shim.
async fn forget_task(shim: Option<&Shim>, id: &ContainerId) {
    if let Some(shim) = shim
        && let Err(error) = shim.delete(Process::first_of(&id.0)).await
    {
        tracing::warn!(container = %id, error = chain(&error), "a shim keeps an ended task");
    }
}

fn read_record(path: &Path) -> Option<(SandboxRecord, CgroupPath)> {
    let read = records::read::<SandboxRecord>(path).and_then(|record| {
        let with_cgroup = |record: SandboxRecord| {
            let cgroup = record.config.cgroup.parse().map_err(io::Error::other)?;
            Ok((record, cgroup))
        };
        record.map(with_cgroup).transpose()
    });
    read.unwrap_or_else(|error| {
        let path = path.display();
        tracing::warn!(%path, %error, "the record of a sandbox cannot be read; the sandbox is removed");
        None
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::shim::ShimAddress;
    use super::super::layout::Layout;
    use super::*;
    use crate::runtime::{LogLimits, ShimRuntimeConfig};
    use crate::stdx::Clock;
    use async_trait::async_trait;
    use containerd_shim_protos::api;
    use containerd_shim_protos::shim_async::{Task, create_task};
    use containerd_shim_protos::ttrpc::asynchronous::{Server, TtrpcContext};
    use containerd_shim_protos::ttrpc::{Code, Error, Result as TtrpcResult, get_status};
    use jiff::Timestamp;

    /// A shim that lives, since this process does, and says nothing of use.
    struct Slow;

    #[async_trait]
    impl Task for Slow {
        async fn connect(
            &self,
            _context: &TtrpcContext,
            _request: api::ConnectRequest,
        ) -> TtrpcResult<api::ConnectResponse> {
            let mut answer = api::ConnectResponse::new();
            answer.shim_pid = std::process::id();
            Ok(answer)
        }

        async fn state(
            &self,
            _context: &TtrpcContext,
            _request: api::StateRequest,
        ) -> TtrpcResult<api::StateResponse> {
            Err(Error::RpcStatus(get_status(Code::UNAVAILABLE, "not now")))
        }
    }

    #[tokio::test]
    async fn a_container_goes_on_while_its_shim_lives() {
        let directory = tempfile::tempdir().unwrap();
        let socket = format!("unix://{}", directory.path().join("shim").display());
        let task = create_task(Arc::new(Slow));
        let mut server = Server::new().bind(&socket).unwrap().register_service(task);
        server.start().await.unwrap();
        let address = serde_json::json!({ "socket": socket, "task_api": "V3" });
        let address: ShimAddress = serde_json::from_value(address).unwrap();
        let shim = Shim::connect(&address).await.unwrap();
        let layout = Layout::new(&ShimRuntimeConfig {
            data_dir: directory.path().to_owned(),
            run_dir: directory.path().to_owned(),
            cgroup_root: "/none".to_owned(),
            executable: "/none".into(),
            log_limits: LogLimits::UPSTREAM,
            clock: Clock::system(),
        });
        let id = ContainerId("c".to_owned());
        let files = layout.sandbox(&SandboxId("s".to_owned())).container(&id);
        files.create_bundle().unwrap();
        fs::write(files.first_process(), "17").unwrap();
        let started_at = Timestamp::UNIX_EPOCH;
        let (state, ending) = look(&shim, &id, Some(StartedRecord { started_at }), &files).await;
        assert_eq!(state, ContainerState::Running { pid: 17, started_at });
        assert!(ending.is_none());
        let (state, ending) = look(&shim, &id, None, &files).await;
        assert_eq!(state, ContainerState::Created);
        assert!(ending.is_none());
    }
}
