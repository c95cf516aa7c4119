//! Where everything is below the data directory, and nothing else.
//!
//! ```text
//! agent/images/*.tar*                      archives to import when kinglet starts
//! agent/content/images.json                the catalog
//! agent/content/images.reserve             room for the next catalog, on a disk that is full
//! agent/content/lock                       held by the one process that uses all this
//! agent/content/blobs/<algorithm>/<hex>    manifests and configurations; layers until unpacked
//! agent/content/partial/<algorithm>-<hex>  what has arrived of a blob
//! agent/snapshots/<hex of chain id>/fs     an unpacked layer
//! agent/snapshots/<hex>/layer.json         what is known about it
//! agent/snapshots/new/                     being unpacked or being removed
//! agent/snapshots/containers/<id>/         rootfs.json, upper, work
//! ```

use super::digest::{Algorithm, Digest};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub(super) struct Layout {
    agent: PathBuf,
}

impl Layout {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { agent: data_dir.join("agent") }
    }

    /// Makes every directory that is not there yet.
    pub(super) fn create(&self) -> io::Result<()> {
        for algorithm in Algorithm::ALL {
            fs::create_dir_all(self.blobs(algorithm))?;
        }
        for directory in [self.partials(), self.new_directory(), self.containers()] {
            fs::create_dir_all(directory)?;
        }
        // Images hold setuid programs that are not for this machine's users to run.
        for private in [self.snapshots(), self.agent.join("content")] {
            fs::set_permissions(private, fs::Permissions::from_mode(0o700))?;
        }
        Ok(())
    }

    pub(super) fn archives(&self) -> PathBuf {
        self.agent.join("images")
    }

    pub(super) fn catalog(&self) -> PathBuf {
        self.agent.join("content/images.json")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.agent.join("content/lock")
    }

    pub(super) fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        self.agent.join("content/blobs").join(algorithm.name())
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs(digest.algorithm()).join(digest.hex())
    }

    pub(super) fn partials(&self) -> PathBuf {
        self.agent.join("content/partial")
    }

    pub(super) fn partial(&self, digest: &Digest) -> PathBuf {
        self.partials().join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }

    pub(super) fn snapshots(&self) -> PathBuf {
        self.agent.join("snapshots")
    }

    pub(super) fn snapshot(&self, chain_id: &Digest) -> PathBuf {
        self.snapshots().join(chain_id.hex())
    }

    /// What an overlay takes as a lower directory.
    pub(super) fn layer(&self, chain_id: &Digest) -> PathBuf {
        self.snapshot(chain_id).join("fs")
    }

    pub(super) fn layer_facts(&self, chain_id: &Digest) -> PathBuf {
        self.snapshot(chain_id).join("layer.json")
    }

    pub(super) fn new_directory(&self) -> PathBuf {
        self.snapshots().join("new")
    }

    /// A name below [`Layout::new_directory`] that nobody else uses.
    pub(super) fn new_path(&self) -> PathBuf {
        self.new_directory().join(uuid::Uuid::new_v4().simple().to_string())
    }

    pub(super) fn containers(&self) -> PathBuf {
        self.snapshots().join("containers")
    }

    pub(super) fn container(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }
}
