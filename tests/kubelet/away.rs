//! The API server goes away and comes back.

use crate::rig::Rig;
use serde_json::{Value, json};

fn first(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

#[tokio::test]
async fn the_node_goes_on_alone_and_reports_when_it_can() {
    let rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    rig.running("web").await;
    rig.line.set(false);
    rig.runtime.exit("a", 1);
    rig.listing_until(&["a/0=exit1", "a/1=run"]).await;
    rig.runtime.exit("a", 7);
    rig.listing_until(&["a/1=exit7"]).await;
    assert_eq!(first(&rig.pod("web").await.unwrap())["restartCount"], 0);
    rig.line.set(true);
    let pod = rig.pod_until("web", |pod| first(pod)["restartCount"] == 1).await;
    assert_eq!(first(&pod)["lastState"]["terminated"]["exitCode"], 7);
    rig.pass(11);
    rig.listing_until(&["a/1=exit7", "a/2=run"]).await;
}

#[tokio::test]
async fn an_end_while_away_is_never_lost() {
    let rig = Rig::start().await;
    rig.create_pod("job", json!({ "restartPolicy": "Never" })).await;
    rig.running("job").await;
    rig.delete_pod("job").await;
    rig.gone("job").await;
    rig.create_pod("job", json!({ "restartPolicy": "Never" })).await;
    rig.running("job").await;
    rig.line.set(false);
    rig.runtime.exit("a", 9);
    rig.listing_until(&["a/0=exit9"]).await;
    rig.line.set(true);
    let pod = rig.phase_until("job", "Failed").await;
    assert_eq!(first(&pod)["state"]["terminated"]["exitCode"], 9);
}

#[tokio::test]
async fn somebody_elses_words_about_containers_are_corrected() {
    let rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    rig.running("web").await;
    let path = "/api/v1/namespaces/default/pods/web/status";
    let gate = json!({ "type": "example.com/gate", "status": "True" });
    let words = json!({ "status": { "podIP": "10.42.9.9", "conditions": [gate] } });
    rig.api.patch(path, "strategic-merge", &words).await.ok();
    let pod = rig.pod_until("web", |pod| pod["status"]["podIP"] == "10.42.0.1").await;
    let conditions = pod["status"]["conditions"].as_array().unwrap().clone();
    assert!(conditions.iter().any(|condition| condition["type"] == "example.com/gate"));
}
