//! Images that have to be fetched first.

use crate::rig::{Rig, container, waiting};
use serde_json::{Value, json};

fn with_image(image: &str, policy: &str) -> Value {
    let mut container = container("a");
    container["image"] = json!(image);
    container["imagePullPolicy"] = json!(policy);
    json!({ "containers": [container] })
}

#[tokio::test]
async fn an_image_is_fetched_when_it_is_not_there() {
    let rig = Rig::start().await;
    rig.runtime.offer_image("app:1");
    rig.create_pod("web", with_image("app:1", "IfNotPresent")).await;
    rig.running("web").await;
    assert_eq!(rig.runtime.pulls().len(), 1);
    rig.event_until("Pulling: Pulling image \"app:1\"").await;
    rig.event_until("Pulled: Successfully pulled image \"app:1\" in ").await;
    rig.runtime.exit("a", 1);
    rig.listing_until(&["a/0=exit1", "a/1=run"]).await;
    assert_eq!(rig.runtime.pulls().len(), 1);
}

#[tokio::test]
async fn an_image_is_fetched_for_each_start_where_the_pod_wants_it() {
    let rig = Rig::start().await;
    rig.runtime.offer_image("app:1");
    rig.create_pod("web", with_image("app:1", "Always")).await;
    rig.running("web").await;
    rig.runtime.exit("a", 1);
    rig.listing_until(&["a/0=exit1", "a/1=run"]).await;
    assert_eq!(rig.runtime.pulls().len(), 2);
}

#[tokio::test]
async fn a_failed_pull_is_told_and_tried_again() {
    let rig = Rig::start().await;
    rig.create_pod("web", with_image("app:1", "IfNotPresent")).await;
    let pod = rig.pod_until("web", |pod| waiting(pod) == "ErrImagePull").await;
    let state = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
    let expected =
        "failed to pull image \"app:1\": docker.io/library/app:1 was not found in its registry";
    assert_eq!(state["message"], expected);
    rig.pass(5);
    rig.pod_until("web", |pod| waiting(pod) == "ImagePullBackOff").await;
    rig.event_until("Failed: Failed to pull image \"app:1\": ").await;
    rig.event_until("Failed: Error: ErrImagePull").await;
    rig.event_until("BackOff: Back-off pulling image \"app:1\"").await;
    rig.runtime.offer_image("app:1");
    assert_eq!(rig.runtime.pulls().len(), 1);
    rig.pass(6);
    rig.running("web").await;
    assert_eq!(rig.runtime.pulls().len(), 2);
}

#[tokio::test]
async fn what_can_never_be_fetched_is_told() {
    let rig = Rig::start().await;
    rig.create_pod("never", with_image("app:1", "Never")).await;
    rig.pod_until("never", |pod| waiting(pod) == "ErrImageNeverPull").await;
    rig.create_pod("bad", with_image("App:1:2", "IfNotPresent")).await;
    rig.pod_until("bad", |pod| waiting(pod) == "InvalidImageName").await;
    assert!(rig.runtime.pulls().is_empty());
}

#[tokio::test]
async fn secrets_of_the_pod_are_shown_to_the_registry() {
    let rig = Rig::start().await;
    rig.runtime.offer_image("r.example.com/app:1");
    let mut spec = with_image("r.example.com/app:1", "IfNotPresent");
    spec["imagePullSecrets"] = json!([{ "name": "pull" }, { "name": "missing" }]);
    let auths = json!({ "auths": { "r.example.com": { "username": "u", "password": "p" } } });
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "pull" },
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": { ".dockerconfigjson": auths.to_string() },
    });
    rig.api.post("/api/v1/namespaces/default/secrets", &secret).await.ok();
    rig.create_pod("web", spec).await;
    rig.running("web").await;
    let credentials = rig.runtime.pulls()[0].1.clone();
    assert_eq!((credentials.len(), credentials[0].username.as_str()), (1, "u"));
    rig.event_until(
        "FailedToRetrieveImagePullSecret: Unable to retrieve some image pull secrets (missing)",
    )
    .await;
}

#[tokio::test]
async fn an_image_that_comes_by_another_way_is_noticed() {
    let rig = Rig::start().await;
    let image = json!({ "name": "a", "image": "late:1", "imagePullPolicy": "Never" });
    rig.create_pod("web", json!({ "containers": [image] })).await;
    rig.pod_until("web", |pod| waiting(pod) == "ErrImageNeverPull").await;
    rig.runtime.add_image("late:1");
    rig.kubelet.images_changed();
    rig.running("web").await;
}

#[tokio::test]
async fn an_image_is_looked_for_again_where_its_container_cannot_be_made() {
    let rig = Rig::start().await;
    rig.runtime.offer_image("often:1");
    rig.runtime.fail("create_container", 1);
    let image = json!({ "name": "a", "image": "often:1", "imagePullPolicy": "Always" });
    rig.create_pod("web", json!({ "containers": [image] })).await;
    rig.running("web").await;
    assert_eq!(rig.runtime.pulls().len(), 2);
}
