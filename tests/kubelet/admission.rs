//! Pods that were bound to the node by hand, or that come while it changes.

use crate::rig::{NODE, Rig, condition, container};
use serde_json::{Value, json};

fn asking(name: &str, memory: &str) -> Value {
    let mut container = container(name);
    container["resources"] = json!({ "requests": { "memory": memory } });
    json!([container])
}

/// So much, in mebibytes, is for pods.
async fn memory_of_node(rig: &Rig) -> u64 {
    let node = rig.api.get(&format!("/api/v1/nodes/{NODE}")).await.ok();
    let text = node["status"]["allocatable"]["memory"].as_str().unwrap().to_owned();
    text.strip_suffix("Ki").unwrap().parse::<u64>().unwrap() >> 10
}

#[tokio::test]
async fn what_does_not_fit_is_not_taken() {
    let rig = Rig::start_as(|config| config.node.pods_max = 2).await;
    let all = memory_of_node(&rig).await;
    rig.create_pod("big", json!({ "containers": asking("big", &format!("{}Mi", all - 10)) })).await;
    rig.running("big").await;
    rig.create_pod("other", json!({ "containers": asking("other", "20Mi") })).await;
    let other = rig.phase_until("other", "Failed").await;
    assert_eq!(other["status"]["reason"], "OutOfmemory");
    let message = other["status"]["message"].as_str().unwrap();
    let start = "Pod was rejected: Node didn't have enough resource: memory, requested: 20971520, ";
    assert!(message.starts_with(start), "{message}");
    rig.event_until("OutOfmemory: Node didn't have enough resource: memory").await;
    rig.create_pod("elsewhere", json!({ "nodeSelector": { "zone": "b" } })).await;
    let elsewhere = rig.phase_until("elsewhere", "Failed").await;
    assert_eq!(elsewhere["status"]["reason"], "NodeAffinity");
    rig.create_pod("small", json!({ "containers": [container("small")] })).await;
    rig.running("small").await;
    rig.create_pod("third", json!({})).await;
    assert_eq!(rig.phase_until("third", "Failed").await["status"]["reason"], "OutOfpods");
    // Nothing was made of them, and who has gone has left room.
    rig.delete_pod("big").await;
    rig.gone("big").await;
    rig.create_pod("next", json!({ "containers": asking("next", "20Mi") })).await;
    rig.running("next").await;
    rig.listing_until(&["next/0=run", "small/0=run"]).await;
}

#[tokio::test]
async fn a_pod_that_was_taken_stays_taken() {
    let mut rig = Rig::start().await;
    let all = memory_of_node(&rig).await;
    let most = format!("{}Mi", all / 3 * 2);
    rig.create_pod("web", json!({ "containers": asking("web", &most) })).await;
    rig.running("web").await;
    rig.stop_kubelet().await;
    // It comes first in every list.
    rig.create_pod("again", json!({ "containers": asking("again", &most) })).await;
    rig.start_kubelet();
    assert_eq!(rig.phase_until("again", "Failed").await["status"]["reason"], "OutOfmemory");
    rig.listing_until(&["web/0=run"]).await;
}

#[tokio::test]
async fn a_critical_pod_takes_the_place_of_another() {
    let rig = Rig::start().await;
    let most = format!("{}Mi", memory_of_node(&rig).await / 3 * 2);
    rig.create_pod("web", json!({ "containers": asking("web", &most) })).await;
    rig.running("web").await;
    let vital = json!({
        "priorityClassName": "system-node-critical", "containers": asking("vital", &most),
    });
    rig.create_pod("vital", vital).await;
    rig.running("vital").await;
    let web = rig.phase_until("web", "Failed").await;
    assert_eq!(web["status"]["reason"], "Preempting");
    assert_eq!(web["status"]["message"], "Preempted in order to admit critical pod");
    assert_eq!(condition(&web, "DisruptionTarget"), "True");
    rig.event_until("Preempting: Preempted in order to admit critical pod").await;
    let journal = rig.runtime.journal();
    let place = |what: &str| journal.iter().position(|it| it == what).expect(what);
    assert!(place("exit web/0 143") < place("sandbox vital/0"), "{journal:?}");
}
