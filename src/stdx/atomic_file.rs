//! The one way a file is replaced: all of it or none of it, even when the power fails.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Replaces `path` with `contents`, readable as `mode` says, and returns once it is on disk.
///
/// The new file is written beside the old one, synced, renamed over it, and the directory is
/// synced, so that a reader sees the old or the new contents and never a part.
///
/// # Errors
/// Whatever the file system says; the old file is untouched then.
pub fn write_atomically(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let directory = replace(path, contents, mode, File::sync_all)?;
    File::open(directory)?.sync_all()
}

/// As [`write_atomically`], but for a power cut: returns before the contents are on disk, and after
/// a cut the file may be missing or empty. For what is worth nothing after one.
///
/// # Errors
/// Whatever the file system says; the old file is untouched then.
pub fn replace_file(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    replace(path, contents, mode, |_file| Ok(())).map(drop)
}

/// Returns the directory of the file.
fn replace<'a>(
    path: &'a Path,
    contents: &[u8],
    mode: u32,
    sync: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<&'a Path> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let temporary = Temporary::beside(path);
    temporary.remove_leftovers(directory);
    let new = directory.join(&temporary.name);
    let written = write_new(&new, contents, mode)
        .and_then(|file| sync(&file))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // The error that matters is the one above; a leftover is removed by the next write.
        fs::remove_file(&new).ok();
    }
    written.map(|()| directory)
}

/// The numbers of the files that this process is writing.
static LIVE: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

/// The name of a file that is being written: `.NAME.PID-NUMBER.tmp`. The number is unique in this
/// process, so that two writers of one path do not meet in one file.
struct Temporary {
    name: String,
    /// What the names of all such files of one path begin with.
    prefix: String,
    number: u64,
}

impl Temporary {
    fn beside(path: &Path) -> Self {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        live().insert(number);
        let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
        let name = format!("{prefix}{}-{number}{SUFFIX}", std::process::id());
        Self { name, prefix, number }
    }

    /// Removes what writers of the same path have left that were killed: it may be a private key.
    fn remove_leftovers(&self, directory: &Path) {
        // Where it cannot be read, the write itself will say what is wrong.
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| self.is_leftover(name)) {
                // If it is still there next time, it is tried again.
                fs::remove_file(entry.path()).ok();
            }
        }
    }

    fn is_leftover(&self, name: &str) -> bool {
        let middle = name.strip_prefix(&self.prefix).and_then(|rest| rest.strip_suffix(SUFFIX));
        let Some((process, number)) = middle.and_then(|middle| middle.split_once('-')) else {
            return false;
        };
        let (Ok(process), Ok(number)) = (process.parse::<u32>(), number.parse::<u64>()) else {
            return false;
        };
        if process == std::process::id() {
            return !live().contains(&number);
        }
        !Path::new("/proc").join(process.to_string()).exists()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        live().remove(&self.number);
    }
}

const SUFFIX: &str = ".tmp";

fn live() -> MutexGuard<'static, BTreeSet<u64>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Never follows a link, and gives the file its mode whatever this process's mask is.
fn write_new(path: &Path, contents: &[u8], mode: u32) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode & 0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(contents)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_contents_and_sets_the_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        write_atomically(&path, b"one", 0o600).unwrap();
        write_atomically(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        replace_file(&path, b"three", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
    #[test]
    fn what_a_killed_writer_has_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let own = std::process::id();
        let parent = std::os::unix::process::parent_id();
        let name = |middle: &str| directory.path().join(format!(".secret.{middle}.tmp"));
        let stale = [name("4194305-0"), name(&format!("{own}-999999999"))];
        let kept =
            [name(&format!("{parent}-0")), name("notes"), directory.path().join(".other.1-1.tmp")];
        for leftover in stale.iter().chain(&kept) {
            fs::write(leftover, b"key").unwrap();
        }
        write_atomically(&path, b"new", 0o644).unwrap();
        assert!(stale.iter().all(|path| !path.exists()));
        assert!(kept.iter().all(|path| path.exists()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn a_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (link, target) = (directory.path().join("link"), directory.path().join("target"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write_new(&link, b"new", 0o600).unwrap_err();
        assert!(!target.exists());
    }
}
