//! ReplicationControllers: as ReplicaSets, but that their pods outlive them.

use crate::cluster::{Cluster, template};
use crate::support::eventually;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use kinglet::api::owner::controller_of;
use kinglet::client::{Patch, Propagation, key_of};
use serde_json::{Value, json};

const PATH: &str = "/api/v1/namespaces/default/replicationcontrollers";

async fn make(cluster: &Cluster, replicas: i32) {
    let controller = json!({
        "apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "template": labelled()},
    });
    cluster.api.post(PATH, &controller).await.ok();
}

fn labelled() -> Value {
    let mut template = template("one");
    template["metadata"] = json!({"labels": {"app": "web"}});
    template
}

async fn settled(cluster: &Cluster, replicas: i32) -> ReplicationController {
    cluster
        .until("web", |it: &ReplicationController| {
            let Some(status) = &it.status else { return false };
            status.observed_generation == it.metadata.generation
                && status.replicas == replicas
                && status.available_replicas.unwrap_or_default() == replicas
                && status.fully_labeled_replicas.unwrap_or_default() == replicas
        })
        .await
}

#[tokio::test]
async fn pods_are_kept_adopted_and_released() {
    let cluster = Cluster::start().await;
    let mut orphan = labelled();
    orphan["metadata"]["name"] = json!("orphan");
    cluster.api.post("/api/v1/namespaces/default/pods", &orphan).await.ok();
    make(&cluster, 2).await;
    settled(&cluster, 2).await;
    let pods = cluster.counted::<Pod>(2).await;
    let adopted = pods.iter().find(|pod| pod.metadata.name.as_deref() == Some("orphan")).unwrap();
    assert_eq!(controller_of(&adopted.metadata).unwrap().kind, "ReplicationController");
    let labels = Patch::Merge(json!({"metadata": {"labels": {"app": "else"}}}));
    cluster.client.patch::<Pod>(&key_of(&adopted.metadata), &labels, None).await.unwrap();
    eventually("it is released", async || {
        let pod = cluster.client.get::<Pod>(&key_of(&adopted.metadata)).await.unwrap();
        controller_of(&pod.metadata).is_none().then_some(())
    })
    .await;
    cluster.counted::<Pod>(3).await;
    settled(&cluster, 2).await;
    let events = cluster.events("web").await;
    assert_eq!(events[0].0, "SuccessfulCreate");
    let rest = cluster.at_rest().await;
    assert_eq!(cluster.at_rest().await, rest);
}

#[tokio::test]
async fn sizes_are_followed_by_way_of_the_scale() {
    let cluster = Cluster::start().await;
    make(&cluster, 1).await;
    settled(&cluster, 1).await;
    let path = format!("{PATH}/web/scale");
    let mut scale = cluster.api.get(&path).await.ok();
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!(scale["status"], json!({"replicas": 1, "selector": "app=web"}));
    scale["spec"]["replicas"] = json!(3);
    assert_eq!(cluster.api.put(&path, &scale).await.ok()["spec"]["replicas"], 3);
    settled(&cluster, 3).await;
    let fewer = json!({"spec": {"replicas": 0}});
    cluster.api.patch(&path, "merge", &fewer).await.ok();
    settled(&cluster, 0).await;
    cluster.counted::<Pod>(0).await;
    let condition = json!({"status": {"conditions": [{"type": "Mine", "status": "True"}]}});
    cluster.api.patch(&format!("{PATH}/web/status"), "merge", &condition).await.ok();
    cluster.at_rest().await;
    let status = cluster.api.get(&format!("{PATH}/web/status")).await.ok();
    assert_eq!(status["status"]["conditions"][0]["type"], "Mine");
}

#[tokio::test]
async fn pods_stay_unless_they_are_asked_to_go() {
    let cluster = Cluster::start().await;
    make(&cluster, 2).await;
    settled(&cluster, 2).await;
    // Without a word about them, as clients of old expect it.
    cluster.api.delete(&format!("{PATH}/web")).await.ok();
    cluster.counted::<ReplicationController>(0).await;
    let pods = cluster.counted::<Pod>(2).await;
    assert!(pods.iter().all(|pod| controller_of(&pod.metadata).is_none()));
    make(&cluster, 2).await;
    settled(&cluster, 2).await;
    assert_eq!(cluster.counted::<Pod>(2).await[0].metadata.uid, pods[0].metadata.uid);
    cluster.delete::<ReplicationController>("web", Propagation::Background).await;
    cluster.counted::<Pod>(0).await;
}
