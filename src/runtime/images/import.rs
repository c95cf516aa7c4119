//! Images from files.

use super::super::error::PullError;
use super::super::status::{ImageId, ImageStatus};
use super::archive::{self, Archive};
use super::catalog::ArchiveRecord;
use super::digest::Digest;
use super::progress::Progress;
use super::pull::{Plan, Puller, everything};
use super::{Origin, blocking};
use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::task::TaskTracker;

/// What files in `agent/images` are called. Compression is found out from their contents.
const SUFFIXES: [&str; 5] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"];

/// Where an archive comes from.
pub enum ImportSource {
    Path(PathBuf),
    /// `name` is what errors call it.
    Reader {
        name: String,
        reader: Box<dyn Read + Send>,
    },
}

impl fmt::Debug for ImportSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name())
    }
}

impl ImportSource {
    fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Reader { name, .. } => name.clone(),
        }
    }

    /// The archive as a plain file; `spool` is where it may be copied to.
    fn open(self, spool: &Path) -> Result<File, PullError> {
        match self {
            Self::Reader { reader, .. } => archive::spool_plain(reader, spool),
            Self::Path(path) => {
                let unreadable = |source: io::Error| PullError::Malformed {
                    what: "the file".to_owned(),
                    why: source.to_string(),
                };
                let file = File::open(&path).map_err(unreadable)?;
                if !file.metadata().map_err(unreadable)?.is_file() {
                    return Err(unreadable(io::Error::other("it is not a file")));
                }
                archive::plain_file(file, spool)
            }
        }
    }
}

/// An archive that was refused. Nothing of it is on this node.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{file} cannot be imported")]
pub struct ImportError {
    pub file: String,
    #[source]
    pub source: PullError,
}

/// What became of one file of `agent/images`.
#[derive(Debug)]
pub struct ImportedFile {
    pub path: PathBuf,
    /// The ids of its images.
    pub result: Result<Vec<ImageId>, ImportError>,
}

impl Puller {
    /// Imports every image of an archive, or none.
    pub(super) async fn import(
        self: &Arc<Self>,
        source: ImportSource,
        progress: &Progress,
        pinned: bool,
    ) -> Result<Vec<ImageStatus>, ImportError> {
        let file = source.name();
        let result = self.import_all(source, progress, pinned).await;
        result.map_err(|source| ImportError { file, source })
    }

    async fn import_all(
        self: &Arc<Self>,
        source: ImportSource,
        progress: &Progress,
        pinned: bool,
    ) -> Result<Vec<ImageStatus>, PullError> {
        let puller = Arc::clone(self);
        let (archive, plans) = blocking(move || {
            let archive = Archive::open(source.open(&puller.store.layout.new_path())?)?;
            let plans = puller.plans(&archive, pinned)?;
            Ok::<_, PullError>((archive, plans))
        })
        .await?;
        let leftovers = everything(&plans);
        let threads = TaskTracker::new();
        let origin = Origin::Archive { archive: Arc::new(archive), threads: threads.clone() };
        let result = self.complete(plans, &origin, progress).await;
        if result.is_err() {
            // What is removed must not come after that.
            threads.close();
            threads.wait().await;
            let store = Arc::clone(&self.store);
            // What cannot be removed now is removed by the next sweep; the error that matters is
            // the archive's.
            blocking(move || store.collect(leftovers)).await.ok();
        }
        result
    }

    fn plans(&self, archive: &Archive, pinned: bool) -> Result<Vec<Plan>, PullError> {
        let choose = |offers: &[_], name: &str| self.choose_platform(offers, name).cloned();
        let images = archive.images(&choose)?;
        let mut plans = Vec::new();
        for image in images {
            let mut names = image.names;
            names.pinned = pinned;
            plans.push(self.plan(image.documents, &image.shown, names)?);
        }
        Ok(plans)
    }

    /// Imports what is new in `agent/images`, and lets go of what is no longer there. `imported` is
    /// told of each file.
    pub(super) async fn import_directory(
        self: &Arc<Self>,
        progress: &Progress,
        mut imported: impl FnMut(ImportedFile) + Send,
    ) -> io::Result<()> {
        let puller = Arc::clone(self);
        let files = blocking(move || puller.files_to_import()).await?;
        for (path, mut record) in files {
            let source = ImportSource::Path(path.clone());
            let result = self.import(source, progress, true).await;
            if let Ok(images) = &result {
                record.images = images.iter().filter_map(|image| image.id.0.parse().ok()).collect();
                let (store, name) = (Arc::clone(&self.store), file_name(&path));
                blocking(move || {
                    store.catalog.update(|entries| entries.archives.insert(name, record))
                })
                .await?;
            }
            let ids = |images: Vec<ImageStatus>| images.into_iter().map(|image| image.id).collect();
            imported(ImportedFile { path, result: result.map(ids) });
        }
        Ok(())
    }

    /// Files that are not here yet as they are, by name.
    fn files_to_import(&self) -> io::Result<Vec<(PathBuf, ArchiveRecord)>> {
        let mut found = Vec::new();
        let directory = match fs::read_dir(self.store.layout.archives()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other?),
        };
        for entry in directory.into_iter().flatten() {
            let path = entry?.path();
            let is_archive = SUFFIXES.iter().any(|suffix| file_name(&path).ends_with(suffix));
            let facts = fs::metadata(&path)?;
            if is_archive && facts.is_file() {
                found.push((path, archive_record(&facts)));
            }
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        let names: BTreeSet<_> = found.iter().map(|(path, _)| file_name(path)).collect();
        self.forget_archives_but(&names)?;
        let entries = self.store.catalog.current();
        found.retain(|(path, record)| {
            entries.archives.get(&file_name(path)).is_none_or(|known| {
                let is_same = known.size_bytes == record.size_bytes
                    && known.modified_nanoseconds == record.modified_nanoseconds;
                !is_same || !known.images.iter().all(|id| entries.images.contains_key(id))
            })
        });
        Ok(found)
    }

    /// Images of files that were taken away are images like all others.
    fn forget_archives_but(&self, names: &BTreeSet<String>) -> io::Result<()> {
        self.store.catalog.update(|entries| {
            entries.archives.retain(|name, _| names.contains(name));
            let archives = entries.archives.values();
            let pinned: BTreeSet<Digest> =
                archives.flat_map(|archive| archive.images.iter().cloned()).collect();
            for (id, record) in &mut entries.images {
                record.pinned &= pinned.contains(id);
            }
        })
    }
}

fn archive_record(facts: &fs::Metadata) -> ArchiveRecord {
    let seconds = facts.mtime().saturating_mul(1_000_000_000);
    ArchiveRecord {
        size_bytes: facts.len(),
        modified_nanoseconds: seconds.saturating_add(facts.mtime_nsec()),
        images: BTreeSet::new(),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
