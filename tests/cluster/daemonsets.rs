//! DaemonSets: which nodes, updates, rollbacks and their revisions.

use crate::cluster::{BROKEN, Cluster, template};
use crate::support::eventually;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use kinglet::api::pod::{is_active, is_ready, node_name};
use kinglet::client::{DeleteOptions, Patch, key_of};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const PATH: &str = "/apis/apps/v1/namespaces/default/daemonsets";
const REVISIONS: &str = "/apis/apps/v1/namespaces/default/controllerrevisions";

async fn add_node(cluster: &Cluster, name: &str) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    let node: Node = serde_json::from_value(node).unwrap();
    cluster.client.create(&node).await.unwrap();
    // It would not be ready otherwise.
    let untaint = json!({"spec": {"taints": null}});
    cluster.api.patch(&format!("/api/v1/nodes/{name}"), "merge", &untaint).await.ok();
}

async fn with_nodes(count: usize) -> Cluster {
    let cluster = Cluster::start().await;
    for number in 1..=count {
        add_node(&cluster, &format!("n{number}")).await;
    }
    cluster
}

/// Waits until so many nodes have a pod of the newest template that is available.
async fn rolled_out(cluster: &Cluster, name: &str, nodes: i32) -> DaemonSet {
    cluster
        .until(name, |set: &DaemonSet| {
            let Some(status) = &set.status else { return false };
            let counts = [
                Some(status.desired_number_scheduled),
                status.updated_number_scheduled,
                status.number_available,
            ];
            status.observed_generation == set.metadata.generation
                && status.number_misscheduled == 0
                && counts.iter().all(|count| count.unwrap_or_default() == nodes)
        })
        .await
}

/// The active pods by their nodes, with their names and images.
async fn pods(cluster: &Cluster) -> BTreeMap<String, (String, String)> {
    let all = cluster.list::<Pod>().await;
    let entry = |pod: Pod| {
        let node = node_name(&pod).unwrap_or_default().to_owned();
        let image = pod.spec.unwrap().containers[0].image.clone().unwrap();
        (node, (pod.metadata.name.unwrap(), image))
    };
    all.into_iter().filter(is_active).map(entry).collect()
}

async fn nodes(cluster: &Cluster) -> Vec<String> {
    pods(cluster).await.into_keys().collect()
}

#[tokio::test]
async fn every_node_has_its_pod() {
    let cluster = with_nodes(2).await;
    cluster.make::<DaemonSet>("log", json!({"template": template("one")})).await;
    rolled_out(&cluster, "log", 2).await;
    assert_eq!(nodes(&cluster).await, ["n1", "n2"]);
    let lost = cluster.list::<Pod>().await.remove(0);
    cluster.client.delete::<Pod>(&key_of(&lost.metadata), &DeleteOptions::default()).await.unwrap();
    eventually("another pod", async || {
        let pods = cluster.list::<Pod>().await;
        let is_new = pods.iter().all(|pod| pod.metadata.uid != lost.metadata.uid);
        (is_new && pods.len() == 2).then_some(())
    })
    .await;
    add_node(&cluster, "n3").await;
    rolled_out(&cluster, "log", 3).await;
    // Failed pods are retried.
    let failing = cluster.list::<Pod>().await.remove(0);
    let failed = Patch::Merge(json!({"status": {"phase": "Failed", "conditions": null}}));
    cluster.client.patch::<Pod>(&key_of(&failing.metadata), &failed, Some("status")).await.unwrap();
    eventually("another pod", async || {
        let pods = cluster.list::<Pod>().await;
        pods.iter().all(|pod| pod.metadata.uid != failing.metadata.uid).then_some(())
    })
    .await;
    rolled_out(&cluster, "log", 3).await;
    // That nodes live wakes nobody.
    let rest = cluster.at_rest().await;
    for heartbeat in 0..3 {
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True",
            "lastHeartbeatTime": format!("2026-11-20T12:00:0{heartbeat}Z")}]}});
        cluster.api.patch("/api/v1/nodes/n1/status", "merge", &status).await.ok();
    }
    let later = cluster.at_rest().await;
    assert!(later.0 - rest.0 <= 3, "{rest:?} {later:?}");
}

