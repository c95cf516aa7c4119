//! ConfigMaps and Secrets: waited for, seen in containers, and followed when they change.

use crate::rig::{Rig, waiting};
use crate::support::eventually;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

async fn create(rig: &Rig, plural: &str, name: &str, data: Value) {
    let (kind, field) =
        if plural == "secrets" { ("Secret", "stringData") } else { ("ConfigMap", "data") };
    let object = json!({
        "apiVersion": "v1", "kind": kind, "metadata": { "name": name }, field: data,
    });
    rig.api.post(&format!("/api/v1/namespaces/default/{plural}"), &object).await.ok();
}

fn with_volumes() -> Value {
    json!({
        "volumes": [
            { "name": "c", "configMap": { "name": "settings" } },
            { "name": "s", "secret": { "secretName": "key", "defaultMode": 256 } },
        ],
        "containers": [{ "name": "a", "image": "web:1", "volumeMounts": [
            { "name": "c", "mountPath": "/c" }, { "name": "s", "mountPath": "/s" },
        ] }],
    })
}

fn place(rig: &Rig, path: &str) -> PathBuf {
    let config = rig.runtime.config_of("a");
    config.mounts.iter().find(|it| it.container_path == path).unwrap().host_path.clone()
}

#[tokio::test]
async fn volumes_wait_for_their_objects_and_follow_them() {
    let rig = Rig::start().await;
    create(&rig, "configmaps", "settings", json!({ "level": "info", "old": "x" })).await;
    rig.create_pod("web", with_volumes()).await;
    rig.event_until(
        "FailedMount: MountVolume.SetUp failed for volume \"s\" : secret \"key\" not found",
    )
    .await;
    assert!(rig.runtime.journal().is_empty());
    create(&rig, "secrets", "key", json!({ "pass": "hush" })).await;
    rig.running("web").await;
    let level = place(&rig, "/c").join("level");
    assert_eq!(fs::read_to_string(&level).unwrap(), "info");
    let secret = place(&rig, "/s");
    assert_eq!(fs::read_to_string(secret.join("pass")).unwrap(), "hush");
    assert!(secret.starts_with(rig.files.path().join("memory")));
    let changed = json!({ "data": { "level": "debug", "old": null } });
    let path = "/api/v1/namespaces/default/configmaps/settings";
    rig.api.patch(path, "merge", &changed).await.ok();
    eventually("the file to change", async || {
        (fs::read_to_string(&level).ok()? == "debug").then_some(())
    })
    .await;
    assert!(!place(&rig, "/c").join("old").exists());
    assert_eq!(rig.runtime.listing(), ["a/0=run"]);
}

#[tokio::test]
async fn volumes_stay_when_their_objects_go() {
    let rig = Rig::start().await;
    create(&rig, "configmaps", "settings", json!({ "level": "info" })).await;
    create(&rig, "secrets", "key", json!({ "pass": "hush" })).await;
    rig.create_pod("web", with_volumes()).await;
    rig.running("web").await;
    rig.api.delete("/api/v1/namespaces/default/configmaps/settings").await.ok();
    rig.event_until(
        "FailedMount: MountVolume.SetUp failed for volume \"c\" : configmap \"settings\" not found",
    )
    .await;
    rig.runtime.exit("a", 1);
    rig.listing_until(&["a/0=exit1", "a/1=run"]).await;
    assert_eq!(fs::read_to_string(place(&rig, "/c").join("level")).unwrap(), "info");
}

#[tokio::test]
async fn variables_wait_for_their_objects() {
    let rig = Rig::start().await;
    let source = json!({ "configMapKeyRef": { "name": "settings", "key": "level" } });
    let spec = json!({ "containers": [{
        "name": "a", "image": "web:1", "env": [{ "name": "LEVEL", "valueFrom": source }],
    }] });
    rig.create_pod("web", spec).await;
    let pod = rig.pod_until("web", |pod| waiting(pod) == "CreateContainerConfigError").await;
    let state = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(state["message"], "configmap \"settings\" not found");
    rig.event_until("Failed: Error: configmap \"settings\" not found").await;
    create(&rig, "configmaps", "settings", json!({ "other": "1" })).await;
    rig.event_until("Failed: Error: couldn't find key level in ConfigMap default/settings").await;
    let path = "/api/v1/namespaces/default/configmaps/settings";
    rig.api.patch(path, "merge", &json!({ "data": { "level": "info" } })).await.ok();
    rig.running("web").await;
    let config = rig.runtime.config_of("a");
    assert!(config.environment.contains(&("LEVEL".to_owned(), "info".to_owned())));
}
