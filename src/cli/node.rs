//! What a node needs to know, whether it is a server's or an agent's.
//!
//! Names and meanings of the flags are k3s's where k3s has them.

use super::ingress::IngressArgs;
use super::values;
use crate::api::Quantity;
use crate::api::pod::Amounts;
use crate::daemon::{Component, NodeConfig, Places, PodNetworkKind};
use crate::kubelet::eviction::EvictionConfig;
use crate::kubelet::eviction::plan::{Threshold, Thresholds};
use crate::kubelet::images::garbage::ImageGarbage;
use crate::kubelet::node::Cloud;
use crate::kubelet::shutdown::plan::{ShutdownGrace, Step};
use anyhow::{Context as _, anyhow, bail};
use clap::ValueEnum;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Taint;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// Which flags every command with a data directory has.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct DataDir {
    /// Where everything that has to last is kept
    #[arg(long, short = 'd', env = "KINGLET_DATA_DIR", default_value = "/var/lib/kinglet")]
    pub(super) data_dir: PathBuf,
}

/// Which files and directories a node uses.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Files")]
pub(super) struct FileArgs {
    /// Configuration file; every flag is a key of it, and FILE.d/*.yaml come after it [default: /etc/kinglet/config.yaml]
    #[arg(long, short = 'c', env = "KINGLET_CONFIG_FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) data: DataDir,
    /// Mirrors and credentials of image registries
    #[arg(
        long,
        env = "KINGLET_PRIVATE_REGISTRY",
        default_value = "/etc/kinglet/registries.yaml",
        value_name = "FILE"
    )]
    private_registry: PathBuf,
    /// Where the logs of pods are kept
    #[arg(long, env = "KINGLET_POD_LOGS_DIR", default_value = "/var/log/pods")]
    pod_logs_dir: PathBuf,
}

