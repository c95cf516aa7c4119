//! Sandboxes: pinned namespaces, a cgroup and a shim.

use super::super::shim::{Handler, Process, Reach, SIGKILL, Shim, find_handler, launch};
use super::super::spec::{self, SandboxPaths};
use super::super::{
    ContainerState, LinuxResources, NamespaceMode, RuntimeError, RuntimeEvent, SandboxConfig,
    SandboxId, SandboxStatus,
};
use super::layout::{SandboxFiles, remove_directory};
use super::records::{self, PauseRecord, SandboxRecord};
use super::stray::end_strays;
use super::tables::{Container, Sandbox};
use super::{Engine, failed};
use crate::runtime::companion;
use crate::stdx::{blocking, chain, fault};
use crate::sys::cgroup::{CgroupPath, HugepageLimit, Limits};
use crate::sys::mount::{self, Tmpfs};
use crate::sys::namespace as namespaces;
use crate::sys::namespace::{self, Kind};
use crate::sys::process::Program;
use crate::sys::process_watch::ProcessWatch;
use futures_util::future::join_all;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The most that the containers of a pod may have in `/dev/shm`, as containerd has it.
const SHARED_MEMORY: Tmpfs = Tmpfs { size_bytes: 64 << 20, mode: 0o1777, group: None };

/// How long processes may take to end after SIGKILL before the sandbox is said not to stop.
pub(super) const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// How long a shim may take to end by itself before it is killed.
const SHIM_DEADLINE: Duration = Duration::from_secs(2);

/// How long the process that holds a process namespace may take to start.
const PAUSE_DEADLINE: Duration = Duration::from_secs(10);

/// Where the containers of a sandbox find what they share.
pub(super) fn shared_paths(config: &SandboxConfig, files: &SandboxFiles) -> SandboxPaths {
    let kinds = pinned_kinds(config);
    let pinned = |kind| kinds.contains(&kind).then(|| files.namespace(kind));
    let shares_processes = config.namespaces.pid == NamespaceMode::Pod;
    let is_host_ipc = config.namespaces.ipc == NamespaceMode::Node;
    SandboxPaths {
        network: pinned(Kind::Network),
        ipc: pinned(Kind::Ipc),
        uts: pinned(Kind::Uts),
        pid: shares_processes.then(|| files.process_namespace()),
        shared_memory: if is_host_ipc { "/dev/shm".into() } else { files.shared_memory() },
        hostname_file: files.hostname(),
    }
}

/// A pod on the node's network has the node's hostname as well, as with containerd.
fn pinned_kinds(config: &SandboxConfig) -> Vec<Kind> {
    let mut kinds = Vec::new();
    if config.namespaces.network != NamespaceMode::Node {
        kinds.extend([Kind::Network, Kind::Uts]);
    }
    if config.namespaces.ipc != NamespaceMode::Node {
        kinds.push(Kind::Ipc);
    }
    kinds
}

/// 64 hexadecimal digits.
pub(super) fn new_id() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

impl Engine {
    pub(super) async fn run_sandbox(
        self: &Arc<Self>,
        config: SandboxConfig,
    ) -> Result<SandboxStatus, RuntimeError> {
        let handler = self.handler(&config)?;
        let cgroup = parse_cgroup(&config.cgroup)?;
        self.end_untracked(&config.pod.uid).await?;
        let id = SandboxId(new_id());
        let files = self.layout.sandbox(&id);
        let record = SandboxRecord {
            config,
            created_at: self.config.clock.now(),
            boot_id: self.boot_id.clone(),
            is_stopped: false,
        };
        let sandbox = match self.make_sandbox(&id, &record, &handler).await {
            Ok(shim) => Sandbox::new(id, record, files, cgroup, Some(shim)),
            Err(error) => {
                let half_made = Sandbox::new(id, record, files, cgroup, None);
                if let Err(leftover) = self.dismantle(&half_made).await {
                    let leftover = chain(&leftover);
                    tracing::warn!(error = leftover, "a half-made sandbox stays until the restart");
                }
                return Err(error);
            }
        };
        let sandbox = Arc::new(sandbox);
        let status = sandbox.status();
        self.with_tables(|tables| {
            tables.sandboxes.insert(sandbox.id.clone(), Arc::clone(&sandbox))
        });
        self.watch_sandbox(&sandbox);
        Ok(status)
    }

