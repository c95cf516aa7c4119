//! Images that are volumes.

use crate::rig::{Rig, container, waiting};
use serde_json::{Value, json};

fn with_image(policy: &str) -> Value {
    let mut a = container("a");
    a["volumeMounts"] = json!([
        { "name": "tools", "mountPath": "/tools", "subPath": "bin" },
        { "name": "own", "mountPath": "/own" },
    ]);
    let image = json!({ "reference": "tools:1", "pullPolicy": policy });
    let volumes = json!([{ "name": "tools", "image": image }, { "name": "own", "emptyDir": {} }]);
    json!({ "containers": [a, container("b")], "volumes": volumes })
}

#[tokio::test]
async fn an_image_is_a_volume() {
    let rig = Rig::start().await;
    rig.runtime.offer_image("tools:1");
    rig.create_pod("web", with_image("IfNotPresent")).await;
    let pod = rig.running("web").await;
    let config = rig.runtime.config_of("a");
    let [mount] = &config.image_mounts[..] else { panic!("{:?}", config.image_mounts) };
    assert_eq!((&*mount.container_path, mount.sub_path.to_str()), ("/tools", Some("bin")));
    assert!(mount.image.0.contains("tools:1"), "{}", mount.image);
    assert!(config.mounts.iter().any(|it| it.container_path == "/own"));
    assert!(rig.runtime.config_of("b").image_mounts.is_empty());
    assert_eq!(rig.runtime.pulls().len(), 1);
    let shown = &pod["status"]["containerStatuses"][0]["volumeMounts"][0];
    assert_eq!((&shown["name"], &shown["mountPath"]), (&json!("tools"), &json!("/tools")));
    rig.event_until("Pulled: Successfully pulled image \"tools:1\"").await;
}

#[tokio::test]
async fn who_mounts_an_image_waits_for_it() {
    let rig = Rig::start().await;
    rig.create_pod("web", with_image("Never")).await;
    let pod = rig.pod_until("web", |pod| waiting(pod) == "ErrImageNeverPull").await;
    // Who does not mount it does not.
    let other = &pod["status"]["containerStatuses"][1];
    assert_eq!(other["name"], "b");
    rig.listing_until(&["b/0=run"]).await;
    rig.runtime.add_image("tools:1");
    rig.kubelet.images_changed();
    rig.running("web").await;
}

#[tokio::test]
async fn a_container_tells_of_its_user_and_its_mounts() {
    let rig = Rig::start().await;
    let mut a = container("a");
    a["volumeMounts"] = json!([
        { "name": "own", "mountPath": "/own", "readOnly": true, "recursiveReadOnly": "Disabled" },
    ]);
    let volumes = json!([{ "name": "own", "emptyDir": {} }]);
    rig.create_pod("web", json!({ "containers": [a], "volumes": volumes })).await;
    let pod = rig.running("web").await;
    let status = &pod["status"]["containerStatuses"][0];
    let user = json!({ "linux": { "uid": 33, "gid": 34, "supplementalGroups": [34, 50] } });
    assert_eq!(status["user"], user);
    let mount = json!({
        "name": "own", "mountPath": "/own", "readOnly": true, "recursiveReadOnly": "Disabled",
    });
    assert_eq!(status["volumeMounts"][0], mount);
    let node = rig.api.get(&format!("/api/v1/nodes/{}", crate::rig::NODE)).await.ok();
    assert_eq!(node["status"]["features"]["supplementalGroupsPolicy"], true);
}
