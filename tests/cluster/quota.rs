//! Quotas are counted, and what is deleted makes room.

use crate::cluster::Cluster;
use crate::support::eventually;
use serde_json::{Value, json};

const QUOTA: &str = "/api/v1/namespaces/default/resourcequotas/q";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn create_quota(cluster: &Cluster, hard: &Value) {
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
    cluster.api.post("/api/v1/namespaces/default/resourcequotas", &quota).await.ok();
}

async fn used(cluster: &Cluster, expected: &Value) {
    eventually("the quota is counted", async || {
        let status = cluster.api.get(QUOTA).await.ok()["status"].clone();
        (status["used"] == *expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_there_is_counted_and_what_goes_makes_room() {
    let cluster = Cluster::start().await;
    cluster.deploy("web", "i", 2).await;
    cluster.rolled_out("web").await;
    for name in ["a", "b"] {
        cluster.api.post(MAPS, &json!({"metadata": {"name": name}})).await.ok();
    }
    create_quota(&cluster, &json!({"pods": "3", "configmaps": "3", "count/deployments.apps": "1"}))
        .await;
    // Every namespace has the authority in one more ConfigMap.
    used(&cluster, &json!({"pods": "2", "configmaps": "3", "count/deployments.apps": "1"})).await;
    let third = json!({"metadata": {"name": "c"}});
    let (_, _, message) = cluster.api.post(MAPS, &third).await.refused();
    assert!(message.contains("exceeded quota: q"), "{message}");
    cluster.api.delete(&format!("{MAPS}/a")).await.ok();
    eventually("there is room", async || {
        (cluster.api.post(MAPS, &third).await.code == 201).then_some(())
    })
    .await;
    cluster.deploy("web", "i", 1).await;
    used(&cluster, &json!({"pods": "1", "configmaps": "3", "count/deployments.apps": "1"})).await;
    cluster.at_rest().await;
}

#[tokio::test]
async fn a_deployment_fills_its_quota_and_says_what_it_lacks() {
    let cluster = Cluster::start().await;
    create_quota(&cluster, &json!({"pods": "2"})).await;
    used(&cluster, &json!({"pods": "0"})).await;
    cluster.deploy("web", "i", 5).await;
    used(&cluster, &json!({"pods": "2"})).await;
    eventually("the set says why", async || {
        let (set, _) = cluster.sets("web").await.pop()?;
        let conditions = set.status?.conditions?;
        let failure = conditions.into_iter().find(|it| it.type_ == "ReplicaFailure")?;
        failure.message.filter(|message| message.contains("exceeded quota: q"))
    })
    .await;
    let more = json!({"spec": {"hard": {"pods": "5"}}});
    cluster.api.patch(QUOTA, "merge", &more).await.ok();
    used(&cluster, &json!({"pods": "5"})).await;
}

#[tokio::test]
async fn claims_to_devices_are_counted_by_class() {
    const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
    let cluster = Cluster::start().await;
    let gold = "gold.deviceclass.resource.k8s.io/devices";
    create_quota(&cluster, &json!({gold: "2"})).await;
    used(&cluster, &json!({gold: "0"})).await;
    let claim = |name: &str| {
        let exactly = json!({"deviceClassName": "gold"});
        json!({"metadata": {"name": name},
            "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}}})
    };
    cluster.api.post(CLAIMS, &claim("a")).await.ok();
    cluster.api.post(CLAIMS, &claim("b")).await.ok();
    used(&cluster, &json!({gold: "2"})).await;
    let (_, _, message) = cluster.api.post(CLAIMS, &claim("c")).await.refused();
    assert!(message.contains(&format!("exceeded quota: q, requested: {gold}=1")), "{message}");
    cluster.api.delete(&format!("{CLAIMS}/a")).await.ok();
    used(&cluster, &json!({gold: "1"})).await;
}
