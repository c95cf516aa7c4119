//! The node agent: makes the pods that are bound to this node real and says how they are.
//!
//! Start at [`start`] for what there is, at [`pod`] for what is decided about one pod and why, and
//! at `worker` for how that is done. Architecture invariants: a pod's containers never depend on
//! this process or on the API server being there; whatever is known only here can be found again
//! after a restart; a status is written until the API has it, and never an older one over a newer.

mod announce;
pub mod claims;
mod classes;
mod config;
pub mod container;
pub mod eviction;
mod exits;
pub mod files;
mod hooks;
mod http_get;
pub mod https;
pub mod images;
mod last_words;
mod ledger;
pub mod logs;
pub mod node;
pub mod pod;
mod prober;
mod references;
mod server;
pub mod shutdown;
mod static_pods;
mod tally;
pub mod tokens;
pub mod volumes;
mod worker;

pub use config::{Config, NodeFiles};

use crate::client::{Cache, Client, EventRecorder, Reporter, Selection};
use crate::network::PodNetwork;
use crate::runtime::Runtime;
use crate::stdx::http::HttpService;
use crate::stdx::{Backoff, Clock, Tasks, chain};
use crate::sys::apparmor;
use crate::sys::host::{HostFacts, has_selinux};
use container::classes::NodeShare;
use container::security::Confinement;
use eviction::Evictions;
use exits::Exits;
use images::ImageFetcher;
use k8s_openapi::api::core::v1::Service;
use ledger::Ledger;
use node::{NodeConfig, NodeKeeper};
use references::ReferenceCaches;
use shutdown::Shutdown;
use static_pods::StaticPods;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::time::Duration;
use tally::{Metered, Tally};
use tokio::sync::{Semaphore, watch};
use tracing::warn;
use volumes::VolumeBook;
use worker::{Bell, Shared, Workers};

/// What passes before leftovers on the network are looked for again, where that failed.
const NETWORK_RETRY: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(10) };

/// What a kubelet works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// With the node's identity.
    pub client: Client,
    pub runtime: Arc<dyn Runtime>,
    pub network: Arc<dyn PodNetwork>,
    /// Services, which containers are told of. Shared with whoever else needs them.
    pub services: Arc<Cache<Service>>,
    /// What else of this node is measured, by the name below `/metrics` where it is shown.
    pub further_metrics: BTreeMap<&'static str, Exposed>,
    pub clock: Clock,
}

/// Says what somebody else on this node has measured, in the text format of Prometheus.
#[derive(Clone)]
pub struct Exposed(Arc<dyn Fn() -> String + Send + Sync>);

impl Exposed {
    pub fn new(text: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(text))
    }
}

impl fmt::Debug for Exposed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Exposed")
    }
}

/// A kubelet that works. Its tasks belong to whoever started it.
#[derive(Clone, Debug)]
pub struct Kubelet {
    node_name: String,
    service: Arc<dyn HttpService>,
    keeper: NodeKeeper,
    images: ImageFetcher,
    shared: Arc<Shared>,
}

impl Kubelet {
    /// Answers for logs of containers and the like.
    #[must_use]
    pub fn service(&self) -> Arc<dyn HttpService> {
        Arc::clone(&self.service)
    }

    /// The node that this is the agent of.
    #[must_use]
    pub fn node_name(&self) -> &str {
        &self.node_name
    }

    /// Waits until the API server has the node of this kubelet and it is ready.
    pub async fn ready(&self) {
        self.keeper.ready().await;
    }

    /// Waits until this node's name is another machine's, and says what was said of it.
    pub async fn name_lost(&self) -> String {
        self.keeper.name_lost().await
    }

    /// Whether an address is one that pods of this node have.
    #[must_use]
    pub fn is_pod_address(&self, address: IpAddr) -> bool {
        let node = self.keeper.node();
        node.is_some_and(|node| node::pod_cidrs(&node).iter().any(|it| it.contains(&address)))
    }

    /// To be told when images have come or gone that no pod has asked for: pods may wait for them.
    pub fn images_changed(&self) {
        self.images.note_arrival();
        self.keeper.look_again();
        self.shared.bell.ring_all();
    }

    /// Whether pods are to be ended when the machine goes down.
    #[must_use]
    pub fn ends_pods_on_shutdown(&self) -> bool {
        !self.shared.config.shutdown_grace.is_off()
    }

    /// The longest that [`shut_down`](Self::shut_down) takes.
    #[must_use]
    pub fn shuts_down_within(&self) -> Duration {
        shutdown::within(&self.shared.config.shutdown_grace)
    }

    /// Ends all pods, as the machine goes down. Returns when they have ended, or had their time.
    pub async fn shut_down(&self) {
        shutdown::run(&self.shared).await;
    }
}

