//! What admission knows it does not read again, and what has changed it knows at once.

use super::support::{Api, config, store};
use futures_util::future::BoxFuture;
use kinglet::api::Revision;
use kinglet::storage::{
    Commit, CommitError, Key, ListRequest, Lookup, Page, ReadError, Sqlite, Store, Watch,
    WatchError, WatchItem, WatchRequest,
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// For everything that was written to be heard of.
const DEADLINE: Duration = Duration::from_secs(60);

/// A store that remembers what was read, and what those who watch have been told.
#[derive(Debug)]
struct Watched {
    store: Arc<Sqlite>,
    reads: Mutex<Vec<String>>,
    told: watch::Sender<Told>,
}

/// By the number of a watch in the order in which they were asked for, the revision through which
/// all is told and done with. `None`: it is not open yet.
type Told = Vec<Option<Revision>>;

/// A watch that says how far it has come. Whoever asks for the next item is done with those before.
#[derive(Debug)]
struct Followed {
    inner: Box<dyn Watch>,
    number: usize,
    progress: bool,
    told: watch::Sender<Told>,
}

impl Followed {
    fn tell(&self) {
        let revision = self.inner.delivered();
        self.told.send_modify(|told| told[self.number] = Some(revision));
    }
}

impl Watch for Followed {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchItem, WatchError>> {
        Box::pin(async move {
            loop {
                self.tell();
                let item = self.inner.next().await?;
                if self.progress || !matches!(item, WatchItem::Progress(_)) {
                    return Ok(item);
                }
            }
        })
    }

    fn delivered(&self) -> Revision {
        self.inner.delivered()
    }

    fn ask_progress(&mut self, through: Revision) {
        self.inner.ask_progress(through);
    }
}

impl Store for Watched {
    fn ended(&self) -> CancellationToken {
        self.store.ended()
    }

    fn revision(&self) -> Revision {
        self.store.revision()
    }

    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Lookup, ReadError>> {
        self.reads.lock().unwrap().push(key.as_str().to_owned());
        self.store.get(key)
    }

    fn list(&self, request: ListRequest) -> BoxFuture<'_, Result<Page, ReadError>> {
        self.reads.lock().unwrap().push(request.prefix.clone());
        self.store.list(request)
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Revision, CommitError>> {
        self.store.commit(commit)
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Box<dyn Watch>, WatchError>> {
        let progress = request.progress;
        let mut number = 0;
        self.told.send_modify(|told| {
            number = told.len();
            told.push(None);
        });
        Box::pin(async move {
            let inner = self.store.watch(WatchRequest { progress: true, ..request }).await?;
            let told = self.told.clone();
            Ok(Box::new(Followed { inner, number, progress, told }) as Box<dyn Watch>)
        })
    }

    fn compact(&self, through: Revision) -> BoxFuture<'_, Result<(), CommitError>> {
        self.store.compact(through)
    }
}

struct Rig {
    api: Api,
    store: Arc<Watched>,
}

impl Rig {
    async fn start() -> Self {
        let own = store();
        let (store, reads, told) = (Arc::clone(&own), Mutex::default(), watch::Sender::default());
        let store = Arc::new(Watched { store, reads, told });
        let shared: Arc<dyn Store> = Arc::<Watched>::clone(&store);
        Self { api: Api::over(shared, own, config()).await, store }
    }

    /// Waits until everybody has heard of everything that was written.
    async fn settled(&self) {
        let now = self.store.revision();
        let mut told = self.store.told.subscribe();
        let all = |told: &Told| told.iter().all(|told| told.is_some_and(|told| told >= now));
        tokio::time::timeout(DEADLINE, told.wait_for(all)).await.expect("all hear of it").unwrap();
    }

    /// What is read while a ConfigMap and a Pod are created.
    async fn reads_of_both(&self, name: &str) -> Vec<String> {
        [self.reads(MAPS, &map(name)).await, self.reads(PODS, &pod(name)).await].concat()
    }

    /// What is read while this is created.
    async fn reads(&self, path: &str, object: &Value) -> Vec<String> {
        self.store.reads.lock().unwrap().clear();
        self.api.post(path, object).await.ok();
        std::mem::take(&mut *self.store.reads.lock().unwrap())
    }
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

fn pod(name: &str) -> Value {
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}});
    json!({"metadata": {"name": name}, "spec": {"containers": [container]}})
}

