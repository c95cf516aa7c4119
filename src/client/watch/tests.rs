//! The watcher and the cache against a server that plays a script.

use super::*;
use crate::api::{ObjectKey, Status};
use crate::client::{Cache, Change};
use crate::stdx::Tasks;
use crate::stdx::http::{HttpService, Request, Response, full, streamed};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does with the next request.
enum Scene {
    /// Answers with this body.
    Body(u16, String),
    /// Answers a watch with these pieces, then ends it.
    Watch(Vec<String>),
    /// Answers a watch with these pieces and leaves it open.
    OpenWatch(Vec<String>),
    /// Breaks the connection after these pieces.
    Broken(Vec<String>),
    Refused,
}

#[derive(Debug, Default)]
struct Server {
    script: Mutex<VecDeque<Scene>>,
    asked: Mutex<Vec<String>>,
}

impl std::fmt::Debug for Scene {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Scene")
    }
}

impl HttpService for Server {
    fn call(&self, request: Request) -> BoxFuture<'static, io::Result<Response>> {
        self.asked.lock().unwrap().push(request.uri().to_string());
        let scene = self.script.lock().unwrap().pop_front();
        let pieces = |pieces: Vec<String>| {
            futures_util::stream::iter(pieces.into_iter().map(|piece| Ok(Bytes::from(piece))))
        };
        let answer = match scene {
            // The end of the script: the server is silent.
            None => return Box::pin(std::future::pending()),
            Some(Scene::Body(code, body)) => {
                Ok(http::Response::builder().status(code).body(full(body)).unwrap())
            }
            Some(Scene::Watch(lines)) => Ok(Response::new(streamed(pieces(lines)))),
            Some(Scene::OpenWatch(lines)) => {
                let open = pieces(lines).chain(futures_util::stream::pending());
                Ok(Response::new(streamed(open)))
            }
            Some(Scene::Broken(lines)) => {
                let broken = futures_util::stream::iter([Err(io::Error::other("cut"))]);
                Ok(Response::new(streamed(pieces(lines).chain(broken))))
            }
            Some(Scene::Refused) => Err(io::Error::other("refused")),
        };
        Box::pin(async { answer })
    }
}

impl Server {
    fn playing(script: impl IntoIterator<Item = Scene>) -> Arc<Self> {
        Arc::new(Self { script: Mutex::new(script.into_iter().collect()), asked: Mutex::default() })
    }

    fn client(self: &Arc<Self>) -> Client {
        Client::new(Arc::clone(self) as Arc<dyn HttpService>, "test")
    }

    /// The requests so far, without what is in all of them.
    fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let short = asked.iter().map(|path| {
            path.replace("/api/v1/configmaps", "")
                .replace("&allowWatchBookmarks=true&progress=true", "")
                .replace("?limit=500", "list")
                .replace("?watch=true&resourceVersion=", "watch ")
        });
        short.collect()
    }
}

fn object(name: &str, revision: u64) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"default","uid":"{name}","resourceVersion":"{revision}"}}}}"#
    )
}

fn list(revision: u64, objects: &[(&str, u64)]) -> Scene {
    page(revision, objects, "")
}

fn page(revision: u64, objects: &[(&str, u64)], next: &str) -> Scene {
    let items: Vec<_> = objects.iter().map(|(name, revision)| object(name, *revision)).collect();
    let items = items.join(",");
    Scene::Body(
        200,
        format!(
            r#"{{"metadata":{{"resourceVersion":"{revision}","continue":"{next}"}},"items":[{items}]}}"#
        ),
    )
}

fn expired() -> Status {
    Status::expired("too old resource version")
}

fn refusal(status: &Status) -> Scene {
    Scene::Body(status.code, String::from_utf8(status.to_json()).unwrap())
}

fn applied(name: &str, revision: u64) -> String {
    format!("{{\"type\":\"MODIFIED\",\"object\":{}}}\n", object(name, revision))
}

fn deleted(name: &str, revision: u64) -> String {
    format!("{{\"type\":\"DELETED\",\"object\":{}}}\n", object(name, revision))
}

fn bookmark(revision: u64) -> String {
    format!(
        "{{\"type\":\"BOOKMARK\",\"object\":{{\"metadata\":{{\"resourceVersion\":\"{revision}\"}}}}}}\n"
    )
}

