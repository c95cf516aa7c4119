//! `kinglet server`: what a cluster of one needs to know.
//!
//! Names and meanings of the flags are k3s's where k3s has them.

use super::logs::LogArgs;
use super::node::{FileArgs, NodeArgs, absolute};
use super::values;
use crate::api::ranges::address_at;
use crate::daemon::backup::{BackupConfig, BackupSchedule};
use crate::daemon::{self, ClusterConfig, Layout, NodePortRange, Places, ServerConfig};
use crate::network::overlay::Backend;
use anyhow::bail;
use clap::ValueEnum;
use ipnet::IpNet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the administrator finds a way in.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Files")]
struct KubeconfigArgs {
    /// Where to write the administrator's kubeconfig [default: /etc/kinglet/kinglet.yaml]
    #[arg(long, short = 'o', env = "KINGLET_KUBECONFIG_OUTPUT")]
    write_kubeconfig: Option<PathBuf>,
    /// Mode of the kubeconfig
    #[arg(long, env = "KINGLET_KUBECONFIG_MODE", default_value = "600", value_parser = values::file_mode)]
    write_kubeconfig_mode: u32,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "API server")]
struct ListenArgs {
    /// Port of the API server
    #[arg(long, env = "KINGLET_HTTPS_LISTEN_PORT", default_value_t = 6443)]
    https_listen_port: u16,
    /// Address that others reach the API server at [default: the node's address]
    #[arg(long, env = "KINGLET_ADVERTISE_ADDRESS")]
    advertise_address: Option<IpAddr>,
    /// Further names and addresses in the API server's certificate
    #[arg(long, env = "KINGLET_TLS_SAN", value_delimiter = ',')]
    tls_san: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Network")]
struct NetworkArgs {
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
    /// How packets get to pods of other nodes
    #[arg(long, env = "KINGLET_FLANNEL_BACKEND", default_value = "vxlan")]
    flannel_backend: BackendArg,
}

/// The names are k3s's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum BackendArg {
    /// Inside UDP; works wherever nodes reach each other
    Vxlan,
    /// By routes, without a tunnel: for nodes on one network
    HostGw,
    /// Encrypted, inside UDP: WireGuard, which the kernel of every node has to have
    WireguardNative,
    /// Somebody else sees to it
    None,
}

impl BackendArg {
    fn overlay(self) -> Option<Backend> {
        match self {
            Self::Vxlan => Some(Backend::Vxlan),
            Self::HostGw => Some(Backend::HostGateway),
            Self::WireguardNative => Some(Backend::WireGuard),
            Self::None => None,
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Backup")]
struct BackupArgs {
    /// When to make backups, as a CronJob has it, such as `0 3 * * *` or @daily [default: never]
    #[arg(long, env = "KINGLET_BACKUP_SCHEDULE", value_name = "CRON")]
    backup_schedule: Option<BackupSchedule>,
    /// So many of those are kept; those of `kinglet backup save` stay
    #[arg(long, env = "KINGLET_BACKUP_RETENTION", default_value_t = 5, value_name = "N")]
    backup_retention: usize,
    /// Where backups are [default: server/backups in the data directory]
    #[arg(long, env = "KINGLET_BACKUP_DIR", value_name = "DIR")]
    backup_dir: Option<PathBuf>,
}

impl BackupArgs {
    fn into_config(self, data_dir: &Path) -> anyhow::Result<BackupConfig> {
        if self.backup_retention == 0 {
            bail!("--backup-retention 0 would remove every backup; leave --backup-schedule out");
        }
        let directory = match self.backup_dir {
            Some(directory) => absolute(&directory)?,
            None => Layout::of(data_dir).backups(),
        };
        let (schedule, retention) = (self.backup_schedule, self.backup_retention);
        Ok(BackupConfig { directory, schedule, retention })
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    kubeconfig: KubeconfigArgs,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    backup: BackupArgs,
    #[command(flatten)]
    logs: LogArgs,
}

/// Starts a server and runs until it is told to stop.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.logs.start();
    let config = args.into_config()?;
    daemon::run_server(config)?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// Where this server has its things.
    pub(super) fn places(self) -> anyhow::Result<Places> {
        self.files.places(Some(kubeconfig_path(self.kubeconfig.write_kubeconfig)?))
    }

    fn into_config(self) -> anyhow::Result<ServerConfig> {
        let Self { files, kubeconfig, listen, node, network, backup, logs: _ } = self;
        let (cluster_cidrs, service_cidrs) = ranges(&network)?;
        let cluster_dns = match network.cluster_dns.is_empty() {
            false => network.cluster_dns,
            true => dns_addresses(&service_cidrs),
        };
        let node = node.into_config(&files, daemon::default_address())?;
        Ok(ServerConfig {
            kubeconfig: kubeconfig_path(kubeconfig.write_kubeconfig)?,
            kubeconfig_mode: kubeconfig.write_kubeconfig_mode,
            https_port: listen.https_listen_port,
            advertise_address: listen.advertise_address.unwrap_or(node.ips[0]),
            tls_sans: listen.tls_san,
            backup: backup.into_config(&node.data_dir)?,
            node,
            cluster: ClusterConfig {
                cluster_cidrs,
                service_cidrs,
                node_ports: network.service_node_port_range,
                cluster_dns,
                cluster_domain: network.cluster_domain,
                overlay: network.flannel_backend.overlay(),
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

/// The tenth address of each range that has so many.
fn dns_addresses(service_cidrs: &[IpNet]) -> Vec<IpAddr> {
    let tenth = |range: &IpNet| Some(address_at(range, 10)).filter(|it| range.contains(it));
    service_cidrs.iter().filter_map(tenth).collect()
}

fn kubeconfig_path(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    absolute(given.as_deref().unwrap_or(Path::new("/etc/kinglet/kinglet.yaml")))
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
        let both = ["--service-cidr", "10.43.0.0/16,fd43::/112"];
        check(&both, "cluster_dns: [10.43.0.10, fd43::a]");
        check(&[], "bind_address: 0.0.0.0");
        check(&["--node-ip", "fd00::1"], "bind_address: ::");
        check(&["--node-ip", "fd00::1", "--bind-address", "192.0.2.1"], "bind_address: 192.0.2.1");
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
        check(&["--flannel-backend", "host-gw"], "overlay: Some(HostGateway)");
        check(&["--flannel-backend", "wireguard-native"], "overlay: Some(WireGuard)");
        check(&["--node-external-ip", "198.51.100.1"], "external_ips: [198.51.100.1]");
        check(&["--cloud-provider", "external"], "cloud: External { provider_id: None }");
        check(&["--provider-id", "a://b"], "--provider-id takes --cloud-provider external");
        check(&[], "http_port: Some(80), https_port: Some(443)");
        check(&["--ingress-https-port", "0"], "https_port: None");
        check(&["--ingress-trusted-ips", "10.1.2.3/8,::1"], "[10.0.0.0/8, ::1/128]");
        check(&["--ingress-access-log", "-"], "access_log: Some(\"-\")");
        check(&[], "directory: \"/var/lib/kinglet/server/backups\", schedule: None, retention: 5");
        check(&["--backup-dir", "/b", "--backup-schedule", "@daily"], "directory: \"/b\"");
        check(&["--backup-retention", "0"], "leave --backup-schedule out");
    }
}
