//! The directory that backups are in: who may write there, what is there, and what goes.

use super::archive;
use super::head::{BadBackup, Head};
use super::plan::{self, Retention, is_backup_name};
use anyhow::{Context as _, bail};
use jiff::Timestamp;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Held by whoever makes or removes backups.
const LOCK: &str = ".kinglet-backup.lock";

/// The copy of the store, and the file of a backup until it has been read back. Whatever a process
/// has left that was killed goes when the next one begins.
const COPY: &str = ".kinglet-backup.db";
const UNFINISHED: &str = ".kinglet-backup.tar.zst";

/// What SQLite may put beside the copy.
const COPY_SUFFIXES: [&str; 4] = ["", "-journal", "-wal", "-shm"];

/// A directory with more backups than this is not listed.
const LISTED_MAX: usize = 10_000;

/// A file that is called as backups are.
#[derive(Debug)]
pub struct Listed {
    pub path: PathBuf,
    pub bytes: u64,
    pub head: Result<Head, BadBackup>,
}

/// The backups in a directory, the oldest first and those that cannot be read last.
///
/// # Errors
/// Where the directory is there and cannot be read.
pub fn list(directory: &Path) -> anyhow::Result<Vec<Listed>> {
    let unreadable = || format!("cannot read {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(unreadable),
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.with_context(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(is_backup_name) {
            continue;
        }
        if all.len() == LISTED_MAX {
            bail!("{} has more than {LISTED_MAX} backups; move some away", directory.display());
        }
        let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let head = archive::read_head(&path);
        all.push(Listed { path, bytes, head });
    }
    let taken = |listed: &Listed| listed.head.as_ref().map_or(Timestamp::MAX, |head| head.taken);
    all.sort_by(|a, b| (taken(a), &a.path).cmp(&(taken(b), &b.path)));
    Ok(all)
}

/// A directory in which nobody else makes or removes backups.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory where there is none, and removes what somebody has left in the middle of
    /// a backup.
    pub(super) fn take(path: &Path) -> anyhow::Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.with_context(|| format!("cannot make {}", path.display()))?;
        let lock_path = path.join(LOCK);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&lock_path);
        let lock = lock.with_context(|| format!("cannot open {}", lock_path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("somebody else makes or removes backups in {} just now", path.display())
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", lock_path.display()));
            }
        }
        let directory = Self { path: path.to_owned(), _lock: lock };
        directory.sweep()?;
        Ok(directory)
    }

    pub(super) fn copy(&self) -> PathBuf {
        self.path.join(COPY)
    }

    pub(super) fn unfinished(&self) -> PathBuf {
        self.path.join(UNFINISHED)
    }

    /// Removes what is left of a backup that was not finished.
    pub(super) fn sweep(&self) -> anyhow::Result<()> {
        let copies = COPY_SUFFIXES.map(|suffix| self.path.join(format!("{COPY}{suffix}")));
        for path in copies.into_iter().chain([self.unfinished()]) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Gives the finished backup its name, so that it is there after a power cut.
    pub(super) fn finish(&self, node: &str, taken: Timestamp) -> anyhow::Result<PathBuf> {
        let names = (1..=plan::NUMBER_MAX).map(|number| plan::file_name(node, taken, number));
        let mut paths = names.map(|name| self.path.join(name));
        let free = paths.find(|path| fs::symlink_metadata(path).is_err());
        let path = free.context("too many backups within one second")?;
        fs::rename(self.unfinished(), &path)
            .and_then(|()| self.sync())
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Removes backups that there are enough of. Says which.
    pub(super) fn prune(&self, retention: Retention) -> anyhow::Result<Vec<String>> {
        let mut known = Vec::new();
        for Listed { path, head, .. } in list(&self.path)? {
            let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
            if let (Ok(head), Some(name)) = (head, name) {
                known.push((name, head));
            }
        }
        let going = plan::surplus(&known, retention);
        for name in &going {
            let path = self.path.join(name);
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        self.sync().with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(going)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// Removes backups from a directory, so that `retention` holds. Says which.
///
/// # Errors
/// Where somebody else is at work there, or one of them cannot be removed.
pub fn prune(directory: &Path, retention: Retention) -> anyhow::Result<Vec<String>> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    Directory::take(directory)?.prune(retention)
}
