//! The one way a file is replaced: all of it or none of it, even when the power fails.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

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
    let temporary = directory.join(temporary_name(path));
    let written = write_new(&temporary, contents, mode)
        .and_then(|file| sync(&file))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The error that matters is the one above; a leftover is overwritten by name next time.
        fs::remove_file(&temporary).ok();
    }
    written.map(|()| directory)
}

/// Unique in this process, so that two writers of one path do not meet in one temporary file.
fn temporary_name(path: &Path) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!(".{name}.{}-{count}.tmp", std::process::id())
}

fn write_new(path: &Path, contents: &[u8], mode: u32) -> io::Result<File> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(contents)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

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
}
