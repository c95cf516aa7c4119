//! Connections of a client to ports of a pod, over one connection to us.
//!
//! Start at [`answer`]. Follows upstream k8s.io/kubelet pkg/cri/streaming/portforward (v1.35), and
//! its API server's tunnel (apiserver pkg/util/proxy/streamtunnel.go) for SPDY inside a WebSocket.

use super::handshake::{self, Carrier, Refused};
use super::pieces::{Receiver, Sender, Unwanted};
use super::spdy::{self, NewStream, NewStreams};
use super::websocket::{self, Channel, Coding, Direction, Tunnel};
use crate::stdx::http::{Response, Upgrade};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::FuturesUnordered;
use http::header::{HeaderMap, HeaderValue};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// A connection's two streams come within this time (upstream's `DefaultStreamCreationTimeout`).
const PAIR_WITHIN: Duration = Duration::from_secs(30);

/// More ports than this over one WebSocket are refused: each has two channels, and 255 is no number
/// of a channel.
const PORTS_MAX: usize = 127;

const PORT_FORWARD: &str = "portforward.k8s.io";
const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
const V4: &str = "v4.channel.k8s.io";
const V4_BASE64: &str = "v4.base64.channel.k8s.io";

const OVER_WEB_SOCKETS: &[&str] = &[TUNNELLED, V4, V4_BASE64];

/// Connects to a port of the pod; the error is in words for the user.
pub type Dial = Arc<dyn Fn(u16) -> BoxFuture<'static, Result<TcpStream, String>> + Send + Sync>;

/// The answer to a request that wants ports forwarded: 101, after which connections are made by
/// `dial` as the client asks for them. `ports` are those that the request itself names.
///
/// # Errors
/// Where the request asks for no protocol that is spoken here.
pub fn answer(
    headers: &HeaderMap,
    ports: Result<Vec<u16>, String>,
    dial: Dial,
) -> Result<Response, Refused> {
    if handshake::carrier(headers)? == Carrier::Spdy {
        let protocol = handshake::stream_protocol(headers, &[PORT_FORWARD])?;
        let spdy = HeaderValue::from_static("SPDY/3.1");
        let mut response =
            Upgrade::answer(spdy, |stream| spdy::serve(stream, |new| over_spdy(new, dial)));
        handshake::agree_to_spdy(&mut response, protocol);
        return Ok(response);
    }
    let offer = handshake::web_socket(headers, OVER_WEB_SOCKETS)?;
    let websocket = HeaderValue::from_static("websocket");
    let mut response = if offer.protocol == Some(TUNNELLED) {
        Upgrade::answer(websocket, |stream| async {
            let tunnel = Tunnel::new(websocket::accept(stream).await);
            spdy::serve(Box::new(tunnel), |new| over_spdy(new, dial)).await;
        })
    } else {
        let ports = ports.map_err(Refused::bad)?;
        if ports.len() > PORTS_MAX {
            return Err(Refused::bad(format!("more than {PORTS_MAX} ports")));
        }
        let is_text = offer.protocol == Some(V4_BASE64);
        let coding = if is_text { Coding::Base64 } else { Coding::Binary };
        Upgrade::answer(websocket, move |stream| async move {
            let directions = [Direction::Both, Direction::Out].repeat(ports.len());
            let work = |channels| over_channels(channels, ports, dial);
            websocket::serve(stream, coding, &directions, work).await;
        })
    };
    offer.agree(&mut response);
    Ok(response)
}

/// The ports that a request names, in several parameters or one (upstream `NewV4Options`).
///
/// # Errors
/// In words for the user, where there are none or one is wrong.
pub fn parse_ports<'a>(values: impl Iterator<Item = &'a str>) -> Result<Vec<u16>, String> {
    let mut ports = Vec::new();
    for value in values {
        if value.is_empty() {
            return Err("query parameter \"port\" cannot be empty".to_owned());
        }
        for text in value.split(',') {
            ports.push(parse_port(text)?);
        }
    }
    if ports.is_empty() {
        return Err("query parameter \"port\" is required".to_owned());
    }
    Ok(ports)
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) => Err(format!("port {text:?} must be > 0")),
        Ok(port) => Ok(port),
        Err(error) => Err(format!("unable to parse {text:?} as a port: {error}")),
    }
}

/// A connection that the client makes, from its side.
struct Link {
    port: u16,
    receiver: Receiver,
    sender: Sender,
    /// What went wrong is told here.
    errors: Sender,
}

impl Link {
    /// Carries bytes both ways until both are over; each may be over before the other.
    async fn relay(mut self, dial: Dial) {
        match dial(self.port).await {
            Ok(socket) => {
                if carry(socket, &mut self.receiver, &mut self.sender).await.is_ok() {
                    self.sender.finish().await;
                }
            }
            Err(why) => {
                let text = format!("error forwarding port {}: {why}", self.port);
                // A client that is gone wants to know nothing.
                self.errors.send(text.into()).await.ok();
                self.sender.reset().await;
            }
        }
        self.errors.finish().await;
    }
}

