//! What the scheduler watches, and how each change reaches the snapshot and the queue.

use super::Scheduler;
use super::event::Event;
use super::state::State;
use crate::api::labels::Selector;
use crate::client::{ApiObject, Cache, Change, Client, Selection};
use crate::stdx::{Tasks, monotonic};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::{
    CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment,
};
use std::sync::Arc;

/// What the scheduler looks at, of the whole cluster. Others may share these.
#[derive(Clone, Debug)]
pub struct Caches {
    pub pods: Arc<Cache<Pod>>,
    pub nodes: Arc<Cache<Node>>,
    pub namespaces: Arc<Cache<Namespace>>,
    pub services: Arc<Cache<Service>>,
    pub replication_controllers: Arc<Cache<ReplicationController>>,
    pub replica_sets: Arc<Cache<ReplicaSet>>,
    pub stateful_sets: Arc<Cache<StatefulSet>>,
    pub budgets: Arc<Cache<PodDisruptionBudget>>,
    pub claims: Arc<Cache<PersistentVolumeClaim>>,
    pub volumes: Arc<Cache<PersistentVolume>>,
    pub classes: Arc<Cache<StorageClass>>,
    pub csi_nodes: Arc<Cache<CSINode>>,
    pub csi_drivers: Arc<Cache<CSIDriver>>,
    pub capacities: Arc<Cache<CSIStorageCapacity>>,
    pub attachments: Arc<Cache<VolumeAttachment>>,
}

impl Caches {
    /// Begins to watch all of them. Nothing here waits for a revision, so that only changes wake it.
    #[must_use]
    pub fn start(client: &Client, tasks: &mut Tasks) -> Self {
        Self {
            pods: own(client, tasks),
            nodes: own(client, tasks),
            namespaces: own(client, tasks),
            services: own(client, tasks),
            replication_controllers: own(client, tasks),
            replica_sets: own(client, tasks),
            stateful_sets: own(client, tasks),
            budgets: own(client, tasks),
            claims: own(client, tasks),
            volumes: own(client, tasks),
            classes: own(client, tasks),
            csi_nodes: own(client, tasks),
            csi_drivers: own(client, tasks),
            capacities: own(client, tasks),
            attachments: own(client, tasks),
        }
    }

    /// Waits until all of them are filled.
    pub(super) async fn synced(&self) {
        tokio::join!(
            self.pods.synced(),
            self.nodes.synced(),
            self.namespaces.synced(),
            self.services.synced(),
            self.replication_controllers.synced(),
            self.replica_sets.synced(),
            self.stateful_sets.synced(),
            self.budgets.synced(),
            self.claims.synced(),
            self.volumes.synced(),
            self.classes.synced(),
            self.csi_nodes.synced(),
            self.csi_drivers.synced(),
            self.capacities.synced(),
            self.attachments.synced(),
        );
    }
}

/// A cache of the scheduler's own.
#[must_use]
pub fn own<K: ApiObject>(client: &Client, tasks: &mut Tasks) -> Arc<Cache<K>> {
    Cache::start_unawaited(client.clone(), Selection::default(), tasks)
}

/// Has every change taken in.
pub(super) fn listen(caches: &Caches, scheduler: &Arc<Scheduler>) {
    // What belongs together and where volumes are comes before the pods that depend on it.
    on(&caches.namespaces, scheduler, |state, change| {
        let labels = |new: &Arc<Namespace>| new.metadata.labels.clone().unwrap_or_default();
        state.snapshot.set_namespace(&change.key.name, change.new.as_ref().map(labels));
    });
    on(&caches.services, scheduler, |state, change| {
        let selector = |new: &Arc<Service>| new.spec.as_ref()?.selector.clone();
        let selector =
            change.new.as_ref().and_then(selector).filter(|selector| !selector.is_empty());
        state.snapshot.workloads.set_service(&change.key, selector);
    });
    listen_to_owners(caches, scheduler);
    on(&caches.budgets, scheduler, |state, change| {
        let key = (change.key.namespace.clone().unwrap_or_default(), change.key.name.clone());
        match &change.new {
            Some(new) => drop(state.snapshot.budgets.insert(key, Arc::clone(new))),
            None => drop(state.snapshot.budgets.remove(&key)),
        }
    });
    listen_to_storage(caches, scheduler);
    on(&caches.nodes, scheduler, |state, change| {
        state.note_node(&change.key.name, change.old.as_ref(), change.new.as_ref());
    });
    on(&caches.pods, scheduler, |state, change| {
        state.note_pod(&change.key, change.old.as_ref(), change.new.as_ref());
    });
}

