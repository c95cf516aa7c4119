//! A connection on which the other end is asked: whoever opened it serves, whoever was called asks.
//!
//! A node opens one to each server, so that servers reach kubelets and pods that nobody can call:
//! behind address translation, a firewall, or with an address that changes. It is HTTP/2 with the
//! roles turned round, of which only `CONNECT` is used: each asks for a target and becomes a stream
//! of its own. [`Calls`] is the end that asks, [`serve`] the end that is asked. What targets there
//! are, those who use it know.

use crate::stdx::chain;
use crate::stdx::http::ByteStream;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::debug;

/// Each end asks the other so often whether it is there, and believes it gone when nothing has come
/// back: a broken wire is noticed in a quarter of a minute, and address translation on the way
/// keeps the connection.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Streams at once on one connection; more wait.
const STREAMS_MAX: u32 = 1_000;

/// What may be under way before the reader at the far end has taken it, on one stream, and on all.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// A refusal is told in so many bytes at most.
const REFUSAL_BYTES_MAX: usize = 4 << 10;

/// What is said on a stream once it is open.
pub type Conversation = Box<dyn FnOnce(ByteStream) -> BoxFuture<'static, ()> + Send>;

/// Says what becomes of a stream to a target, or why there is none.
pub type Answer =
    Arc<dyn Fn(String) -> BoxFuture<'static, Result<Conversation, Refusal>> + Send + Sync>;

/// Why a stream is not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: StatusCode,
    pub why: String,
}

/// The end that asks. Cheap to clone.
#[derive(Clone)]
pub struct Calls(SendRequest<Full<Bytes>>);

impl fmt::Debug for Calls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Calls")
    }
}

impl Calls {
    /// Begins to ask over `stream`. The second value carries the connection: it has to be run, and
    /// ends with the connection.
    ///
    /// # Errors
    /// Where the connection breaks at once.
    pub async fn begin(
        stream: ByteStream,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static)> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let (sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let carried = async move {
            if let Err(error) = connection.await {
                debug!(error = chain(&error), "a tunnel broke");
            }
        };
        Ok((Self(sender), carried))
    }

    /// Opens a stream to `target`: `kubelet`, `10.42.1.7:80`.
    ///
    /// # Errors
    /// Where the other end refuses, or the connection has ended.
    pub async fn open(&self, target: &str) -> io::Result<ByteStream> {
        let uri = Uri::builder().authority(target).build().map_err(io::Error::other)?;
        let mut request = Request::new(Full::default());
        (*request.method_mut(), *request.uri_mut()) = (Method::CONNECT, uri);
        let mut sender = self.0.clone();
        sender.ready().await.map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        if response.status() == StatusCode::OK {
            let upgraded = hyper::upgrade::on(response).await.map_err(io::Error::other)?;
            return Ok(Box::new(TokioIo::new(upgraded)));
        }
        let code = response.status();
        let body = http_body_util::Limited::new(response.into_body(), REFUSAL_BYTES_MAX);
        let why = body.collect().await.map(http_body_util::Collected::to_bytes);
        let why = why.unwrap_or_default();
        let why = String::from_utf8_lossy(&why).into_owned();
        Err(io::Error::other(format!("{target}: {code}: {why}")))
    }

    /// Whether nothing can be asked any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// Serves what the other end asks, until the connection ends. When this is dropped, what is said on
/// its streams ends, too.
pub async fn serve(stream: ByteStream, answer: Answer) {
    let (open, mut opened) = mpsc::unbounded_channel();
    let service = service_fn(|request: Request<Incoming>| {
        let (answer, open) = (Arc::clone(&answer), open.clone());
        async move { Ok::<_, Infallible>(admit(request, answer, &open).await) }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(error = chain(&error), "a tunnel broke");
                }
                return;
            }
            // As many as the connection has streams.
            Some(conversation) = opened.recv() => {
                conversations.spawn(conversation);
            }
            Some(_ended) = conversations.join_next() => {}
        }
    }
}

type Opened = mpsc::UnboundedSender<BoxFuture<'static, ()>>;

