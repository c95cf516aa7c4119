//! Where everything of the runtime is on disk.
//!
//! Records are below the data directory; what dies with the machine's running time (namespaces,
//! bundles, sockets) is below the run directory, which is in memory.

use super::super::{ContainerId, RuntimeError, SandboxId};
use super::{ShimRuntimeConfig, failed};
use crate::sys::namespace::Kind;
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Only root looks into the runtime's directories.
const DIRECTORY_MODE: u32 = 0o700;

/// So much of a sandbox's id tells it from all others of this node.
const SHORT_ID_BYTES: usize = 16;

/// unix(7): the path of a socket with its final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// `<data-dir>/agent/sandboxes`
    records: PathBuf,
    run: PathBuf,
}

impl Layout {
    pub(super) fn new(config: &ShimRuntimeConfig) -> Self {
        Self { records: config.data_dir.join("agent/sandboxes"), run: config.run_dir.clone() }
    }

    pub(super) fn create(&self) -> Result<(), RuntimeError> {
        let socket = self.events_socket();
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            let text = format!("the run directory's path is too long: {}", self.run.display());
            return Err(RuntimeError::Invalid(text));
        }
        [&self.records, &self.run.join("sandboxes"), &self.oci_root()]
            .into_iter()
            .try_for_each(|directory| create_directory(directory))
            .map_err(|error| failed("making the runtime's directories", error))
    }

    /// What tells this node's shims from those of another on the same machine.
    pub(super) fn node(&self) -> &Path {
        &self.run
    }

    pub(super) fn events_socket(&self) -> PathBuf {
        self.run.join("events.sock")
    }

    /// Where the OCI runtime keeps its state.
    pub(super) fn oci_root(&self) -> PathBuf {
        self.run.join("oci")
    }

    pub(super) fn sandbox(&self, id: &SandboxId) -> SandboxFiles {
        SandboxFiles {
            record: self.records.join(&id.0),
            run: self.run.join("sandboxes").join(&id.0),
            temporary: self.run.join("tmp").join(id.0.get(..SHORT_ID_BYTES).unwrap_or(&id.0)),
        }
    }

    /// The sandboxes that have a record or something in the run directory.
    pub(super) fn sandboxes(&self) -> io::Result<BTreeSet<SandboxId>> {
        let recorded = names(&self.records)?;
        let running = names(&self.run.join("sandboxes"))?;
        Ok(recorded.into_iter().chain(running).map(SandboxId).collect())
    }

    /// The containers that have anything on disk.
    pub(super) fn containers(&self) -> io::Result<BTreeSet<ContainerId>> {
        let mut containers = BTreeSet::new();
        for sandbox in self.sandboxes()? {
            containers.append(&mut self.sandbox(&sandbox).containers()?);
        }
        Ok(containers)
    }
}

/// The files of one sandbox.
#[derive(Clone, Debug)]
pub(super) struct SandboxFiles {
    record: PathBuf,
    run: PathBuf,
    temporary: PathBuf,
}

impl SandboxFiles {
    /// Makes what is below the run directory.
    pub(super) fn create_run(&self) -> io::Result<()> {
        create_directory(&self.run.join("containers"))?;
        create_directory(&self.run.join("ns"))?;
        create_directory(&self.shared_memory())?;
        create_directory(&self.temporary)?;
        create_directory(&self.shim())
    }

    pub(super) fn create_record(&self) -> io::Result<()> {
        create_directory(&self.record.join("containers"))
    }

    /// Removes directories in which nothing was made.
    pub(super) fn remove_empty(&self) -> io::Result<()> {
        self.remove_run()?;
        remove_directory(&self.record)
    }

    /// Removes what is below the run directory. A sandbox is found by the last of it.
    pub(super) fn remove_run(&self) -> io::Result<()> {
        remove_directory(&self.temporary)?;
        remove_directory(&self.run)
    }

    /// Where the shim and the OCI runtime put what they need for a moment, as each command that is
    /// run: in memory, where the system's own place for that is mostly on a disk. Its path is short:
    /// the socket of a terminal is made in it.
    pub(super) fn temporary(&self) -> &Path {
        &self.temporary
    }

