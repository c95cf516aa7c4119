//! Containers: a bundle, a root file system and a task of the sandbox's shim.

use super::super::images::ImageConfig;
use super::super::shim::{CallError, NewTask, Process, Reach, SIGKILL, Shim, launch};
use super::super::spec::{self, HostTraits, Inputs};
use super::super::{
    ContainerConfig, ContainerId, ContainerState, ContainerUser, Mount, NamespaceMode,
    RuntimeError, RuntimeEvent, SandboxId, Usage,
};
use super::layout::{ContainerFiles, remove_directory};
use super::records::{self, ContainerRecord, StartedRecord};
use super::sandbox::{new_id, shared_paths};
use super::tables::{Container, Sandbox};
use super::{Engine, failed, host, image_volumes, profiles};
use crate::stdx::{blocking, chain, fault};
use crate::sys::{mount, signal};
use containerd_shim_protos::protobuf::Message as _;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim::oci::Options;
use jiff::Timestamp;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What is said of a container that could not be started: containerd's `errorStartExitCode`.
const START_FAILED_EXIT_CODE: i32 = 128;

impl Engine {
    pub(super) async fn create_container(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
    ) -> Result<ContainerId, RuntimeError> {
        let sandbox = self.sandbox(sandbox)?;
        if sandbox.shim().is_none() {
            let message = "its sandbox is not ready any more".to_owned();
            return Err(RuntimeError::Refused { operation: "creating a container", message });
        }
        let id = ContainerId(new_id());
        let files = sandbox.files.container(&id);
        let made = self.make_container(&sandbox, &id, config).await;
        match made {
            Ok(record) => {
                let container =
                    Container::new(id.clone(), sandbox, record, ContainerState::Created);
                self.with_tables(|tables| {
                    tables.containers.insert(id.clone(), Arc::new(container));
                });
                Ok(id)
            }
            Err(error) => {
                if let Err(leftover) = self.discard_container(&id, &files).await {
                    let leftover = chain(&leftover);
                    tracing::warn!(
                        error = leftover,
                        "a half-made container stays until the restart"
                    );
                }
                Err(error)
            }
        }
    }

    async fn make_container(
        &self,
        sandbox: &Arc<Sandbox>,
        id: &ContainerId,
        mut config: ContainerConfig,
    ) -> Result<ContainerRecord, RuntimeError> {
        const OPERATION: &str = "making a container's bundle";
        let files = sandbox.files.container(id);
        let image = self.images.config(&config.image).await?;
        let stop_signal = spec::stop_signal(&config, &image)?;
        let bundle = files.clone();
        blocking(move || bundle.create_bundle()).await.map_err(|error| failed(OPERATION, error))?;
        fault::point("container: bundle made");
        self.images.prepare_rootfs(&config.image, id, &files.rootfs()).await?;
        fault::point("container: root mounted");
        let read_only = self.mount_images(id, &files, &config).await?;
        config.mounts.extend(image_mounts(&files, &image, (&config, &read_only)).await?);
        let (rootfs, privileged) = (files.rootfs(), config.security.privileged);
        let wanted = config.devices.clone();
        let (user_files, devices, volume_devices) = blocking(move || {
            let devices = if privileged { host::devices()? } else { Vec::new() };
            Ok((host::user_files(&rootfs)?, devices, host::volume_devices(&wanted)?))
        })
        .await
        .map_err(|error: io::Error| failed(OPERATION, error))?;
        let user = spec::resolve_user(&image.user, &config.security, &user_files)?;
        let has_devices = !(devices.is_empty() && volume_devices.is_empty());
        let with_devices =
            has_devices.then(|| HostTraits { devices, volume_devices, ..self.host.clone() });
        let host = with_devices.as_ref().unwrap_or(&self.host);
        let mut paths = shared_paths(&sandbox.record.config, &sandbox.files);
        if let Some(target) = &config.process_namespace_of {
            paths.pid = paths.pid.or(self.process_namespace_of(target)?);
        }
        let profile = profiles::prepare(&config.security).await?;
        let spec = spec::render(Inputs {
            sandbox_id: &sandbox.id,
            sandbox: &sandbox.record.config,
            container_id: id,
            container: &config,
            image: &image,
            user: &user,
            paths: &paths,
            image_mounts: &read_only,
            seccomp: profile.as_ref(),
            host,
        })?;
        let config = without_secrets(config);
        let created_at = self.config.clock.now();
        let user =
            Some(ContainerUser { uid: user.uid, gid: user.gid, groups: user.additional_gids });
        let record = ContainerRecord { config, created_at, stop_signal, user };
        let recorded = record.clone();
        blocking(move || {
            records::write(&files.spec(), &spec)?;
            files.create_record()?;
            records::write(&files.record(), &recorded)
        })
        .await
        .map_err(|error| failed("recording a container", error))?;
        fault::point("container: recorded");
        Ok(record)
    }