async fn admit(
    mut request: Request<Incoming>,
    answer: Answer,
    open: &Opened,
) -> Response<Full<Bytes>> {
    if request.method() != Method::CONNECT {
        let why = "a tunnel takes CONNECT alone".to_owned();
        return refuse(Refusal { code: StatusCode::METHOD_NOT_ALLOWED, why });
    }
    let target = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    let stream = hyper::upgrade::on(&mut request);
    match answer(target).await {
        Err(refusal) => refuse(refusal),
        Ok(conversation) => {
            let talk = Box::pin(async move {
                match stream.await {
                    Ok(stream) => conversation(Box::new(TokioIo::new(stream))).await,
                    Err(error) => debug!(error = chain(&error), "a stream was not opened"),
                }
            });
            // Nobody takes it only where the connection has ended, and the stream with it.
            open.send(talk).ok();
            Response::new(Full::default())
        }
    }
}

fn refuse(Refusal { code, why }: Refusal) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(why)));
    *response.status_mut() = code;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Streams to `echo` say what they hear; streams to `full` take nothing.
    fn echoing() -> Answer {
        Arc::new(|target: String| {
            Box::pin(async move {
                let talk: Conversation = match target.as_str() {
                    "echo" => Box::new(|stream: ByteStream| {
                        Box::pin(async move {
                            let (mut from, mut to) = tokio::io::split(stream);
                            tokio::io::copy(&mut from, &mut to).await.ok();
                            to.shutdown().await.ok();
                        })
                    }),
                    "full" => Box::new(|stream: ByteStream| {
                        Box::pin(async move {
                            std::future::pending::<()>().await;
                            drop(stream);
                        })
                    }),
                    _ => {
                        let why = "there is no such target".to_owned();
                        return Err(Refusal { code: StatusCode::FORBIDDEN, why });
                    }
                };
                Ok(talk)
            })
        })
    }

    /// Both ends, on tasks that end with the set.
    async fn tunnel() -> (Calls, JoinSet<()>) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(Box::new(far), echoing()));
        let (calls, carried) = Calls::begin(Box::new(near)).await.unwrap();
        tasks.spawn(carried);
        (calls, tasks)
    }

    async fn echoed(stream: ByteStream, text: &[u8]) -> Vec<u8> {
        let (mut from, mut to) = tokio::io::split(stream);
        let say = async {
            to.write_all(text).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let mut heard = Vec::new();
        let hear = from.read_to_end(&mut heard);
        let ((), read) = tokio::join!(say, hear);
        read.unwrap();
        heard
    }

    #[tokio::test]
    async fn who_was_called_asks() {
        let (calls, _tasks) = tunnel().await;
        let stream = calls.open("echo").await.unwrap();
        assert_eq!(echoed(stream, b"hello").await, b"hello");
        let much = vec![7; 3 << 20];
        let stream = calls.open("echo").await.unwrap();
        assert_eq!(echoed(stream, &much).await.len(), much.len());
        let error = calls.open("elsewhere:80").await.err().unwrap().to_string();
        assert_eq!(error, "elsewhere:80: 403 Forbidden: there is no such target");
    }

    #[tokio::test]
    async fn a_slow_reader_holds_up_nobody_else() {
        let (calls, _tasks) = tunnel().await;
        let mut full = calls.open("full").await.unwrap();
        let stuck = async {
            let piece = vec![0; 1 << 16];
            while full.write_all(&piece).await.is_ok() {}
        };
        let free = async {
            for _ in 0..3 {
                let stream = calls.open("echo").await.unwrap();
                assert_eq!(echoed(stream, &[7; 1 << 20]).await.len(), 1 << 20);
            }
        };
        tokio::select! {
            () = stuck => panic!("nobody reads that"),
            () = free => {}
        }
    }

    #[tokio::test]
    async fn what_is_said_ends_with_the_connection() {
        let (calls, mut tasks) = tunnel().await;
        let mut stream = calls.open("echo").await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        tasks.shutdown().await;
        assert!(calls.is_closed());
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.ok();
        assert!(calls.open("echo").await.is_err());
    }
}