fn on<K: ApiObject>(
    cache: &Cache<K>,
    scheduler: &Arc<Scheduler>,
    take: impl Fn(&mut State, &Change<K>) + Send + Sync + 'static,
) {
    let scheduler = Arc::clone(scheduler);
    cache.on_change(move |change| scheduler.note(|state| take(state, change)));
}

fn listen_to_owners(caches: &Caches, scheduler: &Arc<Scheduler>) {
    on(&caches.replication_controllers, scheduler, |state, change| {
        let selector = change.new.as_ref().and_then(|new| new.spec.as_ref()?.selector.clone());
        let selector = selector.map(|labels| Selector::of_labels(&labels));
        state.note_owner("ReplicationController", &change.key, selector);
    });
    on(&caches.replica_sets, scheduler, |state, change| {
        if change.old.is_none() != change.new.is_none() {
            let selector =
                change.new.as_ref().and_then(|new| new.spec.as_ref()).map(|spec| &spec.selector);
            let selector = selector.and_then(|selector| Selector::of_object(Some(selector)).ok());
            state.note_owner("ReplicaSet", &change.key, selector);
        }
    });
    on(&caches.stateful_sets, scheduler, |state, change| {
        if change.old.is_none() != change.new.is_none() {
            let selector =
                change.new.as_ref().and_then(|new| new.spec.as_ref()).map(|spec| &spec.selector);
            let selector = selector.and_then(|selector| Selector::of_object(Some(selector)).ok());
            state.note_owner("StatefulSet", &change.key, selector);
        }
    });
}

fn listen_to_storage(caches: &Caches, scheduler: &Arc<Scheduler>) {
    on(&caches.classes, scheduler, |state, Change { key, old, new }| {
        put(&mut state.snapshot.storage.classes, key.name.clone(), new.as_ref());
        let event = match (old, new) {
            (None, Some(new)) => Some(Event::ClassAdded(new)),
            (Some(old), Some(new)) => Some(Event::ClassChanged(old, new)),
            _ => None,
        };
        state.note_storage(event.as_ref(), monotonic());
    });
    on(&caches.volumes, scheduler, |state, Change { key, old, new }| {
        put(&mut state.snapshot.storage.volumes, key.name.clone(), new.as_ref());
        let event = match (old, new) {
            (None, Some(_)) => Some(Event::VolumeAdded),
            (Some(old), Some(new)) => Some(Event::VolumeChanged(old, new)),
            _ => None,
        };
        state.note_storage(event.as_ref(), monotonic());
    });
    on(&caches.claims, scheduler, |state, Change { key, old, new }| {
        put(&mut state.snapshot.storage.claims, key.clone(), new.as_ref());
        let event = match (old, new) {
            (None, Some(_)) => Some(Event::ClaimAdded(key)),
            (Some(_), Some(_)) => Some(Event::ClaimChanged(key)),
            _ => None,
        };
        state.note_storage(event.as_ref(), monotonic());
    });
    on(&caches.csi_nodes, scheduler, |state, Change { key, old, new }| {
        put(&mut state.snapshot.storage.nodes, key.name.clone(), new.as_ref());
        let event = match (old, new) {
            (None, Some(_)) => Some(Event::CsiNodeAdded),
            (Some(old), Some(new)) => Some(Event::CsiNodeChanged(old, new)),
            _ => None,
        };
        state.note_storage(event.as_ref(), monotonic());
    });
    on(&caches.csi_drivers, scheduler, |state, Change { key, old, new }| {
        put(&mut state.snapshot.storage.drivers, key.name.clone(), new.as_ref());
        let event = match (old, new) {
            (Some(old), Some(new)) => Some(Event::CsiDriverChanged(old, new)),
            _ => None,
        };
        state.note_storage(event.as_ref(), monotonic());
    });
    on(&caches.attachments, scheduler, |state, Change { key, new, .. }| {
        put(&mut state.snapshot.storage.attachments, key.name.clone(), new.as_ref());
        let event = new.is_none().then_some(Event::Detached);
        state.note_storage(event.as_ref(), monotonic());
    });
    on(&caches.capacities, scheduler, |state, Change { key, old, new }| {
        put(&mut state.snapshot.storage.capacities, key.clone(), new.as_ref());
        let event = match (old, new) {
            (None, Some(_)) => Some(Event::CapacityAdded),
            (Some(old), Some(new)) => Some(Event::CapacityChanged(old, new)),
            _ => None,
        };
        state.note_storage(event.as_ref(), monotonic());
    });
}

fn put<Key: Ord, K>(
    map: &mut std::collections::BTreeMap<Key, Arc<K>>,
    key: Key,
    new: Option<&Arc<K>>,
) {
    match new {
        Some(new) => drop(map.insert(key, Arc::clone(new))),
        None => drop(map.remove(&key)),
    }
}