/// Starts the kubelet. It registers its node, takes over the containers that run already, and keeps
/// the node's pods until its tasks are stopped; containers run on after that.
///
/// # Errors
/// Where this machine cannot be looked at, or the pods' directory cannot be made.
pub fn start(config: Config, parts: Parts, tasks: &mut Tasks) -> io::Result<Kubelet> {
    let HostFacts { memory_bytes, processors, .. } = HostFacts::observe()?;
    DirBuilder::new().recursive(true).mode(0o750).create(&config.volumes.pods_dir)?;
    let statics = StaticPods::load(config.static_pods_dir.clone(), &config.node.name)?;
    let Parts { client, runtime, network, services, further_metrics, clock } = parts;
    let reporter = Reporter { component: "kubelet".to_owned(), host: config.node.name.clone() };
    let events = EventRecorder::start(client.clone(), reporter, clock.clone(), tasks);
    let node_config = NodeConfig {
        settings: config.node.clone(),
        data_dir: config.volumes.pods_dir.clone(),
        clock: clock.clone(),
    };
    let keeper = NodeKeeper::start(
        node_config,
        client.clone(),
        Arc::clone(&runtime),
        Arc::clone(&network),
        tasks,
    );
    let of_this_node = Selection::fields(format!("spec.nodeName={}", config.node.name));
    let bell = Bell::default();
    let on_change = ringing(&bell);
    let tally = Arc::<Tally>::default();
    let runtime: Arc<dyn Runtime> = Arc::new(Metered::new(runtime, Arc::clone(&tally)));
    let confinement = confinement(&config);
    let runtime_events = runtime.events();
    let (opened, network_open) = watch::channel(false);
    let shared = Arc::new(Shared {
        pods: Cache::start(client.clone(), of_this_node, tasks),
        references: ReferenceCaches::new(client.clone(), tasks.shutdown(), Arc::clone(&on_change)),
        images: ImageFetcher::new(Arc::clone(&runtime), events.clone()),
        starts: Shared::starts(),
        questions: Semaphore::new(prober::QUESTIONS_AT_ONCE_MAX),
        evictions: Evictions::default(),
        shutdown: Shutdown::default(),
        statics,
        changes: watch::Sender::default(),
        ledger: Ledger::new(on_change),
        bell: bell.clone(),
        exits: Exits::new(Arc::clone(&runtime)),
        config,
        client,
        runtime,
        network,
        events,
        clock,
        services,
        further_metrics,
        keeper: keeper.clone(),
        share: NodeShare { milli_cpu: u64::from(processors) * 1_000, memory_bytes },
        confinement,
        network_open,
        tally,
        volumes: VolumeBook::default(),
    });
    keep_node(&shared, &bell, tasks);
    let node_name = shared.config.node.name.clone();
    let service = Arc::new(server::KubeletService::new(Arc::clone(&shared)));
    let images = shared.images.clone();
    let workers = Workers::new(Arc::clone(&shared), bell.clone());
    let shutdown = tasks.shutdown();
    let of_node = Arc::clone(&shared);
    tasks.spawn("network-leftovers", async move {
        shutdown.run_until_cancelled(open_network(&of_node, &opened)).await;
        shutdown.cancelled().await;
    });
    tasks.spawn("pods", workers.run(runtime_events, tasks.shutdown()));
    Ok(Kubelet { node_name, service, keeper, images, shared })
}

/// Has the pod of a uid looked at.
fn ringing(bell: &Bell) -> Arc<dyn Fn(&str) + Send + Sync> {
    let bell = bell.clone();
    Arc::new(move |uid: &str| bell.ring(uid))
}

/// What this machine can confine containers by.
fn confinement(config: &Config) -> Confinement {
    Confinement {
        has_selinux: has_selinux(),
        has_apparmor: apparmor::is_enabled(),
        seccomp_dir: config.seccomp_dir.clone(),
    }
}

/// Looks after what all pods of the node share: their cgroups, its memory and disk, its own pods.
fn keep_node(shared: &Arc<Shared>, bell: &Bell, tasks: &mut Tasks) {
    let (of_node, shutdown) = (Arc::clone(shared), tasks.shutdown());
    tasks.spawn("class-cgroups", async move {
        shutdown.run_until_cancelled(classes::keep(of_node)).await;
    });
    let (of_node, of_bell, shutdown) = (Arc::clone(shared), bell.clone(), tasks.shutdown());
    tasks.spawn("eviction", async move {
        shutdown.run_until_cancelled(eviction::keep(of_node, of_bell)).await;
    });
    let (of_node, of_bell, shutdown) = (Arc::clone(shared), bell.clone(), tasks.shutdown());
    tasks.spawn("static-pods", async move {
        let follow = of_node.statics.follow(|uid| {
            of_node.changes.send_replace(());
            of_bell.ring(uid);
        });
        shutdown.run_until_cancelled(follow).await;
    });
}

/// Frees what pods that are gone had on the network, and lets others onto it only after that, so
/// that nobody's place is taken for a leftover.
async fn open_network(shared: &Shared, opened: &watch::Sender<bool>) {
    shared.keeper.network_ready().await;
    let mut failures = 0;
    while let Err(error) = free_leftovers(shared).await {
        failures += 1;
        warn!(error = chain(&*error), "cannot free what is left on the pod network yet");
        tokio::time::sleep(NETWORK_RETRY.delay(failures)).await;
    }
    opened.send_replace(true);
}

async fn free_leftovers(shared: &Shared) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let sandboxes = shared.runtime.sandboxes().await?;
    let ids = sandboxes.into_iter().map(|sandbox| sandbox.id.0).collect();
    Ok(shared.network.retain(ids).await?)
}
