//! What a sandbox and a container are to be: plain data, as the CRI's messages.
//!
//! The runtime keeps these on disk: a field that is added has `#[serde(default)]`, so that a new
//! version finds the containers of an older one.

use super::status::{ContainerId, ImageId};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Which pod a sandbox or container belongs to.
#[derive(
    Clone,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct PodIdentity {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// Whose namespace the processes of a pod are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum NamespaceMode {
    /// One for the whole pod.
    #[default]
    Pod,
    /// One for each container.
    Container,
    /// The node's own.
    Node,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SandboxNamespaces {
    pub network: NamespaceMode,
    pub pid: NamespaceMode,
    pub ipc: NamespaceMode,
}

/// Limits of a pod's network traffic, in bits a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Bandwidth {
    pub ingress: Option<u64>,
    pub egress: Option<u64>,
}

/// What a sandbox is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SandboxConfig {
    pub pod: PodIdentity,
    /// Grows with each new sandbox of one pod.
    pub attempt: u32,
    pub hostname: String,
    pub namespaces: SandboxNamespaces,
    pub sysctls: BTreeMap<String, String>,
    /// The cgroup below which the pod's containers get theirs, such as
    /// `/kubepods/burstable/pod1234`: made by the caller's choice of QoS class, created by the
    /// runtime with `resources`.
    pub cgroup: String,
    pub resources: LinuxResources,
    /// The RuntimeClass handler; empty for the default.
    pub runtime_handler: String,
    /// Kept and given back with the status; not interpreted.
    pub labels: BTreeMap<String, String>,
}

/// How mounts made later inside or outside reach the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum MountPropagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

/// A file or directory of the node seen in a container.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mount {
    pub container_path: String,
    pub host_path: PathBuf,
    pub read_only: bool,
    pub propagation: MountPropagation,
}

/// An image whose files a container sees, without writing to them or running them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageMount {
    pub container_path: String,
    pub image: ImageId,
    /// A directory or file in the image; empty for all of it.
    pub sub_path: PathBuf,
}

/// A block device of the node that is a volume of a container.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeviceMapping {
    pub container_path: String,
    /// May be a link to the device.
    pub host_path: PathBuf,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HugepageLimit {
    /// `2MB`, `1GB`.
    pub page_size: String,
    pub bytes: u64,
}

/// Limits of a cgroup, in upstream's terms; translated for cgroup v1 and v2 by the runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct LinuxResources {
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time per period.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    pub memory_limit_bytes: Option<i64>,
    pub pids_limit: Option<i64>,
    pub oom_score_adj: Option<i32>,
    pub hugepage_limits: Vec<HugepageLimit>,
}

/// What `RuntimeDefault` means for AppArmor.
pub const DEFAULT_APPARMOR_PROFILE: &str = "kinglet-default";

/// Who the processes of a container are and what they may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SecurityConfig {
    /// Over the image's user.
    pub run_as_user: Option<i64>,
    pub run_as_group: Option<i64>,
    pub run_as_non_root: bool,
    pub supplemental_groups: Vec<i64>,
    /// The groups that the image gives its user do not count.
    pub strict_groups: bool,
    pub privileged: bool,
    pub read_only_root: bool,
    pub no_new_privileges: bool,
    /// Without `CAP_`; may hold `ALL`.
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
    /// `procMount: Unmasked`: the parts of `/proc` and `/sys` that are hidden from containers, or
    /// read-only in them, are not.
    pub unmasked_proc: bool,
    /// The runtime's default profile is applied where this is true.
    pub seccomp_runtime_default: bool,
    /// A file with a profile in the form of the OCI runtime specification.
    pub seccomp_profile: Option<PathBuf>,
    /// A profile that the kernel knows, or [`DEFAULT_APPARMOR_PROFILE`], which it is told.
    pub apparmor_profile: Option<String>,
}

/// What a container is to be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ContainerConfig {
    pub name: String,
    /// Grows with each restart.
    pub attempt: u32,
    pub image: ImageId,
    /// The reference that the pod names; given back with the status.
    pub image_reference: String,
    /// Over the image's entrypoint. Empty: the image's.
    pub command: Vec<String>,
    /// Over the image's command. Empty: the image's, unless `command` is given.
    pub args: Vec<String>,
    /// Over the image's environment.
    pub environment: Vec<(String, String)>,
    /// Over the image's working directory. Empty: the image's.
    pub working_directory: String,
    pub mounts: Vec<Mount>,
    #[serde(default)]
    pub image_mounts: Vec<ImageMount>,
    #[serde(default)]
    pub devices: Vec<DeviceMapping>,
    pub security: SecurityConfig,
    pub resources: LinuxResources,
    /// Where the log goes, in the CRI format. Its directory exists.
    pub log_path: PathBuf,
    pub tty: bool,
    pub stdin: bool,
    pub stdin_once: bool,
    /// Over the image's stop signal, `SIGTERM` and the like.
    pub stop_signal: Option<String>,
    /// The container of the same sandbox whose processes this one shares, where containers have
    /// process namespaces of their own. It has to run when this one is made.
    #[serde(default)]
    pub process_namespace_of: Option<ContainerId>,
    /// Kept and given back with the status; not interpreted.
    pub labels: BTreeMap<String, String>,
}
