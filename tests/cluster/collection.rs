//! What becomes of objects whose owners go.

use crate::cluster::{Cluster, template};
use crate::support::eventually;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kinglet::api::ObjectKey;
use kinglet::client::{DeleteOptions, Propagation, Selection};
use serde_json::{Value, json};

#[tokio::test]
async fn all_that_a_deployment_owns_goes_with_it() {
    for propagation in [Propagation::Background, Propagation::Foreground] {
        let cluster = Cluster::start().await;
        cluster.deploy("web", "one", 3).await;
        cluster.deploy("other", "one", 2).await;
        cluster.rolled_out("web").await;
        cluster.rolled_out("other").await;
        cluster.delete::<Deployment>("web", propagation).await;
        cluster.counted::<Pod>(2).await;
        cluster.counted::<ReplicaSet>(1).await;
        cluster.counted::<Deployment>(1).await;
        let rest = cluster.at_rest().await;
        assert_eq!(cluster.at_rest().await, rest);
        cluster.rolled_out("other").await;
    }
}

#[tokio::test]
async fn in_the_foreground_the_owner_goes_last() {
    let cluster = Cluster::start().await;
    cluster.deploy("web", "one", 3).await;
    cluster.rolled_out("web").await;
    let mut events = cluster.api.watch("/apis/apps/v1/deployments?watch=true").await;
    assert_eq!(events.short().await, "ADDED web");
    cluster.delete::<Deployment>("web", Propagation::Foreground).await;
    assert_eq!(events.short().await, "MODIFIED web");
    while events.short().await != "DELETED web" {}
    assert!(cluster.list::<ReplicaSet>().await.is_empty());
    assert!(cluster.list::<Pod>().await.is_empty());
}

#[tokio::test]
async fn orphans_stay_and_are_adopted_by_the_next() {
    let cluster = Cluster::start().await;
    cluster.deploy("web", "one", 3).await;
    cluster.rolled_out("web").await;
    let pods = uids(&cluster.counted::<Pod>(3).await);
    let set = cluster.sets("web").await.remove(0).0;
    cluster.delete::<Deployment>("web", Propagation::Orphan).await;
    cluster.counted::<Deployment>(0).await;
    let orphan = cluster.counted::<ReplicaSet>(1).await.remove(0);
    assert_eq!(orphan.metadata.uid, set.metadata.uid);
    assert!(orphan.metadata.owner_references.is_none_or(|owners| owners.is_empty()));
    let rest = cluster.at_rest().await;
    assert_eq!(cluster.at_rest().await, rest);

    cluster.apply("web", &json!({"replicas": 3, "template": template("one")})).await;
    cluster.rolled_out("web").await;
    let adopted = cluster.sets("web").await;
    assert_eq!(adopted.len(), 1);
    assert_eq!(adopted[0].0.metadata.uid, set.metadata.uid);
    assert_eq!(uids(&cluster.counted::<Pod>(3).await), pods);
}

fn uids(pods: &[Pod]) -> Vec<Option<String>> {
    let mut uids: Vec<_> = pods.iter().map(|pod| pod.metadata.uid.clone()).collect();
    uids.sort();
    uids
}

/// A ConfigMap that is owned by others, by name and uid.
fn owned(name: &str, owners: &[(&str, &str)]) -> ConfigMap {
    let owners: Vec<Value> = owners
        .iter()
        .map(|(name, uid)| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid}))
        .collect();
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "default",
        "ownerReferences": owners}}))
    .unwrap()
}

async fn names(cluster: &Cluster) -> Vec<String> {
    let maps = cluster.client.list::<ConfigMap>(&Selection::namespace("default")).await.unwrap();
    let name = |map: ConfigMap| map.metadata.name.unwrap();
    maps.items.into_iter().map(name).filter(|name| name != "kube-root-ca.crt").collect()
}

#[tokio::test]
async fn objects_without_any_living_owner_are_collected() {
    let cluster = Cluster::start().await;
    let mut uids = Vec::new();
    for name in ["a", "b"] {
        let owner = cluster.client.create(&owned(name, &[])).await.unwrap();
        uids.push(owner.metadata.uid.unwrap());
    }
    let (a, b) = (("a", uids[0].as_str()), ("b", uids[1].as_str()));
    for map in [
        owned("of-a", &[a]),
        owned("of-both", &[a, b]),
        owned("of-b", &[b]),
        // Another object has the name that this one means.
        owned("of-a-before", &[("a", "other")]),
        owned("of-nobody", &[("c", "gone")]),
    ] {
        cluster.client.create(&map).await.unwrap();
    }
    let are = async |expected: &[&str]| {
        eventually(&expected.join(" "), async || (names(&cluster).await == expected).then_some(()))
            .await;
    };
    are(&["a", "b", "of-a", "of-b", "of-both"]).await;
    cluster.delete::<ConfigMap>("a", Propagation::Background).await;
    are(&["b", "of-b", "of-both"]).await;
    cluster.at_rest().await;
    let both: ConfigMap =
        cluster.client.get(&ObjectKey::namespaced("default", "of-both")).await.unwrap();
    assert_eq!(both.metadata.owner_references.unwrap().len(), 1);
    cluster.delete::<ConfigMap>("b", Propagation::Background).await;
    are(&[]).await;
}

#[tokio::test]
async fn owners_of_unknown_kinds_count_as_living() {
    let cluster = Cluster::start().await;
    let mut map = owned("kept", &[("x", "y")]);
    map.metadata.owner_references.as_mut().unwrap()[0].kind = "Spaceship".to_owned();
    cluster.client.create(&map).await.unwrap();
    cluster.at_rest().await;
    assert_eq!(names(&cluster).await, ["kept"]);
    let options = DeleteOptions::default();
    let key = ObjectKey::namespaced("default", "kept");
    cluster.client.delete::<ConfigMap>(&key, &options).await.unwrap();
}

#[tokio::test]
async fn what_lost_its_owner_while_nobody_watched_is_collected() {
    let mut cluster = Cluster::start().await;
    cluster.deploy("web", "one", 3).await;
    cluster.rolled_out("web").await;
    cluster.at_rest().await;
    cluster.stop_controllers().await;
    cluster.delete::<Deployment>("web", Propagation::Background).await;
    cluster.start_controllers();
    cluster.counted::<Pod>(0).await;
    cluster.counted::<ReplicaSet>(0).await;
}
