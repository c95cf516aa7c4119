//! How long a connection with streams lives: as its work does, unless its peer goes first.

use super::pieces::Outgoing;
use crate::stdx::http::ByteStream;
use crate::stdx::monotonic;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, ReadHalf};
use tokio::sync::mpsc;

/// A connection on which nothing has been said for so long is closed: the kubelet's
/// `streamingConnectionIdleTimeout`.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(4 * 60 * 60);

/// After all is said, the peer has so long to take it.
const FLUSH_WITHIN: Duration = Duration::from_secs(60);

/// After the kernel has taken all, the peer has so long to read it and to close. Whatever the peer
/// still says to a connection that is closed, be it a ping, resets it, and what has not been read yet
/// is lost with it: on a slow line that is all the kernel holds for it, the outcome included.
pub(super) const LINGER: Duration = Duration::from_secs(60);

/// When a connection was last used.
#[derive(Debug)]
pub(super) struct LastUse(Mutex<Instant>);

impl LastUse {
    pub(super) fn now() -> Self {
        Self(Mutex::new(monotonic()))
    }

    pub(super) fn note(&self) {
        *self.0.lock().expect("no panics under this lock") = monotonic();
    }

    /// Returns when nothing has been noted for [`IDLE_MAX`].
    pub(super) async fn long_ago(&self) {
        loop {
            let due = *self.0.lock().expect("no panics under this lock") + IDLE_MAX;
            if due <= monotonic() {
                return;
            }
            tokio::time::sleep_until(due.into()).await;
        }
    }
}

/// Has `writing`, which sends what is in `queue`, send the rest and a close, while `reading` goes on:
/// pings are answered meanwhile. Says whether the peer could take all of it, in time and before it
/// went.
pub(super) async fn close<E, R>(
    queue: &mpsc::Sender<Outgoing>,
    writing: impl Future<Output = Result<(), E>>,
    reading: impl Future<Output = R>,
) -> bool {
    let sending = async {
        // The queue may be full: there is room for the close only once something has been sent.
        let (_unless_broken, written) = tokio::join!(queue.send(Outgoing::Close), writing);
        written
    };
    tokio::select! {
        sent = tokio::time::timeout(FLUSH_WITHIN, sending) => matches!(sent, Ok(Ok(()))),
        _ended = reading => false,
    }
}

/// Takes what still comes, and drops it, until the peer closes.
pub(super) async fn linger(mut reader: ReadHalf<ByteStream>) {
    let mut buffer = vec![0; 4 << 10];
    let reading = async { while matches!(reader.read(&mut buffer).await, Ok(1..)) {} };
    // Whoever does not close in time is closed.
    tokio::time::timeout(LINGER, reading).await.ok();
}

#[cfg(test)]
#[path = "lifetime_tests.rs"]
mod tests;
