//! The threads that read. Each has a connection of its own; none ever waits for the writer.

use crate::api::Revision;
use crate::storage::sqlite::Shared;
use crate::storage::sqlite::fault::{Fault, Stop};
use crate::storage::sqlite::history::{self, Chunk, HistoryRequest};
use crate::storage::sqlite::inbox::{Inbox, Received};
use crate::storage::sqlite::listing::Found;
use crate::storage::sqlite::read::{self, Begun};
use crate::storage::sqlite::snapshot::Snapshot;
use crate::storage::{Entry, Key, ListRequest, Lookup, Page, ReadError, WatchError};
use rusqlite::Connection;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// How many threads read, each with a connection and a page cache.
pub(super) const READERS: usize = 3;

/// How many of them may be busy with lists and history at once; more wait. The rest is there for
/// reads of a single key, which take microseconds.
const LONG_READS_MAX: usize = READERS - 1;

/// How many reads may wait for a thread. More wait in their callers.
const READS_QUEUED_MAX: usize = 1_024;

/// No key begins with this.
const NOTHING: &str = "\0";

#[derive(Debug)]
enum Read {
    Get {
        key: Key,
        reply: oneshot::Sender<Result<Lookup, ReadError>>,
    },
    List {
        request: ListRequest,
        reply: oneshot::Sender<Result<Page, ReadError>>,
        place: Place,
    },
    Begin {
        request: ListRequest,
        reply: oneshot::Sender<Result<Begun, ReadError>>,
        place: Place,
    },
    Values {
        found: Found,
        revision: Revision,
        reply: oneshot::Sender<Result<Vec<Entry>, ReadError>>,
        place: Place,
    },
    History {
        request: HistoryRequest,
        reply: oneshot::Sender<Result<Chunk, WatchError>>,
        place: Place,
    },
}

/// One of [`LONG_READS_MAX`]. It goes with the read: the thread is busy also when the asker has
/// gone.
type Place = OwnedSemaphorePermit;

#[derive(Debug)]
pub(super) struct Readers {
    shared: Arc<Shared>,
    inbox: Arc<Inbox<Read>>,
    long: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Readers {
    pub(super) fn start(shared: &Arc<Shared>, connections: Vec<Connection>) -> io::Result<Self> {
        let inbox = Arc::new(Inbox::new(READS_QUEUED_MAX));
        let readers = Self {
            shared: Arc::clone(shared),
            inbox: Arc::clone(&inbox),
            long: Arc::new(Semaphore::new(LONG_READS_MAX)),
            threads: Mutex::default(),
        };
        for connection in connections {
            let (shared, inbox) = (Arc::clone(shared), Arc::clone(&inbox));
            let thread = std::thread::Builder::new().name("store-read".into());
            let thread = thread.spawn(move || run(&connection, &shared, &inbox))?;
            readers.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(readers)
    }

    pub(super) async fn get(&self, key: Key) -> Result<Lookup, ReadError> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Read::Get { key, reply }).await.ok();
        self.shared.wait(answer).await.unwrap_or_else(|_gone| Err(self.closed()))
    }

