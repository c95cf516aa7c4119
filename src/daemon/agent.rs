//! The node agent: images, containers, the pod network and the kubelet.

use super::access::{Access, OfNode};
use super::config::{BRIDGE, ClusterConfig, Component, Layout, NodeConfig, PodNetworkKind};
use super::server::STOP_DEADLINE;
use super::{images, ingress, overlay, ports, socket};
use crate::apiserver::Identity;
use crate::kubelet::files::resolv_conf::ClusterDns;
use crate::kubelet::node::NodeSettings;
use crate::kubelet::volumes::Volumes;
use crate::kubelet::{self, Exposed, Kubelet, NodeFiles};
use crate::netpol;
use crate::network::overlay::Means;
use crate::network::{BridgeConfig, BridgeNetwork, CniConfig, CniNetwork, PodNetwork};
use crate::provision;
use crate::runtime::images::{Images, ImportedFile, Progress};
use crate::runtime::{LogLimits, Runtime, ShimRuntime, ShimRuntimeConfig};
use crate::stdx::{Clock, Tasks, TasksError, chain};
use crate::sys::mount::{self, Tmpfs};
use crate::sys::nft;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{info, warn};

/// What the pods of a node may have in the run directory, some 100 KiB each with what is made of
/// Secrets; beyond it, none is started.
const RUN_BYTES_MAX: u64 = 512 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Agent {
    runtime: Arc<ShimRuntime>,
    kubelet: Kubelet,
    tasks: Tasks,
}

impl Agent {
    pub(super) async fn start(
        config: &NodeConfig,
        clock: &Clock,
        access: Access,
    ) -> anyhow::Result<Self> {
        let layout = Layout::of(&config.data_dir);
        let listener = listen(config).await?;
        make_run_directory(&layout)?;
        let mut tasks = Tasks::default();
        let images = images::open_store(config, clock).await?;
        let changed = watch::Sender::new(());
        let service = images::service(images.clone(), changed.clone());
        socket::serve(&layout.socket(), service, &mut tasks)
            .with_context(|| format!("cannot listen on {}", layout.socket().display()))?;
        let runtime = Arc::new(open_runtime(&layout, images.clone(), clock).await?);
        let Access { node: client, parts, kubelet_tls, cluster, node_key, provisioner } = access;
        let of_node = OfNode { config, cluster: &cluster, parts: &parts, clock };
        let means = overlay::prepare(cluster.overlay, &layout).await?;
        let wireguard_key = means.as_ref().and_then(Means::key);
        let network = open_network(&of_node, &layout, &mut tasks).await?;
        if let Some(means) = means {
            overlay::start(&of_node, means, &mut tasks)?;
        }
        let further_metrics = start_measured(&of_node, &mut tasks).await?;
        let of_kubelet = kubelet::Parts {
            services: parts.services(&client, &mut tasks),
            client: client.clone(),
            runtime: Arc::clone(&runtime) as Arc<dyn Runtime>,
            network,
            further_metrics,
            clock: clock.clone(),
        };
        let mut settings = kubelet_config(config, &cluster, &layout);
        settings.node.key = node_key;
        settings.node.wireguard_key = wireguard_key.map(|key| key.to_string());
        make_directory(&settings.volumes.pods_dir, 0o750)?;
        settings.volumes.keep_off_disk().with_context(|| {
            let path = settings.volumes.memory_dir.display();
            format!("cannot keep secrets in memory at {path}")
        })?;
        let kubelet = kubelet::start(settings, of_kubelet, &mut tasks)
            .context("cannot look at this machine")?;
        kubelet::https::serve(&kubelet, listener, kubelet_tls, client, &mut tasks);
        if let Some(parts) = provisioner.filter(|_| config.has(Component::LocalStorage)) {
            start_provisioner(&of_node, parts, &mut tasks)?;
        }
        import_archives(images, changed.clone(), &mut tasks);
        let of_images = kubelet.clone();
        let (mut changes, shutdown) = (changed.subscribe(), tasks.shutdown());
        // What came while the kubelet started, it has not seen either.
        changes.mark_changed();
        tasks.spawn("image-changes", async move {
            let _sender = changed;
            while let Some(Ok(())) = shutdown.run_until_cancelled(changes.changed()).await {
                of_images.images_changed();
            }
        });
        Ok(Self { runtime, kubelet, tasks })
    }

    /// The kubelet of this node.
    pub(super) fn kubelet(&self) -> &Kubelet {
        &self.kubelet
    }

