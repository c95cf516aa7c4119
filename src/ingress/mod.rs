//! The way in over HTTP: a reverse proxy on every node, which does what Ingresses ask for.
//!
//! Start at [`start`]; a request's way is [`proxy`], [`router`], [`forward`], [`upstream`].
//! Architecture invariants: what routes knows a [`model`] and no Ingress, so that another front end can
//! make one too; requests go to endpoints and never to a Service's address; one task serves one
//! client's connection, the connection to the endpoint included, so that whoever goes takes with it
//! what was under way for it.

mod access_log;
mod annotations;
mod certificates;
mod connection;
mod crowd;
mod endpoints;
mod exposition;
mod forward;
mod headers;
mod keeper;
mod limits;
mod listener;
mod model;
mod outgoing;
mod plan;
mod ports;
mod proxy;
mod refusal;
mod router;
mod secrets;
mod tally;
mod target;
mod tunnel;
mod upstream;

use crate::client::{Cache, Client, EventRecorder, Reporter};
use crate::stdx::{Clock, Tasks};
use access_log::AccessLog;
use certificates::{BadTls, Certificates};
use crowd::Crowd;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress as Ingresses, IngressClass};
use keeper::{Changes, Keeper, Sources};
use model::Model;
use ports::{Port, Told};
use proxy::Proxy;
use router::Router;
use secrets::Secrets;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use tally::Tally;
use tokio::sync::watch;
use upstream::Connector;

/// The service account, in `kube-system`.
pub const ACCOUNT: &str = "ingress-controller";

/// Who reports, in events.
const REPORTER: &str = "ingress";

/// What the proxy of a node is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node that it is on.
    pub node: String,
    pub bind_address: IpAddr,
    /// `None`: nothing is served without TLS, or with it.
    pub http_port: Option<u16>,
    pub https_port: Option<u16>,
    /// Proxies in these ranges are believed what they say of clients.
    pub trusted_proxies: Vec<IpNet>,
    /// `-` is the standard output.
    pub access_log: Option<PathBuf>,
    pub connections_max: usize,
    pub clock: Clock,
}

impl Config {
    /// More connections than this take more memory than a node should give them.
    pub const CONNECTIONS_MAX: usize = limits::CONNECTIONS_MAX;
}

/// What it works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Sees the Secrets that Ingresses name, and tells what is wrong with this node.
    pub client: Client,
    pub ingresses: Arc<Cache<Ingresses>>,
    pub classes: Arc<Cache<IngressClass>>,
    pub services: Arc<Cache<Service>>,
    pub endpoint_slices: Arc<Cache<EndpointSlice>>,
}

/// Why the proxy cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Tls(#[from] BadTls),
    #[error("the log of requests cannot be opened at {}", path.display())]
    AccessLog {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A proxy that runs.
#[derive(Clone, Debug)]
pub struct Ingress(Arc<Proxy>);

impl Ingress {
    /// What has become of requests, in the text format of Prometheus.
    #[must_use]
    pub fn metrics(&self) -> String {
        exposition::render(&self.0.tally.counts(), self.0.crowd.counts())
    }

    /// Where clients come to without TLS, or with it: waits until they can. A port 0 is one that the
    /// kernel chooses.
    pub async fn address(&self, with_tls: bool) -> SocketAddr {
        let mut bound = self.0.bound.subscribe();
        let found = bound.wait_for(|bound| bound.contains_key(&with_tls)).await;
        found.expect("the sender is in self")[&with_tls]
    }
}

/// Starts the proxy of a node. It lets clients in when it knows what is served, and works until its
/// tasks are stopped.
///
/// # Errors
/// Where there is no certificate to be made, or its log cannot be opened.
pub fn start(config: Config, parts: Parts, tasks: &mut Tasks) -> Result<Ingress, StartError> {
    let log = config.access_log.map(|path| {
        let opened = AccessLog::open(&path, tasks);
        opened.map_err(|source| StartError::AccessLog { path, source })
    });
    let proxy = Arc::new(Proxy {
        router: RwLock::new(Arc::new(Router::new(&Model::default(), |_| {
            unreachable!("there is no rule in an empty model")
        }))),
        connector: Connector::new(tasks.shutdown()),
        crowd: Crowd::new(config.connections_max),
        tally: Tally::new(log.transpose()?),
        clock: config.clock.clone(),
        trusted: config.trusted_proxies,
        https_port: config.https_port,
        bound: watch::Sender::default(),
        closing: tasks.shutdown(),
    });
    let certificates = Certificates::new()?;
    let tls = certificates.acceptor()?;
    let https = config.https_port.map(|number| (number, "ingress-https-port", Some(tls)));
    let http = config.http_port.map(|number| (number, "ingress-http-port", None));
    let ports: Vec<Port> = http
        .into_iter()
        .chain(https)
        .map(|(number, flag, tls)| Port { number, flag, tls })
        .collect();
    let client = parts.client;
    let reporter = Reporter { component: REPORTER.to_owned(), host: config.node.clone() };
    let events = EventRecorder::start(client.clone(), reporter, config.clock, tasks);
    let told = Told { events, node: node(&config.node) };
    let changes: Arc<Changes> = Arc::default();
    let changed = Arc::clone(&changes);
    let secrets = Secrets::new(client, tasks.shutdown(), move || changed.certificates());
    let sources = Sources {
        ingresses: parts.ingresses,
        classes: parts.classes,
        services: parts.services,
        endpoint_slices: parts.endpoint_slices,
    };
    let mut keeper = Keeper::new(sources, secrets, changes, Arc::clone(&proxy), certificates);
    let (shutdown, served) = (tasks.shutdown(), Arc::clone(&proxy));
    tasks.spawn("ingress", async move {
        if shutdown.run_until_cancelled(keeper.begin()).await.is_none() {
            return;
        }
        let sweep = keeper.sweep();
        let keeping = async { tokio::join!(keeper.follow(), sweep) };
        let serving = ports::serve(served, config.bind_address, ports, told);
        tokio::join!(shutdown.run_until_cancelled(keeping), serving);
    });
    Ok(Ingress(proxy))
}

fn node(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        // As the kubelet names its node in events.
        uid: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}
