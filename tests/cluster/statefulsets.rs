//! StatefulSets: order, identity, storage, updates and rollbacks.

use crate::cluster::{BROKEN, Cluster, template};
use crate::support::eventually;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kinglet::api::pod::{is_active, is_ready};
use kinglet::client::{DeleteOptions, Patch, Propagation, key_of};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const PATH: &str = "/apis/apps/v1/namespaces/default/statefulsets";

fn spec(image: &str, replicas: i32) -> Value {
    json!({"replicas": replicas, "serviceName": "db", "template": template(image)})
}

fn with_claims(mut spec: Value) -> Value {
    spec["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}]);
    spec
}

/// Waits until all pods are of the newest revision and available, and no others are left.
async fn rolled_out(cluster: &Cluster, name: &str) -> StatefulSet {
    cluster
        .until(name, |set: &StatefulSet| {
            let wanted = set.spec.as_ref().unwrap().replicas.unwrap();
            let Some(status) = &set.status else { return false };
            status.observed_generation == set.metadata.generation
                && status.replicas == wanted
                && status.available_replicas == Some(wanted)
                && status.updated_replicas.unwrap_or_default() == wanted
                && status.current_revision == status.update_revision
        })
        .await
}

/// The pods by name, with their uids and images.
async fn pods(cluster: &Cluster) -> BTreeMap<String, (String, String)> {
    let all = cluster.list::<Pod>().await;
    let entry = |pod: Pod| {
        let image = pod.spec.unwrap().containers[0].image.clone().unwrap();
        (pod.metadata.name.unwrap(), (pod.metadata.uid.unwrap(), image))
    };
    all.into_iter().map(entry).collect()
}

/// Writes down which pods come and go, and checks that they do so one after the other.
fn watch_order(cluster: &Cluster) -> Arc<Mutex<Vec<String>>> {
    let story = Arc::<Mutex<Vec<String>>>::default();
    let (record, cache) = (Arc::clone(&story), Arc::clone(&cluster.pods));
    cluster.pods.on_change(move |change| {
        let name = &change.key.name;
        let line = match (&change.old, &change.new) {
            (None, Some(_)) => format!("+{name}"),
            (Some(_), None) => format!("-{name}"),
            _ => return,
        };
        let waiting = cache.list().iter().filter(|pod| !is_ready(pod) || !is_active(pod)).count();
        assert!(waiting <= 1, "{line} while {waiting} are not ready");
        record.lock().unwrap().push(line);
    });
    story
}

/// What was told goes like this, to its end. It may be told a moment after it was.
async fn told(story: &Mutex<Vec<String>>, expected: &[&str]) {
    let is_told = async || (story.lock().unwrap().len() >= expected.len()).then_some(());
    eventually("the story to be told", is_told).await;
    assert_eq!(*story.lock().unwrap(), expected);
}

#[tokio::test]
async fn pods_come_and_go_in_order_and_keep_their_storage() {
    let cluster = Cluster::start().await;
    let story = watch_order(&cluster);
    cluster.make::<StatefulSet>("db", with_claims(spec("one", 3))).await;
    let set = rolled_out(&cluster, "db").await;
    told(&story, &["+db-0", "+db-1", "+db-2"]).await;
    let first = cluster.list::<Pod>().await.remove(0);
    let labels = first.metadata.labels.unwrap();
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "db-0");
    assert_eq!(labels["apps.kubernetes.io/pod-index"], "0");
    assert_eq!(
        Some(&labels["controller-revision-hash"]),
        set.status.unwrap().current_revision.as_ref()
    );
    let first = first.spec.unwrap();
    assert_eq!((first.hostname.as_deref(), first.subdomain.as_deref()), (Some("db-0"), Some("db")));
    let claim = first.volumes.unwrap()[0].persistent_volume_claim.clone().unwrap();
    assert_eq!(claim.claim_name, "data-db-0");
    let claims = cluster.counted::<PersistentVolumeClaim>(3).await;
    assert_eq!(claims[0].metadata.labels.as_ref().unwrap()["app"], "db");
    let events = cluster.events("db").await;
    assert_eq!(events[0].1, "Create Claim data-db-0 Pod db-0 in StatefulSet db success");
    assert_eq!(events[1].1, "Create Pod db-0 in StatefulSet db successful");

    story.lock().unwrap().clear();
    cluster.patch::<StatefulSet>("db", json!({"spec": {"replicas": 1}})).await;
    rolled_out(&cluster, "db").await;
    told(&story, &["-db-2", "-db-1"]).await;
    cluster.counted::<PersistentVolumeClaim>(3).await;
    let kept = pods(&cluster).await;
    cluster.patch::<StatefulSet>("db", json!({"spec": {"replicas": 2}})).await;
    rolled_out(&cluster, "db").await;
    assert_eq!(pods(&cluster).await["db-0"], kept["db-0"]);
    cluster.counted::<PersistentVolumeClaim>(3).await;
    let rest = cluster.at_rest().await;
    assert_eq!(cluster.at_rest().await, rest);
    // They stay after the set, too.
    cluster.delete::<StatefulSet>("db", Propagation::Background).await;
    cluster.counted::<Pod>(0).await;
    cluster.counted::<ControllerRevision>(0).await;
    cluster.counted::<PersistentVolumeClaim>(3).await;
}

