//! Deletes the content of namespaces that are being deleted, and then lets them go.
//!
//! Start at [`plan()`]. What there is left is asked of the API server itself, kind by kind, and only
//! while a namespace is going; that something has gone is heard from the metadata of all objects.

mod conditions;
mod plan;
#[cfg(test)]
mod tests;

pub use plan::{Content, Left, Observed, plan};

use super::Caches;
use super::kinds::Kinds;
use super::metadata::{ACCEPT_METADATA, MetadataFeed, News, Sketch};
use crate::api::ObjectKey;
use crate::client::{Cache, Client, ResourceType, Seen, Selection};
use crate::control::{Attempt, Controller, Plan, Queue};
use crate::stdx::chain;
use k8s_openapi::api::core::v1::Namespace;
use plan::is_going;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Looks at namespaces, and at all there is in those that are going.
#[derive(Debug)]
pub struct NamespaceController {
    client: Client,
    namespaces: Arc<Cache<Namespace>>,
    kinds: Kinds,
}

impl NamespaceController {
    #[must_use]
    pub(super) fn new(client: Client, caches: &Caches, kinds: Kinds) -> Self {
        Self { client, namespaces: Arc::clone(&caches.namespaces), kinds }
    }

    /// Queues a namespace that is going when it changes, and when something in it has gone.
    #[must_use]
    pub(super) fn queue(&self, feed: &MetadataFeed) -> Queue<ObjectKey> {
        let queue = Queue::new();
        let changed = queue.clone();
        self.namespaces.on_change(move |change| {
            if change.new.as_ref().is_some_and(|namespace| is_going(namespace)) {
                changed.add(&change.key);
            }
        });
        let (changed, namespaces) = (queue.clone(), Arc::clone(&self.namespaces));
        feed.on_news(move |_, news: &News<'_>| {
            let News::Deleted(object) = news else { return };
            let Some(namespace) = &object.namespace else { return };
            let key = ObjectKey::cluster(&**namespace);
            if namespaces.get(&key).is_some_and(|namespace| is_going(&namespace)) {
                changed.add(&key);
            }
        });
        queue
    }

    async fn content(&self, namespace: &str) -> Vec<Content> {
        let selection = Selection::namespace(namespace);
        let kinds = self.kinds.namespaced();
        let mut content = Vec::with_capacity(kinds.len());
        for kind in &kinds {
            let resource = &kind.resource;
            let list = self.client.list_as::<Sketch>(resource, &selection, ACCEPT_METADATA).await;
            let left = match list {
                Ok(list) => Ok(count(&list.items)),
                Err(error) => Err(format!("{resource}: {}", chain(&error))),
            };
            content.push(Content { resource: resource.clone(), left });
        }
        content
    }
}

fn count(objects: &[Sketch]) -> Left {
    let is_deleting =
        |object: &&Sketch| object.links.as_ref().is_some_and(|links| links.is_deleting);
    let mut finalizers = BTreeMap::new();
    for finalizer in objects.iter().flat_map(Sketch::finalizers) {
        *finalizers.entry(finalizer.clone()).or_default() += 1;
    }
    let deleting = objects.iter().filter(is_deleting).count();
    Left { objects: objects.len(), undeleted: objects.len() - deleting, finalizers }
}

impl Controller for NamespaceController {
    const NAME: &'static str = "namespace-controller";
    /// Upstream's `--concurrent-namespace-syncs`.
    const PASSES_AT_ONCE_MAX: usize = 10;
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, attempt: Attempt) -> Option<Observed> {
        let namespace = self.namespaces.get(key).filter(|namespace| is_going(namespace))?;
        let content = self.content(&key.name).await;
        Some(Observed { namespace, content, attempt })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![(ResourceType::of::<Namespace>(), Arc::clone(&self.namespaces) as Arc<dyn Seen>)]
    }
}