    pub(super) fn handler(&self, config: &SandboxConfig) -> Result<Handler, RuntimeError> {
        find_handler(&config.runtime_handler, self.cgroups.is_hybrid())
    }

    async fn make_sandbox(
        self: &Arc<Self>,
        id: &SandboxId,
        record: &SandboxRecord,
        handler: &Handler,
    ) -> Result<Shim, RuntimeError> {
        let files = self.layout.sandbox(id);
        files
            .create_run()
            .and_then(|()| records::write(&files.intent(), record))
            .and_then(|()| fs::write(files.shim().join("log"), ""))
            .and_then(|()| {
                let group = serde_json::to_vec(&spec::render_group(id))?;
                fs::write(files.shim().join("config.json"), group)
            })
            .map_err(|error| failed("making a sandbox's directory", error))?;
        fault::point("sandbox: intent written");
        let (shim, isolated) = tokio::join!(
            self.start_shim(id, &files, handler),
            self.isolate(&record.config, &files)
        );
        let shim = shim?;
        isolated?;
        fault::point("sandbox: all made");
        let (files, record) = (files.clone(), record.clone());
        blocking(move || {
            files.create_record()?;
            records::write(&files.record(), &record)
        })
        .await
        .map_err(|error| failed("recording a sandbox", error))?;
        fault::point("sandbox: recorded");
        Ok(shim)
    }

    async fn start_shim(
        &self,
        id: &SandboxId,
        files: &SandboxFiles,
        handler: &Handler,
    ) -> Result<Shim, RuntimeError> {
        let directory = files.shim();
        let cgroup_files = self
            .make_cgroup(self.shims_cgroup.clone())
            .await
            .map_err(|error| failed("making the shims' cgroup", error))?;
        let address = launch::start(launch::Launch {
            handler,
            sandbox: &id.0,
            directory: &directory,
            temporary: files.temporary(),
            cgroup_files: &cgroup_files,
            node: self.layout.node(),
            events_socket: &self.layout.events_socket(),
        })
        .await?;
        fault::point("sandbox: shim started");
        records::write(&files.shim_address(), &address)
            .map_err(|error| failed("recording a shim", error))?;
        fault::point("sandbox: shim recorded");
        Shim::connect(&address).await.map_err(|error| error.of("connecting to the shim"))
    }

    /// Makes a cgroup that a program can be started in.
    pub(super) async fn make_cgroup(&self, cgroup: CgroupPath) -> io::Result<Vec<PathBuf>> {
        let cgroups = self.cgroups.clone();
        blocking(move || cgroups.create(&cgroup).map(|()| cgroups.process_files(&cgroup))).await
    }

    pub(super) async fn limit_cgroup(
        &self,
        cgroup: &str,
        resources: LinuxResources,
    ) -> Result<(), RuntimeError> {
        let (cgroups, cgroup) = (self.cgroups.clone(), parse_cgroup(cgroup)?);
        blocking(move || {
            cgroups.create(&cgroup).and_then(|()| cgroups.apply(&cgroup, &limits(&resources)))
        })
        .await
        .map_err(|error| failed("limiting a cgroup", error))
    }

    /// Makes the namespaces, the cgroup and what else containers share.
    async fn isolate(
        self: &Arc<Self>,
        config: &SandboxConfig,
        files: &SandboxFiles,
    ) -> Result<(), RuntimeError> {
        let cgroup = parse_cgroup(&config.cgroup)?;
        check_sysctls(config)?;
        let engine = Arc::clone(self);
        let (shared_config, shared_files) = (config.clone(), files.clone());
        blocking(move || {
            engine
                .cgroups
                .create(&cgroup)
                .and_then(|()| engine.cgroups.apply(&cgroup, &limits(&shared_config.resources)))
                .map_err(|error| failed("making a pod's cgroup", error))?;
            fault::point("sandbox: cgroup made");
            make_namespaces(&shared_config, &shared_files)
                .map_err(|error| failed("making a sandbox's namespaces", error))?;
            fault::point("sandbox: namespaces made");
            make_shared_files(&engine.host.hostname, &shared_config, &shared_files)
                .map_err(|error| failed("making what a pod's containers share", error))
        })
        .await?;
        if config.namespaces.pid == NamespaceMode::Pod {
            self.hold_process_namespace(config, files).await?;
        }
        Ok(())
    }

