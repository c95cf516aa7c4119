//! Pods that ask for more, or less, while they run.

use crate::rig::{NODE, Rig, condition};
use serde_json::{Value, json};

const PATH: &str = "/api/v1/namespaces/default/pods/web/resize";

fn asking(limits: &Value) -> Value {
    json!({ "containers": [{ "name": "a", "image": "web:1", "resources": { "limits": limits } }] })
}

async fn resize(rig: &Rig, limits: &Value) -> Value {
    let resources = json!({ "limits": limits, "requests": limits });
    let patch = json!({ "spec": { "containers": [{ "name": "a", "resources": resources }] } });
    rig.api.patch(PATH, "strategic-merge", &patch).await.ok()
}

fn first(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

fn reason(pod: &Value, kind: &str) -> String {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.map(|it| it["reason"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn a_container_that_runs_gets_more() {
    let rig = Rig::start().await;
    rig.create_pod("web", asking(&json!({ "cpu": "100m", "memory": "64Mi" }))).await;
    rig.running("web").await;
    rig.runtime.fail("update_container", 1);
    resize(&rig, &json!({ "cpu": "200m", "memory": "32Mi" })).await;
    let pod = rig.pod_until("web", |pod| reason(pod, "PodResizeInProgress") == "Error").await;
    assert_eq!(first(&pod)["allocatedResources"]["cpu"], "200m");
    assert_eq!(first(&pod)["resources"]["limits"]["cpu"], "100m");
    rig.pass(2);
    let pod = rig
        .pod_until("web", |pod| {
            first(pod)["resources"]["limits"]["cpu"] == "200m"
                && condition(pod, "PodResizeInProgress").is_empty()
        })
        .await;
    assert_eq!(pod["status"]["observedGeneration"], 2);
    assert_eq!(first(&pod)["restartCount"], 0);
    let given = rig.runtime.resources_of("a");
    assert_eq!((given.cpu_quota, given.memory_limit_bytes), (Some(20_000), Some(32 << 20)));
    rig.event_until("ResizeCompleted: Pod resize completed: {\"containers\":[").await;
}

#[tokio::test]
async fn what_there_is_no_room_for_waits() {
    let mut rig = Rig::start().await;
    let node = rig.api.get(&format!("/api/v1/nodes/{NODE}")).await.ok();
    let cpu = node["status"]["allocatable"]["cpu"].as_str().unwrap().to_owned();
    rig.create_pod("web", asking(&json!({ "cpu": "100m", "memory": "64Mi" }))).await;
    let mut other = asking(&json!({ "cpu": cpu, "memory": "1Mi" }));
    other["containers"][0]["name"] = json!("b");
    other["containers"][0]["resources"]["requests"] = json!({ "cpu": "1m", "memory": "1Mi" });
    rig.create_pod("other", other).await;
    rig.running("web").await;
    rig.running("other").await;
    resize(&rig, &json!({ "cpu": cpu, "memory": "64Mi" })).await;
    let pod = rig.pod_until("web", |pod| reason(pod, "PodResizePending") == "Deferred").await;
    assert_eq!(first(&pod)["allocatedResources"]["cpu"], "100m");
    // A kubelet that restarts knows what was granted.
    rig.stop_kubelet().await;
    rig.start_kubelet();
    rig.pod_until("web", |pod| reason(pod, "PodResizePending") == "Deferred").await;
    assert_eq!(rig.runtime.resources_of("a").cpu_quota, Some(10_000));
    rig.delete_pod("other").await;
    rig.pod_until("web", |pod| {
        condition(pod, "PodResizePending").is_empty()
            && first(pod)["resources"]["limits"]["cpu"] == cpu
    })
    .await;
    let too_much = json!({ "cpu": "100000", "memory": "64Mi" });
    resize(&rig, &too_much).await;
    rig.pod_until("web", |pod| reason(pod, "PodResizePending") == "Infeasible").await;
    rig.event_until(
        "ResizeInfeasible: Pod resize Infeasible: Node didn't have enough capacity: cpu",
    )
    .await;
}

#[tokio::test]
async fn a_container_may_have_to_be_restarted_for_it() {
    let rig = Rig::start().await;
    let mut spec = asking(&json!({ "cpu": "100m", "memory": "64Mi" }));
    spec["containers"][0]["resizePolicy"] = json!([
        { "resourceName": "memory", "restartPolicy": "RestartContainer" },
    ]);
    rig.create_pod("web", spec).await;
    rig.running("web").await;
    resize(&rig, &json!({ "cpu": "200m", "memory": "64Mi" })).await;
    rig.pod_until("web", |pod| first(pod)["resources"]["limits"]["cpu"] == "200m").await;
    assert_eq!(rig.runtime.listing(), ["a/0=run"]);
    resize(&rig, &json!({ "cpu": "200m", "memory": "128Mi" })).await;
    rig.event_until("Killing: Container a resize requires restart").await;
    rig.pod_until("web", |pod| {
        first(pod)["restartCount"] == 1 && first(pod)["resources"]["limits"]["memory"] == "128Mi"
    })
    .await;
    assert_eq!(rig.runtime.resources_of("a").memory_limit_bytes, Some(128 << 20));
}
