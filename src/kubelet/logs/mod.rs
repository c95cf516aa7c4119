//! Logs of containers, as `kubectl logs` asks for them.
//!
//! Start at [`read`]. A log is read while somebody reads the answer and no faster; one that is
//! followed sleeps until the kernel says that its files have changed.

mod files;
pub mod line;

pub(super) use files::last_text;

use crate::stdx::http::{Body, streamed};
use crate::sys::directory_watch::{DirectoryWatch, FileChange};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use line::{Printer, Selection, parse};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is read from a file, and sent, at once.
const CHUNK_BYTES: usize = 32 << 10;

/// A longer line is given in parts of this size. (The CRI's writers split at 16 KiB.)
const LINE_BYTES_MAX: usize = 1 << 20;

/// After a container has ended, its log's writer has this long to write the rest.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(1);

/// Which log, what of it, and how long.
pub struct LogRequest {
    pub log: PathBuf,
    pub selection: Selection,
    /// Where the log is to be followed: resolves when the container has ended.
    pub follow_until: Option<BoxFuture<'static, ()>>,
}

impl std::fmt::Debug for LogRequest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LogRequest").field("log", &self.log).finish_non_exhaustive()
    }
}

/// The log as a body that arrives while it is read.
///
/// # Errors
/// Where the log cannot be opened.
pub async fn read(request: LogRequest) -> io::Result<Body> {
    let reader = blocking(move || Reader::open(request)).await?;
    let pieces = stream::try_unfold(reader, |mut reader| async move {
        let piece = reader.next().await?;
        Ok(piece.map(|piece| (piece, reader)))
    });
    Ok(streamed(pieces))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

struct Reader {
    log: PathBuf,
    printer: Printer,
    /// The files still to be read, the next one last.
    pending: Vec<PathBuf>,
    file: Option<File>,
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
    watch: Option<DirectoryWatch>,
    /// `None` when the container has ended, or the log is not followed.
    running: Option<BoxFuture<'static, ()>>,
    /// Its writer has closed the file.
    closed: bool,
    /// The file has been rotated away, and is read once more because lines may have been written
    /// to it before that.
    rotated: bool,
}

impl Reader {
    fn open(request: LogRequest) -> io::Result<Self> {
        let LogRequest { log, selection, follow_until } = request;
        // Before anything is read, so that no change is missed.
        let directory = log.parent().unwrap_or(Path::new("/"));
        let watch = follow_until.as_ref().map(|_| DirectoryWatch::open(directory)).transpose()?;
        let mut pending = files::of(&log)?;
        let mut start = 0;
        if let Some(lines) = selection.tail {
            let first;
            (first, start) = match lines {
                0 => (pending.len().saturating_sub(1), u64::MAX),
                lines => files::start_of_tail(&pending, lines)?,
            };
            pending.drain(..first);
        }
        pending.reverse();
        let mut reader = Self {
            log,
            printer: Printer::new(selection),
            pending,
            file: None,
            rest: Vec::new(),
            watch,
            running: follow_until,
            closed: false,
            rotated: false,
        };
        reader.open_next()?;
        if let Some(file) = &mut reader.file {
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(start.min(end)))?;
        }
        Ok(reader)
    }

    fn open_next(&mut self) -> io::Result<bool> {
        let Some(path) = self.pending.pop() else {
            return Ok(false);
        };
        match File::open(&path) {
            Ok(file) => self.file = Some(file),
            // Rotated away since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.open_next(),
            Err(error) => {
                let text = format!("{}: {error}", path.display());
                return Err(io::Error::new(error.kind(), text));
            }
        }
        Ok(true)
    }

    /// What is shown next; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut shown = Vec::new();
        loop {
            if self.printer.is_full() {
                return Ok(None);
            }
            let read = self.fill().await?;
            self.print(&mut shown);
            if !shown.is_empty() {
                return Ok(Some(shown.into()));
            }
            if read == 0 && !self.turn_page()? && !self.wait().await? {
                return Ok(None);
            }
        }
    }

    /// Reads a chunk, away from the threads that others wait for.
    async fn fill(&mut self) -> io::Result<usize> {
        let Some(mut file) = self.file.take() else {
            return Ok(0);
        };
        let (file, chunk) = blocking(move || {
            let mut chunk = vec![0; CHUNK_BYTES];
            let count = file.read(&mut chunk)?;
            chunk.truncate(count);
            Ok((file, chunk))
        })
        .await?;
        self.file = Some(file);
        self.rest.extend_from_slice(&chunk);
        Ok(chunk.len())
    }

    /// Shows the whole lines that have been read.
    fn print(&mut self, shown: &mut Vec<u8>) {
        let mut done = 0;
        while let Some(length) = self.rest[done..].iter().position(|byte| *byte == b'\n') {
            if let Some(line) = parse(&self.rest[done..done + length]) {
                self.printer.print(line, shown);
            }
            done += length + 1;
        }
        self.rest.drain(..done);
        if self.rest.len() > LINE_BYTES_MAX {
            // No writer makes such lines: this is not a log any more.
            self.rest.clear();
        }
    }

    /// Goes on to the next file, where the log has one.
    fn turn_page(&mut self) -> io::Result<bool> {
        if self.open_next()? {
            return Ok(true);
        }
        let is_over = self.file.as_ref().is_none_or(|file| !is_current(file, &self.log));
        if self.watch.is_some() && is_over && self.log.exists() {
            if self.file.is_some() && !std::mem::replace(&mut self.rotated, true) {
                return Ok(true);
            }
            (self.closed, self.rotated) = (false, false);
            self.pending.push(self.log.clone());
            return self.open_next();
        }
        Ok(false)
    }

    /// Waits until there may be more; false where there will be nothing more.
    async fn wait(&mut self) -> io::Result<bool> {
        let Some(watch) = &self.watch else {
            return Ok(false);
        };
        if let Some(running) = &mut self.running {
            tokio::select! {
                changes = watch.changed() => self.closed |= is_closed(&self.log, &changes?),
                () = running => self.running = None,
            }
            return Ok(true);
        }
        if self.closed {
            return Ok(false);
        }
        match tokio::time::timeout(LAST_LINES_WITHIN, watch.changed()).await {
            Ok(changes) => {
                self.closed |= is_closed(&self.log, &changes?);
                Ok(true)
            }
            Err(_elapsed) => Ok(false),
        }
    }
}

/// Whether the log's writer has closed it.
fn is_closed(log: &Path, changes: &[FileChange]) -> bool {
    changes.iter().any(|change| change.closed && Some(&*change.name) == log.file_name())
}

/// Whether an opened file is still the one of that name.
fn is_current(file: &File, path: &Path) -> bool {
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let opened = file.metadata().map(identity).ok();
    opened.is_some() && opened == std::fs::metadata(path).map(identity).ok()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
