//! A command in a container and somebody who talks to it: input, outputs, the size of a terminal,
//! and how it ended.
//!
//! Start at [`answer`]. Follows upstream k8s.io/kubelet pkg/cri/streaming/remotecommand (v1.35) for
//! everything up to `v4.channel.k8s.io`, and its API server's translator (apiserver
//! pkg/util/proxy/websocket.go) for `v5.channel.k8s.io`, in which a client can end its input.

use super::handshake::{self, Carrier, Refused};
use super::pieces::{Receiver, Sender};
use super::spdy::{self, NewStreams};
use super::websocket::{self, Channel, Coding, Direction};
use crate::stdx::http::{Response, Upgrade};
use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// A client of SPDY has so long to ask for its streams (upstream's `DefaultStreamCreationTimeout`).
const STREAMS_WITHIN: Duration = Duration::from_secs(30);

/// A size that is not complete within so many bytes is none.
const SIZE_BYTES_MAX: usize = 1 << 10;

const V5: &str = "v5.channel.k8s.io";
const V4: &str = "v4.channel.k8s.io";
const V3: &str = "v3.channel.k8s.io";
const V2: &str = "v2.channel.k8s.io";
const V1: &str = "channel.k8s.io";
const V4_BASE64: &str = "v4.base64.channel.k8s.io";
const V1_BASE64: &str = "base64.channel.k8s.io";

const OVER_SPDY: &[&str] = &[V4, V3, V2, V1];
const OVER_WEB_SOCKETS: &[&str] = &[V5, V4, V4_BASE64, V1, V1_BASE64];

/// Which streams somebody wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl Wanted {
    /// With a terminal there is one output.
    ///
    /// # Errors
    /// Where nothing is wanted (upstream `NewOptions`).
    pub fn check(self) -> Result<Self, Refused> {
        let checked = Self { stderr: self.stderr && !self.tty, ..self };
        if checked.stdin || checked.stdout || checked.stderr {
            return Ok(checked);
        }
        Err(Refused::bad("you must specify at least 1 of stdin, stdout, stderr"))
    }
}

/// How a terminal is to be: what the client's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct TerminalSize {
    #[serde(rename = "Width")]
    pub width: u16,
    #[serde(rename = "Height")]
    pub height: u16,
}

/// The sizes that the client's terminal takes, one after another.
#[derive(Debug)]
pub struct Sizes {
    receiver: Receiver,
    begun: Vec<u8>,
}

impl Sizes {
    fn new(receiver: Receiver) -> Self {
        Self { receiver, begun: Vec::new() }
    }

    /// The next size; `None` when there will be none any more.
    pub async fn next(&mut self) -> Option<TerminalSize> {
        loop {
            let mut documents = serde_json::Deserializer::from_slice(&self.begun).into_iter();
            match documents.next() {
                Some(Ok(size)) => {
                    let read = documents.byte_offset();
                    self.begun.drain(..read);
                    return Some(size);
                }
                Some(Err(error)) if !error.is_eof() || self.begun.len() > SIZE_BYTES_MAX => {
                    return None;
                }
                Some(Err(_)) | None => self.begun.extend_from_slice(&self.receiver.next().await?),
            }
        }
    }
}

/// What is wanted, ready to be used.
#[derive(Debug)]
pub struct Streams {
    pub stdin: Option<Receiver>,
    pub stdout: Option<Sender>,
    pub stderr: Option<Sender>,
    pub sizes: Option<Sizes>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Succeeded,
    /// Not with 0.
    Exited(i32),
    /// What went wrong, in words for the user.
    Failed(String),
}

/// How an outcome is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    /// Nothing where it is well, and words where not.
    Words,
    /// As a `Status`.
    Status,
}

impl Telling {
    fn tell(self, outcome: &Outcome) -> Option<Bytes> {
        let status = match outcome {
            Outcome::Succeeded => json!({ "metadata": {}, "status": "Success" }),
            Outcome::Exited(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("command terminated with non-zero exit code: exit code {code}"),
                "reason": "NonZeroExitCode",
                "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
            }),
            Outcome::Failed(why) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("Internal error occurred: {why}"),
                "reason": "InternalError",
                "details": { "causes": [{ "message": why }] },
                "code": 500,
            }),
        };
        match self {
            Self::Status => Some(status.to_string().into()),
            Self::Words => status["message"].as_str().map(|words| words.to_owned().into()),
        }
    }
}

/// The answer to a request that wants to talk to a command: 101, after which `work` has the streams.
///
/// # Errors
/// Where the request asks for no protocol that is spoken here.
pub fn answer<W, F>(headers: &HeaderMap, wanted: Wanted, work: W) -> Result<Response, Refused>
where
    W: FnOnce(Streams) -> F + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let wanted = wanted.check()?;
    match handshake::carrier(headers)? {
        Carrier::Spdy => {
            let protocol = handshake::stream_protocol(headers, OVER_SPDY)?;
            let mut response =
                Upgrade::answer(HeaderValue::from_static("SPDY/3.1"), move |stream| {
                    let work = move |new| over_spdy(new, wanted, protocol.unwrap_or(V1), work);
                    spdy::serve(stream, work)
                });
            handshake::agree_to_spdy(&mut response, protocol);
            Ok(response)
        }
        Carrier::WebSocket => {
            let offer = handshake::web_socket(headers, OVER_WEB_SOCKETS)?;
            let protocol = offer.protocol.unwrap_or(V1);
            let websocket = HeaderValue::from_static("websocket");
            let mut response = Upgrade::answer(websocket, move |stream| async move {
                let work = move |channels| over_channels(channels, wanted, protocol, work);
                let directions = directions(wanted);
                websocket::serve(stream, coding(protocol), &directions, work).await;
            });
            offer.agree(&mut response);
            Ok(response)
        }
    }
}

