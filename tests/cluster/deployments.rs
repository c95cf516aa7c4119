//! Deployments whose users do not wait: rollovers, sizes in the midst of a rollout, and their API.

use crate::cluster::{BROKEN, Cluster, condition, template};
use crate::support::eventually;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

const PATH: &str = "/apis/apps/v1/namespaces/default/deployments";

#[tokio::test]
async fn a_rollout_may_be_overtaken_by_the_next() {
    let cluster = Cluster::start().await;
    cluster.deploy("web", "one", 4).await;
    cluster.rolled_out("web").await;
    cluster.deploy("web", BROKEN, 4).await;
    eventually("a broken pod", async || {
        let pods = cluster.list::<Pod>().await;
        let is_broken =
            |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some(BROKEN);
        pods.iter().any(is_broken).then_some(())
    })
    .await;
    for image in ["two", "three", "four"] {
        cluster.deploy("web", image, 4).await;
    }
    cluster.rolled_out("web").await;
    let sets = cluster.sets("web").await;
    let sizes: Vec<_> = sets.iter().map(|(_, size)| *size).collect();
    assert_eq!(sizes.iter().sum::<i32>(), 4, "{sizes:?}");
    assert_eq!(sizes.last(), Some(&4), "{sizes:?}");
    for pod in cluster.counted::<Pod>(4).await {
        assert_eq!(pod.spec.unwrap().containers[0].image.as_deref(), Some("four"));
    }
}

#[tokio::test]
async fn sets_grow_in_proportion_while_a_rollout_is_stuck() {
    let cluster = Cluster::start().await;
    let strategy = json!({"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}});
    let spec = json!({"replicas": 10, "template": template("one"), "strategy": strategy});
    cluster.apply("web", &spec).await;
    cluster.rolled_out("web").await;
    cluster.deploy("web", BROKEN, 10).await;
    let sizes = async |expected: [i32; 2]| {
        eventually(&format!("sizes {expected:?}"), async || {
            let sets = cluster.sets("web").await;
            let sizes: Vec<_> = sets.iter().map(|(_, size)| *size).collect();
            (sizes == expected).then_some(())
        })
        .await;
    };
    sizes([8, 5]).await;
    cluster.reached("web", |web| web.status.as_ref().unwrap().available_replicas == Some(8)).await;
    cluster.apply("web", &json!({"replicas": 30})).await;
    sizes([20, 13]).await;
    let web = cluster
        .reached("web", |web| web.status.as_ref().unwrap().available_replicas == Some(20))
        .await;
    assert_eq!(web.status.as_ref().unwrap().replicas, Some(33));
}

#[tokio::test]
async fn the_api_of_deployments_is_whole() {
    let cluster = Cluster::start().await;
    cluster.deploy("web", "one", 1).await;
    cluster.rolled_out("web").await;
    let path = format!("{PATH}/web");
    let patch = json!({"metadata": {"labels": {"test": "yes"}}, "spec": {"replicas": 2,
        "template": template("two")}});
    cluster.api.patch(&path, "strategic-merge", &patch).await.ok();
    let web = cluster.rolled_out("web").await;
    assert_eq!(web.status.unwrap().terminating_replicas, Some(0));
    let mut replaced = cluster.api.get(&path).await.ok();
    replaced["spec"]["template"]["spec"]["containers"][0]["image"] = json!("three");
    cluster.api.put(&path, &replaced).await.ok();
    cluster.rolled_out("web").await;

    let mut scale = cluster.api.get(&format!("{path}/scale")).await.ok();
    assert_eq!(scale["spec"]["replicas"], 2);
    scale["spec"]["replicas"] = json!(3);
    cluster.api.put(&format!("{path}/scale"), &scale).await.ok();
    cluster.rolled_out("web").await;
    let patch = json!({"spec": {"replicas": 4}});
    cluster.api.patch(&format!("{path}/scale"), "merge", &patch).await.ok();
    cluster.rolled_out("web").await;

    let patch = json!({"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}});
    let patched = cluster.api.patch(&format!("{path}/status"), "merge", &patch).await.ok();
    assert_eq!(patched["status"]["conditions"][0]["type"], "StatusPatched");
    // What the controller says comes beside what users say.
    let web = cluster.reached("web", |web| condition(web, "Available").is_some()).await;
    let kinds: Vec<_> =
        web.status.unwrap().conditions.unwrap().into_iter().map(|it| it.type_).collect();
    assert!(kinds.contains(&"StatusPatched".to_owned()), "{kinds:?}");
    cluster.at_rest().await;

    let list = cluster.api.get("/apis/apps/v1/deployments?labelSelector=test%3Dyes").await.ok();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    cluster.api.delete(&format!("{PATH}?labelSelector=test%3Dyes")).await.ok();
    cluster.counted::<Deployment>(0).await;
    cluster.counted::<ReplicaSet>(0).await;
    cluster.counted::<Pod>(0).await;
}