#[tokio::test]
async fn a_pod_that_is_not_well_halts_all_others() {
    let cluster = Cluster::start().await;
    cluster.make::<StatefulSet>("db", spec(BROKEN, 3)).await;
    cluster
        .until("db", |set: &StatefulSet| set.status.as_ref().is_some_and(|it| it.replicas == 1))
        .await;
    cluster.at_rest().await;
    cluster.counted::<Pod>(1).await;
    // Nor is it updated by itself: upstream's known limit of ordered updates.
    cluster.patch::<StatefulSet>("db", json!({"spec": {"template": template("one")}})).await;
    cluster.at_rest().await;
    let broken = cluster.counted::<Pod>(1).await.remove(0);
    cluster
        .client
        .delete::<Pod>(&key_of(&broken.metadata), &DeleteOptions::default())
        .await
        .unwrap();
    rolled_out(&cluster, "db").await;
}

#[tokio::test]
async fn parallel_pods_need_not_wait_for_each_other() {
    let cluster = Cluster::start().await;
    let mut broken = spec(BROKEN, 4);
    broken["podManagementPolicy"] = json!("Parallel");
    cluster.make::<StatefulSet>("db", broken).await;
    cluster.counted::<Pod>(4).await;
    cluster.patch::<StatefulSet>("db", json!({"spec": {"replicas": 2}})).await;
    cluster.counted::<Pod>(2).await;
    // A new template reaches pods that were never ready.
    cluster.patch::<StatefulSet>("db", json!({"spec": {"template": template("one")}})).await;
    rolled_out(&cluster, "db").await;
}

#[tokio::test]
async fn templates_roll_out_and_back_from_the_highest() {
    let cluster = Cluster::start().await;
    cluster.make::<StatefulSet>("db", spec("one", 3)).await;
    let before = rolled_out(&cluster, "db").await.status.unwrap();
    let story = watch_order(&cluster);
    story.lock().unwrap().clear();
    cluster.patch::<StatefulSet>("db", json!({"spec": {"template": template("two")}})).await;
    let status = rolled_out(&cluster, "db").await.status.unwrap();
    assert_ne!(status.current_revision, before.current_revision);
    let expected = ["-db-2", "+db-2", "-db-1", "+db-1", "-db-0", "+db-0"];
    assert_eq!(*story.lock().unwrap(), expected);
    let mut revisions = cluster.counted::<ControllerRevision>(2).await;
    revisions.sort_by_key(|revision| revision.revision);

    // As `kubectl rollout undo` does it.
    let first = revisions.remove(0);
    let undo = Patch::Strategic(first.data.unwrap().0);
    let key = kinglet::api::ObjectKey::namespaced("default", "db");
    cluster.client.patch::<StatefulSet>(&key, &undo, None).await.unwrap();
    let status = rolled_out(&cluster, "db").await.status.unwrap();
    assert_eq!(status.current_revision, before.current_revision);
    let revisions = cluster.counted::<ControllerRevision>(2).await;
    let again = revisions.iter().find(|it| it.metadata.uid == first.metadata.uid).unwrap();
    assert_eq!(again.revision, 3);
    assert!(pods(&cluster).await.values().all(|(_, image)| image == "one"));
}

