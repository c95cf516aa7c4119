//! What containers are made from: [`Images`] as the rest of the runtime sees them.

use super::super::rootfs::owner;
use super::super::status::{ContainerId, ImageId, ImageStatus};
use super::super::{Credentials, ImageSource, PullError, RuntimeError};
use super::{ImageConfig, Images, Progress, blocking, failed};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

impl ImageSource for Images {
    fn image(&self, reference: &str) -> BoxFuture<'_, Result<Option<ImageStatus>, RuntimeError>> {
        let found = self.resolve(reference);
        async move { Ok(found) }.boxed()
    }

    fn images(&self) -> BoxFuture<'_, Result<Vec<ImageStatus>, RuntimeError>> {
        async { Ok(self.list()) }.boxed()
    }

    fn pull(
        &self,
        reference: &str,
        credentials: Vec<Credentials>,
    ) -> BoxFuture<'_, Result<ImageStatus, PullError>> {
        let reference = reference.to_owned();
        async move { Images::pull(self, &reference, &credentials, &Progress::none()).await }.boxed()
    }

    fn remove(&self, reference: &str) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let reference = reference.to_owned();
        async move { Images::remove(self, &reference).await }.boxed()
    }

    fn config(&self, image: &ImageId) -> BoxFuture<'_, Result<ImageConfig, RuntimeError>> {
        let image = image.clone();
        async move { Images::config(self, &image).await }.boxed()
    }

    fn writable_layer(&self, container: &ContainerId) -> Option<PathBuf> {
        Some(self.written_by(container))
    }

    fn prepare_rootfs(
        &self,
        image: &ImageId,
        container: &ContainerId,
        target: &Path,
    ) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let (image, container) = (image.clone(), container.clone());
        let target = target.to_path_buf();
        async move {
            let rootfs = Images::prepare_rootfs(self, &image, &container).await?;
            let mounted = blocking(move || rootfs.mount(&target)).await;
            mounted.map_err(|error| failed("mounting a container's root file system", error))
        }
        .boxed()
    }

    fn release_rootfs(&self, container: &ContainerId) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let container = container.clone();
        async move {
            for known in self.rootfs_containers() {
                if known != container && owner(&known) == container.0 {
                    Images::release_rootfs(self, &known).await?;
                }
            }
            Images::release_rootfs(self, &container).await
        }
        .boxed()
    }

    fn retain_rootfs(
        &self,
        containers: Vec<ContainerId>,
    ) -> BoxFuture<'_, Result<(), RuntimeError>> {
        async move {
            let kept: BTreeSet<_> = containers.into_iter().map(|it| it.0).collect();
            for container in self.rootfs_containers() {
                if !kept.contains(owner(&container)) {
                    Images::release_rootfs(self, &container).await?;
                }
            }
            Ok(())
        }
        .boxed()
    }
}
