//! Pods that are deleted: with grace, by force, and while they start.

use crate::rig::{Rig, container};
use crate::runtime::OnTerm;
use crate::support::eventually;
use serde_json::json;
use std::fs;

/// Nothing is left of any pod on the node.
async fn nothing_is_left(rig: &Rig) {
    eventually("the node to be clean", async || {
        let directories = ["pods", "memory", "logs"].map(|name| rig.files.path().join(name));
        let count = |path| fs::read_dir(path).map_or(0, Iterator::count);
        let files: usize = directories.iter().map(count).sum();
        let clean =
            files == 0 && rig.runtime.sandbox_count() == 0 && rig.network.attached().is_empty();
        clean.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_deleted_pod_ends_and_leaves_nothing() {
    let rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    rig.running("web").await;
    rig.delete_pod("web").await;
    rig.gone("web").await;
    nothing_is_left(&rig).await;
    let journal = rig.runtime.journal();
    assert!(journal.contains(&"stop a/0 30".to_owned()), "{journal:?}");
    rig.event_until("Killing: Stopping container a").await;
}

#[tokio::test]
async fn a_stubborn_container_is_killed_after_its_grace() {
    let rig = Rig::start().await;
    rig.runtime.on_term("a", OnTerm::Ignores);
    rig.create_pod("web", json!({ "terminationGracePeriodSeconds": 2 })).await;
    rig.running("web").await;
    let since = tokio::time::Instant::now();
    rig.delete_pod("web").await;
    rig.gone("web").await;
    let seconds = since.elapsed().as_secs_f64();
    assert!((1.5..5.0).contains(&seconds), "{seconds}");
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn a_shorter_grace_counts_when_it_comes_later() {
    let rig = Rig::start().await;
    rig.runtime.on_term("a", OnTerm::Ignores);
    rig.create_pod("web", json!({ "terminationGracePeriodSeconds": 600 })).await;
    rig.running("web").await;
    rig.delete_pod("web").await;
    eventually("the signal", async || {
        rig.runtime.journal().contains(&"stop a/0 600".to_owned()).then_some(())
    })
    .await;
    let path = "/api/v1/namespaces/default/pods/web";
    rig.api.delete_with(path, &json!({ "gracePeriodSeconds": 1 })).await.ok();
    rig.gone("web").await;
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn a_pod_removed_by_force_is_ended_all_the_same() {
    let rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    rig.running("web").await;
    let path = "/api/v1/namespaces/default/pods/web";
    rig.api.delete_with(path, &json!({ "gracePeriodSeconds": 0 })).await.ok();
    rig.gone("web").await;
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn a_successor_of_the_same_name_is_another_pod() {
    let rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    let first = rig.running("web").await;
    let path = "/api/v1/namespaces/default/pods/web";
    rig.api.delete_with(path, &json!({ "gracePeriodSeconds": 0 })).await.ok();
    rig.create_pod("web", json!({ "containers": [container("b")] })).await;
    let second = rig.running("web").await;
    assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"]);
    rig.listing_until(&["b/0=run"]).await;
    eventually("the first one's files to go", async || {
        (fs::read_dir(rig.pods_dir()).unwrap().count() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_waits_for_something_can_be_deleted() {
    let rig = Rig::start().await;
    let spec = json!({ "volumes": [{ "name": "v", "configMap": { "name": "missing" } }] });
    rig.create_pod("web", spec).await;
    rig.event_until(
        "FailedMount: MountVolume.SetUp failed for volume \"v\" : configmap \"missing\" not found",
    )
    .await;
    rig.delete_pod("web").await;
    rig.gone("web").await;
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn the_last_status_is_told_before_the_pod_goes() {
    let rig = Rig::start().await;
    let finalizer = json!({ "metadata": { "finalizers": ["example.com/keep"] } });
    rig.create_pod("web", json!({})).await;
    let path = "/api/v1/namespaces/default/pods/web";
    rig.api.patch(path, "merge", &finalizer).await.ok();
    rig.running("web").await;
    rig.delete_pod("web").await;
    let pod = rig.phase_until("web", "Failed").await;
    let state = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(state["exitCode"], 143);
    nothing_is_left(&rig).await;
    rig.api.patch(path, "merge", &json!({ "metadata": { "finalizers": [] } })).await.ok();
    rig.gone("web").await;
}

#[tokio::test]
async fn what_cannot_be_cleaned_up_is_tried_again() {
    let rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    rig.running("web").await;
    rig.runtime.fail("remove_sandbox", 2);
    rig.delete_pod("web").await;
    rig.gone("web").await;
    nothing_is_left(&rig).await;
}
