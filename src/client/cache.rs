//! A typed copy of what a watch shows, shared by everyone in this process who reads that kind.
//!
//! Start at [`Cache`]. Architecture invariant: readers never wait for the API server and never block
//! it; they read an immutable `Arc` of each object.

use super::watch::{Item, Watcher};
use super::{ApiObject, Client, Selection, key_of};
use crate::api::{ObjectKey, Revision};
use crate::stdx::{Tasks, Wanted};
use futures_util::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, RwLock};
use tokio::sync::watch;

/// What changed for one key. `old` and `new` are never both `None`.
#[derive(Debug)]
pub struct Change<K> {
    pub key: ObjectKey,
    pub old: Option<Arc<K>>,
    pub new: Option<Arc<K>>,
}

type OnChange<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// A typed copy of what a watch shows. Knows through which revision it has seen.
pub struct Cache<K> {
    objects: RwLock<Objects<K>>,
    /// Held while a change is applied and told, so that everybody is told every change in order.
    /// Not the lock that readers take: those who are told may read this cache and others.
    listeners: Mutex<Vec<OnChange<K>>>,
    seen: watch::Sender<Option<Progress>>,
    /// What somebody waits for.
    wanted: Arc<Wanted>,
}

/// Through which revision a cache has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    revision: Revision,
    /// Grows when the store was set back, to an older backup of it: the revisions that were waited
    /// for before may never come.
    epoch: u64,
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
        let cache = Arc::new(Self {
            objects: RwLock::default(),
            listeners: Mutex::default(),
            seen: watch::Sender::new(None),
            wanted: watcher.wanted(),
        });
        let (filled, shutdown) = (Arc::clone(&cache), tasks.shutdown());
        tasks.spawn(K::URL_PATH_SEGMENT, async move {
            shutdown.run_until_cancelled(filled.fill(watcher)).await;
        });
        cache
    }

    async fn fill(&self, mut watcher: Watcher<K>) {
        loop {
            let item = watcher.next().await;
            self.take(item, watcher.revision());
        }
    }

    fn take(&self, item: Item<K>, revision: Revision) {
        let listeners = self.listeners.lock().expect("no panics under this lock");
        let changes = {
            let mut objects = self.objects.write().expect("no panics under this lock");
            match item {
                Item::Listed(listed) => objects.replace(listed),
                Item::Applied(object) => objects.insert(object),
                Item::Deleted(object) => objects.remove(&key_of(object.metadata())),
                Item::Progress => Vec::new(),
            }
        };
        for change in &changes {
            listeners.iter().for_each(|listener| listener(change));
        }
        drop(listeners);
        self.seen.send_modify(|seen| {
            let epoch = match *seen {
                Some(before) => before.epoch + u64::from(revision < before.revision),
                None => 0,
            };
            *seen = Some(Progress { revision, epoch });
        });
    }

    /// Waits until the cache has been filled for the first time.
    pub async fn synced(&self) {
        self.wait_for(|_| true).await;
    }

    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.seen.borrow().is_some()
    }

    /// Every change through this revision is in the cache, and its listeners have been told.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.seen.borrow().map(|seen| seen.revision).unwrap_or_default()
    }

    /// Waits until the cache has seen `revision`: everything that the API server acknowledged at or
    /// before it.
    pub async fn wait_seen(&self, revision: Revision) {
        let epoch = self.seen.borrow().map_or(0, |seen| seen.epoch);
        if self.revision() < revision {
            self.wanted.raise(revision.0);
        }
        self.wait_for(|seen| seen.revision >= revision || seen.epoch != epoch).await;
    }

    async fn wait_for(&self, mut is_enough: impl FnMut(Progress) -> bool + Send) {
        let mut seen = self.seen.subscribe();
        let reached = seen.wait_for(|seen| seen.is_some_and(&mut is_enough)).await;
        reached.expect("the sender is in self");
    }

    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.read(|objects| objects.by_key.get(key).cloned())
    }

    /// All objects, in the order of their keys.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<K>> {
        self.read(|objects| objects.by_key.values().cloned().collect())
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
        let first = ObjectKey::namespaced(namespace, start);
        let is_there = |key: &ObjectKey| {
            key.namespace.as_deref() == Some(namespace) && key.name.starts_with(start)
        };
        self.read(|objects| {
            let range = (Bound::Included(first), Bound::Unbounded);
            let from_there = objects.by_key.range::<ObjectKey, _>(range);
            from_there
                .take_while(|(key, _)| is_there(key))
                .map(|(_, object)| object)
                .filter(|object| is_wanted(object))
                .cloned()
                .collect()
        })
    }

    /// The objects whose controller is the object with this uid.
    #[must_use]
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.read(|objects| {
            let keys = objects.by_controller.get(uid).into_iter().flatten();
            keys.filter_map(|key| objects.by_key.get(key)).cloned().collect()
        })
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.read(|objects| objects.by_key.len())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read<R>(&self, look: impl FnOnce(&Objects<K>) -> R) -> R {
        look(&self.objects.read().expect("no panics under this lock"))
    }

    /// Calls `listener` on every change, in order, beginning with what is there already.
    ///
    /// It is called by the task that fills the cache, so it turns the change into a key, queues it,
    /// and does nothing slow; it may read caches, and must not call `on_change` of this one.
    pub fn on_change(&self, listener: impl Fn(&Change<K>) + Send + Sync + 'static) {
        let mut listeners = self.listeners.lock().expect("no panics under this lock");
        for object in self.list() {
            listener(&Change { key: key_of(object.metadata()), old: None, new: Some(object) });
        }
        listeners.push(Box::new(listener));
    }
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
        formatter.debug_struct("Cache").field("seen", &*self.seen.borrow()).finish_non_exhaustive()
    }
}

