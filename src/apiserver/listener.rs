//! HTTPS: which connections are let in, so that no client takes what belongs to all.

use super::config::DRAIN_TIMEOUT;
use super::connection;
use super::server::Server;
use crate::pki::Acceptor;
use crate::stdx::{Tasks, chain};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// After a failed accept (no file descriptors left) nothing is accepted for this long, so that the
/// failure does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Server {
    /// Answers on `listener` until the tasks are told to stop; then watches end at once, and other
    /// requests have [`DRAIN_TIMEOUT`] to finish.
    ///
    /// `acceptor` decides which client certificates are good; a client may also have none.
    pub fn serve(self: &Arc<Self>, listener: TcpListener, acceptor: Acceptor, tasks: &mut Tasks) {
        let (server, shutdown) = (Arc::clone(self), tasks.shutdown());
        tasks.spawn("apiserver", accept(server, listener, acceptor, shutdown));
    }
}

async fn accept(
    server: Arc<Server>,
    listener: TcpListener,
    acceptor: Acceptor,
    shutdown: CancellationToken,
) {
    let connections_max = server.config.connections_max;
    let places = Arc::new(Semaphore::new(connections_max));
    // Those who have proved who they are always find half of the places.
    let strangers = Arc::new(Semaphore::new(connections_max / 2));
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
                    let strangers = Arc::clone(&strangers);
                    connections.spawn(async move {
                        connection::serve(server, stream, acceptor, strangers).await;
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
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        debug!(connections = connections.len(), "connections were cut off at shutdown");
    }
}
