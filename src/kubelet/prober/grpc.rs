//! Asks a container over gRPC whether it serves: `grpc.health.v1.Health/Check`, over HTTP/2 without
//! TLS. Upstream pkg/probe/grpc/grpc.go (v1.35).
//!
//! The two messages have one field each; they are written and read here, byte by byte.

use super::step::Answer;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const PATH: &str = "/grpc.health.v1.Health/Check";

/// An answer has a few bytes. What is longer than this is none.
const ANSWER_BYTES_MAX: usize = 4_096;

/// Before each message: whether it is compressed, and its length.
const FRAME_BYTES: usize = 5;

/// `Health/Check` is not there: status 12 of gRPC.
const UNIMPLEMENTED: &str = "12";

/// Asks. Whatever goes wrong is a failure, as of grpc_health_probe.
pub(super) async fn ask(address: SocketAddr, service: &str) -> Answer {
    match exchange(address, service).await {
        Ok(reply) => reply.answer(),
        Err(why) => Answer::Failed(why),
    }
}

/// What came back.
struct Reply {
    message: Bytes,
    /// Headers and trailers: short answers have their status in either.
    fields: HeaderMap,
}

async fn exchange(address: SocketAddr, service: &str) -> Result<Reply, String> {
    let unreachable = |error: &dyn std::fmt::Display| {
        format!("error: failed to connect service at \"{address}\": {error}")
    };
    let failed = |error: hyper::Error| format!("error: health rpc probe failed: {error}");
    let stream = TcpStream::connect(address).await.map_err(|error| unreachable(&error))?;
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| unreachable(&error))?;
    // The connection ends with this exchange.
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let response = sender.send_request(request(address, service)?).await.map_err(failed)?;
    let (head, body) = response.into_parts();
    if head.status != http::StatusCode::OK {
        return Err(format!("error: health rpc probe failed: it answers with {}", head.status));
    }
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| format!("error: health rpc probe failed: {error}"))?;
    let mut fields = head.headers;
    fields.extend(body.trailers().cloned().unwrap_or_default());
    Ok(Reply { message: body.to_bytes(), fields })
}

fn request(address: SocketAddr, service: &str) -> Result<Request<Full<Bytes>>, String> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{address}{PATH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", super::AGENT)
        .body(Full::new(question(service)));
    request.map_err(|error| format!("error: {error}"))
}

/// The message `HealthCheckRequest`, in its frame.
fn question(service: &str) -> Bytes {
    /// Field 1, a text.
    const SERVICE: u8 = 1 << 3 | 2;
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(SERVICE);
        put_varint(&mut message, service.len());
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(FRAME_BYTES + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("the API server limits objects to 3 MiB"));
    frame.put_slice(&message);
    frame.freeze()
}

fn put_varint(buffer: &mut BytesMut, value: usize) {
    let mut rest = value;
    while rest >= 0x80 {
        buffer.put_u8(u8::try_from(rest & 0x7f).expect("seven bits fit") | 0x80);
        rest >>= 7;
    }
    buffer.put_u8(u8::try_from(rest).expect("seven bits fit"));
}

impl Reply {
    fn answer(&self) -> Answer {
        let field = |name: &str| self.fields.get(name).map(HeaderValue::to_str);
        let text = |name: &str| field(name).and_then(Result::ok).unwrap_or_default().to_owned();
        let message = percent_encoding::percent_decode_str(&text("grpc-message"))
            .decode_utf8_lossy()
            .into_owned();
        match text("grpc-status").as_str() {
            "0" => match status(&self.message) {
                Some(1) => Answer::Passed,
                other => {
                    let word = match other {
                        Some(2) => "NOT_SERVING",
                        Some(3) => "SERVICE_UNKNOWN",
                        _ => "UNKNOWN",
                    };
                    Answer::Failed(format!("service unhealthy (responded with {word:?})"))
                }
            },
            UNIMPLEMENTED => Answer::Failed(format!(
                "error: this server does not implement the grpc health protocol \
                 (grpc.health.v1.Health): {message}"
            )),
            code => Answer::Failed(format!(
                "error: health rpc probe failed: rpc error: code = {code} desc = {message}"
            )),
        }
    }
}

/// The field `status` of the message `HealthCheckResponse` in its frame; 0 where it is not said.
/// `None` for what is no such message.
fn status(frame: &[u8]) -> Option<u8> {
    /// Field 1, a number.
    const STATUS: u8 = 1 << 3;
    let (head, message) = frame.split_at_checked(FRAME_BYTES)?;
    if head[0] != 0 {
        return None;
    }
    match message {
        [] => Some(0),
        [STATUS, value, ..] if *value < 0x80 => Some(*value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: &str, message: &[u8], expected: &str) {
        let mut fields = HeaderMap::new();
        fields.insert("grpc-status", status.parse().unwrap());
        fields.insert("grpc-message", HeaderValue::from_static("no%20such thing"));
        let reply = Reply { message: Bytes::copy_from_slice(message), fields };
        let text = match reply.answer() {
            Answer::Passed => "passed".to_owned(),
            Answer::Failed(why) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn answers_are_read() {
        check("0", &[0, 0, 0, 0, 2, 8, 1], "passed");
        check("0", &[0, 0, 0, 0, 2, 8, 2], "service unhealthy (responded with \"NOT_SERVING\")");
        check("0", &[0, 0, 0, 0, 0], "service unhealthy (responded with \"UNKNOWN\")");
        check("0", &[], "service unhealthy (responded with \"UNKNOWN\")");
        check(
            "12",
            &[],
            "error: this server does not implement the grpc health protocol \
             (grpc.health.v1.Health): no such thing",
        );
        check("5", &[], "error: health rpc probe failed: rpc error: code = 5 desc = no such thing");
    }

    #[test]
    fn questions_name_their_service() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("db")[..], [0, 0, 0, 0, 4, 10, 2, b'd', b'b']);
        let long = question(&"x".repeat(200));
        assert_eq!(&long[..8], [0, 0, 0, 0, 203, 10, 0xc8, 0x01]);
    }

    /// A server that says of `db` that it serves, and of nothing else.
    async fn serve() -> (SocketAddr, JoinSet<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = hyper::service::service_fn(|request: Request<_>| async {
                    assert_eq!(request.uri().path(), PATH);
                    let asked = hyper::body::Incoming::collect(request.into_body()).await.unwrap();
                    let serves = asked.to_bytes() == question("db");
                    let message = if serves { &[0, 0, 0, 0, 2, 8, 1][..] } else { &[] };
                    let mut trailers = HeaderMap::new();
                    let status = if serves { "0" } else { "5" };
                    trailers.insert("grpc-status", status.parse().unwrap());
                    let body = Full::new(Bytes::copy_from_slice(message));
                    let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
                    Ok::<_, std::convert::Infallible>(http::Response::new(body))
                });
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                http.serve_connection(TokioIo::new(stream), answer).await.ok();
            }
        });
        (address, server)
    }

    #[tokio::test]
    async fn a_server_is_asked() {
        let (address, _server) = serve().await;
        assert_eq!(ask(address, "db").await, Answer::Passed);
        let none = ask(address, "").await;
        let why = "error: health rpc probe failed: rpc error: code = 5 desc = ";
        assert_eq!(none, Answer::Failed(why.to_owned()));
    }
}
