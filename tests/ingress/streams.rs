//! Bodies that go on, connections that become something else, and HTTP/2.

use crate::endpoint::{DEADLINE, Endpoint, Raw};
use crate::rig::{Rig, ingress, service_speaking};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt as _, Channel, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn rig_of(endpoint: &Endpoint, protocol: &str) -> Rig {
    Rig::start(|api| {
        service_speaking(api, "a", protocol, &[endpoint]);
        ingress(api, "i", &["a.x / a"], Value::Null);
    })
    .await
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut byte = [0];
        timeout(DEADLINE, stream.read_exact(&mut byte)).await.unwrap().unwrap();
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_part_of_an_answer_goes_out_when_it_comes() {
    let a = Endpoint::serving("a", |mut stream, _name, _note| {
        Box::pin(async move {
            crate::endpoint::read_message(&mut stream).await.unwrap();
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            // The rest comes when the client has seen the first part and says so on its own.
            read_until(&mut stream, "more\r\n").await;
            stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
        })
    })
    .await;
    let rig = rig_of(&a, "http").await;
    let mut client = Raw::connect(rig.http).await;
    client.send("POST / HTTP/1.1\r\nHost: a.x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("5\r\nfirst\r\n0\r\n\r\n").await;
    read_until(&mut client.0, "one\r\n").await;
    // Nothing more comes; the client goes, and so does the connection to the endpoint.
    drop(client);
    rig.stop().await;
}

#[tokio::test]
async fn a_part_of_a_request_goes_out_when_it_comes() {
    let a = Endpoint::serving("a", |mut stream, _name, note| {
        Box::pin(async move {
            let head = read_until(&mut stream, "5\r\nfirst\r\n").await;
            note(head);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nyes\r\n")
                .await
                .unwrap();
            note(read_until(&mut stream, "0\r\n\r\n").await);
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        })
    })
    .await;
    let rig = rig_of(&a, "http").await;
    let mut client = Raw::connect(rig.http).await;
    let head = "POST / HTTP/1.1\r\nHost: a.x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    client.send(head).await;
    read_until(&mut client.0, "yes\r\n").await;
    client.send("6\r\nsecond\r\n0\r\n\r\n").await;
    read_until(&mut client.0, "0\r\n\r\n").await;
    assert!(a.requests()[1].contains("second"));
    rig.stop().await;
}

#[tokio::test]
async fn a_client_that_is_asked_to_wait_sends_when_it_may() {
    let a = Endpoint::named("a").await;
    let rig = rig_of(&a, "http").await;
    let mut client = Raw::connect(rig.http).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a.x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .await;
    assert_eq!(read_until(&mut client.0, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hi").await;
    assert!(client.answer().await.unwrap().starts_with("HTTP/1.1 200"));
    rig.stop().await;
}

#[tokio::test]
async fn a_connection_becomes_what_both_ends_want() {
    let a = Endpoint::serving("a", |mut stream, _name, note| {
        Box::pin(async move {
            note(crate::endpoint::read_message(&mut stream).await.unwrap());
            let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
                        upgrade: websocket\r\nsec-websocket-accept: x\r\n\r\nhello";
            stream.write_all(head.as_bytes()).await.unwrap();
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await.ok();
        })
    })
    .await;
    let rig = rig_of(&a, "http").await;
    let mut client = Raw::connect(rig.http).await;
    client
        .send(
            "GET /chat HTTP/1.1\r\nHost: a.x\r\nConnection: keep-alive, Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Key: y\r\n\r\n",
        )
        .await;
    let head = read_until(&mut client.0, "\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("sec-websocket-accept: x"), "{head}");
    assert!(head.contains("upgrade: websocket"), "{head}");
    read_until(&mut client.0, "hello").await;
    client.send("to and fro").await;
    read_until(&mut client.0, "to and fro").await;
    let seen = a.requests().remove(0).to_ascii_lowercase();
    assert!(seen.contains("upgrade: websocket") && seen.contains("sec-websocket-key: y"), "{seen}");
    // It ends when the ingress does.
    rig.stop().await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn an_upgrade_that_is_refused_is_an_answer() {
    let a = Endpoint::named("a").await;
    let rig = rig_of(&a, "http").await;
    let mut client = Raw::connect(rig.http).await;
    for _ in 0..2 {
        client
            .send("GET / HTTP/1.1\r\nHost: a.x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
            .await;
        assert!(client.answer().await.unwrap().starts_with("HTTP/1.1 200"));
    }
    rig.stop().await;
}

/// An endpoint as gRPC has it: HTTP/2 without TLS, and the status in trailers.
async fn echo_with_trailers(
    request: Request<Incoming>,
) -> Result<Response<Channel<Bytes>>, Infallible> {
    assert_eq!(request.version(), Version::HTTP_2);
    let te = request.headers().get("te").cloned();
    let (mut sender, body) = Channel::new(1);
    #[expect(clippy::disallowed_methods, reason = "it ends with the body it echoes")]
    tokio::spawn(async move {
        let mut asked = request.into_body();
        while let Some(Ok(frame)) = asked.frame().await {
            if let Ok(data) = frame.into_data() {
                sender.send_data(data).await.ok();
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        sender.send_trailers(trailers).await.ok();
    });
    let mut response = Response::new(body);
    if let Some(te) = te {
        response.headers_mut().insert("x-te", te);
    }
    Ok(response)
}

async fn http2_client(
    address: SocketAddr,
) -> hyper::client::conn::http2::SendRequest<StreamBody<tokio_stream_body::Frames>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = made.await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "it ends with its sender")]
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn grpc_talks_both_ways_and_says_how_it_went() {
    let a = Endpoint::serving("a", |stream, _name, _note| {
        Box::pin(async move {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let service = service_fn(echo_with_trailers);
            builder.serve_connection(TokioIo::new(stream), service).await.ok();
        })
    })
    .await;
    let rig = rig_of(&a, "kubernetes.io/h2c").await;
    let mut client = http2_client(rig.http).await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        let (pieces, body) = tokio_stream_body::channel();
        let request = Request::post("http://a.x/service/Method")
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .body(body)
            .unwrap();
        let mut response = timeout(DEADLINE, client.send_request(request)).await.unwrap().unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-te"]),
            (200, &"trailers".parse().unwrap())
        );
        for text in ["one", "two"] {
            pieces.send(Bytes::from(text)).unwrap();
            let frame = timeout(DEADLINE, response.frame()).await.unwrap().unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), text);
        }
        drop(pieces);
        let end = timeout(DEADLINE, response.frame()).await.unwrap().unwrap().unwrap();
        answers.push(end.into_trailers().unwrap()["grpc-status"].clone());
    }
    assert_eq!(answers, ["0", "0", "0"]);
    assert_eq!(a.connections(), 1, "all share one connection");
    rig.stop().await;
}

#[tokio::test]
async fn http2_clients_are_served_by_http1_endpoints() {
    let a = Endpoint::named("a").await;
    let rig = rig_of(&a, "http").await;
    let mut client = http2_client(rig.http).await;
    let (pieces, body) = tokio_stream_body::channel();
    drop(pieces);
    let request = Request::get("http://a.x/x")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(body)
        .unwrap();
    let response = timeout(DEADLINE, client.send_request(request)).await.unwrap().unwrap();
    let body = timeout(DEADLINE, response.into_body().collect()).await.unwrap().unwrap();
    assert_eq!(body.to_bytes(), "a");
    let seen = a.requests().remove(0).to_ascii_lowercase();
    assert!(seen.starts_with("get /x http/1.1\r\n"), "{seen}");
    assert!(seen.contains("cookie: a=1; b=2\r\n") && seen.contains("host: a.x\r\n"), "{seen}");
    rig.stop().await;
}

#[tokio::test]
async fn who_goes_takes_along_what_was_under_way() {
    let a = Endpoint::serving("a", |mut stream, _name, note| {
        Box::pin(async move {
            note(crate::endpoint::read_message(&mut stream).await.unwrap());
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.ok();
            note("gone".to_owned());
        })
    })
    .await;
    let rig = rig_of(&a, "http").await;
    let mut client = Raw::connect(rig.http).await;
    client.send("GET / HTTP/1.1\r\nHost: a.x\r\n\r\n").await;
    let wait = async |count: usize| {
        while a.requests().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, wait(1)).await.unwrap();
    drop(client);
    timeout(DEADLINE, wait(2)).await.unwrap();
    rig.stop().await;
}

/// A body of pieces that a test sends when it likes.
mod tokio_stream_body {
    use bytes::Bytes;
    use futures_util::stream::{Stream, unfold};
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use std::convert::Infallible;
    use std::pin::Pin;
    use tokio::sync::mpsc;

    pub(super) type Frames =
        Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync>>;

    pub(super) fn channel() -> (mpsc::UnboundedSender<Bytes>, StreamBody<Frames>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let frames = unfold(receiver, async |mut receiver: mpsc::UnboundedReceiver<Bytes>| {
            let piece = receiver.recv().await?;
            Some((Ok(Frame::data(piece)), receiver))
        });
        (sender, StreamBody::new(Box::pin(frames) as Frames))
    }
}
