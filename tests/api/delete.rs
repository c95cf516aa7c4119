//! Delete: grace, finalizers, propagation, preconditions, collections, namespaces.

use super::support::Api;
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    })
}

async fn bind(api: &Api, name: &str) {
    let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "n1"}});
    api.post(&format!("{PODS}/{name}/binding"), &binding).await.ok();
}

#[tokio::test]
async fn an_object_goes_at_once_and_a_status_says_so() {
    let api = Api::start().await;
    let created = api.post(CONFIG_MAPS, &json!({"metadata": {"name": "a"}})).await.ok();
    let status = api.delete(&format!("{CONFIG_MAPS}/a")).await.ok();
    assert_eq!(status["status"], "Success");
    assert_eq!(
        status["details"],
        json!({"name": "a", "kind": "configmaps", "uid": created["metadata"]["uid"]})
    );
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/a")).await.code, 404);
    assert_eq!(api.delete(&format!("{CONFIG_MAPS}/a")).await.refused().0, 404);
}

#[tokio::test]
async fn who_asks_for_dependents_to_go_is_told_that_it_takes_time() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    for (finalizers, query, code) in [
        (json!([]), "orphanDependents=false", 200),
        (json!(["example.com/x"]), "", 200),
        (json!(["example.com/x"]), "propagationPolicy=Background", 200),
        (json!(["example.com/x"]), "orphanDependents=false", 202),
    ] {
        let map = json!({"metadata": {"name": "a", "finalizers": finalizers}});
        api.post(CONFIG_MAPS, &map).await.ok();
        assert_eq!(api.delete(&format!("{path}?{query}")).await.code, code, "{query}");
        if finalizers != json!([]) {
            api.patch(&path, "merge", &json!({"metadata": {"finalizers": null}})).await.ok();
        }
    }
}

#[tokio::test]
async fn finalizers_keep_an_object_until_they_are_gone() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    let map = json!({"metadata": {"name": "a", "finalizers": ["example.com/x"]}});
    api.post(CONFIG_MAPS, &map).await.ok();
    let marked = api.delete(&path).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    let more = json!({"metadata": {"finalizers": ["example.com/x", "example.com/y"]}});
    let (code, _, message) = api.patch(&path, "merge", &more).await.refused();
    assert_eq!(code, 422);
    assert!(message.contains("no new finalizers can be added"), "{message}");
    // A client cannot take the mark away.
    let unmarked = json!({"metadata": {"deletionTimestamp": null}, "data": {"k": "v"}});
    let unmarked = api.patch(&path, "merge", &unmarked).await.ok();
    assert!(unmarked["metadata"]["deletionTimestamp"].is_string());
    api.patch(&path, "merge", &json!({"metadata": {"finalizers": null}})).await.ok();
    assert_eq!(api.get(&path).await.code, 404);
}

#[tokio::test]
async fn propagation_is_left_to_the_garbage_collector() {
    let api = Api::start().await;
    for (policy, finalizer) in [("Orphan", "orphan"), ("Foreground", "foregroundDeletion")] {
        let path = format!("{CONFIG_MAPS}/a");
        api.post(CONFIG_MAPS, &json!({"metadata": {"name": "a"}})).await.ok();
        let options = json!({"propagationPolicy": policy});
        let marked = api.delete_with(&path, &options).await.ok();
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
        // Asking again in the background takes the finalizer away, and with it the object.
        api.delete(&format!("{path}?propagationPolicy=Background")).await.ok();
        assert_eq!(api.get(&path).await.code, 404);
    }
    api.post(CONFIG_MAPS, &json!({"metadata": {"name": "a"}})).await.ok();
    let (code, _, message) =
        api.delete(&format!("{CONFIG_MAPS}/a?propagationPolicy=x")).await.refused();
    assert_eq!(code, 422);
    assert!(message.contains("propagationPolicy: Unsupported value: \"x\""), "{message}");
}

#[tokio::test]
async fn preconditions_must_hold() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    let created = api.post(CONFIG_MAPS, &json!({"metadata": {"name": "a"}})).await.ok();
    for (field, value) in [("uid", "x"), ("resourceVersion", "1")] {
        let options = json!({"preconditions": {field: value}});
        let (code, reason, _) = api.delete_with(&path, &options).await.refused();
        assert_eq!((code, reason.as_str()), (409, "Conflict"), "{field}");
    }
    let metadata = &created["metadata"];
    let options = json!({"preconditions": {
        "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"],
    }});
    api.delete_with(&path, &options).await.ok();
}

#[tokio::test]
async fn a_pod_without_a_node_goes_at_once() {
    let api = Api::start().await;
    api.post(PODS, &pod("a")).await.ok();
    let gone = api.delete(&format!("{PODS}/a")).await.ok();
    assert_eq!(gone["kind"], "Pod", "pods are shown as they were at the end");
    assert_eq!(api.get(&format!("{PODS}/a")).await.code, 404);
}

