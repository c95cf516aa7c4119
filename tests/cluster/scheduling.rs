//! The scheduler against the API server, as the identity that it has: what upstream's conformance
//! tests of sig-scheduling look at (test/e2e/scheduling/predicates.go, preemption.go, v1.35), without
//! containers.

use crate::support::{Api, eventually};
use k8s_openapi::api::core::v1::{Event, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;
use kinglet::api::ObjectKey;
use kinglet::api::pod::{condition, node_name};
use kinglet::apiserver::Identity;
use kinglet::client::{
    ApiObject, Client, DeleteOptions, EventRecorder, Patch, Selection, revision_of,
};
use kinglet::scheduler::{self, Caches, Scheduler, reporter};
use kinglet::stdx::{Clock, Tasks};
use serde_json::{Value, json};
use std::time::Duration;

/// An API server and a scheduler, and one who may do everything.
struct Cluster {
    api: Api,
    client: Client,
    scheduler: Option<(Caches, Tasks)>,
}

impl Cluster {
    /// With a node of one processor.
    async fn start() -> Self {
        let api = Api::start().await;
        let client = Client::new(api.server.local(Identity::new("a", &["system:masters"])), "test");
        let mut cluster = Self { api, client, scheduler: None };
        cluster.api.give_account("default").await;
        cluster.node("one").await;
        cluster.start_scheduler();
        cluster
    }

    fn start_scheduler(&mut self) {
        let mut tasks = Tasks::default();
        let identity = Identity::new("system:kube-scheduler", &[]);
        let client = Client::new(self.api.server.local(identity), "kinglet");
        let recorder =
            EventRecorder::start(client.clone(), reporter(), Clock::system(), &mut tasks);
        let caches = Caches::start(&client, &mut tasks);
        let config = scheduler::Config { client, caches: caches.clone(), recorder };
        Scheduler::start(config, &mut tasks);
        self.scheduler = Some((caches, tasks));
    }

    async fn stop_scheduler(&mut self) {
        let (_, tasks) = self.scheduler.take().expect("it runs");
        tasks.stop(Duration::from_secs(5)).await.unwrap();
    }

    async fn create<K: ApiObject>(&self, object: Value) -> K {
        let object: K = serde_json::from_value(object).unwrap();
        self.client.create(&object).await.unwrap()
    }

    async fn node(&self, name: &str) {
        let sizes = json!({"cpu": "1", "memory": "4Gi", "pods": "10"});
        let node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"capacity": sizes, "allocatable": sizes, "conditions": [{"type": "Ready", "status": "True"}]},
        });
        self.create::<Node>(node).await;
        // Nobody here sees that the node is ready.
        let untaint = json!({"spec": {"taints": null}});
        self.api.patch(&format!("/api/v1/nodes/{name}"), "merge", &untaint).await.ok();
    }

    /// A pod that asks for so much of a processor.
    async fn pod(&self, name: &str, cpu: &str, more: Value) {
        let mut spec = json!({
            "terminationGracePeriodSeconds": 30,
            "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}],
        });
        let mut metadata = json!({"name": name, "namespace": "default"});
        for (key, value) in more.as_object().unwrap() {
            match key.as_str() {
                "finalizers" => metadata[key] = value.clone(),
                _ => spec[key] = value.clone(),
            }
        }
        self.create::<Pod>(json!({"metadata": metadata, "spec": spec})).await;
    }

    async fn get(&self, name: &str) -> Pod {
        self.client.get(&key(name)).await.unwrap()
    }

    async fn is_bound(&self, name: &str, node: &str) {
        eventually("the pod is bound", async || {
            let pod = self.get(name).await;
            (node_name(&pod) == Some(node)).then_some(())
        })
        .await;
    }

    /// Waits until the pod says why it has no node.
    async fn is_told(&self, name: &str, expected: &str) {
        eventually("the pod is told", async || {
            let pod = self.get(name).await;
            let told = condition(&pod, "PodScheduled")?;
            let is_it = told.reason.as_deref() == Some("Unschedulable")
                && told.status == "False"
                && told.message.as_deref() == Some(expected);
            is_it.then_some(())
        })
        .await;
    }

    async fn has_event(&self, reason: &str, about: &str, expected: &str) {
        eventually("there is the event", async || {
            let events = self.client.list::<Event>(&Selection::namespace("default")).await.unwrap();
            let mut events = events.items.iter();
            events
                .any(|event| {
                    event.reason.as_deref() == Some(reason)
                        && event.involved_object.name.as_deref() == Some(about)
                        && event
                            .message
                            .as_deref()
                            .is_some_and(|message| message.contains(expected))
                })
                .then_some(())
        })
        .await;
    }

    /// What a kubelet does in the end.
    async fn remove(&self, name: &str) {
        let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
        self.client.delete::<Pod>(&key(name), &options).await.unwrap();
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::namespaced("default", name)
}

#[tokio::test]
async fn pods_beyond_the_room_wait_and_say_why() {
    let mut cluster = Cluster::start().await;
    cluster.pod("a", "600m", json!({})).await;
    cluster.is_bound("a", "one").await;
    cluster.has_event("Scheduled", "a", "Successfully assigned default/a to one").await;
    let told = condition(&cluster.get("a").await, "PodScheduled").unwrap().status.clone();
    assert_eq!(told, "True");

    cluster.pod("b", "600m", json!({})).await;
    let why = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No \
               preemption victims found for incoming pod.";
    cluster.is_told("b", why).await;
    cluster.has_event("FailedScheduling", "b", why).await;
    cluster.remove("a").await;
    cluster.is_bound("b", "one").await;

    // Another scheduler finds everything as the first has left it.
    cluster.stop_scheduler().await;
    cluster.pod("c", "600m", json!({})).await;
    cluster.node("two").await;
    cluster.start_scheduler();
    cluster.is_bound("c", "two").await;
}