    pub(super) async fn list(&self, request: ListRequest) -> Result<Page, ReadError> {
        let place = self.place().await;
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Read::List { request, reply, place }).await.ok();
        self.shared.wait(answer).await.unwrap_or_else(|_gone| Err(self.closed()))
    }

    /// Finds what is asked for, and reads the first values of it.
    pub(super) async fn begin(&self, request: ListRequest) -> Result<Begun, ReadError> {
        let place = self.place().await;
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Read::Begin { request, reply, place }).await.ok();
        self.shared.wait(answer).await.unwrap_or_else(|_gone| Err(self.closed()))
    }

    /// Reads values that were found at `revision`.
    pub(super) async fn values(
        &self,
        found: Found,
        revision: Revision,
    ) -> Result<Vec<Entry>, ReadError> {
        let place = self.place().await;
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Read::Values { found, revision, reply, place }).await.ok();
        self.shared.wait(answer).await.unwrap_or_else(|_gone| Err(self.closed()))
    }

    pub(super) async fn history(&self, request: HistoryRequest) -> Result<Chunk, WatchError> {
        let place = self.place().await;
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Read::History { request, reply, place }).await.ok();
        self.shared.wait(answer).await.unwrap_or(Err(WatchError::Closed))
    }

    async fn place(&self) -> Place {
        let place = Arc::clone(&self.long).acquire_owned().await;
        place.expect("this semaphore is never closed")
    }

    fn closed(&self) -> ReadError {
        ReadError::Unavailable(Arc::new(Fault::Closed { path: self.shared.path.clone() }))
    }

    /// Answers what has been asked, ends the threads and closes their connections.
    pub(super) fn stop(&self) {
        self.inbox.close();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!(path = %self.shared.path.display(), "a reader of the store panicked");
            }
        }
    }
}

fn run(connection: &Connection, shared: &Shared, inbox: &Inbox<Read>) {
    let _attendance = inbox.attend();
    let _ended = shared.ended.clone().drop_guard();
    loop {
        match inbox.receive(None, |_| false) {
            Received::Items(reads) => {
                reads.into_iter().for_each(|read| answer(connection, shared, read));
            }
            Received::Deadline => {}
            Received::Closed => return,
        }
    }
}

/// Answers one read. Where the asker has gone, nobody misses the answer.
fn answer(connection: &Connection, shared: &Shared, read: Read) {
    let path = &shared.path;
    match read {
        Read::Get { key, reply } if !reply.is_closed() => {
            let result = snapshot(connection, shared, key.as_str())
                .and_then(|snapshot| read::get(&snapshot, &key))
                .inspect(|found| shared.view.remember_value(&key, found));
            reply.send(result.map_err(|stop| stop.into_read_error(path))).ok();
        }
        Read::List { request, reply, place } if !reply.is_closed() => {
            let result = snapshot(connection, shared, &request.prefix)
                .and_then(|snapshot| read::list(&snapshot, &request))
                .inspect(|found| shared.view.remember_page(&request, found));
            drop(place);
            reply.send(result.map_err(|stop| stop.into_read_error(path))).ok();
        }
        Read::Begin { request, reply, place } if !reply.is_closed() => {
            let result = snapshot(connection, shared, &request.prefix)
                .and_then(|snapshot| read::begin(&snapshot, &request))
                .inspect(|begun| {
                    if begun.rest.is_empty() {
                        shared.view.remember_page(&request, &begun.first);
                    }
                });
            drop(place);
            reply.send(result.map_err(|stop| stop.into_read_error(path))).ok();
        }
        Read::Values { found, revision, reply, place } if !reply.is_closed() => {
            // What waited for the disk is in what was found.
            let result = snapshot(connection, shared, NOTHING)
                .and_then(|snapshot| read::values(&snapshot, found, revision));
            drop(place);
            reply.send(result.map_err(|stop| stop.into_read_error(path))).ok();
        }
        Read::History { request, reply, place } if !reply.is_closed() => {
            let result = snapshot(connection, shared, &request.prefix)
                .and_then(|snapshot| history::read(&snapshot, &request));
            drop(place);
            reply.send(result.map_err(|stop| stop.into_watch_error(path))).ok();
        }
        Read::Get { .. }
        | Read::List { .. }
        | Read::Begin { .. }
        | Read::Values { .. }
        | Read::History { .. } => {}
    }
}

/// The overlay first, then the file: see the invariant of the view.
fn snapshot<'c>(
    connection: &'c Connection,
    shared: &Shared,
    prefix: &str,
) -> Result<Snapshot<'c>, Stop> {
    let overlay = shared.view.lock().overlay(prefix);
    let snapshot = Snapshot::take(connection, overlay)?;
    shared.view.seen(snapshot.revision);
    Ok(snapshot)
}
