//! The store as the API server uses it: whatever is remembered of an object is forgotten before the
//! writer of it has an answer.
//!
//! Start at [`Memory`]. Writes of others, or those whose writer has gone meanwhile, are heard of by
//! a watch ([`followers`]).

use super::follow::Follower;
use super::tally::StoreTally;
use crate::api::Revision;
use crate::stdx::monotonic;
use crate::storage::{
    Commit, CommitError, Event, Key, ListRequest, Listing, Lookup, Op, Page, ReadError, Store,
    Watch, WatchError, WatchRequest,
};
use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What is remembered as long as the objects it rests on are as they were.
pub(super) trait Memory: fmt::Debug + Send + Sync {
    /// Below which keys those objects are.
    fn prefixes(&self) -> &'static [&'static str];

    /// Something is about to be written at `key`, or it is about to be deleted: from now on until
    /// [`Memory::written`], others may read it or hear of it, and its writer has no answer yet.
    fn writing(&self, _key: &Key) {}

    /// What was begun with [`Memory::writing`] has happened, or has failed.
    fn written(&self, key: &Key) {
        self.forget(key);
    }

    /// Something was written at `key`, or it was deleted.
    fn forget(&self, key: &Key);

    /// Whatever was written is not known.
    fn forget_all(&self);
}

/// What has to run so that a memory hears of changes that others make.
pub(super) fn followers(memory: &Arc<dyn Memory>) -> Vec<Follower> {
    let follower = |prefix: &&'static str| {
        let (on_event, on_loss) = (Arc::clone(memory), Arc::clone(memory));
        Follower::of_changes(
            prefix,
            move |event: &Event| on_event.forget(&event.key),
            move || on_loss.forget_all(),
        )
    };
    memory.prefixes().iter().map(follower).collect()
}

/// See the module.
#[derive(Debug)]
pub(super) struct GuardedStore {
    inner: Arc<dyn Store>,
    memories: Vec<Arc<dyn Memory>>,
    tally: Arc<StoreTally>,
}

impl GuardedStore {
    pub(super) fn new(
        inner: Arc<dyn Store>,
        memories: Vec<Arc<dyn Memory>>,
        tally: Arc<StoreTally>,
    ) -> Self {
        Self { inner, memories, tally }
    }

    fn matters(&self, key: &Key) -> bool {
        self.remembering(key).next().is_some()
    }

    fn remembering<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a Arc<dyn Memory>> {
        let is_below = |prefix: &&str| key.as_str().starts_with(prefix);
        self.memories.iter().filter(move |memory| memory.prefixes().iter().any(is_below))
    }

    fn forget(&self, key: &Key) {
        self.remembering(key).for_each(|memory| memory.forget(key));
    }

    fn writing(&self, keys: Vec<Key>) -> Writing<'_> {
        for key in &keys {
            self.remembering(key).for_each(|memory| memory.writing(key));
        }
        Writing { store: self, keys }
    }
}

/// A write of something remembered. It ends when this is dropped, also when its writer has gone.
struct Writing<'a> {
    store: &'a GuardedStore,
    keys: Vec<Key>,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        for key in &self.keys {
            self.store.remembering(key).for_each(|memory| memory.written(key));
        }
    }
}

impl Store for GuardedStore {
    fn ended(&self) -> CancellationToken {
        self.inner.ended()
    }

    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Lookup, ReadError>> {
        self.inner.get(key)
    }

    fn list(&self, request: ListRequest) -> BoxFuture<'_, Result<Page, ReadError>> {
        Box::pin(async move {
            let began = monotonic();
            let page = self.inner.list(request).await;
            self.tally.lists.note(began);
            page
        })
    }

    fn open<'s>(&'s self, prefix: &str) -> BoxFuture<'s, Result<Box<dyn Listing>, ReadError>> {
        let opened = self.inner.open(prefix);
        Box::pin(async move {
            let began = monotonic();
            let listing = opened.await;
            self.tally.lists.note(began);
            listing
        })
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Revision, CommitError>> {
        let written = commit.ops.iter().filter(|op| !matches!(op, Op::Require { .. }));
        let keys: Vec<_> = written.map(Op::key).filter(|key| self.matters(key)).cloned().collect();
        Box::pin(async move {
            let writing = self.writing(keys);
            let began = monotonic();
            let outcome = self.inner.commit(commit).await;
            self.tally.commits.note(began);
            // Also where it failed: whether nothing has happened then is not for this to judge.
            drop(writing);
            // What is not as it was expected is not as it is remembered either.
            if let Err(CommitError::Exists { key } | CommitError::Conflict { key, .. }) = &outcome {
                self.forget(key);
            }
            outcome
        })
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Box<dyn Watch>, WatchError>> {
        self.inner.watch(request)
    }

    fn compact(&self, through: Revision) -> BoxFuture<'_, Result<(), CommitError>> {
        self.inner.compact(through)
    }
}
