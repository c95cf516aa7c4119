//! What the containers' half of the runtime asks of the images' half.
//!
//! Start at [`ImageSource`], which [`Images`](super::images::Images) is; tests have simpler ones.

use super::images::ImageConfig;
use super::{ContainerId, Credentials, ImageId, ImageStatus, PullError, RuntimeError};
use futures_util::future::BoxFuture;
use std::fmt;
use std::path::{Path, PathBuf};

/// What stands for an image that a container mounts, where otherwise containers do: its layers stay
/// for as long as the container does.
#[must_use]
pub(super) fn mounted_image(container: &ContainerId, place: usize) -> ContainerId {
    ContainerId(format!("{container}.{place}"))
}

/// The container that has this root file system, or mounts it.
#[must_use]
pub fn owner(rootfs: &ContainerId) -> &str {
    rootfs.0.split_once('.').map_or(&*rootfs.0, |(container, _)| container)
}

/// The images of a node, and the root file systems made from them.
///
/// Every method may be called again after a failure or a crash.
pub trait ImageSource: Send + Sync + fmt::Debug {
    /// The image of that reference on this node, where it is here.
    fn image(&self, reference: &str) -> BoxFuture<'_, Result<Option<ImageStatus>, RuntimeError>>;

    fn images(&self) -> BoxFuture<'_, Result<Vec<ImageStatus>, RuntimeError>>;

    /// As [`Runtime::pull_image`](super::Runtime::pull_image).
    fn pull(
        &self,
        reference: &str,
        credentials: Vec<Credentials>,
    ) -> BoxFuture<'_, Result<ImageStatus, PullError>>;

    fn remove(&self, reference: &str) -> BoxFuture<'_, Result<(), RuntimeError>>;

    /// What the image says about its processes.
    fn config(&self, image: &ImageId) -> BoxFuture<'_, Result<ImageConfig, RuntimeError>>;

    /// Mounts the image's files at `target`, an empty directory, with a layer of the container's
    /// own for what it writes.
    fn prepare_rootfs(
        &self,
        image: &ImageId,
        container: &ContainerId,
        target: &Path,
    ) -> BoxFuture<'_, Result<(), RuntimeError>>;

    /// The directory of what a container writes, where that is known.
    fn writable_layer(&self, _container: &ContainerId) -> Option<PathBuf> {
        None
    }

    /// Removes the layer that a container has written, after its mount is gone, and what it has of
    /// images that it [mounts](mounted_image).
    fn release_rootfs(&self, container: &ContainerId) -> BoxFuture<'_, Result<(), RuntimeError>>;

    /// Removes the layers of all containers but these and of what they mount: what a crash or a reboot has left.
    fn retain_rootfs(
        &self,
        containers: Vec<ContainerId>,
    ) -> BoxFuture<'_, Result<(), RuntimeError>>;
}