/// Returns when the pod is done, or the client has given the connection up: what the client still
/// says goes nowhere then, as with any closed connection.
async fn carry(
    mut socket: TcpStream,
    receiver: &mut Receiver,
    sender: &mut Sender,
) -> Result<(), Unwanted> {
    let (mut from_pod, mut to_pod) = socket.split();
    let given_up = sender.given_up();
    let up = async {
        // A pod that takes no more may still have something to say.
        receiver.copy_to(&mut to_pod).await.ok();
        to_pod.shutdown().await.ok();
    };
    let down = sender.copy_from(&mut from_pod);
    tokio::pin!(up, down);
    let mut is_up_over = false;
    loop {
        tokio::select! {
            copied = &mut down => return copied,
            () = &mut up, if !is_up_over => {
                is_up_over = true;
                if given_up.load(Ordering::Acquire) {
                    return Err(Unwanted);
                }
            }
        }
    }
}

/// The streams of a connection, of which the other may be to come.
#[derive(Default)]
struct Pair {
    /// What tells it from an earlier one of that name.
    number: u64,
    data: Option<(u16, Receiver, Sender)>,
    errors: Option<Sender>,
}

/// What goes on beside the arrival of streams.
enum Event {
    RelayEnded,
    PairOverdue { request: String, number: u64 },
}

async fn over_spdy(mut new: NewStreams, dial: Dial) {
    let mut pairs: BTreeMap<String, Pair> = BTreeMap::new();
    let mut pair_count = 0;
    let mut events: FuturesUnordered<BoxFuture<'static, Event>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            stream = new.next() => {
                let Some(stream) = stream else { return };
                let request = request_of(&stream);
                if !pairs.contains_key(&request) {
                    pair_count += 1;
                    let (number, overdue) = (pair_count, request.clone());
                    pairs.insert(request.clone(), Pair { number, ..Pair::default() });
                    events.push(Box::pin(async move {
                        tokio::time::sleep(PAIR_WITHIN).await;
                        Event::PairOverdue { request: overdue, number }
                    }));
                }
                let pair = pairs.get_mut(&request).expect("it was just put there");
                add(pair, stream).await;
                if let Pair { data: Some(_), errors: Some(_), .. } = pair
                    && let Some(Pair { data: Some(data), errors: Some(errors), .. }) =
                        pairs.remove(&request)
                {
                    let (port, receiver, sender) = data;
                    let link = Link { port, receiver, sender, errors };
                    let relayed = link.relay(Arc::clone(&dial));
                    events.push(Box::pin(async {
                        relayed.await;
                        Event::RelayEnded
                    }));
                }
            }
            Some(event) = events.next() => {
                if let Event::PairOverdue { request, number } = event
                    && pairs.get(&request).is_some_and(|pair| pair.number == number)
                    && let Some(Pair { errors: Some(mut errors), .. }) = pairs.remove(&request)
                {
                    let text = format!("(request={request}) timed out waiting for streams");
                    errors.send(text.into()).await.ok();
                    errors.finish().await;
                }
            }
        }
    }
}

/// Which connection a stream is of. Clients before Kubernetes 1.1 do not say; the streams of theirs
/// come in twos, errors first.
fn request_of(stream: &NewStream) -> String {
    match (stream.header("requestid"), stream.header("streamtype")) {
        ("", "data") => stream.id.saturating_sub(2).to_string(),
        ("", _) => stream.id.to_string(),
        (named, _) => named.to_owned(),
    }
}

async fn add(pair: &mut Pair, stream: NewStream) {
    let port = parse_port(stream.header("port"));
    match (stream.header("streamtype"), port) {
        ("error", Ok(_)) if pair.errors.is_none() => pair.errors = Some(stream.accept().await.1),
        ("data", Ok(port)) if pair.data.is_none() => {
            let (receiver, sender) = stream.accept().await;
            pair.data = Some((port, receiver, sender));
        }
        _ => stream.refuse().await,
    }
}

async fn over_channels(channels: Vec<Channel>, ports: Vec<u16>, dial: Dial) {
    let mut channels = channels.into_iter();
    let mut relays = Vec::new();
    for port in ports {
        let (Some(data), Some(errors)) = (channels.next(), channels.next()) else { return };
        let (Some(receiver), Some(mut sender), Some(mut errors)) =
            (data.receiver, data.sender, errors.sender)
        else {
            return;
        };
        // The first thing on each channel is the port that it is for.
        let number = Bytes::copy_from_slice(&port.to_le_bytes());
        if sender.send(number.clone()).await.is_err() || errors.send(number).await.is_err() {
            return;
        }
        relays.push(Link { port, receiver, sender, errors }.relay(Arc::clone(&dial)));
    }
    join_all(relays).await;
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
