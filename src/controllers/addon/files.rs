//! The directory of manifests: what is in it now, and when that changes.
//!
//! Start at [`ManifestFiles::scan`]. A file is looked at when whoever writes it has closed it: half of
//! a file may read well, and what is in the other half would be pruned. Links to directories are not
//! followed.

use super::manifest::{self, Wanted};
use crate::stdx::{blocking, chain, hex};
use crate::sys::directory_watch::{Directory, DirectoryWatch, FileChange};
use aws_lc_rs::digest::{SHA256, digest};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// Beyond these, nothing is applied or pruned, since it is not known what is there.
const FILES_MAX: usize = 1_000;
const DIRECTORIES_MAX: usize = 100;
const DEPTH_MAX: usize = 8;
const TOTAL_BYTES_MAX: u64 = 64 << 20;

/// A longer file is not applied.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Who writes several files is waited for: changes are looked at when there were none for so long,
/// and after so many changes whether or not there were.
const SETTLE: Duration = Duration::from_millis(200);
const UNSETTLED_MAX: usize = 25;

/// What is found in place of a file.
#[derive(Debug)]
pub(super) enum Found {
    /// As it was.
    Same,
    /// It is skipped, or somebody is writing it.
    Kept,
    Objects {
        checksum: String,
        wanted: Vec<Wanted>,
    },
    Broken {
        checksum: String,
        message: String,
    },
}

/// What there is.
#[derive(Debug)]
pub(super) enum Scan {
    /// The directory itself is not there.
    Missing,
    /// By their paths below it.
    Files(BTreeMap<String, Found>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct ManifestFiles {
    directory: PathBuf,
    watch: Option<Arc<DirectoryWatch>>,
    /// What the directory is in.
    above: Option<Directory>,
    /// Files that are being written.
    open: BTreeSet<(Directory, OsString)>,
    /// Changes that have not been told yet.
    untold: usize,
}

impl ManifestFiles {
    /// Where the kernel has no watch left, changes count after the next start.
    pub(super) fn watch(directory: PathBuf) -> Self {
        // The directory may come and go; what it is in stays.
        let parent = directory.parent().unwrap_or(Path::new("/"));
        let opened = DirectoryWatch::open(parent)
            .and_then(|watch| watch.add(parent).map(|above| (Arc::new(watch), above)));
        let opened = opened.inspect_err(|error| warn_of(&directory, error)).ok();
        let (watch, above) = opened.unzip();
        Self { directory, watch, above, open: BTreeSet::new(), untold: 0 }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the directory, for whoever has something to put into it.
    pub(super) async fn make(&self) -> io::Result<()> {
        let directory = self.directory.clone();
        blocking(move || fs::create_dir_all(directory)).await
    }

    /// What is there now. Files whose checksum is `known` are not read any further.
    ///
    /// # Errors
    /// Where it cannot be said what is there.
    pub(super) async fn scan(&self, known: BTreeMap<String, String>) -> io::Result<Scan> {
        let (directory, watch, open) =
            (self.directory.clone(), self.watch.clone(), self.open.clone());
        blocking(move || {
            let mut listing = Listing::new(watch.as_deref(), &open);
            match listing.add_all(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.exists() => {
                    Ok(Scan::Missing)
                }
                Err(error) => Err(error),
                Ok(()) => Ok(Scan::Files(read_all(listing, &known)?)),
            }
        })
        .await
    }

    /// Waits until something changes, and then until it has settled. Nothing is lost when this is
    /// dropped before it has returned.
    pub(super) async fn changed(&mut self) {
        while self.untold < UNSETTLED_MAX {
            let Some(watch) = self.watch.clone() else { break };
            let next = match self.untold {
                0 => watch.changed().await,
                _ => match tokio::time::timeout(SETTLE, watch.changed()).await {
                    Ok(next) => next,
                    Err(_settled) => break,
                },
            };
            match next {
                Ok(changes) => changes.into_iter().for_each(|change| self.note(change)),
                Err(error) => {
                    warn_of(&self.directory, &error);
                    self.watch = None;
                }
            }
        }
        if self.untold == 0 {
            // Nobody will tell.
            std::future::pending::<()>().await;
        }
        self.untold = 0;
    }

    /// Above the directory, nothing but itself does.
    fn matters(&self, change: &FileChange) -> bool {
        let is_above = self.above == Some(change.directory);
        !is_above || Some(&*change.name) == self.directory.file_name()
    }

    fn note(&mut self, change: FileChange) {
        if !self.matters(&change) {
            return;
        }
        self.untold += 1;
        let file = (change.directory, change.name);
        if change.written {
            self.open.insert(file);
        } else if file.1.is_empty() {
            // A directory went, or the kernel has left something out.
            self.open.clear();
        } else {
            self.open.remove(&file);
        }
    }
}

fn warn_of(directory: &Path, error: &io::Error) {
    let directory = directory.display();
    warn!(%directory, error = chain(error), "changes of manifests are not noticed");
}

/// The files of a tree by name, unread.
#[derive(Debug)]
struct Listing<'a> {
    watch: Option<&'a DirectoryWatch>,
    open: &'a BTreeSet<(Directory, OsString)>,
    files: BTreeMap<String, Unread>,
    skipped: BTreeSet<String>,
    directories: usize,
}

#[derive(Debug)]
struct Unread {
    path: PathBuf,
    is_open: bool,
}

impl<'a> Listing<'a> {
    fn new(watch: Option<&'a DirectoryWatch>, open: &'a BTreeSet<(Directory, OsString)>) -> Self {
        let (files, skipped) = (BTreeMap::new(), BTreeSet::new());
        Self { watch, open, files, skipped, directories: 0 }
    }

    fn add_all(&mut self, directory: &Path) -> io::Result<()> {
        let mut pending = vec![(directory.to_owned(), String::new(), 0)];
        while let Some((directory, prefix, depth)) = pending.pop() {
            self.directories += 1;
            if self.directories > DIRECTORIES_MAX || depth > DEPTH_MAX {
                let problem = format!(
                    "there are more than {DIRECTORIES_MAX} directories, or one is more than \
                     {DEPTH_MAX} levels below"
                );
                return Err(io::Error::other(problem));
            }
            for below in self.add_one(&directory, &prefix)? {
                pending.push((directory.join(&below), format!("{prefix}{below}/"), depth + 1));
            }
        }
        Ok(())
    }

    /// Adds the files of one directory, and returns the directories in it.
    fn add_one(&mut self, directory: &Path, prefix: &str) -> io::Result<Vec<String>> {
        // Before it is read, so that no change is missed.
        let watched = match self.watch.map(|watch| watch.add(directory)).transpose() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
            Err(error) => {
                warn_of(directory, &error);
                None
            }
            Ok(watched) => watched,
        };
        let mut below = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let text = name.to_string_lossy().into_owned();
            if text.starts_with('.') {
                continue;
            }
            if entry.file_type()?.is_dir() {
                below.push(text);
            } else if let Some(skipped) = text.strip_suffix(".skip") {
                self.skipped.insert(format!("{prefix}{skipped}"));
            } else if [".yaml", ".yml", ".json"].iter().any(|end| text.ends_with(end)) {
                let is_open = watched.is_some_and(|watched| self.open.contains(&(watched, name)));
                self.files
                    .insert(format!("{prefix}{text}"), Unread { path: entry.path(), is_open });
            }
        }
        if self.files.len() > FILES_MAX {
            return Err(io::Error::other(format!("there are more than {FILES_MAX} manifests")));
        }
        Ok(below)
    }
}

