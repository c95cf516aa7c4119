//! Label and field selectors in lists.

use super::support::Api;
use kinglet::storage::{COMMIT_OPS_MAX, Commit, Durability, Key, Op, Store as _};
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn names(list: &Value) -> String {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| {
            let metadata = &item["metadata"];
            let text = |field: &str| metadata[field].as_str().unwrap();
            format!("{}/{}", text("namespace"), text("name"))
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[tokio::test]
async fn lists_show_what_is_selected() {
    let api = Api::start().await;
    api.give_account("kube-public").await;
    for (namespace, name, app, node) in [
        ("default", "a", "web", "n1"),
        ("default", "b", "db", "n1"),
        ("kube-public", "a", "web", "n2"),
    ] {
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": app}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
        });
        api.post(&pods, &pod).await.ok();
    }
    for (path, expected) in [
        ("/api/v1/pods", "default/a default/b kube-public/a"),
        ("/api/v1/namespaces/default/pods", "default/a default/b"),
        ("/api/v1/pods?labelSelector=app%3Dweb", "default/a kube-public/a"),
        ("/api/v1/pods?labelSelector=app%21%3Dweb", "default/b"),
        ("/api/v1/pods?labelSelector=app+in+(db,web),x", ""),
        ("/api/v1/pods?fieldSelector=metadata.name%3Da", "default/a kube-public/a"),
        ("/api/v1/pods?fieldSelector=metadata.namespace%3Ddefault", "default/a default/b"),
        ("/api/v1/pods?fieldSelector=metadata.namespace%21%3Ddefault", "kube-public/a"),
        ("/api/v1/namespaces/default/pods?fieldSelector=metadata.name%3Da", "default/a"),
        ("/api/v1/namespaces/default/pods?fieldSelector=metadata.namespace%3Dx", ""),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", "default/a default/b"),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1,metadata.name%21%3Da", "default/b"),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1&labelSelector=app%3Dweb", "default/a"),
        ("/api/v1/pods?fieldSelector=status.phase%3DPending,metadata.name%3Db", "default/b"),
    ] {
        assert_eq!(names(&api.get(path).await.ok()), expected, "{path}");
    }
}

#[tokio::test]
async fn a_single_name_is_a_page_of_its_own() {
    let api = Api::start().await;
    for name in ["web", "web-1"] {
        api.post(CONFIG_MAPS, &json!({"metadata": {"name": name}})).await.ok();
    }
    for (selector, expected) in [
        ("metadata.name=web", 1),
        ("metadata.name=web,metadata.name=web-1", 0),
        ("metadata.name=web,metadata.name!=web", 0),
        ("metadata.name=we", 0),
    ] {
        let path = format!("{CONFIG_MAPS}?limit=1&fieldSelector={selector}");
        let list = api.get(&path).await.ok();
        assert_eq!(list["items"].as_array().unwrap().len(), expected, "{selector}");
        assert!(list["metadata"].get("continue").is_none(), "{selector}");
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap();
        let exact = api.get(&format!("{path}&resourceVersion={revision}")).await.ok();
        assert_eq!(exact["items"], list["items"], "{selector}");
    }
}

#[tokio::test]
async fn what_belongs_to_the_cluster_has_no_namespace_to_select() {
    let api = Api::start().await;
    let path = "/api/v1/namespaces?fieldSelector=metadata.namespace=default";
    assert_eq!(api.get(path).await.refused().0, 400);
    let path = "/apis/scheduling.k8s.io/v1/priorityclasses?fieldSelector=metadata.namespace=x";
    assert_eq!(api.get(path).await.ok()["items"], json!([]));
}

#[tokio::test]
async fn a_selection_may_be_longer_than_what_is_read_at_once() {
    const MAPS: usize = 2_500;
    let api = Api::start().await;
    let create = |index: usize| {
        let name = format!("m-{index:04}");
        let key = Key::from(format!("/core/configmaps/default/{name}"));
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": name, "namespace": "default",
                "labels": {"odd": (index % 2 == 1).to_string()},
            },
        });
        Op::Create { key, value: map.to_string().into() }
    };
    for first in (0..MAPS).step_by(COMMIT_OPS_MAX) {
        let ops = (first..MAPS.min(first + COMMIT_OPS_MAX)).map(create).collect();
        api.store.commit(Commit { ops, durability: Durability::Durable }).await.unwrap();
    }
    let path = format!("{CONFIG_MAPS}?labelSelector=odd=true");
    let all = api.get(&path).await.ok();
    let items = all["items"].as_array().unwrap();
    assert_eq!(items.len(), MAPS / 2);
    assert_eq!(items.last().unwrap()["metadata"]["name"], "m-2499");
    assert!(all["metadata"].get("continue").is_none());
    let page = api.get(&format!("{path}&limit=1100")).await.ok();
    let token = page["metadata"]["continue"].as_str().unwrap();
    let rest = api.get(&format!("{path}&limit=1100&continue={token}")).await.ok();
    let count = |list: &Value| list["items"].as_array().unwrap().len();
    assert_eq!((count(&page), count(&rest)), (1_100, 150));
}
