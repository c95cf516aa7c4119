//! Images on this node: fetched from registries or archives, unpacked, and made into root file
//! systems of containers.
//!
//! Start at [`Images`]. What is where on disk is in `layout`; when it may go, in `store`.
//! Architecture invariants: an image is in the catalog only when all of it is on disk and checked;
//! a layer is fetched and unpacked once however many want it; compressed layers are dropped when
//! they are unpacked (small disks hold one copy and not two).

mod archive;
mod catalog;
mod digest;
mod flight;
mod import;
mod ingest;
mod layer;
mod layout;
mod manifest;
mod platform;
mod progress;
mod pull;
mod reference;
mod registry;
mod room;
mod rootfs;
mod source;
mod store;
mod sweep;
mod tarball;

pub use digest::{Algorithm, BadDigest, Digest};
pub use import::{ImportError, ImportSource, ImportedFile};
pub use manifest::ImageConfig;
pub use platform::Platform;
pub use progress::{LayerProgress, Phase, Progress};
pub use reference::{Reference, Version};
pub use registry::{Proxy, Registries};
pub use rootfs::{Marks, Rootfs};

use super::Credentials;
use super::error::PullError;
use super::error::RuntimeError;
use super::status::{ContainerId, ImageId, ImageStatus};
use crate::stdx::Clock;
use archive::Archive;
use catalog::Removed;
use flight::Flights;
use futures_util::FutureExt as _;
use pull::Puller;
use registry::Session;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use store::{Below, ContainerFacts, Kept, Store};
use tokio_util::task::TaskTracker;

/// What images need to know.
#[derive(Clone, Debug)]
pub struct ImagesConfig {
    /// Everything is in `agent/{content,snapshots,images}` below it.
    pub data_dir: PathBuf,
    /// Mirrors, credentials and certificates, in k3s's format. Nobody has to have such a file.
    pub registries_file: PathBuf,
    pub default_endpoint: DefaultEndpoint,
    pub proxy: Proxy,
    pub clock: Clock,
}

/// Whether a registry that has mirrors is asked itself after all of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultEndpoint {
    #[default]
    Fallback,
    /// k3s's `--disable-default-registry-endpoint`.
    Disabled,
}

/// The images of this node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Images {
    store: Arc<Store>,
    puller: Arc<Puller>,
    pulls: Arc<Flights<PullKey, Result<ImageStatus, PullError>>>,
    registries: Arc<Registries>,
    default_endpoint: DefaultEndpoint,
    proxy: Proxy,
    clock: Clock,
}

/// Pulls are shared among those who may see the same.
type PullKey = (Reference, Vec<(String, String)>);

/// Where the layers of an image come from.
#[derive(Clone, Debug)]
enum Origin {
    Registry(Arc<Session>),
    Archive {
        archive: Arc<Archive>,
        /// Counts the threads at work on its layers: they end after those who wait for them.
        threads: TaskTracker,
    },
}

impl Images {
    /// Opens the store, or makes an empty one. Quick: leftovers stay until [`Images::sweep`].
    ///
    /// # Errors
    /// When another process uses it, when the catalog or `registries_file` is wrong, or as the
    /// file system says.
    pub async fn open(config: ImagesConfig) -> Result<Self, RuntimeError> {
        let ImagesConfig { data_dir, registries_file, default_endpoint, proxy, clock } = config;
        let (registries, store) = blocking(move || {
            let registries = Registries::load(&registries_file).map_err(RuntimeError::Invalid)?;
            Ok::<_, RuntimeError>((registries, Arc::new(Store::open(&data_dir)?)))
        })
        .await?;
        Ok(Self {
            puller: Arc::new(Puller::new(Arc::clone(&store))),
            store,
            pulls: Arc::default(),
            registries: Arc::new(registries),
            default_endpoint,
            proxy,
            clock,
        })
    }

