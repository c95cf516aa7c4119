//! Namespaces go with all that is in them.

use crate::cluster::{Cluster, template};
use crate::support::eventually;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod};
use kinglet::api::ObjectKey;
use kinglet::client::{DeleteOptions, Patch, Selection};
use serde_json::json;

async fn shop(cluster: &Cluster) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    cluster.api.post("/api/v1/namespaces", &namespace).await.ok();
}

async fn delete(cluster: &Cluster) {
    let key = ObjectKey::cluster("shop");
    cluster.client.delete::<Namespace>(&key, &DeleteOptions::default()).await.unwrap();
}

async fn gone(cluster: &Cluster) {
    eventually("the namespace is gone", async || {
        let namespace = cluster.client.get::<Namespace>(&ObjectKey::cluster("shop")).await;
        namespace.is_err_and(|error| error.is_not_found()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_namespace_goes_with_its_content() {
    let cluster = Cluster::start().await;
    shop(&cluster).await;
    let mut template = template("one");
    template["metadata"] = json!({"labels": {"app": "web"}});
    let deployment = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {
        "replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template}});
    let deployment: Deployment = serde_json::from_value(deployment).unwrap();
    cluster.client.create(&deployment).await.unwrap();
    for number in 0..20 {
        let map = json!({"metadata": {"name": format!("m{number}"), "namespace": "shop"}});
        let map: ConfigMap = serde_json::from_value(map).unwrap();
        cluster.client.create(&map).await.unwrap();
    }
    let there = Selection::namespace("shop");
    eventually("pods and events", async || {
        let pods = cluster.client.list::<Pod>(&there).await.unwrap().items.len();
        let events = cluster.client.list::<Event>(&there).await.unwrap().items.len();
        (pods == 3 && events >= 4).then_some(())
    })
    .await;
    delete(&cluster).await;
    gone(&cluster).await;
    assert!(cluster.client.list::<Pod>(&there).await.unwrap().items.is_empty());
    assert!(cluster.client.list::<ReplicaSet>(&there).await.unwrap().items.is_empty());
    assert!(cluster.client.list::<ConfigMap>(&there).await.unwrap().items.is_empty());
    assert!(cluster.client.list::<Event>(&there).await.unwrap().items.is_empty());
    let rest = cluster.at_rest().await;
    assert_eq!(cluster.at_rest().await, rest);
}

#[tokio::test]
async fn an_empty_namespace_goes_at_once() {
    let cluster = Cluster::start().await;
    shop(&cluster).await;
    delete(&cluster).await;
    gone(&cluster).await;
}

#[tokio::test]
async fn content_that_stays_keeps_the_namespace_and_is_named() {
    let cluster = Cluster::start().await;
    shop(&cluster).await;
    let map = json!({"metadata": {"name": "stubborn", "namespace": "shop",
        "finalizers": ["example.com/hold"]}});
    let map: ConfigMap = serde_json::from_value(map).unwrap();
    cluster.client.create(&map).await.unwrap();
    delete(&cluster).await;
    let message = eventually("the namespace says what is left", async || {
        let namespace = cluster.client.get::<Namespace>(&ObjectKey::cluster("shop")).await.unwrap();
        let conditions = namespace.status.unwrap().conditions.unwrap_or_default();
        let left = conditions.into_iter().find(|it| it.type_ == "NamespaceFinalizersRemaining");
        left.filter(|condition| condition.status == "True")?.message
    })
    .await;
    assert_eq!(
        message,
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
    );
    let key = ObjectKey::namespaced("shop", "stubborn");
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    cluster.client.patch::<ConfigMap>(&key, &release, None).await.unwrap();
    gone(&cluster).await;
}