/// Runs a watcher over the script and renders what it shows, until the script is over.
async fn shown(server: &Arc<Server>) -> Vec<String> {
    let mut watcher = Watcher::<ConfigMap>::new(server.client(), &Selection::default());
    let mut shown = Vec::new();
    let name = |object: ConfigMap| object.metadata.name.unwrap();
    // Time is paused, so that this elapses once nothing else can happen.
    let silence = Duration::from_secs(50);
    while let Ok(item) = tokio::time::timeout(silence, watcher.next()).await {
        let what = match item {
            Item::Listed(objects) => {
                let names: Vec<_> = objects.into_iter().map(name).collect();
                format!("[{}]", names.join(" "))
            }
            Item::Applied(object) => format!("+{}", name(object)),
            Item::Deleted(object) => format!("-{}", name(object)),
            Item::Progress => String::new(),
        };
        shown.push(format!("{what}@{}", watcher.revision()));
    }
    shown
}

#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_from_the_last_revision_it_saw() {
    let server = Server::playing([
        list(5, &[("a", 3), ("b", 5)]),
        Scene::Watch(vec![applied("a", 6), bookmark(9)]),
        Scene::Broken(vec![deleted("b", 10)]),
        Scene::Refused,
        Scene::OpenWatch(vec![format!("{}{}", applied("c", 11), applied("d", 12))]),
    ]);
    let shown = shown(&server).await;
    assert_eq!(shown, ["[a b]@5", "+a@6", "@9", "-b@10", "+c@11", "+d@12"]);
    assert_eq!(server.asked(), ["list", "watch 5", "watch 9", "watch 10", "watch 10"]);
}

