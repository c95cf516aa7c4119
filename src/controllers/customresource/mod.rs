//! Accepts the names that CustomResourceDefinitions ask for, and deletes what is left of their kinds
//! when they go.
//!
//! Start at [`plan()`]. Upstream has a loop for each condition, inside its API server
//! (apiextensions pkg/controller/{status,establish,nonstructuralschema,apiapproval,finalizer}, v1.35).

mod names;
mod plan;
#[cfg(test)]
mod tests;

pub use plan::{Content, Observed, Structure, plan};

use super::Caches;
use super::definition::Definition;
use super::metadata::{ACCEPT_METADATA, MetadataFeed, News, Sketch};
use crate::api::ObjectKey;
use crate::client::{Cache, Client, ResourceType, Seen, Selection};
use crate::control::{Attempt, Controller, Plan, Queue};
use crate::registry::kinds::apiextensions::conditions;
use crate::stdx::chain;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use plan::is_cleaned_up_here;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Looks at definitions, and at the objects of those that go.
#[derive(Debug)]
pub struct CustomResourceController {
    client: Client,
    definitions: Arc<Cache<Definition>>,
}

impl CustomResourceController {
    #[must_use]
    pub fn new(client: Client, caches: &Caches) -> Self {
        Self { client, definitions: Arc::clone(&caches.definitions) }
    }

    /// Queues a definition and all others of its group when it changes, and one that goes when an
    /// object of its kind has gone.
    #[must_use]
    pub(super) fn queue(&self, feed: &MetadataFeed) -> Queue<ObjectKey> {
        let queue = Queue::new();
        let (changed, definitions) = (queue.clone(), Arc::clone(&self.definitions));
        self.definitions.on_change(move |change| {
            let Some(of) = change.new.as_ref().or(change.old.as_ref()) else { return };
            let names = |definition: &Definition| {
                (definition.spec.names.clone(), definition.status.accepted_names.clone())
            };
            changed.add(&change.key);
            // What another has given up may be had now.
            if change.old.as_deref().map(names) != change.new.as_deref().map(names) {
                of_group(&definitions, &of.spec.group).for_each(|key| changed.add(&key));
            }
        });
        let (changed, kinds) = (queue.clone(), feed.kinds().clone());
        let definitions = Arc::clone(&self.definitions);
        feed.on_news(move |kind, news: &News<'_>| {
            let News::Deleted(_) = news else { return };
            let resource = &kinds.get(kind).resource;
            let key = ObjectKey::cluster(format!("{}.{}", resource.plural, resource.group));
            if definitions.get(&key).is_some_and(|definition| is_cleaned_up_here(&definition)) {
                changed.add(&key);
            }
        });
        queue
    }

    /// Whether the schemas are structural. All that were written here are, but of those that keep unknown
    /// fields: these may be older, and are looked at.
    async fn structure(&self, definition: &Definition) -> Structure {
        if !definition.spec.preserve_unknown_fields {
            return Structure::Sound;
        }
        let key = crate::client::key_of(&definition.metadata);
        match self.client.get::<CustomResourceDefinition>(&key).await {
            Ok(whole) => conditions::non_structural(&whole)
                .map_or(Structure::Sound, |condition| Structure::Odd(Box::new(condition))),
            Err(_error) => Structure::Unknown,
        }
    }

    /// What there is of the definition's objects, by namespace; `None` is those of the cluster.
    async fn content(&self, resource: &ResourceType) -> Result<Content, String> {
        let everywhere = Selection::default();
        let list = self.client.list_as::<Sketch>(resource, &everywhere, ACCEPT_METADATA).await;
        let list = list.map_err(|error| chain(&error))?;
        let mut content: BTreeMap<_, usize> = BTreeMap::new();
        for sketch in &list.items {
            let undeleted =
                content.entry(sketch.namespace.as_deref().map(str::to_owned)).or_default();
            *undeleted +=
                usize::from(!sketch.links.as_ref().is_some_and(|links| links.is_deleting));
        }
        Ok(content)
    }
}

fn of_group(definitions: &Cache<Definition>, group: &str) -> impl Iterator<Item = ObjectKey> {
    let all = definitions.list().into_iter();
    let of_group: Vec<_> = all.filter(|definition| definition.spec.group == group).collect();
    of_group.into_iter().map(|definition| crate::client::key_of(&definition.metadata))
}

impl Controller for CustomResourceController {
    const NAME: &'static str = "customresourcedefinition-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, attempt: Attempt) -> Option<Observed> {
        let definition = self.definitions.get(key)?;
        let all = self.definitions.list().into_iter();
        let others = all.filter(|other| {
            other.spec.group == definition.spec.group
                && other.metadata.name != definition.metadata.name
        });
        let content = match definition.entry().filter(|_| is_cleaned_up_here(&definition)) {
            Some(entry) => Some(self.content(&entry.resource).await),
            None => None,
        };
        let structure = self.structure(&definition).await;
        let others = others.collect();
        Some(Observed { others, definition, content, structure, now: attempt.now })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![(ResourceType::of::<Definition>(), Arc::clone(&self.definitions) as Arc<dyn Seen>)]
    }
}
