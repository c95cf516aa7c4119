//! Finding what an earlier process left: running containers are adopted, half-made things and
//! leftovers are removed.

use super::super::shim::{CallError, Process, Reach, SIGKILL, Shim, TaskState};
use super::super::{ContainerId, ContainerState, RuntimeError, SandboxId};
use super::layout::SandboxFiles;
use super::records::{self, ContainerRecord, SandboxRecord, StartedRecord};
use super::sandbox::parse_cgroup;
use super::stray::{end_strays, find_shim};
use super::supervise::Ending;
use super::tables::{Container, Sandbox};
use super::{Engine, failed};
use crate::stdx::{blocking, chain};
use futures_util::StreamExt as _;
use futures_util::stream;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// How many sandboxes are looked at side by side.
const SANDBOXES_AT_ONCE: usize = 16;

/// Fills the tables from what is on disk.
pub(super) async fn adopt_all(engine: &Arc<Engine>) -> Result<(), RuntimeError> {
    const OPERATION: &str = "looking for sandboxes";
    let recorded = engine.layout.recorded().map_err(|error| failed(OPERATION, error))?;
    let running = engine.layout.running().map_err(|error| failed(OPERATION, error))?;
    let ids: BTreeSet<SandboxId> = recorded.into_iter().chain(running).collect();
    let adopting = ids.into_iter().map(|id| async move {
        let adopted = engine.adopt_sandbox(&id).await;
        if let Err(error) = adopted {
            tracing::warn!(sandbox = %id, error = chain(&error), "a sandbox cannot be adopted");
        }
    });
    stream::iter(adopting).buffer_unordered(SANDBOXES_AT_ONCE).collect::<()>().await;
    let known = engine.with_tables(|tables| tables.containers.keys().cloned().collect());
    engine.images.retain_rootfs(known).await
}

impl Engine {
    async fn adopt_sandbox(self: &Arc<Self>, id: &SandboxId) -> Result<(), RuntimeError> {
        let files = self.layout.sandbox(id);
        let Some(record) = read_record(&files) else {
            return self.remove_leftover(id, files).await;
        };
        let cgroup = parse_cgroup(&record.config.cgroup)?;
        let is_same_boot = record.boot_id == self.boot_id;
        let shim = if is_same_boot { find_shim(&files).await } else { None };
        if shim.is_none() {
            end_strays(&files).await?;
        }
        let is_stopped = record.is_stopped;
        let sandbox = Arc::new(Sandbox::new(id.clone(), record, files, cgroup, shim));
        self.adopt_containers(&sandbox, is_same_boot).await?;
        self.with_tables(|tables| tables.sandboxes.insert(id.clone(), Arc::clone(&sandbox)));
        if is_stopped {
            // The process before this one was ending it.
            return self.stop_sandbox(id).await;
        }
        self.watch_sandbox(&sandbox);
        Ok(())
    }

    async fn adopt_containers(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        is_same_boot: bool,
    ) -> Result<(), RuntimeError> {
        const OPERATION: &str = "looking for containers";
        let files = &sandbox.files;
        let recorded = files.recorded_containers().map_err(|error| failed(OPERATION, error))?;
        let bundles = files.bundles().map_err(|error| failed(OPERATION, error))?;
        let ids: BTreeSet<ContainerId> = recorded.into_iter().chain(bundles).collect();
        for id in ids {
            let record = records::read::<ContainerRecord>(&files.container(&id).record());
            match record {
                Ok(Some(record)) => self.adopt_container(sandbox, id, record, is_same_boot).await,
                Ok(None) | Err(_) => self.remove_half_made(sandbox, &id).await?,
            }
        }
        Ok(())
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
            (None, Some(shim)) => look(shim, &id, started).await,
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

    /// Removes a container that was being made when the process before this one ended.
    async fn remove_half_made(
        &self,
        sandbox: &Sandbox,
        id: &ContainerId,
    ) -> Result<(), RuntimeError> {
        self.discard_container(id, &sandbox.files.container(id)).await
    }

    /// Removes a sandbox that was being made or removed when the process before this one ended.
    async fn remove_leftover(
        &self,
        id: &SandboxId,
        files: SandboxFiles,
    ) -> Result<(), RuntimeError> {
        let intent = records::read::<SandboxRecord>(&files.intent()).unwrap_or_default();
        let bundles = files.bundles().map_err(|error| failed("looking for containers", error))?;
        let Some(record) = intent else {
            // Nothing was made before the intent was written down.
            return blocking(move || files.remove_empty())
                .await
                .map_err(|error| failed("removing a leftover", error));
        };
        let cgroup = parse_cgroup(&record.config.cgroup)?;
        let sandbox = Sandbox::new(id.clone(), record, files, cgroup, None);
        for container in bundles {
            self.remove_half_made(&sandbox, &container).await?;
        }
        self.dismantle(&sandbox).await
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
) -> (ContainerState, Option<Found>) {
    let state = shim.state(&id.0).await;
    match (state, started) {
        (Ok(TaskState::Running { pid }), Some(started)) => {
            (ContainerState::Running { pid, started_at: started.started_at }, None)
        }
        // It was being started when the process before this one ended, and nobody has been told.
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
        (Err(_), _) => (ContainerState::Created, Some(Found::ShimGone)),
    }
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

fn read_record(files: &SandboxFiles) -> Option<SandboxRecord> {
    records::read(&files.record()).unwrap_or_else(|error: io::Error| {
        tracing::warn!(%error, "the record of a sandbox cannot be read; the sandbox is removed");
        None
    })
}
