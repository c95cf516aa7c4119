//! The API server: the pipeline that every request takes, whoever asks.
//!
//! Authenticate and authorize (the transports do: [`connection`](super::connection) by certificate,
//! [`local`](super::local) by construction), then here: route, and in the verbs decode, admit, default, validate,
//! store. Architecture invariant: in-process callers skip TCP and TLS, never policy.

use super::admission::{NodeTopology, Remembered, Turns};
use super::authz::Authorizer;
use super::bodies::Bodies;
use super::config::{Config, REQUEST_BODY_BYTES_MAX};
use super::definitions::Definitions;
use super::discovery::Documents;
use super::encoding::{compress, status_response};
use super::follow::{Follower, Seen};
use super::guarded::{self, GuardedStore, Memory};
use super::identity::Identity;
use super::inflight::InFlight;
use super::local::LocalService;
use super::node_names::NodeNames;
use super::query::Query;
use super::request::RequestInfo;
use super::tally::{self, Answered, Tally, Underway};
use super::tokens::{KeyError, Tokens};
use super::webhook::{Hooks, Network};
use super::{discovery, health, index, join, metrics, openapi, verbs, websocket};
use crate::api::duration;
use crate::api::status::{Reason, Status};
use crate::pki::TokenKey;
use crate::registry::{self, KindRef, Rows};
use crate::stdx::Wanted;
use crate::stdx::http::{ByteStream, HttpService, Request, Response};
use crate::storage::Store;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Reaches the kubelets of nodes, and pods that are behind them.
pub trait NodeService: Send + Sync + fmt::Debug {
    /// Asks the kubelet of `node`.
    ///
    /// # Errors
    /// Where that kubelet cannot be reached; what it says itself is a response.
    fn call(&self, node: &str, request: Request) -> BoxFuture<'static, io::Result<Response>>;

    /// Connects to a pod of `node` through the node. `None`: it is reached over the network.
    fn connect(
        &self,
        _node: &str,
        _pod: SocketAddr,
    ) -> Option<BoxFuture<'static, io::Result<ByteStream>>> {
        None
    }

    /// The answer to a node that opens a connection by which it can be asked; what becomes of the
    /// connection is in it. `None`: nobody here asks that way.
    fn take_tunnel(&self, _node: &str) -> Option<Response> {
        None
    }
}

/// One API server. The only user of the store.
#[derive(Debug)]
pub struct Server {
    pub(super) config: Config,
    pub(super) store: Arc<dyn Store>,
    definitions: Arc<Definitions>,
    pub(super) nodes: Arc<dyn NodeService>,
    pub(super) in_flight: InFlight,
    pub(super) bodies: Bodies,
    pub(super) pod_client: verbs::PodClient,
    pub(super) hooks: Hooks,
    pub(super) documents: Documents,
    pub(super) openapi: openapi::Index,
    pub(super) tokens: Tokens,
    pub(super) authorizer: Authorizer,
    pub(super) topology: NodeTopology,
    pub(super) node_names: NodeNames,
    pub(super) remembered: Arc<Remembered>,
    pub(super) quota_turns: Turns,
    pub(super) tally: Tally,
    /// Below which keys the server follows its own objects, and whether it has begun to.
    pub(super) informers: Vec<(&'static str, Seen)>,
    /// What keeps those above knowing, until it runs.
    waiting: Mutex<Vec<Follower>>,
    /// Keep what the server itself knows of its objects. They end with the server.
    followers: Mutex<JoinSet<()>>,
    /// Cancelled when watches are to end because the server stops.
    pub(super) closing: CancellationToken,
    /// Whether the objects of the first start are there, but for roles.
    pub(super) fixed: AtomicBool,
    /// Whether all of them are.
    pub(super) bootstrapped: AtomicBool,
}

/// What is asked, before the body is read.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) info: RequestInfo,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    /// Through which revision somebody in this process waits for a watch.
    pub(super) wanted: Option<Arc<Wanted>>,
}

impl Asked {
    pub(super) fn of(mut head: http::request::Parts) -> Self {
        websocket::move_token(&mut head.headers);
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let info = RequestInfo::parse(&head.method, head.uri.path(), &query);
        let wanted = head.extensions.remove();
        Self { method: head.method, info, query, headers: head.headers, wanted }
    }

    /// How long the client says that it will wait (upstream `parseTimeout`, apiserver
    /// pkg/endpoints/filters/request_deadline.go, v1.35).
    pub(super) fn patience(&self) -> Result<Option<Duration>, Status> {
        let Some(text) = self.query.text("timeout") else { return Ok(None) };
        let wanted = duration::parse(text).map_err(|error| {
            let why = "invalid timeout specified in the request URL";
            Status::bad_request(format!("{why} - {error}"))
        })?;
        Ok(Duration::try_from(wanted).ok().filter(|wanted| !wanted.is_zero()))
    }
}

