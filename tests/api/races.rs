//! What happens when something else happens between a decision and the write that rests on it.

use super::support::{FakeNodes, config, store};
use futures_util::future::BoxFuture;
use http::Method;
use kinglet::api::Revision;
use kinglet::apiserver::{Identity, Server};
use kinglet::stdx::http::{HttpService, Request, read_whole};
use kinglet::storage::{
    Commit, CommitError, ListRequest, Lookup, Page, ReadError, Sqlite, Store, Watch, WatchError,
    WatchRequest,
};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};
use tokio_util::sync::CancellationToken;

/// A store in which other requests are served right before a commit.
#[derive(Debug)]
struct Interrupted {
    store: Arc<Sqlite>,
    admin: OnceLock<Arc<dyn HttpService>>,
    /// What comes before the next commit, and before those that follow from it.
    before: Mutex<VecDeque<Request>>,
}

impl Store for Interrupted {
    fn ended(&self) -> CancellationToken {
        self.store.ended()
    }

    fn revision(&self) -> Revision {
        self.store.revision()
    }

    fn get(&self, key: &kinglet::storage::Key) -> BoxFuture<'_, Result<Lookup, ReadError>> {
        self.store.get(key)
    }

    fn list(&self, request: ListRequest) -> BoxFuture<'_, Result<Page, ReadError>> {
        self.store.list(request)
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(async move {
            let before = std::mem::take(&mut *self.before.lock().unwrap());
            for request in before {
                let response = self.admin.get().unwrap().call(request).await.unwrap();
                assert!(response.status().is_success(), "{}", response.status());
            }
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

struct Fixture {
    store: Arc<Interrupted>,
    admin: Arc<dyn HttpService>,
}

fn request(method: Method, path: &str, body: &Value) -> Request {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http::Request::builder().method(method).uri(path).body(body.into()).unwrap()
}

impl Fixture {
    async fn start() -> Self {
        let store = Arc::new(Interrupted {
            store: store(),
            admin: OnceLock::new(),
            before: Mutex::default(),
        });
        let shared: Arc<dyn Store> = Arc::<Interrupted>::clone(&store);
        let server = Server::new(config(), shared, Arc::new(FakeNodes::default()));
        server.bootstrap().await.unwrap();
        let admin = server.local(Identity::new("admin", &["system:masters"]));
        store.admin.set(Arc::clone(&admin)).unwrap();
        Self { store, admin }
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let response = self.admin.call(request(method, path, body)).await.unwrap();
        let code = response.status().as_u16();
        let body = read_whole(response.into_body(), 1 << 20).await.unwrap();
        (code, serde_json::from_slice(&body).unwrap())
    }

    /// Creates something in a namespace to which `meanwhile` happens after it was looked at.
    async fn create_while(&self, meanwhile: Vec<Request>) -> (u16, Value) {
        let namespace = json!({"metadata": {"name": "x"}});
        self.send(Method::POST, "/api/v1/namespaces", &namespace).await;
        self.store.before.lock().unwrap().extend(meanwhile);
        let map = json!({"metadata": {"name": "a"}});
        self.send(Method::POST, "/api/v1/namespaces/x/configmaps", &map).await
    }

    async fn count(&self) -> usize {
        let path = "/api/v1/namespaces/x/configmaps";
        let (_, list) = self.send(Method::GET, path, &Value::Null).await;
        list["items"].as_array().unwrap().len()
    }
}

#[tokio::test]
async fn nothing_is_created_in_a_namespace_that_begins_to_go_meanwhile() {
    let fixture = Fixture::start().await;
    let delete = request(Method::DELETE, "/api/v1/namespaces/x", &Value::Null);
    let (code, status) = fixture.create_while(vec![delete]).await;
    assert_eq!(code, 403);
    assert_eq!(status["details"]["causes"][0]["reason"], "NamespaceTerminating");
    assert_eq!(fixture.count().await, 0);
}

#[tokio::test]
async fn nothing_is_created_in_a_namespace_that_is_gone_meanwhile() {
    let fixture = Fixture::start().await;
    let delete = request(Method::DELETE, "/api/v1/namespaces/x", &Value::Null);
    let finalize = request(
        Method::PUT,
        "/api/v1/namespaces/x/finalize",
        &json!({"metadata": {"name": "x"}, "spec": {"finalizers": []}}),
    );
    let (code, status) = fixture.create_while(vec![delete, finalize]).await;
    assert_eq!((code, &status["reason"]), (404, &json!("NotFound")));
    assert_eq!(fixture.count().await, 0);
}

#[tokio::test]
async fn an_object_is_created_in_a_namespace_that_merely_changes_meanwhile() {
    let fixture = Fixture::start().await;
    let labelled = json!({"metadata": {"name": "x", "labels": {"a": "b"}}});
    let update = request(Method::PUT, "/api/v1/namespaces/x", &labelled);
    let (code, _) = fixture.create_while(vec![update]).await;
    assert_eq!(code, 201);
    assert_eq!(fixture.count().await, 1);
}
