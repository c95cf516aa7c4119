//! `kinglet server` and `kinglet killall`: what a cluster of one needs to know.
//!
//! Names and meanings of the flags are k3s's where k3s has them.

use super::values;
use crate::api::Quantity;
use crate::api::pod::Amounts;
use crate::daemon::{self, Component, NodePortRange, PodNetworkKind, ServerConfig};
use crate::kubelet::eviction::EvictionConfig;
use crate::kubelet::eviction::plan::{Threshold, Thresholds};
use crate::kubelet::images::garbage::ImageGarbage;
use crate::kubelet::shutdown::plan::{ShutdownGrace, Step};
use anyhow::{Context as _, anyhow, bail};
use clap::ValueEnum;
use ipnet::IpNet;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Taint;
use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Which flags every command with a data directory has.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct DataDir {
    /// Where everything that has to last is kept
    #[arg(long, short = 'd', env = "KINGLET_DATA_DIR", default_value = "/var/lib/kinglet")]
    pub(super) data_dir: PathBuf,
}

/// Which files and directories a server uses.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Files")]
struct FileArgs {
    /// Configuration file; every flag is a key of it [default: /etc/kinglet/config.yaml]
    #[arg(long, short = 'c', env = "KINGLET_CONFIG_FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    data: DataDir,
    /// Where to write the administrator's kubeconfig [default: /etc/kinglet/kinglet.yaml]
    #[arg(long, short = 'o', env = "KINGLET_KUBECONFIG_OUTPUT")]
    write_kubeconfig: Option<PathBuf>,
    /// Mode of the kubeconfig
    #[arg(long, env = "KINGLET_KUBECONFIG_MODE", default_value = "600", value_parser = values::file_mode)]
    write_kubeconfig_mode: u32,
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

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "API server")]
struct ListenArgs {
    /// Port of the API server
    #[arg(long, env = "KINGLET_HTTPS_LISTEN_PORT", default_value_t = 6443)]
    https_listen_port: u16,
    /// Address the API server listens on
    #[arg(long, env = "KINGLET_BIND_ADDRESS", default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// Address that others reach the API server at [default: the node's address]
    #[arg(long, env = "KINGLET_ADVERTISE_ADDRESS")]
    advertise_address: Option<IpAddr>,
    /// Further names and addresses in the API server's certificate
    #[arg(long, env = "KINGLET_TLS_SAN", value_delimiter = ',')]
    tls_san: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Node")]
struct NodeArgs {
    /// Name of this node [default: the host's name]
    #[arg(long, env = "KINGLET_NODE_NAME")]
    node_name: Option<String>,
    /// Addresses of this node [default: that of the way out]
    #[arg(long, short = 'i', env = "KINGLET_NODE_IP", value_delimiter = ',')]
    node_ip: Vec<IpAddr>,
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
}

impl NodeArgs {
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

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Network")]
struct NetworkArgs {
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
    /// Addresses of pods
    #[arg(
        long,
        env = "KINGLET_CLUSTER_CIDR",
        default_value = "10.42.0.0/16",
        value_delimiter = ','
    )]
    cluster_cidr: Vec<IpNet>,
    /// Addresses of services
    #[arg(
        long,
        env = "KINGLET_SERVICE_CIDR",
        default_value = "10.43.0.0/16",
        value_delimiter = ','
    )]
    service_cidr: Vec<IpNet>,
    /// Ports of services on nodes
    #[arg(long, env = "KINGLET_SERVICE_NODE_PORT_RANGE", default_value = "30000-32767", value_parser = values::node_ports)]
    service_node_port_range: NodePortRange,
    /// Address of the cluster's DNS [default: the tenth of the service addresses]
    #[arg(long, env = "KINGLET_CLUSTER_DNS", value_delimiter = ',')]
    cluster_dns: Vec<IpAddr>,
    /// Domain of the cluster's DNS
    #[arg(long, env = "KINGLET_CLUSTER_DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    network: NetworkArgs,
    /// Parts to leave out
    #[arg(long, env = "KINGLET_DISABLE", value_delimiter = ',')]
    disable: Vec<DisableArg>,
    #[command(flatten)]
    logs: LogArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum NetworkArg {
    /// A bridge of our own
    Bridge,
    /// Plugins, which then enforce network policies too
    Cni,
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
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Logs")]
pub(super) struct LogArgs {
    /// Say more
    #[arg(long, env = "KINGLET_DEBUG")]
    debug: bool,
    /// Form of the log on stderr
    #[arg(long, env = "KINGLET_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl LogArgs {
    /// Sends the log to stderr. `KINGLET_LOG` takes tracing's directives, for hunting.
    pub(super) fn start(&self) {
        // What is odd about a client's TLS is of no interest to who runs the server, and a client that
        // names the server by its address says it with each connection.
        let default = match self.debug {
            true => "info,kinglet=debug",
            false => "warn,rustls=error,kinglet=info",
        };
        let filter = std::env::var("KINGLET_LOG").ok();
        let filter = filter.and_then(|directives| EnvFilter::try_new(directives).ok());
        let filter = filter.unwrap_or_else(|| EnvFilter::new(default));
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(is_coloured())
            .with_target(self.debug);
        match self.log_format {
            LogFormat::Text => builder.init(),
            LogFormat::Json => builder.json().init(),
        }
    }
}

/// A journal keeps colours as rubbish; <https://no-color.org> says how they are refused.
fn is_coloured() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !refused
}

