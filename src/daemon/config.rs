//! What a server is told: validated, plain, and passed to each component as it needs it.

use super::backup::BackupConfig;
use super::ingress::IngressConfig;
use crate::api::pod::Amounts;
use crate::kubelet::eviction::EvictionConfig;
use crate::kubelet::node::Cloud;
use crate::kubelet::shutdown::plan::ShutdownGrace;
use crate::network::overlay::Backend;
use crate::pki::JoinToken;
use crate::stdx::fnv1a_32;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Taint;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// The name of the bridge that pods are on.
pub(super) const BRIDGE: &str = "kinglet0";

/// The name of the interface that the cluster's DNS answers on.
pub(super) const DNS_INTERFACE: &str = "kinglet-dns";

/// The name of the interface that routes to Services lead to.
pub(super) const SERVICES_INTERFACE: &str = "kinglet-svc";

/// Parts of a server that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    Agent,
    Scheduler,
    Controllers,
    LocalStorage,
    /// The addresses of nodes for Services of type `LoadBalancer`.
    ServiceLb,
    NetworkPolicy,
    /// The rules of Services on this node.
    Proxy,
    Dns,
    /// The HTTP proxy of each node.
    Ingress,
}

/// Ports of services on nodes, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePortRange {
    pub first: u16,
    pub last: u16,
}

/// What attaches pods to the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodNetworkKind {
    /// Our own bridge.
    Bridge,
    /// Plugins of the Container Network Interface, which enforce network policies too.
    Cni { config_directory: PathBuf, plugin_directories: Vec<PathBuf> },
}

/// What is of one node, of a server or of an agent. All paths are absolute.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub data_dir: PathBuf,
    pub pod_logs_dir: PathBuf,
    pub registries_file: PathBuf,
    /// What is listened on.
    pub bind_address: IpAddr,
    pub kubelet_port: u16,
    pub name: String,
    /// The primary one first; at least one.
    pub ips: Vec<IpAddr>,
    /// By which it is reached from elsewhere.
    pub external_ips: Vec<IpAddr>,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub pods_max: u32,
    /// What of the node is not for pods.
    pub reserved: Amounts,
    /// When the node is short of something, and what goes then.
    pub eviction: EvictionConfig,
    /// How long pods may take to end when the machine goes down.
    pub shutdown_grace: ShutdownGrace,
    pub pod_network: PodNetworkKind,
    /// Who says what the node's addresses are, and more.
    pub cloud: Cloud,
    pub ingress: IngressConfig,
    pub disabled: BTreeSet<Component>,
}

/// What all nodes of a cluster have to agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// One, or one of each family.
    pub cluster_cidrs: Vec<IpNet>,
    /// One, or one of each family; none overlaps the cluster's.
    pub service_cidrs: Vec<IpNet>,
    pub node_ports: NodePortRange,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// How packets get to pods of other nodes. `None`: somebody else sees to it.
    pub overlay: Option<Backend>,
}

/// Everything `kinglet server` can be told. All paths are absolute.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub node: NodeConfig,
    pub cluster: ClusterConfig,
    pub kubeconfig: PathBuf,
    pub kubeconfig_mode: u32,
    pub https_port: u16,
    pub advertise_address: IpAddr,
    /// Names and addresses.
    pub tls_sans: Vec<String>,
    pub backup: BackupConfig,
}

/// Everything `kinglet agent` can be told.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    pub node: NodeConfig,
    /// `https://192.0.2.10:6443`; one at least. The cluster tells of others.
    pub servers: Vec<String>,
    /// With what this machine joins, where it has not yet.
    pub token: Option<JoinToken>,
}

impl NodeConfig {
    pub(super) fn has(&self, component: Component) -> bool {
        !self.disabled.contains(&component)
    }

    pub(super) fn kubelet_address(&self) -> SocketAddr {
        SocketAddr::new(self.bind_address, self.kubelet_port)
    }
}

impl ServerConfig {
    pub(super) fn has(&self, component: Component) -> bool {
        self.node.has(component)
    }

    pub(super) fn listen_address(&self) -> SocketAddr {
        SocketAddr::new(self.node.bind_address, self.https_port)
    }
}

/// Where a data directory's parts are.
#[derive(Clone, Debug)]
pub struct Layout {
    data_dir: PathBuf,
}

impl Layout {
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned() }
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    /// What makes this machine a server, and what is backed up of it.
    #[must_use]
    pub fn server(&self) -> PathBuf {
        self.data_dir.join("server")
    }

    /// Where backups are, unless somebody says otherwise.
    #[must_use]
    pub fn backups(&self) -> PathBuf {
        self.server().join("backups")
    }

    pub(super) fn database(&self) -> PathBuf {
        self.data_dir.join("server/db/state.db")
    }

    /// Where manifests are that the server applies.
    pub(super) fn manifests(&self) -> PathBuf {
        self.data_dir.join("server/manifests")
    }

    pub(super) fn tls(&self) -> PathBuf {
        self.data_dir.join("server/tls")
    }

    /// Local volumes of claims.
    #[must_use]
    pub fn storage(&self) -> PathBuf {
        self.data_dir.join("storage")
    }

    /// By which other nodes know this one's end of the tunnels to them.
    pub(super) fn wireguard_key(&self) -> PathBuf {
        self.agent().join("wireguard.key")
    }

    /// Images and containers of this node.
    #[must_use]
    pub fn agent(&self) -> PathBuf {
        self.data_dir.join("agent")
    }

    /// What dies with a reboot. Named after the data directory, so that servers do not meet.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        Path::new("/run/kinglet").join(self.id())
    }

    /// Where the command line reaches a running server.
    pub(super) fn socket(&self) -> PathBuf {
        self.run().join("kinglet.sock")
    }

    /// Eight hexadecimal digits that stand for this data directory where a name must be short.
    #[must_use]
    pub fn id(&self) -> String {
        // The name must be the same for every version of kinglet that sees the directory.
        let bytes = self.data_dir.as_os_str().as_encoded_bytes();
        format!("{:08x}", fnv1a_32(bytes.iter().copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_keeps_its_name() {
        let run = Layout::of(Path::new("/var/lib/kinglet")).run();
        assert_eq!(run, Path::new("/run/kinglet/19a4230c"));
        assert_ne!(Layout::of(Path::new("/tmp/a")).id(), Layout::of(Path::new("/tmp/b")).id());
    }
}