fn read_all(
    listing: Listing<'_>,
    known: &BTreeMap<String, String>,
) -> io::Result<BTreeMap<String, Found>> {
    let mut found = BTreeMap::new();
    let mut total = 0;
    for (source, Unread { path, is_open }) in listing.files {
        if is_open || listing.skipped.contains(&source) {
            found.insert(source, Found::Kept);
            continue;
        }
        let text = match read(&path) {
            Ok(Some(text)) => text,
            Ok(None) => continue,
            // It went after it was listed, which is noticed.
            Err(_gone) if fs::symlink_metadata(&path).is_err() => {
                found.insert(source, Found::Kept);
                continue;
            }
            Err(error) => {
                let message = format!("the file cannot be read: {error}");
                found.insert(source, Found::Broken { checksum: String::new(), message });
                continue;
            }
        };
        total += text.len() as u64;
        if total > TOTAL_BYTES_MAX {
            let problem = format!("the manifests have more than {TOTAL_BYTES_MAX} bytes together");
            return Err(io::Error::other(problem));
        }
        let same = known.get(&source).map(String::as_str);
        found.insert(source, understand(&text, same));
    }
    Ok(found)
}

/// The text of a file; `None` where it is none.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // What is no file may never end.
    if !fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let mut text = Vec::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    Ok(Some(text))
}

fn understand(text: &[u8], known: Option<&str>) -> Found {
    let checksum = hex(digest(&SHA256, text).as_ref());
    if known == Some(&*checksum) {
        return Found::Same;
    }
    if text.len() as u64 > FILE_BYTES_MAX {
        let message = format!("it has more than {FILE_BYTES_MAX} bytes; use several files");
        return Found::Broken { checksum, message };
    }
    match manifest::parse(text) {
        Ok(wanted) => Found::Objects { checksum, wanted },
        Err(message) => Found::Broken { checksum, message },
    }
}
