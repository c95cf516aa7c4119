//! What a kubelet has to be told.

use super::eviction::EvictionConfig;
use super::files::resolv_conf::ClusterDns;
use super::node::NodeSettings;
use super::shutdown::plan::ShutdownGrace;
use super::volumes::Volumes;
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct Config {
    pub node: NodeSettings,
    pub cluster_dns: ClusterDns,
    pub volumes: Volumes,
    /// `/var/log/pods`
    pub logs_dir: PathBuf,
    /// All cgroups of this node's pods are below it: `/kinglet-1a2b3c4d`. Empty: the root.
    pub cgroup_root: String,
    pub node_files: NodeFiles,
    pub eviction: EvictionConfig,
    /// How long pods may take to end when the machine goes down.
    pub shutdown_grace: ShutdownGrace,
    /// Profiles that containers name: `<data-dir>/agent/seccomp`.
    pub seccomp_dir: PathBuf,
    /// Manifests of pods that this node runs of its own: `<data-dir>/agent/pod-manifests`.
    pub static_pods_dir: PathBuf,
}

/// The node's own files that pods see or that theirs are made from.
#[derive(Clone, Debug)]
pub struct NodeFiles {
    pub hosts: PathBuf,
    pub resolv_conf: PathBuf,
}

impl NodeFiles {
    /// Where every Linux has them.
    #[must_use]
    pub fn usual() -> Self {
        Self { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into() }
    }
}
