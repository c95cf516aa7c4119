//! A port of this node that answers whoever asks, with little to spare for them.

use crate::stdx::http::{Response, full};
use crate::stdx::{Backoff, chain};
use crate::sys::tcp;
use http::StatusCode;
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, warn};

/// One port takes no more connections than this at once; the others wait in the kernel.
const CONNECTIONS_MAX: usize = 64;

/// A connection on which nothing is asked for this long is closed.
const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections that wait to be accepted.
const ACCEPT_BACKLOG: u32 = 128;

/// After a failed accept nothing is accepted for this long, so that the failure does not become a busy
/// loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A port that somebody else has is tried again after this long.
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// Says what is answered to whoever asks for a path.
pub(super) type Answer = Arc<dyn Fn(&str) -> Response + Send + Sync>;

/// On every address of the node.
pub(super) fn bind(port: u16) -> io::Result<TcpListener> {
    tcp::listen((Ipv4Addr::UNSPECIFIED, port).into(), ACCEPT_BACKLOG)
}

/// For this node alone.
pub(super) fn bind_to_loopback(port: u16) -> io::Result<TcpListener> {
    tcp::listen((Ipv4Addr::LOCALHOST, port).into(), ACCEPT_BACKLOG)
}

/// Binds as soon as the port is to be had. The first time that it is not, `missed` hears why.
pub(super) async fn bound(
    bind: impl Fn() -> io::Result<TcpListener>,
    missed: impl Fn(&io::Error),
) -> TcpListener {
    let mut failures = 0;
    loop {
        match bind() {
            Ok(listener) => return listener,
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    missed(&error);
                }
                tokio::time::sleep(RETRY.delay(failures)).await;
            }
        }
    }
}

/// Answers until it is dropped.
pub(super) async fn accept(listener: TcpListener, answer: Answer) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _peer)) => {
                    connections.spawn(respond(stream, Arc::clone(&answer)));
                }
                Err(error) => {
                    warn!(error = chain(&error), "a health check was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn respond(stream: TcpStream, answer: Answer) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let response = answer(request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        debug!(error = chain(&error), "a health check broke off");
    }
}

/// What load balancers go by is the status; the body is for people.
pub(super) fn verdict(is_good: bool, body: &Value) -> Response {
    http::Response::builder()
        .status(if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE })
        .header(CONTENT_TYPE, "application/json")
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
        .body(full(body.to_string()))
        .expect("all of it is valid")
}

pub(super) fn not_found() -> Response {
    http::Response::builder()
        .status(StatusCode::NOT_FOUND)
        .body(full("404 page not found\n"))
        .expect("all of it is valid")
}
