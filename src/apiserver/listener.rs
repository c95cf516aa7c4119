//! HTTPS: connections, who is at their other end, and the limits that keep one client from taking
//! what belongs to all.

use super::config::{
    CONNECTIONS_MAX, DRAIN_TIMEOUT, HANDSHAKE_TIMEOUT, PEER_SILENCE_MAX, REQUEST_BODY_BYTES_MAX,
    REQUEST_BODY_TIMEOUT, REQUEST_HEAD_BYTES_MAX, REQUEST_HEAD_TIMEOUT, REQUEST_HEADERS_MAX,
    STREAMS_PER_CONNECTION_MAX,
};
use super::encoding::status_response;
use super::identity::Identity;
use super::server::{Server, body_too_large};
use crate::api::status::{Reason, Status};
use crate::stdx::http::Response;
use crate::stdx::{Tasks, chain};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, HeaderValue};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// After a failed accept (no file descriptors left) nothing is accepted for this long, so that the
/// failure does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Server {
    /// Answers on `listener` until the tasks are told to stop; then watches end at once, and other
    /// requests have [`DRAIN_TIMEOUT`] to finish.
    ///
    /// `tls` decides which client certificates are good; a client may also have none.
    pub fn serve(
        self: &Arc<Self>,
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        tasks: &mut Tasks,
    ) {
        let (server, shutdown) = (Arc::clone(self), tasks.shutdown());
        tasks.spawn("apiserver", accept(server, listener, TlsAcceptor::from(tls), shutdown));
    }
}

async fn accept(
    server: Arc<Server>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let next = async {
            let place = place.await.expect("this semaphore is never closed");
            (listener.accept().await, place)
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            (accepted, place) = next => match accepted {
                Ok((stream, _peer)) => {
                    let (server, acceptor) = (Arc::clone(&server), acceptor.clone());
                    let watcher = graceful.watcher();
                    connections.spawn(async move {
                        connection(server, stream, acceptor, watcher).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(error = chain(&error), "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
    drop(listener);
    server.closing.cancel();
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        debug!(connections = connections.len(), "connections were cut off at shutdown");
    }
}

async fn connection(
    server: Arc<Server>,
    stream: TcpStream,
    acceptor: TlsAcceptor,
    watcher: Watcher,
) {
    if let Err(error) = set_options(&stream) {
        debug!(error = chain(&error), "socket options could not be set");
    }
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            debug!(error = chain(&error), "a TLS handshake failed");
            return;
        }
        Err(_elapsed) => return,
    };
    let identity = identity(&stream);
    let service = service_fn(move |request| {
        let (server, identity) = (Arc::clone(&server), identity.clone());
        async move { Ok::<_, Infallible>(handle(&server, identity, request).await) }
    });
    let builder = builder();
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        debug!(error = chain(&*error), "a connection broke");
    }
}

/// A peer that has vanished is noticed, also while nothing is sent.
fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(PEER_SILENCE_MAX / 2)
        .with_interval(PEER_SILENCE_MAX / 6)
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(PEER_SILENCE_MAX))
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
        .max_header_list_size(head_bytes);
    builder
}

/// Who is at the other end, as far as a verified certificate says.
fn identity(stream: &TlsStream<TcpStream>) -> Result<Arc<Identity>, Status> {
    let (_, session) = stream.get_ref();
    match session.peer_certificates().and_then(|certificates| certificates.first()) {
        None => Ok(Arc::new(Identity::anonymous())),
        Some(certificate) => Identity::of_certificate(certificate).map(Arc::new).map_err(|error| {
            debug!(error = chain(&error), "a client certificate names nobody");
            Status::new(Reason::Unauthorized, "Unauthorized")
        }),
    }
}

async fn handle(
    server: &Arc<Server>,
    identity: Result<Arc<Identity>, Status>,
    request: http::Request<Incoming>,
) -> Response {
    let (head, body) = request.into_parts();
    let answered = answer(server, identity, &head, body).await;
    let mut response = answered.unwrap_or_else(|status| status_response(&status, &head.headers));
    if !response.headers().contains_key(CACHE_CONTROL) {
        let no_cache = HeaderValue::from_static("no-cache, private");
        response.headers_mut().insert(CACHE_CONTROL, no_cache);
    }
    response
}

async fn answer(
    server: &Arc<Server>,
    identity: Result<Arc<Identity>, Status>,
    head: &http::request::Parts,
    body: Incoming,
) -> Result<Response, Status> {
    let identity = identity?;
    let asked = Server::judge(head, &identity)?;
    let place = server.in_flight.enter(&asked.info)?;
    let body = read_body(body).await?;
    let response = server.answer(&asked, body).await;
    // The place is taken until the last byte is out: a watch is under way all its life.
    Ok(response.map(|body| {
        body.map_frame(move |frame| {
            let _held = &place;
            frame
        })
        .boxed_unsync()
    }))
}

async fn read_body(body: Incoming) -> Result<Bytes, Status> {
    let whole = Limited::new(body, REQUEST_BODY_BYTES_MAX).collect();
    match tokio::time::timeout(REQUEST_BODY_TIMEOUT, whole).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(body_too_large()),
        Ok(Err(error)) => {
            Err(Status::bad_request(format!("the body of the request broke off: {error}")))
        }
        Err(_elapsed) => {
            let message = "the body of the request did not arrive in time";
            let code = http::StatusCode::REQUEST_TIMEOUT.as_u16();
            Err(Status { code, ..Status::new(Reason::Timeout, message) })
        }
    }
}