impl Server {
    #[must_use]
    pub fn new(config: Config, store: Arc<dyn Store>, nodes: Arc<dyn NodeService>) -> Arc<Self> {
        let (authorizer, mut waiting) = Authorizer::new();
        let (topology, of_nodes) = NodeTopology::new();
        let (node_names, of_names) = NodeNames::new();
        waiting.extend([of_nodes, of_names]);
        let shared = Arc::clone(&store);
        let tokens = Tokens::new(config.tokens.clone(), shared, config.clock.clone());
        let remembered = Arc::new(Remembered::default());
        let of_facts = Arc::clone(&remembered) as Arc<dyn Memory>;
        let definitions = Arc::new(Definitions::default());
        let of_kinds = Arc::clone(&definitions) as Arc<dyn Memory>;
        let memories = vec![tokens.memory(), of_facts, of_kinds];
        waiting.extend(memories.iter().flat_map(guarded::followers));
        let network = Network {
            store: Arc::clone(&store),
            nodes: Arc::clone(&nodes),
            entropy: config.entropy.clone(),
        };
        let in_flight = InFlight::new();
        waiting.extend(in_flight.fairness().followers());
        let tally = Tally::default();
        let informers = waiting.iter().map(|follower| (follower.prefix(), follower.seen()));
        let informers = informers.collect();
        Arc::new(Self {
            config,
            store: Arc::new(GuardedStore::new(store, memories, Arc::clone(&tally.store))),
            definitions,
            nodes,
            in_flight,
            bodies: Bodies::new(),
            pod_client: verbs::PodClient::default(),
            hooks: Hooks::new(network),
            documents: Documents::default(),
            openapi: openapi::Index::default(),
            tokens,
            authorizer,
            topology,
            node_names,
            remembered,
            quota_turns: Turns::default(),
            tally,
            informers,
            waiting: Mutex::new(waiting),
            followers: Mutex::default(),
            closing: CancellationToken::new(),
            fixed: AtomicBool::new(false),
            bootstrapped: AtomicBool::new(false),
        })
    }

    /// The way in for callers in this process: the same pipeline, without TCP and TLS.
    #[must_use]
    pub fn local(self: &Arc<Self>, identity: Identity) -> Arc<dyn HttpService> {
        Arc::new(LocalService::new(Arc::clone(self), Arc::new(identity)))
    }

    /// The keys by which tokens are believed from now on; they are signed with the first. Whoever
    /// asks for a token before waits.
    ///
    /// # Errors
    /// Where there is none, or tokens cannot be signed with one of them: those before stay.
    pub fn use_token_keys(&self, keys: &[TokenKey]) -> Result<(), KeyError> {
        self.tokens.use_keys(keys)
    }

    /// Begins to follow what the server has to know of its own objects.
    pub(super) fn begin_to_follow(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().expect("no panics under this lock"));
        let mut running = self.followers.lock().expect("no panics under this lock");
        for follower in waiting {
            running.spawn(follower.run(Arc::clone(&self.store)));
        }
    }

    /// Whether everything the first start makes is there.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.bootstrapped.load(Ordering::Acquire)
    }

    /// Whether the namespaces and the like that the first start makes are there.
    pub(super) fn has_fixtures(&self) -> bool {
        self.fixed.load(Ordering::Acquire)
    }

    /// Counts an answer; see [`Tally::answered`].
    pub(super) fn count(&self, request: Answered<'_>, response: &Response) -> Option<Underway> {
        self.tally.answered(&self.definitions.latest(), request, response)
    }

    /// Every kind that is served now.
    pub(super) async fn rows(&self) -> Result<Arc<Rows>, Status> {
        self.definitions.rows(&*self.store).await
    }

    /// The kind that is served at `group`/`version`/`plural`.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) async fn kind(
        &self,
        group: &str,
        version: &str,
        plural: &str,
    ) -> Result<KindRef, Status> {
        if let Some(kind) = registry::find(group, version, plural) {
            return Ok(kind.into());
        }
        self.rows().await?.find(group, version, plural).ok_or_else(no_such_path)
    }

    /// The stages after authorization. Whatever goes wrong is told as a `Status`.
    pub(super) async fn answer(
        self: &Arc<Self>,
        asked: &Asked,
        identity: &Identity,
        body: Bytes,
    ) -> Response {
        if body.len() > REQUEST_BODY_BYTES_MAX {
            return status_response(&body_too_large(), &asked.headers);
        }
        let answered = match &asked.info.resource {
            Some(path) if path.group == metrics::GROUP => metrics::answer(self, asked, path).await,
            Some(path) => verbs::answer(self, asked, identity, path, body).await,
            None if asked.info.path == join::TUNNEL_PATH => join::connect(self, asked, identity),
            None => self.answer_document(asked).await,
        };
        let response = answered.unwrap_or_else(|status| status_response(&status, &asked.headers));
        if asked.info.is_long_running() { response } else { compress(response, &asked.headers) }
    }

    async fn answer_document(&self, asked: &Asked) -> Result<Response, Status> {
        if !matches!(asked.method, Method::GET | Method::HEAD) {
            return Err(not_allowed());
        }
        let path = asked.info.path.trim_end_matches('/');
        if let Some(response) = health::answer(self, path, &asked.query) {
            return Ok(response);
        }
        if let Some(answered) = tally::answer(self, path).await {
            return answered;
        }
        if let Some(response) = join::authorities(self, path) {
            return Ok(response);
        }
        if let Some(response) = self.tokens.document(&self.config, path).await {
            return Ok(response);
        }
        let rows = self.rows().await?;
        if let Some(response) = index::answer(&rows, path) {
            return Ok(response);
        }
        let (served, headers) = ((&self.documents, &rows), &asked.headers);
        if let Some(response) = discovery::answer(served, &self.config, path, headers) {
            return Ok(response);
        }
        openapi::answer(self, rows, path, asked).await?.ok_or_else(no_such_path)
    }
}

pub(super) fn body_too_large() -> Status {
    let message = format!("Request entity too large: limit is {REQUEST_BODY_BYTES_MAX}");
    Status::new(Reason::RequestEntityTooLarge, message)
}

/// A path or resource that is not served.
pub(super) fn no_such_path() -> Status {
    Status::new(Reason::NotFound, "the server could not find the requested resource")
}

/// A method that the path does not take.
pub(super) fn not_allowed() -> Status {
    Status::new(
        Reason::MethodNotAllowed,
        "the server does not allow this method on the requested resource",
    )
}
