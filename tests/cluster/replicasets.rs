//! ReplicaSets by themselves: adoption, choice of pods, failures, and their API.

use crate::cluster::{Cluster, template};
use crate::support::eventually;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use kinglet::api::owner::controller_of;
use kinglet::client::{Patch, key_of};
use serde_json::{Value, json};

const PATH: &str = "/apis/apps/v1/namespaces/default/replicasets";

async fn settled(cluster: &Cluster, name: &str, replicas: i32) -> ReplicaSet {
    cluster
        .until(name, |set: &ReplicaSet| {
            let Some(status) = &set.status else { return false };
            status.observed_generation == set.metadata.generation
                && status.replicas == replicas
                && status.available_replicas.unwrap_or_default() == replicas
                && status.terminating_replicas == Some(0)
        })
        .await
}

#[tokio::test]
async fn pods_are_adopted_and_released() {
    let cluster = Cluster::start().await;
    let mut orphan = template("one");
    orphan["metadata"] = json!({"name": "orphan", "labels": {"app": "web"}});
    cluster.api.post("/api/v1/namespaces/default/pods", &orphan).await.ok();
    cluster.make::<ReplicaSet>("web", json!({"replicas": 1, "template": template("one")})).await;
    settled(&cluster, "web", 1).await;
    let pod = cluster.counted::<Pod>(1).await.remove(0);
    assert_eq!(pod.metadata.name.as_deref(), Some("orphan"));
    assert_eq!(controller_of(&pod.metadata).unwrap().name, "web");
    let labels = Patch::Merge(json!({"metadata": {"labels": {"app": "else"}}}));
    cluster.client.patch::<Pod>(&key_of(&pod.metadata), &labels, None).await.unwrap();
    cluster.counted::<Pod>(2).await;
    eventually("it is released", async || {
        let pod = cluster.client.get::<Pod>(&key_of(&pod.metadata)).await.unwrap();
        controller_of(&pod.metadata).is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn users_say_which_pods_are_cheap_to_delete() {
    let cluster = Cluster::start().await;
    cluster.make::<ReplicaSet>("web", json!({"replicas": 3, "template": template("one")})).await;
    settled(&cluster, "web", 3).await;
    let cheap = cluster.counted::<Pod>(3).await.remove(1);
    let cost =
        json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-1"}}});
    cluster.client.patch::<Pod>(&key_of(&cheap.metadata), &Patch::Merge(cost), None).await.unwrap();
    cluster.patch::<ReplicaSet>("web", json!({"spec": {"replicas": 2}})).await;
    settled(&cluster, "web", 2).await;
    let left = cluster.counted::<Pod>(2).await;
    assert!(left.iter().all(|pod| pod.metadata.uid != cheap.metadata.uid));
}

#[tokio::test]
async fn pods_that_are_refused_are_a_condition() {
    let cluster = Cluster::start().await;
    let limits = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"},
        "spec": {"limits": [{"type": "Container", "max": {"cpu": "100m"}}]}});
    let path = "/api/v1/namespaces/default/limitranges";
    cluster.api.post(path, &limits).await.ok();
    let mut greedy = template("one");
    greedy["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}});
    cluster.make::<ReplicaSet>("web", json!({"replicas": 2, "template": greedy})).await;
    let mut controller = json!({"apiVersion": "v1", "kind": "ReplicationController",
        "metadata": {"name": "old"}, "spec": {"replicas": 2, "template": greedy}});
    controller["spec"]["template"]["metadata"] = json!({"labels": {"app": "old"}});
    cluster.api.post("/api/v1/namespaces/default/replicationcontrollers", &controller).await.ok();
    let set = cluster
        .until("web", |set: &ReplicaSet| {
            set.status.as_ref().is_some_and(|status| status.conditions.is_some())
        })
        .await;
    let condition = set.status.unwrap().conditions.unwrap().remove(0);
    assert_eq!((&*condition.type_, &*condition.status), ("ReplicaFailure", "True"));
    assert_eq!(condition.reason.as_deref(), Some("FailedCreate"));
    assert!(condition.message.unwrap().contains("maximum cpu usage"));
    cluster
        .until("old", |it: &ReplicationController| {
            it.status.as_ref().is_some_and(|status| status.conditions.is_some())
        })
        .await;
    let events = eventually("an event", async || {
        Some(cluster.events("web").await).filter(|events| !events.is_empty())
    })
    .await;
    assert_eq!(events[0].0, "FailedCreate");
    assert!(events[0].1.starts_with("Error creating: "), "{events:?}");
    // Fewer are wanted, and all is well.
    cluster.patch::<ReplicaSet>("web", json!({"spec": {"replicas": 0}})).await;
    cluster.patch::<ReplicationController>("old", json!({"spec": {"replicas": 0}})).await;
    cluster
        .until("web", |set: &ReplicaSet| set.status.as_ref().unwrap().conditions.is_none())
        .await;
    cluster
        .until("old", |it: &ReplicationController| it.status.as_ref().unwrap().conditions.is_none())
        .await;
}

#[tokio::test]
async fn the_api_of_replica_sets_is_whole() {
    let cluster = Cluster::start().await;
    cluster.make::<ReplicaSet>("web", json!({"replicas": 1, "template": template("one")})).await;
    settled(&cluster, "web", 1).await;
    let path = format!("{PATH}/web");
    let mut scale = cluster.api.get(&format!("{path}/scale")).await.ok();
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]["selector"]),
        (&json!(1), &json!("app=web"))
    );
    scale["spec"]["replicas"] = json!(2);
    cluster.api.put(&format!("{path}/scale"), &scale).await.ok();
    settled(&cluster, "web", 2).await;
    let patch = json!({"spec": {"replicas": 4}});
    cluster.api.patch(&format!("{path}/scale"), "merge", &patch).await.ok();
    settled(&cluster, "web", 4).await;
    let mut replaced = cluster.api.get(&path).await.ok();
    replaced["spec"]["replicas"] = json!(2);
    cluster.api.put(&path, &replaced).await.ok();
    settled(&cluster, "web", 2).await;
    let patch = json!({"metadata": {"labels": {"test": "yes"}}, "spec": {"replicas": 3,
        "template": {"spec": {"terminationGracePeriodSeconds": 0}}}});
    cluster.api.patch(&path, "strategic-merge", &patch).await.ok();
    let set = settled(&cluster, "web", 3).await;
    let pod = set.spec.unwrap().template.unwrap().spec.unwrap();
    assert_eq!(pod.termination_grace_period_seconds, Some(0));

    let mut shown = cluster.api.get(&format!("{path}/status")).await.ok();
    shown["status"]["conditions"] = json!([{"type": "StatusUpdate", "status": "True"}]);
    cluster.api.put(&format!("{path}/status"), &shown).await.ok();
    let condition = |set: &Value| set["status"]["conditions"][0]["type"].clone();
    let patch = json!({"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}});
    let patched = cluster.api.patch(&format!("{path}/status"), "merge", &patch).await.ok();
    assert_eq!(condition(&patched), "StatusPatched");
    cluster.at_rest().await;
    assert_eq!(condition(&cluster.api.get(&path).await.ok()), "StatusPatched");

    let list = cluster.api.get(&format!("{PATH}?labelSelector=test%3Dyes")).await.ok();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    cluster.api.delete(&format!("{PATH}?labelSelector=test%3Dyes")).await.ok();
    cluster.counted::<ReplicaSet>(0).await;
    cluster.counted::<Pod>(0).await;
}
