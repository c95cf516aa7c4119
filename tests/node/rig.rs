//! A node of its own for each test: directories, a cgroup, images made of busybox.
//!
//! When a rig is dropped, whatever the test left is removed by id and path, so that a failed test
//! leaves the machine as it was.

use futures_util::future::BoxFuture;
use kinglet::runtime::images::{ImageConfig, Marks, Rootfs};
use kinglet::runtime::{
    ContainerConfig, ContainerId, ContainerState, ContainerStatus, Credentials, ImageId,
    ImageSource, ImageStatus, LinuxResources, LogLimits, NamespaceMode, PodIdentity, PullError,
    Runtime, RuntimeError, SandboxConfig, SandboxNamespaces, SandboxStatus, SecurityConfig,
    ShimRuntime, ShimRuntimeConfig, owner_of_rootfs,
};
use kinglet::stdx::{Clock, blocking, monotonic};
use kinglet::sys::cgroup::{CgroupPath, Cgroups};
use kinglet::sys::{mount, process, signal};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long anything in these tests may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The user that the image has besides root.
pub(crate) const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/:/bin/sh\n";
pub(crate) const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:50:web\n";

pub(crate) struct Rig {
    pub(crate) directory: PathBuf,
    pub(crate) run: PathBuf,
    pub(crate) cgroup: String,
    pub(crate) images: Arc<BusyboxImages>,
    pub(crate) runtime: Option<ShimRuntime>,
    _directories: (tempfile::TempDir, tempfile::TempDir),
}