    pub(super) async fn first_failure(&mut self) -> TasksError {
        self.tasks.first_failure().await
    }

    /// Whether pods are to be ended when the machine goes down.
    pub(super) fn ends_pods_on_shutdown(&self) -> bool {
        self.kubelet.ends_pods_on_shutdown()
    }

    /// The longest that [`end_pods`](Self::end_pods) takes.
    pub(super) fn ends_pods_within(&self) -> Duration {
        self.kubelet.shuts_down_within()
    }

    /// Ends all pods, as the machine goes down.
    pub(super) async fn end_pods(&self) {
        self.kubelet.shut_down().await;
    }

    /// Lets go of the containers, which run on.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.tasks.stop(STOP_DEADLINE).await?;
        self.runtime.close(STOP_DEADLINE).await;
        Ok(())
    }
}

/// Starts those whose measurements the kubelet shows, by their names.
async fn start_measured(
    of_node: &OfNode<'_>,
    tasks: &mut Tasks,
) -> anyhow::Result<BTreeMap<&'static str, Exposed>> {
    let mut measured = BTreeMap::new();
    if let Some(proxy) = super::proxy::start(of_node, tasks).await {
        measured.insert("proxy", Exposed::new(move || proxy.metrics()));
    }
    if let Some(dns) = super::dns::start(of_node, tasks).await? {
        measured.insert("dns", Exposed::new(move || dns.metrics()));
    }
    if of_node.config.has(Component::Ingress) {
        let ingress = ingress::start(of_node, tasks)?;
        measured.insert("ingress", Exposed::new(move || ingress.metrics()));
    }
    Ok(measured)
}

/// Local volumes of this node.
fn start_provisioner(
    of_node: &OfNode<'_>,
    parts: provision::Parts,
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    let (node, root) =
        (of_node.config.name.clone(), Layout::of(&of_node.config.data_dir).storage());
    let settings = provision::Config { node, root: root.clone(), clock: of_node.clock.clone() };
    provision::start(settings, parts, tasks)
        .with_context(|| format!("cannot make {}", root.display()))
}

/// Where things are that die with a reboot: in memory. Sockets and namespaces are root's business.
pub(super) fn make_run_directory(layout: &Layout) -> anyhow::Result<()> {
    let run = layout.run();
    make_directory(&run, 0o700)?;
    keep_in_memory(&run)
        .with_context(|| format!("cannot have a file system in memory at {}", run.display()))
}

async fn listen(config: &NodeConfig) -> anyhow::Result<TcpListener> {
    let address = config.kubelet_address();
    ports::listen(address).await.with_context(|| {
        let port = address.port();
        format!(
            "cannot listen on {address} for the kubelet; `ss -ltnp sport = :{port}` says who has the \
             port, and --kubelet-port chooses another"
        )
    })
}

fn kubelet_config(
    config: &NodeConfig,
    cluster: &ClusterConfig,
    layout: &Layout,
) -> kubelet::Config {
    kubelet::Config {
        node: NodeSettings {
            name: config.name.clone(),
            addresses: config.ips.clone(),
            external_addresses: config.external_ips.clone(),
            cloud: config.cloud.clone(),
            key: None,
            wireguard_key: None,
            labels: config.labels.clone(),
            taints: config.taints.clone(),
            pods_max: config.pods_max,
            reserved: config.reserved.clone(),
            kept_free: config.eviction.thresholds.all.clone(),
            kubelet_port: config.kubelet_port,
        },
        cluster_dns: ClusterDns {
            addresses: cluster.cluster_dns.clone(),
            domain: cluster.cluster_domain.clone(),
        },
        volumes: Volumes {
            pods_dir: layout.agent().join("pods"),
            memory_dir: layout.run().join("volumes"),
        },
        logs_dir: config.pod_logs_dir.clone(),
        cgroup_root: cgroup_root(layout),
        node_files: NodeFiles::usual(),
        eviction: config.eviction.clone(),
        shutdown_grace: config.shutdown_grace.clone(),
        seccomp_dir: layout.agent().join("seccomp"),
        static_pods_dir: layout.agent().join("pod-manifests"),
    }
}

/// The runtime of a data directory; adopts what runs already.
pub(super) async fn open_runtime(
    layout: &Layout,
    images: Images,
    clock: &Clock,
) -> anyhow::Result<ShimRuntime> {
    let config = ShimRuntimeConfig {
        data_dir: layout.data_dir(),
        run_dir: layout.run(),
        cgroup_root: cgroup_root(layout),
        executable: std::env::current_exe().context("this executable cannot be found")?,
        log_limits: LogLimits::UPSTREAM,
        clock: clock.clone(),
    };
    Ok(ShimRuntime::open(config, Arc::new(images)).await?)
}