    /// Fetches an image. Two who want the same share the work. `credentials` are tried in their
    /// order, then what `registries.yaml` has for the registry, then none. Where the image is here
    /// already, the registry is only asked whether it is still the same. What was fetched before
    /// a failure is kept for the next try.
    ///
    /// # Errors
    /// See [`PullError`].
    pub async fn pull(
        &self,
        reference: &str,
        credentials: &[Credentials],
        progress: &Progress,
    ) -> Result<ImageStatus, PullError> {
        let reference: Reference = reference.parse()?;
        let secrets = credentials.iter().map(|c| (c.username.clone(), c.password.clone()));
        let key = (reference.clone(), secrets.collect());
        let start = |progress| {
            let session = Session::new(
                reference,
                credentials,
                Arc::clone(&self.registries),
                self.default_endpoint,
                self.proxy.clone(),
            );
            Arc::clone(&self.puller).pull(Arc::new(session), progress).boxed()
        };
        self.pulls.join(key, progress, start).await
    }

    /// Imports all images of an archive (an OCI layout or the output of `docker save`, also
    /// compressed), with the names that the archive gives them.
    ///
    /// # Errors
    /// When anything at all is wrong with the archive; nothing has changed then.
    pub async fn import(
        &self,
        source: ImportSource,
        progress: &Progress,
    ) -> Result<Vec<ImageStatus>, ImportError> {
        self.puller.import(source, progress, false).await
    }

    /// Imports the archives in `agent/images` that are new or have changed. Their images are
    /// pinned for as long as their files are there. `imported` is told of each file.
    ///
    /// # Errors
    /// When the directory cannot be read; what is wrong with a file is in its own result.
    pub async fn import_directory(
        &self,
        progress: &Progress,
        imported: impl FnMut(ImportedFile) + Send,
    ) -> Result<(), RuntimeError> {
        let done = self.puller.import_directory(progress, imported).await;
        done.map_err(|error| failed("importing images", error))
    }

    /// Removes what interrupted work has left. To be called once, some time after the start.
    ///
    /// # Errors
    /// As the file system says.
    pub async fn sweep(&self) -> Result<(), RuntimeError> {
        let (store, now) = (Arc::clone(&self.store), self.clock.now());
        let swept = blocking(move || sweep::sweep(&store, now)).await;
        swept.map_err(|error| failed("removing leftovers of images", error))
    }

    /// The image that a reference (with a tag or a digest), an image id or the first eight or more
    /// digits of one stand for.
    #[must_use]
    pub fn resolve(&self, reference: &str) -> Option<ImageStatus> {
        let entries = self.store.catalog.current();
        entries.find(reference).map(|(id, record)| record.status(id))
    }

    /// All images, by id.
    #[must_use]
    pub fn list(&self) -> Vec<ImageStatus> {
        let entries = self.store.catalog.current();
        entries.images.iter().map(|(id, record)| record.status(id)).collect()
    }

    /// How the image wants to be run.
    ///
    /// # Errors
    /// When the image is not here, or its configuration cannot be read any more.
    pub async fn config(&self, image: &ImageId) -> Result<ImageConfig, RuntimeError> {
        let id = self.known(image)?;
        let store = Arc::clone(&self.store);
        let bytes = blocking(move || store.read_blob(&id))
            .await
            .map_err(|error| failed("reading an image's configuration", error))?;
        manifest::read_config(&bytes)
            .map(|document| document.config)
            .map_err(|why| RuntimeError::Invalid(format!("configuration of {image}: {why}")))
    }

    /// Removes what a reference or an id stands for, as the CRI has it: containers that run from
    /// it go on, and their layers go when they do. A tag that is not the image's only one is just
    /// taken off. Removing what is not here succeeds.
    ///
    /// # Errors
    /// As the file system says.
    pub async fn remove(&self, reference: &str) -> Result<(), RuntimeError> {
        let store = Arc::clone(&self.store);
        let reference = reference.to_owned();
        blocking(move || {
            let removed = store.catalog.update(|entries| entries.remove(&reference))?;
            match removed {
                Some(Removed::Image(_, record)) => store.collect(Kept {
                    blobs: record.blobs,
                    layers: record.layers.into_iter().collect(),
                }),
                Some(Removed::Tag(_)) | None => Ok(()),
            }
        })
        .await
        .map_err(|error: io::Error| failed("removing an image", error))
    }

