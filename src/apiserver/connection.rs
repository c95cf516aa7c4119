//! One connection: who is at its other end, what is asked on it, and when it ends.

use super::activity::{Activity, End};
use super::authn::{Peer, authenticate};
use super::authz::authorize;
use super::bodies::{Full, Room};
use super::config::{
    CLOSE_TIMEOUT, HANDSHAKE_TIMEOUT, PEER_SILENCE_MAX, REQUEST_BODY_BYTES_MAX,
    REQUEST_BODY_TIMEOUT, REQUEST_HEAD_BYTES_MAX, REQUEST_HEAD_TIMEOUT, REQUEST_HEADERS_MAX,
    REQUEST_TIMEOUT, STREAMS_PER_CONNECTION_MAX, WAIT_PART,
};
use super::encoding::status_response;
use super::fairness::Comer;
use super::identity::Identity;
use super::impersonation::impersonate;
use super::inflight::{Place, too_many_requests};
use super::node_names::Machine;
use super::sending::Sending;
use super::server::{Asked, Server, body_too_large};
use super::tally::{self, Answered};
use crate::api::status::{Reason, Status};
use crate::pki::{Acceptor, ClientProof, Untimely};
use crate::stdx::http::{Response, Upgrade};
use crate::stdx::{chain, monotonic};
use crate::sys::tcp;
use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tracing::debug;

/// What a request is called in whoever's log.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// A longer one that a client gives is not repeated.
const AUDIT_ID_BYTES_MAX: usize = 256;

/// What the requests of one connection share.
#[derive(Debug)]
struct Connection {
    server: Arc<Server>,
    peer: Peer,
    /// The machine at the other end, where it is a node's.
    machine: Option<Machine>,
    activity: Arc<Activity>,
    /// What the connection becomes when the answer that is on its way is out.
    upgraded: Mutex<Option<Upgraded>>,
}

/// A connection that has been asked for something else than HTTP, and will be it.
#[derive(Debug)]
struct Upgraded {
    connection: OnUpgrade,
    upgrade: Upgrade,
    _place: Option<Place>,
    _counted: Option<tally::Underway>,
}

impl Upgraded {
    /// Has the connection until what is said on it is over, or the server closes.
    async fn run(self, server: &Server) {
        let conversation = async {
            match self.connection.await {
                Ok(connection) => self.upgrade.run(Box::new(TokioIo::new(connection))).await,
                Err(error) => debug!(error = chain(&error), "a connection was not upgraded"),
            }
        };
        server.closing.run_until_cancelled(conversation).await;
    }
}

/// Serves a connection until it ends by itself, is idle for too long, or the server closes.
///
/// `strangers` are the places of those who show no certificate: they must not take all.
pub(super) async fn serve(
    server: Arc<Server>,
    stream: TcpStream,
    acceptor: Acceptor,
    strangers: Arc<Semaphore>,
) {
    if let Err(error) = tcp::prepare(&stream, PEER_SILENCE_MAX) {
        debug!(error = chain(&error), "socket options could not be set");
    }
    let (stream, proof) = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept_client(stream)).await {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(error)) => {
            server.tally.tls_failed();
            debug!(error = chain(&error), "a TLS handshake failed");
            return;
        }
        Err(_elapsed) => {
            server.tally.tls_failed();
            return;
        }
    };
    let machine = match &proof {
        ClientProof::Certificate(certificate) => Machine::of(certificate),
        ClientProof::Nothing | ClientProof::Refused(_) => None,
    };
    let peer = peer(proof);
    let place = match peer {
        Peer::Certified(_) => None,
        Peer::Unknown | Peer::Refused(_) => match strangers.try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_full) => {
                debug!("a connection without a certificate was closed: there are too many");
                return;
            }
        },
    };
    let (activity, upgraded) = (Activity::new(), Mutex::default());
    let connection = Arc::new(Connection { server, peer, machine, activity, upgraded });
    connection.drive(stream).await;
    drop(place);
}

