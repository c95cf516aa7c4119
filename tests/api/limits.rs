//! What happens to requests that are one too many.

use super::support::{Api, DEADLINE, config, eventually, store};
use super::tls::{Served, drive, serve_api};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kinglet::api::Revision;
use kinglet::pki::Leaf;
use kinglet::storage::{
    Commit, CommitError, Key, ListRequest, Lookup, Page, ReadError, Sqlite, Store, Watch,
    WatchError, WatchRequest,
};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_util::sync::CancellationToken;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// As many requests of Alice's as are executed at once: of 600 seats, as many as 5 shares of 250.
const WRITES: usize = 12;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A store that commits nothing while its gate is shut.
#[derive(Debug)]
struct Stalled {
    store: Arc<Sqlite>,
    gate: tokio::sync::RwLock<()>,
    /// How many commits wait.
    waiting: AtomicUsize,
}

impl Store for Stalled {
    fn ended(&self) -> CancellationToken {
        self.store.ended()
    }

    fn revision(&self) -> Revision {
        self.store.revision()
    }

    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Lookup, ReadError>> {
        self.store.get(key)
    }

    fn list(&self, request: ListRequest) -> BoxFuture<'_, Result<Page, ReadError>> {
        self.store.list(request)
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(async move {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let _open = self.gate.read().await;
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.store.commit(commit).await
        })
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Box<dyn Watch>, WatchError>> {
        self.store.watch(request)
    }

    fn compact(&self, through: Revision) -> BoxFuture<'_, Result<(), CommitError>> {
        self.store.compact(through)
    }
}

pub(super) struct Connection {
    sender: SendRequest<Body>,
    origin: String,
}

impl Connection {
    pub(super) async fn open(served: &Served, client: &Leaf) -> Self {
        let stream = TokioIo::new(served.connect(Some(client), "h2").await);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        drive(connection);
        Self { sender, origin: format!("https://{}", served.address) }
    }

    fn request(&self, method: Method, path: &str, body: Body) -> Request<Body> {
        let uri = format!("{}{path}", self.origin);
        Request::builder().method(method).uri(uri).body(body).unwrap()
    }

    pub(super) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: &str,
    ) -> Response<Incoming> {
        let body = Full::new(Bytes::from(body.to_owned())).boxed_unsync();
        let answer = self.sender.send_request(self.request(method, path, body));
        tokio::time::timeout(DEADLINE, answer).await.expect("an answer in time").unwrap()
    }
}

/// Gives Alice a priority level of her own, and waits until it is.
pub(super) async fn limit(served: &Served, connection: &mut Connection, limited: Value) {
    let group = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let level = json!({"metadata": {"name": "alice"}, "spec": {
        "type": "Limited", "limited": limited,
    }});
    let levels = format!("{group}/prioritylevelconfigurations");
    served.api.post(&levels, &level).await.ok();
    let schema = json!({"metadata": {"name": "alice"}, "spec": {
        "priorityLevelConfiguration": {"name": "alice"}, "matchingPrecedence": 2,
        "rules": [{
            "subjects": [{"kind": "User", "user": {"name": "alice"}}],
            "resourceRules": [{
                "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"],
                "clusterScope": true,
            }],
        }],
    }});
    let made = served.api.post(&format!("{group}/flowschemas"), &schema).await.ok();
    let uid = made["metadata"]["uid"].as_str().unwrap();
    let connection = tokio::sync::Mutex::new(connection);
    eventually("the level is known", async || {
        let answer = connection.lock().await.send(Method::GET, CONFIG_MAPS, "").await;
        let told = answer.headers().get("x-kubernetes-pf-flowschema-uid")?;
        (answer.status() == 200 && told.as_bytes() == uid.as_bytes()).then_some(())
    })
    .await;
}

/// A server over a store that can be made to commit nothing.
async fn serve_stalled() -> (Arc<Stalled>, Served) {
    let sqlite = store();
    let (gate, waiting) = (tokio::sync::RwLock::default(), AtomicUsize::default());
    let stalled = Arc::new(Stalled { store: Arc::clone(&sqlite), gate, waiting });
    let shared: Arc<dyn Store> = Arc::<Stalled>::clone(&stalled);
    let served = serve_api(Api::over(shared, sqlite, config()).await).await;
    (stalled, served)
}

fn large_map(name: &str, bytes: usize) -> String {
    json!({"metadata": {"name": name}, "data": {"a": "x".repeat(bytes)}}).to_string()
}