#[tokio::test(start_paused = true)]
async fn an_expired_revision_makes_it_list_again() {
    let error = format!(
        "{{\"type\":\"ERROR\",\"object\":{}}}\n",
        String::from_utf8(expired().to_json()).unwrap()
    );
    let server = Server::playing([
        list(5, &[("a", 3)]),
        refusal(&expired()),
        list(8, &[("b", 8)]),
        Scene::OpenWatch(vec![applied("c", 9), error]),
        list(12, &[("c", 9)]),
    ]);
    assert_eq!(shown(&server).await, ["[a]@5", "[b]@8", "+c@9", "[c]@12"]);
    assert_eq!(server.asked(), ["list", "watch 5", "list", "watch 8", "list", "watch 12"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_is_read_page_by_page_and_begun_again_when_a_page_has_expired() {
    let server = Server::playing([
        page(5, &[("a", 3)], "x"),
        page(5, &[("b", 3)], ""),
        refusal(&expired()),
        page(7, &[("a", 3)], "x"),
        refusal(&expired()),
        list(9, &[("b", 3)]),
    ]);
    assert_eq!(shown(&server).await, ["[a b]@5", "[b]@9"]);
    assert_eq!(
        server.asked(),
        ["list", "list&continue=x", "watch 5", "list", "list&continue=x", "", "watch 9"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_object_does_not_hide_the_others() {
    let bad = r#"{"metadata":{"name":"bad","labels":5,"resourceVersion":"4"}}"#;
    let body = format!(
        r#"{{"metadata":{{"resourceVersion":"5"}},"items":[{},{bad},{}]}}"#,
        object("a", 3),
        object("b", 4)
    );
    let server = Server::playing([
        Scene::Body(200, body),
        Scene::OpenWatch(vec![
            format!("{{\"type\":\"ADDED\",\"object\":{bad}}}\n"),
            applied("c", 7),
        ]),
    ]);
    assert_eq!(shown(&server).await, ["[a b]@5", "+c@7"]);
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_ever_more_slowly() {
    for (millis, requests) in [(99, 1), (101, 2), (299, 2), (301, 3), (699, 3), (701, 4)] {
        let server = Server::playing((0..9).map(|_| Scene::Refused));
        let mut watcher = Watcher::<ConfigMap>::new(server.client(), &Selection::default());
        let time = Duration::from_millis(millis);
        assert!(tokio::time::timeout(time, watcher.next()).await.is_err());
        assert_eq!(server.asked().len(), requests, "after {millis} ms");
    }
}

fn brief(change: &Change<ConfigMap>) -> String {
    let revision = |object: &Option<Arc<ConfigMap>>| {
        let object = object.as_ref();
        object.map_or("-".to_owned(), |object| object.metadata.resource_version.clone().unwrap())
    };
    format!("{}:{}>{}", change.key.name, revision(&change.old), revision(&change.new))
}

fn recorded(cache: &Cache<ConfigMap>) -> Arc<Mutex<Vec<String>>> {
    let changes = Arc::<Mutex<Vec<String>>>::default();
    let record = Arc::clone(&changes);
    cache.on_change(move |change| record.lock().unwrap().push(brief(change)));
    changes
}

#[tokio::test(start_paused = true)]
async fn a_cache_tells_every_change_in_order() {
    let server = Server::playing([
        list(5, &[("a", 3), ("b", 4), ("c", 5)]),
        Scene::Broken(vec![applied("a", 6), deleted("b", 7), bookmark(8)]),
        refusal(&expired()),
        list(20, &[("c", 5), ("a", 15), ("d", 20)]),
        Scene::OpenWatch(vec![applied("e", 21)]),
    ]);
    let mut tasks = Tasks::default();
    let cache = Cache::<ConfigMap>::start(server.client(), Selection::default(), &mut tasks);
    let changes = recorded(&cache);
    assert!(!cache.is_synced());
    cache.wait_seen(Revision(8)).await;
    let expected = ["a:->3", "b:->4", "c:->5", "a:3>6", "b:4>-"];
    assert_eq!(*changes.lock().unwrap(), expected);
    assert_eq!(cache.revision(), Revision(8));

    cache.wait_seen(Revision(21)).await;
    // The list shows what was missed: `c` is as it was and is not told again.
    assert_eq!(changes.lock().unwrap()[5..], ["a:6>15", "d:->20", "e:->21"]);
    assert_eq!(*recorded(&cache).lock().unwrap(), ["a:->15", "c:->5", "d:->20", "e:->21"]);

    assert_eq!(cache.len(), 4);
    assert_eq!(cache.list_in("default").len(), 4);
    assert!(cache.list_in("defaul").is_empty() && cache.list_in("default2").is_empty());
    assert!(cache.get(&ObjectKey::namespaced("default", "b")).is_none());
    tasks.stop(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_object_that_took_anothers_place_is_two_changes() {
    let replaced = object("a", 9).replace(r#""uid":"a""#, r#""uid":"a2""#);
    let server = Server::playing([
        list(5, &[("a", 3)]),
        refusal(&expired()),
        Scene::Body(
            200,
            format!(r#"{{"metadata":{{"resourceVersion":"9"}},"items":[{replaced}]}}"#),
        ),
    ]);
    let mut tasks = Tasks::default();
    let cache = Cache::<ConfigMap>::start(server.client(), Selection::default(), &mut tasks);
    let changes = recorded(&cache);
    cache.wait_seen(Revision(9)).await;
    assert_eq!(*changes.lock().unwrap(), ["a:->3", "a:3>-", "a:->9"]);
}

#[tokio::test(start_paused = true)]
async fn a_store_set_back_to_a_backup_frees_those_who_wait() {
    let server = Server::playing([list(100, &[("a", 3)]), refusal(&expired()), list(50, &[])]);
    let mut tasks = Tasks::default();
    let cache = Cache::<ConfigMap>::start(server.client(), Selection::default(), &mut tasks);
    cache.synced().await;
    cache.wait_seen(Revision(101)).await;
    assert_eq!(cache.revision(), Revision(50));
}

#[tokio::test(start_paused = true)]
async fn objects_are_found_by_their_controller() {
    let owned = |name: &str, revision: u64, owner: &str| {
        object(name, revision).replace(
            r#""uid""#,
            &format!(
                r#""ownerReferences":[{{"apiVersion":"v1","kind":"X","name":"o","uid":"{owner}","controller":true}}],"uid""#
            ),
        )
    };
    let line = |object: String| format!("{{\"type\":\"ADDED\",\"object\":{object}}}\n");
    let server = Server::playing([
        list(1, &[("free", 1)]),
        Scene::OpenWatch(vec![
            line(owned("a", 2, "x")),
            line(owned("b", 3, "x")),
            line(owned("a", 4, "y")),
            deleted("b", 5),
            bookmark(6),
        ]),
    ]);
    let mut tasks = Tasks::default();
    let cache = Cache::<ConfigMap>::start(server.client(), Selection::default(), &mut tasks);
    let names = |uid: &str| {
        let owned = cache.owned_by(uid).into_iter();
        owned.map(|object| object.metadata.name.clone().unwrap()).collect::<Vec<_>>()
    };
    cache.wait_seen(Revision(6)).await;
    assert_eq!(names("y"), ["a"]);
    assert!(names("x").is_empty() && names("").is_empty());
}