    async fn hold_process_namespace(
        &self,
        config: &SandboxConfig,
        files: &SandboxFiles,
    ) -> Result<(), RuntimeError> {
        const OPERATION: &str = "making a process namespace";
        let cgroup = parse_cgroup(&config.cgroup)?;
        let cgroup = cgroup.child(&pause_cgroup(files)).expect("an id is a name");
        // It is in its cgroup from the beginning: by that it is found wherever this is interrupted.
        let cgroup_files =
            self.make_cgroup(cgroup).await.map_err(|error| failed(OPERATION, error))?;
        let program = Program::new(&self.config.executable)
            .arg(companion::PAUSE)
            .cgroup(cgroup_files)
            .deadline(PAUSE_DEADLINE);
        let finished = program.run_checked().await.map_err(|error| failed(OPERATION, error))?;
        fault::point("sandbox: pause started");
        let said = String::from_utf8_lossy(&finished.stdout);
        let pid: u32 = said.trim().parse().map_err(|error| failed(OPERATION, error))?;
        let files = files.clone();
        blocking(move || {
            records::write(&files.pause(), &PauseRecord { pid })?;
            fs::write(files.process_namespace(), "")?;
            let namespace = format!("/proc/{pid}/ns/pid");
            mount::bind(Path::new(&namespace), &files.process_namespace())
        })
        .await
        .map_err(|error| failed(OPERATION, error))
    }