impl Connection {
    async fn drive(self: Arc<Self>, stream: TlsStream<TcpStream>) {
        let mut name_lost = pin!(self.name_lost());
        let service = service_fn(|request| {
            let connection = Arc::clone(&self);
            // Boxed: it is moved from task to task, and is large.
            Box::pin(async move { Ok::<_, Infallible>(connection.handle(request).await) })
        });
        let builder = builder();
        let mut http = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = http.as_mut() => ended,
            end = self.activity.end() => {
                if end == End::Overdue {
                    debug!("a connection was cut off: an answer could not be sent in time");
                    return;
                }
                http.as_mut().graceful_shutdown();
                match timeout(CLOSE_TIMEOUT, http).await {
                    Ok(ended) => ended,
                    Err(_elapsed) => return,
                }
            }
            () = name_lost.as_mut() => {
                debug!("a connection was cut off: another machine has the name of its node");
                return;
            }
            // Whoever closes the server bounds this.
            () = self.server.closing.cancelled() => {
                http.as_mut().graceful_shutdown();
                http.await
            }
        };
        if let Err(error) = ended {
            debug!(error = chain(&*error), "a connection broke");
        }
        let upgraded = self.upgraded.lock().expect("no panics under this lock").take();
        if let Some(upgraded) = upgraded {
            tokio::select! {
                () = upgraded.run(&self.server) => {}
                () = name_lost => debug!("a tunnel was cut off: another machine has the name"),
            }
        }
    }

    /// Waits until what is open, watches and tunnels, is no longer for whoever is at the other end.
    async fn name_lost(&self) {
        match &self.machine {
            Some(machine) => self.server.node_names.lost(machine).await,
            None => std::future::pending().await,
        }
    }

    async fn handle(&self, mut request: http::Request<Incoming>) -> http::Response<Sending> {
        let began = monotonic();
        let connection = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        let asked = Asked::of(head);
        // Upstream bounds the same requests, and by as much (apiserver pkg/server/filters/timeout.go).
        let deadline = (!asked.info.is_long_running()).then(|| began + REQUEST_TIMEOUT);
        let underway = self.activity.begin(deadline);
        let answered = match deadline {
            None => self.answer(&asked, body).await,
            Some(_) => self.answer_in_time(&asked, body).await,
        };
        let Served { mut response, mut place, waited, is_cut } =
            answered.unwrap_or_else(|status| Served::refused(&status, &asked));
        let answered = Answered { asked: &asked, began, waited, is_cut };
        let mut counted = self.server.count(answered, &response);
        if !response.headers().contains_key(CACHE_CONTROL) {
            let no_cache = HeaderValue::from_static("no-cache, private");
            response.headers_mut().insert(CACHE_CONTROL, no_cache);
        }
        response.headers_mut().insert(AUDIT_ID, self.audit_id(&asked));
        if let Some(upgrade) = Upgrade::take(&mut response) {
            let upgraded =
                Upgraded { connection, upgrade, _place: place.take(), _counted: counted.take() };
            *self.upgraded.lock().expect("no panics under this lock") = Some(upgraded);
        }
        response.map(|body| Sending::new(body, underway, place, counted))
    }

    /// By what the client calls the request, or nobody yet (upstream `withAuditInit`, apiserver
    /// pkg/endpoints/filters/audit_init.go, v1.35).
    fn audit_id(&self, asked: &Asked) -> HeaderValue {
        let given = asked.headers.get(AUDIT_ID).filter(|id| !id.is_empty());
        let short = given.filter(|id| id.len() <= AUDIT_ID_BYTES_MAX);
        short.cloned().unwrap_or_else(|| {
            let own = self.server.config.entropy.uuid().to_string();
            HeaderValue::from_str(&own).expect("hexadecimal digits and dashes are visible")
        })
    }

    /// Answers within the time that the client gives, and never later than others are answered.
    async fn answer_in_time(&self, asked: &Asked, body: Incoming) -> Result<Served, Status> {
        asked.patience()?;
        let answered = timeout(bounded_patience(asked), self.answer(asked, body)).await;
        answered.unwrap_or_else(|_elapsed| {
            Ok(Served { is_cut: true, ..Served::refused(&took_too_long(), asked) })
        })
    }

    /// The body is read before a place is taken: a slow sender takes none from others. A large one
    /// has to be its turn besides.
    async fn answer(&self, asked: &Asked, body: Incoming) -> Result<Served, Status> {
        let Server { tokens, tally, .. } = &*self.server;
        let began = monotonic();
        let identity = authenticate(tokens, &self.peer, &asked.headers).await;
        tally.authentication.note(began, &identity);
        let identity = identity?;
        if let Some(machine) = &self.machine {
            self.server.node_names.check(machine)?;
        }
        let identity = impersonate(&self.server, identity, &asked.headers).await?;
        let began = monotonic();
        let allowed = authorize(&self.server, &identity, asked).await;
        tally.authorization.note(began, &allowed);
        allowed?;
        // What only reads has no use for a body, and does not wait for one.
        let mut room = self.server.bodies.room(&identity);
        let body = match asked.info.is_mutating() {
            true => read_body(body, &mut room).await?,
            false => Bytes::new(),
        };
        let patience = bounded_patience(asked) / WAIT_PART;
        let comer =
            Comer { identity: &identity, request: &asked.info, bytes: body.len(), patience };
        let mut turn = self.server.in_flight.enter(comer).await;
        let called = match turn.place.take() {
            Some(place) => room.turn(patience).await.map(|()| place),
            None => Err(Full),
        };
        let mut served = match called {
            Err(Full) => Served { is_cut: true, ..Served::refused(&too_many_requests(), asked) },
            Ok(mut place) => {
                let response = self.server.answer(asked, &identity, body).await;
                if asked.info.is_long_running() {
                    place.leave_seat();
                }
                Served { response, place: Some(place), waited: Duration::ZERO, is_cut: false }
            }
        };
        turn.tell(served.response.headers_mut());
        served.waited = turn.waited();
        Ok(served)
    }
}

