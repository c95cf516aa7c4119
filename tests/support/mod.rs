//! What the in-process suites share: an API server on a store in memory, and waiting.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "every suite uses its own part of this")]

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use kinglet::apiserver::{Config, Identity, NodeService, Server, TokenSettings};
use kinglet::pki::TokenKey;
use kinglet::stdx::http::{Body, ByteStream, HttpService, Request, Response, full, read_whole};
use kinglet::stdx::{Clock, Entropy};
use kinglet::storage::sqlite::{Config as SqliteConfig, History};
use kinglet::storage::{Sqlite, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Nothing here should ever take longer, also on a machine that has much else to do.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The last a test accepts as an answer.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// An API server whose first objects are there.
pub(crate) struct Api {
    pub(crate) server: Arc<Server>,
    pub(crate) store: Arc<Sqlite>,
    pub(crate) nodes: Arc<FakeNodes>,
    admin: Arc<dyn HttpService>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The body of an answer that says yes.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!((200..300).contains(&self.code), "{} {}", self.code, self.text());
        self.json()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Code, reason and message of a `Status`.
    #[track_caller]
    pub(crate) fn refused(self) -> (u16, String, String) {
        assert!(self.code >= 400, "{} {}", self.code, self.text());
        let status = self.json();
        let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
        assert_eq!(status["kind"], "Status");
        assert_eq!(status["code"], self.code);
        (self.code, text("reason"), text("message"))
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        let values = self.headers.get_all("warning").iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect()
    }
}

/// Kubelets that answer with what they were asked.
#[derive(Debug, Default)]
pub(crate) struct FakeNodes {
    pub(crate) asked: Mutex<Vec<String>>,
    /// Where pods behind nodes really listen.
    pub(crate) pods: Mutex<BTreeMap<SocketAddr, SocketAddr>>,
}

impl NodeService for FakeNodes {
    fn call(&self, node: &str, request: Request) -> BoxFuture<'static, io::Result<Response>> {
        let asked = format!("{node} {} {}", request.method(), request.uri());
        self.asked.lock().unwrap().push(asked.clone());
        Box::pin(async move { Ok(Response::new(full(asked))) })
    }

    fn connect(
        &self,
        _node: &str,
        pod: SocketAddr,
    ) -> Option<BoxFuture<'static, io::Result<ByteStream>>> {
        let real = self.pods.lock().unwrap().get(&pod).copied()?;
        Some(Box::pin(async move {
            let stream: ByteStream = Box::new(tokio::net::TcpStream::connect(real).await?);
            Ok(stream)
        }))
    }
}

pub(crate) fn store() -> Arc<Sqlite> {
    let config = SqliteConfig { path: None, history: History::DEFAULT };
    Arc::new(Sqlite::open(config).unwrap())
}

