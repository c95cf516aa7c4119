//! Frames of SPDY/3.1 as bytes. Pure.
//!
//! Start at [`Decoder`]. The payload of a data frame is given out as it comes, so that no frame has
//! to be held, however large it is. What asks for nothing (settings, windows) is skipped: the other
//! side is `moby/spdystream`, which never sends nor heeds a window (connection.go, v0.5), so that
//! the connection itself is all that holds a sender back.

use super::ProtocolError;
use super::headers::{Headers, Packer, Unpacker};
use bytes::{Buf as _, Bytes, BytesMut};

/// The first sixteen bits of a control frame of version 3.
const VERSION_3: u16 = 0x8003;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

const FLAG_FIN: u8 = 1;
const FLAG_UNIDIRECTIONAL: u8 = 2;

const HEAD_BYTES: usize = 8;

/// A longer control frame breaks the connection.
const CONTROL_BYTES_MAX: usize = 64 << 10;

/// What lengths and ids are made of.
const LENGTH_MASK: u32 = 0x00ff_ffff;
const ID_MASK: u32 = 0x7fff_ffff;

/// Why a stream is broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResetStatus {
    ProtocolError = 1,
    RefusedStream = 3,
    Cancel = 5,
}

/// What the other side says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Open {
        id: u32,
        headers: Headers,
        is_last: bool,
        is_one_way: bool,
    },
    Reset {
        id: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// A part of what a data frame brings; `is_last` where the stream ends with it.
    Data {
        id: u32,
        bytes: Bytes,
        is_last: bool,
    },
    /// Nothing that anything follows from.
    Nothing,
}

/// A data frame of which not everything has come.
#[derive(Clone, Copy, Debug)]
struct Payload {
    id: u32,
    left: usize,
    is_last: bool,
}

/// Turns bytes into frames.
#[derive(Debug)]
pub(super) struct Decoder {
    /// What has come and is not decoded. Whoever reads from the connection reads into this.
    pub(super) buffer: BytesMut,
    payload: Option<Payload>,
    unpacker: Unpacker,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { buffer: BytesMut::new(), payload: None, unpacker: Unpacker::new() }
    }

    /// Whether the rest of a data frame is still to come.
    #[cfg(test)]
    pub(super) fn is_inside_payload(&self) -> bool {
        self.payload.is_some()
    }

    /// The next frame, where enough of it has come.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, ProtocolError> {
        if let Some(payload) = self.payload.take() {
            return Ok(self.take_payload(payload));
        }
        let Some(head) = self.buffer.first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let word =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (first, flags, length) = (word(0), head[4], word(4) & LENGTH_MASK);
        let length = usize::try_from(length).expect("24 bits fit");
        if first >> 31 == 0 {
            if first == 0 {
                return Err(ProtocolError("data for no stream"));
            }
            self.buffer.advance(HEAD_BYTES);
            let is_last = flags & FLAG_FIN != 0;
            return Ok(self.take_payload(Payload { id: first, left: length, is_last }));
        }
        if first >> 16 != u32::from(VERSION_3) {
            return Err(ProtocolError("a frame of another version"));
        }
        if length > CONTROL_BYTES_MAX {
            return Err(ProtocolError("a control frame is too long"));
        }
        if self.buffer.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        let body = self.buffer.split_to(length);
        let kind = u16::try_from(first & 0xffff).expect("16 bits fit");
        self.control(kind, flags, &body).map(Some)
    }

    /// What has come of a data frame: all of it, a part, or `None`.
    fn take_payload(&mut self, payload: Payload) -> Option<Frame> {
        let count = payload.left.min(self.buffer.len());
        let left = payload.left - count;
        if left > 0 {
            self.payload = Some(Payload { left, ..payload });
        }
        if count == 0 && payload.left > 0 {
            return None;
        }
        let bytes = self.buffer.split_to(count).freeze();
        Some(Frame::Data { id: payload.id, bytes, is_last: left == 0 && payload.is_last })
    }

    fn control(&mut self, kind: u16, flags: u8, body: &[u8]) -> Result<Frame, ProtocolError> {
        let number = |at: usize| {
            let bytes = body.get(at..at + 4).and_then(|bytes| bytes.first_chunk());
            let number = bytes.map(|bytes| u32::from_be_bytes(*bytes));
            number.ok_or(ProtocolError("a control frame is too short"))
        };
        let packed = |from: usize| body.get(from..).ok_or(ProtocolError("a block is missing"));
        Ok(match kind {
            SYN_STREAM => Frame::Open {
                id: number(0)? & ID_MASK,
                headers: self.unpacker.unpack(packed(10)?)?,
                is_last: flags & FLAG_FIN != 0,
                is_one_way: flags & FLAG_UNIDIRECTIONAL != 0,
            },
            // Read for the sake of those that follow.
            SYN_REPLY | HEADERS => {
                number(0)?;
                self.unpacker.unpack(packed(4)?)?;
                Frame::Nothing
            }
            RST_STREAM => Frame::Reset { id: number(0)? & ID_MASK },
            PING => Frame::Ping { id: number(0)? },
            GOAWAY => Frame::GoAway,
            _ => Frame::Nothing,
        })
    }
}

