//! The store, the API server, the controllers and the scheduler.

use super::certificates::{Certificates, Terms};
use super::config::{Component, Layout, ServerConfig};
use super::nodes::Nodes;
use super::scheduler_caches::scheduler_caches;
use super::server::STOP_DEADLINE;
use super::token_keys::keep_token_keys;
use crate::apiserver::{self, Identity, NodeService, TokenSettings};
use crate::client::{ApiObject, Cache, Client, EventRecorder, Reporter, Selection};
use crate::controllers::nodeipam::NodeRange;
use crate::controllers::service::HostPort;
use crate::controllers::{self, Caches, Caller, KindEntry, LoadBalancer};
use crate::dns;
use crate::pki::Acceptor;
use crate::provision;
use crate::proxy;
use crate::registry::stored_kinds;
use crate::scheduler::{self, Scheduler};
use crate::stdx::{Clock, Entropy, Tasks, TasksError, chain};
use crate::storage::Store;
use crate::storage::sqlite::{self, Sqlite};
use crate::sys::clock_watch::ClockWatch;
use crate::sys::open_files;
use anyhow::Context as _;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Who asks, in logs of the API server and in events.
const USER_AGENT: &str = concat!("kinglet/", env!("CARGO_PKG_VERSION"));

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
        let layout = Layout::of(&config.data_dir);
        // The port first: a second server is told before it has touched anything.
        let listener = listen(config.listen_address()).await?;
        let store = open_store(&layout).await?;
        let certificates = Certificates::open(Terms::of(config), &layout.tls(), clock)?;
        let nodes = Arc::new(Nodes::new(config.node_name.clone(), Arc::clone(&certificates)));
        let api = apiserver::Server::new(
            apiserver::Config {
                clock: clock.clone(),
                entropy: Entropy::system(),
                advertise_address: config.advertise_address,
                https_port: config.https_port,
                service_cidrs: config.service_cidrs.clone(),
                node_ports: config.node_ports.first..=config.node_ports.last,
                event_ttl: apiserver::Config::EVENT_TTL,
                tokens: TokenSettings {
                    root_ca: Arc::from(certificates.server_ca()),
                    ..TokenSettings::of_cluster(&config.cluster_domain)
                },
                components: components(config),
                connections_max: connections_max(open_files),
            },
            Arc::clone(&store) as Arc<dyn Store>,
            Arc::clone(&nodes) as Arc<dyn NodeService>,
        );
        nodes.set_client(Client::new(api.local(Identity::api_server()), USER_AGENT));
        let mut api_tasks = Tasks::default();
        api_tasks.spawn("store", until_ended(store.ended(), api_tasks.shutdown()));
        let keys = keep_token_keys(Arc::clone(&api), layout.tls(), api_tasks.shutdown());
        api_tasks.spawn("token keys", keys);
        api.serve(listener, certificates.tls().acceptor(), &mut api_tasks);
        api.bootstrap().await.context("failed to make the first objects of the cluster")?;
        api.keep(&mut api_tasks);
        let admin_due = certificates.hand_out()?;
        let kubelet_tls = certificates.kubelet_tls().acceptor();
        let kept = Arc::clone(&certificates).keep(admin_due, api_tasks.shutdown());
        api_tasks.spawn("certificates", kept);
        api_tasks.spawn("clock", follow_clock(clock.clone(), api_tasks.shutdown()));
        let loop_tasks = Tasks::default();
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
                    Caller::ControllerManager => {
                        Identity::new("system:kube-controller-manager", &[])
                    }
                    Caller::ServiceAccount(name) => Identity::service_account("kube-system", name),
                };
                Client::new(api.local(identity), USER_AGENT)
            };
            let settings = controllers::Config {
                clock: clock.clone(),
                kinds: stored_kinds().map(|kind| KindEntry::of(&kind.facts)).collect(),
                node_ranges: node_ranges(&config.cluster_cidrs)?,
                service_cidrs: config.service_cidrs.clone(),
                root_ca: Arc::from(certificates.server_ca()),
                signers: certificates.signers(),
                load_balancer: config.has(Component::ServiceLb).then(|| load_balancer(config)),
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
        Client::new(self.api.local(identity), USER_AGENT)
    }

    /// What the provisioner of local volumes works with. The controllers' caches serve it as well.
    pub(super) fn provisioner_parts(&self, tasks: &mut Tasks) -> provision::Parts {
        let client = self.client(Identity::service_account("kube-system", provision::ACCOUNT));
        let everything = Selection::default;
        match self.caches.clone() {
            Some(caches) => provision::Parts {
                client,
                claims: caches.persistent_volume_claims,
                volumes: caches.persistent_volumes,
                classes: caches.storage_classes,
                nodes: caches.nodes,
            },
            None => provision::Parts {
                claims: Cache::start(client.clone(), everything(), tasks),
                volumes: Cache::start(client.clone(), everything(), tasks),
                classes: Cache::start(client.clone(), everything(), tasks),
                nodes: Cache::start(client.clone(), everything(), tasks),
                client,
            },
        }
    }

    /// The Services of the cluster: the controllers' copy, or one that `client` reads.
    pub(super) fn services(&self, client: &Client, tasks: &mut Tasks) -> Arc<Cache<Service>> {
        self.shared(client, tasks, |caches| &caches.services)
    }

    /// What the cluster's DNS looks at: the controllers' copies, or what `client` reads.
    pub(super) fn dns_sources(&self, client: &Client, tasks: &mut Tasks) -> dns::Sources {
        let (namespace, name) = dns::CUSTOM;
        let custom = Selection {
            namespace: Some(namespace.to_owned()),
            ..Selection::fields(format!("metadata.name={name}"))
        };
        dns::Sources {
            services: self.services(client, tasks),
            endpoint_slices: self.shared(client, tasks, |caches| &caches.endpoint_slices),
            namespaces: self.shared(client, tasks, |caches| &caches.namespaces),
            nodes: self.shared(client, tasks, |caches| &caches.nodes),
            custom: Cache::start_unawaited(client.clone(), custom, tasks),
        }
    }

    fn shared<K: ApiObject>(
        &self,
        client: &Client,
        tasks: &mut Tasks,
        cache: impl FnOnce(&Caches) -> &Arc<Cache<K>>,
    ) -> Arc<Cache<K>> {
        match &self.caches {
            Some(caches) => Arc::clone(cache(caches)),
            None => Cache::start_unawaited(client.clone(), Selection::default(), tasks),
        }
    }

    /// What the proxy of a node works with. The controllers' caches serve it as well.
    pub(super) fn proxy_parts(
        &self,
        config: &ServerConfig,
        clock: &Clock,
        tasks: &mut Tasks,
    ) -> proxy::Parts {
        let client = self.client(Identity::new(proxy::IDENTITY, &[]));
        let host = config.node_name.clone();
        let reporter = Reporter { component: proxy::COMPONENT.to_owned(), host };
        let recorder = EventRecorder::start(client.clone(), reporter, clock.clone(), tasks);
        let services = self.services(&client, tasks);
        match self.caches.clone() {
            Some(caches) => proxy::Parts {
                services,
                endpoint_slices: caches.endpoint_slices,
                nodes: caches.nodes,
                recorder,
            },
            None => {
                let own = Selection::fields(format!("metadata.name={}", config.node_name));
                let everything = Selection::default();
                proxy::Parts {
                    services,
                    endpoint_slices: Cache::start_unawaited(client.clone(), everything, tasks),
                    nodes: Cache::start_unawaited(client, own, tasks),
                    recorder,
                }
            }
        }
    }

    /// What the kubelet's port shows and believes.
    pub(super) fn kubelet_tls(&self) -> Acceptor {
        self.kubelet_tls.clone()
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
async fn follow_clock(clock: Clock, shutdown: CancellationToken) {
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

/// No Service takes the ports by which the cluster itself is reached.
fn load_balancer(config: &ServerConfig) -> LoadBalancer {
    let own = [config.https_port, config.kubelet_port];
    let reserved = own.map(|port| HostPort { protocol: "TCP".to_owned(), port });
    LoadBalancer { reserved: reserved.into() }
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
    TcpListener::bind(address).await.with_context(|| {
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
    let opened = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let config = sqlite::Config { path: Some(path), history: sqlite::History::DEFAULT };
        Ok::<_, anyhow::Error>(Sqlite::open(config)?)
    });
    Ok(Arc::new(opened.await??))
}
