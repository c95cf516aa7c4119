//! New connections to endpoints.

use super::super::limits::{
    CONNECTION_WINDOW_BYTES, HEAD_BYTES_MAX, PEER_SILENCE_MAX, STREAM_WINDOW_BYTES,
};
use super::super::model::Protocol;
use super::asking::Asking;
use super::endpoint::Endpoint;
use super::exchange::Exchange;
use super::multiplexed::Shared;
use super::stream::Stream;
use crate::pki::AnyServer;
use crate::stdx::chain;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

/// Why an endpoint cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(in crate::ingress) enum ConnectError {
    #[error("the endpoint accepted no connection in time")]
    Late,
    #[error("the endpoint accepted no connection")]
    Refused(#[source] io::Error),
    #[error("the endpoint does not speak HTTP as expected")]
    Protocol(#[source] hyper::Error),
}

/// Makes connections. The endpoints' certificates are not looked at: who they are is known from the
/// API server, and pods have no certificate that anybody could know (as with ingress-nginx and the
/// API server's proxy).
pub(in crate::ingress) struct Connector {
    http1: TlsConnector,
    http2: TlsConnector,
    /// What drives connections that many requests share.
    drivers: TaskTracker,
    closing: CancellationToken,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Connector {
    pub(in crate::ingress) fn new(closing: CancellationToken) -> Self {
        let speaking = |protocol: &[u8]| {
            let mut config = (*AnyServer::client_config()).clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        let (http1, http2) = (speaking(b"http/1.1"), speaking(b"h2"));
        Self { http1, http2, drivers: TaskTracker::new(), closing }
    }

    /// A connection of its own for one request at a time.
    pub(in crate::ingress) async fn exchange(
        &self,
        endpoint: &Endpoint,
        within: Duration,
    ) -> Result<Box<Exchange>, ConnectError> {
        let stream = self.stream(endpoint, within).await?;
        Exchange::new(stream).await.map(Box::new).map_err(ConnectError::Protocol)
    }

    /// The connection that all requests share.
    pub(in crate::ingress) async fn shared(
        &self,
        endpoint: &Endpoint,
        within: Duration,
    ) -> Result<Shared, ConnectError> {
        if let Some(shared) = endpoint.shared() {
            return Ok(shared);
        }
        let stream = self.stream(endpoint, within).await?;
        let mut builder = http2::Builder::new(Executor(self.drivers.clone()));
        let head_bytes = u32::try_from(HEAD_BYTES_MAX).expect("a small constant");
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(head_bytes)
            .keep_alive_interval(PEER_SILENCE_MAX / 2)
            .keep_alive_timeout(PEER_SILENCE_MAX / 2);
        let made = builder.handshake::<_, Asking>(TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(ConnectError::Protocol)?;
        let closing = self.closing.clone();
        self.drivers.spawn(async move {
            if let Some(Err(error)) = closing.run_until_cancelled(connection).await {
                debug!(error = chain(&error), "a shared connection to an endpoint broke");
            }
        });
        let shared = Shared::new(sender);
        endpoint.share(shared.clone());
        Ok(shared)
    }

    async fn stream(&self, endpoint: &Endpoint, within: Duration) -> Result<Stream, ConnectError> {
        let connected = timeout(within, self.connect(endpoint)).await;
        connected.map_err(|_elapsed| ConnectError::Late)?.map_err(ConnectError::Refused)
    }

    async fn connect(&self, endpoint: &Endpoint) -> io::Result<Stream> {
        let stream = TcpStream::connect(endpoint.address).await?;
        stream.set_nodelay(true)?;
        let socket = socket2::SockRef::from(&stream);
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(PEER_SILENCE_MAX / 2)
            .with_interval(PEER_SILENCE_MAX / 6)
            .with_retries(3);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_user_timeout(Some(PEER_SILENCE_MAX))?;
        let tls = match endpoint.protocol {
            Protocol::Http1 | Protocol::Http2 => return Ok(Stream::Plain(stream)),
            Protocol::Https1 => &self.http1,
            Protocol::Https2 => &self.http2,
        };
        let name = ServerName::IpAddress(endpoint.address.ip().into());
        Ok(Stream::Tls(Box::new(tls.connect(name, stream).await?)))
    }
}

/// Has the tasks of shared connections in the set of their owner.
#[derive(Clone)]
struct Executor(TaskTracker);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}
