//! Streams as numbered channels in the messages of a WebSocket (upstream `wsstream`, apimachinery
//! pkg/util/httpstream/wsstream/conn.go, v1.35).
//!
//! Start at [`serve`]. What a message means is in [`message`]; SPDY inside a WebSocket goes through
//! [`tunnel`].

mod message;
mod tunnel;

pub(super) use message::Coding;
pub(super) use tunnel::Tunnel;

use super::lifetime::{LINGER, LastUse, close};
use super::pieces::{Inlet, OUTGOING_PIECES_MAX, Outgoing, Receiver, Sender, incoming};
use crate::stdx::http::ByteStream;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use message::Told;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// A larger message ends the connection (upstream takes as much: `DefaultMaxPayloadBytes` of
/// golang.org/x/net/websocket).
const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// What is read and written at once.
const BUFFER_BYTES: usize = 16 << 10;

type Socket = WebSocketStream<ByteStream>;

/// Which ways bytes go on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// What comes in is dropped.
    None,
    In,
    Out,
    Both,
}

/// One channel, with the halves that it has.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) receiver: Option<Receiver>,
    pub(super) sender: Option<Sender>,
}

/// The server's side of a WebSocket whose handshake is over.
pub(super) async fn accept(stream: ByteStream) -> Socket {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await
}

/// Carries `directions.len()` channels on `stream` while `work` goes on. When the client goes
/// first, `work` is dropped; when `work` is done, what it said is sent and the connection closed.
pub(super) async fn serve<F>(
    stream: ByteStream,
    coding: Coding,
    directions: &[Direction],
    work: impl FnOnce(Vec<Channel>) -> F,
) where
    F: Future<Output = ()>,
{
    let (sink, mut source) = accept(stream).await.split();
    let (queue, outgoing) = mpsc::channel(OUTGOING_PIECES_MAX);
    let (mut inlets, channels) = open(directions, &queue);
    let last_use = LastUse::now();
    let mut reading = std::pin::pin!(read(&mut source, coding, &mut inlets, &last_use));
    let mut writing = std::pin::pin!(write(sink, coding, outgoing, &last_use));
    {
        let mut work = std::pin::pin!(work(channels));
        tokio::select! {
            () = &mut work => {}
            _broken = &mut writing => return,
            () = &mut reading => return,
            () = last_use.long_ago() => return,
        }
    }
    if close(&queue, writing, &mut reading).await {
        // The client answers the close; whoever does not in time is closed.
        tokio::time::timeout(LINGER, reading).await.ok();
    }
}

fn open(
    directions: &[Direction],
    queue: &mpsc::Sender<Outgoing>,
) -> (Vec<Option<Inlet>>, Vec<Channel>) {
    let channel = |(id, direction): (u32, &Direction)| {
        let (inlet, receiver) = match direction {
            Direction::In | Direction::Both => {
                let (inlet, receiver) = incoming();
                (Some(inlet), Some(receiver))
            }
            Direction::Out | Direction::None => (None, None),
        };
        let goes_out = matches!(direction, Direction::Out | Direction::Both);
        let sender = goes_out.then(|| Sender::new(id, queue.clone(), Arc::default()));
        (inlet, Channel { receiver, sender })
    };
    (0..).zip(directions).map(channel).unzip()
}

/// Reads until the client closes, breaks off or says what makes no sense.
async fn read(
    source: &mut SplitStream<Socket>,
    coding: Coding,
    inlets: &mut [Option<Inlet>],
    last_use: &LastUse,
) {
    while let Some(Ok(message)) = source.next().await {
        last_use.note();
        let told = match message {
            Message::Binary(bytes) => coding.decode(bytes),
            Message::Text(text) => coding.decode(text.into()),
            Message::Close(_) => return,
            // Pings are answered where they are read.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Told::Nothing,
        };
        match told {
            Told::Nothing => {}
            Told::Piece(channel, bytes) => {
                if let Some(Some(inlet)) = inlets.get(channel) {
                    // Nobody may be interested any more, which hurts nobody.
                    inlet.send(bytes).await.ok();
                }
            }
            Told::End(channel) => {
                if let Some(inlet) = inlets.get_mut(channel) {
                    *inlet = None;
                }
            }
            Told::Rubbish => return,
        }
    }
}

/// Sends what is queued until it is closed.
async fn write(
    mut sink: SplitSink<Socket, Message>,
    coding: Coding,
    mut outgoing: mpsc::Receiver<Outgoing>,
    last_use: &LastUse,
) -> Result<(), Error> {
    while let Some(next) = next(&mut sink, &mut outgoing).await? {
        match next {
            Outgoing::Data(channel, bytes) => {
                sink.feed(coding.encode(channel, &bytes)).await?;
                last_use.note();
            }
            Outgoing::Close => break,
            // Channels have no ends of their own on the way to the client.
            Outgoing::End(_) | Outgoing::Reset(_) => {}
            Outgoing::Reply(_) | Outgoing::Refuse(_) | Outgoing::Control(_) => {}
        }
    }
    sink.send(farewell()).await?;
    sink.close().await
}

/// All has been said. Clients take an end without a reason for a broken connection.
pub(super) fn farewell() -> Message {
    let reason = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    Message::Close(Some(reason))
}

/// What is to be sent next. What has been before is on its way while nothing is.
async fn next(
    sink: &mut SplitSink<Socket, Message>,
    outgoing: &mut mpsc::Receiver<Outgoing>,
) -> Result<Option<Outgoing>, Error> {
    if let Ok(next) = outgoing.try_recv() {
        return Ok(Some(next));
    }
    sink.flush().await?;
    Ok(outgoing.recv().await)
}