    /// Makes the directories of a container's root file system, or finds them again. The image's
    /// layers stay until [`Images::release_rootfs`], whatever becomes of the image.
    ///
    /// # Errors
    /// When the image is not here, or as the file system says.
    pub async fn prepare_rootfs(
        &self,
        image: &ImageId,
        container: &ContainerId,
    ) -> Result<Rootfs, RuntimeError> {
        let id = parse_id(image)?;
        let images = self.clone();
        let (image, container) = (image.clone(), container.clone());
        blocking(move || {
            let below = images
                .store
                .hold_for_container(&container.0, &id)
                .ok_or_else(|| not_found(&image))?;
            images
                .create_rootfs(&container, &below)
                .map_err(|error| failed("making a container's root file system", error))
        })
        .await
    }

    /// The containers that have a root file system here, also from earlier processes.
    #[must_use]
    pub fn rootfs_containers(&self) -> Vec<ContainerId> {
        self.store.containers().into_iter().map(ContainerId).collect()
    }

    /// The root file system that was prepared for a container, also by an earlier process.
    #[must_use]
    pub fn rootfs(&self, container: &ContainerId) -> Option<Rootfs> {
        let layers = self.store.container_layers(&container.0)?;
        Some(self.rootfs_over(container, &layers))
    }

    /// Removes what a container wrote, and lets go of its image's layers. The overlay has to be
    /// unmounted. Succeeds where nothing is there.
    ///
    /// # Errors
    /// As the file system says.
    pub async fn release_rootfs(&self, container: &ContainerId) -> Result<(), RuntimeError> {
        let store = Arc::clone(&self.store);
        let container = container.0.clone();
        blocking(move || {
            store.discard(&store.layout.container(&container))?;
            let layers = store.release_container(&container).into_iter().collect();
            store.collect(Kept { layers, ..Kept::default() })
        })
        .await
        .map_err(|error: io::Error| failed("removing a container's root file system", error))
    }

    fn create_rootfs(&self, container: &ContainerId, below: &Below) -> io::Result<Rootfs> {
        let own = self.store.layout.container(&container.0);
        let rootfs = self.rootfs_over(container, &below.layers);
        if own.join("rootfs.json").exists() {
            return Ok(rootfs);
        }
        for directory in [&rootfs.upper, &rootfs.work] {
            fs::create_dir_all(directory)?;
        }
        if below.layers.is_empty() {
            fs::create_dir_all(&rootfs.lower[0])?;
        }
        // The overlay shows the upper directory's owner and mode as those of `/`.
        let root = below.root.as_ref().map(|chain_id| self.store.layout.layer(chain_id));
        let root = fs::metadata(root.as_ref().unwrap_or(&rootfs.lower[0]))?;
        std::os::unix::fs::chown(&rootfs.upper, Some(root.uid()), Some(root.gid()))?;
        fs::set_permissions(&rootfs.upper, root.permissions())?;
        let facts = serde_json::to_vec(&ContainerFacts { layers: below.layers.clone() })
            .map_err(io::Error::other)?;
        fs::write(own.join("rootfs.json"), facts)?;
        Ok(rootfs)
    }

    fn rootfs_over(&self, container: &ContainerId, layers: &[Digest]) -> Rootfs {
        let own = self.store.layout.container(&container.0);
        let mut lower: Vec<_> =
            layers.iter().rev().map(|chain_id| self.store.layout.layer(chain_id)).collect();
        if lower.is_empty() {
            lower.push(own.join("empty"));
        }
        Rootfs { lower, upper: own.join("upper"), work: own.join("work"), marks: self.store.marks }
    }

    /// What a container writes to its root file system.
    fn written_by(&self, container: &ContainerId) -> PathBuf {
        self.store.layout.container(&container.0).join("upper")
    }

    fn known(&self, image: &ImageId) -> Result<Digest, RuntimeError> {
        let id = parse_id(image)?;
        let is_here = self.store.catalog.current().images.contains_key(&id);
        if is_here { Ok(id) } else { Err(not_found(image)) }
    }
}

fn parse_id(image: &ImageId) -> Result<Digest, RuntimeError> {
    image.0.parse().map_err(|_bad| not_found(image))
}

fn not_found(image: &ImageId) -> RuntimeError {
    RuntimeError::NotFound { what: "image", id: image.to_string() }
}

fn failed(
    operation: &'static str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> RuntimeError {
    RuntimeError::Failed { operation, source: Arc::new(error) }
}

/// Runs work that waits for the disk where nothing else waits for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The process is ending, and nobody will look at the result.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}