impl Rig {
    pub(crate) async fn start() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        require_tools();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("/kinglet-node-{}-{count}", std::process::id());
        let data = tempfile::tempdir().unwrap();
        let run = tempfile::Builder::new().prefix("kn").tempdir_in("/run").unwrap();
        let images = Arc::new(BusyboxImages::new(&data.path().join("images")));
        let mut rig = Self {
            directory: data.path().to_owned(),
            run: run.path().to_owned(),
            cgroup,
            images,
            runtime: None,
            _directories: (data, run),
        };
        rig.open().await;
        rig
    }

    pub(crate) fn config(&self) -> ShimRuntimeConfig {
        ShimRuntimeConfig {
            data_dir: self.directory.clone(),
            run_dir: self.run.clone(),
            cgroup_root: self.cgroup.clone(),
            executable: PathBuf::from(env!("CARGO_BIN_EXE_kinglet")),
            log_limits: LogLimits::UPSTREAM,
            clock: Clock::system(),
        }
    }

    /// Starts our side, again or for the first time.
    pub(crate) async fn open(&mut self) {
        let images = Arc::clone(&self.images) as Arc<dyn ImageSource>;
        self.runtime = Some(ShimRuntime::open(self.config(), images).await.unwrap());
    }

    /// Ends our side and leaves everything running.
    pub(crate) async fn close(&mut self) {
        self.runtime.take().unwrap().close(DEADLINE).await;
    }

    pub(crate) fn runtime(&self) -> &ShimRuntime {
        self.runtime.as_ref().unwrap()
    }

    pub(crate) fn sandbox_config(&self, name: &str) -> SandboxConfig {
        SandboxConfig {
            pod: PodIdentity {
                namespace: "default".to_owned(),
                name: name.to_owned(),
                uid: format!("uid-{name}"),
            },
            hostname: name.to_owned(),
            namespaces: SandboxNamespaces {
                network: NamespaceMode::Pod,
                pid: NamespaceMode::Container,
                ipc: NamespaceMode::Pod,
            },
            cgroup: format!("{}/pod-{name}", self.cgroup),
            ..SandboxConfig::default()
        }
    }

    pub(crate) fn container_config(&self, name: &str, script: &str) -> ContainerConfig {
        ContainerConfig {
            process_namespace_of: None,
            name: name.to_owned(),
            attempt: 0,
            image: BusyboxImages::id(),
            image_reference: "busybox".to_owned(),
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            args: vec![],
            environment: vec![],
            working_directory: String::new(),
            mounts: vec![],
            image_mounts: vec![],
            devices: vec![],
            security: SecurityConfig::default(),
            resources: LinuxResources::default(),
            log_path: self.directory.join("logs").join(name).join("0.log"),
            tty: false,
            stdin: false,
            stdin_once: false,
            stop_signal: None,
            labels: BTreeMap::new(),
        }
    }

    pub(crate) async fn run_sandbox(&self, name: &str) -> SandboxStatus {
        self.runtime().run_sandbox(self.sandbox_config(name)).await.unwrap()
    }

    /// Creates and starts a container.
    pub(crate) async fn run(
        &self,
        sandbox: &SandboxStatus,
        config: ContainerConfig,
    ) -> ContainerId {
        let id = self.runtime().create_container(&sandbox.id, config).await.unwrap();
        self.runtime().start_container(&id).await.unwrap();
        id
    }

    pub(crate) async fn status(&self, id: &ContainerId) -> ContainerStatus {
        let all = self.runtime().containers().await.unwrap();
        all.into_iter().find(|status| status.id == *id).unwrap()
    }

    pub(crate) async fn exit_of(&self, id: &ContainerId) -> (i32, bool, String) {
        eventually("a container ends", async || match self.status(id).await.state {
            ContainerState::Exited { exit_code, oom_killed, message, .. } => {
                Ok((exit_code, oom_killed, message))
            }
            state => Err(format!("{state:?}")),
        })
        .await
    }

    /// The log of a container: stream, tag and text of each record.
    pub(crate) fn log(&self, name: &str) -> Vec<String> {
        let path = self.directory.join("logs").join(name).join("0.log");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    pub(crate) async fn log_shows(&self, name: &str, expected: &[&str]) {
        eventually("a log shows it all", async || {
            let log = self.log(name);
            if log == expected { Ok(()) } else { Err(format!("{log:?}")) }
        })
        .await;
    }

    pub(crate) async fn exec(&self, id: &ContainerId, script: &str) -> String {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let result = self.runtime().exec(id, command, DEADLINE).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        assert_eq!(result.exit_code, 0, "{script}: {}", text(&result.stderr));
        text(&result.stdout)
    }

    /// Removes all sandboxes and checks that nothing is left of them.
    pub(crate) async fn finish(mut self) {
        for sandbox in self.runtime().sandboxes().await.unwrap() {
            self.runtime().remove_sandbox(&sandbox.id).await.unwrap();
        }
        assert_eq!(self.leftovers(), Vec::<String>::new());
        self.close().await;
    }

    /// What there is of this node outside this process, apart from its empty directories.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (pid, command) in self.processes() {
            found.push(format!("process {pid}: {command}"));
        }
        for mounted in mount::mounted().unwrap() {
            if mounted.target.starts_with(&self.run) || mounted.target.starts_with(&self.directory)
            {
                found.push(format!("mount {}", mounted.target.display()));
            }
        }
        let cgroups = Cgroups::detect().unwrap();
        for name in cgroups.children(&self.cgroup.parse().unwrap()).unwrap() {
            // All shims of a node have one, which stays.
            if name != "shims" {
                found.push(format!("cgroup {name}"));
            }
        }
        for place in ["sandboxes", "oci/k8s.io"] {
            found.extend(entries(&self.run.join(place)));
        }
        found.extend(entries(&self.directory.join("agent/sandboxes")));
        found.extend(entries(&self.directory.join("images/containers")));
        found
    }

    /// Processes that have something of this node in their command line.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap() {
            let Ok(pid) = entry.unwrap().file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            if command.contains(self.run.to_str().unwrap()) {
                found.push((pid, command));
            }
        }
        found
    }

    /// The process ids of the shims.
    pub(crate) fn shims(&self) -> Vec<u32> {
        let is_shim = |command: &str| command.contains("containerd-shim");
        self.processes().into_iter().filter(|(_, c)| is_shim(c)).map(|(pid, _)| pid).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        drop(self.runtime.take());
        let cgroups = Cgroups::detect().unwrap();
        let cgroup: CgroupPath = self.cgroup.parse().unwrap();
        cgroups.kill(&cgroup).unwrap();
        for (pid, _) in self.processes() {
            signal::kill(pid).unwrap();
        }
        for sandbox in entries(&self.run.join("sandboxes")) {
            let address = fs::read_to_string(Path::new(&sandbox).join("shim.json"));
            let address = address.unwrap_or_default();
            if let Some(socket) = address.split('"').find_map(|text| text.strip_prefix("unix://")) {
                // A shim that ended by itself has removed it.
                fs::remove_file(socket).ok();
            }
        }
        mount::unmount_all(&self.run).unwrap();
        mount::unmount_all(&self.directory).unwrap();
        cgroups.remove(&cgroup).unwrap();
    }
}

fn entries(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path().display().to_string()).collect()
}

/// Fails where the machine lacks something, and says how to get it.
fn require_tools() {
    assert!(nix::unistd::geteuid().is_root(), "these tests need root: sudo make test-node");
    for (program, package) in
        [("containerd-shim-runc-v2", "containerd"), ("runc", "runc"), ("busybox", "busybox-static")]
    {
        let found = process::find(program).is_some();
        assert!(found, "these tests need {program}: apt-get install {package}");
    }
}

