//! Which images are on this node: one small file, replaced whole.
//!
//! Architecture invariant: an image exists from the moment in which its entry is in this file, and
//! everything that the entry names is on disk before that. Blobs and layers without an entry are
//! leftovers of work that did not finish.

use super::super::status::{ImageId, ImageStatus};
use super::digest::Digest;
use super::reference::Reference;
use crate::stdx::write_atomically;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

/// Grows when an older kinglet could misread the file.
const VERSION: u32 = 1;
/// So much room at least is kept for the catalog on a disk that fills up.
const RESERVE_BYTES_MIN: usize = 64 * 1024;
/// Fewer digits than this never stand for an image: too easily a name.
const ID_PREFIX_DIGITS_MIN: usize = 8;

/// An image, under its id in [`Entries`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageRecord {
    /// References with tags.
    pub(super) tags: BTreeSet<String>,
    /// References with digests.
    pub(super) digests: BTreeSet<String>,
    /// Its manifest and its configuration.
    pub(super) blobs: BTreeSet<Digest>,
    /// Chain ids, lowest first.
    pub(super) layers: Vec<Digest>,
    /// The layer that says how `/` looks.
    #[serde(default)]
    pub(super) root: Option<Digest>,
    pub(super) size_bytes: u64,
    pub(super) user: String,
    /// It came from a file in `agent/images`.
    pub(super) pinned: bool,
}

/// An archive that was imported when kinglet started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ArchiveRecord {
    pub(super) size_bytes: u64,
    pub(super) modified_nanoseconds: i64,
    pub(super) images: BTreeSet<Digest>,
}

/// Everything in the catalog. A value of its own, so that changes are ordinary functions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entries {
    version: u32,
    pub(super) images: BTreeMap<Digest, ImageRecord>,
    /// By file name.
    #[serde(default)]
    pub(super) archives: BTreeMap<String, ArchiveRecord>,
}

impl Entries {
    /// The image that a text stands for: a reference, an image id, or the first digits of one where
    /// only one image starts with them.
    pub(super) fn find(&self, text: &str) -> Option<(&Digest, &ImageRecord)> {
        if let Ok(id) = text.parse::<Digest>() {
            return self.images.get_key_value(&id);
        }
        let by_reference = text.parse::<Reference>().ok().map(|reference| reference.to_string());
        let named = |record: &ImageRecord, name: &String| {
            record.tags.contains(name) || record.digests.contains(name)
        };
        by_reference
            .and_then(|name| self.images.iter().find(|(_, record)| named(record, &name)))
            .or_else(|| self.by_prefix(text))
    }

    fn by_prefix(&self, text: &str) -> Option<(&Digest, &ImageRecord)> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if digits.len() < ID_PREFIX_DIGITS_MIN {
            return None;
        }
        let mut found = self.images.iter().filter(|(id, _)| id.hex().starts_with(digits));
        found.next().filter(|_| found.next().is_none())
    }

    /// Adds an image, or names to one that is there. A tag moves here from the image that had it.
    pub(super) fn insert(&mut self, id: &Digest, mut record: ImageRecord) {
        for (other, existing) in &mut self.images {
            if other != id {
                existing.tags.retain(|tag| !record.tags.contains(tag));
            }
        }
        if let Some(existing) = self.images.remove(id) {
            record.tags.extend(existing.tags);
            record.digests.extend(existing.digests);
            record.blobs.extend(existing.blobs);
            record.pinned |= existing.pinned;
        }
        self.images.insert(id.clone(), record);
    }

    /// Takes away what a text stands for. A tag that is not the image's last is just taken off;
    /// anything else removes the image with all its names.
    pub(super) fn remove(&mut self, text: &str) -> Option<Removed> {
        let id = self.find(text)?.0.clone();
        let record = self.images.get_mut(&id)?;
        let name = text.parse::<Reference>().map(|reference| reference.to_string());
        if let Ok(name) = name
            && record.tags.contains(&name)
            && record.tags.len() > 1
        {
            record.tags.remove(&name);
            return Some(Removed::Tag(name));
        }
        self.images.remove(&id).map(|record| Removed::Image(id, record))
    }
}

/// What [`Entries::remove`] took away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Removed {
    Tag(String),
    Image(Digest, ImageRecord),
}

impl ImageRecord {
    pub(super) fn status(&self, id: &Digest) -> ImageStatus {
        ImageStatus {
            id: ImageId(id.to_string()),
            tags: self.tags.iter().cloned().collect(),
            digests: self.digests.iter().cloned().collect(),
            size_bytes: self.size_bytes,
            user: self.user.clone(),
            pinned: self.pinned,
        }
    }
}

/// Why the catalog cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum CatalogError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is damaged; remove it, and images are pulled again when they are needed next")]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{path} was written by a newer kinglet (version {found}, this one knows {VERSION})")]
    Newer { path: PathBuf, found: u32 },
}

/// [`Entries`], on disk and in memory. Readers never wait for the disk.
#[derive(Debug)]
pub(super) struct Catalog {
    path: PathBuf,
    writer: Mutex<()>,
    current: RwLock<Arc<Entries>>,
}

impl Catalog {
    pub(super) fn open(path: PathBuf) -> Result<Self, CatalogError> {
        let entries = read(&path)?;
        Ok(Self { path, writer: Mutex::default(), current: RwLock::new(Arc::new(entries)) })
    }

    pub(super) fn current(&self) -> Arc<Entries> {
        Arc::clone(&self.current.read().expect("no panics under this lock"))
    }

