//! What the watches of a node showed last, kept so that the node goes on from it where no server is
//! to be reached, also after a restart of its own.
//!
//! A [`Client`](super::Client) that [remembers](super::Client::remembering) has each watch that is
//! made with it write down what it shows; a watch that cannot be begun because no server answers
//! shows that, once, and goes on trying. Nobody who watches notices but by its age. Secrets are kept
//! in memory and never on a disk, as everything that is made of them.

mod journal;
mod worth;

pub(super) use journal::Journal;

use super::ResourceType;
use crate::stdx::fnv1a_64;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use tracing::warn;

/// See the module.
#[derive(Debug)]
pub struct LastKnown {
    directory: PathBuf,
    /// On a file system that is in memory.
    memory: PathBuf,
}

impl LastKnown {
    /// Keeps what it is told in `directory`, and Secrets in `memory`, which must not be on a disk.
    ///
    /// # Errors
    /// Where one of them cannot be made.
    pub fn open(directory: PathBuf, memory: PathBuf) -> io::Result<Self> {
        for path in [&directory, &memory] {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        }
        Ok(Self { directory, memory })
    }

    fn path(&self, resource: &ResourceType, selection: &str) -> PathBuf {
        let plural = &*resource.plural;
        let directory = if plural == "secrets" { &self.memory } else { &self.directory };
        directory.join(format!("{plural}-{:016x}.known", fnv1a_64(selection.bytes())))
    }

    /// What is known of a selection, which is told by its path.
    pub(super) fn journal(&self, resource: &ResourceType, selection: &str) -> Journal {
        Journal::open(self.path(resource, selection), resource.plural.to_string())
    }

    /// Nobody watches this any more.
    pub(super) fn forget(&self, resource: &ResourceType, selection: &str) {
        let path = self.path(resource, selection);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(%error, "{} stays", path.display());
        }
    }
}
