//! Containers that end and start again.

use crate::rig::{Rig, container, waiting};
use serde_json::{Value, json};

fn first(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

#[tokio::test]
async fn a_crashing_container_waits_longer_and_longer() {
    let rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    rig.running("web").await;
    rig.runtime.exit("a", 1);
    rig.listing_until(&["a/0=exit1", "a/1=run"]).await;
    let pod = rig.pod_until("web", |pod| first(pod)["restartCount"] == 1).await;
    assert_eq!(first(&pod)["lastState"]["terminated"]["exitCode"], 1);
    rig.runtime.exit("a", 2);
    let pod = rig.pod_until("web", |pod| waiting(pod) == "CrashLoopBackOff").await;
    let message = first(&pod)["state"]["waiting"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("back-off 10s restarting failed container=a pod=web_default("));
    assert_eq!(first(&pod)["lastState"]["terminated"]["exitCode"], 2);
    assert_eq!(pod["status"]["phase"], "Running");
    rig.listing_until(&["a/1=exit2"]).await;
    rig.pass(11);
    rig.listing_until(&["a/1=exit2", "a/2=run"]).await;
    rig.runtime.exit("a", 2);
    rig.pod_until("web", |pod| {
        let message = first(pod)["state"]["waiting"]["message"].as_str().unwrap_or_default();
        message.starts_with("back-off 20s")
    })
    .await;
    rig.event_until("BackOff: Back-off restarting failed container a in pod web_default(").await;
}

#[tokio::test]
async fn a_container_that_ran_well_is_forgiven() {
    let rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    rig.running("web").await;
    rig.runtime.exit("a", 1);
    rig.listing_until(&["a/0=exit1", "a/1=run"]).await;
    rig.pass(601);
    rig.runtime.exit("a", 1);
    rig.listing_until(&["a/1=exit1", "a/2=run"]).await;
}

#[tokio::test]
async fn only_failures_are_repeated_on_failure() {
    let rig = Rig::start().await;
    let spec =
        json!({ "restartPolicy": "OnFailure", "containers": [container("a"), container("b")] });
    rig.create_pod("job", spec).await;
    rig.running("job").await;
    rig.runtime.exit("a", 0);
    rig.runtime.exit("b", 1);
    rig.listing_until(&["a/0=exit0", "b/0=exit1", "b/1=run"]).await;
    rig.runtime.exit("b", 0);
    rig.phase_until("job", "Succeeded").await;
}

#[tokio::test]
async fn a_lost_sandbox_is_made_anew() {
    let rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    rig.running("web").await;
    rig.runtime.lose_sandbox();
    rig.listing_until(&["a/0=exit137", "a/1=run"]).await;
    let pod = rig.pod_until("web", |pod| first(pod)["restartCount"] == 1).await;
    assert_eq!(pod["status"]["podIP"], "10.42.0.2");
    assert_eq!(rig.network.attached().len(), 1);
    rig.event_until("SandboxChanged: ").await;
}

#[tokio::test]
async fn another_image_replaces_the_container() {
    let rig = Rig::start().await;
    rig.runtime.add_image("web:2");
    rig.create_pod("web", json!({ "restartPolicy": "Never" })).await;
    rig.running("web").await;
    let path = "/api/v1/namespaces/default/pods/web";
    let image = json!({ "spec": { "containers": [{ "name": "a", "image": "web:2" }] } });
    rig.api.patch(path, "strategic-merge", &image).await.ok();
    rig.listing_until(&["a/0=exit143", "a/1=run"]).await;
    rig.pod_until("web", |pod| first(pod)["image"] == "docker.io/library/web:2").await;
    rig.event_until("Killing: Container a definition changed, will be restarted").await;
}

#[tokio::test]
async fn a_container_that_cannot_run_is_tried_again() {
    let rig = Rig::start().await;
    rig.runtime.fail("start_container", 1);
    rig.create_pod("web", json!({})).await;
    rig.event_until("Failed: Error: start_container failed: it was told to fail").await;
    rig.running("web").await;
    assert_eq!(rig.runtime.listing(), ["a/1=run"]);
}
