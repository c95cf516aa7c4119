//! The metadata of all objects of all kinds, passed on and not kept.
//!
//! Start at [`MetadataFeed`]. The garbage collector and the namespace controller are about every
//! kind there is; they share these watches, and each keeps only what it must.

use crate::api::{ObjectKey, Revision};
use crate::client::watch::{Item as WatchItem, Watcher};
use crate::client::{Client, ResourceType, Selection, Watched};
use crate::registry::KindFacts;
use crate::stdx::Tasks;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::fmt;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Asks for the metadata alone. Upstream's API server wants lists to be called by their own name.
pub(super) const ACCEPT_METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// While it is there, an object that was deleted stays until its dependents are gone.
pub(super) const FOREGROUND_FINALIZER: &str = "foregroundDeletion";
/// While it is there, an object that was deleted stays until its dependents have forgotten it.
pub(super) const ORPHAN_FINALIZER: &str = "orphan";

/// A kind of objects that can be owned, own, or be in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindEntry {
    pub resource: ResourceType,
    pub is_namespaced: bool,
}

impl KindEntry {
    #[must_use]
    pub fn of(facts: &KindFacts) -> Self {
        let resource = ResourceType {
            group: facts.group.clone(),
            version: facts.version.clone(),
            kind: facts.kind.clone(),
            plural: facts.plural.clone(),
        };
        Self { resource, is_namespaced: facts.is_namespaced() }
    }
}

/// A place in [`Kinds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KindIndex(usize);

/// All kinds that are watched.
#[derive(Clone, Debug)]
pub(super) struct Kinds(Arc<[KindEntry]>);

impl Kinds {
    pub(super) fn new(kinds: impl IntoIterator<Item = KindEntry>) -> Self {
        Self(kinds.into_iter().collect())
    }

    pub(super) fn get(&self, index: KindIndex) -> &KindEntry {
        &self.0[index.0]
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (KindIndex, &KindEntry)> {
        self.0.iter().enumerate().map(|(index, kind)| (KindIndex(index), kind))
    }

    /// The kind that an owner reference means: whatever version it was written with.
    pub(super) fn of_owner(&self, owner: &OwnerReference) -> Option<KindIndex> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let is_meant =
            |kind: &KindEntry| kind.resource.kind == owner.kind && kind.resource.group == group;
        self.0.iter().position(is_meant).map(KindIndex)
    }
}

/// An object of any kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    pub(super) kind: KindIndex,
    pub(super) plural: Arc<str>,
    pub(super) key: ObjectKey,
    pub(super) uid: Arc<str>,
}

impl fmt::Display for Item {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.plural, self.key)
    }
}

/// The little of an object that matters here.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "Wire")]
pub(super) struct Sketch {
    pub(super) uid: Arc<str>,
    pub(super) namespace: Option<Box<str>>,
    pub(super) revision: Option<Revision>,
    /// Most objects have none, and are the smaller for it.
    pub(super) links: Option<Box<Links>>,
}

/// What ties an object to others.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Links {
    pub(super) name: String,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) finalizers: Vec<String>,
    pub(super) is_deleting: bool,
}

/// How far an object's deletion has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deletion {
    /// It is not being deleted.
    No,
    /// Nothing more is to be done about it here.
    Ordinary,
    /// It waits until those that it owns, and that block it, are gone.
    Foreground,
    /// It waits until those that it owns have forgotten it.
    Orphan,
}

impl Links {
    pub(super) fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == name)
    }
}

impl Sketch {
    pub(super) fn owners(&self) -> &[OwnerReference] {
        self.links.as_ref().map(|links| links.owners.as_slice()).unwrap_or_default()
    }

    pub(super) fn finalizers(&self) -> &[String] {
        self.links.as_ref().map(|links| links.finalizers.as_slice()).unwrap_or_default()
    }

    pub(super) fn deletion(&self) -> Deletion {
        match &self.links {
            Some(links) if !links.is_deleting => Deletion::No,
            // Where both are set, upstream orphans.
            Some(links) if links.has_finalizer(ORPHAN_FINALIZER) => Deletion::Orphan,
            Some(links) if links.has_finalizer(FOREGROUND_FINALIZER) => Deletion::Foreground,
            Some(_) => Deletion::Ordinary,
            None => Deletion::No,
        }
    }
}

impl Watched for Sketch {
    fn revision(&self) -> Option<Revision> {
        self.revision
    }

    fn trim(&mut self) {}
}

