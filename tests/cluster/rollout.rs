//! Deployments, from `apply` to pods and back.

use crate::cluster::{BROKEN, Cluster, condition, revision, template};
use crate::support::eventually;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kinglet::api::pod::{is_active, is_ready};
use kinglet::client::{Cache, DeleteOptions, Patch, key_of};
use serde_json::json;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

#[tokio::test]
async fn a_deployment_becomes_pods_and_says_so() {
    let cluster = Cluster::start().await;
    cluster.deploy("web", "one", 3).await;
    let deployment = cluster.rolled_out("web").await;
    assert_eq!(condition(&deployment, "Available").unwrap(), "MinimumReplicasAvailable");
    assert_eq!(revision(&deployment.metadata), 1);
    let pods = cluster.counted::<Pod>(3).await;
    let [(set, 3)] = &cluster.sets("web").await[..] else { panic!("one set of three") };
    let set_name = set.metadata.name.clone().unwrap();
    for pod in &pods {
        assert!(pod.metadata.name.as_ref().unwrap().starts_with(&format!("{set_name}-")));
        assert!(pod.metadata.labels.as_ref().unwrap().contains_key("pod-template-hash"));
    }
    let about_web = cluster.events("web").await;
    let scaled = format!("Scaled up replica set {set_name} from 0 to 3");
    assert_eq!(about_web, [("ScalingReplicaSet".to_owned(), scaled)]);
    let about_set = eventually("three events", async || {
        Some(cluster.events(&set_name).await).filter(|events| events.len() == 3)
    })
    .await;
    for (reason, message) in about_set {
        let named = pods
            .iter()
            .any(|pod| message == format!("Created pod: {}", pod.metadata.name.as_ref().unwrap()));
        assert!(named && reason == "SuccessfulCreate", "{reason} {message}");
    }
    // An idle cluster does nothing.
    let rest = cluster.at_rest().await;
    assert_eq!(cluster.at_rest().await, rest);
}

/// Watches that there are never more pods of an app, nor fewer that are ready, than allowed.
struct Bounds {
    broken: Arc<Mutex<Vec<String>>>,
}

impl Bounds {
    fn watch(pods: &Arc<Cache<Pod>>, there: RangeInclusive<usize>, ready_min: usize) -> Self {
        let broken = Arc::<Mutex<Vec<String>>>::default();
        let (record, cache) = (Arc::clone(&broken), Arc::clone(pods));
        pods.on_change(move |_| {
            let active: Vec<_> = cache.list().into_iter().filter(|pod| is_active(pod)).collect();
            let ready = active.iter().filter(|pod| is_ready(pod)).count();
            if !there.contains(&active.len()) || ready < ready_min {
                let line = format!("{ready} of {} are ready", active.len());
                record.lock().unwrap().push(line);
            }
        });
        Self { broken }
    }

    #[track_caller]
    fn check(&self) {
        assert_eq!(*self.broken.lock().unwrap(), [""; 0]);
    }
}

