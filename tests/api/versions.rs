//! Kinds that are served in more than one version, of which one is stored.

use super::support::Api;
use serde_json::json;

const V1: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
const V2: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";

#[tokio::test]
async fn an_object_is_seen_and_written_through_every_version() {
    let api = Api::start().await;
    let mut watch_v1 = api.watch(&format!("{V1}?watch=true")).await;
    let mut watch_v2 = api.watch(&format!("{V2}?watch=true")).await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let old = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"}, "spec": {"maxReplicas": 5, "scaleTargetRef": target,
            "targetCPUUtilizationPercentage": 70}});
    let created = api.post(V1, &old).await.ok();
    assert_eq!(created["apiVersion"], "autoscaling/v1");
    assert_eq!(created["spec"]["minReplicas"], 1);
    assert_eq!(watch_v1.short().await, "ADDED web");
    assert_eq!(watch_v2.short().await, "ADDED web");

    let mut new = api.get(&format!("{V2}/web")).await.ok();
    assert_eq!(new["apiVersion"], "autoscaling/v2");
    assert_eq!(new["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    assert_eq!(new["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 70);
    let memory = json!({"type": "Resource", "resource": {"name": "memory",
        "target": {"type": "AverageValue", "averageValue": "1Gi"}}});
    new["spec"]["metrics"].as_array_mut().unwrap().push(memory.clone());
    api.put(&format!("{V2}/web"), &new).await.ok();

    // What version 1 cannot say is not lost when it is written.
    let mut shown = api.get(&format!("{V1}/web")).await.ok();
    shown["spec"]["maxReplicas"] = json!(9);
    api.put(&format!("{V1}/web"), &shown).await.ok();
    let list = api.get(V2).await.ok();
    assert_eq!(list["apiVersion"], "autoscaling/v2");
    let stored = &list["items"][0];
    assert_eq!(stored["spec"]["maxReplicas"], 9);
    let metrics = stored["spec"]["metrics"].as_array().unwrap();
    assert!(metrics.contains(&memory), "{metrics:?}");
    let annotations = stored["metadata"].get("annotations");
    assert!(annotations.is_none(), "{annotations:?}");
    let list = api.get(V1).await.ok();
    assert_eq!(list["apiVersion"], "autoscaling/v1");
    assert_eq!(list["items"][0]["spec"]["maxReplicas"], 9);
    api.delete(&format!("{V1}/web")).await.ok();
    assert_eq!(api.get(&format!("{V2}/web")).await.code, 404);
    let group = api.get("/apis/autoscaling").await.ok();
    assert_eq!(group["preferredVersion"]["version"], "v2");
    assert_eq!(group["versions"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_event_is_one_in_both_groups() {
    let api = Api::start().await;
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "web.1"},
        "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"},
        "reason": "Started", "message": "it runs", "type": "Normal", "count": 2});
    api.post("/api/v1/namespaces/default/events", &event).await.ok();
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    let shown = api.get(&format!("{path}/web.1")).await.ok();
    assert_eq!((&shown["note"], &shown["deprecatedCount"]), (&json!("it runs"), &json!(2)));
    assert_eq!(shown["regarding"]["name"], "web");
    let selected = api.get(&format!("{path}?fieldSelector=regarding.name=web")).await.ok();
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
}
