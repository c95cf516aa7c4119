//! SPDY/3.1 as `moby/spdystream` speaks it, from the server's side.
//!
//! Start at [`serve`]. [`frame`] and [`headers`] are the bytes, [`session`] the streams; here is
//! what moves them. A stream is asked for by the client with headers that say what it is for.

mod dictionary;
mod frame;
mod headers;
mod session;
#[cfg(test)]
pub(super) mod tests;

pub(super) use headers::Headers;

use super::lifetime::{LastUse, close, linger};
use super::pieces::{Inlet, OUTGOING_PIECES_MAX, Outgoing, Receiver, Sender, incoming};
use crate::stdx::http::ByteStream;
use bytes::BytesMut;
use frame::{Decoder, Encoder, ResetStatus};
use session::{Effect, Session};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

/// What is read from a connection at once.
const READ_BYTES: usize = 16 << 10;

/// Frames are sent together up to about this size.
const WRITE_BYTES: usize = 64 << 10;

/// So many streams that the client has asked for wait for whoever accepts them; then the connection
/// is read no further.
const NEW_STREAMS_MAX: usize = 16;

/// A connection that does not follow the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct ProtocolError(pub(super) &'static str);

/// A stream that the client asks for.
#[derive(Debug)]
pub(super) struct NewStream {
    pub(super) id: u32,
    pub(super) headers: Headers,
    receiver: Receiver,
    sender: Sender,
    queue: mpsc::Sender<Outgoing>,
}

impl NewStream {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Tells the client that it has its stream.
    pub(super) async fn accept(self) -> (Receiver, Sender) {
        // With the connection gone, both halves have ended.
        self.queue.send(Outgoing::Reply(self.id)).await.ok();
        (self.receiver, self.sender)
    }

    pub(super) async fn refuse(self) {
        self.queue.send(Outgoing::Refuse(self.id)).await.ok();
    }
}

/// The streams that a client asks for, in their order.
#[derive(Debug)]
pub(super) struct NewStreams(mpsc::Receiver<NewStream>);

impl NewStreams {
    /// `None` when the client will ask for none any more.
    pub(super) async fn next(&mut self) -> Option<NewStream> {
        self.0.recv().await
    }
}

/// Speaks SPDY on `stream` while `work` goes on. When the client goes first, `work` is dropped;
/// when `work` is done, what it said is sent and the connection closed.
pub(super) async fn serve<F>(stream: ByteStream, work: impl FnOnce(NewStreams) -> F)
where
    F: Future<Output = ()>,
{
    let (reader, writer) = tokio::io::split(stream);
    let (queue, outgoing) = mpsc::channel(OUTGOING_PIECES_MAX);
    let (new_streams, accepted) = mpsc::channel(NEW_STREAMS_MAX);
    let shared = Shared::default();
    let mut input = Input {
        shared: &shared,
        reader,
        decoder: Decoder::new(),
        inlets: BTreeMap::new(),
        queue: queue.clone(),
        new_streams,
    };
    let is_done = {
        let mut writing = std::pin::pin!(write(&shared, writer, outgoing));
        let mut reading = std::pin::pin!(input.read());
        let mut work = std::pin::pin!(work(NewStreams(accepted)));
        let worked = tokio::select! {
            () = &mut work => true,
            _broken = &mut writing => false,
            _ended = &mut reading => false,
            () = shared.last_use.long_ago() => false,
        };
        worked && close(&queue, writing, reading).await
    };
    if is_done {
        linger(input.reader).await;
    }
}

/// What both directions look at.
#[derive(Debug)]
struct Shared {
    session: Mutex<Session>,
    last_use: LastUse,
}

impl Default for Shared {
    fn default() -> Self {
        Self { session: Mutex::default(), last_use: LastUse::now() }
    }
}

impl Shared {
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().expect("no panics under this lock")
    }
}

/// Where what comes in on a stream goes.
#[derive(Debug)]
struct Inflow {
    /// `None` when nothing more will come.
    inlet: Option<Inlet>,
    is_reset: Arc<AtomicBool>,
}

struct Input<'a> {
    shared: &'a Shared,
    reader: ReadHalf<ByteStream>,
    decoder: Decoder,
    inlets: BTreeMap<u32, Inflow>,
    queue: mpsc::Sender<Outgoing>,
    new_streams: mpsc::Sender<NewStream>,
}

