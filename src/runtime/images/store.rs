//! Blobs and layers on disk: how they get there whole, and when they go.
//!
//! Architecture invariants: a name in the store is given only to contents that are complete,
//! checked and synced; what a catalog entry, a container or a running pull uses is never removed.

use super::super::error::{PullError, RuntimeError};
use super::catalog::Catalog;
use super::digest::{Digest, Hasher};
use super::layout::Layout;
use super::rootfs::Marks;
use crate::stdx::{fault, write_atomically};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What is known about an unpacked layer, beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayerFacts {
    pub(super) diff_id: Digest,
    /// Contents of its files.
    pub(super) size_bytes: u64,
    /// Whether its archive says how `/` looks.
    pub(super) describes_root: bool,
    /// Whether nothing of the layers below is seen through it.
    pub(super) has_opaque_root: bool,
}

/// What is below a container: chain ids, lowest first, and which of them says how `/` looks.
#[derive(Clone, Debug)]
pub(super) struct Below {
    pub(super) layers: Vec<Digest>,
    pub(super) root: Option<Digest>,
}

/// Everything on disk that images are made of. One per data directory and machine.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) layout: Layout,
    pub(super) catalog: Catalog,
    pub(super) marks: Marks,
    holds: Mutex<Holds>,
    /// Directories that an earlier process did not finish, until they are swept away.
    abandoned: Mutex<Vec<PathBuf>>,
    /// Locked for as long as this process uses the directory.
    lock: File,
}

/// What has to stay although no image in the catalog names it.
#[derive(Debug, Default)]
struct Holds {
    next: u64,
    works: BTreeMap<u64, Kept>,
    /// Chain ids below each container, by its id.
    containers: BTreeMap<String, Vec<Digest>>,
}

/// Blobs and layers, by digest and by chain id.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub(super) blobs: BTreeSet<Digest>,
    pub(super) layers: BTreeSet<Digest>,
}

/// Keeps what a pull or an import works on from being removed, until it is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    store: Arc<Store>,
    number: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.store.holds.lock().expect("no panics under this lock").works.remove(&self.number);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // A child that this process is just starting still has every open file for a moment:
        // closing alone would leave the lock to it. Where unlocking fails, closing has to do.
        self.lock.unlock().ok();
    }
}

