//! Makes an image out of what a registry or an archive has: its layers side by side, its entry in
//! the catalog last.
//!
//! Start at [`Puller::pull`]. No wait here is a deadlock because each is for something that never
//! waits back: a layer waits for whoever gets the same blob, then for a slot, then (holding
//! neither) for the layers below to be published.

use super::super::error::PullError;
use super::super::status::ImageStatus;
use super::catalog::ImageRecord;
use super::digest::Digest;
use super::flight::Flights;
use super::ingest::{self, IngestError, Ingested, Observed, Wanted, Watch};
use super::layer;
use super::manifest::{self, ConfigDocument, Descriptor, Document, Manifest};
use super::platform::Platform;
use super::progress::{Phase, Progress};
use super::reference::{Reference, Version};
use super::registry::{Fetched, Found, Session};
use super::store::{Kept, LayerFacts, Store, remove_file_if_there};
use super::{Origin, blocking};
use crate::stdx::fault;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, try_join_all};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// More layers than this are not fetched at once, whatever is pulled: more connections do not make
/// a line faster, and each costs a thread and the memory of a decompressor.
const LAYERS_AT_ONCE_MAX: usize = 4;
/// Pieces of a layer that have arrived and are not unpacked. Beyond these the registry waits.
const PIECES_QUEUED_MAX: usize = 8;
/// A layer that others fetch as well, and that so many of them fail to get, is fetched beside them.
const OTHERS_JOINED_MAX: u32 = 4;
/// A larger configuration is refused. They list every command that made an image, and are far
/// smaller.
const CONFIG_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Gets images. One per [`Store`].
#[derive(Debug)]
pub(super) struct Puller {
    pub(super) store: Arc<Store>,
    platform: Platform,
    slots: Semaphore,
    /// By chain id.
    layers: Flights<Digest, Result<LayerFacts, PullError>>,
    /// Blobs that are being fetched, so that one that several layers share is fetched once.
    blobs: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    /// Changes whenever a layer is published.
    published: watch::Sender<()>,
}

/// An image whose documents are here and checked, and whose layers are to be had.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) id: Digest,
    pub(super) config: ConfigDocument,
    pub(super) layers: Vec<Wanted>,
    /// The blobs that stay: manifest and configuration.
    pub(super) documents: BTreeMap<Digest, Bytes>,
    pub(super) names: Names,
}

/// What an image is called.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) tags: BTreeSet<String>,
    pub(super) digests: BTreeSet<String>,
    pub(super) pinned: bool,
}

/// The layers of a plan by chain id, lowest first.
fn chain(plan: &Plan) -> Vec<Digest> {
    manifest::chain_ids(&plan.config.diff_ids)
}