impl Input<'_> {
    /// Reads until the client is done or gone.
    async fn read(&mut self) -> io::Result<()> {
        loop {
            while let Some(frame) = self.decoder.next().map_err(io::Error::other)? {
                let effect = self.shared.session().receive(frame);
                if !self.apply(effect).await {
                    return Ok(());
                }
            }
            self.decoder.buffer.reserve(READ_BYTES);
            if self.reader.read_buf(&mut self.decoder.buffer).await? == 0 {
                return Ok(());
            }
            self.shared.last_use.note();
        }
    }

    /// False when the connection is over.
    async fn apply(&mut self, effect: Effect) -> bool {
        match effect {
            Effect::Nothing => {}
            Effect::Open { id, headers, is_ended } => self.open(id, headers, is_ended).await,
            Effect::Deliver { id, bytes, is_last } => {
                let inlet = self.inlets.get(&id).and_then(|inflow| inflow.inlet.as_ref());
                if let Some(inlet) = inlet.filter(|_| !bytes.is_empty()) {
                    // Nobody may be interested any more, which hurts nobody.
                    inlet.send(bytes).await.ok();
                }
                if is_last && let Some(inflow) = self.inlets.get_mut(&id) {
                    inflow.inlet = None;
                }
            }
            Effect::Abort { id } => {
                if let Some(inflow) = self.inlets.remove(&id) {
                    inflow.is_reset.store(true, Ordering::Release);
                }
            }
            Effect::Reset { id, status } => {
                let mut bytes = BytesMut::new();
                frame::reset(&mut bytes, id, status);
                self.queue.send(Outgoing::Control(bytes.to_vec())).await.ok();
            }
            Effect::Pong { id } => {
                let mut bytes = BytesMut::new();
                frame::ping(&mut bytes, id);
                self.queue.send(Outgoing::Control(bytes.to_vec())).await.ok();
            }
            Effect::Close => return false,
        }
        true
    }

    /// Streams of which both halves are over are nobody's any more.
    fn forget_ended(&mut self) {
        let session = self.shared.session();
        self.inlets.retain(|id, inflow| inflow.inlet.is_some() || session.may_send(*id));
    }

    async fn open(&mut self, id: u32, headers: Headers, is_ended: bool) {
        self.forget_ended();
        let (inlet, receiver) = incoming();
        let is_reset = Arc::<AtomicBool>::default();
        let inlet = (!is_ended).then_some(inlet);
        self.inlets.insert(id, Inflow { inlet, is_reset: Arc::clone(&is_reset) });
        let queue = self.queue.clone();
        let sender = Sender::new(id, queue.clone(), is_reset);
        // When nobody accepts streams any more, the connection is about to end.
        self.new_streams.send(NewStream { id, headers, receiver, sender, queue }).await.ok();
    }
}

/// Sends what is queued until it is closed.
async fn write(
    shared: &Shared,
    mut writer: WriteHalf<ByteStream>,
    mut outgoing: mpsc::Receiver<Outgoing>,
) -> io::Result<()> {
    let mut encoder = Encoder::new();
    let mut buffer = BytesMut::new();
    while let Some(first) = outgoing.recv().await {
        let mut is_over = encode(shared, &mut encoder, &mut buffer, first);
        while !is_over && buffer.len() < WRITE_BYTES {
            let Ok(next) = outgoing.try_recv() else { break };
            is_over = encode(shared, &mut encoder, &mut buffer, next);
        }
        writer.write_all_buf(&mut buffer).await?;
        writer.flush().await?;
        shared.last_use.note();
        if is_over {
            break;
        }
    }
    writer.shutdown().await
}

/// True when nothing comes after it.
fn encode(shared: &Shared, encoder: &mut Encoder, into: &mut BytesMut, next: Outgoing) -> bool {
    let mut session = shared.session();
    match next {
        Outgoing::Reply(id) => encoder.reply(into, id),
        Outgoing::Refuse(id) if session.reset(id) => {
            frame::reset(into, id, ResetStatus::RefusedStream);
        }
        Outgoing::Data(id, bytes) if session.may_send(id) => frame::data(into, id, &bytes, false),
        Outgoing::End(id) if session.end(id) => frame::data(into, id, &[], true),
        Outgoing::Reset(id) if session.reset(id) => frame::reset(into, id, ResetStatus::Cancel),
        Outgoing::Control(bytes) => into.extend_from_slice(&bytes),
        Outgoing::Close => {
            frame::go_away(into, session.last_id());
            return true;
        }
        // For streams that are over.
        Outgoing::Refuse(_) | Outgoing::Data(..) | Outgoing::End(_) | Outgoing::Reset(_) => {}
    }
    false
}
