//! Lists in pages, at revisions, and across compaction.

use super::support::Api;
use kinglet::storage::Store as _;
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn fill(api: &Api, count: usize) {
    for index in 0..count {
        let tier = if index % 3 == 0 { "x" } else { "y" };
        let name = format!("m{index:03}");
        let map = json!({"metadata": {"name": name, "labels": {"tier": tier}}});
        api.post(CONFIG_MAPS, &map).await.ok();
    }
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Reads page after page; the pages together, and how many there were.
async fn read_all(api: &Api, query: &str) -> (Vec<String>, usize) {
    let (mut all, mut pages, mut next) = (Vec::new(), 0, String::new());
    loop {
        let list = api.get(&format!("{CONFIG_MAPS}?{query}{next}")).await.ok();
        all.extend(names(&list));
        pages += 1;
        match list["metadata"]["continue"].as_str() {
            Some(token) => next = format!("&continue={token}"),
            None => return (all, pages),
        }
    }
}

#[tokio::test]
async fn an_empty_list_is_a_list() {
    let api = Api::start().await;
    let list = api.get(CONFIG_MAPS).await.ok();
    assert_eq!(list["kind"], "ConfigMapList");
    assert_eq!(list["apiVersion"], "v1");
    assert_eq!(list["items"], json!([]));
    assert!(list["metadata"]["resourceVersion"].is_string());
}

#[tokio::test]
async fn a_long_list_is_whole() {
    let api = Api::start().await;
    fill(&api, 700).await;
    let expected: Vec<_> = (0..700).map(|index| format!("m{index:03}")).collect();
    assert_eq!(names(&api.get(CONFIG_MAPS).await.ok()), expected);
    for accept in [
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        "application/yaml",
        "application/json;as=Table;g=meta.k8s.io;v=v1",
    ] {
        let answer = api.get_as(CONFIG_MAPS, accept).await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(answer.code == 200 && expected.iter().all(|name| text.contains(name)), "{accept}");
    }
    let selected = api.get(&format!("{CONFIG_MAPS}?labelSelector=tier%3Dx")).await.ok();
    assert_eq!(names(&selected), expected.iter().step_by(3).cloned().collect::<Vec<_>>());
    let pretty = api.get(&format!("{CONFIG_MAPS}?pretty=true")).await.ok();
    assert_eq!(names(&pretty), expected);
}

#[tokio::test]
async fn pages_are_disjoint_and_complete() {
    let api = Api::start().await;
    fill(&api, 25).await;
    let all = names(&api.get(CONFIG_MAPS).await.ok());
    assert_eq!(all.len(), 25);
    for (limit, pages) in [(1, 25), (10, 3), (25, 1), (26, 1)] {
        assert_eq!(read_all(&api, &format!("limit={limit}")).await, (all.clone(), pages));
    }
    let first = api.get(&format!("{CONFIG_MAPS}?limit=10")).await.ok();
    assert_eq!(first["metadata"]["remainingItemCount"], 15);
}

#[tokio::test]
async fn pages_of_a_selection_are_full() {
    let api = Api::start().await;
    fill(&api, 25).await;
    let (all, pages) = read_all(&api, "labelSelector=tier%3Dx&limit=4").await;
    assert_eq!(all.len(), 9);
    assert_eq!(pages, 3);
    let first = api.get(&format!("{CONFIG_MAPS}?labelSelector=tier%3Dx&limit=4")).await.ok();
    assert!(first["metadata"].get("remainingItemCount").is_none());
}

#[tokio::test]
async fn later_pages_show_the_state_of_the_first() {
    let api = Api::start().await;
    fill(&api, 6).await;
    let first = api.get(&format!("{CONFIG_MAPS}?limit=3")).await.ok();
    api.delete(&format!("{CONFIG_MAPS}/m004")).await.ok();
    api.post(CONFIG_MAPS, &json!({"metadata": {"name": "m0035"}})).await.ok();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = api.get(&format!("{CONFIG_MAPS}?limit=3&continue={token}")).await.ok();
    assert_eq!(names(&second), ["m003", "m004", "m005"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_token_that_is_too_old_names_one_that_goes_on() {
    let api = Api::start().await;
    fill(&api, 6).await;
    let first = api.get(&format!("{CONFIG_MAPS}?limit=3")).await.ok();
    api.delete(&format!("{CONFIG_MAPS}/m004")).await.ok();
    api.store.compact(api.store.revision()).await.unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let answer = api.get(&format!("{CONFIG_MAPS}?limit=3&continue={token}")).await;
    let status = answer.json();
    let (code, reason, message) = answer.refused();
    assert_eq!((code, reason.as_str()), (410, "Expired"));
    assert!(message.starts_with("The provided continue parameter is too old"), "{message}");
    let token = status["metadata"]["continue"].as_str().unwrap();
    let rest = api.get(&format!("{CONFIG_MAPS}?limit=3&continue={token}")).await.ok();
    assert_eq!(names(&rest), ["m003", "m005"]);
}

#[tokio::test]
async fn lists_show_the_revision_that_is_asked_for() {
    let api = Api::start().await;
    fill(&api, 2).await;
    let before = api.get(CONFIG_MAPS).await.ok();
    let revision = before["metadata"]["resourceVersion"].as_str().unwrap();
    fill_one(&api, "later").await;
    for (query, expected) in [
        (String::new(), 3),
        ("resourceVersion=0".to_owned(), 3),
        (format!("resourceVersion={revision}"), 3),
        (format!("resourceVersion={revision}&resourceVersionMatch=NotOlderThan"), 3),
        (format!("resourceVersion={revision}&resourceVersionMatch=Exact"), 2),
        (format!("resourceVersion={revision}&limit=10"), 2),
    ] {
        let list = api.get(&format!("{CONFIG_MAPS}?{query}")).await.ok();
        assert_eq!(names(&list).len(), expected, "{query}");
    }
}

async fn fill_one(api: &Api, name: &str) {
    api.post(CONFIG_MAPS, &json!({"metadata": {"name": name}})).await.ok();
}

#[tokio::test]
async fn a_long_list_arrives_in_pieces() {
    let api = Api::start().await;
    for index in 0..20 {
        let map = json!({
            "metadata": {"name": format!("m{index:02}")}, "data": {"k": "x".repeat(30_000)},
        });
        api.post(CONFIG_MAPS, &map).await.ok();
    }
    let list = api.get(CONFIG_MAPS).await.ok();
    assert_eq!(names(&list).len(), 20);
    let partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = api.get_as(CONFIG_MAPS, partial).await.ok();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(names(&list).len(), 20);
    assert!(list["items"][0].get("data").is_none());
}