impl Puller {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            platform: Platform::host(),
            slots: Semaphore::new(LAYERS_AT_ONCE_MAX),
            layers: Flights::default(),
            blobs: Mutex::default(),
            published: watch::Sender::new(()),
        }
    }

    /// Makes the image of a session's reference ready.
    pub(super) async fn pull(
        self: Arc<Self>,
        session: Arc<Session>,
        progress: Progress,
    ) -> Result<ImageStatus, PullError> {
        let reference = session.reference().clone();
        let known = self.known_digest(&reference);
        let top = match session.resolve(known.as_ref()).await? {
            Found::Known(digest) => {
                let here = self.find(&reference.at_digest(&digest).to_string());
                return here.ok_or(PullError::NotFound { reference: reference.to_string() });
            }
            Found::Fetched(document) => document,
        };
        let at_digest = reference.at_digest(&top.digest).to_string();
        let (manifest_bytes, manifest) = self.choose(&session, top).await?;
        let config_bytes = self.config_blob(&session, &manifest.config).await?;
        let mut names = Names { digests: BTreeSet::from([at_digest]), ..Names::default() };
        if matches!(reference.version(), Version::Tag(_)) {
            names.tags.insert(reference.to_string());
        }
        let manifest_bytes = Some(manifest_bytes);
        let documents = Documents { manifest_bytes, manifest, config_bytes };
        let plan = self.plan(documents, &reference.to_string(), names)?;
        let origin = Origin::Registry(session);
        let mut images = self.complete(vec![plan], &origin, &progress).await?;
        Ok(images.remove(0))
    }

    fn find(&self, reference: &str) -> Option<ImageStatus> {
        let entries = self.store.catalog.current();
        entries.find(reference).map(|(id, record)| record.status(id))
    }

    /// What a tag stood for when it was pulled last.
    fn known_digest(&self, reference: &Reference) -> Option<Digest> {
        let entries = self.store.catalog.current();
        let (_, record) = entries.find(&reference.to_string())?;
        let of_this_name = format!("{}@", reference.name());
        record.digests.iter().find_map(|name| name.strip_prefix(&of_this_name)?.parse().ok())
    }

    /// Follows an index to the manifest for this machine.
    async fn choose(
        &self,
        session: &Session,
        top: Fetched,
    ) -> Result<(Bytes, Manifest), PullError> {
        let reference = session.reference().to_string();
        let read = |document: &Fetched| {
            manifest::parse(&document.bytes, &document.content_type).map_err(|why| {
                PullError::Malformed { what: format!("manifest {}", document.digest), why }
            })
        };
        let offers = match read(&top)? {
            Document::Image(manifest) => return Ok((top.bytes, manifest)),
            Document::Index(offers) => offers,
        };
        let chosen = self.choose_platform(&offers, &reference)?;
        let document = session.document(Some(&chosen.digest)).await?;
        match read(&document)? {
            Document::Image(manifest) => Ok((document.bytes, manifest)),
            Document::Index(_) => Err(PullError::Malformed {
                what: format!("manifest {}", document.digest),
                why: "an index within an index".to_owned(),
            }),
        }
    }

    pub(super) fn choose_platform<'a>(
        &self,
        offers: &'a [Descriptor],
        reference: &str,
    ) -> Result<&'a Descriptor, PullError> {
        let platforms: Vec<_> = offers.iter().map(|offer| offer.platform.clone()).collect();
        let chosen = self.platform.choose(&platforms);
        // An index of a single image that says nothing about platforms means that one.
        let only = (offers.len() == 1 && platforms[0].is_none()).then_some(0);
        let index = chosen.or(only).ok_or_else(|| PullError::NoPlatform {
            reference: reference.to_owned(),
            platform: self.platform.to_string(),
        })?;
        Ok(&offers[index])
    }

    async fn config_blob(
        &self,
        session: &Session,
        config: &Descriptor,
    ) -> Result<Bytes, PullError> {
        let store = Arc::clone(&self.store);
        let digest = config.digest.clone();
        if let Ok(bytes) = blocking(move || store.read_blob(&digest)).await {
            return Ok(bytes.into());
        }
        let bytes_max = usize::try_from(config.size.min(CONFIG_BYTES_MAX)).expect("8 MiB fit");
        session.small_blob(config, bytes_max).await
    }

    /// Checks the documents of an image against each other.
    pub(super) fn plan(
        &self,
        documents: Documents,
        reference: &str,
        names: Names,
    ) -> Result<Plan, PullError> {
        let Documents { manifest_bytes, manifest, config_bytes } = documents;
        let config =
            manifest::parse_config(&config_bytes, manifest.layers.len()).map_err(|why| {
                PullError::Malformed { what: format!("the configuration of {reference}"), why }
            })?;
        let os = config.platform.os.as_str();
        if !matches!(os, "" | "linux") {
            let platform = self.platform.to_string();
            return Err(PullError::NoPlatform { reference: reference.to_owned(), platform });
        }
        check_sizes(&manifest)?;
        let id = manifest.config.digest.clone();
        let manifest_blob = manifest_bytes.map(|bytes| (Digest::of(&bytes), bytes));
        let layers = manifest.layers.into_iter().zip(&config.diff_ids);
        let layers = layers.map(|(blob, diff_id)| Wanted { blob, diff_id: diff_id.clone() });
        let config_blob = (id.clone(), config_bytes);
        Ok(Plan {
            id,
            layers: layers.collect(),
            documents: manifest_blob.into_iter().chain([config_blob]).collect(),
            config,
            names,
        })
    }

    /// Gets all layers of some images, and enters the images into the catalog: all or none.
    pub(super) async fn complete(
        self: &Arc<Self>,
        plans: Vec<Plan>,
        origin: &Origin,
        progress: &Progress,
    ) -> Result<Vec<ImageStatus>, PullError> {
        let hold = self.store.hold(everything(&plans));
        let layers = plans.iter().flat_map(|plan| {
            let chain = chain(plan);
            let wanted = plan.layers.iter().enumerate();
            wanted.map(move |(index, wanted)| {
                self.layer(chain[..=index].to_vec(), wanted.clone(), origin, progress)
            })
        });
        let layers: Vec<_> = layers.collect();
        // The first failure ends the others: those that wait for a layer below would for ever.
        let result = try_join_all(layers).await;
        let store = Arc::clone(&self.store);
        blocking(move || {
            if let Err(error) = result {
                drop(hold);
                // On failure, what has come is left for the next try, unless none can be better. What
                // stays by an error is swept away at the next start.
                if matches!(error, PullError::Malformed { .. }) {
                    store.collect(everything(&plans)).ok();
                }
                return Err(error);
            }
            let images = enter(&store, &plans)?;
            fault::point("image: in the catalog");
            drop(hold);
            // The compressed layers have served.
            let of_the_store = |source| PullError::Store {
                what: "the image store".to_owned(),
                source: Arc::new(source),
            };
            store.collect(everything(&plans)).map_err(of_the_store)?;
            Ok(images)
        })
        .await
    }

    /// Has the last layer of a chain published.
    fn layer(
        self: &Arc<Self>,
        chain: Vec<Digest>,
        wanted: Wanted,
        origin: &Origin,
        progress: &Progress,
    ) -> BoxFuture<'static, Result<(), PullError>> {
        let (puller, origin, progress) = (Arc::clone(self), origin.clone(), progress.clone());
        async move {
            wanted.report(&progress, 0, Phase::Waiting);
            let chain_id = chain.last().expect("a layer's chain ends with itself").clone();
            if puller.is_published(&chain_id).await {
                wanted.report(&progress, wanted.blob.size, Phase::Present);
                return Ok(());
            }
            for _other in 0..OTHERS_JOINED_MAX {
                let mut is_own = false;
                let work = |progress| {
                    is_own = true;
                    let (puller, chain) = (Arc::clone(&puller), chain.clone());
                    puller.make_layer(chain, wanted.clone(), origin.clone(), progress).boxed()
                };
                match puller.layers.join(chain_id.clone(), &progress, work).await {
                    Err(error) if is_own => return Err(error),
                    // It was another image's, perhaps from another registry: its troubles are not ours.
                    Err(_) => {}
                    Ok(_) => return Ok(()),
                }
            }
            Arc::clone(&puller).make_layer(chain, wanted, origin, progress).await.map(drop)
        }
        .boxed()
    }

    async fn is_published(&self, chain_id: &Digest) -> bool {
        let (store, chain_id) = (Arc::clone(&self.store), chain_id.clone());
        blocking(move || store.layer(&chain_id).is_some()).await
    }

    async fn make_layer(
        self: Arc<Self>,
        mut chain: Vec<Digest>,
        wanted: Wanted,
        origin: Origin,
        progress: Progress,
    ) -> Result<LayerFacts, PullError> {
        let chain_id = chain.pop().expect("a layer's chain ends with itself");
        let (new, unpacked) = self.unpack(&wanted, &origin, &progress).await?;
        if !unpacked.unsettled.is_empty() {
            self.wait_for(&chain).await;
        }
        wanted.report(&progress, wanted.blob.size, Phase::Publishing);
        let store = Arc::clone(&self.store);
        let name = format!("layer {}", wanted.blob.digest);
        let at_work = origin.thread();
        let publishing = blocking(move || {
            let published = publish(&store, &chain, &chain_id, (new, unpacked));
            (published, at_work)
        });
        let facts = publishing.await.0.map_err(|why| why.named(&name))?;
        self.published.send_replace(());
        wanted.report(&progress, wanted.blob.size, Phase::Done);
        Ok(facts)
    }

    /// Waits until all of these layers are published. Whoever polls this polls the flights that
    /// publish them as well: a chain id stands for all layers below it.
    async fn wait_for(&self, chain: &[Digest]) {
        let mut published = self.published.subscribe();
        loop {
            let mut all = true;
            for chain_id in chain {
                all = all && self.is_published(chain_id).await;
            }
            if all || published.changed().await.is_err() {
                return;
            }
        }
    }

    async fn unpack(
        &self,
        wanted: &Wanted,
        origin: &Origin,
        progress: &Progress,
    ) -> Result<Ingested, PullError> {
        let only_one = self.only_one(&wanted.blob.digest);
        let _only_one = only_one.lock().await;
        let _slot = self.slots.acquire().await.expect("the semaphore is never closed");
        let unwanted = CancellationToken::new();
        // Whoever drops this future has no use for what a thread still does for it.
        let _until_dropped = unwanted.clone().drop_guard();
        let watch = Watch { progress: progress.clone(), unwanted };
        match origin {
            Origin::Registry(session) => self.fetch(session, wanted, &watch).await,
            Origin::Archive { archive, .. } => {
                let (store, archive) = (Arc::clone(&self.store), Arc::clone(archive));
                let (wanted, at_work) = (wanted.clone(), origin.thread());
                let unpacking = blocking(move || {
                    let unpacked = archive.layer(&wanted.blob.digest).and_then(|source| {
                        let observed = Observed::new(source, &wanted, &watch);
                        let result = ingest::unpack_checked(&store, &wanted, observed);
                        result.map_err(IngestError::into_pull_error)
                    });
                    (unpacked, at_work)
                });
                unpacking.await.0
            }
        }
    }

    async fn fetch(
        &self,
        session: &Arc<Session>,
        wanted: &Wanted,
        watch: &Watch,
    ) -> Result<Ingested, PullError> {
        if let Some(ingested) = self.unpack_blob(wanted, watch).await {
            return Ok(ingested);
        }
        let store = Arc::clone(&self.store);
        let blob = wanted.blob.clone();
        let already = blocking(move || ingest::already_here(&store, &blob)).await;
        let already = already.map_err(|source| PullError::Store {
            what: format!("layer {}", wanted.blob.digest),
            source: Arc::new(source),
        })?;
        let result = self.fetch_from(session, wanted, already, watch).await;
        match result {
            // After a power cut, the part that was here may be anything. Once, without it.
            Err(PullError::WrongDigest { .. }) if already > 0 => {
                self.fetch_from(session, wanted, 0, watch).await
            }
            other => other,
        }
    }

    /// Unpacks a blob that is here as a whole. What cannot be used is fetched again.
    async fn unpack_blob(&self, wanted: &Wanted, watch: &Watch) -> Option<Ingested> {
        let (store, wanted) = (Arc::clone(&self.store), wanted.clone());
        let watch = watch.clone();
        blocking(move || {
            let path = store.layout.blob(&wanted.blob.digest);
            let file = File::open(&path).ok()?;
            let observed = Observed::new(file, &wanted, &watch);
            let ingested = ingest::unpack_checked(&store, &wanted, observed).ok();
            if ingested.is_none() && !watch.unwanted.is_cancelled() {
                // It is about to be replaced, and says so if it cannot be.
                remove_file_if_there(&path).ok();
            }
            ingested
        })
        .await
    }

    async fn fetch_from(
        &self,
        session: &Arc<Session>,
        wanted: &Wanted,
        already: u64,
        watch: &Watch,
    ) -> Result<Ingested, PullError> {
        let (sink, arriving) = mpsc::channel(PIECES_QUEUED_MAX);
        let unpacking = {
            let (store, wanted) = (Arc::clone(&self.store), wanted.clone());
            let watch = watch.clone();
            blocking(move || ingest::ingest(&store, &wanted, already, arriving, &watch))
        };
        let downloading = async {
            let result = session.download(&wanted.blob, already, &sink).await;
            drop(sink);
            result
        };
        match tokio::join!(downloading, unpacking) {
            (_, Ok(ingested)) => Ok(ingested),
            (Err(error), Err(IngestError::BrokeOff)) => Err(error),
            (_, Err(error)) => Err(error.into_pull_error()),
        }
    }

    fn only_one(&self, blob: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut blobs = self.blobs.lock().expect("no panics under this lock");
        blobs.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = blobs.get(blob).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        blobs.insert(blob.clone(), Arc::downgrade(&lock));
        lock
    }
}