    /// Where a container's process namespace is found while it runs; `None` where it has the node's.
    fn process_namespace_of(&self, id: &ContainerId) -> Result<Option<PathBuf>, RuntimeError> {
        let container = self.container(id)?;
        match container.state() {
            _ if container.sandbox.record.config.namespaces.pid == NamespaceMode::Node => Ok(None),
            ContainerState::Running { pid, .. } => Ok(Some(format!("/proc/{pid}/ns/pid").into())),
            ContainerState::Created | ContainerState::Exited { .. } => {
                let message = format!("the target container {id} is not running");
                Err(RuntimeError::Refused { operation: "creating a container", message })
            }
        }
    }

    pub(super) async fn start_container(
        self: &Arc<Self>,
        id: &ContainerId,
    ) -> Result<(), RuntimeError> {
        const OPERATION: &str = "starting a container";
        let container = self.container(id)?;
        match container.state() {
            ContainerState::Created => {}
            ContainerState::Running { .. } => return Ok(()),
            ContainerState::Exited { .. } => {
                let message = "it has ended already".to_owned();
                return Err(RuntimeError::Refused { operation: OPERATION, message });
            }
        }
        let Some(shim) = container.sandbox.shim() else {
            let message = "its sandbox is not ready any more".to_owned();
            return Err(RuntimeError::Refused { operation: OPERATION, message });
        };
        match self.start_task(&container, &shim).await {
            Ok((pid, started_at)) => {
                container.state.send_replace(ContainerState::Running { pid, started_at });
                let pod = container.sandbox.record.config.pod.clone();
                self.events.send(RuntimeEvent::ContainerStarted { pod, container: id.clone() });
                self.supervise(&container, shim);
                Ok(())
            }
            Err(error) => {
                let error = error.of(OPERATION);
                self.fail_start(&container, &shim, &error).await;
                Err(error)
            }
        }
    }

    /// Creates and starts the container's task. Returns its process id and when it started.
    async fn start_task(
        &self,
        container: &Container,
        shim: &Shim,
    ) -> Result<(u32, Timestamp), CallError> {
        let files = &container.files;
        let wiring = self.wire(container).await.map_err(CallError::lost)?;
        let options = self.task_options(container);
        let task = NewTask {
            id: &container.id.0,
            bundle: files.bundle(),
            stdin: &wiring.stdin,
            stdout: &wiring.stdout,
            stderr: &wiring.stderr,
            has_terminal: container.record.config.tty,
            options: options.as_ref(),
        };
        shim.create(task).await?;
        drop(wiring);
        fault::point("container: task created");
        // Before it starts: it may have ended before the shim has answered.
        let started_at = self.config.clock.now();
        records::write(&files.started(), &StartedRecord { started_at }).map_err(CallError::lost)?;
        fault::point("container: start recorded");
        let pid = shim.start(Process::first_of(&container.id.0)).await?;
        fault::point("container: started");
        Ok((pid, started_at))
    }

    /// What the shim for OCI runtimes has to know; others have their own configuration.
    fn task_options(&self, container: &Container) -> Option<Any> {
        let handler = self.handler(&container.sandbox.record.config).ok()?;
        let mut options = Options::new();
        options.binary_name = handler.oci_runtime?.to_string_lossy().into_owned();
        options.root = self.layout.oci_root().to_string_lossy().into_owned();
        let mut any = Any::new();
        any.type_url = "containerd.runc.v1.Options".to_owned();
        any.value = options.write_to_bytes().expect("a message of strings always serializes");
        Some(any)
    }

    /// A container that could not be started has ended, and says why.
    async fn fail_start(&self, container: &Arc<Container>, shim: &Shim, error: &RuntimeError) {
        let process = Process::first_of(&container.id.0);
        if let Err(error) = shim.signal(process, SIGKILL, Reach::All).await {
            tracing::debug!(container = %container.id, error = chain(&error), "nothing to kill");
        }
        let message = match error {
            RuntimeError::Refused { message, .. } => message.clone(),
            error => chain(error),
        };
        let ending = super::supervise::Ending { code: START_FAILED_EXIT_CODE, at: None, message };
        self.end(container, Some(shim), ending).await;
    }

