//! Who is let in: everybody, as long as there is a seat.

use super::connection;
use super::limits::{ACCEPT_PAUSE, DRAIN_TIMEOUT};
use super::proxy::Proxy;
use crate::stdx::chain;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// Answers on `listener` until the proxy closes; then requests under way have [`DRAIN_TIMEOUT`].
pub(super) async fn accept(proxy: Arc<Proxy>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let connections = TaskTracker::new();
    // Dropped with this, whatever becomes of it.
    let cut = CancellationToken::new();
    let _guard = cut.clone().drop_guard();
    let closing = proxy.closing.clone();
    loop {
        let next = async {
            let (stream, address) = listener.accept().await?;
            Ok::<_, std::io::Error>((stream, (address, proxy.crowd.enter().await)))
        };
        match closing.run_until_cancelled(next).await {
            None => break,
            Some(Ok((stream, visitor))) => {
                // On the heap: a future that is passed on has its size in each that it passes.
                let serving =
                    Box::pin(connection::serve(Arc::clone(&proxy), stream, visitor, tls.clone()));
                let cut = cut.clone();
                connections.spawn(async move { cut.run_until_cancelled(serving).await });
            }
            Some(Err(error)) => {
                warn!(error = chain(&error), "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
        debug!(connections = connections.len(), "connections were cut off at the end");
    }
}
