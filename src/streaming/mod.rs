//! Several streams of bytes over one connection that has stopped being HTTP: how `kubectl exec`,
//! `attach`, `cp` and `port-forward` talk.
//!
//! Start at [`command::answer`] and [`forward::answer`], which take a request and say what becomes
//! of its connection; [`body::answer`] is for one stream to the client alone. Two ways carry the streams: numbered channels in the messages of a WebSocket
//! ([`websocket`]), and SPDY/3.1 ([`spdy`]), by itself or inside a WebSocket. What is a protocol is
//! pure and fed with bytes; what moves the bytes is one future for each connection, which ends with
//! it. Architecture invariants: a stream holds a bounded number of pieces and then its connection
//! is read no further; no stream outlives its connection.

pub mod body;
pub mod command;
pub mod forward;
mod handshake;
mod lifetime;
mod pieces;
mod spdy;
pub mod tunnel;
mod websocket;

pub use handshake::Refused;
pub use pieces::{Receiver, Sender, Unwanted};
