//! Deletes what nobody owns any more, and lets owners go once what they own is gone or has
//! forgotten them: owner references, `foregroundDeletion` and `orphan`, for all kinds alike.
//!
//! Start at [`plan()`]. [`graph`] knows who owns whom and says what is worth a look. Architecture
//! invariant: nothing is deleted on the word of a cache. Each look asks the API server itself for the
//! object and for its owners, and an owner that cannot be found missing counts as there.

mod graph;
mod plan;
#[cfg(test)]
mod tests;

pub use plan::{Observed, plan};

use super::metadata::{ACCEPT_METADATA, Deletion, Item, MetadataFeed, News, Sketch};
use crate::api::ObjectKey;
use crate::client::{Client, ClientError, ResourceType, Seen, Selection};
use crate::control::{Attempt, Controller, Plan, Queue};
use graph::Graph;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use plan::{Object, OwnerState};
use std::sync::{Arc, Mutex, MutexGuard};

/// Looks at objects of all kinds.
#[derive(Debug)]
pub struct GarbageCollector {
    client: Client,
    feed: Arc<MetadataFeed>,
    graph: Arc<Mutex<Graph>>,
}

impl GarbageCollector {
    /// Listens to `feed`, which is started afterwards.
    #[must_use]
    pub(super) fn new(client: Client, feed: &Arc<MetadataFeed>) -> Self {
        let graph = Arc::new(Mutex::new(Graph::new(feed.kinds().clone())));
        Self { client, feed: Arc::clone(feed), graph }
    }

    /// Queues objects that have owners, and those that wait for what they own, when something about
    /// them or their owners changes.
    #[must_use]
    pub fn queue(&self) -> Queue<Item> {
        let queue = Queue::new();
        let (changed, graph) = (queue.clone(), Arc::clone(&self.graph));
        self.feed.on_news(move |kind, news: &News<'_>| {
            let worth = graph.lock().expect("no panics under this lock").note(kind, news);
            worth.iter().for_each(|item| changed.add(item));
        });
        queue
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().expect("no panics under this lock")
    }

    async fn fetch(&self, resource: &ResourceType, key: &ObjectKey) -> Result<Sketch, ClientError> {
        let path = resource.object_path(key, None);
        let answer = self.client.fetch(http::Method::GET, &path, ACCEPT_METADATA, None).await?;
        serde_json::from_slice(&answer).map_err(ClientError::Malformed)
    }

    async fn owner_states(&self, object: &Object) -> Vec<OwnerState> {
        let mut states = Vec::new();
        for owner in object.sketch.owners() {
            states.push(self.owner_state(object, owner).await);
        }
        states
    }

    async fn owner_state(&self, object: &Object, owner: &OwnerReference) -> OwnerState {
        let deletions = {
            let graph = self.graph();
            if graph.is_confirmed(&owner.uid) {
                return OwnerState::Present;
            }
            graph.deletions()
        };
        let Some(kind) = self.feed.kinds().of_owner(owner) else { return OwnerState::Present };
        let kind = self.feed.kinds().get(kind);
        if kind.is_namespaced && object.key.namespace.is_none() {
            return OwnerState::Impossible;
        }
        let namespace = object.key.namespace.clone().filter(|_| kind.is_namespaced);
        let key = ObjectKey { namespace, name: owner.name.clone() };
        match self.fetch(&kind.resource, &key).await {
            Ok(found) if *found.uid != *owner.uid => OwnerState::Absent,
            Ok(found) if found.deletion() == Deletion::Foreground => OwnerState::Waiting,
            Ok(_) => {
                self.graph().confirm(&owner.uid, deletions);
                OwnerState::Present
            }
            Err(error) if error.is_not_found() => OwnerState::Absent,
            Err(_) => OwnerState::Uncertain,
        }
    }

    /// All that is owned by the object: asked of the API server, since what the graph has not seen
    /// yet would be collected once the owner is gone.
    async fn orphans(&self, owner: &Item) -> Result<Vec<Object>, ClientError> {
        let mut orphans = Vec::new();
        for (_, kind) in self.feed.kinds().all() {
            if owner.key.namespace.is_some() && !kind.is_namespaced {
                continue;
            }
            let selection =
                Selection { namespace: owner.key.namespace.clone(), ..Selection::default() };
            let list =
                self.client.list_as::<Sketch>(&kind.resource, &selection, ACCEPT_METADATA).await?;
            let is_owned = |sketch: &Sketch| {
                sketch.owners().iter().any(|reference| *reference.uid == *owner.uid)
            };
            orphans.extend(list.items.into_iter().filter(is_owned).filter_map(|sketch| {
                let name = sketch.links.as_ref()?.name.clone();
                let namespace = sketch.namespace.as_deref().map(ToOwned::to_owned);
                let key = ObjectKey { namespace, name };
                Some(Object { resource: kind.resource.clone(), key, sketch })
            }));
        }
        Ok(orphans)
    }
}

impl Controller for GarbageCollector {
    const NAME: &'static str = "generic-garbage-collector";
    /// Upstream's `--concurrent-gc-syncs`.
    const PASSES_AT_ONCE_MAX: usize = 20;
    type Key = Item;
    type Observed = Observed;

    async fn observe(&self, item: &Item, _attempt: Attempt) -> Option<Observed> {
        self.feed.synced().await;
        if !self.graph().is_worth_a_look(&item.uid) {
            return None;
        }
        let resource = self.feed.kinds().get(item.kind).resource.clone();
        let sketch = match self.fetch(&resource, &item.key).await {
            Ok(sketch) if sketch.uid == item.uid => sketch,
            // It is gone, of which the watch tells as well.
            Ok(_) => return None,
            Err(error) if error.is_not_found() => return None,
            Err(_) => return Some(Observed::uncertain(resource, item)),
        };
        let object = Object { resource, key: item.key.clone(), sketch };
        let orphans = match object.sketch.deletion() {
            Deletion::Orphan => self.orphans(item).await.ok(),
            _ => None,
        };
        let owners = match object.sketch.deletion() {
            Deletion::No => self.owner_states(&object).await,
            _ => Vec::new(),
        };
        let dependents = self.graph().dependents(&item.uid);
        Some(Observed { object, owners, dependents, orphans })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        // Every look asks the API server itself.
        Vec::new()
    }
}

impl Observed {
    /// The object could not be asked for.
    fn uncertain(resource: ResourceType, item: &Item) -> Self {
        let sketch =
            Sketch { uid: Arc::clone(&item.uid), namespace: None, revision: None, links: None };
        Self {
            object: Object { resource, key: item.key.clone(), sketch },
            owners: vec![OwnerState::Uncertain],
            dependents: Vec::new(),
            orphans: None,
        }
    }
}