#[tokio::test]
async fn selectors_and_host_ports_are_kept_to() {
    let cluster = Cluster::start().await;
    cluster.pod("a", "0", json!({"nodeSelector": {"disk": "fast"}})).await;
    cluster
        .is_told(
            "a",
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. \
             preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
        )
        .await;
    let label = Patch::Merge(json!({"metadata": {"labels": {"disk": "fast"}}}));
    cluster.client.patch::<Node>(&ObjectKey::cluster("one"), &label, None).await.unwrap();
    cluster.is_bound("a", "one").await;

    let port = |address: &str| {
        let port =
            json!({"containerPort": 80, "hostPort": 54322, "hostIP": address, "protocol": "TCP"});
        json!({"containers": [{"name": "c", "image": "i", "ports": [port]}]})
    };
    cluster.pod("everywhere", "0", port("0.0.0.0")).await;
    cluster.is_bound("everywhere", "one").await;
    cluster.pod("local", "0", port("127.0.0.1")).await;
    let refused = "1 node(s) didn't have free ports for the requested pod ports.";
    cluster.has_event("FailedScheduling", "local", refused).await;
}

#[tokio::test]
async fn an_important_pod_stops_another_that_is_told_so() {
    let cluster = Cluster::start().await;
    for (name, value) in [("low", 1), ("high", 1_000)] {
        cluster.create::<PriorityClass>(json!({"metadata": {"name": name}, "value": value})).await;
    }
    let low = json!({"priorityClassName": "low", "finalizers": ["example.com/test"]});
    cluster.pod("victim", "800m", low).await;
    cluster.is_bound("victim", "one").await;
    cluster.pod("high", "800m", json!({"priorityClassName": "high"})).await;
    eventually("the victim is told", async || {
        let victim = cluster.get("victim").await;
        let target = condition(&victim, "DisruptionTarget")?;
        let is_stopped = target.status == "True"
            && target.reason.as_deref() == Some("PreemptionByScheduler")
            && victim.metadata.deletion_timestamp.is_some();
        is_stopped.then_some(())
    })
    .await;
    cluster.has_event("Preempted", "victim", "Preempted by pod ").await;
    eventually("room is being made", async || {
        let high = cluster.get("high").await;
        (high.status?.nominated_node_name.as_deref() == Some("one")).then_some(())
    })
    .await;
    // Room is kept for it until the other is gone.
    cluster.pod("small", "800m", json!({})).await;
    cluster.has_event("FailedScheduling", "small", "1 Insufficient cpu").await;
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    cluster.client.patch::<Pod>(&key("victim"), &free, None).await.unwrap();
    cluster.remove("victim").await;
    cluster.is_bound("high", "one").await;
    assert_eq!(cluster.get("high").await.status.unwrap().nominated_node_name, None);
    assert_eq!(node_name(&cluster.get("small").await), None);
}

#[tokio::test]
async fn claims_that_wait_for_a_pod_are_bound_or_provisioned_for_its_node() {
    let cluster = Cluster::start().await;
    let class = json!({
        "metadata": {"name": "late"}, "provisioner": "example.com/disk",
        "volumeBindingMode": "WaitForFirstConsumer",
    });
    cluster.create::<StorageClass>(class).await;
    let claim = |name: &str, size: &str| {
        json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "late",
                "resources": {"requests": {"storage": size}},
            },
        })
    };
    let volume = json!({
        "metadata": {"name": "there"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "late", "capacity": {"storage": "1Gi"},
            "hostPath": {"path": "/tmp/x"}, "persistentVolumeReclaimPolicy": "Retain",
        },
    });
    cluster.create::<PersistentVolume>(volume).await;
    let available = Patch::Merge(json!({"status": {"phase": "Available"}}));
    let there = ObjectKey::cluster("there");
    let there_now =
        cluster.client.patch::<PersistentVolume>(&there, &available, Some("status")).await.unwrap();
    // Each kind is watched by itself: a pod may be seen before a volume that was there before it.
    let (caches, _) = cluster.scheduler.as_ref().expect("it runs");
    caches.volumes.wait_seen(revision_of(&there_now.metadata).unwrap()).await;
    cluster.create::<PersistentVolumeClaim>(claim("small", "1Gi")).await;
    cluster.create::<PersistentVolumeClaim>(claim("large", "9Gi")).await;
    let volumes = json!({"volumes": [
        {"name": "s", "persistentVolumeClaim": {"claimName": "small"}},
        {"name": "l", "persistentVolumeClaim": {"claimName": "large"}},
    ]});
    cluster.pod("p", "0", volumes).await;

    eventually("the volume is promised", async || {
        let volume: PersistentVolume = cluster.client.get(&there).await.unwrap();
        let promised = volume.spec?.claim_ref?.name;
        (promised.as_deref() == Some("small")).then_some(())
    })
    .await;
    eventually("the node is selected", async || {
        let claim: PersistentVolumeClaim = cluster.client.get(&key("large")).await.unwrap();
        let selected =
            claim.metadata.annotations?.get("volume.kubernetes.io/selected-node").cloned();
        (selected.as_deref() == Some("one")).then_some(())
    })
    .await;
    assert_eq!(node_name(&cluster.get("p").await), None);
    // What the volume controller and the provisioner do.
    for (name, volume) in [("small", "there"), ("large", "made")] {
        let bound = json!({
            "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": volume},
        });
        let bound = Patch::Merge(bound);
        cluster.client.patch::<PersistentVolumeClaim>(&key(name), &bound, None).await.unwrap();
    }
    cluster.is_bound("p", "one").await;
}
