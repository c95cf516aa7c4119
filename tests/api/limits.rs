//! What happens to requests that are one too many.

use super::support::{DEADLINE, eventually};
use super::tls::{drive, serve};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::convert::Infallible;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// As many writes as may be under way.
const WRITES: usize = 200;

type Body = UnsyncBoxBody<Bytes, Infallible>;

struct Connection {
    sender: SendRequest<Body>,
    origin: String,
}

impl Connection {
    fn request(&self, method: Method, path: &str, body: Body) -> Request<Body> {
        let uri = format!("{}{path}", self.origin);
        Request::builder().method(method).uri(uri).body(body).unwrap()
    }

    async fn send(&mut self, method: Method, path: &str, body: &str) -> Response<Incoming> {
        let body = Full::new(Bytes::from(body.to_owned())).boxed_unsync();
        let answer = self.sender.send_request(self.request(method, path, body));
        tokio::time::timeout(DEADLINE, answer).await.expect("an answer in time").unwrap()
    }
}

#[tokio::test]
async fn writes_beyond_the_limit_are_told_to_come_again() {
    let served = serve().await;
    let stream = TokioIo::new(served.connect(Some(&served.admin()), "h2").await);
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    drive(connection);
    let mut connection = Connection { sender, origin: format!("https://{}", served.address) };
    // Writes whose bodies do not come.
    let mut held = Vec::new();
    for _ in 0..WRITES {
        let body =
            StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let request = connection.request(Method::POST, CONFIG_MAPS, body.boxed_unsync());
        held.push(connection.sender.send_request(request).boxed());
    }
    let mut waiting = futures_util::future::join_all(held).boxed();
    let dry = format!("{CONFIG_MAPS}?dryRun=All");
    let map = json!({"metadata": {"name": "a"}}).to_string();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let refused = loop {
        assert!(tokio::time::Instant::now() < deadline, "nothing was refused");
        assert!(waiting.as_mut().now_or_never().is_none());
        let answer = connection.send(Method::POST, &dry, &map).await;
        if answer.status() == 429 {
            break answer;
        }
        assert_eq!(answer.status(), 201);
    };
    assert_eq!(refused.headers()["retry-after"], "1");
    let status = refused.into_body().collect().await.unwrap().to_bytes();
    let status: Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(
        (&status["kind"], &status["reason"], &status["code"]),
        (&json!("Status"), &json!("TooManyRequests"), &json!(429))
    );
    assert_eq!(status["details"]["retryAfterSeconds"], 1);

    // Reads and watches go on.
    assert_eq!(connection.send(Method::GET, CONFIG_MAPS, "").await.status(), 200);
    let watch = connection.send(Method::GET, &format!("{CONFIG_MAPS}?watch=true"), "").await;
    assert_eq!(watch.status(), 200);

    // And writes, once there is room.
    drop(waiting);
    let connection = tokio::sync::Mutex::new(connection);
    eventually("there is room again", async || {
        let answer = connection.lock().await.send(Method::POST, &dry, &map).await;
        (answer.status() == 201).then_some(())
    })
    .await;
}