/// Turns what is to be said into bytes.
#[derive(Debug)]
pub(super) struct Encoder(Packer);

impl Encoder {
    pub(super) fn new() -> Self {
        Self(Packer::new())
    }

    pub(super) fn reply(&mut self, into: &mut BytesMut, id: u32) {
        let block = self.0.pack(&Headers::new());
        control(into, SYN_REPLY, 4 + block.len());
        into.extend_from_slice(&id.to_be_bytes());
        into.extend_from_slice(&block);
    }

    #[cfg(test)]
    pub(super) fn open(&mut self, into: &mut BytesMut, id: u32, headers: &Headers) {
        let block = self.0.pack(headers);
        control(into, SYN_STREAM, 10 + block.len());
        into.extend_from_slice(&id.to_be_bytes());
        into.extend_from_slice(&[0; 6]);
        into.extend_from_slice(&block);
    }
}

fn control(into: &mut BytesMut, kind: u16, length: usize) {
    into.extend_from_slice(&VERSION_3.to_be_bytes());
    into.extend_from_slice(&kind.to_be_bytes());
    into.extend_from_slice(&u32::try_from(length).expect("our own are short").to_be_bytes());
}

pub(super) fn reset(into: &mut BytesMut, id: u32, status: ResetStatus) {
    control(into, RST_STREAM, 8);
    into.extend_from_slice(&id.to_be_bytes());
    into.extend_from_slice(&(status as u32).to_be_bytes());
}

pub(super) fn ping(into: &mut BytesMut, id: u32) {
    control(into, PING, 4);
    into.extend_from_slice(&id.to_be_bytes());
}

pub(super) fn go_away(into: &mut BytesMut, last_id: u32) {
    control(into, GOAWAY, 8);
    into.extend_from_slice(&last_id.to_be_bytes());
    into.extend_from_slice(&[0; 4]);
}

/// Data, in as many frames as it takes; the end of the stream with the last one.
pub(super) fn data(into: &mut BytesMut, id: u32, bytes: &[u8], is_last: bool) {
    let longest = usize::try_from(LENGTH_MASK).expect("24 bits fit");
    let mut rest = bytes;
    loop {
        let (now, later) = rest.split_at(rest.len().min(longest));
        let is_final = later.is_empty();
        let flags = if is_final && is_last { FLAG_FIN } else { 0 };
        let length = u32::try_from(now.len()).expect("no more than 24 bits");
        into.extend_from_slice(&id.to_be_bytes());
        into.extend_from_slice(&(u32::from(flags) << 24 | length).to_be_bytes());
        into.extend_from_slice(now);
        if is_final {
            return;
        }
        rest = later;
    }
}