    /// Ends all processes of the sandbox and its shim.
    pub(super) async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        let Some(sandbox) = self.with_tables(|tables| tables.sandboxes.get(id).cloned()) else {
            return Ok(());
        };
        if sandbox.shim().is_some() {
            let record = SandboxRecord { is_stopped: true, ..sandbox.record.clone() };
            if let Err(error) = records::write(&sandbox.files.record(), &record) {
                // On a full disk it has to end all the same. Whoever orders this does so again where
                // this process does not get to its end.
                tracing::warn!(sandbox = %id, %error, "the end of a sandbox is not on disk");
            }
            fault::point("sandbox: stop recorded");
        }
        let containers = self.with_tables(|tables| tables.containers_of(id));
        for stopped in join_all(containers.iter().map(|each| self.kill_container(each))).await {
            stopped?;
        }
        if let Some(shim) = sandbox.take_shim() {
            fault::point("sandbox: containers ended");
            end_shim(&shim).await;
            fault::point("sandbox: shim ended");
        }
        self.end_pause(&sandbox).await
    }

    /// Ends a container's processes at once and waits until the shim has said so.
    pub(super) async fn kill_container(
        &self,
        container: &Arc<Container>,
    ) -> Result<(), RuntimeError> {
        if !container.is_running() {
            return Ok(());
        }
        let (cgroups, cgroup) = (self.cgroups.clone(), container.cgroup.clone());
        let has_processes = cgroups.processes(&cgroup).is_ok_and(|pids| !pids.is_empty());
        if has_processes {
            blocking(move || cgroups.kill(&cgroup))
                .await
                .map_err(|error| failed("killing a container", error))?;
        } else if let Some(shim) = container.sandbox.shim() {
            // Processes that only the shim can reach, as in a virtual machine.
            let process = Process::first_of(&container.id.0);
            shim.signal(process, SIGKILL, Reach::All)
                .await
                .map_err(|error| error.of("killing a container"))?;
        }
        tokio::time::timeout(KILL_DEADLINE, container.ended()).await.map_err(|_elapsed| {
            RuntimeError::Timeout {
                operation: "killing a container",
                seconds: KILL_DEADLINE.as_secs(),
            }
        })
    }

    pub(super) async fn end_pause(&self, sandbox: &Sandbox) -> Result<(), RuntimeError> {
        let cgroup = sandbox.cgroup.child(&pause_cgroup(&sandbox.files)).expect("an id is a name");
        let cgroups = self.cgroups.clone();
        blocking(move || cgroups.kill(&cgroup).and_then(|()| cgroups.remove(&cgroup)))
            .await
            .map_err(|error| failed("ending a process namespace", error))
    }

    pub(super) async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        self.stop_sandbox(id).await?;
        let Some(sandbox) = self.with_tables(|tables| tables.sandboxes.get(id).cloned()) else {
            return Ok(());
        };
        for container in self.with_tables(|tables| tables.containers_of(id)) {
            self.remove_container(&container.id).await?;
        }
        self.dismantle(&sandbox).await?;
        self.with_tables(|tables| tables.sandboxes.remove(id));
        Ok(())
    }

    /// Removes all that there is of a sandbox without containers, the record last.
    pub(super) async fn dismantle(&self, sandbox: &Sandbox) -> Result<(), RuntimeError> {
        end_strays(&sandbox.files).await?;
        self.end_pause(sandbox).await?;
        let is_shared = self.with_tables(|tables| {
            let mut others = tables.sandboxes.values().filter(|other| other.id != sandbox.id);
            others.any(|other| other.cgroup == sandbox.cgroup)
        });
        let (cgroups, cgroup) = (self.cgroups.clone(), sandbox.cgroup.clone());
        let files = sandbox.files.clone();
        blocking(move || {
            for kind in [Kind::Network, Kind::Ipc, Kind::Uts] {
                namespaces::unpin(&files.namespace(kind))?;
            }
            mount::unmount_all(files.run_directory())?;
            fault::point("sandbox: unmounted");
            // A pod's next sandbox has the same cgroup.
            if !is_shared {
                cgroups.kill(&cgroup)?;
                cgroups.remove(&cgroup)?;
            }
            fault::point("sandbox: cgroup removed");
            files.remove_run()?;
            fault::point("sandbox: run directory removed");
            remove_directory(files.record_directory())
        })
        .await
        .map_err(|error: io::Error| failed("removing a sandbox", error))
    }

    /// Watches for what ends a sandbox unasked: the end of its shim, or of the process that holds
    /// its process namespace.
    pub(super) fn watch_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        let Some(shim) = sandbox.shim() else {
            return;
        };
        let pause = watch_pause(&sandbox.files);
        let (engine, sandbox) = (Arc::clone(self), Arc::clone(sandbox));
        self.tasks.spawn(async move {
            let pause_ended = async {
                match &pause {
                    Pause::None => std::future::pending().await,
                    Pause::Watched(pause) => pause.ended().await,
                    Pause::Gone => {}
                }
            };
            tokio::select! {
                () = engine.shutdown.cancelled() => return,
                () = shim.ended() => {}
                () = pause_ended => {}
            }
            // Whoever stops a sandbox takes its shim first.
            if let Some(shim) = sandbox.take_shim() {
                tracing::warn!(sandbox = %sandbox.id, "the shim of a sandbox has ended unexpectedly");
                engine.lose_sandbox(&sandbox, &shim).await;
            }
        });
    }

    pub(super) async fn lose_sandbox(&self, sandbox: &Arc<Sandbox>, shim: &Shim) {
        if let Err(error) = shim.kill() {
            tracing::warn!(sandbox = %sandbox.id, %error, "a shim cannot be killed");
        }
        for container in self.with_tables(|tables| tables.containers_of(&sandbox.id)) {
            if matches!(container.state(), ContainerState::Running { .. }) {
                self.lose_container(&container).await;
            }
        }
        if let Err(error) = self.end_pause(sandbox).await {
            tracing::warn!(sandbox = %sandbox.id, error = chain(&error), "processes are left");
        }
        let pod = sandbox.record.config.pod.clone();
        self.events.send(RuntimeEvent::SandboxLost { pod, sandbox: sandbox.id.clone() });
    }
}

/// The process that holds the process namespace of a sandbox.
enum Pause {
    None,
    Watched(ProcessWatch),
    Gone,
}

fn watch_pause(files: &SandboxFiles) -> Pause {
    let Ok(Some(record)) = records::read::<PauseRecord>(&files.pause()) else {
        return Pause::None;
    };
    let Ok(watch) = ProcessWatch::open(record.pid) else {
        return Pause::Gone;
    };
    // After its end, another process may have its id, but none is in its namespace.
    let own = fs::metadata(format!("/proc/{}/ns/pid", record.pid));
    let pinned = fs::metadata(files.process_namespace());
    match (own, pinned) {
        (Ok(own), Ok(pinned)) if own.ino() == pinned.ino() => Pause::Watched(watch),
        _ => Pause::Gone,
    }
}

pub(super) async fn end_shim(shim: &Shim) {
    if let Err(error) = shim.shut_down().await {
        tracing::debug!(error = chain(&error), "a shim does not shut down by itself");
    }
    if tokio::time::timeout(SHIM_DEADLINE, shim.ended()).await.is_err() {
        if let Err(error) = shim.kill() {
            tracing::warn!(%error, "a shim cannot be killed");
        }
        shim.ended().await;
    }
}