#[tokio::test]
async fn a_partition_holds_back_the_lower_pods() {
    let cluster = Cluster::start().await;
    cluster.make::<StatefulSet>("db", spec("one", 3)).await;
    rolled_out(&cluster, "db").await;
    let partition = |partition: i32| json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}});
    let images = async |expected: [&str; 3]| {
        eventually(&format!("{expected:?}"), async || {
            let pods = pods(&cluster).await;
            let images: Vec<_> = pods.values().map(|(_, image)| image.clone()).collect();
            (images == expected).then_some(())
        })
        .await;
    };
    cluster
        .patch::<StatefulSet>(
            "db",
            json!({"spec": {"updateStrategy": partition(2), "template": template("two")}}),
        )
        .await;
    images(["one", "one", "two"]).await;
    // What is deleted comes back as what it was.
    for name in ["db-0", "db-2"] {
        let key = kinglet::api::ObjectKey::namespaced("default", name);
        let uid = pods(&cluster).await[name].0.clone();
        cluster.client.delete::<Pod>(&key, &DeleteOptions::default()).await.unwrap();
        eventually("another", async || {
            pods(&cluster).await.get(name).filter(|(new, _)| *new != uid).map(drop)
        })
        .await;
        images(["one", "one", "two"]).await;
        cluster
            .until("db", |set: &StatefulSet| {
                set.status.as_ref().is_some_and(|status| status.available_replicas == Some(3))
            })
            .await;
    }
    cluster.patch::<StatefulSet>("db", json!({"spec": {"updateStrategy": partition(0)}})).await;
    rolled_out(&cluster, "db").await;
    images(["two", "two", "two"]).await;
}

#[tokio::test]
async fn failed_pods_are_recreated_under_their_names() {
    let cluster = Cluster::start().await;
    cluster.make::<StatefulSet>("db", spec("one", 1)).await;
    rolled_out(&cluster, "db").await;
    let pod = cluster.counted::<Pod>(1).await.remove(0);
    let failed = Patch::Merge(json!({"status": {"phase": "Failed", "conditions": null}}));
    cluster.client.patch::<Pod>(&key_of(&pod.metadata), &failed, Some("status")).await.unwrap();
    eventually("another pod", async || {
        pods(&cluster)
            .await
            .get("db-0")
            .filter(|(uid, _)| Some(uid) != pod.metadata.uid.as_ref())
            .map(drop)
    })
    .await;
    rolled_out(&cluster, "db").await;
}

#[tokio::test]
async fn claims_go_with_their_pods_or_the_set_where_users_want_it() {
    let cluster = Cluster::start().await;
    let mut wanted = with_claims(spec("one", 3));
    wanted["persistentVolumeClaimRetentionPolicy"] =
        json!({"whenDeleted": "Delete", "whenScaled": "Delete"});
    cluster.make::<StatefulSet>("db", wanted).await;
    rolled_out(&cluster, "db").await;
    cluster.patch::<StatefulSet>("db", json!({"spec": {"replicas": 1}})).await;
    rolled_out(&cluster, "db").await;
    let gone = async |count: usize| {
        eventually("claims are deleted", async || {
            let claims = cluster.list::<PersistentVolumeClaim>().await;
            // One that is in use may be protected by others.
            let stay = claims.iter().filter(|it| it.metadata.deletion_timestamp.is_none()).count();
            (stay == count).then_some(())
        })
        .await;
    };
    gone(1).await;
    cluster.delete::<StatefulSet>("db", Propagation::Background).await;
    gone(0).await;
}

#[tokio::test]
async fn the_api_of_stateful_sets_is_whole() {
    let cluster = Cluster::start().await;
    cluster.make::<StatefulSet>("db", spec("one", 1)).await;
    rolled_out(&cluster, "db").await;
    let scale = cluster.api.get(&format!("{PATH}/db/scale")).await.ok();
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["replicas"]), (&json!(1), &json!(1)));
    let mut wanted = scale.clone();
    wanted["spec"]["replicas"] = json!(2);
    cluster.api.put(&format!("{PATH}/db/scale"), &wanted).await.ok();
    rolled_out(&cluster, "db").await;
    let scale = json!({"spec": {"replicas": 3}});
    cluster.api.patch(&format!("{PATH}/db/scale"), "merge", &scale).await.ok();
    rolled_out(&cluster, "db").await;

    let condition = json!({"status": {"conditions": [{"type": "StatusUpdate", "status": "True"}]}});
    cluster.api.patch(&format!("{PATH}/db/status"), "merge", &condition).await.ok();
    cluster.at_rest().await;
    let status = cluster.api.get(&format!("{PATH}/db/status")).await.ok();
    assert_eq!(status["status"]["conditions"][0]["type"], "StatusUpdate");
    assert_eq!(status["status"]["readyReplicas"], 3);

    cluster.patch::<StatefulSet>("db", json!({"metadata": {"labels": {"test": "yes"}}})).await;
    let list = cluster.api.get(&format!("{PATH}?labelSelector=test%3Dyes")).await.ok();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    cluster.api.delete(&format!("{PATH}?labelSelector=test%3Dyes")).await.ok();
    cluster.counted::<StatefulSet>(0).await;
    cluster.counted::<Pod>(0).await;
}
