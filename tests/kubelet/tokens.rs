//! Tokens of service accounts: asked for, kept fresh, and kept over a restart.

use crate::rig::Rig;
use crate::support::eventually;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

fn with_token() -> Value {
    json!({
        "serviceAccountName": "robot",
        // One token is enough to watch.
        "automountServiceAccountToken": false,
        "securityContext": { "fsGroup": rustix::process::getgid().as_raw() },
        "volumes": [{ "name": "access", "projected": { "sources": [
            { "serviceAccountToken": { "path": "token", "expirationSeconds": 3607 } },
            { "downwardAPI": { "items": [
                { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } },
            ] } },
        ] } }],
        "containers": [{ "name": "a", "image": "web:1", "volumeMounts": [
            { "name": "access", "mountPath": "/access", "readOnly": true },
        ] }],
    })
}

async fn start() -> Rig {
    let rig = Rig::start().await;
    let robot = json!({ "metadata": { "name": "robot" } });
    rig.api.post("/api/v1/namespaces/default/serviceaccounts", &robot).await.ok();
    rig
}

fn place(rig: &Rig) -> PathBuf {
    let config = rig.runtime.config_of("a");
    config.mounts.iter().find(|it| it.container_path == "/access").unwrap().host_path.clone()
}

fn asked(rig: &Rig) -> usize {
    rig.line.tokens.asked.lock().unwrap().len()
}

#[tokio::test]
async fn a_pod_gets_a_token_that_is_bound_to_it() {
    let rig = start().await;
    rig.create_pod("web", with_token()).await;
    let pod = rig.running("web").await;
    let (account, spec) = rig.line.tokens.asked.lock().unwrap()[0].clone();
    assert_eq!(account, "robot");
    let bound = json!({
        "apiVersion": "v1", "kind": "Pod", "name": "web", "uid": pod["metadata"]["uid"],
    });
    assert_eq!((&spec["boundObjectRef"], &spec["expirationSeconds"]), (&bound, &json!(3607)));
    let place = place(&rig);
    assert_eq!(fs::read_to_string(place.join("labels")).unwrap(), "");
    assert!(fs::read_to_string(place.join("token")).unwrap().starts_with("e30."));
    let mode = fs::metadata(place.join("token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    assert!(place.starts_with(rig.files.path().join("memory")), "never on a disk");
}

#[tokio::test]
async fn a_token_is_replaced_before_it_ends_and_outlives_a_restart() {
    let mut rig = start().await;
    rig.create_pod("web", with_token()).await;
    rig.running("web").await;
    let token = place(&rig).join("token");
    let first = fs::read_to_string(&token).unwrap();
    rig.stop_kubelet().await;
    rig.start_kubelet();
    rig.pass(2_000);
    let path = "/api/v1/namespaces/default/pods/web";
    let labels = json!({ "metadata": { "labels": { "looked": "at" } } });
    rig.api.patch(path, "merge", &labels).await.ok();
    let seen = token.with_file_name("labels");
    eventually("the labels", async || {
        (fs::read_to_string(&seen).ok()? == "looked=\"at\"").then_some(())
    })
    .await;
    assert_eq!((asked(&rig), fs::read_to_string(&token).unwrap()), (1, first.clone()));
    rig.pass(2_000);
    eventually("another token", async || (fs::read_to_string(&token).ok()? != first).then_some(()))
        .await;
    assert_eq!(asked(&rig), 2);
    assert_eq!(rig.runtime.listing()[0], "a/0=run");
}

#[tokio::test]
async fn a_token_is_asked_for_until_it_is_given() {
    let rig = start().await;
    rig.line.tokens.refuse(1);
    rig.create_pod("robot", with_token()).await;
    let why = "MountVolume.SetUp failed for volume \"access\" : failed to fetch token: ";
    rig.event_until(&format!("FailedMount: {why}")).await;
    assert!(rig.runtime.journal().is_empty());
    rig.pass(2);
    rig.running("robot").await;
    assert_eq!(asked(&rig), 1);
}
