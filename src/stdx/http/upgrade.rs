//! Connections that stop being HTTP: `101 Switching Protocols`, and what is said after it.
//!
//! Whoever answers 101 puts into the answer what becomes of the connection, an [`Upgrade`]. Whoever
//! holds the connection's other end runs it there, on a task of its own, and drops it to break it
//! off: nothing is left running that nobody owns. Who stands between the two only hands the answer
//! on, so that a kubelet in this process costs no copy of what is said.

use super::{Response, full};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http::{StatusCode, Version};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// What a connection is when it is no longer HTTP.
pub type ByteStream = Box<dyn Duplex>;

type Conversation = Box<dyn FnOnce(ByteStream) -> BoxFuture<'static, ()> + Send>;

/// What becomes of a connection after the answer 101. It can be run once.
#[derive(Clone)]
pub struct Upgrade(Arc<Mutex<Option<Conversation>>>);

impl fmt::Debug for Upgrade {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Upgrade")
    }
}

impl Upgrade {
    /// The answer 101 to a request for `protocol`, after which `talk` has the connection until it
    /// returns, or is dropped because the connection is to end.
    #[must_use]
    pub fn answer<T, F>(protocol: HeaderValue, talk: T) -> Response
    where
        T: FnOnce(ByteStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let talk: Conversation = Box::new(move |stream| Box::pin(talk(stream)));
        let mut response = Response::new(full(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, protocol);
        response.extensions_mut().insert(Self(Arc::new(Mutex::new(Some(talk)))));
        response
    }

    /// What becomes of the connection that this answer goes out on; `None` where it stays HTTP.
    pub fn take(response: &mut Response) -> Option<Self> {
        response.extensions_mut().remove()
    }

    /// Has the conversation. Returns when it is over.
    pub async fn run(self, stream: ByteStream) {
        let talk = self.0.lock().expect("no panics under this lock").take();
        if let Some(talk) = talk {
            talk(stream).await;
        }
    }
}

/// The protocol that a request asks for in place of HTTP.
#[must_use]
pub fn wanted_protocol(headers: &HeaderMap) -> Option<&str> {
    let names = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or_default();
        text.split(',').any(|option| option.trim().eq_ignore_ascii_case("upgrade"))
    };
    let is_asked = headers.get_all(CONNECTION).iter().any(names);
    headers.get(UPGRADE).filter(|_| is_asked)?.to_str().ok()
}

/// Hands a connection that a remote server has upgraded on to whoever asked: the answer to
/// `response`, which has been received over hyper's HTTP/1.
#[must_use]
pub fn relay<B>(mut response: http::Response<B>) -> Response {
    let upgraded = hyper::upgrade::on(&mut response);
    let (head, _empty) = response.into_parts();
    let protocol = head.headers.get(UPGRADE).cloned();
    let protocol = protocol.unwrap_or_else(|| HeaderValue::from_static(""));
    let mut answer = Upgrade::answer(protocol, |mut near| async move {
        let Ok(far) = upgraded.await else {
            // The server went away right after its answer: there is nothing to say to anybody.
            return;
        };
        let mut far = hyper_util::rt::TokioIo::new(far);
        let copied: io::Result<_> = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        // Both ends see for themselves that it broke.
        drop(copied);
    });
    *answer.headers_mut() = head.headers;
    *answer.version_mut() = Version::HTTP_11;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn check(lines: &[(&'static str, &'static str)], expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        assert_eq!(wanted_protocol(&headers), expected, "{lines:?}");
    }

    #[test]
    fn an_upgrade_takes_both_headers() {
        check(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")], Some("SPDY/3.1"));
        check(
            &[("connection", "keep-alive, upgrade"), ("upgrade", "websocket")],
            Some("websocket"),
        );
        check(&[("connection", "close"), ("connection", "upgrade"), ("upgrade", "x")], Some("x"));
        check(&[("connection", "keep-alive"), ("upgrade", "websocket")], None);
        check(&[("connection", "upgrade")], None);
    }

    #[tokio::test]
    async fn what_the_answer_carries_has_the_connection_once() {
        let mut answer = Upgrade::answer(HeaderValue::from_static("echo"), |stream| async {
            let (mut from, mut to) = tokio::io::split(stream);
            tokio::io::copy(&mut from, &mut to).await.unwrap();
        });
        assert_eq!(answer.status(), 101);
        let upgrade = Upgrade::take(&mut answer).unwrap();
        let again = upgrade.clone();
        let (mut near, far) = tokio::io::duplex(16);
        let talk = upgrade.run(Box::new(far));
        let ask = async {
            near.write_all(b"hello").await.unwrap();
            near.shutdown().await.unwrap();
            let mut said = String::new();
            near.read_to_string(&mut said).await.unwrap();
            said
        };
        let ((), said) = tokio::join!(talk, ask);
        assert_eq!(said, "hello");
        again.run(Box::new(tokio::io::empty())).await;
    }
}
