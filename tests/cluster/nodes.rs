//! Nodes that are away, and what becomes of their pods.

use crate::cluster::{Cluster, template};
use crate::support::eventually;
use k8s_openapi::api::core::v1::{Node, Pod};
use kinglet::api::ObjectKey;
use kinglet::client::Patch;
use kinglet::stdx::Clock;
use serde_json::json;

impl Cluster {
    async fn node(&self, ready: &str) {
        let node = json!({"metadata": {"name": "n1"}});
        let node: Node = serde_json::from_value(node).unwrap();
        self.client.create(&node).await.unwrap();
        self.say_ready(ready).await;
    }

    async fn say_ready(&self, ready: &str) {
        let now = Clock::system().now();
        let condition = json!({"type": "Ready", "status": ready, "reason": "Test", "message": "",
            "lastHeartbeatTime": now, "lastTransitionTime": now});
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        self.client.patch::<Node>(&ObjectKey::cluster("n1"), &patch, Some("status")).await.unwrap();
    }

    /// Waits until the node has exactly these taints, as `key:effect`.
    async fn tainted(&self, expected: &[&str]) {
        eventually(&format!("{expected:?}"), async || {
            let node: Node = self.client.get(&ObjectKey::cluster("n1")).await.unwrap();
            let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
            let mut taints: Vec<_> =
                taints.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect();
            taints.sort();
            (taints == expected).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn taints_say_what_conditions_say() {
    let cluster = Cluster::start().await;
    cluster.node("False").await;
    // It is the only node: nobody is driven from it.
    cluster.tainted(&["node.kubernetes.io/not-ready:NoSchedule"]).await;
    cluster.say_ready("True").await;
    cluster.tainted(&[]).await;
    let patch = Patch::Merge(json!({"spec": {"unschedulable": true}}));
    cluster.client.patch::<Node>(&ObjectKey::cluster("n1"), &patch, None).await.unwrap();
    cluster.tainted(&["node.kubernetes.io/unschedulable:NoSchedule"]).await;
    let rest = cluster.at_rest().await;
    assert_eq!(cluster.at_rest().await, rest);
}

#[tokio::test]
async fn pods_leave_a_node_whose_taints_they_do_not_tolerate() {
    let cluster = Cluster::start().await;
    cluster.node("True").await;
    for (name, tolerations) in [
        ("stays", json!([{"operator": "Exists"}])),
        (
            "soon",
            json!([{"key": "gone", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}]),
        ),
        ("leaves", json!([])),
    ] {
        let mut pod = template("one");
        pod["metadata"] = json!({"name": name, "namespace": "default"});
        pod["spec"]["tolerations"] = tolerations;
        let pod: Pod = serde_json::from_value(pod).unwrap();
        cluster.client.create(&pod).await.unwrap();
    }
    eventually("all pods are bound", async || {
        let pods = cluster.list::<Pod>().await;
        pods.iter().all(|pod| pod.spec.as_ref().unwrap().node_name.is_some()).then_some(())
    })
    .await;
    let taint = json!([{"key": "gone", "effect": "NoExecute"}]);
    let patch = Patch::Merge(json!({"spec": {"taints": taint}}));
    cluster.client.patch::<Node>(&ObjectKey::cluster("n1"), &patch, None).await.unwrap();
    let left = cluster.counted::<Pod>(1).await;
    assert_eq!(left[0].metadata.name.as_deref(), Some("stays"));
    let events = cluster.events("leaves").await;
    let expected =
        ("TaintManagerEviction".to_owned(), "Marking for deletion Pod default/leaves".to_owned());
    assert!(events.contains(&expected), "{events:?}");
}
