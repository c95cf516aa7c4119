//! Pods that are run from files of the node.

use crate::rig::Rig;
use crate::support::eventually;
use std::fs;

const NAME: &str = "web-node-1";

fn write(rig: &Rig, command: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
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
