//! Where questions come in: the cluster DNS addresses on this node, by datagram and by stream.
//!
//! Start at [`serve`]. Architecture invariants: the addresses are local ones of this node, on an
//! interface that carries nothing else, so that no rule has to lead pods here; a socket is bound to
//! one address, so that answers come from where the questions went.

mod bind;
mod tcp;
pub(super) mod udp;

use super::resolver::Resolver;
use crate::network::{NetworkError, local_addresses};
use crate::stdx::{Backoff, chain};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// Where names are asked for.
pub(super) const PORT: u16 = 53;

/// What keeps questions from coming in is tried again after so long, and less often later.
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

/// Answers questions on the addresses until it is dropped. What is in the way is said, and tried
/// again.
pub(super) async fn serve(interface: &str, addresses: &[IpAddr], resolver: &Arc<Resolver>) {
    let mut failures = 0;
    loop {
        match open(interface, addresses).await {
            Ok(sockets) => {
                let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                info!("the cluster's DNS answers at {}", shown.join(" and "));
                return listen(sockets, resolver).await;
            }
            Err(error) => {
                failures += 1;
                let retry = RETRY.delay(failures);
                warn!(error = chain(&error), ?retry, "the cluster's DNS cannot be asked");
                tokio::time::sleep(retry).await;
            }
        }
    }
}

async fn open(interface: &str, addresses: &[IpAddr]) -> Result<Vec<bind::Sockets>, ServeError> {
    local_addresses::hold(interface, addresses)
        .await
        .map_err(|source| ServeError::Address { interface: interface.to_owned(), source })?;
    let bind = |address: &IpAddr| {
        let address = SocketAddr::new(*address, PORT);
        bind::bind(address).map_err(|source| ServeError::Listen { address, source })
    };
    addresses.iter().map(bind).collect()
}

/// Answers what comes in by these sockets.
async fn listen(sockets: Vec<bind::Sockets>, resolver: &Arc<Resolver>) {
    let each = sockets.into_iter().map(|sockets| {
        let udp = udp::serve(Arc::new(sockets.udp), resolver);
        let tcp = tcp::serve(sockets.tcp, resolver);
        futures_util::future::join(udp, tcp)
    });
    futures_util::future::join_all(each).await;
}
