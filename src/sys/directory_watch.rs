//! Waking up when files in a directory change: inotify(7).

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// So many bytes of events are taken from the kernel at once.
const EVENTS_BYTES: usize = 4_096;

/// A directory that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Directory(i32);

/// A change of a file in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    pub directory: Directory,
    /// Empty where it is about the directory itself, or where changes were left out.
    pub name: OsString,
    /// Somebody has written to it, and may go on.
    pub written: bool,
    /// Somebody who wrote to it has closed it.
    pub closed: bool,
}

/// Watches the files of a directory, or of several, not those below.
#[derive(Debug)]
pub struct DirectoryWatch(AsyncFd<OwnedFd>);

impl DirectoryWatch {
    /// # Errors
    /// Where the directory is not there, or the kernel has no watch left.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        add(&inotify, directory)?;
        // SAFETY: the descriptor was just opened and is owned by the `AsyncFd` from here on, which
        // gives it away to nobody who could close or replace it.
        #[expect(unsafe_code, reason = "the reactor relies on the descriptor staying open")]
        let watched = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) };
        Ok(Self(watched.map_err(io::Error::from)?))
    }

    /// Watches the files of another directory as well. One that is watched already goes on being it.
    ///
    /// # Errors
    /// As [`DirectoryWatch::open`].
    pub fn add(&self, directory: &Path) -> io::Result<Directory> {
        add(self.0.get_ref(), directory)
    }

    /// Waits until something changes, and returns what has. When changes come faster than they are
    /// taken, the kernel leaves some out: look at the files, not at the list.
    ///
    /// # Errors
    /// Where the kernel takes the watch away.
    pub async fn changed(&self) -> io::Result<Vec<FileChange>> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|inotify| take_all(inotify.get_ref())) {
                Ok(changes) => return changes,
                Err(_would_block) => {}
            }
        }
    }
}

fn add(inotify: &OwnedFd, directory: &Path) -> io::Result<Directory> {
    let kinds = WatchFlags::MODIFY
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::CREATE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::DELETE;
    Ok(Directory(inotify::add_watch(inotify, directory, kinds)?))
}

/// Everything that is there; `WouldBlock` where there is nothing.
fn take_all(inotify: &OwnedFd) -> io::Result<Vec<FileChange>> {
    let mut buffer = [MaybeUninit::uninit(); EVENTS_BYTES];
    let mut reader = inotify::Reader::new(inotify, &mut buffer);
    let mut changes = Vec::new();
    loop {
        match reader.next() {
            Ok(event) => {
                let name = event.file_name().map(|name| name.to_bytes().to_vec());
                changes.push(FileChange {
                    directory: Directory(event.wd()),
                    name: OsString::from_vec(name.unwrap_or_default()),
                    written: event.events().contains(ReadFlags::MODIFY),
                    closed: event.events().contains(ReadFlags::CLOSE_WRITE),
                });
            }
            Err(rustix::io::Errno::AGAIN) if !changes.is_empty() => return Ok(changes),
            Err(rustix::io::Errno::AGAIN) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[tokio::test]
    async fn changes_of_files_are_told_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let watch = DirectoryWatch::open(directory.path()).unwrap();
        fs::write(directory.path().join("log"), "line").unwrap();
        let within = std::time::Duration::from_secs(10);
        let changes = tokio::time::timeout(within, watch.changed()).await.unwrap().unwrap();
        assert!(changes.iter().all(|change| change.name == "log"), "{changes:?}");
        assert!(changes.iter().any(|change| change.closed), "{changes:?}");
        assert!(DirectoryWatch::open(Path::new("/nowhere")).is_err());
    }

    #[tokio::test]
    async fn several_directories_are_told_apart() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let watch = DirectoryWatch::open(one.path()).unwrap();
        let added = watch.add(other.path()).unwrap();
        assert_eq!(watch.add(other.path()).unwrap(), added, "it is watched once");
        assert_ne!(watch.add(one.path()).unwrap(), added);
        fs::write(other.path().join("log"), "line").unwrap();
        let within = std::time::Duration::from_secs(10);
        let changes = tokio::time::timeout(within, watch.changed()).await.unwrap().unwrap();
        assert!(changes.iter().all(|change| change.directory == added), "{changes:?}");
        assert!(changes.iter().any(|change| change.written), "{changes:?}");
    }
}