impl Origin {
    /// Held by a thread at work, and by what it has made until somebody takes that.
    fn thread(&self) -> Option<TaskTrackerToken> {
        match self {
            Self::Registry(_) => None,
            Self::Archive { threads, .. } => Some(threads.token()),
        }
    }
}

/// Before anything is fetched that could never be unpacked.
fn check_sizes(manifest: &Manifest) -> Result<(), PullError> {
    let max = layer::LIMITS.bytes;
    let Some(huge) = manifest.layers.iter().find(|layer| layer.size > max) else { return Ok(()) };
    let why = format!("it says that it has {} bytes, more than {max}", huge.size);
    Err(PullError::Malformed { what: format!("layer {}", huge.digest), why })
}

/// The documents of one image, as they came.
#[derive(Clone, Debug)]
pub(super) struct Documents {
    /// Archives of old have none.
    pub(super) manifest_bytes: Option<Bytes>,
    pub(super) manifest: Manifest,
    pub(super) config_bytes: Bytes,
}

/// Every blob and layer that has to do with some images.
pub(super) fn everything(plans: &[Plan]) -> Kept {
    let mut kept = Kept::default();
    for plan in plans {
        kept.layers.extend(chain(plan));
        kept.blobs.extend(plan.documents.keys().cloned());
        kept.blobs.extend(plan.layers.iter().map(|wanted| wanted.blob.digest.clone()));
    }
    kept
}