    /// Asks the container to end, and makes it after `grace`.
    pub(super) async fn stop_container(
        &self,
        id: &ContainerId,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        let Some(container) = self.with_tables(|tables| tables.containers.get(id).cloned()) else {
            return Ok(());
        };
        if !container.is_running() {
            return Ok(());
        }
        if !grace.is_zero()
            && let Some(shim) = container.sandbox.shim()
        {
            let process = Process::first_of(&id.0);
            let asked = shim.signal(process, container.record.stop_signal, Reach::One).await;
            match asked {
                Ok(()) => {
                    if tokio::time::timeout(grace, container.ended()).await.is_ok() {
                        return Ok(());
                    }
                }
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(container = %id, error, "asking a container to end failed");
                }
            }
        }
        self.kill_container(&container).await
    }

    pub(super) async fn remove_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let Some(container) = self.with_tables(|tables| tables.containers.get(id).cloned()) else {
            return Ok(());
        };
        self.kill_container(&container).await?;
        let (cgroups, cgroup) = (self.cgroups.clone(), container.cgroup.clone());
        blocking(move || cgroups.kill(&cgroup).and_then(|()| cgroups.remove(&cgroup)))
            .await
            .map_err(|error| failed("removing a container's cgroup", error))?;
        fault::point("container: cgroup removed");
        self.discard_container(id, &container.files).await?;
        self.with_tables(|tables| tables.containers.remove(id));
        Ok(())
    }

    /// Removes the files of a container that has no processes, its record last.
    pub(super) async fn discard_container(
        &self,
        id: &ContainerId,
        files: &ContainerFiles,
    ) -> Result<(), RuntimeError> {
        const OPERATION: &str = "removing a container";
        let oci_state = self.layout.oci_root().join(launch::NAMESPACE).join(&id.0);
        let ended = files.clone();
        blocking(move || {
            mount::unmount_all(ended.bundle())?;
            remove_directory(ended.bundle())?;
            // The OCI runtime has removed it, except where its shim died.
            remove_directory(&oci_state)
        })
        .await
        .map_err(|error: io::Error| failed(OPERATION, error))?;
        fault::point("container: bundle removed");
        self.images.release_rootfs(id).await?;
        fault::point("container: layer removed");
        let record = files.record_directory().to_owned();
        blocking(move || remove_directory(&record)).await.map_err(|error| failed(OPERATION, error))
    }

    pub(super) fn usage(&self, id: &ContainerId) -> Result<Usage, RuntimeError> {
        let container = self.container(id)?;
        self.cgroups
            .usage(&container.cgroup)
            .map_err(|error| failed("reading what a container uses", error))
    }

    pub(super) fn reopen_log(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let container = self.container(id)?;
        if !container.is_running() {
            return Ok(());
        }
        hang_up_logger(&container.files).map_err(|error| failed("reopening a log", error))
    }

    pub(super) fn container(&self, id: &ContainerId) -> Result<Arc<Container>, RuntimeError> {
        self.with_tables(|tables| tables.containers.get(id).cloned())
            .ok_or_else(|| RuntimeError::NotFound { what: "container", id: id.to_string() })
    }

    fn sandbox(&self, id: &SandboxId) -> Result<Arc<Sandbox>, RuntimeError> {
        self.with_tables(|tables| tables.sandboxes.get(id).cloned())
            .ok_or_else(|| RuntimeError::NotFound { what: "sandbox", id: id.to_string() })
    }
}

/// Makes the volumes that the image declares.
async fn image_mounts(
    files: &ContainerFiles,
    image: &ImageConfig,
    (config, images): (&ContainerConfig, &[Mount]),
) -> Result<Vec<Mount>, RuntimeError> {
    if image.volumes.is_empty() {
        return Ok(Vec::new());
    }
    let mounts = [&config.mounts[..], images].concat();
    let (files, declared) = (files.clone(), image.volumes.clone());
    blocking(move || {
        image_volumes::make(image_volumes::Inputs {
            declared: &declared,
            mounts: &mounts,
            rootfs: &files.rootfs(),
            directory: &files.volumes(),
        })
    })
    .await
}

/// Variables may be secrets, and commands may be made of them. The specification, which is in memory,
/// has what the container needs; the record is on disk and goes without.
fn without_secrets(config: ContainerConfig) -> ContainerConfig {
    ContainerConfig { environment: Vec::new(), command: Vec::new(), args: Vec::new(), ..config }
}

fn hang_up_logger(files: &ContainerFiles) -> io::Result<()> {
    let pid = fs::read_to_string(files.logger_pid())?;
    let pid = pid.trim().parse::<u32>().map_err(io::Error::other)?;
    // The number may belong to another process by now, where the logger has been killed.
    let command_line = fs::read(format!("/proc/{pid}/cmdline"))?;
    let settings = files.logger_settings();
    let is_logger = command_line
        .split(|byte| *byte == 0)
        .any(|argument| argument == settings.as_os_str().as_encoded_bytes());
    if is_logger { signal::hang_up(pid) } else { Err(io::ErrorKind::NotFound.into()) }
}