/// The network that pods are attached to, with policies enforced on it where they are ours to enforce.
async fn open_network(
    of_node: &OfNode<'_>,
    layout: &Layout,
    tasks: &mut Tasks,
) -> anyhow::Result<Arc<dyn PodNetwork>> {
    let OfNode { config, cluster, parts, .. } = *of_node;
    let has_nft = has_nft(config).await?;
    let network: Arc<dyn PodNetwork> = match &config.pod_network {
        PodNetworkKind::Bridge => {
            let bridge = BridgeConfig {
                bridge: BRIDGE.to_owned(),
                cluster_cidrs: cluster.cluster_cidrs.clone(),
                overhead: cluster.overlay.map_or(0, |backend| backend.overhead(config.ips[0])),
                state_directory: network_state(layout),
            };
            let network = Arc::new(BridgeNetwork::open(bridge, tasks)?);
            if config.has(Component::NetworkPolicy) {
                let identity = Identity::service_account("kube-system", netpol::ACCOUNT);
                let client = parts.client(identity);
                return Ok(Arc::new(netpol::start(network, client, tasks)));
            }
            network
        }
        PodNetworkKind::Cni { config_directory, plugin_directories } => {
            Arc::new(CniNetwork::open(CniConfig {
                config_directory: config_directory.clone(),
                plugin_directories: plugin_directories.clone(),
                state_directory: cni_state(layout),
            })?)
        }
    };
    // Rules of an earlier process would stand for ever.
    if has_nft {
        netpol::remove().await.context("cannot take away the rules of network policies")?;
    }
    Ok(network)
}

/// Pods and Services of this node are reached by rules, unless others see to both: a node without nft
/// would be there and do nothing.
async fn has_nft(config: &NodeConfig) -> anyhow::Result<bool> {
    let is_needed = config.pod_network == PodNetworkKind::Bridge || config.has(Component::Proxy);
    match nft::ensure_usable().await {
        Ok(()) => Ok(true),
        Err(error) if is_needed => Err(error.into()),
        Err(_not_needed) => Ok(false),
    }
}

/// Where the network records what it has given to pods.
pub(super) fn network_state(layout: &Layout) -> PathBuf {
    layout.run().join("network")
}

/// Where attachments by CNI plugins are recorded.
pub(super) fn cni_state(layout: &Layout) -> PathBuf {
    layout.run().join("cni")
}

/// The cgroup that all pods of a data directory are below.
pub(super) fn cgroup_root(layout: &Layout) -> String {
    format!("/kinglet-{}", layout.id())
}

fn make_directory(path: &Path, mode: u32) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

/// Has the run directory in memory also where `/run` is on a disk, as in containers: nothing is
/// written there for a pod or a probe, and nothing is left of it after a reboot. What an earlier
/// process mounted is found again. It goes with what else is mounted there.
fn keep_in_memory(run: &Path) -> io::Result<()> {
    // Pods that run already have what is in it: that stays where it is.
    let is_used = || fs::read_dir(run).map(|mut entries| entries.next().is_some());
    if mount::is_in_memory(run)? || is_used()? {
        return Ok(());
    }
    mount::tmpfs(run, Tmpfs { size_bytes: RUN_BYTES_MAX, mode: 0o700, group: None })?;
    mount::make_private(run)
}

/// Imports the archives that wait in the data directory, while everything else starts.
fn import_archives(images: Images, changed: watch::Sender<()>, tasks: &mut Tasks) {
    let shutdown = tasks.shutdown();
    tasks.spawn("image-archives", async move {
        let work = async {
            let imported = |file: ImportedFile| {
                let path = file.path.display();
                match file.result {
                    Ok(ids) => info!("imported {} images of {path}", ids.len()),
                    Err(error) => warn!(error = chain(&error), "{path} was left out"),
                }
                changed.send_replace(());
            };
            if let Err(error) = images.import_directory(&Progress::none(), imported).await {
                warn!(error = chain(&error), "importing images failed");
            }
            if let Err(error) = images.sweep().await {
                warn!(error = chain(&error), "removing leftovers of images failed");
            }
        };
        shutdown.run_until_cancelled(work).await;
        shutdown.cancelled().await;
    });
}