/// Starts a server and runs until it is told to stop.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.logs.start();
    let config = args.into_config()?;
    daemon::run_server(config)?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, clap::Args)]
pub(super) struct KillallArgs {
    #[command(flatten)]
    data: DataDir,
    #[command(flatten)]
    logs: LogArgs,
}

pub(super) fn killall(args: KillallArgs) -> anyhow::Result<ExitCode> {
    args.logs.start();
    daemon::remove_everything(&absolute(&args.data.data_dir)?)?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn into_config(self) -> anyhow::Result<ServerConfig> {
        let Self { files, listen, node, network, disable, logs: _ } = self;
        let eviction = node.eviction()?;
        let shutdown_grace = node.shutdown_grace()?;
        let reserved = node.reserved();
        let name = match node.node_name {
            Some(name) => name,
            None => host_name()?,
        };
        if let Some(problem) = crate::api::names::dns1123_subdomain(&name).first() {
            bail!("--node-name {name:?}: {problem}");
        }
        let node_ips =
            if node.node_ip.is_empty() { vec![daemon::default_address()] } else { node.node_ip };
        let advertise = listen.advertise_address.unwrap_or(node_ips[0]);
        let (cluster_cidrs, service_cidrs) = ranges(&network)?;
        let pod_network = network.pod_network()?;
        let dns = match network.cluster_dns.is_empty() {
            false => network.cluster_dns,
            true => service_cidrs.iter().filter_map(|range| range.hosts().nth(9)).collect(),
        };
        Ok(ServerConfig {
            data_dir: absolute(&files.data.data_dir)?,
            pod_logs_dir: absolute(&files.pod_logs_dir)?,
            kubeconfig: kubeconfig_path(files.write_kubeconfig)?,
            kubeconfig_mode: files.write_kubeconfig_mode,
            registries_file: files.private_registry,
            bind_address: listen.bind_address,
            https_port: listen.https_listen_port,
            kubelet_port: node.kubelet_port,
            advertise_address: advertise,
            tls_sans: listen.tls_san,
            node_name: name,
            node_ips,
            node_labels: node.node_label.into_iter().collect(),
            node_taints: node.node_taint,
            pods_max: node.max_pods,
            reserved,
            eviction,
            shutdown_grace,
            pod_network,
            cluster_cidrs,
            service_cidrs,
            node_ports: network.service_node_port_range,
            cluster_dns: dns,
            cluster_domain: network.cluster_domain,
            disabled: disable.into_iter().map(component).collect(),
        })
    }
}

