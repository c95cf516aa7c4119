//! Images that are volumes of a pod: each is mounted beside the container's root file system, and seen
//! in the container without being written to or run (upstream `ImageVolume`, v1.35).
//!
//! Architecture invariant: nothing writes to such an image, so that a path in it that was looked up
//! stays what it is.

use super::super::rootfs::mounted_image;
use super::super::{
    ContainerConfig, ContainerId, ImageMount, Mount, MountPropagation, RuntimeError,
};
use super::layout::ContainerFiles;
use super::{Engine, failed};
use crate::stdx::blocking;
use rustix::fs::{self as kernel, Mode, OFlags, ResolveFlags};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

const OPERATION: &str = "mounting an image as a volume";

impl Engine {
    /// Mounts the images. Returns what of them is to be seen in the container.
    pub(super) async fn mount_images(
        &self,
        id: &ContainerId,
        files: &ContainerFiles,
        config: &ContainerConfig,
    ) -> Result<Vec<Mount>, RuntimeError> {
        let mut mounts = Vec::with_capacity(config.image_mounts.len());
        for (place, wanted) in config.image_mounts.iter().enumerate() {
            let target = files.mounted_image(place);
            let made = target.clone();
            let made = blocking(move || fs::create_dir_all(made)).await;
            made.map_err(|error| failed(OPERATION, error))?;
            let holder = mounted_image(id, place);
            self.images.prepare_rootfs(&wanted.image, &holder, &target).await?;
            let sub_path = wanted.sub_path.clone();
            let found = blocking(move || find(&target, &sub_path)).await;
            let host_path = found.map_err(|error| missing(wanted, &error))?;
            mounts.push(Mount {
                container_path: wanted.container_path.clone(),
                host_path,
                read_only: true,
                propagation: MountPropagation::Private,
            });
        }
        Ok(mounts)
    }
}

fn missing(wanted: &ImageMount, error: &io::Error) -> RuntimeError {
    let path = wanted.sub_path.display();
    let message = format!("path {path} of image {} cannot be used: {error}", wanted.image);
    RuntimeError::Refused { operation: OPERATION, message }
}

/// The path on the node of one in the image; links stay within the image.
fn find(image: &Path, sub_path: &Path) -> io::Result<PathBuf> {
    if sub_path.as_os_str().is_empty() {
        return Ok(image.to_owned());
    }
    let root = File::open(image)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found =
        kernel::openat2(&root, sub_path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
}
