//! A kubelet that starts where another has been.

use crate::rig::{Rig, container, waiting};
use crate::support::eventually;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

fn first(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

#[tokio::test]
async fn what_runs_is_taken_over_untouched() {
    let mut rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    rig.running("web").await;
    rig.runtime.exit("a", 1);
    let before =
        rig.pod_until("web", |pod| first(pod)["restartCount"] == 1 && first(pod)["ready"] == true);
    let before = before.await;
    rig.stop_kubelet().await;
    rig.runtime.clear_journal();
    rig.start_kubelet();
    rig.create_pod("marker", json!({ "containers": [container("m")] })).await;
    rig.running("marker").await;
    let after = rig.pod("web").await.unwrap();
    assert_eq!(after["status"], before["status"]);
    assert_eq!(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
    assert_eq!(rig.runtime.journal(), ["sandbox marker/0", "create m/0", "start m/0"]);
}

#[tokio::test]
async fn ends_that_nobody_saw_are_noticed() {
    let mut rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    rig.create_pod("job", json!({ "restartPolicy": "Never", "containers": [container("j")] }))
        .await;
    rig.running("web").await;
    rig.running("job").await;
    rig.stop_kubelet().await;
    rig.runtime.exit("a", 1);
    rig.runtime.exit("j", 5);
    rig.start_kubelet();
    rig.pod_until("web", |pod| first(pod)["restartCount"] == 1).await;
    let job = rig.phase_until("job", "Failed").await;
    assert_eq!(first(&job)["state"]["terminated"]["exitCode"], 5);
}

#[tokio::test]
async fn pods_that_went_meanwhile_are_removed() {
    let mut rig = Rig::start().await;
    rig.create_pod("gone", json!({})).await;
    rig.create_pod("going", json!({ "containers": [container("b")] })).await;
    rig.running("gone").await;
    rig.running("going").await;
    rig.stop_kubelet().await;
    let force = json!({ "gracePeriodSeconds": 0 });
    rig.api.delete_with("/api/v1/namespaces/default/pods/gone", &force).await.ok();
    rig.delete_pod("going").await;
    assert_eq!(rig.runtime.listing(), ["a/0=run", "b/0=run"]);
    rig.start_kubelet();
    rig.gone("going").await;
    rig.listing_until(&[]).await;
    eventually("directories to go", async || {
        let left = fs::read_dir(rig.pods_dir()).unwrap().count();
        (left == 0 && rig.network.attached().is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_an_api_server_nothing_is_touched() {
    let mut rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    rig.running("web").await;
    rig.stop_kubelet().await;
    rig.line.set(false);
    rig.runtime.clear_journal();
    rig.start_kubelet();
    // Long enough for many looks, if there were any.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(rig.runtime.listing(), ["a/0=run"]);
    assert!(rig.runtime.journal().is_empty());
    rig.line.set(true);
    rig.runtime.exit("a", 1);
    rig.listing_until(&["a/0=exit1", "a/1=run"]).await;
}

#[tokio::test]
async fn a_reboot_restarts_what_restarts_and_ends_what_runs_once() {
    let mut rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    rig.create_pod("job", json!({ "restartPolicy": "Never", "containers": [container("j")] }))
        .await;
    rig.running("web").await;
    rig.running("job").await;
    rig.stop_kubelet().await;
    rig.runtime.forget_everything();
    rig.start_kubelet();
    rig.listing_until(&["a/1=run"]).await;
    rig.pod_until("web", |pod| first(pod)["restartCount"] == 1 && first(pod)["ready"] == true)
        .await;
    let job = rig.phase_until("job", "Failed").await;
    assert_eq!(first(&job)["state"]["terminated"]["reason"], "ContainerStatusUnknown");
}

/// Under load, what a kubelet reads when it starts comes in any order.
#[tokio::test]
async fn a_container_that_is_due_starts_when_services_are_known_at_last() {
    let mut rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    rig.running("web").await;
    rig.stop_kubelet().await;
    rig.runtime.exit("a", 1);
    rig.line.hold(Some("/api/v1/services"));
    rig.start_kubelet();
    let path = "/api/v1/namespaces/default/pods/web";
    rig.pod_until("web", |pod| waiting(pod) == "CreateContainerConfigError").await;
    // What is told of it has been heard by the node as well, and everything rests.
    let before = rig.api.get(path).await.ok();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(rig.api.get(path).await.ok(), before);
    rig.line.hold(None);
    rig.listing_until(&["a/0=exit1", "a/1=run"]).await;
}

/// What is in the way of a container's files is nothing that anybody tells of when it goes.
#[tokio::test]
async fn files_that_cannot_be_made_are_tried_again() {
    let rig = Rig::start().await;
    let logs = rig.files.path().join("logs");
    fs::write(&logs, "in the way").unwrap();
    rig.create_pod("web", json!({})).await;
    let pod = rig.pod_until("web", |pod| waiting(pod) == "CreateContainerConfigError").await;
    let message = first(&pod)["state"]["waiting"]["message"].as_str().unwrap();
    assert!(message.starts_with("cannot prepare the container's files"), "{message}");
    fs::remove_file(&logs).unwrap();
    rig.running("web").await;
}
