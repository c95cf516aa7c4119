//! Answers questions: from what is known here, from what others said before, or by asking them.
//!
//! Start at [`Resolver::respond`]. Architecture invariants: what is known here is answered at once,
//! without a task and without waiting; the same question is asked of others once at a time, however
//! many wait for the answer.

use super::cache::{self, Cache, Key, Known, Refresh};
use super::cluster::{Question, Zone};
use super::guests::{Guests, Seat};
use super::index::Index;
use super::message::{self, AskFlags, Read, Reply, Request, Transport};
use super::metrics::{Metrics, Source};
use super::routes::{Ask, Block, Decision, Routes, World, decide};
use super::upstream::Upstream;
use crate::stdx::{Entropy, monotonic};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use hickory_proto::op::{Query, ResponseCode};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// So many requests wait for other servers at once; further ones are answered from what was said
/// before, however old, or refused (coredns' `max_concurrent`, as in kubeadm's Corefile).
pub(super) const WAITING_MAX: usize = 1_000;

/// Nobody has more of them than this.
pub(super) const WAITING_OF_ONE_MAX: usize = 500;

/// An answer of other servers that many may wait for.
type Flight = Shared<BoxFuture<'static, Reply>>;

/// See the module.
pub(super) struct Resolver {
    zone: Zone,
    index: RwLock<Index>,
    routes: RwLock<Arc<Routes>>,
    cache: Mutex<Cache>,
    flights: Mutex<HashMap<Key, Flight>>,
    upstream: Upstream,
    waiting: Arc<Guests>,
    turn: AtomicUsize,
    pub(super) metrics: Metrics,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// The answer to a request.
pub(super) enum Response {
    Now(Vec<u8>),
    Later(BoxFuture<'static, Vec<u8>>),
}

impl Resolver {
    /// Knows nothing yet, and asks nobody.
    pub(super) fn new(zone: Zone, entropy: Entropy, shutdown: CancellationToken) -> Self {
        Self {
            zone,
            index: RwLock::new(Index::new()),
            routes: RwLock::new(Arc::new(Routes::new(Block::default(), Vec::new()))),
            cache: Mutex::default(),
            flights: Mutex::default(),
            upstream: Upstream::new(entropy),
            waiting: Guests::new(WAITING_MAX, WAITING_OF_ONE_MAX),
            turn: AtomicUsize::new(0),
            metrics: Metrics::default(),
            tasks: TaskTracker::new(),
            shutdown,
        }
    }

    /// Changes what is known of the cluster.
    pub(super) fn change(&self, change: impl FnOnce(&mut Index)) {
        change(&mut self.index.write().expect("no panics under this lock"));
    }

    /// Other servers, overrides or zones from now on. What was heard of others is forgotten.
    pub(super) fn set_routes(&self, routes: Routes) {
        let mut current = self.routes.write().expect("no panics under this lock");
        if **current == routes {
            return;
        }
        *current = Arc::new(routes);
        drop(current);
        self.cache.lock().expect("no panics under this lock").clear();
        self.upstream.forget();
    }

    pub(super) fn zone(&self) -> &Zone {
        &self.zone
    }

    /// How many answers of others are kept.
    pub(super) fn cached(&self) -> usize {
        self.cache.lock().expect("no panics under this lock").len()
    }

    /// `None` for what is not to be answered.
    pub(super) fn respond(
        self: &Arc<Self>,
        bytes: &[u8],
        transport: Transport,
        client: IpAddr,
    ) -> Option<Response> {
        let began = monotonic();
        let request = match message::read(bytes, transport) {
            Read::Ask(request) => request,
            Read::Refuse(refusal) => {
                self.metrics.malformed();
                return Some(Response::Now(refusal));
            }
            Read::Ignore => return None,
        };
        let kind = request.kind();
        if self.upstream.is_own_question(&request.text, kind) {
            return None;
        }
        let question = Question { name: request.query().name(), text: &request.text, kind };
        match self.decide(&question) {
            Decision::Reply(reply) => {
                Some(Response::Now(self.finish(&request, &reply, began, Source::Cluster)))
            }
            Decision::Ask(ask) => Some(self.ask(request, *ask, client, began)),
        }
    }

