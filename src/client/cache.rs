//! A typed copy of what a watch shows, shared by everyone in this process who reads that kind.
//!
//! Start at [`Cache`]. Architecture invariant: readers never wait for the API server and never block
//! it; they read an immutable `Arc` of each object.

use super::held::{Core, Held, Shared, typed, typed_ref};
use super::watch::Watcher;
use super::{ApiObject, Client, Selection};
use crate::api::{ObjectKey, Revision};
use crate::stdx::Tasks;
use futures_util::future::BoxFuture;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// What changed for one key. `old` and `new` are never both `None`.
#[derive(Debug)]
pub struct Change<K> {
    pub key: ObjectKey,
    pub old: Option<Arc<K>>,
    pub new: Option<Arc<K>>,
}

/// A typed copy of what a watch shows. Knows through which revision it has seen.
pub struct Cache<K> {
    core: Core,
    kind: PhantomData<fn() -> K>,
}

/// What knows through which revision it has seen: a [`Cache`] of any kind.
pub trait Seen: Send + Sync {
    /// Waits until there is something to see at all.
    fn synced(&self) -> BoxFuture<'_, ()>;

    /// Waits until every change through `revision` has been seen.
    fn wait_seen(&self, revision: Revision) -> BoxFuture<'_, ()>;
}

impl<K: ApiObject> Cache<K> {
    /// Begins to watch. The cache is empty until it is [synced](Self::synced).
    pub fn start(client: Client, selection: Selection, tasks: &mut Tasks) -> Arc<Self> {
        Self::filled_by(Watcher::new(client, &selection), tasks)
    }

    /// As [`start`](Self::start), for readers who never [wait for a revision](Self::wait_seen): such
    /// a wait would take about a minute. In return nothing wakes the cache but changes of what it
    /// holds.
    pub fn start_unawaited(client: Client, selection: Selection, tasks: &mut Tasks) -> Arc<Self> {
        Self::filled_by(Watcher::with_seldom_bookmarks(client, &selection), tasks)
    }

    fn filled_by(watcher: Watcher<K>, tasks: &mut Tasks) -> Arc<Self> {
        let core = Core::new(watcher.wanted());
        let cache = Arc::new(Self { core, kind: PhantomData });
        let (filled, shutdown) = (Arc::clone(&cache), tasks.shutdown());
        tasks.spawn(K::URL_PATH_SEGMENT, async move {
            shutdown.run_until_cancelled(filled.fill(watcher)).await;
        });
        cache
    }

    async fn fill(&self, mut watcher: Watcher<K>) {
        loop {
            let item = watcher.next().await.map(|object| Arc::new(object) as Shared);
            self.core.take(item, watcher.revision());
        }
    }

    /// Waits until the cache has been filled for the first time.
    pub async fn synced(&self) {
        self.core.wait_synced().await;
    }

    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.core.seen().is_some()
    }

    /// Every change through this revision is in the cache, and its listeners have been told.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.core.seen().map(|seen| seen.revision).unwrap_or_default()
    }

    /// Waits until the cache has seen `revision`: everything that the API server acknowledged at or
    /// before it.
    pub async fn wait_seen(&self, revision: Revision) {
        self.core.wait_seen(revision).await;
    }

    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.core.get(key).map(typed)
    }

    /// All objects, in the order of their keys.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<K>> {
        all_typed(self.core.list())
    }

    #[must_use]
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.list_where(namespace, |_| true)
    }

    /// The objects of a namespace that `is_wanted` picks. It is called while readers and the filling
    /// task may have to wait, so it only compares.
    #[must_use]
    pub fn list_where(&self, namespace: &str, is_wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.list_beginning(namespace, "", is_wanted)
    }

    /// As [`list_where`](Self::list_where), of those whose names begin with `start`: no others are
    /// looked through.
    #[must_use]
    pub fn list_beginning(
        &self,
        namespace: &str,
        start: &str,
        is_wanted: impl Fn(&K) -> bool,
    ) -> Vec<Arc<K>> {
        let is_wanted = |object: &dyn Held| is_wanted(typed_ref(object));
        all_typed(self.core.list_beginning(namespace, start, &is_wanted))
    }

    /// The objects whose controller is the object with this uid.
    #[must_use]
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        all_typed(self.core.owned_by(uid))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.core.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `listener` on every change, in order, beginning with what is there already.
    ///
    /// It is called by the task that fills the cache, so it turns the change into a key, queues it,
    /// and does nothing slow; it may read caches, and must not call `on_change` of this one.
    pub fn on_change(&self, listener: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.core.on_change(Box::new(move |changed| {
            let of = |object: &Option<Shared>| object.clone().map(typed);
            let (key, old, new) = (changed.key.clone(), of(&changed.old), of(&changed.new));
            listener(&Change { key, old, new });
        }));
    }
}

fn all_typed<K: ApiObject>(objects: Vec<Shared>) -> Vec<Arc<K>> {
    objects.into_iter().map(typed).collect()
}

impl<K: ApiObject> Seen for Cache<K> {
    fn synced(&self) -> BoxFuture<'_, ()> {
        Box::pin(Cache::synced(self))
    }

    fn wait_seen(&self, revision: Revision) -> BoxFuture<'_, ()> {
        Box::pin(Cache::wait_seen(self, revision))
    }
}

impl<K> fmt::Debug for Cache<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cache").field("seen", &self.core.seen()).finish_non_exhaustive()
    }
}
