//! Kinds that definitions add are there for whoever can know of them.

use super::support::{Api, config, eventually, store};
use futures_util::future::BoxFuture;
use kinglet::api::Revision;
use kinglet::storage::{
    Commit, CommitError, Key, ListRequest, Lookup, Page, ReadError, Sqlite, Store, Watch,
    WatchError, WatchRequest,
};
use serde_json::json;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const KITES: &str = "/apis/example.com/v1/kites";

/// A store that tells nobody that it has committed while its gate is shut.
#[derive(Debug)]
struct Silent {
    store: Arc<Sqlite>,
    gate: tokio::sync::RwLock<()>,
}

impl Store for Silent {
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
            let is_definition =
                commit.ops.iter().any(|op| op.key().as_str().contains("customresourcedefinitions"));
            let outcome = self.store.commit(commit).await;
            if is_definition {
                let _open = self.gate.read().await;
            }
            outcome
        })
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Box<dyn Watch>, WatchError>> {
        // Nothing is heard of definitions: what is known of them is known by their writers.
        if request.prefix.contains("customresourcedefinitions") {
            return Box::pin(std::future::pending());
        }
        self.store.watch(request)
    }

    fn compact(&self, through: Revision) -> BoxFuture<'_, Result<(), CommitError>> {
        self.store.compact(through)
    }
}

#[expect(clippy::disallowed_methods, reason = "whoever writes here ends with the test")]
#[tokio::test]
async fn who_has_read_that_a_kind_is_established_can_ask_for_it() {
    let sqlite = store();
    let gate = tokio::sync::RwLock::default();
    let silent = Arc::new(Silent { store: Arc::clone(&sqlite), gate });
    let shared: Arc<dyn Store> = Arc::<Silent>::clone(&silent);
    let api = Arc::new(Api::over(shared, sqlite, config()).await);
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let definition = json!({
        "metadata": {"name": "kites.example.com"},
        "spec": {
            "group": "example.com", "scope": "Cluster",
            "names": {"plural": "kites", "kind": "Kite"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    });
    let mut stored = api.post(DEFINITIONS, &definition).await.ok();
    assert_eq!(api.get(KITES).await.code, 404);

    stored["status"] = json!({
        "acceptedNames": stored["spec"]["names"],
        "storedVersions": ["v1"],
        "conditions": [
            {"type": "NamesAccepted", "status": "True", "reason": "r", "message": "m"},
            {"type": "Established", "status": "True", "reason": "r", "message": "m"},
        ],
    });
    let path = format!("{DEFINITIONS}/kites.example.com");
    let shut = silent.gate.write().await;
    let writer = tokio::spawn({
        let (api, path) = (Arc::clone(&api), format!("{path}/status"));
        async move { api.put(&path, &stored).await }
    });
    eventually("the definition says so", async || {
        let conditions = api.get(&path).await.json()["status"]["conditions"].clone();
        (conditions[1]["status"] == "True").then_some(())
    })
    .await;
    assert!(!writer.is_finished());
    api.post(KITES, &json!({"metadata": {"name": "a"}})).await.ok();
    drop(shut);
    writer.await.unwrap().ok();

    let shut = silent.gate.write().await;
    let writer = tokio::spawn({
        let (api, path) = (Arc::clone(&api), path.clone());
        async move { api.delete(&path).await }
    });
    eventually("the definition is gone or goes", async || {
        let seen = api.get(&path).await;
        (seen.code == 404 || seen.json()["metadata"]["deletionTimestamp"].is_string()).then_some(())
    })
    .await;
    // Its objects go first: it is served until then, and takes no more.
    assert_eq!(api.post(KITES, &json!({"metadata": {"name": "b"}})).await.code, 405);
    drop(shut);
    writer.await.unwrap().ok();
}
