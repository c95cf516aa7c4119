//! One connection of a client: TLS or not, HTTP/1 or HTTP/2, and when it ends.

use super::crowd::{End, Seat};
use super::headers::{Peer, Scheme};
use super::limits::{
    CLOSE_TIMEOUT, CONNECTION_WINDOW_BYTES, HANDSHAKE_TIMEOUT, HEAD_BYTES_MAX, HEADERS_MAX,
    PEER_SILENCE_MAX, STREAM_WINDOW_BYTES, STREAMS_MAX,
};
use super::proxy::{Proxy, Visitor};
use crate::stdx::chain;
use crate::sys::tcp;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

/// Serves a connection until it ends.
pub(super) async fn serve(
    proxy: Arc<Proxy>,
    mut stream: TcpStream,
    (address, seat): (SocketAddr, Seat),
    tls: Option<TlsAcceptor>,
) {
    if let Err(error) = tcp::prepare(&stream, PEER_SILENCE_MAX) {
        debug!(error = chain(&error), "socket options could not be set");
    }
    let peer = Peer::new(address.ip(), proxy.trusts(address.ip()));
    let scheme = if tls.is_some() { Scheme::Https } else { Scheme::Http };
    let visitor = Arc::new(Visitor { peer, scheme, seat, tunnel: Mutex::default() });
    let Some(tls) = tls else {
        return drive(proxy, visitor, stream).await;
    };
    let handshake = async {
        tcp::refuse_plain_http(&mut stream).await?;
        tls.accept(stream).await
    };
    let secured = tokio::select! {
        secured = timeout(HANDSHAKE_TIMEOUT, handshake) => secured,
        _end = visitor.seat.end() => return,
    };
    match secured {
        Ok(Ok(stream)) => drive(proxy, visitor, stream).await,
        Ok(Err(error)) => debug!(error = chain(&error), "a TLS handshake failed"),
        Err(_elapsed) => {}
    }
}

async fn drive<S>(proxy: Arc<Proxy>, visitor: Arc<Visitor>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    {
        let service = service_fn(|request| {
            let (proxy, visitor) = (Arc::clone(&proxy), Arc::clone(&visitor));
            // On the heap, so that a connection on which nothing is asked has no room for it.
            Box::pin(async move { Ok::<_, Infallible>(proxy.answer(&visitor, request).await) })
        });
        let builder = builder();
        let mut http = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = http.as_mut() => ended,
            end = visitor.seat.end() => {
                if end != End::Idle {
                    debug!(?end, "a connection was cut off");
                    return;
                }
                http.as_mut().graceful_shutdown();
                match timeout(CLOSE_TIMEOUT, http).await {
                    Ok(ended) => ended,
                    Err(_elapsed) => return,
                }
            }
            // Whoever stops the proxy bounds this.
            () = proxy.closing.cancelled() => {
                http.as_mut().graceful_shutdown();
                http.await
            }
        };
        if let Err(error) = ended {
            debug!(error = chain(&*error), "a connection broke");
        }
    }
    let tunnel = visitor.tunnel.lock().expect("no panics under this lock").take();
    if let Some(tunnel) = tunnel {
        proxy.closing.run_until_cancelled(tunnel.run()).await;
    }
}

/// How long a head may take to come is seen to by the connection's seat, whatever it speaks.
fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().header_read_timeout(None).max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    let head_bytes = u32::try_from(HEAD_BYTES_MAX).expect("a small constant");
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        // The kernel behind a connection may live while the program does not.
        .keep_alive_interval(PEER_SILENCE_MAX / 2)
        .keep_alive_timeout(PEER_SILENCE_MAX / 2)
        .max_header_list_size(head_bytes);
    builder
}
