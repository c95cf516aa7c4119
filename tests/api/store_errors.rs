//! What clients hear when the store cannot do what they ask.

use super::support::{Answer, FakeNodes, config, store};
use futures_util::future::BoxFuture;
use http::Method;
use kinglet::api::Revision;
use kinglet::apiserver::{Identity, Server};
use kinglet::stdx::http::{HttpService, read_whole};
use kinglet::storage::{
    Commit, CommitError, Key, ListRequest, Lookup, Page, ReadError, Sqlite, Store, Watch,
    WatchError, WatchRequest,
};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

/// A store whose disk is full when it is told to be.
#[derive(Debug)]
struct Filling {
    store: Arc<Sqlite>,
    is_full: AtomicBool,
    commits: Mutex<Vec<Commit>>,
}

impl Store for Filling {
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
        if self.is_full.load(Ordering::SeqCst) {
            return Box::pin(async { Err(CommitError::Full) });
        }
        self.commits.lock().unwrap().push(commit.clone());
        self.store.commit(commit)
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Box<dyn Watch>, WatchError>> {
        self.store.watch(request)
    }

    fn compact(&self, through: Revision) -> BoxFuture<'_, Result<(), CommitError>> {
        self.store.compact(through)
    }
}

struct Fixture {
    filling: Arc<Filling>,
    admin: Arc<dyn HttpService>,
}

impl Fixture {
    async fn start() -> Self {
        let filling = Arc::new(Filling {
            store: store(),
            is_full: AtomicBool::new(false),
            commits: Mutex::default(),
        });
        let shared: Arc<dyn Store> = Arc::<Filling>::clone(&filling);
        let server = Server::new(config(), shared, Arc::new(FakeNodes::default()));
        server.bootstrap().await.unwrap();
        let admin = server.local(Identity::new("admin", &["system:masters"]));
        Self { filling, admin }
    }

    async fn send(&self, method: Method, path: &str, body: String) -> Answer {
        let request = http::Request::builder().method(method).uri(path).body(body.into()).unwrap();
        let (head, body) = self.admin.call(request).await.unwrap().into_parts();
        let body = read_whole(body, 1024 * 1024).await.unwrap();
        Answer { code: head.status.as_u16(), headers: head.headers, body }
    }
}

#[tokio::test]
async fn on_a_full_disk_writes_are_refused_and_reads_go_on() {
    let fixture = Fixture::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = json!({"metadata": {"name": "a"}}).to_string();
    assert_eq!(fixture.send(Method::POST, maps, map.clone()).await.code, 201);
    fixture.filling.is_full.store(true, Ordering::SeqCst);
    let changed = json!({"metadata": {"name": "a"}, "data": {"k": "v"}}).to_string();
    for (method, path, body) in [
        (Method::POST, maps.to_owned(), json!({"metadata": {"name": "b"}}).to_string()),
        (Method::PUT, format!("{maps}/a"), changed),
        (Method::DELETE, format!("{maps}/a"), String::new()),
    ] {
        let (code, reason, message) = fixture.send(method, &path, body).await.refused();
        assert_eq!((code, reason.as_str()), (507, "InternalError"), "{path}");
        assert!(message.contains("StorageFull") && message.contains("free space"), "{message}");
    }
    assert_eq!(fixture.send(Method::GET, &format!("{maps}/a"), String::new()).await.code, 200);
    fixture.filling.is_full.store(false, Ordering::SeqCst);
    let again = json!({"metadata": {"name": "b"}}).to_string();
    assert_eq!(fixture.send(Method::POST, maps, again).await.code, 201);
}

#[tokio::test]
async fn heartbeats_wait_for_the_next_write_and_nothing_else_does() {
    use kinglet::storage::Durability::{Coalesced, Durable};
    let fixture = Fixture::start().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let spec = |holder: &str, time: &str| json!({"holderIdentity": holder, "leaseDurationSeconds": 40, "renewTime": time});
    let lease = json!({
        "metadata": {"name": "n1"}, "spec": spec("n1", "2026-01-01T00:00:00.000000Z"),
    });
    let mut lease = fixture.send(Method::POST, leases, lease.to_string()).await.ok();
    for (holder, time, expected) in [
        ("n1", "2026-01-01T00:00:10.000000Z", Coalesced),
        ("n2", "2026-01-01T00:00:20.000000Z", Durable),
    ] {
        lease["spec"] = spec(holder, time);
        let path = format!("{leases}/n1");
        lease = fixture.send(Method::PUT, &path, lease.to_string()).await.ok();
        let last = fixture.filling.commits.lock().unwrap().last().cloned().unwrap();
        assert_eq!(last.durability, expected, "{holder} {time}");
    }
}
