//! One stream of a connection, seen from whoever uses it: pieces of bytes in, pieces of bytes out.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// So many pieces of a stream wait for whoever reads it; then the connection is read no further.
const INCOMING_PIECES_MAX: usize = 8;

/// So many pieces of all streams of a connection wait to be sent; then their writers wait.
pub(super) const OUTGOING_PIECES_MAX: usize = 16;

/// What is read from a file at once, to be sent as one piece.
const PIECE_BYTES: usize = 32 << 10;

/// What is to be sent on a connection.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// The stream that the other side has asked for is accepted.
    Reply(u32),
    /// It is not.
    Refuse(u32),
    Data(u32, Bytes),
    End(u32),
    Reset(u32),
    /// Bytes that a protocol's own rules ask for, such as the answer to a ping.
    Control(Vec<u8>),
    /// Nothing comes after this.
    Close,
}

/// The bytes that come in on one stream.
#[derive(Debug)]
pub struct Receiver(mpsc::Receiver<Bytes>);

/// Where a connection puts what comes in on one stream.
pub(super) type Inlet = mpsc::Sender<Bytes>;

/// A stream's incoming half, and where the connection puts the bytes.
pub(super) fn incoming() -> (Inlet, Receiver) {
    let (inlet, pieces) = mpsc::channel(INCOMING_PIECES_MAX);
    (inlet, Receiver(pieces))
}

impl Receiver {
    /// The next piece, never empty; `None` when the other side has ended the stream or is gone.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }

    /// Writes everything that comes to `target`, to its end.
    ///
    /// # Errors
    /// Where `target` takes no more.
    pub async fn copy_to(&mut self, target: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        while let Some(piece) = self.next().await {
            target.write_all(&piece).await?;
            target.flush().await?;
        }
        Ok(())
    }
}

/// The bytes that go out on one stream. Dropping it ends the stream.
#[derive(Debug)]
pub struct Sender {
    id: u32,
    queue: mpsc::Sender<Outgoing>,
    is_reset: Arc<AtomicBool>,
    is_over: bool,
}

/// Nobody reads the stream any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the stream any more")]
pub struct Unwanted;

impl Sender {
    pub(super) fn new(id: u32, queue: mpsc::Sender<Outgoing>, is_reset: Arc<AtomicBool>) -> Self {
        Self { id, queue, is_reset, is_over: false }
    }

    /// Sends a piece; waits while the other side is slow.
    ///
    /// # Errors
    /// Where the other side has given the stream up, or is gone.
    pub async fn send(&mut self, piece: Bytes) -> Result<(), Unwanted> {
        if self.is_over || self.is_reset.load(Ordering::Acquire) {
            return Err(Unwanted);
        }
        self.queue.send(Outgoing::Data(self.id, piece)).await.map_err(|_gone| Unwanted)
    }

    /// Ends the stream: the other side reads to here.
    pub async fn finish(&mut self) {
        self.end_with(Outgoing::End(self.id)).await;
    }

    /// Breaks the stream off: the other side learns that something went wrong.
    pub async fn reset(&mut self) {
        self.end_with(Outgoing::Reset(self.id)).await;
    }

    /// Says whether the other side has given the stream up, also while it is used.
    pub(super) fn given_up(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_reset)
    }

    async fn end_with(&mut self, last: Outgoing) {
        if !std::mem::replace(&mut self.is_over, true) {
            // With the connection gone, the stream has ended anyway.
            self.queue.send(last).await.ok();
        }
    }

    /// Sends everything that can be read from `source`, to its end.
    ///
    /// # Errors
    /// Where nobody reads the stream. A source that breaks has ended.
    pub async fn copy_from(
        &mut self,
        source: &mut (impl AsyncRead + Unpin),
    ) -> Result<(), Unwanted> {
        let mut buffer = bytes::BytesMut::new();
        loop {
            buffer.reserve(PIECE_BYTES);
            match source.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return Ok(()),
                Ok(_) => self.send(buffer.split().freeze()).await?,
            }
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.is_over {
            // Where the queue is full the connection is about to be closed or its peer is not
            // reading; users that care end their streams themselves.
            self.queue.try_send(Outgoing::End(self.id)).ok();
        }
    }
}