#[tokio::test]
async fn a_new_template_replaces_the_old_pods_within_bounds() {
    let cluster = Cluster::start().await;
    let strategy = json!({"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}});
    cluster
        .apply("web", &json!({"replicas": 6, "template": template("one"), "strategy": strategy}))
        .await;
    cluster.rolled_out("web").await;
    let bounds = Bounds::watch(&cluster.pods, 5..=8, 5);
    cluster.deploy("web", "two", 6).await;
    let deployment = cluster.rolled_out("web").await;
    bounds.check();
    assert_eq!(revision(&deployment.metadata), 2);
    for pod in cluster.counted::<Pod>(6).await {
        assert_eq!(pod.spec.unwrap().containers[0].image.as_deref(), Some("two"));
    }
    let sizes: Vec<_> = cluster.sets("web").await.iter().map(|(_, size)| *size).collect();
    assert_eq!(sizes, [0, 6]);
}

#[tokio::test]
async fn a_rollback_finds_the_old_set() {
    let cluster = Cluster::start().await;
    for image in ["one", "two"] {
        cluster.deploy("web", image, 2).await;
        cluster.rolled_out("web").await;
    }
    let first = cluster.sets("web").await.remove(0).0;
    cluster.deploy("web", "one", 2).await;
    let deployment = cluster.rolled_out("web").await;
    assert_eq!(revision(&deployment.metadata), 3);
    let sets = cluster.sets("web").await;
    let (again, size) = sets.last().unwrap();
    assert_eq!((&again.metadata.uid, *size, sets.len()), (&first.metadata.uid, 2, 2));
    let history =
        &again.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision-history"];
    assert_eq!(history, "1");
}

#[tokio::test]
async fn sizes_are_followed_up_and_down() {
    let cluster = Cluster::start().await;
    for replicas in [1, 40, 7, 0, 3] {
        cluster.deploy("web", "one", replicas).await;
        cluster.rolled_out("web").await;
        cluster.counted::<Pod>(usize::try_from(replicas).unwrap()).await;
    }
    // The scale subresource is the other way to say it.
    let scale = json!({"spec": {"replicas": 5}});
    let path = "/apis/apps/v1/namespaces/default/deployments/web/scale";
    cluster.api.patch(path, "merge", &scale).await.ok();
    cluster.reached("web", |web| web.status.as_ref().unwrap().available_replicas == Some(5)).await;
}

#[tokio::test]
async fn a_rollout_that_gets_nowhere_says_so_and_can_be_undone() {
    let cluster = Cluster::start().await;
    cluster
        .apply(
            "web",
            &json!({"replicas": 4, "template": template("one"),
        "progressDeadlineSeconds": 2}),
        )
        .await;
    cluster.rolled_out("web").await;
    let bounds = Bounds::watch(&cluster.pods, 3..=5, 3);
    cluster.deploy("web", BROKEN, 4).await;
    let stuck = cluster
        .reached("web", |web| {
            condition(web, "Progressing").as_deref() == Some("ProgressDeadlineExceeded")
        })
        .await;
    assert_eq!(condition(&stuck, "Available").unwrap(), "MinimumReplicasAvailable");
    cluster.deploy("web", "one", 4).await;
    cluster.rolled_out("web").await;
    bounds.check();
}

#[tokio::test]
async fn a_paused_rollout_waits() {
    let cluster = Cluster::start().await;
    cluster.deploy("web", "one", 2).await;
    cluster.rolled_out("web").await;
    cluster.apply("web", &json!({"paused": true})).await;
    cluster.deploy("web", "two", 3).await;
    cluster
        .reached("web", |web| {
            condition(web, "Progressing").as_deref() == Some("DeploymentPaused")
                && web.status.as_ref().unwrap().available_replicas == Some(3)
        })
        .await;
    assert_eq!(cluster.sets("web").await.len(), 1);
    cluster.apply("web", &json!({"paused": false})).await;
    cluster.rolled_out("web").await;
    assert_eq!(cluster.sets("web").await.len(), 2);
}

#[tokio::test]
async fn recreate_has_no_old_pod_beside_a_new_one() {
    let cluster = Cluster::start().await;
    let strategy = json!({"type": "Recreate", "$retainKeys": ["type"]});
    cluster.apply("web", &json!({"replicas": 3, "template": template("one")})).await;
    cluster.rolled_out("web").await;
    cluster.apply("web", &json!({"strategy": strategy})).await;
    let mixed = Arc::<Mutex<bool>>::default();
    let (record, pods) = (Arc::clone(&mixed), Arc::clone(&cluster.pods));
    cluster.pods.on_change(move |_| {
        let image = |pod: &Arc<Pod>| pod.spec.as_ref().unwrap().containers[0].image.clone();
        let images: BTreeSet<_> = pods.list().iter().map(image).collect();
        *record.lock().unwrap() |= images.len() > 1;
    });
    cluster.deploy("web", "two", 3).await;
    cluster.rolled_out("web").await;
    assert!(!*mixed.lock().unwrap());
}

#[tokio::test]
async fn a_pod_that_goes_is_replaced() {
    let cluster = Cluster::start().await;
    cluster.deploy("web", "one", 3).await;
    cluster.rolled_out("web").await;
    let lost = cluster.counted::<Pod>(3).await.remove(0);
    let key = key_of(&lost.metadata);
    cluster.client.delete::<Pod>(&key, &DeleteOptions::default()).await.unwrap();
    eventually("another pod in its place", async || {
        let pods = cluster.list::<Pod>().await;
        let is_there = pods.iter().any(|pod| pod.metadata.uid == lost.metadata.uid);
        (pods.len() == 3 && !is_there).then_some(())
    })
    .await;
    cluster.rolled_out("web").await;
    // A pod whose labels change is nobody's, and one more is made.
    let kept = cluster.counted::<Pod>(3).await.remove(0);
    let labels = Patch::Merge(json!({"metadata": {"labels": {"app": "else"}}}));
    cluster.client.patch::<Pod>(&key_of(&kept.metadata), &labels, None).await.unwrap();
    let pods = cluster.counted::<Pod>(4).await;
    let released = pods.iter().find(|pod| pod.metadata.uid == kept.metadata.uid).unwrap();
    eventually("it is released", async || {
        let pod = cluster.client.get::<Pod>(&key_of(&released.metadata)).await.unwrap();
        pod.metadata.owner_references.is_none_or(|owners| owners.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn controllers_that_start_again_go_on_and_make_nothing_twice() {
    let mut cluster = Cluster::start().await;
    cluster.deploy("web", "one", 20).await;
    for _ in 0..3 {
        // In the middle of it.
        eventually("some pods", async || (!cluster.list::<Pod>().await.is_empty()).then_some(()))
            .await;
        cluster.stop_controllers().await;
        cluster.start_controllers();
    }
    cluster.rolled_out("web").await;
    cluster.counted::<Pod>(20).await;
    cluster.counted::<ReplicaSet>(1).await;
    let rest = cluster.at_rest().await;
    cluster.stop_controllers().await;
    cluster.start_controllers();
    // Nothing is to be done.
    assert_eq!(cluster.at_rest().await, rest);
    let deployments = cluster.list::<Deployment>().await;
    assert_eq!(deployments.len(), 1);
}

#[tokio::test]
async fn old_sets_are_kept_for_a_while() {
    let cluster = Cluster::start().await;
    cluster
        .apply("web", &json!({"replicas": 1, "revisionHistoryLimit": 2, "template": template("0")}))
        .await;
    for image in ["1", "2", "3", "4"] {
        cluster.rolled_out("web").await;
        cluster.deploy("web", image, 1).await;
    }
    cluster.rolled_out("web").await;
    let sets = eventually("three sets are left", async || {
        Some(cluster.sets("web").await).filter(|sets| sets.len() == 3)
    })
    .await;
    let revisions: Vec<_> = sets.iter().map(|(set, _)| revision(&set.metadata)).collect();
    assert_eq!(revisions, [3, 4, 5]);
}
