//! The store, the API server, the controllers and the scheduler.

use super::access::{Access, Parts};
use super::certificates::{Certificates, Terms};
use super::config::{Component, Layout, ServerConfig};
use super::nodes::Nodes;
use super::scheduler_caches::scheduler_caches;
use super::server::STOP_DEADLINE;
use super::settings::Settings;
use super::token_keys::keep_token_keys;
use super::{backup, ports, role, user_agents};
use crate::apiserver::{self, Identity, NodeService, TokenSettings};
use crate::client::{Client, EventRecorder};
use crate::controllers::nodeipam::NodeRange;
use crate::controllers::service::HostPort;
use crate::controllers::{self, Caches, Caller, KindEntry, LoadBalancer};
use crate::kubelet::node::Cloud;
use crate::pki::Acceptor;
use crate::provision;
use crate::registry::stored_kinds;
use crate::scheduler::{self, Scheduler};
use crate::stdx::{Clock, Entropy, Tasks, TasksError, blocking, chain};
use crate::storage::Store;
use crate::storage::sqlite::{self, Sqlite};
use crate::sys::clock_watch::ClockWatch;
use crate::sys::open_files;
use anyhow::Context as _;
use ipnet::IpNet;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// More connections to the API than this are not accepted, however many files may be open: each
/// takes memory too.
const CONNECTIONS_MAX: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub(super) struct ControlPlane {
    store: Arc<Sqlite>,
    api: Arc<apiserver::Server>,
    nodes: Arc<Nodes>,
    /// What the controllers look at, where they are here.
    caches: Option<Caches>,
    kubelet_tls: Acceptor,
    api_tasks: Tasks,
    loop_tasks: Tasks,
}

impl ControlPlane {
    pub(super) async fn start(config: &ServerConfig, clock: &Clock) -> anyhow::Result<Self> {
        let open_files = open_files::raise().context("cannot raise the limit of open files")?;
        let layout = Layout::of(&config.node.data_dir);
        // The port first: a second server is told before it has touched anything.
        let listener = listen(config.listen_address()).await?;
        // Both wait for the disk.
        let (store, certificates) =
            tokio::join!(open_store(&layout), open_certificates(config, &layout, clock));
        let (store, certificates) = (store?, certificates?);
        let nodes = Arc::new(Nodes::new(config.node.name.clone(), Arc::clone(&certificates)));
        let api = apiserver::Server::new(
            apiserver::Config {
                clock: clock.clone(),
                entropy: Entropy::system(),
                advertise_address: config.advertise_address,
                https_port: config.https_port,
                service_cidrs: config.cluster.service_cidrs.clone(),
                node_ports: config.cluster.node_ports.first..=config.cluster.node_ports.last,
                event_ttl: apiserver::Config::EVENT_TTL,
                tokens: TokenSettings {
                    root_ca: Arc::from(certificates.server_ca()),
                    ..TokenSettings::of_cluster(&config.cluster.cluster_domain)
                },
                components: components(config),
                connections_max: connections_max(open_files),
            },
            Arc::clone(&store) as Arc<dyn Store>,
            Arc::clone(&nodes) as Arc<dyn NodeService>,
        );
        nodes.set_client(client_of(&api, Identity::api_server()));
        let mut api_tasks = Tasks::default();
        api_tasks.spawn("store", until_ended(store.ended(), api_tasks.shutdown()));
        let keys = keep_token_keys(Arc::clone(&api), layout.tls(), api_tasks.shutdown());
        api_tasks.spawn("token keys", keys);
        api.serve(listener, certificates.tls().acceptor(), &mut api_tasks);
        api.bootstrap().await.context("failed to make the first objects of the cluster")?;
        api.keep(&mut api_tasks);
        let settings = Settings {
            cluster: config.cluster.clone(),
            client_ca: certificates.client_ca().to_owned(),
        };
        let own = client_of(&api, Identity::api_server());
        settings.publish(&own).await.context("failed to say what the cluster has agreed on")?;
        let admin_due = certificates.hand_out()?;
        let kubelet_tls = certificates.kubelet_tls().acceptor();
        let kept = Arc::clone(&certificates).keep(admin_due, api_tasks.shutdown());
        api_tasks.spawn("certificates", kept);
        api_tasks.spawn("clock", follow_clock(clock.clone(), api_tasks.shutdown()));
        backup::start(&config.backup, layout.server(), &config.node.name, clock, &mut api_tasks);
        let mut loop_tasks = Tasks::default();
        if config.has(Component::Agent) {
            role::keep(config.node.name.clone(), own, &mut loop_tasks);
        }
        let mut control_plane =
            Self { store, api, nodes, caches: None, kubelet_tls, api_tasks, loop_tasks };
        control_plane.start_loops(config, clock, &certificates)?;
        Ok(control_plane)
    }

