//! The store in one SQLite file.
//!
//! One thread writes: it commits whatever is queued as one transaction with one sync. A few threads
//! read, each on a connection of its own; with the write-ahead log they never wait for the writer.
//! Coalesced writes (heartbeats) are announced at once and wait in memory for the next durable group.
//!
//! What happens to coalesced writes of one key that follow each other before the disk sees any of
//! them: only the last is kept. Whoever has seen none of them, or the last, notices nothing. A reader
//! that asks for a revision at which one of the forgotten ones was current, or wants to go on from
//! there, is told that it is compacted: such a revision is as gone as one that has been. The same is
//! said after a crash about revisions that were announced and never reached the disk.

mod copy;
mod fault;
mod group;
mod history;
mod inbox;
mod listing;
mod open;
mod plan;
mod read;
mod readers;
mod recent;
mod retention;
mod schema;
mod snapshot;
mod sweep;
mod view;
mod watch;
mod writer;

pub use copy::{Facts, Halt, Held, SCHEMA, copy, facts, go_on_after, hold, verify};
pub use fault::Fault;
pub use open::OpenError;
pub use retention::History;

use crate::api::Revision;
use crate::stdx::monotonic;
use crate::storage::hub::Hub;
use crate::storage::{
    Commit, CommitError, Key, ListRequest, Listing, Lookup, Page, ReadError, Store, Watch,
    WatchError, WatchRequest, Whole,
};
use futures_util::future::BoxFuture;
use inbox::Inbox;
use listing::SqliteListing;
use open::{Opened, beside};
use read::Begun;
use readers::Readers;
use retention::{Mark, Past, Replaced};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot::{self, error::RecvError};
use tokio_util::sync::CancellationToken;
use view::{SharedView, View};
use watch::SqliteWatch;
use writer::{REQUESTS_QUEUED_MAX, Request, Start, Writer};

/// Where a store is, and how much of the past it keeps.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file. `None`: in memory, for tests.
    pub path: Option<PathBuf>,
    pub history: History,
}

impl Config {
    /// In a file, with as much history as upstream keeps.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), history: History::DEFAULT }
    }

    /// The same in memory.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { path: None, history: History::DEFAULT }
    }
}

/// What the threads of a store share.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    in_memory: bool,
    wal_path: PathBuf,
    view: SharedView,
    hub: Arc<Hub>,
    /// Cancelled when the first thread of the store ends, however it does.
    ended: CancellationToken,
}

impl Shared {
    /// Waits for the answer of a thread.
    ///
    /// A store in memory is for tests, and tests stop tokio's clock: it then jumps to the next timer
    /// whenever the runtime has nothing to do but wait for our threads. It does not while a blocking
    /// task runs, so there the waiting is one.
    async fn wait<T: Send + 'static>(&self, answer: oneshot::Receiver<T>) -> Result<T, RecvError> {
        if !self.in_memory {
            return answer.await;
        }
        let waiting = tokio::task::spawn_blocking(|| answer.blocking_recv());
        waiting.await.expect("receiving does not panic")
    }
}

/// A [`Store`] in a SQLite file.
#[derive(Debug)]
pub struct Sqlite {
    shared: Arc<Shared>,
    readers: Arc<Readers>,
    inbox: Arc<Inbox<Request>>,
    running: Mutex<Option<Running>>,
}

/// What has to be put away at the end.
#[derive(Debug)]
struct Running {
    writer: JoinHandle<Result<(), CommitError>>,
    /// Keeps other processes out.
    lock: File,
}

