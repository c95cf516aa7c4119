//! The objects of a cache, without their type: what is done with them is compiled once, and not for each kind.

use super::watch::Item;
use super::{ApiObject, key_of};
use crate::api::{ObjectKey, Revision};
use crate::stdx::Wanted;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, RwLock};
use tokio::sync::watch;

/// An object of the one kind that a cache has.
pub(super) trait Held: Any + Send + Sync {
    fn meta(&self) -> &ObjectMeta;
}

impl<K: ApiObject> Held for K {
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }
}

impl fmt::Debug for dyn Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectMeta { namespace, name, .. } = self.meta();
        formatter.debug_struct("Held").field("namespace", namespace).field("name", name).finish()
    }
}

pub(super) type Shared = Arc<dyn Held>;

/// The object as what it is.
///
/// # Panics
/// Where it is of another kind than the cache.
pub(super) fn typed<K: ApiObject>(object: Shared) -> Arc<K> {
    let object: Arc<dyn Any + Send + Sync> = object;
    object.downcast().expect(ONE_KIND)
}

/// As [`typed`].
pub(super) fn typed_ref<K: ApiObject>(object: &dyn Held) -> &K {
    let object: &dyn Any = object;
    object.downcast_ref().expect(ONE_KIND)
}

const ONE_KIND: &str = "a cache has objects of one kind";

/// What changed for one key. `old` and `new` are never both `None`.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) key: ObjectKey,
    pub(super) old: Option<Shared>,
    pub(super) new: Option<Shared>,
}

type Listener = Box<dyn Fn(&Changed) + Send + Sync>;

/// Through which revision a cache has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) revision: Revision,
    /// Grows when the store was set back, to an older backup of it: the revisions that were waited
    /// for before may never come.
    epoch: u64,
}

/// A [`Cache`](super::Cache) without the type of its objects.
pub(super) struct Core {
    objects: RwLock<Objects>,
    /// Held while a change is applied and told, so that everybody is told every change in order.
    /// Not the lock that readers take: those who are told may read this cache and others.
    listeners: Mutex<Vec<Listener>>,
    seen: watch::Sender<Option<Progress>>,
    /// What somebody waits for.
    wanted: Arc<Wanted>,
}

impl Core {
    pub(super) fn new(wanted: Arc<Wanted>) -> Self {
        Self {
            objects: RwLock::default(),
            listeners: Mutex::default(),
            seen: watch::Sender::new(None),
            wanted,
        }
    }

    pub(super) fn take(&self, item: Item<Shared>, revision: Revision) {
        let listeners = self.listeners.lock().expect("no panics under this lock");
        let changes = {
            let mut objects = self.objects.write().expect("no panics under this lock");
            match item {
                Item::Listed(listed) => objects.replace(listed),
                Item::Applied(object) => objects.insert(object),
                Item::Deleted(object) => objects.remove(&key_of(object.meta())),
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

    /// Through which revision everything has been seen; nothing before the cache is filled.
    pub(super) fn seen(&self) -> Option<Progress> {
        *self.seen.borrow()
    }

    pub(super) async fn wait_synced(&self) {
        self.wait_for(|_| true).await;
    }

    pub(super) async fn wait_seen(&self, revision: Revision) {
        let seen = self.seen();
        if seen.is_none_or(|seen| seen.revision < revision) {
            self.wanted.raise(revision.0);
        }
        let epoch = seen.map_or(0, |seen| seen.epoch);
        self.wait_for(|seen| seen.revision >= revision || seen.epoch != epoch).await;
    }

    async fn wait_for(&self, mut is_enough: impl FnMut(Progress) -> bool + Send) {
        let mut seen = self.seen.subscribe();
        let reached = seen.wait_for(|seen| seen.is_some_and(&mut is_enough)).await;
        reached.expect("the sender is in self");
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<Shared> {
        self.read(|objects| objects.by_key.get(key).cloned())
    }

    pub(super) fn list(&self) -> Vec<Shared> {
        self.read(|objects| objects.by_key.values().cloned().collect())
    }

    pub(super) fn list_beginning(
        &self,
        namespace: &str,
        start: &str,
        is_wanted: &dyn Fn(&dyn Held) -> bool,
    ) -> Vec<Shared> {
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
                .filter(|object| is_wanted(&***object))
                .cloned()
                .collect()
        })
    }

    pub(super) fn owned_by(&self, uid: &str) -> Vec<Shared> {
        self.read(|objects| {
            let keys = objects.by_controller.get(uid).into_iter().flatten();
            keys.filter_map(|key| objects.by_key.get(key)).cloned().collect()
        })
    }

    pub(super) fn len(&self) -> usize {
        self.read(|objects| objects.by_key.len())
    }

    fn read<R>(&self, look: impl FnOnce(&Objects) -> R) -> R {
        look(&self.objects.read().expect("no panics under this lock"))
    }

    pub(super) fn on_change(&self, listener: Listener) {
        let mut listeners = self.listeners.lock().expect("no panics under this lock");
        for object in self.list() {
            listener(&Changed { key: key_of(object.meta()), old: None, new: Some(object) });
        }
        listeners.push(listener);
    }
}

/// The objects with their index.
#[derive(Debug, Default)]
struct Objects {
    by_key: BTreeMap<Arc<ObjectKey>, Shared>,
    by_controller: BTreeMap<Box<str>, BTreeSet<Arc<ObjectKey>>>,
}

impl Objects {
    /// Makes these all the objects there are.
    fn replace(&mut self, listed: Vec<Shared>) -> Vec<Changed> {
        let keys: BTreeSet<_> = listed.iter().map(|object| key_of(object.meta())).collect();
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
    fn insert(&mut self, new: Shared) -> Vec<Changed> {
        let key = key_of(new.meta());
        let mut changes = Vec::new();
        if let Some(old) = self.by_key.get(&key) {
            let (old, now) = (old.meta(), new.meta());
            if old.uid != now.uid {
                changes = self.remove(&key);
            } else if old.resource_version == now.resource_version && now.resource_version.is_some()
            {
                return changes;
            }
        }
        let shared = match self.by_key.get_key_value(&key) {
            Some((shared, _)) => Arc::clone(shared),
            None => Arc::new(key.clone()),
        };
        let old = self.by_key.insert(Arc::clone(&shared), Arc::clone(&new));
        let old_controller = old.as_deref().and_then(|old| controller_uid(old.meta()));
        let new_controller = controller_uid(new.meta());
        if old_controller != new_controller {
            self.unlink(&shared, old_controller);
            if let Some(uid) = new_controller {
                self.by_controller.entry(uid.into()).or_default().insert(shared);
            }
        }
        changes.push(Changed { key, old, new: Some(new) });
        changes
    }

    fn remove(&mut self, key: &ObjectKey) -> Vec<Changed> {
        let Some((shared, old)) = self.by_key.remove_entry(key) else { return Vec::new() };
        self.unlink(&shared, controller_uid(old.meta()));
        vec![Changed { key: key.clone(), old: Some(old), new: None }]
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