#[tokio::test]
async fn a_bound_pod_waits_for_its_kubelet() {
    let api = Api::start().await;
    let path = format!("{PODS}/a");
    api.post(PODS, &pod("a")).await.ok();
    bind(&api, "a").await;
    let first = api.delete(&path).await.ok();
    assert_eq!(first["metadata"]["deletionGracePeriodSeconds"], 30);
    let due = first["metadata"]["deletionTimestamp"].as_str().unwrap().to_owned();

    let longer = api.delete(&format!("{path}?gracePeriodSeconds=60")).await.ok();
    assert_eq!(longer["metadata"]["deletionTimestamp"], due.as_str(), "never lengthened");
    let shorter = api.delete(&format!("{path}?gracePeriodSeconds=5")).await.ok();
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    assert!(shorter["metadata"]["deletionTimestamp"].as_str().unwrap() < due.as_str());
    api.delete(&format!("{path}?gracePeriodSeconds=0")).await.ok();
    assert_eq!(api.get(&path).await.code, 404);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let api = Api::start().await;
    for index in 0..60 {
        let tier = if index % 2 == 0 { "even" } else { "odd" };
        let map = json!({"metadata": {"name": format!("m{index}"), "labels": {"tier": tier}}});
        api.post(CONFIG_MAPS, &map).await.ok();
    }
    let before = api.get(CONFIG_MAPS).await.ok();
    let deleted = api.delete(&format!("{CONFIG_MAPS}?labelSelector=tier%3Deven")).await.ok();
    assert_eq!(deleted["kind"], "ConfigMapList");
    assert_eq!(deleted["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
    let items = deleted["items"].as_array().unwrap();
    assert_eq!(items.len(), 30);
    assert!(items.iter().all(|item| item["metadata"]["labels"]["tier"] == "even"));
    let left = api.get(CONFIG_MAPS).await.ok();
    assert_eq!(left["items"].as_array().unwrap().len(), 30);
    api.delete(CONFIG_MAPS).await.ok();
    assert!(api.get(CONFIG_MAPS).await.ok()["items"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_collection_is_deleted_page_by_page_where_asked_for() {
    let api = Api::start().await;
    for name in ["a", "b", "c"] {
        api.post(CONFIG_MAPS, &json!({"metadata": {"name": name}})).await.ok();
    }
    let first = api.delete(&format!("{CONFIG_MAPS}?limit=2")).await.ok();
    let names = |list: &Value| {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["metadata"]["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(names(&api.get(CONFIG_MAPS).await.ok()), ["c"]);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = api.delete(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.ok();
    assert_eq!(names(&second), ["c"]);
    assert!(second["metadata"]["continue"].is_null());
    assert!(names(&api.get(CONFIG_MAPS).await.ok()).is_empty());
    let dry = api.delete(&format!("{CONFIG_MAPS}?dryRun=All")).await.ok();
    assert!(names(&dry).is_empty());
}

#[tokio::test]
async fn a_namespace_goes_when_it_is_finalized() {
    let api = Api::start().await;
    api.post("/api/v1/namespaces", &json!({"metadata": {"name": "x"}})).await.ok();
    let marked = api.delete("/api/v1/namespaces/x").await.ok();
    assert_eq!(marked["status"]["phase"], "Terminating");
    assert_eq!(marked["spec"]["finalizers"], json!(["kubernetes"]));

    let map = json!({"metadata": {"name": "a"}});
    let answer = api.post("/api/v1/namespaces/x/configmaps", &map).await;
    let causes = answer.json()["details"]["causes"].clone();
    let (code, _, message) = answer.refused();
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "configmaps \"a\" is forbidden: unable to create new content in namespace x because it is \
         being terminated"
    );
    assert_eq!(causes[0]["reason"], "NamespaceTerminating");

    let mut finalized = api.get("/api/v1/namespaces/x").await.ok();
    finalized["spec"]["finalizers"] = json!([]);
    // Not by an update, only by its own path.
    api.put("/api/v1/namespaces/x", &finalized).await.ok();
    assert_eq!(api.get("/api/v1/namespaces/x").await.code, 200);
    finalized["metadata"]["resourceVersion"] = Value::Null;
    api.put("/api/v1/namespaces/x/finalize", &finalized).await.ok();
    assert_eq!(api.get("/api/v1/namespaces/x").await.code, 404);
}

#[tokio::test]
async fn a_stale_or_malformed_finalize_is_refused() {
    let api = Api::start().await;
    let mut stale = api.post("/api/v1/namespaces", &json!({"metadata": {"name": "x"}})).await.ok();
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let current = api.patch("/api/v1/namespaces/x", "merge", &label).await.ok();
    stale["spec"]["finalizers"] = json!(["kubernetes", "example.com/x"]);
    let path = "/api/v1/namespaces/x/finalize";
    assert_eq!(api.put(path, &stale).await.refused().0, 409);
    stale["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
    stale["spec"]["finalizers"] = json!(["unqualified"]);
    let (code, _, message) = api.put(path, &stale).await.refused();
    assert_eq!(code, 422);
    assert!(message.contains("unqualified"), "{message}");
    stale["spec"]["finalizers"] = json!(["kubernetes", "example.com/x"]);
    api.put(path, &stale).await.ok();
}
