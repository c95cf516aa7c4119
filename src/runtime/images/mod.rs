//! Images on this node: fetched from registries or archives, unpacked, and made into root file
//! systems of containers.
//!
//! Start at [`Images`]. What is where on disk is in `layout`; when it may go, in `store`.
//! Architecture invariants: an image is in the catalog only when all of it is on disk and checked;
//! a layer is fetched and unpacked once however many want it; compressed layers are dropped when
//! they are unpacked (small disks hold one copy and not two).

mod catalog;
mod digest;
mod layer;
mod layout;
mod manifest;
mod platform;
mod progress;
mod reference;
mod rootfs;
mod store;
mod tarball;

pub use digest::{Algorithm, BadDigest, Digest};
pub use manifest::ImageConfig;
pub use platform::Platform;
pub use progress::{LayerProgress, Phase, Progress};
pub use reference::{Reference, Version};
pub use rootfs::{Marks, Rootfs};

use super::error::RuntimeError;
use super::status::{ContainerId, ImageId, ImageStatus};
use crate::stdx::Clock;
use catalog::Removed;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use store::{ContainerFacts, Kept, Store};

/// How long leftovers of interrupted work wait for someone to take it up again.
const LEFTOVER_AGE_MAX: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// What images need to know.
#[derive(Clone, Debug)]
pub struct ImagesConfig {
    /// Everything is in `agent/{content,snapshots,images}` below it.
    pub data_dir: PathBuf,
    /// Mirrors, credentials and certificates, in k3s's format. Nobody has to have such a file.
    pub registries_file: PathBuf,
    pub default_endpoint: DefaultEndpoint,
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
}

impl Images {
    /// Opens the store, or makes an empty one. Quick: leftovers stay until [`Images::sweep`].
    ///
    /// # Errors
    /// When another process uses it, when the catalog is damaged, or as the file system says.
    pub async fn open(config: ImagesConfig) -> Result<Self, RuntimeError> {
        let store = blocking(move || Store::open(&config.data_dir)).await?;
        Ok(Self { store: Arc::new(store) })
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
        let layers = self.layers_of(image)?;
        manifest::parse_config(&bytes, layers)
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
            let layers = images
                .store
                .hold_for_container(&container.0, &id)
                .ok_or_else(|| not_found(&image))?;
            images
                .create_rootfs(&container, &layers)
                .map_err(|error| failed("making a container's root file system", error))
        })
        .await
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

    fn create_rootfs(&self, container: &ContainerId, layers: &[Digest]) -> io::Result<Rootfs> {
        let rootfs = self.rootfs_over(container, layers);
        for directory in [&rootfs.upper, &rootfs.work] {
            fs::create_dir_all(directory)?;
        }
        if layers.is_empty() {
            fs::create_dir_all(&rootfs.lower[0])?;
        }
        // The overlay shows the upper directory's owner and mode as those of `/`.
        if let Some(image_root) = rootfs.lower.first() {
            let root = fs::metadata(image_root)?;
            std::os::unix::fs::chown(&rootfs.upper, Some(root.uid()), Some(root.gid()))?;
            fs::set_permissions(&rootfs.upper, root.permissions())?;
        }
        let facts = serde_json::to_vec(&ContainerFacts { layers: layers.to_vec() })
            .map_err(io::Error::other)?;
        fs::write(self.store.layout.container(&container.0).join("rootfs.json"), facts)?;
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

    fn known(&self, image: &ImageId) -> Result<Digest, RuntimeError> {
        let id = parse_id(image)?;
        let is_here = self.store.catalog.current().images.contains_key(&id);
        if is_here { Ok(id) } else { Err(not_found(image)) }
    }

    fn layers_of(&self, image: &ImageId) -> Result<usize, RuntimeError> {
        let id = parse_id(image)?;
        let entries = self.store.catalog.current();
        let record = entries.images.get(&id).ok_or_else(|| not_found(image))?;
        Ok(record.layers.len())
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
