//! Volumes behind claims: waited for, found, and one pod's alone where they say so.

use crate::rig::{NODE, Rig, condition};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";

/// A volume and a claim as the controller would leave them, but for the claim's phase.
async fn create(rig: &Rig, name: &str, path: &Path, mode: &str) {
    create_on(rig, NODE, (name, path, mode)).await;
}

async fn create_on(rig: &Rig, node: &str, (name, path, mode): (&str, &Path, &str)) {
    let spec = json!({ "accessModes": [mode], "resources": { "requests": { "storage": "1Mi" } },
        "storageClassName": "x", "volumeName": name });
    let claim = json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": name }, "spec": spec });
    let claim = rig.api.post(CLAIMS, &claim).await.ok();
    let here = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": [node] });
    let spec = json!({
        "accessModes": [mode], "capacity": { "storage": "1Mi" }, "storageClassName": "x",
        "local": { "path": path },
        "claimRef": { "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": name,
            "namespace": "default", "uid": claim["metadata"]["uid"] },
        "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [here] }] } },
    });
    let volume = json!({ "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": { "name": name }, "spec": spec });
    rig.api.post("/api/v1/persistentvolumes", &volume).await.ok();
}

async fn set_bound(rig: &Rig, name: &str) {
    let status = json!({ "status": { "phase": "Bound" } });
    rig.api.patch(&format!("{CLAIMS}/{name}/status"), "merge", &status).await.ok();
}

fn with_claim(container: &str, claim: &str) -> Value {
    json!({
        "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": claim } }],
        "containers": [{ "name": container, "image": "web:1", "volumeMounts": [
            { "name": "data", "mountPath": "/data" },
        ] }],
    })
}

fn directory(rig: &Rig) -> PathBuf {
    let path = rig.files.path().join("disk");
    fs::create_dir_all(&path).unwrap();
    path
}

#[tokio::test]
async fn a_pod_waits_for_its_claim_and_keeps_the_data_of_others() {
    let rig = Rig::start().await;
    let disk = directory(&rig);
    rig.create_pod("web", with_claim("a", "data")).await;
    let start = "FailedMount: MountVolume.SetUp failed for volume \"data\" : error processing PVC default/data: ";
    rig.event_until(&format!("{start}failed to fetch PVC from API server: ")).await;
    create(&rig, "data", &disk, "ReadWriteOnce").await;
    rig.event_until(&format!("{start}PVC is not bound")).await;
    assert!(rig.runtime.journal().is_empty());
    set_bound(&rig, "data").await;
    // Asked for again ever more seldom: time has to pass.
    rig.pass(31);
    rig.running("web").await;
    let config = rig.runtime.config_of("a");
    let mount = config.mounts.iter().find(|it| it.container_path == "/data").unwrap();
    assert_eq!((&mount.host_path, mount.read_only), (&disk, false));
    fs::write(disk.join("x"), "kept").unwrap();
    let claimed = "{namespace=\"default\",persistentvolumeclaim=\"data\"} ";
    let metrics = rig.answer("/metrics").await;
    for name in ["capacity_bytes", "available_bytes", "used_bytes", "inodes", "inodes_free"] {
        let told = format!("kubelet_volume_stats_{name}{claimed}");
        assert!(metrics.contains(&told), "no {told:?} in\n{metrics}");
    }
    rig.delete_pod("web").await;
    rig.gone("web").await;
    assert!(!rig.answer("/metrics").await.contains(claimed));
    assert_eq!(fs::read_to_string(disk.join("x")).unwrap(), "kept");
}

#[tokio::test]
async fn a_volume_for_one_pod_is_for_one_pod() {
    let rig = Rig::start().await;
    let disk = directory(&rig);
    create(&rig, "data", &disk, "ReadWriteOncePod").await;
    set_bound(&rig, "data").await;
    rig.create_pod("first", with_claim("a", "data")).await;
    rig.running("first").await;
    rig.create_pod("second", with_claim("b", "data")).await;
    rig.event_until(
        "FailedMount: MountVolume.SetUp failed for volume \"data\" : volume uses the ReadWriteOncePod access mode",
    )
    .await;
    rig.delete_pod("first").await;
    rig.gone("first").await;
    rig.pass(61);
    rig.running("second").await;
}

#[tokio::test]
async fn a_volume_of_another_node_is_refused() {
    let rig = Rig::start().await;
    create_on(&rig, "elsewhere", ("data", &directory(&rig), "ReadWriteOnce")).await;
    set_bound(&rig, "data").await;
    rig.create_pod("web", with_claim("a", "data")).await;
    let pod = rig.pod_until("web", |pod| condition(pod, "Ready") == "False").await;
    assert_eq!(pod["status"]["phase"], "Pending");
    rig.event_until("FailedMount: ").await;
    let events = rig.events().await;
    let told = |event: &String| event.contains("no matching NodeSelectorTerms");
    assert!(events.iter().any(told), "{events:?}");
}