/// The name of the cgroup that the holder of a process namespace is in, below the pod's.
pub(super) fn pause_cgroup(files: &SandboxFiles) -> String {
    let id = files.run_directory().file_name().unwrap_or_default().to_string_lossy();
    format!("pause-{id}")
}

pub(super) fn parse_cgroup(text: &str) -> Result<CgroupPath, RuntimeError> {
    text.parse().map_err(|error| RuntimeError::Invalid(format!("{error}")))
}

fn limits(resources: &LinuxResources) -> Limits {
    let hugepage = |limit: &super::super::HugepageLimit| HugepageLimit {
        page_size: limit.page_size.clone(),
        bytes: limit.bytes,
    };
    Limits {
        cpu_shares: resources.cpu_shares,
        cpu_quota: resources.cpu_quota,
        cpu_period: resources.cpu_period,
        memory_bytes: resources.memory_limit_bytes,
        pids: resources.pids_limit,
        hugepages: resources.hugepage_limits.iter().map(hugepage).collect(),
    }
}

/// Sysctls that belong to a namespace, and to which: upstream pkg/kubelet/sysctl/namespace.go, v1.35.
fn sysctl_kind(name: &str) -> Option<Kind> {
    let is_ipc = name == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix));
    if is_ipc {
        Some(Kind::Ipc)
    } else if name.starts_with("net.") {
        Some(Kind::Network)
    } else {
        None
    }
}

fn check_sysctls(config: &SandboxConfig) -> Result<(), RuntimeError> {
    let kinds = pinned_kinds(config);
    for name in config.sysctls.keys() {
        let is_own = sysctl_kind(name).is_some_and(|kind| kinds.contains(&kind));
        if !is_own || name.contains("..") {
            let text = format!("sysctl `{name}` does not belong to a namespace of the pod's own");
            return Err(RuntimeError::Invalid(text));
        }
    }
    Ok(())
}

fn make_namespaces(config: &SandboxConfig, files: &SandboxFiles) -> io::Result<()> {
    let kinds = pinned_kinds(config);
    let pins: Vec<(Kind, PathBuf)> =
        kinds.iter().map(|kind| (*kind, files.namespace(*kind))).collect();
    if pins.is_empty() {
        return Ok(());
    }
    namespace::make_pinned(&pins, || {
        if kinds.contains(&Kind::Uts) && !config.hostname.is_empty() {
            rustix::system::sethostname(config.hostname.as_bytes())?;
        }
        if kinds.contains(&Kind::Network) {
            namespace::loopback_up()?;
        }
        config.sysctls.iter().try_for_each(|(name, value)| {
            let file = Path::new("/proc/sys").join(name.replace('.', "/"));
            fs::write(&file, value).map_err(|error| {
                io::Error::new(error.kind(), format!("setting sysctl `{name}`: {error}"))
            })
        })
    })
}

fn make_shared_files(
    node_hostname: &str,
    config: &SandboxConfig,
    files: &SandboxFiles,
) -> io::Result<()> {
    let is_own = pinned_kinds(config).contains(&Kind::Uts);
    let hostname = if is_own { &config.hostname } else { node_hostname };
    fs::write(files.hostname(), format!("{hostname}\n"))?;
    std::os::unix::fs::chown(files.hostname(), Some(0), Some(0))?;
    fs::set_permissions(files.hostname(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    if config.namespaces.ipc != NamespaceMode::Node {
        mount::tmpfs(&files.shared_memory(), SHARED_MEMORY)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::SandboxNamespaces;

    #[test]
    fn sysctls_are_for_the_pods_own_namespaces() {
        let check = |name: &str, network, expected: bool| {
            let config = SandboxConfig {
                namespaces: SandboxNamespaces { network, ..SandboxNamespaces::default() },
                sysctls: [(name.to_owned(), "1".to_owned())].into(),
                ..SandboxConfig::default()
            };
            assert_eq!(check_sysctls(&config).is_ok(), expected, "{name}");
        };
        check("net.ipv4.ip_forward", NamespaceMode::Pod, true);
        check("net.ipv4.ip_forward", NamespaceMode::Node, false);
        check("kernel.shm_rmid_forced", NamespaceMode::Node, true);
        check("kernel.panic", NamespaceMode::Pod, false);
        check("net.../../kernel.panic", NamespaceMode::Pod, false);
    }
}
