//! The tunnels that a node keeps open, one to each server: by them its kubelet is asked, and its pods
//! are reached, wherever it is.

use crate::apiserver::{TUNNEL_PATH, TUNNEL_PROTOCOL};
use crate::client::remote::Remote;
use crate::kubelet::{self, Kubelet};
use crate::stdx::http::ByteStream;
use crate::stdx::{Backoff, Tasks, chain, monotonic};
use crate::streaming::tunnel::{Answer, Conversation, Refusal, serve};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONNECTION, UPGRADE};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tracing::{debug, info, warn};

/// Between attempts to reach a server that is away.
const RETRY: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(5) };

/// A tunnel that has lasted this long was a good one: the next attempt is made at once.
const GOOD_AFTER: Duration = Duration::from_secs(30);

/// A server, or a pod, that cannot be connected to in this time is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that has not taken the tunnel in this time is tried anew.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How servers are called, and which there are.
#[derive(Clone, Debug)]
pub(super) struct Ways {
    /// Shows that this is the node's agent; good for any of the servers.
    pub(super) way: watch::Receiver<Remote>,
    /// `https://192.0.2.10:6443`
    pub(super) servers: watch::Receiver<Vec<String>>,
}

/// Keeps a tunnel open to each server until the tasks are stopped. `is_own` says which addresses are
/// of this node's pods: nothing else is reached through it.
pub(super) fn start(
    ways: Ways,
    kubelet: Kubelet,
    is_own: Arc<dyn Fn(SocketAddr) -> bool + Send + Sync>,
    tasks: &mut Tasks,
) {
    let shutdown = tasks.shutdown();
    let answer: Answer = Arc::new(move |target: String| {
        let (kubelet, is_own) = (kubelet.clone(), Arc::clone(&is_own));
        Box::pin(async move { answer(&target, kubelet, &*is_own).await })
    });
    tasks.spawn("tunnels", async move {
        shutdown.run_until_cancelled(keep_all(ways, answer)).await;
    });
}

/// One task for each server there is.
async fn keep_all(mut ways: Ways, answer: Answer) {
    let mut running = JoinSet::new();
    let mut kept: BTreeMap<String, AbortHandle> = BTreeMap::new();
    loop {
        let servers = ways.servers.borrow_and_update().clone();
        kept.retain(|server, task| {
            let is_kept = servers.contains(server);
            if !is_kept {
                task.abort();
            }
            is_kept
        });
        for server in servers {
            kept.entry(server).or_insert_with_key(|server| {
                running.spawn(keep(server.clone(), ways.way.clone(), Arc::clone(&answer)))
            });
        }
        tokio::select! {
            changed = ways.servers.changed() => {
                if changed.is_err() {
                    // The servers there are now are all there will be.
                    std::future::pending::<()>().await;
                }
            }
            Some(_aborted) = running.join_next() => {}
        }
    }
}

async fn keep(server: String, way: watch::Receiver<Remote>, answer: Answer) {
    let mut failures = 0;
    loop {
        let way = way.borrow().clone();
        match timeout(OPEN_TIMEOUT, open(&server, &way)).await {
            Ok(Ok(stream)) => {
                info!(server, "the server can ask this node");
                let began = monotonic();
                serve(stream, Arc::clone(&answer)).await;
                failures = match monotonic().duration_since(began) >= GOOD_AFTER {
                    true => 0,
                    false => failures + 1,
                };
                info!(server, "the tunnel has ended; another is opened");
            }
            Ok(Err(error)) => {
                failures += 1;
                if failures == 1 {
                    warn!(server, error = chain(&error), "no tunnel to the server; will retry");
                }
            }
            Err(_elapsed) => failures += 1,
        }
        tokio::time::sleep(RETRY.delay(failures)).await;
    }
}

async fn open(server: &str, way: &Remote) -> io::Result<ByteStream> {
    let way = way.at(server).map_err(io::Error::other)?;
    let request = http::Request::get(TUNNEL_PATH)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, TUNNEL_PROTOCOL)
        .body(Bytes::new())
        .map_err(io::Error::other)?;
    way.upgraded(request).await
}

/// What becomes of a stream to `target`.
async fn answer(
    target: &str,
    kubelet: Kubelet,
    is_own: &(dyn Fn(SocketAddr) -> bool + Send + Sync),
) -> Result<Conversation, Refusal> {
    if target == "kubelet" {
        return Ok(Box::new(move |stream: ByteStream| {
            Box::pin(async move { kubelet::https::talk(&kubelet, stream).await })
        }));
    }
    let refuse = |code, why: String| Err(Refusal { code, why });
    let Some(address) = target.parse().ok().filter(|address| is_own(*address)) else {
        let why = "this is no address of a pod of this node".to_owned();
        return refuse(StatusCode::FORBIDDEN, why);
    };
    let mut pod = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(pod)) => pod,
        Ok(Err(error)) => return refuse(StatusCode::BAD_GATEWAY, chain(&error)),
        Err(_elapsed) => {
            return refuse(StatusCode::GATEWAY_TIMEOUT, "the pod does not answer".to_owned());
        }
    };
    Ok(Box::new(move |mut stream: ByteStream| {
        Box::pin(async move {
            let copied = tokio::io::copy_bidirectional(&mut stream, &mut pod).await;
            if let Err(error) = copied {
                debug!(error = chain(&error), "a connection to a pod broke");
            }
        })
    }))
}
