//! The metadata of all objects of all kinds, passed on and not kept.
//!
//! Start at [`MetadataFeed`]. The garbage collector and the namespace controller are about every
//! kind there is; they share these watches, and each keeps only what it must.

use super::definition::Definition;
use super::kinds::{KindEntry, KindIndex, Kinds};
use crate::api::{ObjectKey, Revision};
use crate::client::watch::{Item as WatchItem, Watcher};
use crate::client::{Cache, Client, Selection, Watched, key_of};
use crate::stdx::Tasks;
use futures_util::future::{AbortHandle, BoxFuture, abortable};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Asks for the metadata alone. Upstream's API server wants lists to be called by their own name.
pub(super) const ACCEPT_METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// While it is there, an object that was deleted stays until its dependents are gone.
pub(super) const FOREGROUND_FINALIZER: &str = "foregroundDeletion";
/// While it is there, an object that was deleted stays until its dependents have forgotten it.
pub(super) const ORPHAN_FINALIZER: &str = "orphan";

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

/// Nobody waits longer for all kinds to be listed: one of them may be unable to be (upstream's
/// initialSyncTimeout of the garbage collector).
const SYNC_MAX: Duration = Duration::from_secs(30);

/// Passes the metadata of all objects on, of the kinds that there are at the moment.
pub(super) struct MetadataFeed {
    kinds: Kinds,
    definitions: Arc<Cache<Definition>>,
    /// Told when the definitions may add or take away something.
    redefined: Notify,
    listeners: Mutex<Vec<Listener>>,
    /// How many kinds have still to be listed; the definitions are one.
    unlisted: watch::Sender<usize>,
}

impl MetadataFeed {
    /// Of these kinds and of those that definitions add.
    pub(super) fn new(kinds: Kinds, definitions: Arc<Cache<Definition>>) -> Arc<Self> {
        let watched = kinds.all().iter().filter(|(_, kind)| is_watched(kind)).count();
        Arc::new(Self {
            kinds,
            definitions,
            redefined: Notify::new(),
            listeners: Mutex::default(),
            unlisted: watch::Sender::new(watched + 1),
        })
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
        let feed = Arc::clone(self);
        self.definitions.on_change(move |_| feed.redefined.notify_one());
        let (feed, client, shutdown) = (Arc::clone(self), client.clone(), tasks.shutdown());
        tasks.spawn("metadata", async move {
            let followed = Following::new(&feed, client).run();
            shutdown.run_until_cancelled(followed).await;
        });
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

    /// Waits until every kind has been listed, or for [`SYNC_MAX`].
    pub(super) async fn synced(&self) {
        let mut unlisted = self.unlisted.subscribe();
        let all_listed = unlisted.wait_for(|unlisted| *unlisted == 0);
        // What is decided asks the API server itself.
        tokio::time::timeout(SYNC_MAX, all_listed).await.ok();
    }
}

/// Events own nothing and are owned by nothing, and there are many of them.
fn is_watched(kind: &KindEntry) -> bool {
    kind.resource.kind != "Event" || !matches!(&*kind.resource.group, "" | "events.k8s.io")
}

/// The watches of a feed.
struct Following<'a> {
    feed: &'a MetadataFeed,
    client: Client,
    pending: FuturesUnordered<BoxFuture<'a, Option<Step>>>,
    /// By definition, what it has added.
    added: BTreeMap<ObjectKey, Added>,
}

/// A kind that a definition has added.
struct Added {
    entry: KindEntry,
    index: KindIndex,
    is_listed: bool,
    watch: AbortHandle,
}

/// Something was heard by a watch, which goes on afterwards.
struct Step {
    kind: KindIndex,
    watcher: Watcher<Sketch>,
    is_listed: bool,
    item: WatchItem<Sketch>,
}

impl<'a> Following<'a> {
    fn new(feed: &'a MetadataFeed, client: Client) -> Self {
        let following =
            Self { feed, client, pending: FuturesUnordered::new(), added: BTreeMap::new() };
        for (index, kind) in feed.kinds.all().into_iter().filter(|(_, kind)| is_watched(kind)) {
            let first = next(index, following.watcher(&kind), false);
            following.pending.push(Box::pin(first.map(Some)));
        }
        following
    }

    fn watcher(&self, kind: &KindEntry) -> Watcher<Sketch> {
        let (client, everywhere) = (self.client.clone(), Selection::default());
        Watcher::of_type(client, kind.resource.clone(), &everywhere, ACCEPT_METADATA)
    }

    async fn run(mut self) {
        let feed = self.feed;
        let mut are_defined = false;
        loop {
            tokio::select! {
                () = feed.definitions.synced(), if !are_defined => {
                    self.take_definitions();
                    are_defined = true;
                    self.note_listed();
                }
                () = feed.redefined.notified(), if are_defined => self.take_definitions(),
                // Without one the watch of that kind was ended.
                Some(step) = self.pending.next() => self.take(step),
            }
        }
    }

    fn take(&mut self, step: Option<Step>) {
        let Some(Step { kind, watcher, mut is_listed, item }) = step else { return };
        self.feed.tell(kind, &item);
        if matches!(item, WatchItem::Listed(_)) && !is_listed {
            is_listed = true;
            self.note_listed();
        }
        let next = next(kind, watcher, is_listed);
        match self.added.values_mut().find(|added| added.index == kind) {
            None => self.pending.push(Box::pin(next.map(Some))),
            Some(added) => {
                let (next, watch) = abortable(next);
                (added.watch, added.is_listed) = (watch, is_listed);
                self.pending.push(Box::pin(next.map(Result::ok)));
            }
        }
    }

    fn note_listed(&self) {
        self.feed.unlisted.send_modify(|unlisted| *unlisted = unlisted.saturating_sub(1));
    }

    /// Watches what the definitions add now, and nothing else of what they added before.
    fn take_definitions(&mut self) {
        let definitions = self.feed.definitions.list();
        let mut wanted: BTreeMap<ObjectKey, KindEntry> = definitions
            .iter()
            .filter_map(|definition| Some((key_of(&definition.metadata), definition.entry()?)))
            .collect();
        let is_as_before =
            |(key, added): &(&ObjectKey, &Added)| wanted.get(*key) == Some(&added.entry);
        let gone: Vec<_> = self
            .added
            .iter()
            .filter(|added| !is_as_before(added))
            .map(|(key, _)| key.clone())
            .collect();
        gone.iter().for_each(|key| self.end(key));
        wanted.retain(|key, _| !self.added.contains_key(key));
        for (key, entry) in wanted {
            self.begin(key, entry);
        }
    }

    fn begin(&mut self, definition: ObjectKey, entry: KindEntry) {
        let index = self.feed.kinds.add(entry.clone());
        self.feed.unlisted.send_modify(|unlisted| *unlisted += 1);
        let (first, watch) = abortable(next(index, self.watcher(&entry), false));
        self.pending.push(Box::pin(first.map(Result::ok)));
        self.added.insert(definition, Added { entry, index, is_listed: false, watch });
    }

    /// There are no objects any more of the kind that the definition has added.
    fn end(&mut self, definition: &ObjectKey) {
        let Some(added) = self.added.remove(definition) else { return };
        added.watch.abort();
        if !added.is_listed {
            self.note_listed();
        }
        self.feed.kinds.remove(added.index);
        self.feed.tell(added.index, &WatchItem::Listed(Vec::new()));
    }
}

async fn next(kind: KindIndex, mut watcher: Watcher<Sketch>, is_listed: bool) -> Step {
    let item = watcher.next().await;
    Step { kind, watcher, is_listed, item }
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