/// An answer, and what is known of it besides.
#[derive(Debug)]
struct Served {
    response: Response,
    place: Option<Place>,
    /// How long the request has waited for others.
    waited: Duration,
    /// Whether the server cut it short to help itself.
    is_cut: bool,
}

impl Served {
    fn refused(status: &Status, asked: &Asked) -> Self {
        let response = status_response(status, &asked.headers);
        Self { response, place: None, waited: Duration::ZERO, is_cut: false }
    }
}

/// How long a request may take.
fn bounded_patience(asked: &Asked) -> Duration {
    let wanted = asked.patience().ok().flatten();
    wanted.unwrap_or(REQUEST_TIMEOUT).min(REQUEST_TIMEOUT)
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEAD_TIMEOUT)
        .max_buf_size(REQUEST_HEAD_BYTES_MAX)
        .max_headers(REQUEST_HEADERS_MAX);
    let head_bytes = u32::try_from(REQUEST_HEAD_BYTES_MAX).expect("a small constant");
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        // The kernel behind a connection may live while the program does not.
        .keep_alive_interval(PEER_SILENCE_MAX / 2)
        .keep_alive_timeout(PEER_SILENCE_MAX / 2)
        .max_header_list_size(head_bytes);
    builder
}

/// Who is at the other end, as far as a certificate says.
fn peer(proof: ClientProof) -> Peer {
    match proof {
        ClientProof::Nothing => Peer::Unknown,
        ClientProof::Refused(error) => Peer::Refused(match Untimely::within(&error) {
            Some(untimely) => untimely.to_string(),
            None => chain(&error),
        }),
        ClientProof::Certificate(certificate) => match Identity::of_certificate(&certificate) {
            Ok(identity) => Peer::Certified(Arc::new(identity)),
            Err(error) => Peer::Refused(chain(&error)),
        },
    }
}

fn took_too_long() -> Status {
    Status::new(Reason::Timeout, "request did not complete within the allowed duration")
}

async fn read_body(body: Incoming, room: &mut Room<'_>) -> Result<Bytes, Status> {
    timeout(REQUEST_BODY_TIMEOUT, collect(body, room)).await.unwrap_or_else(|_elapsed| {
        let message = "the body of the request did not arrive in time";
        let code = http::StatusCode::REQUEST_TIMEOUT.as_u16();
        Err(Status { code, ..Status::new(Reason::Timeout, message) })
    })
}

async fn collect(body: Incoming, room: &mut Room<'_>) -> Result<Bytes, Status> {
    let mut body = Limited::new(body, REQUEST_BODY_BYTES_MAX);
    let (mut first, mut whole) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.is::<LengthLimitError>() {
            true => body_too_large(),
            false => Status::bad_request(format!("the body of the request broke off: {error}")),
        })?;
        let Ok(data) = frame.into_data() else { continue };
        let here = first.len().max(whole.len()) + data.len();
        room.hold(here).map_err(|Full| too_many_requests())?;
        // Most come in one piece, which is not copied.
        if first.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}