fn coding(protocol: &str) -> Coding {
    match protocol {
        V5 => Coding::BinaryWithEnds,
        V4_BASE64 | V1_BASE64 => Coding::Base64,
        _ => Coding::Binary,
    }
}

fn telling(protocol: &str) -> Telling {
    match protocol {
        V5 | V4 | V4_BASE64 => Telling::Status,
        _ => Telling::Words,
    }
}

/// Input, two outputs, the outcome and the sizes, by their numbers.
fn directions(wanted: Wanted) -> [Direction; 5] {
    let when = |is_wanted, direction| if is_wanted { direction } else { Direction::None };
    [
        when(wanted.stdin, Direction::In),
        when(wanted.stdout, Direction::Out),
        when(wanted.stderr, Direction::Out),
        Direction::Out,
        Direction::In,
    ]
}

async fn over_channels<W, F>(channels: Vec<Channel>, wanted: Wanted, protocol: &str, work: W)
where
    W: FnOnce(Streams) -> F,
    F: Future<Output = Outcome>,
{
    let channels = <[Channel; 5]>::try_from(channels);
    let [stdin, mut stdout, mut stderr, outcome, sizes] = channels.expect("one for each direction");
    let mut telling_outcome = outcome.sender.expect("it goes out");
    // An empty message on the first output tells the client that it is connected.
    let first = stdout.sender.as_mut().or(stderr.sender.as_mut()).unwrap_or(&mut telling_outcome);
    if first.send(Bytes::new()).await.is_err() {
        return;
    }
    let streams = Streams {
        stdin: stdin.receiver,
        stdout: stdout.sender,
        stderr: stderr.sender,
        sizes: sizes.receiver.filter(|_| wanted.tty).map(Sizes::new),
    };
    tell(work(streams).await, &mut telling_outcome, protocol).await;
}

async fn over_spdy<W, F>(mut new: NewStreams, wanted: Wanted, protocol: &'static str, work: W)
where
    W: FnOnce(Streams) -> F,
    F: Future<Output = Outcome>,
{
    let gathering = gather(&mut new, wanted, protocol);
    let Ok(Some(gathered)) = tokio::time::timeout(STREAMS_WITHIN, gathering).await else {
        return;
    };
    let Gathered { streams, mut outcome, mut silent } = gathered;
    tell(work(streams).await, &mut outcome, protocol).await;
    for sender in &mut silent {
        sender.finish().await;
    }
}

async fn tell(outcome: Outcome, to: &mut Sender, protocol: &str) {
    if let Some(words) = telling(protocol).tell(&outcome) {
        // A client that is gone wants to know nothing.
        to.send(words).await.ok();
    }
    to.finish().await;
}

/// The streams that a client of SPDY has asked for.
struct Gathered {
    streams: Streams,
    outcome: Sender,
    /// On which nothing is said. Clients stop sending input when these end (client-go
    /// tools/remotecommand/v2.go `copyStdin`), so that they end with the command.
    silent: Vec<Sender>,
}

/// Waits until the client has asked for each stream that is wanted.
async fn gather(new: &mut NewStreams, wanted: Wanted, protocol: &str) -> Option<Gathered> {
    let has_sizes = wanted.tty && matches!(protocol, V4 | V3);
    let mut streams = Streams { stdin: None, stdout: None, stderr: None, sizes: None };
    let (mut outcome, mut silent) = (None, Vec::new());
    loop {
        let is_complete = outcome.is_some()
            && (streams.stdin.is_some() || !wanted.stdin)
            && (streams.stdout.is_some() || !wanted.stdout)
            && (streams.stderr.is_some() || !wanted.stderr)
            && (streams.sizes.is_some() || !has_sizes);
        if is_complete {
            return Some(Gathered { streams, outcome: outcome?, silent });
        }
        let stream = new.next().await?;
        match stream.header("streamtype") {
            "stdin" if wanted.stdin => {
                let (receiver, sender) = stream.accept().await;
                silent.push(sender);
                streams.stdin = Some(receiver);
            }
            "stdout" if wanted.stdout => streams.stdout = Some(stream.accept().await.1),
            "stderr" if wanted.stderr => streams.stderr = Some(stream.accept().await.1),
            "error" => outcome = Some(stream.accept().await.1),
            "resize" if has_sizes => {
                let (receiver, sender) = stream.accept().await;
                silent.push(sender);
                streams.sizes = Some(Sizes::new(receiver));
            }
            _ => stream.refuse().await,
        }
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