#[tokio::test]
async fn large_bodies_take_turns_and_small_ones_do_not_wait_for_them() {
    let (stalled, served) = serve_stalled().await;
    let mut connections = Vec::new();
    for user in ["alice", "bob", "carol"] {
        let user = served.colleague(user).await;
        connections.push(Connection::open(&served, &user).await);
    }
    connections.push(Connection::open(&served, &served.admin()).await);
    let gate = stalled.gate.write().await;
    let mut all = FuturesUnordered::new();
    let mut judged = 0;
    // Whose bodies, how large, how many of them, and how many of those are judged at once.
    for (user, bytes, sent, together) in [
        (0, 1_000_000, 4, 3),
        (1, 1_000_000, 3, 3),
        // There is no room left; for small ones there is, and for administrators.
        (2, 1_000_000, 1, 0),
        (2, 10_000, 3, 3),
        (3, 1_000_000, 4, 3),
    ] {
        for index in 0..sent {
            let map = large_map(&format!("m-{user}-{bytes}-{index}"), bytes);
            let body = Full::new(Bytes::from(map)).boxed_unsync();
            let connection: &mut Connection = &mut connections[user];
            let request = connection.request(Method::POST, CONFIG_MAPS, body);
            all.push(connection.sender.send_request(request));
        }
        judged += together;
        eventually(&format!("{judged} are judged, with those of {user}"), async || {
            assert!(all.next().now_or_never().is_none(), "nothing is stored");
            (stalled.waiting.load(Ordering::Relaxed) == judged).then_some(())
        })
        .await;
    }
    drop(gate);
    while let Some(answer) = tokio::time::timeout(DEADLINE, all.next()).await.expect("in time") {
        assert_eq!(answer.unwrap().status(), 201);
    }
}

#[tokio::test]
async fn large_bodies_beyond_the_limit_are_told_to_come_again() {
    let (stalled, served) = serve_stalled().await;
    let (alice, bob) = (served.colleague("alice").await, served.colleague("bob").await);
    let mut alice = Connection::open(&served, &alice).await;
    let mut bob = Connection::open(&served, &bob).await;
    let gate = stalled.gate.write().await;
    let mut all = FuturesUnordered::new();
    // A user's bodies have 24 MiB.
    for index in 0..30 {
        let map = large_map(&format!("m-{index}"), 1_000_000);
        let body = Full::new(Bytes::from(map)).boxed_unsync();
        let request = alice.request(Method::POST, CONFIG_MAPS, body);
        all.push(alice.sender.send_request(request));
    }
    let refused = tokio::time::timeout(DEADLINE, all.next()).await.expect("an answer in time");
    let refused = refused.unwrap().unwrap();
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["retry-after"]),
        (429, &"1".parse().unwrap())
    );
    // Small ones are not counted, and others have room of their own.
    let dry = format!("{CONFIG_MAPS}?dryRun=All");
    assert_eq!(alice.send(Method::POST, &dry, &large_map("a", 1_000)).await.status(), 201);
    assert_eq!(bob.send(Method::POST, &dry, &large_map("a", 1_000_000)).await.status(), 201);
    drop(gate);
    let mut stored = 0;
    while let Some(answer) = tokio::time::timeout(DEADLINE, all.next()).await.expect("in time") {
        let code = answer.unwrap().status().as_u16();
        assert!(matches!(code, 201 | 429), "{code}");
        stored += usize::from(code == 201);
    }
    assert!((1..=25).contains(&stored), "{stored}");
}

#[tokio::test]
async fn writes_beyond_the_limit_are_told_to_come_again() {
    let (stalled, served) = serve_stalled().await;
    let (alice, bob) = (served.colleague("alice").await, served.colleague("bob").await);
    let mut connection = Connection::open(&served, &alice).await;
    let reject = json!({"type": "Reject"});
    limit(
        &served,
        &mut connection,
        json!({
            "nominalConcurrencyShares": 5, "borrowingLimitPercent": 0, "limitResponse": reject,
        }),
    )
    .await;
    // Writes that do not get to the disk, and more whose bodies do not come.
    let gate = stalled.gate.write().await;
    let mut held = Vec::new();
    for index in 0..2 * WRITES {
        let map = json!({"metadata": {"name": format!("held-{index}")}}).to_string();
        let body = if index % 2 == 0 {
            Full::new(Bytes::from(map)).boxed_unsync()
        } else {
            let never = futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>();
            StreamBody::new(never).boxed_unsync()
        };
        let request = connection.request(Method::POST, CONFIG_MAPS, body);
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

    // Reads and watches of others go on.
    let mut other = Connection::open(&served, &bob).await;
    assert_eq!(other.send(Method::GET, CONFIG_MAPS, "").await.status(), 200);
    let watch = other.send(Method::GET, &format!("{CONFIG_MAPS}?watch=true"), "").await;
    assert_eq!(watch.status(), 200);

    // And writes, once there is room.
    drop((gate, waiting));
    let connection = tokio::sync::Mutex::new(connection);
    eventually("there is room again", async || {
        let answer = connection.lock().await.send(Method::POST, &dry, &map).await;
        (answer.status() == 201).then_some(())
    })
    .await;
}