/// Why an unpacked layer could not be published.
enum PublishError {
    Unpack(layer::UnpackError),
    Store(io::Error),
}

impl PublishError {
    fn named(self, name: &str) -> PullError {
        let what = name.to_owned();
        match self {
            Self::Unpack(layer::UnpackError::Malformed(why)) => PullError::Malformed { what, why },
            Self::Unpack(
                layer::UnpackError::Write { source, .. } | layer::UnpackError::Read(source),
            )
            | Self::Store(source) => PullError::Store { what, source: Arc::new(source) },
        }
    }
}

/// Completes a layer with what it takes from those below, and gives it its name.
fn publish(
    store: &Store,
    below: &[Digest],
    chain_id: &Digest,
    (new, unpacked): Ingested,
) -> Result<LayerFacts, PublishError> {
    let below: Vec<_> = below.iter().rev().map(|chain_id| store.layout.layer(chain_id)).collect();
    let copied = layer::settle(&new.root(), &below, store.marks, &unpacked.unsettled)
        .map_err(PublishError::Unpack)?;
    let facts = LayerFacts {
        diff_id: unpacked.diff_id,
        size_bytes: unpacked.size_bytes + copied,
        describes_root: unpacked.describes_root,
        has_opaque_root: unpacked.has_opaque_root,
    };
    store.publish_layer(new, chain_id, &facts).map_err(PublishError::Store)?;
    Ok(facts)
}