impl Store {
    pub(super) fn open(data_dir: &Path) -> Result<Self, RuntimeError> {
        let layout = Layout::new(data_dir);
        let failed = |source: io::Error| RuntimeError::Failed {
            operation: "opening the image store",
            source: Arc::new(source),
        };
        layout.create().map_err(failed)?;
        let lock = File::create(layout.lock()).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let directory = data_dir.display();
                return Err(RuntimeError::Invalid(format!(
                    "the images in {directory} are in use by another kinglet"
                )));
            }
            Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        let catalog = Catalog::open(layout.catalog())
            .map_err(|error| RuntimeError::Invalid(crate::stdx::chain(&error)))?;
        let mut abandoned = list(&layout.new_directory()).map_err(failed)?;
        let marks = probe_marks(&layout).map_err(failed)?;
        let (containers, unknown) = read_containers(&layout).map_err(failed)?;
        abandoned.extend(unknown);
        let abandoned = Mutex::new(abandoned);
        let holds = Mutex::new(Holds { containers, ..Holds::default() });
        Ok(Self { layout, catalog, marks, holds, abandoned, lock })
    }

    /// What an earlier process did not finish; once.
    pub(super) fn take_abandoned(&self) -> Vec<PathBuf> {
        std::mem::take(&mut *self.abandoned.lock().expect("no panics under this lock"))
    }

    /// The ids of all containers that have a root file system here.
    pub(super) fn containers(&self) -> Vec<String> {
        let holds = self.holds.lock().expect("no panics under this lock");
        holds.containers.keys().cloned().collect()
    }

    /// Keeps `kept` from being removed. Taken before looking whether something is there.
    pub(super) fn hold(self: &Arc<Self>, kept: Kept) -> Hold {
        let mut holds = self.holds.lock().expect("no panics under this lock");
        let number = holds.next;
        holds.next += 1;
        holds.works.insert(number, kept);
        Hold { store: Arc::clone(self), number }
    }

    /// Reads a blob and checks that it is the one it is called.
    pub(super) fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, PullError> {
        let stored = |source: io::Error| PullError::Store {
            what: format!("blob {digest}"),
            source: Arc::new(source),
        };
        let bytes = fs::read(self.layout.blob(digest)).map_err(stored)?;
        check_blob(digest, &bytes, "the stored blob")?;
        Ok(bytes)
    }

    /// Stores a small blob that is there as a whole, durably.
    pub(super) fn write_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), PullError> {
        check_blob(digest, bytes, "a blob")?;
        if self.read_blob(digest).is_ok() {
            return Ok(());
        }
        write_atomically(&self.layout.blob(digest), bytes, 0o600).map_err(|source| {
            PullError::Store { what: format!("blob {digest}"), source: Arc::new(source) }
        })
    }

    /// What is known about an unpacked layer; `None` where it is not here.
    pub(super) fn layer(&self, chain_id: &Digest) -> Option<LayerFacts> {
        // The directory gets its name only when everything in it is on disk, so whatever is
        // missing or unreadable here has been damaged since: unpack it again.
        let bytes = fs::read(self.layout.layer_facts(chain_id)).ok()?;
        serde_json::from_slice(&bytes).ok().filter(|_| self.layout.layer(chain_id).is_dir())
    }

    /// Makes a directory to unpack a layer into.
    pub(super) fn new_layer(&self) -> io::Result<NewLayer> {
        let path = self.layout.new_path();
        fs::create_dir(&path)?;
        fs::create_dir(path.join("fs"))?;
        Ok(NewLayer { path, published: false })
    }

    /// Gives an unpacked layer its name, durably. Another's work of the same name stays.
    pub(super) fn publish_layer(
        &self,
        mut layer: NewLayer,
        chain_id: &Digest,
        facts: &LayerFacts,
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(facts).map_err(io::Error::other)?;
        fs::write(layer.path.join("layer.json"), bytes)?;
        // One call for all files of the layer, instead of one for each.
        rustix::fs::syncfs(File::open(&layer.path)?)?;
        fault::point("image: layer on disk");
        let name = self.layout.snapshot(chain_id);
        if name.exists() {
            if self.layer(chain_id).is_some() {
                return Ok(());
            }
            self.discard(&name)?;
        }
        fs::rename(&layer.path, &name)?;
        layer.published = true;
        fault::point("image: layer published");
        File::open(self.layout.snapshots())?.sync_all()
    }

    /// Notes what is below a container, so that it stays. `None` where the image is not here.
    pub(super) fn hold_for_container(&self, container: &str, image: &Digest) -> Option<Below> {
        let mut holds = self.holds.lock().expect("no panics under this lock");
        if let Some(layers) = holds.containers.get(container) {
            return Some(Below { layers: layers.clone(), root: None });
        }
        let entries = self.catalog.current();
        let record = entries.images.get(image)?;
        holds.containers.insert(container.to_owned(), record.layers.clone());
        Some(Below { layers: record.layers.clone(), root: record.root.clone() })
    }

    /// The chain ids below a container, lowest first.
    pub(super) fn container_layers(&self, container: &str) -> Option<Vec<Digest>> {
        let holds = self.holds.lock().expect("no panics under this lock");
        holds.containers.get(container).cloned()
    }

    /// Forgets a container; returns what was below it.
    pub(super) fn release_container(&self, container: &str) -> Vec<Digest> {
        let mut holds = self.holds.lock().expect("no panics under this lock");
        holds.containers.remove(container).unwrap_or_default()
    }

    /// Removes those of `candidates` that nothing uses any more.
    pub(super) fn collect(&self, candidates: Kept) -> io::Result<()> {
        let mut doomed = Vec::new();
        {
            // Under this lock nobody can begin to use what is about to lose its name.
            let holds = self.holds.lock().expect("no panics under this lock");
            let used = self.used(&holds);
            for blob in candidates.blobs.difference(&used.blobs) {
                remove_file_if_there(&self.layout.blob(blob))?;
            }
            for layer in candidates.layers.difference(&used.layers) {
                doomed.extend(self.set_aside(&self.layout.snapshot(layer))?);
            }
        }
        doomed.iter().try_for_each(fs::remove_dir_all)
    }

    fn used(&self, holds: &Holds) -> Kept {
        let catalog = self.catalog.current();
        let mut used = Kept::default();
        for record in catalog.images.values() {
            used.blobs.extend(record.blobs.iter().cloned());
            used.layers.extend(record.layers.iter().cloned());
        }
        for work in holds.works.values() {
            used.blobs.extend(work.blobs.iter().cloned());
            used.layers.extend(work.layers.iter().cloned());
        }
        used.layers.extend(holds.containers.values().flatten().cloned());
        used
    }

    /// Removes a directory of the store, in a way that leaves no half of it under its name.
    pub(super) fn discard(&self, directory: &Path) -> io::Result<()> {
        self.set_aside(directory)?.iter().try_for_each(fs::remove_dir_all)
    }

    fn set_aside(&self, directory: &Path) -> io::Result<Option<PathBuf>> {
        let aside = self.layout.new_path();
        match fs::rename(directory, &aside) {
            Ok(()) => Ok(Some(aside)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A layer that is being unpacked: gone when dropped, unless it was published.
#[derive(Debug)]
pub(super) struct NewLayer {
    path: PathBuf,
    published: bool,
}

impl NewLayer {
    pub(super) fn root(&self) -> PathBuf {
        self.path.join("fs")
    }
}

impl Drop for NewLayer {
    fn drop(&mut self) {
        if !self.published {
            // What stays here by an error is swept away at the next start.
            fs::remove_dir_all(&self.path).ok();
        }
    }
}

/// Checks a document against the digest it was asked for by.
pub(super) fn check_blob(digest: &Digest, bytes: &[u8], what: &str) -> Result<(), PullError> {
    let mut hasher = Hasher::new(digest.algorithm());
    hasher.update(bytes);
    let actual = hasher.finish();
    if actual == *digest {
        return Ok(());
    }
    Err(PullError::WrongDigest {
        what: what.to_owned(),
        expected: digest.to_string(),
        actual: actual.to_string(),
    })
}

pub(super) fn remove_file_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Which names for its marks overlayfs can use here, found out by trying.
fn probe_marks(layout: &Layout) -> io::Result<Marks> {
    let probe = layout.new_path();
    fs::create_dir(&probe)?;
    let set = |marks: Marks| {
        rustix::fs::setxattr(&probe, marks.opaque(), b"y", rustix::fs::XattrFlags::empty())
    };
    let found = match set(Marks::Trusted) {
        Err(rustix::io::Errno::PERM) => set(Marks::User).map(|()| Marks::User),
        other => other.map(|()| Marks::Trusted),
    };
    fs::remove_dir(&probe)?;
    found.map_err(|error| {
        let directory = layout.snapshots();
        io::Error::other(format!(
            "the file system of {} takes no extended attributes, which overlayfs needs: {error}",
            directory.display()
        ))
    })
}

/// What is remembered beside a container's own files. Not synced: after a power cut the container
/// is gone as well, and what cannot be read is swept away.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ContainerFacts {
    pub(super) layers: Vec<Digest>,
}

/// The layers below each container, and directories that are no container's.
type Containers = (BTreeMap<String, Vec<Digest>>, Vec<PathBuf>);

fn read_containers(layout: &Layout) -> io::Result<Containers> {
    let (mut containers, mut unknown) = (BTreeMap::new(), Vec::new());
    for path in list(&layout.containers())? {
        let facts = fs::read(path.join("rootfs.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice::<ContainerFacts>(&bytes).ok());
        let id = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        match (facts, id) {
            (Some(facts), Some(id)) => drop(containers.insert(id, facts.layers)),
            _ => unknown.push(path),
        }
    }
    Ok((containers, unknown))
}

fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}