    fn start_loops(
        &mut self,
        config: &ServerConfig,
        clock: &Clock,
        certificates: &Certificates,
    ) -> anyhow::Result<()> {
        let mut shared = None;
        if config.has(Component::Controllers) {
            let api = Arc::clone(&self.api);
            let client = move |caller: Caller<'_>| {
                let identity = match caller {
                    Caller::ApiServer => Identity::new("system:apiserver", &["system:masters"]),
                    Caller::ControllerManager => {
                        Identity::new("system:kube-controller-manager", &[])
                    }
                    Caller::Manifests => Identity::new("system:addons", &["system:masters"]),
                    Caller::ServiceAccount(name) => Identity::service_account("kube-system", name),
                };
                Client::new(api.local(identity), user_agents::CONTROLLERS)
            };
            let settings = controllers::Config {
                clock: clock.clone(),
                kinds: stored_kinds().map(|kind| KindEntry::of(&kind.facts)).collect(),
                node_ranges: node_ranges(&config.cluster.cluster_cidrs)?,
                service_cidrs: config.cluster.service_cidrs.clone(),
                root_ca: Arc::from(certificates.server_ca()),
                signers: certificates.signers(),
                load_balancer: gives_addresses(config).then(|| load_balancer(config)),
                has_ingress: config.has(Component::Ingress),
                manifests: Some(Layout::of(&config.node.data_dir).manifests()),
            };
            let tasks = &mut self.loop_tasks;
            let caches = Caches::start(&client(Caller::ControllerManager), tasks);
            controllers::start(client, &caches, settings, tasks);
            shared = Some(caches);
        }
        if config.has(Component::Scheduler) {
            let client = self.client(Identity::new("system:kube-scheduler", &[]));
            let tasks = &mut self.loop_tasks;
            let recorder =
                EventRecorder::start(client.clone(), scheduler::reporter(), clock.clone(), tasks);
            let caches = scheduler_caches(shared.as_ref(), &client, tasks);
            Scheduler::start(scheduler::Config { client, caches, recorder }, tasks);
        }
        self.caches = shared;
        Ok(())
    }

    /// A way to the API for a component of this process.
    pub(super) fn client(&self, identity: Identity) -> Client {
        client_of(&self.api, identity)
    }

    fn parts(&self) -> Parts {
        let api = Arc::clone(&self.api);
        let client = move |identity| client_of(&api, identity);
        Parts::new(client, self.caches.clone())
    }

    /// For the parts of this node.
    pub(super) fn access(&mut self, config: &ServerConfig) -> Access {
        let name = &config.node.name;
        Access {
            node: self.client(Identity::node(name)),
            parts: self.parts(),
            kubelet_tls: self.kubelet_tls.clone(),
            cluster: config.cluster.clone(),
            node_key: None,
            provisioner: config.has(Component::LocalStorage).then(|| self.provisioner_parts()),
        }
    }

    /// What the provisioner of local volumes works with. The controllers' caches serve it as well.
    fn provisioner_parts(&mut self) -> provision::Parts {
        let client = self.client(Identity::service_account("kube-system", provision::ACCOUNT));
        match self.caches.clone() {
            Some(caches) => provision::Parts {
                client,
                claims: caches.persistent_volume_claims,
                volumes: caches.persistent_volumes,
                classes: caches.storage_classes,
                nodes: caches.nodes,
                class: provision::Class::Own,
            },
            None => provision::Parts::watched(client, &mut self.loop_tasks),
        }
    }

    /// Where the kubelet is to be known.
    pub(super) fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    pub(super) async fn first_failure(&mut self) -> TasksError {
        tokio::select! {
            failure = self.api_tasks.first_failure() => failure,
            failure = self.loop_tasks.first_failure() => failure,
        }
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let loops = self.loop_tasks.stop(STOP_DEADLINE).await;
        let api = self.api_tasks.stop(STOP_DEADLINE).await;
        self.store.close().await.context("the store could not be closed")?;
        Ok(loops.and(api)?)
    }
}

