//! What sandboxes, containers and images are: plain data, as the CRI's messages.

use super::config::{LinuxResources, PodIdentity};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

id!(
    /// 64 hexadecimal digits, unique on this node.
    SandboxId
);
id!(
    /// 64 hexadecimal digits, unique on this node.
    ContainerId
);
id!(
    /// The digest of the image's configuration: `sha256:...`.
    ImageId
);

/// An image on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageStatus {
    pub id: ImageId,
    /// Names with tags: `docker.io/library/nginx:1.27`.
    pub tags: Vec<String>,
    /// Names with digests: `docker.io/library/nginx@sha256:...`.
    pub digests: Vec<String>,
    /// What its blobs and snapshots take on disk.
    pub size_bytes: u64,
    /// The user that the image names: `1000:1000`, `nginx`, empty.
    pub user: String,
    /// Never removed by image garbage collection.
    pub pinned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxState {
    Ready,
    /// Its namespaces or its shim are gone: nothing can start in it any more.
    NotReady,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxStatus {
    pub id: SandboxId,
    pub pod: PodIdentity,
    pub attempt: u32,
    pub state: SandboxState,
    pub created_at: Timestamp,
    /// The pinned namespace; `None` for pods on the node's own network.
    pub network_namespace: Option<PathBuf>,
    pub labels: BTreeMap<String, String>,
    /// Kept for the network by [`Runtime`](super::Runtime)'s caller; empty until it has attached.
    pub addresses: Vec<IpAddr>,
}

/// What a container is doing. Each state carries what is known in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    Created,
    Running {
        pid: u32,
        started_at: Timestamp,
    },
    Exited {
        exit_code: i32,
        /// Whether the kernel ended it for want of memory.
        oom_killed: bool,
        /// `None` when it never started.
        started_at: Option<Timestamp>,
        finished_at: Timestamp,
        /// Why it could not start, where it could not.
        message: String,
    },
}

/// Who a container's first process is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerUser {
    pub uid: u32,
    pub gid: u32,
    /// Sorted, each once.
    pub groups: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerStatus {
    pub id: ContainerId,
    pub sandbox: SandboxId,
    pub pod: PodIdentity,
    pub name: String,
    pub attempt: u32,
    pub state: ContainerState,
    pub created_at: Timestamp,
    pub image: ImageId,
    /// The reference that the pod named.
    pub image_reference: String,
    pub log_path: PathBuf,
    /// What it has been given last.
    pub resources: LinuxResources,
    /// Who its first process is.
    pub user: Option<ContainerUser>,
    pub labels: BTreeMap<String, String>,
}

/// All there is of one pod, ended containers included until they are removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodStatus {
    pub sandboxes: Vec<SandboxStatus>,
    pub containers: Vec<ContainerStatus>,
}

/// Something happened; the kubelet looks at the pod it happened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    ContainerStarted {
        pod: PodIdentity,
        container: ContainerId,
    },
    ContainerExited {
        pod: PodIdentity,
        container: ContainerId,
    },
    /// A shim died and took its containers with it.
    SandboxLost {
        pod: PodIdentity,
        sandbox: SandboxId,
    },
    /// Events were lost: look at everything.
    Relist,
}
