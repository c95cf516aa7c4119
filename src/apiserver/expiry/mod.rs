//! Events go when they have had their time (upstream `--event-ttl`, which etcd's leases carry out).
//!
//! One task that sleeps until the oldest Event is due; where there is none, until one is written.
//! Nothing is remembered: what is due follows from the Events alone, so that a restart changes
//! nothing. Those that are due are deleted in the store like anything else, so that watches see it.
//! Start at [`plan()`].

mod plan;

use super::keys;
use super::server::Server;
use crate::api::Revision;
use crate::registry;
use crate::stdx::chain;
use crate::storage::{
    Commit, CommitError, Durability, Entry, Key, ListRequest, Op, ReadError, WatchError, WatchItem,
    WatchRequest,
};
use jiff::Timestamp;
use plan::{LOOK_PAUSE, earlier, plan};
use std::num::NonZeroUsize;
use std::sync::Arc;
use tracing::warn;

/// Events that are read at once.
const PAGE_ENTRIES: NonZeroUsize = NonZeroUsize::new(500).expect("not zero");

/// Events that are deleted in one commit.
const BATCH_EVENTS: usize = 100;

/// Why the Events could not be looked after this time.
#[derive(Debug, thiserror::Error)]
enum ExpiryError {
    #[error("events cannot be read")]
    Read(#[from] ReadError),
    #[error("events cannot be deleted")]
    Delete(#[from] CommitError),
    #[error("events cannot be watched")]
    Watch(#[from] WatchError),
}

/// What a look has found.
#[derive(Debug)]
struct Look {
    /// When the first Event is due of those that are left.
    next: Option<Timestamp>,
    /// The state that was looked at.
    revision: Revision,
}

/// Deletes Events that have had their time, for as long as it is let run.
pub(super) async fn expire_events(server: Arc<Server>) {
    let facts = registry::find("", "v1", "events").expect("Events are built in");
    let prefix = keys::prefix(facts, None);
    loop {
        let next = match look(&server, &prefix).await {
            Ok(Look { next: Some(next), .. }) => Some(next),
            Ok(Look { next: None, revision }) => match first(&server, &prefix, revision).await {
                Ok(due) => due,
                // The history since the look is not kept: look again.
                Err(WatchError::Compacted { .. }) => continue,
                Err(error) => failed(&error.into()),
            },
            Err(error) => failed(&error),
        };
        tokio::time::sleep(LOOK_PAUSE).await;
        if let Some(next) = next {
            server.config.clock.sleep_until(next).await;
        }
    }
}

/// It is tried again after the shortest pause.
fn failed(error: &ExpiryError) -> Option<Timestamp> {
    warn!(error = chain(error), "old events stay for now");
    None
}

/// Looks at every Event, and deletes those that are due.
async fn look(server: &Server, prefix: &str) -> Result<Look, ExpiryError> {
    let (now, ttl) = (server.config.clock.now(), server.config.event_ttl);
    let mut look = Look { next: None, revision: Revision(0) };
    let mut after = None;
    loop {
        let request =
            ListRequest { prefix: prefix.to_owned(), after, limit: Some(PAGE_ENTRIES), at: None };
        let page = server.store.list(request).await?;
        let plan = plan(&page.entries, now, ttl);
        for batch in plan.due.chunks(BATCH_EVENTS) {
            delete(server, batch.to_vec()).await?;
        }
        look.next = earlier(look.next, plan.next);
        if page.remaining == 0 {
            look.revision = page.revision;
            return Ok(look);
        }
        after = page.entries.last().map(|entry| entry.key.clone());
    }
}

/// Deletes what has not changed since it was read. What has was reported anew.
async fn delete(server: &Server, mut due: Vec<(Key, Revision)>) -> Result<(), CommitError> {
    while !due.is_empty() {
        let delete = |(key, expected): &(Key, Revision)| Op::Delete {
            key: key.clone(),
            expected: *expected,
        };
        let ops = due.iter().map(delete).collect();
        match server.store.commit(Commit { ops, durability: Durability::Durable }).await {
            Ok(_) => return Ok(()),
            Err(CommitError::Conflict { key: changed, .. }) => {
                due.retain(|(key, _)| *key != changed);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits for the first Event after `revision`. Says when it is due, if it is not yet: no other is
/// due earlier, so nothing has to be read before.
async fn first(
    server: &Server,
    prefix: &str,
    revision: Revision,
) -> Result<Option<Timestamp>, WatchError> {
    let request = WatchRequest { prefix: prefix.to_owned(), after: revision, progress: false };
    let mut watch = server.store.watch(request).await?;
    loop {
        if let WatchItem::Event(event) = watch.next().await?
            && let Some(value) = event.value.clone()
        {
            let entry = Entry { key: event.key.clone(), value, revision: event.revision };
            return Ok(plan(&[entry], server.config.clock.now(), server.config.event_ttl).next);
        }
    }
}