    /// Changes the catalog; the change is on disk when this returns. Writes nothing where nothing
    /// changed.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Entries) -> T) -> io::Result<T> {
        let _writer = self.writer.lock().expect("no panics under this lock");
        let before = self.current();
        let mut entries = Entries::clone(&before);
        let result = change(&mut entries);
        if entries != *before {
            entries.version = VERSION;
            let bytes = serde_json::to_vec(&entries).map_err(io::Error::other)?;
            self.write(&bytes)?;
            *self.current.write().expect("no panics under this lock") = Arc::new(entries);
        }
        Ok(result)
    }

    /// Writes the catalog, on a full disk into the room that is kept for that: images have to go to
    /// make room.
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let reserve = self.path.with_extension("reserve");
        let written = match write_atomically(&self.path, bytes, 0o600) {
            Err(error)
                if error.kind() == io::ErrorKind::StorageFull
                    && std::fs::remove_file(&reserve).is_ok() =>
            {
                write_atomically(&self.path, bytes, 0o600)
            }
            written => written,
        };
        // While there is no room for it, it is missing, and is tried again with the next change.
        keep_reserve(&reserve, bytes.len()).ok();
        written
    }
}

/// Has a file hold room for a catalog that has become larger.
fn keep_reserve(path: &Path, bytes: usize) -> io::Result<()> {
    let wanted = RESERVE_BYTES_MIN.max(bytes * 2);
    let held = std::fs::metadata(path).map_or(0, |found| found.len());
    if held >= wanted as u64 {
        return Ok(());
    }
    std::fs::write(path, vec![0; wanted])
}

fn read(path: &Path) -> Result<Entries, CatalogError> {
    let path_buf = || path.to_path_buf();
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Entries::default()),
        Err(source) => return Err(CatalogError::Read { path: path_buf(), source }),
    };
    let entries: Entries = serde_json::from_slice(&bytes)
        .map_err(|source| CatalogError::Damaged { path: path_buf(), source })?;
    if entries.version > VERSION {
        return Err(CatalogError::Newer { path: path_buf(), found: entries.version });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(tags: &[&str], digests: &[&str]) -> ImageRecord {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        ImageRecord { tags: set(tags), digests: set(digests), ..ImageRecord::default() }
    }

    fn two_images() -> (Entries, Digest, Digest) {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let mut entries = Entries::default();
        let at = format!("x.io/a@{b}");
        entries.insert(&a, record(&["docker.io/library/a:1", "docker.io/library/a:2"], &[&at]));
        entries.insert(&b, record(&["x.io/b:1"], &[]));
        (entries, a, b)
    }

    #[test]
    fn images_are_found_by_every_name_they_have() {
        let (entries, a, b) = two_images();
        let at = format!("x.io/a@{b}");
        for (text, expected) in [
            ("a:1", Some(&a)),
            ("docker.io/a:2", Some(&a)),
            ("a", None),
            ("x.io/b:1", Some(&b)),
            (at.as_str(), Some(&a)),
            (&a.to_string(), Some(&a)),
            (a.hex(), Some(&a)),
            (&a.hex()[..8], Some(&a)),
            (&a.to_string()[..16], Some(&a)),
            (&a.hex()[..7], None),
            ("NOT a reference", None),
        ] {
            assert_eq!(entries.find(text).map(|(id, _)| id), expected, "{text}");
        }
    }

    #[test]
    fn a_tag_moves_and_names_add_up() {
        let (mut entries, a, b) = two_images();
        entries.insert(&b, record(&["docker.io/library/a:2"], &["y.io/b@x"]));
        assert_eq!(entries.images[&a].tags.len(), 1);
        assert_eq!(entries.images[&b].tags.len(), 2);
        assert_eq!(entries.images[&b].digests.len(), 1);
    }

    #[test]
    fn only_the_last_tag_takes_the_image_along() {
        let (mut entries, a, _) = two_images();
        let tag = "docker.io/library/a:1".to_owned();
        assert_eq!(entries.remove("a:1"), Some(Removed::Tag(tag)));
        assert!(matches!(entries.remove("a:2"), Some(Removed::Image(id, _)) if id == a));
        assert_eq!(entries.remove("a:2"), None);
        let (mut entries, a, _) = two_images();
        assert!(matches!(entries.remove(a.hex()), Some(Removed::Image(..))));
    }

    #[test]
    fn what_was_written_is_there_after_reopening_and_damage_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("images.json");
        let catalog = Catalog::open(path.clone()).unwrap();
        catalog.update(|_| ()).unwrap();
        assert!(!path.exists(), "nothing changed, nothing written");
        let (entries, ..) = two_images();
        catalog.update(|current| *current = entries.clone()).unwrap();
        assert_eq!(Catalog::open(path.clone()).unwrap().current().images, entries.images);
        let reserve = std::fs::metadata(path.with_extension("reserve")).unwrap().len();
        assert_eq!(reserve, RESERVE_BYTES_MIN as u64);
        std::fs::write(&path, b"{").unwrap();
        let error = Catalog::open(path.clone()).unwrap_err().to_string();
        assert!(
            error.ends_with(
                "is damaged; remove it, and images are pulled again when they are needed next"
            ),
            "{error}"
        );
        std::fs::write(&path, br#"{"version":9,"images":{}}"#).unwrap();
        let error = Catalog::open(path).unwrap_err().to_string();
        assert!(error.ends_with("was written by a newer kinglet (version 9, this one knows 1)"));
    }
}