#[derive(Deserialize)]
struct Wire {
    metadata: WireMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMetadata {
    name: String,
    namespace: Option<Box<str>>,
    #[serde(default)]
    uid: Arc<str>,
    resource_version: Option<String>,
    #[serde(default)]
    owner_references: Vec<OwnerReference>,
    #[serde(default)]
    finalizers: Vec<String>,
    deletion_timestamp: Option<IgnoredAny>,
}

impl From<Wire> for Sketch {
    fn from(Wire { metadata }: Wire) -> Self {
        let is_deleting = metadata.deletion_timestamp.is_some();
        let is_linked =
            is_deleting || !metadata.owner_references.is_empty() || !metadata.finalizers.is_empty();
        let links = is_linked.then(|| {
            Box::new(Links {
                name: metadata.name,
                owners: metadata.owner_references,
                finalizers: metadata.finalizers,
                is_deleting,
            })
        });
        Self {
            uid: metadata.uid,
            namespace: metadata.namespace,
            revision: metadata.resource_version.and_then(|text| text.parse().ok()),
            links,
        }
    }
}

/// What happened to the objects of a kind.
#[derive(Debug)]
pub(super) enum News<'a> {
    /// These are all there are.
    Listed(&'a [Sketch]),
    Applied(&'a Sketch),
    Deleted(&'a Sketch),
}

type Listener = Box<dyn Fn(KindIndex, &News<'_>) + Send + Sync>;

/// Passes the metadata of all objects on.
pub(super) struct MetadataFeed {
    kinds: Kinds,
    listeners: Mutex<Vec<Listener>>,
    /// How many kinds have been listed.
    listed: watch::Sender<usize>,
}

impl MetadataFeed {
    pub(super) fn new(kinds: Kinds) -> Arc<Self> {
        let listed = watch::Sender::new(0);
        Arc::new(Self { kinds, listeners: Mutex::default(), listed })
    }

    pub(super) fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// Calls `listener` with everything from now on. Listeners come before [`MetadataFeed::start`],
    /// and do nothing slow.
    pub(super) fn on_news(&self, listener: impl Fn(KindIndex, &News<'_>) + Send + Sync + 'static) {
        self.listeners.lock().expect("no panics under this lock").push(Box::new(listener));
    }

    /// Begins to watch, all kinds in one task.
    pub(super) fn start(self: &Arc<Self>, client: &Client, tasks: &mut Tasks) {
        let (feed, client, shutdown) = (Arc::clone(self), client.clone(), tasks.shutdown());
        tasks.spawn("metadata", async move {
            shutdown.run_until_cancelled(feed.follow(&client)).await;
        });
    }

    async fn follow(&self, client: &Client) {
        let everywhere = Selection::default();
        let watchers = self.kinds.all().map(|(index, kind)| {
            let (client, resource) = (client.clone(), kind.resource.clone());
            (index, Watcher::of_type(client, resource, &everywhere, ACCEPT_METADATA))
        });
        let mut pending: FuturesUnordered<_> =
            watchers.map(|(index, watcher)| next(index, watcher, false)).collect();
        while let Some((index, watcher, mut is_listed, item)) = pending.next().await {
            self.tell(index, &item);
            if matches!(item, WatchItem::Listed(_)) && !is_listed {
                is_listed = true;
                self.listed.send_modify(|listed| *listed += 1);
            }
            pending.push(next(index, watcher, is_listed));
        }
        // There are no kinds to watch.
        std::future::pending::<()>().await;
    }

    fn tell(&self, kind: KindIndex, item: &WatchItem<Sketch>) {
        let news = match item {
            WatchItem::Listed(objects) => News::Listed(objects),
            WatchItem::Applied(object) => News::Applied(object),
            WatchItem::Deleted(object) => News::Deleted(object),
            WatchItem::Progress => return,
        };
        let listeners = self.listeners.lock().expect("no panics under this lock");
        listeners.iter().for_each(|listener| listener(kind, &news));
    }

    /// Waits until every kind has been listed.
    pub(super) async fn synced(&self) {
        let kinds = self.kinds.0.len();
        let reached = self.listed.subscribe().wait_for(|listed| *listed >= kinds).await.is_ok();
        debug_assert!(reached, "the sender is in self");
    }
}

async fn next(
    index: KindIndex,
    mut watcher: Watcher<Sketch>,
    is_listed: bool,
) -> (KindIndex, Watcher<Sketch>, bool, WatchItem<Sketch>) {
    let item = watcher.next().await;
    (index, watcher, is_listed, item)
}

impl fmt::Debug for MetadataFeed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MetadataFeed").field("kinds", &self.kinds).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sketch(metadata: serde_json::Value) -> Sketch {
        serde_json::from_value(json!({"kind": "X", "metadata": metadata})).unwrap()
    }

    #[test]
    fn an_object_without_ties_is_small() {
        let sketch = sketch(json!({"name": "a", "namespace": "b", "uid": "u",
            "resourceVersion": "7", "labels": {"c": "d"}, "creationTimestamp": null}));
        assert_eq!(sketch.links, None);
        assert_eq!(sketch.revision, Some(Revision(7)));
        assert!(std::mem::size_of::<Sketch>() <= 64);
    }

    #[test]
    fn the_way_of_a_deletion_is_read_off_its_finalizers() {
        let at = "2026-11-20T12:00:00Z";
        for (metadata, expected) in [
            (json!({"name": "a"}), Deletion::No),
            (json!({"name": "a", "finalizers": ["orphan"]}), Deletion::No),
            (json!({"name": "a", "deletionTimestamp": at}), Deletion::Ordinary),
            (
                json!({"name": "a", "deletionTimestamp": at, "finalizers": ["x"]}),
                Deletion::Ordinary,
            ),
            (
                json!({"name": "a", "deletionTimestamp": at,
                    "finalizers": ["x", "foregroundDeletion"]}),
                Deletion::Foreground,
            ),
            (
                json!({"name": "a", "deletionTimestamp": at,
                    "finalizers": ["foregroundDeletion", "orphan"]}),
                Deletion::Orphan,
            ),
        ] {
            assert_eq!(sketch(metadata.clone()).deletion(), expected, "{metadata}");
        }
    }
}
