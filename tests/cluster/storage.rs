//! Claims and volumes: bound once, made by a provisioner that only pretends, and kept while used.

use crate::cluster::Cluster;
use crate::support::eventually;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kinglet::api::ObjectKey;
use kinglet::api::volume::volume_name;
use kinglet::client::{ApiObject, Cache, Client, DeleteOptions, Selection, key_of};
use kinglet::stdx::Tasks;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::mpsc;

const FAKE: &str = "example.com/fake";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";

fn claim(name: &str, class: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": name },
        "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": { "requests": { "storage": "1Gi" } } } })
}

fn volume(name: &str, class: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": name },
        "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "capacity": { "storage": "1Gi" }, "hostPath": { "path": "/x" },
            "persistentVolumeReclaimPolicy": "Retain" } })
}

async fn all<K: ApiObject>(cluster: &Cluster) -> Vec<K> {
    cluster.client.list::<K>(&Selection::default()).await.unwrap().items
}

fn phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Waits until this many claims are bound, and says to what.
async fn bound(cluster: &Cluster, count: usize) -> Vec<String> {
    eventually("claims to be bound", async || {
        let claims = all::<PersistentVolumeClaim>(cluster).await;
        let bound: Vec<_> = claims.iter().filter(|claim| phase(claim) == "Bound").collect();
        let names = bound.iter().filter_map(|claim| volume_name(claim).map(str::to_owned));
        (bound.len() == count).then(|| names.collect())
    })
    .await
}

#[tokio::test]
async fn no_volume_is_bound_twice() {
    let cluster = Cluster::start().await;
    for number in 0..15 {
        cluster.api.post(CLAIMS, &claim(&format!("c{number}"), "x")).await.ok();
    }
    for number in 0..10 {
        let volume = volume(&format!("v{number}"), "x");
        cluster.api.post("/api/v1/persistentvolumes", &volume).await.ok();
    }
    let names = bound(&cluster, 10).await;
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 10);
    cluster.at_rest().await;
    let claims = all::<PersistentVolumeClaim>(&cluster).await;
    assert_eq!(claims.iter().filter(|claim| phase(claim) == "Pending").count(), 5);
    // Whoever waits gets what is added.
    cluster.api.post("/api/v1/persistentvolumes", &volume("late", "x")).await.ok();
    assert!(bound(&cluster, 11).await.contains(&"late".to_owned()));
}

