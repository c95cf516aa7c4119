//! Those who follow a container's output as it comes, besides its log: `kubectl attach`.
//!
//! They connect to a socket in the container's bundle ([`connect`]) and get frames: which output,
//! how many bytes, the bytes. A follower that is slow holds the container up as the reader of a
//! pipe does; one that takes nothing at all for a while is cut off, so that none can stop a
//! container.

use super::lines::Stream;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The socket's name in the bundle.
const SOCKET: &str = "attach.sock";

/// More at once are turned away.
const FOLLOWERS_MAX: usize = 32;

/// What waits for one follower; beyond, the container waits with it.
const BACKLOG_BYTES_MAX: usize = 256 << 10;

/// A follower that takes nothing for so long while others wait for it is cut off.
const STALLED: Timespec = Timespec { tv_sec: 3, tv_nsec: 0 };

/// What comes before the bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct FrameHead {
    pub(in super::super) stream: Stream,
    pub(in super::super) length: usize,
}

impl FrameHead {
    pub(in super::super) const BYTES: usize = 5;

    fn encode(self) -> [u8; Self::BYTES] {
        let stream = match self.stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        let length = u32::try_from(self.length).expect("what is read at once is short");
        let [a, b, c, d] = length.to_be_bytes();
        [stream, a, b, c, d]
    }

    pub(in super::super) fn decode(bytes: [u8; Self::BYTES]) -> io::Result<Self> {
        let [stream, a, b, c, d] = bytes;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let stream = match stream {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return Err(ErrorKind::InvalidData.into()),
        };
        if length > super::READ_BYTES {
            return Err(ErrorKind::InvalidData.into());
        }
        Ok(Self { stream, length })
    }
}

/// Connects to the logger of the container with that bundle.
pub(in super::super) fn connect(bundle: &Path) -> io::Result<UnixStream> {
    let directory = File::open(bundle)?;
    let stream = UnixStream::connect(short_path(&directory))?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// The socket's path by the directory's descriptor: a bundle's own is longer than a socket's may be.
fn short_path(directory: &File) -> PathBuf {
    format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()).into()
}

/// See the module.
#[derive(Debug)]
pub(super) struct Followers {
    listener: UnixListener,
    all: Vec<Follower>,
}

#[derive(Debug)]
struct Follower {
    socket: UnixStream,
    backlog: Vec<u8>,
}

impl Followers {
    pub(super) fn listen(bundle: &Path) -> io::Result<Self> {
        let directory = File::open(bundle)?;
        let path = short_path(&directory);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, all: Vec::new() })
    }

    /// What is to be waited for: newcomers, room for what waits, and departures.
    pub(super) fn polled(&self) -> impl Iterator<Item = PollFd<'_>> {
        let newcomers = PollFd::new(&self.listener, PollFlags::IN);
        let followers = self.all.iter().map(|follower| {
            // Followers say nothing: what can be read is their end.
            let mut flags = PollFlags::IN;
            flags.set(PollFlags::OUT, !follower.backlog.is_empty());
            PollFd::new(&follower.socket, flags)
        });
        std::iter::once(newcomers).chain(followers)
    }

    /// Lets newcomers in, sends what can be sent, and forgets who has gone.
    pub(super) fn turn(&mut self) {
        self.all.retain_mut(|follower| follower.is_there() && follower.send().is_ok());
        self.admit();
    }

    fn admit(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            if self.all.len() < FOLLOWERS_MAX && socket.set_nonblocking(true).is_ok() {
                self.all.push(Follower { socket, backlog: Vec::new() });
            }
        }
    }

    /// Tells everybody what has been written, also who came just before: it may be an answer to them.
    pub(super) fn tell(&mut self, stream: Stream, bytes: &[u8]) {
        self.admit();
        let head = FrameHead { stream, length: bytes.len() }.encode();
        self.all.retain_mut(|follower| {
            follower.backlog.extend_from_slice(&head);
            follower.backlog.extend_from_slice(bytes);
            follower.send_until(BACKLOG_BYTES_MAX).is_ok()
        });
    }

    /// Sends what there is left: the container has ended.
    pub(super) fn finish(&mut self) {
        for follower in &mut self.all {
            // Who does not take it has had the time to.
            follower.send_until(0).ok();
        }
        self.all.clear();
    }
}

impl Follower {
    fn is_there(&self) -> bool {
        let mut byte = [0];
        !matches!(io::Read::read(&mut &self.socket, &mut byte), Ok(0))
    }

    /// Sends what can be sent without waiting.
    fn send(&mut self) -> io::Result<()> {
        let mut sent = 0;
        let result = loop {
            if sent == self.backlog.len() {
                break Ok(());
            }
            match self.socket.write(&self.backlog[sent..]) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.backlog.drain(..sent);
        result
    }

    /// Sends until no more than so many bytes wait.
    fn send_until(&mut self, bytes_max: usize) -> io::Result<()> {
        loop {
            self.send()?;
            if self.backlog.len() <= bytes_max {
                return Ok(());
            }
            let mut polled = [PollFd::new(&self.socket, PollFlags::OUT)];
            match poll(&mut polled, Some(&STALLED)) {
                Ok(0) => return Err(ErrorKind::TimedOut.into()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn heads_read_as_they_were_written() {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let head = FrameHead { stream, length: 16_384 };
            assert_eq!(FrameHead::decode(head.encode()).unwrap(), head);
        }
        assert!(FrameHead::decode([3, 0, 0, 0, 1]).is_err());
        assert!(FrameHead::decode([1, 255, 0, 0, 1]).is_err());
    }

    #[test]
    fn everybody_gets_everything_and_nobody_holds_it_up_for_long() {
        let bundle = tempfile::tempdir().unwrap();
        let mut followers = Followers::listen(bundle.path()).unwrap();
        let mut good = connect(bundle.path()).unwrap();
        let _stuck = connect(bundle.path()).unwrap();
        drop(connect(bundle.path()).unwrap());
        good.set_nonblocking(false).unwrap();
        followers.turn();
        assert_eq!(followers.all.len(), 3);
        followers.turn();
        assert_eq!(followers.all.len(), 2, "one has gone");
        let reader = std::thread::spawn(move || {
            let mut read = Vec::new();
            good.read_to_end(&mut read).unwrap();
            read
        });
        // More than a socket and the backlog hold.
        let piece = vec![7; 16 << 10];
        for _ in 0..100 {
            followers.tell(Stream::Stdout, &piece);
        }
        assert_eq!(followers.all.len(), 1, "one takes nothing");
        followers.tell(Stream::Stderr, b"!");
        followers.finish();
        let read = reader.join().unwrap();
        assert_eq!(read.len(), 100 * (piece.len() + FrameHead::BYTES) + 6);
        assert!(read.ends_with(&[2, 0, 0, 0, 1, b'!']));
    }

    #[test]
    fn who_has_come_hears_what_is_written_from_then_on() {
        let bundle = tempfile::tempdir().unwrap();
        let mut followers = Followers::listen(bundle.path()).unwrap();
        let mut newcomer = connect(bundle.path()).unwrap();
        followers.tell(Stream::Stdout, b"!");
        followers.finish();
        let mut read = Vec::new();
        newcomer.read_to_end(&mut read).unwrap();
        assert_eq!(read, [1, 0, 0, 0, 1, b'!']);
    }
}