fn component(argument: DisableArg) -> Component {
    match argument {
        DisableArg::Agent => Component::Agent,
        DisableArg::Scheduler => Component::Scheduler,
        DisableArg::Controllers => Component::Controllers,
        DisableArg::LocalStorage => Component::LocalStorage,
        DisableArg::ServiceLb => Component::ServiceLb,
        DisableArg::Dns => Component::Dns,
        DisableArg::Proxy => Component::Proxy,
        DisableArg::NetworkPolicy => Component::NetworkPolicy,
    }
}

impl NetworkArgs {
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
}

/// Checks what no single flag can be wrong about.
fn ranges(network: &NetworkArgs) -> anyhow::Result<(Vec<IpNet>, Vec<IpNet>)> {
    for (flag, ranges) in
        [("--cluster-cidr", &network.cluster_cidr), ("--service-cidr", &network.service_cidr)]
    {
        let families = ranges.iter().map(|range| range.addr().is_ipv4()).collect::<Vec<_>>();
        if !matches!(families[..], [_] | [true, false] | [false, true]) {
            bail!("{flag} takes one range, or one of IPv4 and one of IPv6");
        }
    }
    for pods in &network.cluster_cidr {
        for services in &network.service_cidr {
            if pods.contains(services) || services.contains(pods) {
                bail!("--cluster-cidr {pods} and --service-cidr {services} overlap");
            }
        }
    }
    let trunc = |ranges: &[IpNet]| ranges.iter().map(IpNet::trunc).collect();
    Ok((trunc(&network.cluster_cidr), trunc(&network.service_cidr)))
}

fn kubeconfig_path(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    absolute(given.as_deref().unwrap_or(Path::new("/etc/kinglet/kinglet.yaml")))
}

pub(super) fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is not a path", path.display()))
}

/// Kubernetes names are lower case.
fn host_name() -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("the host's name cannot be read")?;
    Ok(name.to_string_lossy().to_lowercase())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    #[track_caller]
    fn check(words: &[&str], expected: &str) {
        let words = ["kinglet", "server", "--node-ip", "192.0.2.1"].iter().chain(words);
        let parsed = crate::cli::Cli::try_parse_from(words).unwrap();
        let crate::cli::Command::Server(args) = parsed.command else { panic!("not a server") };
        let actual = match args.into_config() {
            Ok(config) => format!("{config:?}"),
            Err(error) => error.to_string(),
        };
        assert!(actual.contains(expected), "{actual}");
    }

    #[test]
    fn flags_become_a_configuration() {
        check(&[], "cluster_dns: [10.43.0.10]");
        check(&["--eviction-hard", "memory.available<1Mi"], "least: Amount(1048576)");
        check(&["--image-gc-low-threshold", "90"], "the high one is not below");
        check(&["--shutdown-grace-period", "30s"], "Step { priority: 0, grace: 30s }");
        let critical = "--shutdown-grace-period-critical-pods";
        check(&[critical, "10s"], "10s for critical pods is part of 0s for all");
        let by_priority = ["--shutdown-grace-period-by-pod-priority", "0=5s,1000=9s"];
        check(&by_priority, "Step { priority: 1000, grace: 9s }");
        check(
            &[by_priority[0], by_priority[1], "--shutdown-grace-period", "1s"],
            "takes the place of",
        );
        check(&["--max-pods", "50"], "pods_max: 50");
        let reserved = ["--kube-reserved", "cpu=100m", "--system-reserved", "cpu=100m,memory=1Gi"];
        check(&reserved, "reserved: {\"cpu\": ");
        check(&["--node-name", "One!"], "--node-name \"One!\":");
        check(&["--cluster-cidr", "10.43.0.0/24"], "overlap");
        check(&["--cluster-cidr", "10.0.0.0/16,10.1.0.0/16"], "takes one range");
        check(&["--cluster-cidr", "10.42.0.0/16,fd42::/56"], "fd42::/56]");
        check(&["--advertise-address", "192.0.2.9"], "advertise_address: 192.0.2.9");
        check(&["--disable", "agent,scheduler"], "{Agent, Scheduler}");
    }
}
