//! What the API server itself knows of some objects, kept from the store's watch.
//!
//! Start at [`Follower`]. A follower is told of every object below a prefix, and then of every change
//! in order; after a gap it is told to begin anew. Whoever decides on such knowledge can wait until
//! it is as new as the store ([`Seen::wait`]).

use crate::api::Revision;
use crate::stdx::{Backoff, chain};
use crate::storage::{
    Entry, Event, ListRequest, ReadError, Store, WatchError, WatchItem, WatchRequest,
};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::warn;

/// Between attempts to read a store that cannot be read.
const RETRY: Backoff =
    Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(10) };

/// Objects that are there at the beginning are read by this many at once.
const PAGE_ENTRIES: usize = 500;

/// Nobody waits longer for knowledge to become newer.
const WAIT_MAX: Duration = Duration::from_secs(2);

type OnEvent = Box<dyn Fn(&Event) + Send + Sync>;
type OnList = Box<dyn Fn(Vec<Entry>) + Send + Sync>;
type OnLoss = Box<dyn Fn() + Send + Sync>;

/// Whether what is there already matters, or only what changes.
enum Beginning {
    /// Told all objects at once, after which every other one is gone.
    Objects(OnList),
    /// Told that some changes may have been missed.
    Changes(OnLoss),
}

/// See the module.
pub(super) struct Follower {
    prefix: &'static str,
    beginning: Beginning,
    on_event: OnEvent,
    seen: watch::Sender<Option<Revision>>,
}

/// Through which revision a follower has been told everything.
#[derive(Clone, Debug)]
pub(super) struct Seen(watch::Receiver<Option<Revision>>);

impl fmt::Debug for Follower {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Follower").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Seen {
    /// Whether the follower has seen anything yet.
    pub(super) fn is_begun(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Waits until the follower knows everything through `revision`; after some time nobody waits
    /// any longer.
    pub(super) async fn wait(&self, revision: Revision) {
        let mut receiver = self.0.clone();
        let is_new = |seen: &Option<Revision>| seen.is_some_and(|seen| seen >= revision);
        // Whatever came of it, the decision is made from what is known then.
        tokio::time::timeout(WAIT_MAX, receiver.wait_for(is_new)).await.ok();
    }
}

impl Follower {
    /// For whoever keeps the objects below `prefix`.
    pub(super) fn of_objects(
        prefix: &'static str,
        on_list: impl Fn(Vec<Entry>) + Send + Sync + 'static,
        on_event: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Self {
        let beginning = Beginning::Objects(Box::new(on_list));
        let (on_event, seen) = (Box::new(on_event), watch::Sender::new(None));
        Self { prefix, beginning, on_event, seen }
    }

    /// For whoever only has to know what changes below `prefix`.
    pub(super) fn of_changes(
        prefix: &'static str,
        on_event: impl Fn(&Event) + Send + Sync + 'static,
        on_loss: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let beginning = Beginning::Changes(Box::new(on_loss));
        let (on_event, seen) = (Box::new(on_event), watch::Sender::new(None));
        Self { prefix, beginning, on_event, seen }
    }

    /// Below which keys it follows.
    pub(super) fn prefix(&self) -> &'static str {
        self.prefix
    }

    pub(super) fn seen(&self) -> Seen {
        Seen(self.seen.subscribe())
    }

    /// Follows until the store is closed.
    pub(super) async fn run(self, store: Arc<dyn Store>) {
        let mut failures = 0;
        while !store.ended().is_cancelled() {
            match self.follow(&*store, &mut failures).await {
                FollowError::Watch(WatchError::Closed) => return,
                error => {
                    failures += 1;
                    warn!(error = chain(&error), "{} is followed anew", self.prefix);
                }
            }
            tokio::time::sleep(RETRY.delay(failures)).await;
        }
    }

    async fn follow(&self, store: &dyn Store, failures: &mut u32) -> FollowError {
        let begun = match &self.beginning {
            Beginning::Objects(on_list) => match list(store, self.prefix).await {
                Ok((entries, revision)) => {
                    on_list(entries);
                    revision
                }
                Err(error) => return error.into(),
            },
            Beginning::Changes(_) => store.revision(),
        };
        // Whoever only hears of changes is of no use to those who wait.
        let progress = matches!(self.beginning, Beginning::Objects(_));
        let request = WatchRequest { prefix: self.prefix.to_owned(), after: begun, progress };
        let mut watch = match store.watch(request).await {
            Ok(watch) => watch,
            Err(error) => return error.into(),
        };
        if let Beginning::Changes(on_loss) = &self.beginning {
            on_loss();
        }
        self.seen.send_replace(Some(begun));
        *failures = 0;
        loop {
            match watch.next().await {
                Ok(WatchItem::Event(event)) => (self.on_event)(&event),
                Ok(WatchItem::Progress(revision)) => {
                    self.seen.send_replace(Some(revision));
                }
                Err(error) => return error.into(),
            }
        }
    }
}

/// Why following has to begin anew.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("objects cannot be listed")]
    List(#[from] ReadError),
    #[error("the watch is over")]
    Watch(#[from] WatchError),
}

/// Everything below a prefix at one revision.
async fn list(store: &dyn Store, prefix: &str) -> Result<(Vec<Entry>, Revision), ReadError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut at = None;
    loop {
        let limit = std::num::NonZeroUsize::new(PAGE_ENTRIES);
        let after = entries.last().map(|entry| entry.key.clone());
        let request = ListRequest { prefix: prefix.to_owned(), after, limit, at };
        let page = store.list(request).await?;
        at = Some(page.revision);
        entries.extend(page.entries);
        if page.remaining == 0 {
            return Ok((entries, page.revision));
        }
    }
}
