//! Containers that join a pod while it runs.

use crate::rig::{Rig, container};
use serde_json::json;

const PATH: &str = "/api/v1/namespaces/default/pods/web/ephemeralcontainers";

#[tokio::test]
async fn a_container_joins_a_pod_that_runs() {
    let mut rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    let pod = rig.running("web").await;
    let running_as = pod["status"]["containerStatuses"][0]["containerID"].clone();
    let debugger = json!({
        "name": "debugger", "image": "web:1", "stdin": true, "targetContainerName": "a",
    });
    let joined = json!({ "spec": { "ephemeralContainers": [debugger] } });
    let pod = rig.api.patch(PATH, "strategic-merge", &joined).await.ok();
    assert_eq!(pod["metadata"]["generation"], 2);
    let pod = rig
        .pod_until("web", |pod| {
            pod["status"]["ephemeralContainerStatuses"][0]["state"]["running"].is_object()
        })
        .await;
    assert_eq!(pod["status"]["observedGeneration"], 2);
    rig.event_until("Started: Container started").await;
    let target = rig.runtime.config_of("debugger").process_namespace_of.unwrap();
    assert_eq!(running_as, format!("kinglet://{target}"));
    // It ends, and nothing else comes of it, also where another kubelet looks.
    rig.runtime.exit("debugger", 3);
    rig.pod_until("web", |pod| {
        let status = &pod["status"]["ephemeralContainerStatuses"][0];
        status["state"]["terminated"]["exitCode"] == 3 && pod["status"]["phase"] == "Running"
    })
    .await;
    rig.stop_kubelet().await;
    rig.start_kubelet();
    rig.create_pod("marker", json!({ "containers": [container("m")] })).await;
    rig.running("marker").await;
    assert_eq!(rig.runtime.listing(), ["a/0=run", "debugger/0=exit3", "m/0=run"]);
}
