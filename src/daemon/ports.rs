//! The ports that a server or an agent cannot do without.

use crate::sys::socket_watch::SocketWatch;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tracing::info;

/// So long a port that is taken is waited for. When a process is killed in the moment in which it
/// starts a program, its child has all its sockets until it has become that program; it has to enter
/// its cgroups before, which takes long on a busy machine.
const TAKEN_MAX: Duration = Duration::from_secs(2);

/// Listens on `address`, as soon as it is free.
///
/// # Errors
/// Where it stays taken, or cannot be listened on for another reason.
pub(super) async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let is_taken =
        |bound: &io::Result<_>| matches!(bound, Err(it) if it.kind() == io::ErrorKind::AddrInUse);
    let bound = TcpListener::bind(address).await;
    if !is_taken(&bound) {
        return bound;
    }
    info!("{address} is taken; waiting up to {TAKEN_MAX:?} for a run that is just ending");
    let Ok(watch) = SocketWatch::open() else { return bound };
    let waiting = async {
        loop {
            // Whoever has gone before the kernel was asked to tell is not told.
            let bound = TcpListener::bind(address).await;
            if !is_taken(&bound) || watch.gone(&[address.port()]).await.is_err() {
                return bound;
            }
        }
    };
    tokio::time::timeout(TAKEN_MAX, waiting).await.unwrap_or(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_is_waited_for_while_it_is_taken() {
        let first = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = first.local_addr().unwrap();
        let second = listen(address);
        tokio::pin!(second);
        let early = tokio::time::timeout(Duration::from_millis(20), second.as_mut()).await;
        assert!(early.is_err(), "it is taken");
        drop(first);
        assert_eq!(second.await.unwrap().local_addr().unwrap(), address);
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_stays_taken_is_told() {
        let first = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let second = listen(first.local_addr().unwrap()).await;
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
