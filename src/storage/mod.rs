//! The store: keys, bytes and revisions. Knows nothing of Kubernetes kinds.
//!
//! Start at [`Store`]. Architecture invariants: a write that was acknowledged as durable survives a
//! power cut; revisions grow strictly and are never reused; a watch is a gap-free suffix of the
//! history; readers never wait for the writer.

mod hub;
mod listing;
mod seq;
pub mod sqlite;

pub use listing::{Listing, Whole};
pub use sqlite::Sqlite;

use crate::api::Revision;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The largest number of operations in one [`Commit`].
pub const COMMIT_OPS_MAX: usize = 128;

/// The largest value that can be stored, in bytes: upstream's limit for an object (etcd's default
/// request size).
pub const VALUE_BYTES_MAX: usize = 1_572_864;

/// The longest key, in bytes. Group, resource, namespace and name at their longest stay below it.
pub const KEY_BYTES_MAX: usize = 960;

/// The name of a value: `/`-separated segments, such as `/core/pods/default/web`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for Key {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A key with the value it has, and the revision that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    pub value: Bytes,
    pub revision: Revision,
}

/// What a [`Store::get`] found, and as of when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    pub entry: Option<Entry>,
    /// The store's revision at the time of the read.
    pub revision: Revision,
}

/// Which entries to list.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// Only keys that begin with this.
    pub prefix: String,
    /// Only keys greater than this: the last key of the page before.
    pub after: Option<Key>,
    pub limit: Option<NonZeroUsize>,
    /// As of this revision instead of now.
    pub at: Option<Revision>,
}

impl ListRequest {
    /// Everything below `prefix`, as it is now.
    #[must_use]
    pub fn everything(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), after: None, limit: None, at: None }
    }
}

/// Entries in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub entries: Vec<Entry>,
    /// The revision that this page shows: `at`, or the newest.
    pub revision: Revision,
    /// How many entries there are beyond this page. Counted only when `limit` cut the page.
    pub remaining: u64,
}

/// One change of one key, or what a change rests on. Every change but a create says which revision
/// it replaces.
#[derive(Clone, Debug)]
pub enum Op {
    /// Fails with [`CommitError::Exists`] when the key has a value.
    Create { key: Key, value: Bytes },
    /// Fails with [`CommitError::Conflict`] when the key has no value or one of another revision.
    Update { key: Key, value: Bytes, expected: Revision },
    /// Fails as an update does.
    Delete { key: Key, expected: Revision },
    /// Fails as an update does, and changes nothing: what else is in the commit was decided from
    /// this value.
    Require { key: Key, expected: Revision },
}

impl Op {
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Create { key, .. }
            | Self::Update { key, .. }
            | Self::Delete { key, .. }
            | Self::Require { key, .. } => key,
        }
    }

    /// The value that the key is to be given.
    #[must_use]
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            Self::Create { value, .. } | Self::Update { value, .. } => Some(value),
            Self::Delete { .. } | Self::Require { .. } => None,
        }
    }
}

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is on disk.
    Durable,
    /// At once; it reaches the disk with the next durable group or at shutdown, and may be lost in
    /// a crash. For heartbeats. Watchers see it at once; its revision is never reused. Only updates
    /// can wait like this: a commit that also creates or deletes is durable whatever it asks for.
    Coalesced,
}

/// Changes that happen together or not at all, under one revision.
#[derive(Clone, Debug)]
pub struct Commit {
    /// At most [`COMMIT_OPS_MAX`], each of another key.
    pub ops: Vec<Op>,
    pub durability: Durability,
}

/// What happened to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub key: Key,
    pub revision: Revision,
    /// `None`: deleted.
    pub value: Option<Bytes>,
    /// `None`: created.
    pub previous: Option<Bytes>,
}

/// Which events to watch.
#[derive(Clone, Debug)]
pub struct WatchRequest {
    pub prefix: String,
    /// Events with a revision greater than this, all of them and in order.
    pub after: Revision,
    /// Whether to be told of [`WatchItem::Progress`] always. It wakes the watch after every group of
    /// commits, so a thousand watches that do not need it should not ask; see
    /// [`Watch::ask_progress`] and [`Watch::delivered`].
    pub progress: bool,
}