#[tokio::test]
async fn volumes_are_made_and_deleted_by_their_provisioner() {
    let cluster = Cluster::start().await;
    let mut tasks = Tasks::default();
    start_provisioner(&cluster.client, &mut tasks);
    for number in 0..5 {
        cluster.api.post(CLAIMS, &claim(&format!("c{number}"), "fake")).await.ok();
    }
    // The class comes last: nobody looks at claims every now and then.
    let class = json!({ "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": { "name": "fake" }, "provisioner": FAKE });
    cluster.api.post("/apis/storage.k8s.io/v1/storageclasses", &class).await.ok();
    let names = bound(&cluster, 5).await;
    assert!(names.iter().all(|name| name.starts_with("pvc-")), "{names:?}");
    for number in 0..5 {
        cluster.api.delete(&format!("{CLAIMS}/c{number}")).await.ok();
    }
    eventually("the volumes to go", async || {
        all::<PersistentVolume>(&cluster).await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_claim_that_is_used_stays_until_its_pod_is_gone() {
    let cluster = Cluster::start().await;
    cluster.api.post("/api/v1/persistentvolumes", &volume("v", "x")).await.ok();
    cluster.api.post(CLAIMS, &claim("data", "x")).await.ok();
    bound(&cluster, 1).await;
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" }, "spec": {
        "nodeName": "n1", "containers": [{ "name": "c", "image": "web" }],
        "volumes": [{ "name": "d", "persistentVolumeClaim": { "claimName": "data" } }],
    } });
    cluster.api.post("/api/v1/namespaces/default/pods", &pod).await.ok();
    cluster.api.delete(&format!("{CLAIMS}/data")).await.ok();
    cluster.at_rest().await;
    let path = format!("{CLAIMS}/data");
    let kept = cluster.api.get(&path).await.ok();
    assert_eq!(kept["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    cluster.api.delete("/api/v1/namespaces/default/pods/web").await.ok();
    eventually("the claim to go", async || {
        (cluster.api.get(&path).await.code == 404).then_some(())
    })
    .await;
    eventually("the volume to be released", async || {
        let volume = cluster.api.get("/api/v1/persistentvolumes/v").await.ok();
        (volume["status"]["phase"] == "Released").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_class_of_attributes_stays_while_a_claim_names_it() {
    let cluster = Cluster::start().await;
    let classes = "/apis/storage.k8s.io/v1/volumeattributesclasses";
    let class = json!({ "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass",
        "metadata": { "name": "fast" }, "driverName": FAKE, "parameters": { "iops": "9" } });
    cluster.api.post(classes, &class).await.ok();
    let mut claim = claim("data", "x");
    claim["spec"]["volumeAttributesClassName"] = json!("fast");
    cluster.api.post(CLAIMS, &claim).await.ok();
    let path = format!("{classes}/fast");
    cluster.api.delete(&path).await.ok();
    cluster.at_rest().await;
    let kept = cluster.api.get(&path).await.ok();
    assert_eq!(kept["metadata"]["finalizers"], json!(["kubernetes.io/vac-protection"]));
    cluster.api.delete(&format!("{CLAIMS}/data")).await.ok();
    eventually("the class to go", async || {
        (cluster.api.get(&path).await.code == 404).then_some(())
    })
    .await;
}

/// Makes a volume for each claim that asks for one, and deletes those that are released.
fn start_provisioner(client: &Client, tasks: &mut Tasks) {
    let claims = Cache::<PersistentVolumeClaim>::start(client.clone(), Selection::default(), tasks);
    let volumes = Cache::<PersistentVolume>::start(client.clone(), Selection::default(), tasks);
    let (wanted, mut work) = mpsc::unbounded_channel();
    let released = wanted.clone();
    claims.on_change(move |change| {
        // The receiver goes when the test is over.
        change.new.clone().map(|claim| wanted.send((Some(claim), None)).ok());
    });
    volumes.on_change(move |change| {
        change.new.clone().map(|volume| released.send((None, Some(volume))).ok());
    });
    let client = client.clone();
    tasks.spawn("provisioner", async move {
        let _caches = (claims, volumes);
        while let Some((claim, volume)) = work.recv().await {
            if let Some(claim) = claim {
                provision(&client, &claim).await;
            } else if let Some(volume) = volume {
                remove(&client, &volume).await;
            }
        }
    });
}

async fn provision(client: &Client, claim: &Arc<PersistentVolumeClaim>) {
    let annotations = claim.metadata.annotations.clone().unwrap_or_default();
    let asked = annotations.get("volume.kubernetes.io/storage-provisioner");
    if asked.map(String::as_str) != Some(FAKE) || volume_name(claim).is_some() {
        return;
    }
    let key = key_of(&claim.metadata);
    let uid = claim.metadata.uid.clone().unwrap();
    let mut made = volume(&format!("pvc-{uid}"), "fake");
    made["metadata"]["annotations"] = json!({ "pv.kubernetes.io/provisioned-by": FAKE });
    made["spec"]["persistentVolumeReclaimPolicy"] = json!("Delete");
    made["spec"]["claimRef"] = json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "namespace": key.namespace, "name": key.name, "uid": uid });
    let made: PersistentVolume = serde_json::from_value(made).unwrap();
    match client.create(&made).await {
        Err(error) if !error.is_already_exists() => panic!("{error}"),
        _ => {}
    }
}

async fn remove(client: &Client, volume: &Arc<PersistentVolume>) {
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase != Some("Released") || volume.metadata.deletion_timestamp.is_some() {
        return;
    }
    let key = ObjectKey::cluster(volume.metadata.name.clone().unwrap());
    match client.delete::<PersistentVolume>(&key, &DeleteOptions::default()).await {
        Err(error) if !error.is_not_found() => panic!("{error}"),
        _ => {}
    }
}