impl FileArgs {
    /// Where a process with these has its things.
    pub(super) fn places(&self, kubeconfig: Option<PathBuf>) -> anyhow::Result<Places> {
        Ok(Places {
            data_dir: absolute(&self.data.data_dir)?,
            pod_logs_dir: absolute(&self.pod_logs_dir)?,
            kubeconfig,
        })
    }
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Node")]
pub(super) struct NodeArgs {
    /// Name of this node [default: the host's name]
    #[arg(long, env = "KINGLET_NODE_NAME")]
    node_name: Option<String>,
    /// Addresses of this node [default: that of the way out]
    #[arg(long, short = 'i', env = "KINGLET_NODE_IP", value_delimiter = ',')]
    node_ip: Vec<IpAddr>,
    /// Addresses by which this node is reached from elsewhere
    #[arg(long, env = "KINGLET_NODE_EXTERNAL_IP", value_delimiter = ',')]
    node_external_ip: Vec<IpAddr>,
    /// Address that is listened on [default: every one]
    #[arg(long, env = "KINGLET_BIND_ADDRESS")]
    bind_address: Option<IpAddr>,
    /// Label of this node, key=value
    #[arg(long, env = "KINGLET_NODE_LABEL", value_delimiter = ',', value_parser = values::label)]
    node_label: Vec<(String, String)>,
    /// Port of this node's kubelet
    #[arg(long, env = "KINGLET_KUBELET_PORT", default_value_t = 10250)]
    kubelet_port: u16,
    /// Taint of this node, key=value:Effect
    #[arg(long, env = "KINGLET_NODE_TAINT", value_delimiter = ',', value_parser = values::taint)]
    node_taint: Vec<Taint>,
    /// So many pods may be on this node
    #[arg(long, env = "KINGLET_MAX_PODS", default_value_t = 110)]
    max_pods: u32,
    /// What kinglet and its shims need, which pods cannot have
    #[arg(long, env = "KINGLET_KUBE_RESERVED", value_delimiter = ',', value_parser = values::reservation, value_name = "RESOURCE=AMOUNT")]
    kube_reserved: Vec<(String, Quantity)>,
    /// What everything else on this machine needs, which pods cannot have
    #[arg(long, env = "KINGLET_SYSTEM_RESERVED", value_delimiter = ',', value_parser = values::reservation, value_name = "RESOURCE=AMOUNT")]
    system_reserved: Vec<(String, Quantity)>,
    /// When pods go because the node is short of something; 0% is never
    #[arg(
        long,
        env = "KINGLET_EVICTION_HARD",
        value_delimiter = ',',
        default_values = Thresholds::USUAL,
        value_name = "SIGNAL<AMOUNT"
    )]
    eviction_hard: Vec<Threshold>,
    /// A disk so full, in percent, is freed of images that nobody uses
    #[arg(long, env = "KINGLET_IMAGE_GC_HIGH_THRESHOLD", default_value_t = ImageGarbage::USUAL.high_percent)]
    image_gc_high_threshold: u64,
    /// Down to so much
    #[arg(long, env = "KINGLET_IMAGE_GC_LOW_THRESHOLD", default_value_t = ImageGarbage::USUAL.low_percent)]
    image_gc_low_threshold: u64,
    /// When the machine goes down, end pods in order within this time; 0: they end with it
    #[arg(long, env = "KINGLET_SHUTDOWN_GRACE_PERIOD", default_value = "0", value_parser = values::duration, value_name = "DURATION")]
    shutdown_grace_period: SignedDuration,
    /// The last part of it, which is for critical pods
    #[arg(long, env = "KINGLET_SHUTDOWN_GRACE_PERIOD_CRITICAL_PODS", default_value = "0", value_parser = values::duration, value_name = "DURATION")]
    shutdown_grace_period_critical_pods: SignedDuration,
    /// In the place of both: the time for pods from each priority on
    #[arg(
        long,
        env = "KINGLET_SHUTDOWN_GRACE_PERIOD_BY_POD_PRIORITY",
        value_delimiter = ',',
        value_parser = values::shutdown_step,
        value_name = "PRIORITY=DURATION"
    )]
    shutdown_grace_period_by_pod_priority: Vec<Step>,
    /// Who says what the node's addresses are: `external` is a cloud controller manager
    #[arg(long, env = "KINGLET_CLOUD_PROVIDER")]
    cloud_provider: Option<CloudProviderArg>,
    /// How the cloud calls this machine
    #[arg(long, env = "KINGLET_PROVIDER_ID")]
    provider_id: Option<String>,
    /// What attaches pods to the network
    #[arg(long, env = "KINGLET_NETWORK", value_enum, default_value = "bridge")]
    network: NetworkArg,
    /// Where CNI configurations are
    #[arg(long, env = "KINGLET_CNI_CONF_DIR", default_value = "/etc/cni/net.d")]
    cni_conf_dir: PathBuf,
    /// Where CNI plugins are, the first that has one counts
    #[arg(
        long,
        env = "KINGLET_CNI_BIN_DIR",
        default_value = "/opt/cni/bin,/usr/lib/cni",
        value_delimiter = ','
    )]
    cni_bin_dir: Vec<PathBuf>,
    #[command(flatten)]
    ingress: IngressArgs,
    /// Parts to leave out
    #[arg(long, env = "KINGLET_DISABLE", value_delimiter = ',')]
    disable: Vec<DisableArg>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum NetworkArg {
    /// A bridge of our own
    Bridge,
    /// Plugins, which then enforce network policies too
    Cni,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CloudProviderArg {
    External,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DisableArg {
    /// The node agent: this server runs no pods
    Agent,
    Scheduler,
    Controllers,
    /// The provisioner of local volumes, with its class `local-path`
    LocalStorage,
    /// The addresses of nodes for Services of type LoadBalancer: somebody else gives them theirs
    #[value(name = "servicelb")]
    ServiceLb,
    /// Enforcement of NetworkPolicies on this node
    NetworkPolicy,
    /// The rules of Services on this node: kube-proxy, or something like it, makes them
    Proxy,
    /// The cluster's DNS: one of your own answers at --cluster-dns
    Dns,
    /// The HTTP proxy of each node, with its class `kinglet`
    Ingress,
}

impl DisableArg {
    fn component(self) -> Component {
        match self {
            Self::Agent => Component::Agent,
            Self::Scheduler => Component::Scheduler,
            Self::Controllers => Component::Controllers,
            Self::LocalStorage => Component::LocalStorage,
            Self::ServiceLb => Component::ServiceLb,
            Self::NetworkPolicy => Component::NetworkPolicy,
            Self::Proxy => Component::Proxy,
            Self::Dns => Component::Dns,
            Self::Ingress => Component::Ingress,
        }
    }
}

impl NodeArgs {
    /// `way_out` is the address of this node where none is named.
    pub(super) fn into_config(
        self,
        files: &FileArgs,
        way_out: IpAddr,
    ) -> anyhow::Result<NodeConfig> {
        let (eviction, shutdown_grace) = (self.eviction()?, self.shutdown_grace()?);
        let (reserved, cloud) = (self.reserved(), self.cloud()?);
        let pod_network = self.pod_network()?;
        let name = match self.node_name {
            Some(name) => name,
            None => host_name()?,
        };
        if let Some(problem) = crate::api::names::dns1123_subdomain(&name).first() {
            bail!("--node-name {name:?}: {problem}");
        }
        let ips = if self.node_ip.is_empty() { vec![way_out] } else { self.node_ip };
        Ok(NodeConfig {
            data_dir: absolute(&files.data.data_dir)?,
            pod_logs_dir: absolute(&files.pod_logs_dir)?,
            registries_file: files.private_registry.clone(),
            bind_address: self.bind_address.unwrap_or_else(|| every_address(&ips)),
            kubelet_port: self.kubelet_port,
            name,
            ips,
            external_ips: self.node_external_ip,
            labels: self.node_label.into_iter().collect(),
            taints: self.node_taint,
            pods_max: self.max_pods,
            reserved,
            eviction,
            shutdown_grace,
            pod_network,
            cloud,
            ingress: self.ingress.into_config()?,
            disabled: self.disable.into_iter().map(DisableArg::component).collect(),
        })
    }

    fn pod_network(&self) -> anyhow::Result<PodNetworkKind> {
        Ok(match self.network {
            NetworkArg::Bridge => PodNetworkKind::Bridge,
            NetworkArg::Cni => PodNetworkKind::Cni {
                config_directory: absolute(&self.cni_conf_dir)?,
                plugin_directories: self
                    .cni_bin_dir
                    .iter()
                    .map(|directory| absolute(directory))
                    .collect::<anyhow::Result<_>>()?,
            },
        })
    }

    fn cloud(&self) -> anyhow::Result<Cloud> {
        match (self.cloud_provider, self.provider_id.clone()) {
            (Some(CloudProviderArg::External), provider_id) => Ok(Cloud::External { provider_id }),
            (None, None) => Ok(Cloud::None),
            (None, Some(_)) => bail!("--provider-id takes --cloud-provider external"),
        }
    }

    fn eviction(&self) -> anyhow::Result<EvictionConfig> {
        let (high, low) = (self.image_gc_high_threshold, self.image_gc_low_threshold);
        if low > high || high > 100 {
            bail!(
                "--image-gc-low-threshold {low} and --image-gc-high-threshold {high}: both are \
                 percent, and the high one is not below the low one"
            );
        }
        let images = ImageGarbage { high_percent: high, low_percent: low, ..ImageGarbage::USUAL };
        Ok(EvictionConfig { thresholds: Thresholds::hard(self.eviction_hard.clone()), images })
    }

    /// All that is reserved, for whomever.
    fn reserved(&self) -> Amounts {
        let mut reserved = Amounts::new();
        for (resource, amount) in self.kube_reserved.iter().chain(&self.system_reserved) {
            *reserved.entry(resource.clone()).or_default() += *amount;
        }
        reserved
    }

    fn shutdown_grace(&self) -> anyhow::Result<ShutdownGrace> {
        let (whole, critical) =
            (self.shutdown_grace_period, self.shutdown_grace_period_critical_pods);
        let steps = self.shutdown_grace_period_by_pod_priority.clone();
        if steps.is_empty() {
            return ShutdownGrace::of_all(whole, critical)
                .map_err(|problem| anyhow!("--shutdown-grace-period-critical-pods: {problem}"));
        }
        if !whole.is_zero() || !critical.is_zero() {
            bail!(
                "--shutdown-grace-period-by-pod-priority takes the place of --shutdown-grace-period \
                 and --shutdown-grace-period-critical-pods"
            );
        }
        ShutdownGrace::by_priority(steps)
            .map_err(|problem| anyhow!("--shutdown-grace-period-by-pod-priority: {problem}"))
    }
}

/// Stands for every address of a node with these: that of IPv6 takes connections by IPv4 too.
fn every_address(ips: &[IpAddr]) -> IpAddr {
    match ips.iter().any(IpAddr::is_ipv6) {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    }
}

pub(super) fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is not a path", path.display()))
}

/// Kubernetes names are lower case.
pub(super) fn host_name() -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("the host's name cannot be read")?;
    Ok(name.to_string_lossy().to_lowercase())
}