/// Tells all who wait for a time of day when the clock is set.
pub(super) async fn follow_clock(clock: Clock, shutdown: CancellationToken) {
    let follow = async {
        let watch = ClockWatch::open()?;
        loop {
            watch.was_set().await?;
            info!(now = %clock.now(), "the clock was set");
            clock.was_set();
        }
    };
    let followed: Option<io::Result<Infallible>> = shutdown.run_until_cancelled(follow).await;
    if let Some(Err(error)) = followed {
        warn!(error = chain(&error), "nobody hears when the clock is set: what is due may be late");
        shutdown.cancelled().await;
    }
}

/// Ends when the store does: without it the server is of no use.
async fn until_ended(store: CancellationToken, shutdown: CancellationToken) {
    tokio::select! {
        () = store.cancelled() => {}
        () = shutdown.cancelled() => {}
    }
}

/// A way to the API for a component of this process.
fn client_of(api: &Arc<apiserver::Server>, identity: Identity) -> Client {
    let user_agent = user_agents::of(&identity);
    Client::new(api.local(identity), user_agent)
}

/// Whether Services get the nodes' own addresses: nobody else gives them theirs.
fn gives_addresses(config: &ServerConfig) -> bool {
    config.has(Component::ServiceLb) && config.node.cloud == Cloud::None
}

/// No Service takes the ports by which the cluster itself is reached.
fn load_balancer(config: &ServerConfig) -> LoadBalancer {
    let own = [Some(config.https_port), Some(config.node.kubelet_port)];
    let ingress = [config.node.ingress.http_port, config.node.ingress.https_port];
    let ingress = ingress.into_iter().filter(|_| config.has(Component::Ingress));
    let ports = own.into_iter().chain(ingress).flatten();
    let reserved = ports.map(|port| HostPort { protocol: "TCP".to_owned(), port }).collect();
    LoadBalancer { reserved }
}

/// A node gets 256 addresses of IPv4 and a /64 of IPv6, as upstream has it.
fn node_ranges(cluster_cidrs: &[IpNet]) -> anyhow::Result<Vec<NodeRange>> {
    let range = |cidr: &IpNet| {
        let prefix = if cidr.addr().is_ipv4() { 24 } else { 64 };
        NodeRange::new(*cidr, prefix.max(cidr.prefix_len())).context("--cluster-cidr")
    };
    cluster_cidrs.iter().map(range).collect()
}

/// What runs beside the API server, by the names that upstream's programs have.
fn components(config: &ServerConfig) -> Vec<&'static str> {
    let named =
        [(Component::Controllers, "controller-manager"), (Component::Scheduler, "scheduler")];
    named.into_iter().filter(|(it, _)| config.has(*it)).map(|(_, name)| name).collect()
}

/// A quarter of the files is left to the rest of this process.
fn connections_max(open_files: u64) -> usize {
    let connections = usize::try_from(open_files / 4 * 3).unwrap_or(usize::MAX);
    connections.min(CONNECTIONS_MAX)
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    ports::listen(address).await.with_context(|| {
        let port = address.port();
        format!(
            "cannot listen on {address}; `ss -ltnp sport = :{port}` says who has the port, and \
             --https-listen-port chooses another"
        )
    })
}

/// SQLite reads the disk when it opens.
async fn open_store(layout: &Layout) -> anyhow::Result<Arc<Sqlite>> {
    let path = layout.database();
    let directory = path.parent().expect("the database is in a directory").to_owned();
    let opened = blocking(move || {
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let config = sqlite::Config { path: Some(path), history: sqlite::History::DEFAULT };
        Ok::<_, anyhow::Error>(Sqlite::open(config)?)
    });
    Ok(Arc::new(opened.await?))
}

async fn open_certificates(
    config: &ServerConfig,
    layout: &Layout,
    clock: &Clock,
) -> anyhow::Result<Arc<Certificates>> {
    let (terms, directory, clock) = (Terms::of(config), layout.tls(), clock.clone());
    blocking(move || Certificates::open(terms, &directory, &clock)).await
}
