//! Waiting for a revision that this server has not seen yet.
//!
//! A client may have heard of it somewhere else: from another server of the cluster, or before a
//! restart. Start at [`Server::reach`]. Follows upstream's `waitUntilFreshAndBlock` (apiserver
//! pkg/storage/cacher/watch_cache.go, v1.35).

use super::config::RETRY_AFTER_SECONDS;
use super::errors;
use super::server::Server;
use crate::api::{Revision, Status};
use crate::storage::{Store, WatchError, WatchItem, WatchRequest};
use std::time::Duration;

/// So long a request waits for a revision (upstream `blockTimeout`). Then its client is told to come
/// again.
const PATIENCE: Duration = Duration::from_secs(3);

/// No key is below this: whoever watches it hears only how far the store has got.
pub(super) const NOTHING: &str = "/\0";

impl Server {
    /// Waits until the store has come to `wanted`.
    ///
    /// # Errors
    /// Where it does not come to it for long, or cannot be watched.
    pub(super) async fn reach(&self, wanted: Revision) -> Result<(), Status> {
        if self.store.revision() >= wanted {
            return Ok(());
        }
        match tokio::time::timeout(PATIENCE, reached(&*self.store, wanted)).await {
            Ok(reached) => reached.map_err(|error| errors::of_watch(&error)),
            Err(_elapsed) => {
                let mut status = errors::too_large_revision(wanted, self.store.revision());
                status.details.retry_after_seconds = Some(RETRY_AFTER_SECONDS);
                Err(status)
            }
        }
    }
}

async fn reached(store: &dyn Store, wanted: Revision) -> Result<(), WatchError> {
    let mut seen = store.revision();
    let request = WatchRequest { prefix: NOTHING.to_owned(), after: seen, progress: true };
    let mut watch = store.watch(request).await?;
    while seen < wanted {
        seen = match watch.next().await? {
            WatchItem::Event(event) => event.revision,
            WatchItem::Progress(revision) => revision,
        };
    }
    Ok(())
}
