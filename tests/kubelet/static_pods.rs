//! Pods that are run from files of the node.

use crate::rig::Rig;
use crate::support::eventually;
use http_body_util::BodyExt as _;
use serde_json::Value;
use std::fs;

const NAME: &str = "web-node-1";

fn write(rig: &Rig, command: &str) {
    write_spec(rig, command, "terminationGracePeriodSeconds: 1");
}

fn write_spec(rig: &Rig, command: &str, field: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  {field}\n  \
         containers:\n  - {{name: a, image: 'web:1', command: [{command}]}}\n"
    );
    let directory = rig.files.path().join("manifests");
    fs::write(directory.join(".web"), text).unwrap();
    fs::rename(directory.join(".web"), directory.join("web.yaml")).unwrap();
}

#[tokio::test]
async fn a_file_is_a_pod_and_the_api_shows_it() {
    let rig = Rig::start().await;
    write(&rig, "serve");
    let pod = rig.running(NAME).await;
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(annotations["kubernetes.io/config.source"], "file");
    assert_eq!(
        annotations["kubernetes.io/config.mirror"],
        annotations["kubernetes.io/config.hash"]
    );
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "Node");
    // Whoever deletes what the API shows deletes nothing.
    rig.delete_pod(NAME).await;
    let again = rig.pod_until(NAME, |again| {
        again["metadata"]["uid"] != pod["metadata"]["uid"] && again["status"]["phase"] == "Running"
    });
    again.await;
    assert_eq!(rig.runtime.listing(), ["a/0=run"]);
    // Another file is another pod.
    write(&rig, "other");
    eventually("the other", async || {
        (rig.runtime.journal().iter().filter(|it| *it == "start a/0").count() == 2).then_some(())
    })
    .await;
    let hash = annotations["kubernetes.io/config.hash"].clone();
    rig.pod_until(NAME, |pod| {
        pod["metadata"]["annotations"]["kubernetes.io/config.hash"] != hash
            && pod["status"]["phase"] == "Running"
    })
    .await;
    fs::remove_file(rig.files.path().join("manifests/web.yaml")).unwrap();
    rig.gone(NAME).await;
    rig.listing_until(&[]).await;
}

/// What the kubelet answers.
async fn answer(rig: &Rig, path: &str) -> (u16, Vec<u8>) {
    let request = http::Request::get(path).body(bytes::Bytes::new()).unwrap();
    let response = rig.kubelet.service().call(request).await.unwrap();
    let code = response.status().as_u16();
    (code, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

#[tokio::test]
async fn the_node_tells_of_its_own_pods_whoever_listens() {
    let rig = Rig::start().await;
    rig.line.set(false);
    write(&rig, "serve");
    rig.listing_until(&["a/0=run"]).await;
    let uid = eventually("the pod among the others", async || {
        let (_, body) = answer(&rig, "/runningpods").await;
        let list: Value = serde_json::from_slice(&body).unwrap();
        let pod = list["items"].as_array().unwrap().first()?.clone();
        assert_eq!(pod["metadata"]["name"], NAME);
        assert_eq!(pod["status"]["phase"], "Running");
        Some(pod["metadata"]["uid"].as_str().unwrap().to_owned())
    })
    .await;
    let logs = format!("/containerLogs/default/{NAME}/a");
    assert_eq!(answer(&rig, &logs).await.0, 200);
    rig.line.set(true);
    let mirror = rig.running(NAME).await;
    let mirror = mirror["metadata"]["uid"].as_str().unwrap();
    assert_ne!(mirror, uid);
    assert_eq!(answer(&rig, &logs).await.0, 200);
    let (_, body) = answer(&rig, "/pods").await;
    let list: Value = serde_json::from_slice(&body).unwrap();
    let uids: Vec<_> = list["items"].as_array().unwrap().iter().collect();
    assert_eq!(uids.len(), 1, "{uids:?}");
    assert_eq!(uids[0]["metadata"]["uid"], *uid);
    // Whoever asks by the uid that the API has means the same pod.
    for (uid, expected) in [(mirror, 200), (&uid, 200), ("other", 404)] {
        let path = format!("/run/default/{NAME}/{uid}/a?cmd=true");
        let request = http::Request::post(path).body(bytes::Bytes::new()).unwrap();
        let response = rig.kubelet.service().call(request).await.unwrap();
        assert_eq!(response.status().as_u16(), expected, "{uid}");
    }
}

#[tokio::test]
async fn a_file_may_be_there_before_the_node() {
    let mut rig = Rig::start().await;
    rig.stop_kubelet().await;
    rig.runtime.clear_journal();
    let path = format!("/api/v1/nodes/{}", crate::rig::NODE);
    rig.api.delete(&path).await.ok();
    fs::create_dir_all(rig.files.path().join("manifests")).unwrap();
    // On the node's network it does not wait for addresses, which nobody gives the new node.
    write_spec(&rig, "serve", "hostNetwork: true");
    rig.start_kubelet();
    rig.running(NAME).await;
    assert_eq!(rig.runtime.listing(), ["a/0=run"]);
}

#[tokio::test]
async fn files_need_no_api_server() {
    let mut rig = Rig::start().await;
    rig.line.set(false);
    write(&rig, "serve");
    rig.listing_until(&["a/0=run"]).await;
    rig.stop_kubelet().await;
    rig.start_kubelet();
    rig.line.set(true);
    rig.running(NAME).await;
    assert_eq!(rig.runtime.listing(), ["a/0=run"]);
}
