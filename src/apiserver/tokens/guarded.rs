//! The store as the API server uses it: whatever rests on an object is told before the writer of it
//! has an answer.

use super::cache::Cache;
use crate::api::Revision;
use crate::storage::{
    Commit, CommitError, Key, ListRequest, Lookup, Op, Page, ReadError, Store, Watch, WatchError,
    WatchRequest,
};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What tokens rest on.
pub(super) const PREFIXES: &[&str] =
    &["/core/serviceaccounts/", "/core/secrets/", "/core/pods/", "/core/nodes/"];

/// See the module.
#[derive(Debug)]
pub(in super::super) struct GuardedStore {
    inner: Arc<dyn Store>,
    tokens: Arc<Cache>,
}

impl GuardedStore {
    pub(super) fn new(inner: Arc<dyn Store>, tokens: Arc<Cache>) -> Self {
        Self { inner, tokens }
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
        self.inner.list(request)
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Revision, CommitError>> {
        let matters = |key: &&Key| PREFIXES.iter().any(|prefix| key.as_str().starts_with(prefix));
        let written = commit.ops.iter().filter(|op| !matches!(op, Op::Require { .. }));
        let keys: Vec<_> = written.map(Op::key).filter(matters).cloned().collect();
        if keys.is_empty() {
            return self.inner.commit(commit);
        }
        Box::pin(async move {
            let outcome = self.inner.commit(commit).await;
            // Also where it failed: whether nothing has happened then is not for this to judge.
            for key in &keys {
                self.tokens.forget(key);
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
