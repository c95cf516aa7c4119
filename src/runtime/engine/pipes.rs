//! The named pipes through which a shim connects a process's input and outputs with us.
//!
//! A shim opens each pipe at both ends, so that the process does not notice when we go: no output
//! ends because its reader does, and no input because its writer does. The end of an input is told
//! to the shim; the end of an output is that of the process.

use super::super::shim::Shim;
use crate::stdx::blocking;
use futures_util::future::BoxFuture;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rustix::io::ioctl_fionread;
use std::convert::Infallible;
use std::fs;
use std::future::Future as _;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// An output of a process that has ended, and that something else still holds, ends when nothing has
/// come of it for so many times as long, and the shim has answered each time. What the process wrote
/// last may still be in the shim, which has its own time on a busy machine: its silence proves nothing
/// unless it can speak.
const QUIET: Duration = Duration::from_millis(300);
const QUIET_TIMES: u32 = 3;

/// How long a shim may take to open its end of an input.
const READER_WITHIN: Duration = Duration::from_secs(10);

/// A named pipe, which goes with this.
#[derive(Debug)]
pub(super) struct NamedPipe(PathBuf);

impl NamedPipe {
    pub(super) fn make(path: PathBuf) -> io::Result<Self> {
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for NamedPipe {
    fn drop(&mut self) {
        // It is in the bundle, which goes with its container.
        fs::remove_file(&self.0).ok();
    }
}

/// Holds a pipe open at both ends, so that it neither ends nor refuses before others have it.
pub(super) fn hold(path: &Path) -> io::Result<pipe::Sender> {
    pipe::OpenOptions::new().read_write(true).open_sender(path)
}

/// The end of a pipe that is written to. Returns when somebody reads: shims open their end of an
/// input whenever they get round to it, and what is written before may be lost.
pub(super) async fn open_input(path: &Path) -> io::Result<pipe::Sender> {
    let writer = path.to_owned();
    // The kernel waits for the reader.
    let opening = blocking(move || fs::File::options().write(true).open(writer));
    match tokio::time::timeout(READER_WITHIN, opening).await {
        Ok(opened) => pipe::Sender::from_file(opened?),
        Err(_elapsed) => {
            // A reader, so that nobody waits any more.
            drop(hold(path)?);
            Err(io::ErrorKind::TimedOut.into())
        }
    }
}

/// Says when nobody holds an output any more.
pub(super) type Released = mpsc::Receiver<Infallible>;

/// What all outputs of one process share.
#[derive(Clone, Debug)]
pub(super) struct Outlets {
    shim: Arc<Shim>,
    exited: CancellationToken,
    held: mpsc::Sender<Infallible>,
}

impl Outlets {
    /// `exited` is cancelled when the process, which is one of `shim`'s, has ended.
    pub(super) fn new(shim: Arc<Shim>, exited: CancellationToken) -> (Self, Released) {
        let (held, released) = mpsc::channel(1);
        (Self { shim, exited, held }, released)
    }

    /// Opens the pipe for reading.
    pub(super) fn open(&self, path: &Path) -> io::Result<PipeOutput> {
        Ok(PipeOutput {
            receiver: pipe::OpenOptions::new().open_receiver(path)?,
            shim: Arc::clone(&self.shim),
            exited: Box::pin(self.exited.clone().cancelled_owned()),
            is_exited: false,
            settling: None,
            _held: self.held.clone(),
        })
    }
}

/// What comes out of a process, to its end: of the pipe, or of the process where something else
/// holds the pipe and is quiet.
pub(super) struct PipeOutput {
    receiver: pipe::Receiver,
    shim: Arc<Shim>,
    exited: Pin<Box<WaitForCancellationFutureOwned>>,
    is_exited: bool,
    /// Under way while the process has ended and nothing comes.
    settling: Option<BoxFuture<'static, ()>>,
    _held: mpsc::Sender<Infallible>,
}

impl AsyncRead for PipeOutput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if let Poll::Ready(read) = Pin::new(&mut self.receiver).poll_read(context, buffer) {
                self.settling = None;
                return Poll::Ready(read);
            }
            if !self.is_exited {
                std::task::ready!(self.exited.as_mut().poll(context));
                self.is_exited = true;
            }
            if self.settling.is_none() {
                self.settling = Some(Box::pin(settled(Arc::clone(&self.shim))));
            }
            let settling = self.settling.as_mut().expect("it was just put there");
            std::task::ready!(settling.as_mut().poll(context));
            self.settling = None;
            // What has come may not have been told to this process's reactor yet.
            if ioctl_fionread(&self.receiver)? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Returns when `shim` has had every chance to pass on what it has.
async fn settled(shim: Arc<Shim>) {
    for _ in 0..QUIET_TIMES {
        tokio::time::sleep(QUIET).await;
        shim.answered().await;
    }
}
