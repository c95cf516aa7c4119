//! Watch: what is there, every change in order, selectors, bookmarks, ends.

use super::support::{Api, DEADLINE};
use k8s_openapi::api::core::v1::ConfigMap;
use kinglet::api::Revision;
use kinglet::apiserver::Identity;
use kinglet::client::{Cache, Client, Selection};
use kinglet::stdx::Tasks;
use serde_json::json;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn create(api: &Api, name: &str, tier: &str) -> String {
    let map = json!({"metadata": {"name": name, "labels": {"tier": tier}}});
    let created = api.post(CONFIG_MAPS, &map).await.ok();
    created["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

async fn relabel(api: &Api, name: &str, tier: &str) {
    let patch = json!({"metadata": {"labels": {"tier": tier}}});
    api.patch(&format!("{CONFIG_MAPS}/{name}"), "merge", &patch).await.ok();
}

#[tokio::test]
async fn shows_what_is_there_and_then_every_change() {
    let api = Api::start().await;
    create(&api, "a", "x").await;
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=true")).await;
    assert_eq!(watch.short().await, "ADDED a");
    create(&api, "b", "x").await;
    relabel(&api, "a", "y").await;
    api.delete(&format!("{CONFIG_MAPS}/b")).await.ok();
    assert_eq!(watch.short().await, "ADDED b");
    assert_eq!(watch.short().await, "MODIFIED a");
    let gone = watch.next().await.unwrap();
    assert_eq!(gone["type"], "DELETED");
    assert_eq!(gone["object"]["metadata"]["labels"]["tier"], "x");
    let newest = api.get(CONFIG_MAPS).await.ok();
    // The object as it last was, at the revision of its end.
    assert_eq!(
        gone["object"]["metadata"]["resourceVersion"],
        newest["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn goes_on_after_a_revision_without_a_gap() {
    let api = Api::start().await;
    let revision = create(&api, "a", "x").await;
    create(&api, "b", "x").await;
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={revision}");
    let mut watch = api.watch(&path).await;
    assert_eq!(watch.short().await, "ADDED b");
    create(&api, "c", "x").await;
    assert_eq!(watch.short().await, "ADDED c");
}

#[tokio::test]
async fn a_revision_to_come_is_waited_for() {
    let api = Api::start().await;
    let first: u64 = create(&api, "a", "x").await.parse().unwrap();
    let later = format!("?resourceVersionMatch=NotOlderThan&resourceVersion={}", first + 2);
    let object = format!("{CONFIG_MAPS}/a?resourceVersion={}", first + 2);
    let list = format!("{CONFIG_MAPS}{later}");
    let mut watch =
        api.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={}", first + 2)).await;
    let changes = async {
        let mut names = Vec::new();
        for name in ["b", "c", "d", "e"] {
            names.push((create(&api, name, "x").await.parse::<u64>().unwrap(), name));
        }
        names
    };
    let (got, listed, names) = tokio::join!(api.get(&object), api.get(&list), changes);
    assert_eq!((got.code, listed.code), (200, 200));
    let (_, name) = names.iter().find(|(revision, _)| *revision > first + 2).unwrap();
    assert_eq!(watch.short().await, format!("ADDED {name}"));
}

#[tokio::test]
async fn a_revision_that_does_not_come_is_told_of() {
    let api = Api::start().await;
    create(&api, "a", "x").await;
    let state = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?{state}&resourceVersion=999999")).await;
    let object = format!("{CONFIG_MAPS}/a?resourceVersion=999999");
    let list = format!("{CONFIG_MAPS}?resourceVersion=999999");
    let (got, listed, event) = tokio::join!(api.get(&object), api.get(&list), watch.next());
    let event = event.unwrap();
    assert_eq!(event["type"], "ERROR");
    for status in [got.json(), listed.json(), event["object"].clone()] {
        assert_eq!((&status["code"], &status["reason"]), (&json!(504), &json!("Timeout")));
        assert_eq!(status["details"]["retryAfterSeconds"], 1);
        let message = status["message"].as_str().unwrap();
        assert!(message.starts_with("Timeout: Too large resource version: 999999, current: "));
    }
    assert_eq!(listed.headers["retry-after"], "1");
    let exactly = api.get(&format!("{list}&resourceVersionMatch=Exact")).await;
    assert_eq!(exactly.json()["details"].get("retryAfterSeconds"), None, "nobody has waited");
}

#[tokio::test]
async fn objects_come_and_go_with_their_labels() {
    let api = Api::start().await;
    create(&api, "a", "x").await;
    create(&api, "b", "y").await;
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=true&labelSelector=tier%3Dx")).await;
    assert_eq!(watch.short().await, "ADDED a");
    relabel(&api, "b", "x").await;
    assert_eq!(watch.short().await, "ADDED b");
    relabel(&api, "a", "y").await;
    let gone = watch.next().await.unwrap();
    assert_eq!(gone["type"], "DELETED");
    assert_eq!(gone["object"]["metadata"]["labels"]["tier"], "x");
    relabel(&api, "a", "z").await;
    api.delete(&format!("{CONFIG_MAPS}/b")).await.ok();
    assert_eq!(watch.short().await, "DELETED b");
}

#[tokio::test]
async fn one_object_is_watched_by_its_name() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}?watch=true&fieldSelector=metadata.name%3Da");
    let mut watch = api.watch(&path).await;
    create(&api, "ab", "x").await;
    create(&api, "a", "x").await;
    assert_eq!(watch.short().await, "ADDED a");
}

#[tokio::test]
async fn a_watch_list_says_when_the_beginning_is_over() {
    let api = Api::start().await;
    create(&api, "a", "x").await;
    let path = format!(
        "{CONFIG_MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&\
         allowWatchBookmarks=true"
    );
    let mut watch = api.watch(&path).await;
    assert_eq!(watch.short().await, "ADDED a");
    let end = watch.next().await.unwrap();
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(end["object"]["kind"], "ConfigMap");
    let annotations = &end["object"]["metadata"]["annotations"];
    assert_eq!(annotations["k8s.io/initial-events-end"], "true");
    let revision = end["object"]["metadata"]["resourceVersion"].as_str().unwrap();
    create(&api, "b", "x").await;
    assert_eq!(watch.short().await, "ADDED b");
    let later = api.watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={revision}")).await;
    drop(later);
}

#[tokio::test]
async fn a_long_beginning_is_whole() {
    let api = Api::start().await;
    let mut expected = Vec::new();
    for index in 0..600 {
        let name = format!("m{index:03}");
        create(&api, &name, if index % 2 == 0 { "x" } else { "y" }).await;
        expected.push(format!("ADDED {name}"));
    }
    for (query, step) in [("", 1), ("&labelSelector=tier%3Dx", 2)] {
        let path = format!(
            "{CONFIG_MAPS}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&\
             resourceVersionMatch=NotOlderThan{query}"
        );
        let mut watch = api.watch(&path).await;
        for event in expected.iter().step_by(step) {
            assert_eq!(watch.short().await, *event);
        }
        assert_eq!(watch.next().await.unwrap()["type"], "BOOKMARK");
    }
}

#[tokio::test]
async fn a_cache_sees_what_somebody_waits_for() {
    let api = Api::start().await;
    let client = Client::new(api.server.local(Identity::new("a", &["system:masters"])), "test");
    let mut tasks = Tasks::default();
    for fields in [None, Some("metadata.name=x".to_owned())] {
        let selection = Selection { fields, ..Selection::default() };
        let cache = Cache::<ConfigMap>::start(client.clone(), selection, &mut tasks);
        cache.synced().await;
        for name in ["a", "b"] {
            // Of another kind, of an object that is not selected, and of one that has not changed.
            let namespace = json!({"metadata": {"generateName": "elsewhere-"}});
            let created = api.post("/api/v1/namespaces", &namespace).await.ok();
            let elsewhere = created["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
            let map = json!({"metadata": {"generateName": name}});
            let created = api.post(CONFIG_MAPS, &map).await.ok();
            let here = created["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
            for revision in [&elsewhere, &here, &elsewhere] {
                let waited = cache.wait_seen(Revision(revision.parse().unwrap()));
                tokio::time::timeout(DEADLINE, waited).await.expect("the cache sees it soon");
            }
        }
    }
}

#[tokio::test]
async fn our_own_agents_hear_of_every_revision() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion=1&progress=true");
    let mut watch = api.watch(&path).await;
    let namespace = json!({"metadata": {"name": "elsewhere"}});
    let created = api.post("/api/v1/namespaces", &namespace).await.ok();
    let wanted: u64 = created["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    loop {
        let event = watch.next().await.unwrap();
        assert_eq!(event["type"], "BOOKMARK");
        let seen = event["object"]["metadata"]["resourceVersion"].as_str().unwrap();
        if seen.parse::<u64>().unwrap() >= wanted {
            break;
        }
    }
}

#[tokio::test]
async fn bookmarks_come_about_once_a_minute() {
    let api = Api::start().await;
    let path = format!(
        "{CONFIG_MAPS}?watch=true&resourceVersion=1&allowWatchBookmarks=true&timeoutSeconds=100"
    );
    let mut watch = api.watch(&path).await;
    let namespace = json!({"metadata": {"name": "elsewhere"}});
    api.post("/api/v1/namespaces", &namespace).await.ok();
    // From here on time passes as fast as nothing else happens.
    tokio::time::pause();
    let hour = std::time::Duration::from_secs(3600);
    let bookmark = watch.next_within(hour).await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert!(watch.next_within(hour).await.is_none(), "nothing new to say, and the time is over");
}

#[tokio::test]
async fn a_watch_ends_in_time() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1");
    let mut watch = api.watch(&path).await;
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_revision_that_is_gone_is_told_in_the_stream() {
    use kinglet::storage::Store as _;
    let api = Api::start().await;
    create(&api, "a", "x").await;
    create(&api, "b", "x").await;
    api.store.compact(api.store.revision()).await.unwrap();
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion=1")).await;
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "ERROR");
    assert_eq!(event["object"]["code"], 410);
    assert_eq!(event["object"]["reason"], "Expired");
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn the_old_path_still_watches() {
    let api = Api::start().await;
    let mut watch = api.watch("/api/v1/watch/namespaces/default/configmaps").await;
    create(&api, "a", "x").await;
    assert_eq!(watch.short().await, "ADDED a");
}

#[tokio::test]
async fn the_old_path_of_a_watch_may_name_one_object() {
    let api = Api::start().await;
    for name in ["a", "b"] {
        api.post(CONFIG_MAPS, &json!({"metadata": {"name": name}})).await.ok();
    }
    let path = "/api/v1/watch/namespaces/default/configmaps/b";
    let mut lines = api.watch(path).await;
    let first = lines.next().await.unwrap();
    assert_eq!(first["object"]["metadata"]["name"], "b");
    assert_eq!(api.post(path, &json!({})).await.refused().0, 405);
}
