//! What is filled in and refused when pods and claims are created.

use super::support::Api;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";

fn pod(name: &str, resources: &Value) -> Value {
    let container = json!({"name": "c", "image": "i", "resources": resources});
    json!({"metadata": {"name": name}, "spec": {"containers": [container]}})
}

async fn limit(api: &Api, item: Value) {
    let range = json!({"metadata": {"generateName": "r-"}, "spec": {"limits": [item]}});
    api.post("/api/v1/namespaces/default/limitranges", &range).await.ok();
}

#[tokio::test]
async fn limit_ranges_fill_in_and_refuse() {
    let api = Api::start().await;
    limit(&api, json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "2"}})).await;
    let created = api.post(PODS, &pod("a", &json!({}))).await.ok();
    assert_eq!(
        created["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "1"}, "requests": {"cpu": "100m"}})
    );
    assert_eq!(
        created["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let (code, reason, message) =
        api.post(PODS, &pod("b", &json!({"limits": {"cpu": "3"}}))).await.refused();
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        message,
        "pods \"b\" is forbidden: maximum cpu usage per Container is 2, but limit is 3"
    );
}

#[tokio::test]
async fn a_pod_runs_as_an_account_that_is_there() {
    let api = Api::start().await;
    let created = api.post(PODS, &pod("a", &json!({}))).await.ok();
    assert_eq!(created["spec"]["serviceAccountName"], "default");
    let mut other = pod("b", &json!({}));
    other["spec"]["serviceAccountName"] = json!("robot");
    let (code, _, message) = api.post(PODS, &other).await.refused();
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "pods \"b\" is forbidden: error looking up service account default/robot: \
         serviceaccount \"robot\" not found"
    );
    let robot = json!({"metadata": {"name": "robot"}, "imagePullSecrets": [{"name": "pull"}]});
    api.post("/api/v1/namespaces/default/serviceaccounts", &robot).await.ok();
    let created = api.post(PODS, &other).await.ok();
    assert_eq!(created["spec"]["serviceAccountName"], "robot");
    assert_eq!(created["spec"]["imagePullSecrets"], json!([{"name": "pull"}]));
}

#[tokio::test]
async fn the_account_of_a_new_namespace_is_waited_for() {
    let api = Api::start().await;
    api.post("/api/v1/namespaces", &json!({"metadata": {"name": "fresh"}})).await.ok();
    let pod = pod("a", &json!({}));
    let create = api.post("/api/v1/namespaces/fresh/pods", &pod);
    let (created, ()) = tokio::join!(create, api.give_account("fresh"));
    created.ok();
}

#[tokio::test]
async fn claims_get_the_default_class() {
    let api = Api::start().await;
    let class = |name: &str| {
        json!({"metadata": {"name": name, "annotations":
            {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "example.com/p"})
    };
    api.post("/apis/storage.k8s.io/v1/storageclasses", &class("fast")).await.ok();
    let claim = |name: &str, class: Option<&str>| {
        let mut claim = json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}});
        if let Some(class) = class {
            claim["spec"]["storageClassName"] = json!(class);
        }
        claim
    };
    for (name, class, expected) in
        [("a", None, json!("fast")), ("b", Some(""), json!("")), ("c", Some("slow"), json!("slow"))]
    {
        let created = api.post(CLAIMS, &claim(name, class)).await.ok();
        assert_eq!(created["spec"]["storageClassName"], expected, "{name}");
    }
}

#[tokio::test]
async fn claims_grow_where_their_class_says_so() {
    let api = Api::start().await;
    for (name, can_grow) in [("rubber", true), ("stone", false)] {
        let class = json!({"metadata": {"name": name}, "provisioner": "example.com/p",
            "allowVolumeExpansion": can_grow});
        api.post("/apis/storage.k8s.io/v1/storageclasses", &class).await.ok();
        let claim = json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
            "storageClassName": name, "resources": {"requests": {"storage": "1Gi"}}}});
        api.post(CLAIMS, &claim).await.ok();
    }
    let grow = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let path = |name: &str| format!("{CLAIMS}/{name}");
    for name in ["rubber", "stone"] {
        let bound = json!({"status": {"phase": "Bound"}});
        api.patch(&format!("{}/status", path(name)), "merge", &bound).await.ok();
    }
    api.patch(&path("rubber"), "merge", &grow).await.ok();
    let (_, _, message) = api.patch(&path("stone"), "merge", &grow).await.refused();
    assert!(message.contains("only dynamically provisioned pvc can be resized"), "{message}");
}
