//! RuntimeClasses: which runtime a pod's sandbox is made with, and what is said where none is known.

use crate::rig::Rig;
use serde_json::json;

const CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";

async fn create_class(rig: &Rig, name: &str, handler: &str) {
    let class = json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": { "name": name },
        "handler": handler, "overhead": { "podFixed": { "cpu": "250m" } },
    });
    rig.api.post(CLASSES, &class).await.ok();
}

#[tokio::test]
async fn a_pods_class_names_its_runtime() {
    let rig = Rig::start().await;
    create_class(&rig, "sandboxed", "kata").await;
    let limits = json!({ "cpu": "1", "memory": "64Mi" });
    let container = json!({ "name": "a", "image": "web:1", "resources": { "limits": limits } });
    let spec = json!({ "runtimeClassName": "sandboxed", "containers": [container] });
    rig.create_pod("web", spec).await;
    rig.running("web").await;
    let sandbox = rig.runtime.sandbox_config();
    assert_eq!(sandbox.runtime_handler, "kata");
    // What the sandbox itself takes is in the pod's cgroup, too.
    assert_eq!(sandbox.resources.cpu_shares, Some(1_280));
    assert_eq!(sandbox.resources.cpu_quota, Some(125_000));
}

#[tokio::test]
async fn a_pod_without_a_class_has_the_default() {
    let rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    rig.running("web").await;
    assert_eq!(rig.runtime.sandbox_config().runtime_handler, "");
}

#[tokio::test]
async fn a_pod_waits_for_its_class() {
    let mut rig = Rig::start().await;
    rig.stop_kubelet().await;
    create_class(&rig, "sandboxed", "kata").await;
    rig.create_pod("web", json!({ "runtimeClassName": "sandboxed" })).await;
    // The API server takes no pod whose class is not there: it has gone since.
    rig.api.delete(&format!("{CLASSES}/sandboxed")).await.ok();
    rig.start_kubelet();
    rig.event_until(
        "FailedCreatePodSandBox: Failed to create pod sandbox: runtimeclass.node.k8s.io \
         \"sandboxed\" not found",
    )
    .await;
    assert_eq!(rig.pod("web").await.unwrap()["status"]["phase"], "Pending");
    assert_eq!(rig.runtime.sandbox_count(), 0);
    create_class(&rig, "sandboxed", "kata").await;
    rig.running("web").await;
    assert_eq!(rig.runtime.sandbox_config().runtime_handler, "kata");
}