/// Waits until `look` finds what it looks for, and says what it saw last where it does not.
pub(crate) async fn eventually<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = monotonic() + DEADLINE;
    loop {
        let seen = match look().await {
            Ok(found) => return found,
            Err(seen) => seen,
        };
        assert!(monotonic() < deadline, "not within {DEADLINE:?}: {what}; last seen: {seen}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One image: busybox with a shell.
#[derive(Debug)]
pub(crate) struct BusyboxImages {
    lower: PathBuf,
    containers: PathBuf,
    pub(crate) config: Mutex<ImageConfig>,
    /// What this container has written cannot be removed.
    pub(crate) stuck: Mutex<Option<ContainerId>>,
}

impl BusyboxImages {
    pub(crate) fn id() -> ImageId {
        ImageId("sha256:busybox".to_owned())
    }

    fn new(directory: &Path) -> Self {
        let lower = directory.join("busybox");
        for name in ["bin", "etc", "tmp", "root"] {
            fs::create_dir_all(lower.join(name)).unwrap();
        }
        fs::copy(process::find("busybox").unwrap(), lower.join("bin/busybox")).unwrap();
        for name in [
            "cat", "dd", "echo", "grep", "head", "hostname", "id", "ip", "kill", "ls", "mkdir",
            "mount", "ps", "pwd", "seq", "sh", "sleep", "stat", "tail", "touch", "tr", "true",
            "yes",
        ] {
            symlink("busybox", lower.join("bin").join(name)).unwrap();
        }
        fs::write(lower.join("etc/passwd"), PASSWD).unwrap();
        fs::write(lower.join("etc/group"), GROUP).unwrap();
        let containers = directory.join("containers");
        fs::create_dir_all(&containers).unwrap();
        Self { lower, containers, config: Mutex::default(), stuck: Mutex::default() }
    }

    /// Where the layers of containers are.
    pub(crate) fn containers(&self) -> &Path {
        &self.containers
    }

    fn rootfs(&self, container: &ContainerId) -> Rootfs {
        let own = self.containers.join(&container.0);
        Rootfs {
            lower: vec![self.lower.clone()],
            upper: own.join("upper"),
            work: own.join("work"),
            marks: Marks::Trusted,
        }
    }
}

impl ImageSource for BusyboxImages {
    fn image(&self, _: &str) -> BoxFuture<'_, Result<Option<ImageStatus>, RuntimeError>> {
        Box::pin(async { Ok(None) })
    }

    fn images(&self) -> BoxFuture<'_, Result<Vec<ImageStatus>, RuntimeError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn pull(
        &self,
        reference: &str,
        _: Vec<Credentials>,
    ) -> BoxFuture<'_, Result<ImageStatus, PullError>> {
        let reference = reference.to_owned();
        Box::pin(async { Err(PullError::NotFound { reference }) })
    }

    fn remove(&self, _: &str) -> BoxFuture<'_, Result<(), RuntimeError>> {
        Box::pin(async { Ok(()) })
    }

    fn config(&self, _: &ImageId) -> BoxFuture<'_, Result<ImageConfig, RuntimeError>> {
        let config = self.config.lock().unwrap().clone();
        Box::pin(async { Ok(config) })
    }

    fn prepare_rootfs(
        &self,
        _: &ImageId,
        container: &ContainerId,
        target: &Path,
    ) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let (rootfs, target) = (self.rootfs(container), target.to_owned());
        Box::pin(blocking(move || {
            fs::create_dir_all(&rootfs.upper).unwrap();
            fs::create_dir_all(&rootfs.work).unwrap();
            rootfs.mount(&target).unwrap();
            Ok(())
        }))
    }

    fn release_rootfs(&self, container: &ContainerId) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let owned = |entry: &fs::DirEntry| {
            let name = ContainerId(entry.file_name().to_string_lossy().into_owned());
            owner_of_rootfs(&name) == container.0
        };
        let entries = fs::read_dir(&self.containers).unwrap().map(Result::unwrap);
        let all: Vec<_> = entries.filter(owned).map(|entry| entry.path()).collect();
        if self.stuck.lock().unwrap().as_ref() == Some(container) {
            let message = "it is stuck".to_owned();
            let error = RuntimeError::Refused { operation: "removing a layer", message };
            return Box::pin(async { Err(error) });
        }
        Box::pin(blocking(move || {
            all.into_iter().for_each(|own| fs::remove_dir_all(own).unwrap());
            Ok(())
        }))
    }

    fn retain_rootfs(
        &self,
        containers: Vec<ContainerId>,
    ) -> BoxFuture<'_, Result<(), RuntimeError>> {
        for entry in fs::read_dir(&self.containers).unwrap() {
            let entry = entry.unwrap();
            let id = ContainerId(entry.file_name().to_string_lossy().into_owned());
            if !containers.iter().any(|kept| kept.0 == owner_of_rootfs(&id)) {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        }
        Box::pin(async { Ok(()) })
    }
}
