//! The Node object, and others who have a say in it.

use crate::rig::{NODE, Rig};
use crate::support::eventually;
use kinglet::kubelet::node::Cloud;
use serde_json::{Value, json};
use std::time::Duration;

const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";

fn path() -> String {
    format!("/api/v1/nodes/{NODE}")
}

impl Rig {
    async fn node(&self) -> Value {
        self.api.get(&path()).await.ok()
    }

    /// Something about the node has changed, and it has said so.
    async fn tells_of_image(&self, name: &str) -> Value {
        self.runtime.add_image(name);
        self.kubelet.images_changed();
        eventually("the node tells of an image", async || {
            let node = self.node().await;
            node["status"]["images"].to_string().contains(name).then_some(node)
        })
        .await
    }
}

fn is_uninitialized(node: &Value) -> bool {
    node["spec"]["taints"].to_string().contains(UNINITIALIZED)
}

#[tokio::test]
async fn a_cloud_controller_manager_says_where_the_node_is() {
    let mut rig = Rig::start_as(|config| {
        config.node.cloud = Cloud::External { provider_id: Some("cloud://zone/1".to_owned()) };
    })
    .await;
    let node = rig.node().await;
    assert!(is_uninitialized(&node), "{node:#}");
    assert_eq!(node["spec"]["providerID"], "cloud://zone/1");
    assert_eq!(
        node["metadata"]["annotations"]["alpha.kubernetes.io/provided-node-ip"],
        "192.0.2.7"
    );
    // What a cloud controller manager does: cloud-provider controllers/node, `syncNode`.
    let addresses = json!([
        {"type": "InternalIP", "address": "192.0.2.7"},
        {"type": "ExternalIP", "address": "198.51.100.7"},
        {"type": "Hostname", "address": "node-1.cloud.example"},
    ]);
    let zone = json!({"topology.kubernetes.io/zone": "a", "node.kubernetes.io/instance-type": "m"});
    let taints: Vec<Value> = node["spec"]["taints"].as_array().unwrap().clone();
    let taints: Vec<Value> = taints.into_iter().filter(|it| it["key"] != UNINITIALIZED).collect();
    let patch = json!({"metadata": {"labels": zone}, "spec": {"taints": taints}});
    rig.api.patch(&path(), "merge", &patch).await.ok();
    let status = json!({"status": {"addresses": addresses}});
    rig.api.patch(&format!("{}/status", path()), "merge", &status).await.ok();
    let check = |node: Value| {
        assert_eq!(node["status"]["addresses"], addresses);
        assert_eq!(node["metadata"]["labels"]["topology.kubernetes.io/zone"], "a");
        assert!(!is_uninitialized(&node), "{node:#}");
    };
    check(rig.tells_of_image("new:1").await);
    rig.stop_kubelet().await;
    rig.start_kubelet();
    check(rig.tells_of_image("new:2").await);
    // A node that comes anew is not known to the cloud yet.
    rig.api.delete(&path()).await.ok();
    let uid = eventually("the node registers again", async || {
        let answer = rig.api.get(&path()).await;
        let node = (answer.code == 200).then(|| answer.json())?;
        (node["metadata"]["uid"] != Value::Null && is_uninitialized(&node)).then_some(node)
    });
    uid.await;
}

#[tokio::test]
async fn a_node_of_another_machine_is_left_alone() {
    let rig = Rig::start_as(|config| config.node.key = Some("mine".to_owned())).await;
    assert_eq!(rig.node().await["metadata"]["annotations"]["kinglet.dev/node-key"], "mine");
    // Deleted, it comes again, with what its machine is known by.
    let uid = rig.node().await["metadata"]["uid"].clone();
    rig.api.delete(&path()).await.ok();
    eventually("the node registers again", async || {
        let answer = rig.api.get(&path()).await;
        let node = (answer.code == 200).then(|| answer.json())?;
        (node["metadata"]["uid"] != uid).then_some(())
    })
    .await;
    let theirs = json!({"metadata": {"annotations": {"kinglet.dev/node-key": "theirs"}}});
    rig.api.patch(&path(), "merge", &theirs).await.ok();
    let lost = tokio::time::timeout(Duration::from_secs(10), rig.kubelet.name_lost());
    assert!(lost.await.unwrap().contains("is that of another machine"));
    rig.runtime.add_image("new:1");
    rig.kubelet.images_changed();
    let node = rig.node().await;
    assert_eq!(node["metadata"]["annotations"]["kinglet.dev/node-key"], "theirs");
}
