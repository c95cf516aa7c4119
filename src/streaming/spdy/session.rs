//! Which streams of a connection there are and what follows from each frame. Pure.

use super::frame::{Frame, ResetStatus};
use super::headers::Headers;
use bytes::Bytes;
use std::collections::BTreeMap;

/// More streams at once on one connection are refused.
pub(super) const STREAMS_MAX: usize = 4_096;

/// What is to be done about a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    /// A stream is asked for. With `is_ended` nothing will come in on it.
    Open {
        id: u32,
        headers: Headers,
        is_ended: bool,
    },
    /// Bytes for a stream, and with `is_last` its end. The bytes may be none.
    Deliver {
        id: u32,
        bytes: Bytes,
        is_last: bool,
    },
    /// The other side has broken the stream off.
    Abort {
        id: u32,
    },
    Reset {
        id: u32,
        status: ResetStatus,
    },
    Pong {
        id: u32,
    },
    /// The other side is done with the connection.
    Close,
}

/// Which halves of a stream are over.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    is_theirs_over: bool,
    is_ours_over: bool,
}

/// The streams of one connection, all of them opened by the other side.
#[derive(Debug, Default)]
pub(super) struct Session {
    streams: BTreeMap<u32, Stream>,
    last_id: u32,
}

impl Session {
    /// What follows from a frame, as `moby/spdystream` has it (connection.go, v0.5): what is said of
    /// streams that are gone means nothing.
    pub(super) fn receive(&mut self, frame: Frame) -> Effect {
        match frame {
            Frame::Open { id, headers, is_last, is_one_way } => {
                self.open(id, headers, Stream { is_theirs_over: is_last, is_ours_over: is_one_way })
            }
            Frame::Data { id, bytes, is_last } => match self.streams.get_mut(&id) {
                Some(stream) if !stream.is_theirs_over => {
                    stream.is_theirs_over = is_last;
                    self.forget_if_over(id);
                    Effect::Deliver { id, bytes, is_last }
                }
                _ => Effect::Nothing,
            },
            Frame::Reset { id } => match self.streams.remove(&id) {
                Some(_) => Effect::Abort { id },
                None => Effect::Nothing,
            },
            // Even ones answer pings of our own, and we send none.
            Frame::Ping { id } if id % 2 == 1 => Effect::Pong { id },
            Frame::GoAway => Effect::Close,
            Frame::Ping { .. } | Frame::Nothing => Effect::Nothing,
        }
    }

    fn open(&mut self, id: u32, headers: Headers, stream: Stream) -> Effect {
        // A client's ids are odd and grow.
        if id.is_multiple_of(2) || id <= self.last_id {
            return Effect::Reset { id, status: ResetStatus::ProtocolError };
        }
        self.last_id = id;
        if self.streams.len() >= STREAMS_MAX {
            return Effect::Reset { id, status: ResetStatus::RefusedStream };
        }
        self.streams.insert(id, stream);
        Effect::Open { id, headers, is_ended: stream.is_theirs_over }
    }

    /// Whether something may be said on a stream.
    pub(super) fn may_send(&self, id: u32) -> bool {
        self.streams.get(&id).is_some_and(|stream| !stream.is_ours_over)
    }

    /// Our half is over. False where it was already.
    pub(super) fn end(&mut self, id: u32) -> bool {
        let may_send = self.may_send(id);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.is_ours_over = true;
        }
        self.forget_if_over(id);
        may_send
    }

    /// We break a stream off. False where it is gone already.
    pub(super) fn reset(&mut self, id: u32) -> bool {
        self.streams.remove(&id).is_some()
    }

    /// The last stream that the other side has opened.
    pub(super) fn last_id(&self) -> u32 {
        self.last_id
    }

    fn forget_if_over(&mut self, id: u32) {
        if self.streams.get(&id).is_some_and(|stream| stream.is_theirs_over && stream.is_ours_over)
        {
            self.streams.remove(&id);
        }
    }
}
