//! The patch formats.

use super::support::Api;
use serde_json::{Value, json};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn deployment() -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [
                    {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]},
                    {"name": "b", "image": "b:1"},
                ]},
            },
        },
    })
}

#[tokio::test]
async fn strategic_merge_knows_containers_by_their_names() {
    let api = Api::start().await;
    api.post(DEPLOYMENTS, &deployment()).await.ok();
    let patch = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "b", "image": "b:2"},
    ]}}}});
    let path = format!("{DEPLOYMENTS}/web");
    let patched = api.patch(&path, "strategic-merge", &patch).await.ok();
    let containers = patched["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    let images: Vec<_> = containers.iter().map(|c| c["image"].as_str().unwrap()).collect();
    assert_eq!(images, ["a:1", "b:2"]);
    assert_eq!(patched["metadata"]["generation"], 2);
    // A merge patch replaces the list.
    let patched = api.patch(&path, "merge", &patch).await.ok();
    assert_eq!(patched["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn json_patches_are_applied_whole_or_not_at_all() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    let map = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    api.post(CONFIG_MAPS, &map).await.ok();
    let patch = json!([
        {"op": "test", "path": "/data/k", "value": "v"},
        {"op": "replace", "path": "/data/k", "value": "w"},
    ]);
    assert_eq!(api.patch(&path, "json", &patch).await.ok()["data"]["k"], "w");
    let (code, reason, _) = api.patch(&path, "json", &patch).await.refused();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    let (code, _, _) = api.patch(&path, "json", &json!({"op": "add"})).await.refused();
    assert_eq!(code, 400);
    let (code, _, _) = api.patch(&path, "merge", &json!([])).await.refused();
    assert_eq!(code, 400);
}

#[tokio::test]
async fn what_a_patch_makes_must_be_an_object_of_the_kind() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    api.post(CONFIG_MAPS, &json!({"metadata": {"name": "a"}})).await.ok();
    let annotations = json!({"metadata": {"annotations": {"foo": ["bar"]}}});
    for (format, patch, expected) in [
        ("merge", annotations.clone(), "cannot unmarshal array into Go struct field"),
        (
            "strategic-merge",
            annotations,
            "Invalid value: \"map[metadata:map[annotations:map[foo:[bar]]]]\": unrecognized type: string",
        ),
        (
            "json",
            json!([{"op": "add", "path": "/data", "value": "x"}]),
            "cannot unmarshal string into Go struct field",
        ),
        ("merge", json!({"kind": "Secret"}), "cannot be handled as a ConfigMap"),
        // What the patch makes is shown, not the patch.
        (
            "merge",
            json!({"data": 5}),
            "Invalid value: \"{\\\"apiVersion\\\":\\\"v1\\\",\\\"data\\\":5,",
        ),
    ] {
        let (code, reason, message) = api.patch(&path, format, &patch).await.refused();
        assert_eq!((code, reason.as_str()), (422, "Invalid"), "{format} {message}");
        assert!(message.contains("patch: Invalid value: "), "{message}");
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn a_patch_can_be_pinned_to_a_revision() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    let created = api.post(CONFIG_MAPS, &json!({"metadata": {"name": "a"}})).await.ok();
    let revision = created["metadata"]["resourceVersion"].clone();
    let patch = json!({"metadata": {"resourceVersion": revision}, "data": {"k": "1"}});
    api.patch(&path, "merge", &patch).await.ok();
    let (code, reason, _) = api.patch(&path, "merge", &patch).await.refused();
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
}

#[tokio::test]
async fn patches_side_by_side_are_all_applied() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    api.post(CONFIG_MAPS, &json!({"metadata": {"name": "a"}})).await.ok();
    let patches = (0..16).map(|index| {
        let (api, path) = (&api, &path);
        async move {
            let key = format!("k{index}");
            api.patch(path, "merge", &json!({"data": {key: "v"}})).await.ok()
        }
    });
    futures_util::future::join_all(patches).await;
    let map = api.get(&path).await.ok();
    assert_eq!(map["data"].as_object().unwrap().len(), 16);
}

#[tokio::test]
async fn a_patch_neither_renames_nor_creates() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    let (code, _, _) = api.patch(&path, "merge", &json!({})).await.refused();
    assert_eq!(code, 404);
    api.post(CONFIG_MAPS, &json!({"metadata": {"name": "a"}})).await.ok();
    let (code, _, message) =
        api.patch(&path, "merge", &json!({"metadata": {"name": "b"}})).await.refused();
    assert_eq!(code, 400, "{message}");
}

#[tokio::test]
async fn other_formats_are_refused() {
    let api = Api::start().await;
    api.post(CONFIG_MAPS, &json!({"metadata": {"name": "a"}})).await.ok();
    for media_type in ["application/json", "application/apply-patch+cbor"] {
        let headers = [(http::header::CONTENT_TYPE, media_type)];
        let path = format!("{CONFIG_MAPS}/a");
        let answer = api.send(http::Method::PATCH, &path, &headers, "{}").await;
        let (code, reason, message) = answer.refused();
        assert_eq!((code, reason.as_str()), (415, "UnsupportedMediaType"));
        assert!(message.contains("application/strategic-merge-patch+json"), "{message}");
    }
}

#[tokio::test]
async fn unknown_fields_in_a_patch_are_told() {
    let api = Api::start().await;
    api.post(CONFIG_MAPS, &json!({"metadata": {"name": "a"}})).await.ok();
    let path = format!("{CONFIG_MAPS}/a");
    let warned = api.patch(&path, "merge", &json!({"dada": 1})).await;
    assert_eq!(warned.warnings(), ["299 - \"unknown field \\\"dada\\\"\""]);
    let strict = format!("{path}?fieldValidation=Strict");
    let (code, _, message) = api.patch(&strict, "merge", &json!({"dada": 1})).await.refused();
    assert_eq!(code, 422);
    assert!(message.contains("unknown field \"dada\""), "{message}");
}