/// The next thing that a watch has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    Event(Arc<Event>),
    /// Every event through this revision has been delivered. Sent after each group of commits to
    /// every watch that asks for it, also to those without matching events; merged when the reader
    /// is slow.
    Progress(Revision),
}

/// A running watch. Dropping it ends it.
pub trait Watch: Send + fmt::Debug {
    /// Waits for the next item. After an error the watch is over. Dropping the future before it is
    /// ready loses nothing.
    fn next(&mut self) -> BoxFuture<'_, Result<WatchItem, WatchError>>;

    /// The revision through which every event has been delivered by now: what a bookmark says.
    /// Costs nothing until it is asked.
    fn delivered(&self) -> Revision;

    /// Asks for [`WatchItem::Progress`] until it has come through this revision.
    fn ask_progress(&mut self, through: Revision);
}

/// A revisioned key-value store.
pub trait Store: Send + Sync + fmt::Debug {
    /// Cancelled when the store has ended: it was closed, or a part of it broke down, after which
    /// it does not answer everything any more.
    fn ended(&self) -> CancellationToken;

    /// The newest revision that anybody has been told of.
    fn revision(&self) -> Revision;

    /// # Errors
    /// Where the store cannot be read.
    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Lookup, ReadError>>;

    /// # Errors
    /// [`ReadError::Compacted`] and [`ReadError::Future`] for an `at` that is not kept.
    fn list(&self, request: ListRequest) -> BoxFuture<'_, Result<Page, ReadError>>;

    /// Everything below a prefix, as it is now.
    ///
    /// # Errors
    /// Where the store cannot be read.
    fn open<'s>(&'s self, prefix: &str) -> BoxFuture<'s, Result<Box<dyn Listing>, ReadError>> {
        let request = ListRequest::everything(prefix);
        Box::pin(async move {
            let page = self.list(request).await?;
            Ok(Box::new(Whole(page)) as Box<dyn Listing>)
        })
    }

    /// # Errors
    /// Where an expectation does not hold or the write could not be made durable; nothing of the
    /// commit has happened then.
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Revision, CommitError>>;

    /// # Errors
    /// [`WatchError::Compacted`] when the history after `request.after` is not kept any more.
    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Box<dyn Watch>, WatchError>>;

    /// Forgets what was replaced or deleted at or before `through`.
    ///
    /// # Errors
    /// Where the store cannot be written.
    fn compact(&self, through: Revision) -> BoxFuture<'_, Result<(), CommitError>>;
}

/// Why a read failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    #[error("revision {requested} has been compacted; the oldest kept is {oldest}")]
    Compacted { requested: Revision, oldest: Revision },
    #[error("revision {requested} is in the future; the newest is {newest}")]
    Future { requested: Revision, newest: Revision },
    #[error("the store cannot be read")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

/// Why a commit did not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    #[error("key {key:?} exists")]
    Exists { key: Key },
    /// `current` is what the key has instead.
    #[error("key {key:?} is not at the expected revision")]
    Conflict { key: Key, current: Option<Entry> },
    #[error("the disk is full")]
    Full,
    /// Malformed: too many operations, one key twice, a value over [`VALUE_BYTES_MAX`] or a key
    /// over [`KEY_BYTES_MAX`].
    #[error("the commit is over a limit: {0}")]
    TooLarge(String),
    #[error("the store cannot be written")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

/// Why a watch could not start or go on. The reader lists again and watches from there.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WatchError {
    #[error("revision {requested} has been compacted; the oldest kept is {oldest}")]
    Compacted { requested: Revision, oldest: Revision },
    #[error("the reader fell more than {backlog_max} events behind")]
    Lagging { backlog_max: usize },
    #[error("the store is shutting down")]
    Closed,
    #[error("the store cannot be read")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
}
