//! The process that writes one container's log: started by the shim, alive as long as the
//! container, whatever happens to the server.
//!
//! Start at [`run`], or at [`run_piped`] where the outputs are named pipes. The shim's protocol ("binary" logging of containerd's runtime v2): descriptor 3
//! is the container's stdout, 4 its stderr, and 5 is closed when the logger is ready. SIGTERM means
//! that the container has ended: what is left in the pipes is written, then this ends. Architecture
//! invariant: the container never waits for its log; what cannot be written is dropped. Who follows
//! the output as it comes ([`followers`]) gets it as well.

mod file;
mod followers;
mod lines;

pub(super) use followers::{FrameHead, connect};
pub(super) use lines::Stream;

use crate::stdx::Clock;
use crate::sys::background::{self, Side};
use crate::sys::inherited;
use crate::sys::signal::{Queued, SignalQueue};
use file::LogFile;
use followers::Followers;
use lines::Lines;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// How much is read at once: what a pipe hands over without another system call, mostly.
const READ_BYTES: usize = 16 << 10;

/// How often one output is read before the other and the signals have their turn: together more
/// than a pipe can hold, so that one turn empties it.
const READS_PER_TURN_MAX: usize = 65;

/// Records are written together up to this size: short lines with their times take several times
/// the space they had in the pipe.
const WRITE_BYTES: usize = 32 << 10;

/// What a logger is to do, in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LoggerSettings {
    pub(super) log_path: PathBuf,
    /// The log is renamed and begun anew before it grows beyond this.
    pub(super) bytes_max: u64,
    /// How many files to keep, the one being written included.
    pub(super) files_max: usize,
    /// Where the logger leaves its process id.
    pub(super) pid_path: PathBuf,
    /// The container's bundle, in which followers find the logger.
    pub(super) directory: PathBuf,
    /// The outputs, where the shim does not hand them over.
    pub(super) pipes: Option<[PathBuf; 2]>,
}

/// Runs the logger until its container has ended.
pub(super) fn run(settings_path: &Path) -> io::Result<()> {
    let stdout = inherited::take(3)?;
    let stderr = inherited::take(4)?;
    let ready = inherited::take(5)?;
    let signals = SignalQueue::new()?;
    let settings: LoggerSettings = serde_json::from_slice(&fs::read(settings_path)?)?;
    let mut logger = Logger::new([stdout, stderr], settings)?;
    drop(ready);
    logger.follow(&signals)
}

/// As [`run`], with the outputs in named pipes. Returns to whoever started this when they are open,
/// and goes on in the background until nobody writes to them any more.
pub(super) fn run_piped(settings_path: &Path) -> io::Result<()> {
    let settings: LoggerSettings = serde_json::from_slice(&fs::read(settings_path)?)?;
    let paths = settings.pipes.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
    let open = |path: &Path| -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(rustix::fs::open(path, flags, Mode::empty())?)
    };
    let outputs = [open(&paths[0])?, open(&paths[1])?];
    match background::split()? {
        Side::Starter => Ok(()),
        Side::Background => {
            let signals = SignalQueue::new()?;
            Logger::new(outputs, settings)?.follow(&signals)
        }
    }
}

/// One of the container's outputs.
struct Source {
    stream: Stream,
    /// `None` when everyone has closed the other end.
    pipe: Option<OwnedFd>,
    lines: Lines,
}

impl Source {
    fn new(stream: Stream, pipe: OwnedFd) -> io::Result<Self> {
        fcntl_setfl(&pipe, fcntl_getfl(&pipe)? | OFlags::NONBLOCK)?;
        Ok(Self { stream, pipe: Some(pipe), lines: Lines::default() })
    }
}

struct Logger {
    sources: [Source; 2],
    file: LogFile,
    /// `None` where they cannot find this: the log is written all the same.
    followers: Option<Followers>,
    clock: Clock,
}

impl Logger {
    fn new([stdout, stderr]: [OwnedFd; 2], settings: LoggerSettings) -> io::Result<Self> {
        fs::write(&settings.pid_path, std::process::id().to_string())?;
        Ok(Self {
            sources: [Source::new(Stream::Stdout, stdout)?, Source::new(Stream::Stderr, stderr)?],
            followers: Followers::listen(&settings.directory).ok(),
            file: LogFile::new(settings),
            clock: Clock::system(),
        })
    }

    fn follow(&mut self, signals: &SignalQueue) -> io::Result<()> {
        let mut is_container_gone = false;
        while !is_container_gone && self.sources.iter().any(|source| source.pipe.is_some()) {
            let pipes = self.sources.iter().filter_map(|source| source.pipe.as_ref());
            let mut polled: Vec<PollFd<'_>> =
                pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)).collect();
            polled.push(PollFd::new(signals, PollFlags::IN));
            polled.extend(self.followers.iter().flat_map(Followers::polled));
            match poll(&mut polled, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            while let Some(signal) = signals.next()? {
                match signal {
                    Queued::Terminate => is_container_gone = true,
                    Queued::HangUp => self.file.reopen(),
                    Queued::ChildEnded => {}
                }
            }
            // Who comes now gets what is read now.
            if let Some(followers) = &mut self.followers {
                followers.turn();
            }
            self.read_all()?;
        }
        self.finish();
        Ok(())
    }

    /// Writes everything that is in the pipes now.
    fn read_all(&mut self) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        for index in 0..self.sources.len() {
            for _read in 0..READS_PER_TURN_MAX {
                let Some(pipe) = &self.sources[index].pipe else {
                    break;
                };
                match rustix::io::read(pipe, &mut buffer) {
                    Ok(0) => self.sources[index].pipe = None,
                    Ok(length) => self.write(index, &buffer[..length]),
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, index: usize, bytes: &[u8]) {
        let now = self.clock.now();
        if let Some(followers) = &mut self.followers {
            followers.tell(self.sources[index].stream, bytes);
        }
        let Source { stream, lines, .. } = &mut self.sources[index];
        let mut records = Vec::new();
        lines.push(bytes, |tag, content| {
            lines::encode(&mut records, lines::Record { now, stream: *stream, tag, content });
            if records.len() >= WRITE_BYTES {
                self.file.append(&records, now);
                records.clear();
            }
        });
        self.file.append(&records, now);
    }

    /// What came without a newline at its end is a line as well.
    fn finish(&mut self) {
        let now = self.clock.now();
        let mut records = Vec::new();
        for source in &mut self.sources {
            let stream = source.stream;
            source.lines.finish(|tag, content| {
                lines::encode(&mut records, lines::Record { now, stream, tag, content });
            });
        }
        self.file.append(&records, now);
        if let Some(followers) = &mut self.followers {
            followers.finish();
        }
    }
}
