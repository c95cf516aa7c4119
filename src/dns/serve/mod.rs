//! Where questions come in: the cluster DNS addresses on this node, by datagram and by stream.
//!
//! Start at [`serve`]. Architecture invariants: the addresses are local ones of this node, on an
//! interface that carries nothing else, so that no rule has to lead pods here; a socket is bound to
//! one address, so that answers come from where the questions went.

mod bind;
pub(super) mod tcp;
pub(super) mod udp;

use super::resolver::Resolver;
use crate::client::{EventRecorder, EventType};
use crate::network::{NetworkError, local_addresses};
use crate::stdx::{Backoff, chain};
use crate::sys::socket_watch::SocketWatch;
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::ObjectReference;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tracing::{debug, info, warn};

/// Where names are asked for.
pub(super) const PORT: u16 = 53;

/// Longer questions are not understood: by datagram they are cut, and a stream ends with them. The
/// longest that makes sense is a tenth of it.
const QUESTION_BYTES_MAX: usize = 4_096;

/// What keeps questions from coming in is tried again after so long, and less often later; a port that
/// somebody else has, also when the kernel says that it is free.
const RETRY: Backoff =
    Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(30) };

/// Why questions cannot come in.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("the cluster's DNS addresses cannot be added to interface {interface}")]
    Address {
        interface: String,
        #[source]
        source: NetworkError,
    },
    #[error("cannot listen on {address}; `ss -lunp sport = :{port}` says who has the port", port = address.port())]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

impl ServeError {
    /// Whether somebody else has the port.
    fn is_taken(&self) -> bool {
        matches!(self, Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

/// Where questions come in.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) interface: String,
    pub(super) addresses: Vec<IpAddr>,
}

/// Who is told that questions cannot come in.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) recorder: EventRecorder,
    /// This one.
    pub(super) node: ObjectReference,
}

impl Told {
    fn record(&self, kind: EventType, reason: &'static str, message: String) {
        self.recorder.record(self.node.clone(), kind, reason, message);
    }
}

/// Answers questions at the place until it is dropped. What is in the way is said once, and tried
/// again.
pub(super) async fn serve(place: &Place, told: &Told, resolver: &Arc<Resolver>) {
    let (mut failures, mut watch, mut opened) = (0, None, Opened::default());
    let shown: Vec<_> = place.addresses.iter().map(ToString::to_string).collect();
    let shown = format!("the cluster's DNS answers at {}", shown.join(" and "));
    loop {
        let error = match opened.complete(place).await {
            Ok(()) => {
                info!("{shown}");
                if failures > 0 {
                    told.record(EventType::Normal, "DNSAnswers", shown);
                }
                return listen(opened, resolver).await;
            }
            Err(error) => error,
        };
        if failures == 0 {
            warn!(error = chain(&error), "the cluster's DNS cannot be asked; it is tried again");
            let message = format!("The cluster's DNS cannot be asked: {}", chain(&error));
            let reason = if error.is_taken() { "DNSPortTaken" } else { "DNSFailed" };
            told.record(EventType::Warning, reason, message);
        }
        failures += 1;
        if error.is_taken() && watch.is_none() {
            watch = watch_sockets();
            if watch.is_some() {
                // Whoever has gone meanwhile is not told.
                continue;
            }
        }
        // Sockets of this port go often where somebody else answers there; what is told meanwhile is
        // not lost.
        tokio::time::sleep(RETRY.first).await;
        tokio::time::timeout(RETRY.delay(failures), until_free(watch.as_ref())).await.ok();
    }
}

/// `None` where the kernel does not tell of sockets.
fn watch_sockets() -> Option<SocketWatch> {
    let opened = SocketWatch::open();
    opened.inspect_err(|error| debug!(error = chain(error), "the kernel does not tell")).ok()
}

/// Waits until the port may be free; for ever where that cannot be seen.
async fn until_free(watch: Option<&SocketWatch>) {
    if let Some(watch) = watch
        && watch.gone(&[PORT]).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// The sockets that there are so far. They are kept while others are missing: the kernel says of each
/// that is closed that its port is free, and would say so of these as well.
#[derive(Debug, Default)]
struct Opened {
    datagrams: BTreeMap<SocketAddr, UdpSocket>,
    streams: BTreeMap<SocketAddr, TcpListener>,
}

impl Opened {
    /// Opens those that are missing.
    async fn complete(&mut self, place: &Place) -> Result<(), ServeError> {
        let Place { interface, addresses } = place;
        local_addresses::hold(interface, addresses)
            .await
            .map_err(|source| ServeError::Address { interface: interface.clone(), source })?;
        for address in addresses {
            let address = SocketAddr::new(*address, PORT);
            let failed = |source| ServeError::Listen { address, source };
            if let Entry::Vacant(missing) = self.datagrams.entry(address) {
                missing.insert(bind::datagrams(address).map_err(failed)?);
            }
            if let Entry::Vacant(missing) = self.streams.entry(address) {
                missing.insert(bind::streams(address).map_err(failed)?);
            }
        }
        Ok(())
    }
}

/// Answers what comes in by these sockets.
async fn listen(opened: Opened, resolver: &Arc<Resolver>) {
    let Opened { datagrams, streams } = opened;
    let datagrams = datagrams.into_values().map(|it| udp::serve(Arc::new(it), resolver));
    let streams = streams.into_values().map(|it| tcp::serve(it, resolver));
    futures_util::future::join(join_all(datagrams), join_all(streams)).await;
}