/// Enters images into the catalog, all at once.
fn enter(store: &Store, plans: &[Plan]) -> Result<Vec<ImageStatus>, PullError> {
    for (digest, bytes) in plans.iter().flat_map(|plan| &plan.documents) {
        store.write_blob(digest, bytes)?;
    }
    fault::point("image: documents stored");
    let records: Vec<_> = plans
        .iter()
        .map(|plan| Ok((plan.id.clone(), record(store, plan)?)))
        .collect::<Result<_, _>>()?;
    let stored = |source: io::Error| PullError::Store {
        what: "the catalog".to_owned(),
        source: Arc::new(source),
    };
    store
        .catalog
        .update(|entries| {
            for (id, record) in &records {
                entries.insert(id, record.clone());
            }
            let status = |(id, _): &(Digest, ImageRecord)| entries.images[id].status(id);
            records.iter().map(status).collect()
        })
        .map_err(stored)
}

fn record(store: &Store, plan: &Plan) -> Result<ImageRecord, PullError> {
    let mut record = ImageRecord {
        tags: plan.names.tags.clone(),
        digests: plan.names.digests.clone(),
        blobs: plan.documents.keys().cloned().collect(),
        size_bytes: plan.documents.values().map(|bytes| bytes.len() as u64).sum(),
        user: plan.config.config.user.clone(),
        pinned: plan.names.pinned,
        ..ImageRecord::default()
    };
    for chain_id in chain(plan) {
        let facts = store.layer(&chain_id).ok_or_else(|| PullError::Store {
            what: format!("layer {chain_id}"),
            source: Arc::new(io::Error::from(io::ErrorKind::NotFound)),
        })?;
        if facts.has_opaque_root {
            // Nothing is seen through this layer; overlayfs would look all the same.
            record.layers.clear();
            record.root = None;
        }
        record.size_bytes += facts.size_bytes;
        if facts.describes_root {
            record.root = Some(chain_id.clone());
        }
        record.layers.push(chain_id);
    }
    Ok(record)
}
