//! The body of an answer as the messages of a WebSocket: logs and watches for those who cannot read
//! a body while it is still coming, as pages in browsers.
//!
//! Start at [`answer`]. Upstream `wsstream.Reader` (apimachinery pkg/util/httpstream/wsstream) and
//! `WatchServer.HandleWS` (apiserver pkg/endpoints/handlers/watch.go, v1.35).

use super::handshake::{Refused, web_socket};
use super::lifetime::LINGER;
use super::websocket::{accept, farewell};
use crate::stdx::http::{Body, ByteStream, Response, Upgrade};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// The protocol of those who take text only.
const BASE64: &str = "base64.binary.k8s.io";
const PROTOCOLS: &[&str] = &["binary.k8s.io", BASE64];

/// The length before each frame of protobuf.
const LENGTH_BYTES: usize = size_of::<u32>();

/// What of a body is one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// What has come, wherever it ends. In base64 where the client's protocol says so.
    Piece,
    /// A line with its newline, as text.
    Line,
    /// What stands behind a length of four bytes, without it.
    Frame,
}

/// The answer that sends `body` over the WebSocket that `headers` ask for.
///
/// # Errors
/// Where they do not ask for one that is known.
pub fn answer(headers: &HeaderMap, body: Body, unit: Unit) -> Result<Response, Refused> {
    let offer = web_socket(headers, PROTOCOLS)?;
    let is_base64 = offer.protocol == Some(BASE64);
    let messages = Messages { unit, is_base64, begun: BytesMut::new() };
    let mut response = Upgrade::answer(HeaderValue::from_static("websocket"), move |stream| {
        send(stream, body, messages)
    });
    offer.agree(&mut response);
    Ok(response)
}

/// Sends until the body ends or breaks off, or the client goes.
async fn send(stream: ByteStream, mut body: Body, mut messages: Messages) {
    let (mut sink, mut source) = accept(stream).await.split();
    // There is nothing to say to the server. Pings are answered where they are read.
    let mut reading = std::pin::pin!(async {
        while let Some(Ok(message)) = source.next().await {
            if message.is_close() {
                return;
            }
        }
    });
    let sending = async {
        if let Some(greeting) = messages.greeting() {
            sink.send(greeting).await?;
        }
        while let Some(Ok(frame)) = body.frame().await {
            for message in messages.push(frame.into_data().unwrap_or_default()) {
                sink.feed(message).await?;
            }
            sink.flush().await?;
        }
        sink.send(farewell()).await
    };
    let sent = tokio::select! {
        sent = sending => sent,
        () = &mut reading => return,
    };
    if sent.is_ok() {
        tokio::time::timeout(LINGER, reading).await.ok();
    }
}

/// Cuts a body into messages.
#[derive(Debug)]
struct Messages {
    unit: Unit,
    is_base64: bool,
    /// The beginning of a message whose end has not come yet.
    begun: BytesMut,
}

impl Messages {
    /// An empty message before the first piece says that the stream stands.
    fn greeting(&self) -> Option<Message> {
        (self.unit == Unit::Piece).then(|| self.piece(&Bytes::new()))
    }

    fn push(&mut self, bytes: Bytes) -> Vec<Message> {
        if self.unit == Unit::Piece {
            let message = (!bytes.is_empty()).then(|| self.piece(&bytes));
            return message.into_iter().collect();
        }
        self.begun.extend_from_slice(&bytes);
        std::iter::from_fn(|| self.next_whole()).collect()
    }

    fn piece(&self, bytes: &Bytes) -> Message {
        match self.is_base64 {
            true => Message::text(STANDARD.encode(bytes)),
            false => Message::Binary(bytes.clone()),
        }
    }

    /// The next line or frame that is here to its end.
    fn next_whole(&mut self) -> Option<Message> {
        if self.unit == Unit::Line {
            let end = self.begun.iter().position(|byte| *byte == b'\n')?;
            let line = self.begun.split_to(end + 1).freeze();
            return Some(match Utf8Bytes::try_from(line.clone()) {
                Ok(text) => Message::Text(text),
                Err(_) => Message::Binary(line),
            });
        }
        let length = self.begun.first_chunk::<LENGTH_BYTES>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        if self.begun.len() - LENGTH_BYTES < length {
            return None;
        }
        self.begun.advance(LENGTH_BYTES);
        Some(Message::Binary(self.begun.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::http::streamed;
    use futures_util::stream;
    use http::header::{SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION};
    use std::io;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    #[track_caller]
    fn check(unit: Unit, is_base64: bool, pieces: &[&'static [u8]], expected: &[&str]) {
        let mut messages = Messages { unit, is_base64, begun: BytesMut::new() };
        let told = pieces.iter().flat_map(|piece| messages.push(Bytes::from_static(piece)));
        let told: Vec<_> = told.map(|message| shown(&message)).collect();
        assert_eq!(told, expected);
    }

    fn shown(message: &Message) -> String {
        match message {
            Message::Text(text) => format!("text {:?}", text.as_str()),
            Message::Binary(bytes) => format!("binary {:?}", String::from_utf8_lossy(bytes)),
            Message::Close(_) => "close".to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn bodies_are_cut_into_messages() {
        check(Unit::Piece, false, &[b"a\nb", b"", b"\n"], &["binary \"a\\nb\"", "binary \"\\n\""]);
        check(Unit::Piece, true, &[b"foo\n"], &["text \"Zm9vCg==\""]);
        check(
            Unit::Line,
            false,
            &[b"{}\n{\"a", b"\":1}\n{"],
            &["text \"{}\\n\"", "text \"{\\\"a\\\":1}\\n\""],
        );
        check(
            Unit::Frame,
            false,
            &[b"\0\0\0\x02ab\0\0\0", b"\x01c\0\0\0\x02d"],
            &["binary \"ab\"", "binary \"c\""],
        );
    }

    fn asked(protocol: &'static str) -> HeaderMap {
        HeaderMap::from_iter([
            (SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
            (SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==")),
            (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol)),
        ])
    }

    #[tokio::test]
    async fn a_body_is_told_to_its_end() {
        let body = || {
            let pieces = [Ok(Bytes::from_static(b"one")), Ok(Bytes::from_static(b"two"))];
            streamed(stream::iter(pieces.map(|piece: io::Result<Bytes>| piece)))
        };
        assert!(answer(&asked("v4.channel.k8s.io"), body(), Unit::Piece).is_err());
        let mut response = answer(&asked("binary.k8s.io"), body(), Unit::Piece).unwrap();
        assert_eq!(response.headers()[SEC_WEBSOCKET_PROTOCOL], "binary.k8s.io");
        let upgrade = Upgrade::take(&mut response).unwrap();
        let (near, far) = tokio::io::duplex(64);
        let reading = async {
            let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
            let mut told = Vec::new();
            while let Some(Ok(message)) = client.next().await {
                told.push(shown(&message));
            }
            told
        };
        let ((), told) = tokio::join!(upgrade.run(Box::new(far)), reading);
        assert_eq!(told, ["binary \"\"", "binary \"one\"", "binary \"two\"", "close"]);
    }
}