#[tokio::test]
async fn nodes_are_chosen_by_their_labels_and_taints() {
    let cluster = with_nodes(2).await;
    let mut selective = template("one");
    selective["spec"]["nodeSelector"] = json!({"color": "blue"});
    cluster.make::<DaemonSet>("log", json!({"template": selective})).await;
    rolled_out(&cluster, "log", 0).await;
    let paint = async |node: &str, color: Value| {
        let patch = json!({"metadata": {"labels": {"color": color}}});
        cluster.api.patch(&format!("/api/v1/nodes/{node}"), "merge", &patch).await.ok();
    };
    paint("n1", json!("blue")).await;
    rolled_out(&cluster, "log", 1).await;
    assert_eq!(nodes(&cluster).await, ["n1"]);
    paint("n1", json!("green")).await;
    cluster.counted::<Pod>(0).await;
    let green = json!({"spec": {"template": {"spec": {"nodeSelector": {"color": "green"}}},
        "updateStrategy": {"type": "RollingUpdate"}}});
    cluster.patch::<DaemonSet>("log", green).await;
    rolled_out(&cluster, "log", 1).await;
    paint("n2", json!("green")).await;
    rolled_out(&cluster, "log", 2).await;
    let hostile = json!({"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}});
    cluster.api.patch("/api/v1/nodes/n2", "merge", &hostile).await.ok();
    rolled_out(&cluster, "log", 1).await;
    cluster.counted::<Pod>(1).await;
    assert_eq!(nodes(&cluster).await, ["n1"]);
}

/// Watches that enough pods are ready, and not too many are there.
fn watch_bounds(cluster: &Cluster, ready_min: usize, there_max: usize) -> Arc<Mutex<Vec<String>>> {
    let broken = Arc::<Mutex<Vec<String>>>::default();
    let (record, cache) = (Arc::clone(&broken), Arc::clone(&cluster.pods));
    cluster.pods.on_change(move |_| {
        let active: Vec<_> = cache.list().into_iter().filter(|pod| is_active(pod)).collect();
        let ready = active.iter().filter(|pod| is_ready(pod)).count();
        if ready < ready_min || active.len() > there_max {
            record.lock().unwrap().push(format!("{ready} of {} are ready", active.len()));
        }
    });
    broken
}

#[tokio::test]
async fn templates_roll_out_within_bounds() {
    for (strategy, ready_min, there_max) in [
        (json!({"maxUnavailable": 1}), 3, 4),
        (json!({"maxUnavailable": "50%"}), 2, 4),
        (json!({"maxUnavailable": 0, "maxSurge": 2}), 4, 6),
    ] {
        let cluster = with_nodes(4).await;
        let strategy = json!({"type": "RollingUpdate", "rollingUpdate": strategy});
        cluster
            .make::<DaemonSet>(
                "log",
                json!({"template": template("one"), "updateStrategy": strategy}),
            )
            .await;
        rolled_out(&cluster, "log", 4).await;
        // What is watched may be behind what the controller has seen.
        eventually("all are seen to be ready", async || {
            let pods = cluster.pods.list();
            (pods.iter().filter(|pod| is_ready(pod)).count() == 4).then_some(())
        })
        .await;
        let broken = watch_bounds(&cluster, ready_min, there_max);
        cluster.patch::<DaemonSet>("log", json!({"spec": {"template": template("two")}})).await;
        rolled_out(&cluster, "log", 4).await;
        cluster.counted::<Pod>(4).await;
        assert_eq!(*broken.lock().unwrap(), [""; 0]);
        assert!(pods(&cluster).await.values().all(|(_, image)| image == "two"));
    }
}

#[tokio::test]
async fn a_rollback_restarts_nothing_that_was_not_updated() {
    let cluster = with_nodes(3).await;
    cluster.make::<DaemonSet>("log", json!({"template": template("one")})).await;
    rolled_out(&cluster, "log", 3).await;
    let first = cluster.counted::<ControllerRevision>(1).await.remove(0);
    let before = pods(&cluster).await;
    cluster.patch::<DaemonSet>("log", json!({"spec": {"template": template(BROKEN)}})).await;
    eventually("one broken pod", async || {
        let pods = pods(&cluster).await;
        pods.values().any(|(_, image)| image == BROKEN).then_some(())
    })
    .await;
    cluster.at_rest().await;
    let undo = Patch::Strategic(first.data.unwrap().0);
    let key = kinglet::api::ObjectKey::namespaced("default", "log");
    cluster.client.patch::<DaemonSet>(&key, &undo, None).await.unwrap();
    rolled_out(&cluster, "log", 3).await;
    let after = pods(&cluster).await;
    let kept = before.iter().filter(|(node, pod)| after.get(*node) == Some(*pod)).count();
    assert_eq!(kept, 2, "{before:?} {after:?}");
    let revisions = cluster.counted::<ControllerRevision>(2).await;
    assert_eq!(revisions.iter().map(|revision| revision.revision).max(), Some(3));
}

#[tokio::test]
async fn the_api_of_daemon_sets_and_their_revisions_is_whole() {
    let cluster = with_nodes(1).await;
    let labels = json!({"metadata": {"labels": {"test": "yes"}}});
    cluster.make::<DaemonSet>("log", json!({"template": template("one")})).await;
    cluster.patch::<DaemonSet>("log", labels).await;
    rolled_out(&cluster, "log", 1).await;
    let condition = json!({"status": {"conditions": [{"type": "StatusUpdate", "status": "True"}]}});
    cluster.api.patch(&format!("{PATH}/log/status"), "merge", &condition).await.ok();
    cluster.at_rest().await;
    let status = cluster.api.get(&format!("{PATH}/log/status")).await.ok();
    assert_eq!(status["status"]["conditions"][0]["type"], "StatusUpdate");

    let running = pods(&cluster).await;
    revisions_are_users_too(&cluster).await;
    rolled_out(&cluster, "log", 1).await;
    assert_ne!(pods(&cluster).await, running);
    cluster.api.delete(&format!("{PATH}?labelSelector=test%3Dyes")).await.ok();
    cluster.counted::<DaemonSet>(0).await;
    cluster.counted::<Pod>(0).await;
    cluster.counted::<ControllerRevision>(0).await;
}

/// Reads, labels, replaces and deletes revisions, as upstream's conformance test of them does.
async fn revisions_are_users_too(cluster: &Cluster) {
    let revision = cluster.counted::<ControllerRevision>(1).await.remove(0);
    let path = format!("{REVISIONS}/{}", revision.metadata.name.as_deref().unwrap());
    let mut first = cluster.api.get(&path).await.ok();
    assert_eq!(first["revision"], 1);
    let label = json!({"metadata": {"labels": {"mine": "yes"}}});
    let labelled = cluster.api.patch(&path, "merge", &label).await.ok();
    assert_eq!(labelled["metadata"]["labels"]["mine"], "yes");
    cluster.at_rest().await;

    // Another of the same template; then the first goes.
    let metadata = &mut first["metadata"];
    metadata["labels"]["controller-revision-hash"] = json!("other");
    let kept = json!({"name": "log-other", "labels": metadata["labels"],
        "ownerReferences": metadata["ownerReferences"]});
    let other = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": kept,
        "data": first["data"], "revision": 2});
    cluster.api.post(REVISIONS, &other).await.ok();
    cluster.at_rest().await;
    cluster.counted::<ControllerRevision>(2).await;
    cluster.api.delete(&path).await.ok();
    cluster.at_rest().await;
    let left = cluster.counted::<ControllerRevision>(1).await.remove(0);
    assert_eq!((left.metadata.name.as_deref(), left.revision), (Some("log-other"), 2));
    let mut updated = cluster.api.get(&format!("{REVISIONS}/log-other")).await.ok();
    updated["metadata"]["labels"]["log-other"] = json!("updated");
    cluster.api.put(&format!("{REVISIONS}/log-other"), &updated).await.ok();

    let newer = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 0}}}});
    cluster.patch::<DaemonSet>("log", newer).await;
    cluster.counted::<ControllerRevision>(2).await;
    rolled_out(cluster, "log", 1).await;
    let old = format!("{REVISIONS}?labelSelector=log-other%3Dupdated");
    cluster.api.delete(&old).await.ok();
    cluster.at_rest().await;
    assert_eq!(cluster.counted::<ControllerRevision>(1).await[0].revision, 3);
}