/// The objects with their index.
#[derive(Debug)]
struct Objects<K> {
    by_key: BTreeMap<Arc<ObjectKey>, Arc<K>>,
    by_controller: BTreeMap<Box<str>, BTreeSet<Arc<ObjectKey>>>,
}

impl<K> Default for Objects<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), by_controller: BTreeMap::new() }
    }
}

impl<K: ApiObject> Objects<K> {
    /// Makes these all the objects there are.
    fn replace(&mut self, listed: Vec<K>) -> Vec<Change<K>> {
        let keys: BTreeSet<_> = listed.iter().map(|object| key_of(object.metadata())).collect();
        let gone = self.by_key.keys().filter(|key| !keys.contains(&***key)).cloned();
        let gone: Vec<_> = gone.collect();
        let mut changes: Vec<_> = gone.iter().flat_map(|key| self.remove(key)).collect();
        for object in listed {
            changes.extend(self.insert(object));
        }
        changes
    }

    /// Two changes where the object took the place of another of the same name, none where it is
    /// the one that is here.
    fn insert(&mut self, object: K) -> Vec<Change<K>> {
        let key = key_of(object.metadata());
        let mut changes = Vec::new();
        if let Some(old) = self.by_key.get(&key) {
            let (old, new) = (old.metadata(), object.metadata());
            if old.uid != new.uid {
                changes = self.remove(&key);
            } else if old.resource_version == new.resource_version && new.resource_version.is_some()
            {
                return changes;
            }
        }
        let shared = match self.by_key.get_key_value(&key) {
            Some((shared, _)) => Arc::clone(shared),
            None => Arc::new(key.clone()),
        };
        let new = Arc::new(object);
        let old = self.by_key.insert(Arc::clone(&shared), Arc::clone(&new));
        let old_controller = old.as_deref().and_then(|old| controller_uid(old.metadata()));
        let new_controller = controller_uid(new.metadata());
        if old_controller != new_controller {
            self.unlink(&shared, old_controller);
            if let Some(uid) = new_controller {
                self.by_controller.entry(uid.into()).or_default().insert(shared);
            }
        }
        changes.push(Change { key, old, new: Some(new) });
        changes
    }

    fn remove(&mut self, key: &ObjectKey) -> Vec<Change<K>> {
        let Some((shared, old)) = self.by_key.remove_entry(key) else { return Vec::new() };
        self.unlink(&shared, controller_uid(old.metadata()));
        vec![Change { key: key.clone(), old: Some(old), new: None }]
    }

    fn unlink(&mut self, key: &Arc<ObjectKey>, controller: Option<&str>) {
        let Some(uid) = controller else { return };
        if let Some(keys) = self.by_controller.get_mut(uid) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_controller.remove(uid);
            }
        }
    }
}

fn controller_uid(metadata: &ObjectMeta) -> Option<&str> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}