    fn decide(&self, question: &Question<'_>) -> Decision {
        let routes = Arc::clone(&self.routes.read().expect("no panics under this lock"));
        let index = self.index.read().expect("no panics under this lock");
        let world = World { index: &index, zone: &self.zone, routes: &routes };
        decide(world, question, self.turn.fetch_add(1, Ordering::Relaxed))
    }

    fn ask(
        self: &Arc<Self>,
        request: Box<Request>,
        ask: Ask,
        client: IpAddr,
        began: Instant,
    ) -> Response {
        let flags = AskFlags {
            dnssec_ok: request.dnssec_ok(),
            checking_disabled: request.checking_disabled(),
        };
        let key = cache::key(&ask.text, ask.kind, flags, &ask.forward.zone);
        let known = self.cache.lock().expect("no panics under this lock").get(&key, began);
        let stale = match known {
            Known::Fresh(reply, refresh) => {
                if refresh == Refresh::Now
                    && let Some(seat) = self.waiting.seat(client)
                {
                    drop(self.flight(key, &ask, Some(seat)));
                }
                let reply = complete(ask, reply);
                return Response::Now(self.finish(&request, &reply, began, Source::Cache));
            }
            Known::Stale(reply) => Some(reply),
            Known::Nothing => None,
        };
        let Some(seat) = self.waiting.seat(client) else {
            let reply = match stale {
                Some(stale) => complete(ask, stale),
                None => Reply::of(ResponseCode::Refused),
            };
            return Response::Now(self.finish(&request, &reply, began, Source::Cache));
        };
        let (flight, resolver) = (self.flight(key, &ask, None), Arc::clone(self));
        Response::Later(Box::pin(async move {
            let fetched = flight.await;
            drop(seat);
            let reply = match (fetched.code, stale) {
                (ResponseCode::ServFail, Some(stale)) => stale,
                _ => fetched,
            };
            let reply = complete(ask, reply);
            resolver.finish(&request, &reply, began, Source::Others)
        }))
    }

    /// The exchange that answers the question: the one that is under way, or a new one. It goes on
    /// to its end, whoever still waits. Where nobody does, `seat` is who it is counted for.
    fn flight(self: &Arc<Self>, key: Key, ask: &Ask, seat: Option<Seat>) -> Flight {
        let mut flights = self.flights.lock().expect("no panics under this lock");
        if let Some(flight) = flights.get(&key) {
            return flight.clone();
        }
        let (resolver, forward) = (Arc::clone(self), Arc::clone(&ask.forward));
        let (query, life) = (Query::query(ask.name.clone(), ask.kind), ask.cache.0);
        let own = key.clone();
        let flight = async move {
            let asked = resolver.upstream.ask(&forward, &query, own.flags).await;
            drop(seat);
            let reply = asked.unwrap_or_else(|| Reply::of(ResponseCode::ServFail));
            let now = monotonic();
            let mut cache = resolver.cache.lock().expect("no panics under this lock");
            cache.insert(own.clone(), &reply, life, now);
            drop(cache);
            resolver.flights.lock().expect("no panics under this lock").remove(&own);
            reply
        };
        let flight = flight.boxed().shared();
        flights.insert(key, flight.clone());
        let (driven, shutdown) = (flight.clone(), self.shutdown.clone());
        self.tasks.spawn(async move { shutdown.run_until_cancelled(driven).await.is_some() });
        flight
    }

    fn finish(&self, request: &Request, reply: &Reply, began: Instant, source: Source) -> Vec<u8> {
        let bytes = request.encode(reply);
        let took = monotonic().saturating_duration_since(began);
        self.metrics.answered(request.kind(), reply.code, source, took);
        bytes
    }

    /// Starts a task that ends with this resolver.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move { shutdown.run_until_cancelled(task).await.is_some() });
    }
}

/// Puts before an answer of others how its name was come by.
fn complete(ask: Ask, mut reply: Reply) -> Reply {
    let Ask { mut aliases, renamed, .. } = ask;
    aliases.append(&mut reply.answers);
    reply.answers = aliases;
    if let Some(renamed) = renamed {
        renamed.apply(&mut reply);
    }
    reply
}

impl fmt::Debug for Resolver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Resolver").field("zone", &self.zone.domain).finish_non_exhaustive()
    }
}
