//! The OCI runtime specification of a container, as a pure function of what it is to be.
//!
//! Start at [`render`]. Architecture invariant: nothing here looks at the machine; what matters of
//! it comes in through [`HostTraits`]. The defaults are those that containerd's CRI plugin gives
//! containers (internal/cri/server/container_create.go and internal/cri/opts, v2.1), which is what
//! images are tested against.

mod capabilities;
mod linux;
mod mounts;
mod process;
mod seccomp;
#[cfg(test)]
mod tests;
mod user;

pub(super) use capabilities::held as capabilities_held;
pub(super) use process::stop_signal;
pub(super) use user::{ProcessUser, UserFiles, resolve as resolve_user};

use super::images::ImageConfig;
use super::{
    ContainerConfig, ContainerId, LinuxResources, Mount, RuntimeError, SandboxConfig, SandboxId,
};
use crate::sys::open_files::OpenFiles;
use oci_spec::runtime::{
    Capability, LinuxDevice, LinuxResources as OciResources, LinuxSeccomp, Root, Spec,
};
use std::collections::HashMap;
use std::path::PathBuf;

/// The version of the specification that everything used here is in; runc 1.1 knows no newer one.
const OCI_VERSION: &str = "1.0.2";

/// By this annotation shims group containers: those of one sandbox share a shim.
pub(super) const SANDBOX_ID_ANNOTATION: &str = "io.kubernetes.cri.sandbox-id";

/// Everything that a container's specification depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs<'a> {
    pub(super) sandbox_id: &'a SandboxId,
    pub(super) sandbox: &'a SandboxConfig,
    pub(super) container_id: &'a ContainerId,
    pub(super) container: &'a ContainerConfig,
    pub(super) image: &'a ImageConfig,
    pub(super) user: &'a ProcessUser,
    pub(super) paths: &'a SandboxPaths,
    /// Images that are volumes of the container, and are neither written to nor run.
    pub(super) image_mounts: &'a [Mount],
    /// The container's own seccomp profile, where it has one.
    pub(super) seccomp: Option<&'a LinuxSeccomp>,
    pub(super) host: &'a HostTraits,
}

/// Where the things are that the containers of a sandbox share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SandboxPaths {
    /// Pinned namespaces. `None`: the node's own.
    pub(super) network: Option<PathBuf>,
    pub(super) ipc: Option<PathBuf>,
    pub(super) uts: Option<PathBuf>,
    /// The process namespace that the sandbox, or another container, shares with this one.
    pub(super) pid: Option<PathBuf>,
    pub(super) shared_memory: PathBuf,
    pub(super) hostname_file: PathBuf,
}

/// What matters of the machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct HostTraits {
    pub(super) hostname: String,
    pub(super) cgroups_unified: bool,
    /// Whether cgroups can limit swap.
    pub(super) swap_limits: bool,
    /// The lowest `oom_score_adj` that containers may be given; `None`: any.
    pub(super) oom_score_floor: Option<i32>,
    /// How many files a container may have open; `None`: as many as its runtime.
    pub(super) open_files: Option<OpenFiles>,
    /// More that containers do not see: what differs by machine.
    pub(super) masked_paths: Vec<String>,
    /// What this process may hand on.
    pub(super) capabilities: Vec<Capability>,
    /// The device nodes of the machine, for privileged containers.
    pub(super) devices: Vec<LinuxDevice>,
    /// Those that are volumes of this container, each with whether it can only be read.
    pub(super) volume_devices: Vec<(LinuxDevice, bool)>,
}

/// The specification of a container.
///
/// # Errors
/// [`RuntimeError::Invalid`] where the configuration asks for what cannot be.
pub(super) fn render(inputs: Inputs<'_>) -> Result<Spec, RuntimeError> {
    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs"));
    root.set_readonly(Some(inputs.container.security.read_only_root));

    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned());
    spec.set_root(Some(root));
    spec.set_process(Some(process::render(inputs)?));
    spec.set_mounts(Some(mounts::render(inputs)));
    spec.set_linux(Some(linux::render(inputs)?));
    spec.set_annotations(Some(annotations(inputs)));
    // The hostname is that of the sandbox's pinned namespace, set when that was made.
    spec.set_hostname(None);
    Ok(spec)
}

/// What a container that runs is limited to from now on: processor and memory.
pub(super) fn render_update(resources: &LinuxResources, host: &HostTraits) -> OciResources {
    linux::update(resources, host.swap_limits)
}

/// The specification that a shim is started with: it reads the group from it and nothing else.
pub(super) fn render_group(sandbox: &SandboxId) -> serde_json::Value {
    serde_json::json!({
        "ociVersion": OCI_VERSION,
        "annotations": { SANDBOX_ID_ANNOTATION: sandbox.0 },
    })
}

/// The annotations of containerd's CRI plugin, which shims and OCI hooks go by.
fn annotations(inputs: Inputs<'_>) -> HashMap<String, String> {
    let pod = &inputs.sandbox.pod;
    [
        ("io.kubernetes.cri.container-type", "container"),
        ("io.kubernetes.cri.container-name", &inputs.container.name),
        ("io.kubernetes.cri.image-name", &inputs.container.image_reference),
        (SANDBOX_ID_ANNOTATION, &inputs.sandbox_id.0),
        ("io.kubernetes.cri.sandbox-name", &pod.name),
        ("io.kubernetes.cri.sandbox-namespace", &pod.namespace),
        ("io.kubernetes.cri.sandbox-uid", &pod.uid),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}