pub(crate) fn config() -> Config {
    Config {
        clock: Clock::system(),
        entropy: Entropy::system(),
        advertise_address: [192, 0, 2, 1].into(),
        https_port: 6443,
        service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
        node_ports: 30_000..=32_767,
        components: vec!["controller-manager", "scheduler"],
        event_ttl: Config::EVENT_TTL,
        tokens: TokenSettings::of_cluster("cluster.local"),
        connections_max: 100,
    }
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::on(store(), config()).await
    }

    pub(crate) async fn on(store: Arc<Sqlite>, config: Config) -> Self {
        Self::over(Arc::<Sqlite>::clone(&store), store, config).await
    }

    /// A server that sees `store` through something else.
    pub(crate) async fn over(shared: Arc<dyn Store>, store: Arc<Sqlite>, config: Config) -> Self {
        let api = Self::unstarted(shared, store, config);
        api.server.bootstrap().await.unwrap();
        // A controller's work, which pods wait for.
        api.give_account("default").await;
        api
    }

    /// A server that has not begun.
    pub(crate) fn unstarted(shared: Arc<dyn Store>, store: Arc<Sqlite>, config: Config) -> Self {
        let nodes = Arc::new(FakeNodes::default());
        let server = Server::new(config, shared, Arc::<FakeNodes>::clone(&nodes));
        server.use_token_keys(&[TokenKey::ephemeral().unwrap()]).unwrap();
        let admin = server.local(Identity::new("admin", &["system:masters"]));
        Self { server, store, nodes, admin }
    }

    /// Gives a namespace the account as which its pods run.
    pub(crate) async fn give_account(&self, namespace: &str) {
        self.give(namespace, "serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    }

    /// Gives a namespace the authority that its pods trust, without which none of them starts.
    pub(crate) async fn give_authority(&self, namespace: &str) {
        let authority =
            json!({"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "the authority"}});
        self.give(namespace, "configmaps", authority).await;
    }

    async fn give(&self, namespace: &str, plural: &str, object: Value) {
        let answer = self.post(&format!("/api/v1/namespaces/{namespace}/{plural}"), &object).await;
        // Where the store is not new, it may be there.
        assert!(matches!(answer.code, 201 | 409), "{}", answer.text());
    }

    /// The same server for somebody else.
    pub(crate) fn as_user(&self, identity: Identity) -> Self {
        Self {
            server: Arc::clone(&self.server),
            store: Arc::clone(&self.store),
            nodes: Arc::clone(&self.nodes),
            admin: self.server.local(identity),
        }
    }

    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(http::HeaderName, &str)],
        body: impl Into<Bytes>,
    ) -> Response {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(body.into()).unwrap();
        tokio::time::timeout(DEADLINE, self.admin.call(request)).await.expect("in time").unwrap()
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(http::HeaderName, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let (head, body) = self.open(method, path, headers, body).await.into_parts();
        let body = tokio::time::timeout(DEADLINE, read_whole(body, ANSWER_BYTES_MAX));
        let body = body.await.expect("in time").unwrap();
        Answer { code: head.status.as_u16(), headers: head.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.send(Method::GET, path, &[(ACCEPT, accept)], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, &[], body.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, &[], body.to_string()).await
    }

    /// `kind` is `json`, `merge` or `strategic-merge`.
    pub(crate) async fn patch(&self, path: &str, kind: &str, body: &Value) -> Answer {
        let media_type = format!("application/{kind}-patch+json");
        self.send(Method::PATCH, path, &[(CONTENT_TYPE, &media_type)], body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], "").await
    }

    pub(crate) async fn delete_with(&self, path: &str, options: &Value) -> Answer {
        self.send(Method::DELETE, path, &[], options.to_string()).await
    }

    pub(crate) async fn watch(&self, path: &str) -> Lines {
        self.watch_as(path, "application/json").await
    }

    pub(crate) async fn watch_as(&self, path: &str, accept: &str) -> Lines {
        let response = self.open(Method::GET, path, &[(ACCEPT, accept)], "").await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        Lines { body: response.into_body(), read: Vec::new() }
    }
}

/// The lines of a watch.
pub(crate) struct Lines {
    body: Body,
    read: Vec<u8>,
}

impl Lines {
    /// The next event; `None` at the end of the watch.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        self.next_within(DEADLINE).await
    }

    pub(crate) async fn next_within(&mut self, time: Duration) -> Option<Value> {
        tokio::time::timeout(time, self.read_line()).await.expect("an event in time")
    }

    async fn read_line(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.frame().await?.unwrap();
            self.read.extend_from_slice(frame.data_ref().unwrap());
        }
    }

    /// The next event in short: `ADDED a`.
    pub(crate) async fn short(&mut self) -> String {
        let event = self.next().await.expect("one more event");
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        format!("{} {name}", event["type"].as_str().unwrap()).trim_end().to_owned()
    }
}

/// Waits until `look` finds something.
pub(crate) async fn eventually<T, F>(what: &str, mut look: F) -> T
where
    F: AsyncFnMut() -> Option<T>,
{
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