impl Sqlite {
    /// Opens a store, and makes one where there is none. Reads the disk: takes some milliseconds.
    ///
    /// # Errors
    /// Where the file cannot be used; nothing in it has been changed then.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        let Config { path, history } = config;
        // After a crash it is not known what waits to be removed: enough to have a look later.
        let in_memory = path.is_none();
        let unknown = Replaced { rows: history.sweep_rows_min, bytes: 0 };
        let Opened { path, lock, writer, readers, state } = open::open(path, unknown)?;
        let shared = Arc::new(Shared {
            wal_path: beside(&path, "-wal"),
            view: SharedView::new(View {
                revision: state.revision,
                base: state.base,
                floor: state.floor,
                lost: state.lost,
                pending: std::collections::BTreeMap::new(),
                pending_bytes: 0,
                recent: recent::Recent::default(),
            }),
            hub: Hub::new(state.revision),
            ended: CancellationToken::new(),
            path,
            in_memory,
        });
        let failed = |source| {
            let path = shared.path.clone();
            OpenError::File { operation: "start a thread for", path, source }
        };
        let now = Mark { at: monotonic(), revision: state.revision, replaced: state.replaced };
        let past = Past::new(history, state.floor, now);
        let inbox = Arc::new(Inbox::new(REQUESTS_QUEUED_MAX));
        let start =
            Start { reserved: state.reserved, swept: state.swept, replaced: state.replaced };
        let writer = Writer::new(writer, Arc::clone(&shared), Arc::clone(&inbox), past, start);
        let readers = Arc::new(Readers::start(&shared, readers).map_err(failed)?);
        let thread = std::thread::Builder::new().name("store-write".into());
        let writer = thread.spawn(move || writer.run()).map_err(failed)?;
        let running = Mutex::new(Some(Running { writer, lock }));
        Ok(Self { shared, readers, inbox, running })
    }

    /// Writes what is pending, ends every watch, and closes the file. What is asked afterwards is
    /// refused.
    ///
    /// # Errors
    /// Where something pending could not be written.
    pub async fn close(&self) -> Result<(), CommitError> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(running) = running else {
            return Ok(());
        };
        self.inbox.close();
        self.shared.view.update(|view| view.recent.close());
        let readers = Arc::clone(&self.readers);
        let stopped = tokio::task::spawn_blocking(move || stop(&readers, running)).await;
        // A writer that has panicked has not written what was pending.
        stopped.ok().flatten().unwrap_or_else(|| Err(self.closed()))
    }

    fn closed(&self) -> CommitError {
        CommitError::Unavailable(Arc::new(Fault::Closed { path: self.shared.path.clone() }))
    }
}

/// Readers first, so that the writer finds nobody in its way when it empties the write-ahead log.
/// Returns nothing where the writer has panicked.
fn stop(readers: &Readers, running: Running) -> Option<Result<(), CommitError>> {
    readers.stop();
    let result = running.writer.join().ok();
    // A child that this process is just starting still has every open file for a moment: closing
    // alone would leave the lock to it. Where unlocking fails, closing has to do.
    running.lock.unlock().ok();
    drop(running.lock);
    result
}

impl Drop for Sqlite {
    /// Closes a store that nobody has closed. Waits for the disk.
    fn drop(&mut self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(running) = running else {
            return;
        };
        self.inbox.close();
        if let Err(error) = stop(&self.readers, running).unwrap_or_else(|| Err(self.closed())) {
            let error = crate::stdx::chain(&error);
            tracing::error!(error, "the store could not be closed in good order");
        }
    }
}

impl Store for Sqlite {
    fn ended(&self) -> CancellationToken {
        self.shared.ended.clone()
    }

    fn revision(&self) -> Revision {
        self.shared.view.revision()
    }

    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Lookup, ReadError>> {
        if let Some(lookup) = self.shared.view.remembered_value(key) {
            return Box::pin(std::future::ready(Ok(lookup)));
        }
        Box::pin(self.readers.get(key.clone()))
    }

    fn list(&self, request: ListRequest) -> BoxFuture<'_, Result<Page, ReadError>> {
        if let Some(page) = self.shared.view.remembered_page(&request) {
            return Box::pin(std::future::ready(Ok(page)));
        }
        Box::pin(async move {
            if let Some(requested) = request.at {
                let refused = self.shared.view.lock().refuses(requested);
                if let Some(oldest) = refused {
                    return Err(ReadError::Compacted { requested, oldest });
                }
            }
            self.readers.list(request).await
        })
    }

    fn open<'s>(&'s self, prefix: &str) -> BoxFuture<'s, Result<Box<dyn Listing>, ReadError>> {
        let request = ListRequest::everything(prefix);
        let remembered = self.shared.view.remembered_page(&request);
        Box::pin(async move {
            let page = match remembered {
                Some(page) => page,
                None => {
                    let Begun { first, rest } = self.readers.begin(request).await?;
                    if !rest.is_empty() {
                        let (revision, first) = (first.revision, first.entries);
                        let listing = SqliteListing::new(&self.readers, revision, first, rest);
                        return Ok(Box::new(listing) as Box<dyn Listing>);
                    }
                    first
                }
            };
            Ok(Box::new(Whole(page)) as Box<dyn Listing>)
        })
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(async move {
            plan::check_limits(&commit)?;
            let (reply, answer) = oneshot::channel();
            self.inbox.send(Request::Commit { commit, reply }).await.ok();
            self.shared.wait(answer).await.unwrap_or_else(|_gone| Err(self.closed()))
        })
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Box<dyn Watch>, WatchError>> {
        Box::pin(async move {
            let watch = SqliteWatch::start(&self.shared, &self.readers, request)?;
            Ok(Box::new(watch) as Box<dyn Watch>)
        })
    }

    fn compact(&self, through: Revision) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.inbox.send(Request::Compact { through, reply }).await.ok();
            self.shared.wait(answer).await.unwrap_or_else(|_gone| Err(self.closed()))
        })
    }
}