    pub(super) fn record(&self) -> PathBuf {
        self.record.join("sandbox.json")
    }

    /// There from the beginning of the sandbox: what is to be cleaned up when there is no record.
    pub(super) fn intent(&self) -> PathBuf {
        self.run.join("sandbox.json")
    }

    pub(super) fn run_directory(&self) -> &Path {
        &self.run
    }

    pub(super) fn record_directory(&self) -> &Path {
        &self.record
    }

    pub(super) fn namespace(&self, kind: Kind) -> PathBuf {
        self.run.join("ns").join(kind.name())
    }

    pub(super) fn process_namespace(&self) -> PathBuf {
        self.run.join("ns/pid")
    }

    /// The process that holds the process namespace, where the sandbox shares one.
    pub(super) fn pause(&self) -> PathBuf {
        self.run.join("pause.json")
    }

    pub(super) fn shared_memory(&self) -> PathBuf {
        self.run.join("shm")
    }

    pub(super) fn hostname(&self) -> PathBuf {
        self.run.join("hostname")
    }

    /// The shim's working directory.
    pub(super) fn shim(&self) -> PathBuf {
        self.run.join("shim")
    }

    pub(super) fn shim_address(&self) -> PathBuf {
        self.run.join("shim.json")
    }

    pub(super) fn container(&self, id: &ContainerId) -> ContainerFiles {
        ContainerFiles {
            record: self.record.join("containers").join(&id.0),
            bundle: self.run.join("containers").join(&id.0),
        }
    }

    /// The containers that have a record or a bundle.
    pub(super) fn containers(&self) -> io::Result<BTreeSet<ContainerId>> {
        let recorded = names(&self.record.join("containers"))?;
        let bundles = names(&self.run.join("containers"))?;
        Ok(recorded.into_iter().chain(bundles).map(ContainerId).collect())
    }
}

/// The files of one container.
#[derive(Clone, Debug)]
pub(super) struct ContainerFiles {
    record: PathBuf,
    /// The OCI bundle. Its name is the container's id: shims find it by that.
    bundle: PathBuf,
}

impl ContainerFiles {
    pub(super) fn create_bundle(&self) -> io::Result<()> {
        create_directory(&self.rootfs())
    }

    pub(super) fn create_record(&self) -> io::Result<()> {
        create_directory(&self.record)
    }

    /// Where an image that the container mounts is seen on the node.
    pub(super) fn mounted_image(&self, place: usize) -> PathBuf {
        self.bundle.join("images").join(place.to_string())
    }

    pub(super) fn record_directory(&self) -> &Path {
        &self.record
    }

    pub(super) fn record(&self) -> PathBuf {
        self.record.join("container.json")
    }

    /// There when the container has ended.
    pub(super) fn exit(&self) -> PathBuf {
        self.record.join("exit.json")
    }

    /// What the image declares as volumes.
    pub(super) fn volumes(&self) -> PathBuf {
        self.record.join("volumes")
    }

    pub(super) fn bundle(&self) -> &Path {
        &self.bundle
    }

    pub(super) fn rootfs(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }

    pub(super) fn spec(&self) -> PathBuf {
        self.bundle.join("config.json")
    }

    /// There when the container has been started.
    pub(super) fn started(&self) -> PathBuf {
        self.bundle.join("started.json")
    }

    /// Where the shim for OCI runtimes writes the id of the container's first process.
    pub(super) fn first_process(&self) -> PathBuf {
        self.bundle.join("init.pid")
    }

    pub(super) fn logger_settings(&self) -> PathBuf {
        self.bundle.join("logger.json")
    }

    /// Where a container with an input is written to.
    pub(super) fn stdin(&self) -> PathBuf {
        self.bundle.join("stdin")
    }

    /// The outputs of a container whose shim does not start its logger.
    pub(super) fn outputs(&self) -> [PathBuf; 2] {
        ["stdout", "stderr"].map(|name| self.bundle.join(name))
    }

    pub(super) fn logger_pid(&self) -> PathBuf {
        self.bundle.join("logger.pid")
    }
}

fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)
}

/// Removes a directory with what is in it. Succeeds where it is gone.
pub(super) fn remove_directory(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The names in a directory; none where it is not there.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
