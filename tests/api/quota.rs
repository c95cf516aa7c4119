//! Quotas are never exceeded, whoever creates at the same time.

use super::support::Api;
use futures_util::future::join_all;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

/// A quota that somebody has counted.
async fn quota(api: &Api, name: &str, hard: &Value) {
    let quota = json!({"metadata": {"name": name}, "spec": {"hard": hard}});
    api.post(QUOTAS, &quota).await.ok();
    let used: serde_json::Map<_, _> =
        hard.as_object().unwrap().keys().map(|name| (name.clone(), json!("0"))).collect();
    let status = json!({"status": {"hard": hard, "used": used}});
    api.patch(&format!("{QUOTAS}/{name}/status"), "merge", &status).await.ok();
}

async fn used(api: &Api, name: &str) -> Value {
    api.get(&format!("{QUOTAS}/{name}")).await.ok()["status"]["used"].clone()
}

fn pod(name: &str) -> Value {
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}});
    json!({"metadata": {"name": name}, "spec": {"containers": [container]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_at_once_find_room_for_ten() {
    let api = Api::start().await;
    quota(&api, "few", &json!({"pods": "10", "requests.cpu": "2"})).await;
    let pods: Vec<_> = (0..50).map(|number| pod(&format!("p{number}"))).collect();
    let answers = join_all(pods.iter().map(|pod| api.post(PODS, pod))).await;
    let (created, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.code == 201);
    assert_eq!((created.len(), refused.len()), (10, 40));
    for answer in refused {
        let (code, _, message) = answer.refused();
        assert_eq!(code, 403, "{message}");
        assert!(
            message.ends_with(
                "exceeded quota: few, requested: pods=1, used: pods=10, limited: pods=10"
            ),
            "{message}"
        );
    }
    assert_eq!(api.get(PODS).await.ok()["items"].as_array().unwrap().len(), 10);
    assert_eq!(used(&api, "few").await, json!({"pods": "10", "requests.cpu": "1"}));
}

#[tokio::test]
async fn what_is_refused_or_tried_is_not_charged() {
    let api = Api::start().await;
    quota(&api, "one", &json!({"pods": "1", "count/configmaps": "1"})).await;
    let dry = api.post(&format!("{PODS}?dryRun=All"), &pod("a")).await;
    assert_eq!(dry.code, 201, "{}", dry.text());
    let mut invalid = pod("a");
    invalid["spec"]["restartPolicy"] = json!("Sometimes");
    assert_eq!(api.post(PODS, &invalid).await.code, 422);
    assert_eq!(used(&api, "one").await["pods"], "0");
    api.post(PODS, &pod("a")).await.ok();
    assert_eq!(api.post(PODS, &pod("a")).await.code, 403, "the quota speaks first");
    assert_eq!(used(&api, "one").await["pods"], "1");
    let map = |name: &str| json!({"metadata": {"name": name}});
    let maps = "/api/v1/namespaces/default/configmaps";
    api.post(maps, &map("a")).await.ok();
    let (_, _, message) = api.post(maps, &map("b")).await.refused();
    assert!(message.contains("requested: count/configmaps=1"), "{message}");
    api.post("/api/v1/namespaces/kube-public/configmaps", &map("b")).await.ok();
}

#[tokio::test]
async fn every_quota_must_have_room() {
    let api = Api::start().await;
    quota(&api, "wide", &json!({"pods": "5"})).await;
    quota(&api, "narrow", &json!({"requests.cpu": "150m"})).await;
    api.post(PODS, &pod("a")).await.ok();
    let (_, _, message) = api.post(PODS, &pod("b")).await.refused();
    assert!(message.contains("exceeded quota: narrow"), "{message}");
    assert_eq!(used(&api, "wide").await["pods"], "1");
    let silent =
        json!({"metadata": {"name": "c"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let (_, _, message) = api.post(PODS, &silent).await.refused();
    assert!(
        message.ends_with("failed quota: narrow: must specify requests.cpu for: c"),
        "{message}"
    );
}

#[tokio::test]
async fn a_service_is_charged_for_what_it_becomes() {
    let api = Api::start().await;
    quota(&api, "q", &json!({"services": "2", "services.nodeports": "1"})).await;
    let services = "/api/v1/namespaces/default/services";
    let service = json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}});
    api.post(services, &service).await.ok();
    let widen = json!({"spec": {"type": "NodePort"}});
    api.patch(&format!("{services}/a"), "merge", &widen).await.ok();
    assert_eq!(used(&api, "q").await, json!({"services": "1", "services.nodeports": "1"}));
    let second =
        json!({"metadata": {"name": "b"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let (_, _, message) = api.post(services, &second).await.refused();
    assert!(message.contains("requested: services.nodeports=1"), "{message}");
}
