//! Wakes up when the files in a log's directory change: inotify(7), so that nothing polls.

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use tokio::io::unix::AsyncFd;

/// What happened to the log since it was asked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Its writer has closed it: what was to be written is there.
    pub(super) closed: bool,
}

#[derive(Debug)]
pub(super) struct LogWatch {
    inotify: AsyncFd<OwnedFd>,
    name: Vec<u8>,
}

impl LogWatch {
    /// # Errors
    /// Where the directory is not there or the kernel has no watch left.
    pub(super) fn new(log: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let directory = log.parent().unwrap_or(Path::new("/"));
        let kinds = WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE;
        inotify::add_watch(&inotify, directory, kinds)?;
        let name = log.file_name().unwrap_or_default().as_bytes().to_vec();
        Ok(Self { inotify: AsyncFd::new(inotify)?, name })
    }

    /// Waits until something has changed.
    ///
    /// # Errors
    /// Where the kernel takes the watch away.
    pub(super) async fn changed(&self) -> io::Result<Changes> {
        loop {
            let mut ready = self.inotify.readable().await?;
            match ready.try_io(|inotify| read_all(inotify.get_ref(), &self.name)) {
                Ok(changes) => return changes,
                Err(_would_block) => {}
            }
        }
    }
}

/// Takes everything that is there. `WouldBlock` where there is nothing.
fn read_all(inotify: &OwnedFd, name: &[u8]) -> io::Result<Changes> {
    let mut buffer = [MaybeUninit::uninit(); 4_096];
    let mut reader = inotify::Reader::new(inotify, &mut buffer);
    let mut changes = None;
    loop {
        match reader.next() {
            Ok(event) => {
                let changes: &mut Changes = changes.get_or_insert_default();
                let of_log = event.file_name().is_some_and(|found| found.to_bytes() == name);
                changes.closed |= of_log && event.events().contains(ReadFlags::CLOSE_WRITE);
            }
            Err(rustix::io::Errno::AGAIN) => {
                return changes.ok_or_else(|| io::ErrorKind::WouldBlock.into());
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Whether an opened file is still the one of that name.
pub(super) fn is_current(file: &std::fs::File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let opened = file.metadata().map(identity).ok();
    opened.is_some() && opened == std::fs::metadata(path).map(identity).ok()
}