#[tokio::test]
async fn nothing_is_read_while_nothing_changes() {
    let rig = Rig::start().await;
    // What the server has written itself it hears of once more, and then forgets it for nothing.
    let read = rig.reads_of_both("first").await;
    assert!(!read.is_empty());
    rig.settled().await;
    rig.reads_of_both("second").await;
    assert_eq!(rig.reads_of_both("third").await, Vec::<String>::new());
    // What has changed meanwhile, of the kinds that were asked for, is nothing that this rests on.
    rig.api.post("/api/v1/namespaces", &json!({"metadata": {"name": "other"}})).await.ok();
    assert_eq!(rig.reads_of_both("last").await, Vec::<String>::new());
}

#[tokio::test]
async fn what_has_changed_counts_for_the_next_request() {
    let rig = Rig::start().await;
    let api = &rig.api;
    rig.reads(PODS, &pod("a")).await;
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}},
        "status": {"hard": {"pods": "1"}, "used": {"pods": "1"}}});
    api.post(quotas, &quota).await.ok();
    api.put(&format!("{quotas}/q/status"), &quota).await.ok();
    let (code, _, message) = api.post(PODS, &pod("b")).await.refused();
    assert_eq!(code, 403);
    assert!(message.contains("exceeded quota: q"), "{message}");
    api.delete(&format!("{quotas}/q")).await.ok();
    api.post(PODS, &pod("b")).await.ok();

    let ranges = "/api/v1/namespaces/default/limitranges";
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [
        {"type": "Container", "min": {"cpu": "200m"}}]}});
    api.post(ranges, &range).await.ok();
    assert_eq!(api.post(PODS, &pod("c")).await.code, 403);
    let wider = json!({"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"},
        "max": {"cpu": "1"}}]}});
    api.patch(&format!("{ranges}/r"), "merge", &wider).await.ok();
    let created = api.post(PODS, &pod("c")).await.ok();
    assert_eq!(created["spec"]["containers"][0]["resources"]["limits"]["cpu"], "1");
    // The same when a pod is resized.
    let mut resized = created;
    let resources = json!({"requests": {"cpu": "2"}, "limits": {"cpu": "2"}});
    resized["spec"]["containers"][0]["resources"] = resources;
    let (code, _, message) = api.put(&format!("{PODS}/c/resize"), &resized).await.refused();
    assert_eq!(code, 403);
    assert!(message.contains("maximum cpu usage per Container is 1, but limit is 2"), "{message}");

    api.post("/api/v1/namespaces", &json!({"metadata": {"name": "going"}})).await.ok();
    let maps = "/api/v1/namespaces/going/configmaps";
    rig.reads(maps, &map("a")).await;
    api.delete("/api/v1/namespaces/going").await.ok();
    assert_eq!(api.post(maps, &map("b")).await.code, 403);
}

#[tokio::test]
async fn containers_that_are_added_have_only_the_secrets_of_their_account() {
    let rig = Rig::start().await;
    let api = &rig.api;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let strict = json!({"metadata": {"name": "strict", "annotations":
        {"kubernetes.io/enforce-mountable-secrets": "true"}}, "secrets": [{"name": "own"}]});
    api.post(accounts, &strict).await.ok();
    let mut strict = pod("a");
    strict["spec"]["serviceAccountName"] = json!("strict");
    let created = api.post(PODS, &strict).await.ok();
    let debugger = |secret: &str| {
        let mut changed = created.clone();
        changed["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "i",
            "envFrom": [{"secretRef": {"name": secret}}]}]);
        changed
    };
    let path = format!("{PODS}/a/ephemeralcontainers");
    let (code, _, message) = api.put(&path, &debugger("other")).await.refused();
    assert_eq!(code, 403);
    assert!(message.contains("ephemeral container d with envFrom referencing"), "{message}");
    api.put(&path, &debugger("own")).await.ok();
}
