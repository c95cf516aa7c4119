//! Pods that go because the node is short of something.

use crate::rig::{NODE, Rig, condition, container};
use crate::support::eventually;
use jiff::SignedDuration;
use kinglet::kubelet::eviction::EvictionConfig;
use kinglet::kubelet::eviction::plan::{Least, Signal, Threshold};
use kinglet::runtime::Usage;
use serde_json::json;

/// A node that never has enough memory.
fn short_of_memory() -> EvictionConfig {
    let never_enough = Threshold {
        signal: Signal::MemoryAvailable,
        least: Least::Amount(u64::MAX),
        grace: None,
        reclaim: Least::Amount(0),
    };
    let mut config = crate::rig::no_eviction();
    config.thresholds.all.push(never_enough);
    config.thresholds.transition = SignedDuration::from_secs(3_600);
    config
}

#[tokio::test]
async fn a_node_that_is_short_of_memory_ends_a_pod() {
    let rig = Rig::start_with(short_of_memory()).await;
    eventually("the node to say so", async || {
        let node = rig.api.get(&format!("/api/v1/nodes/{NODE}")).await.ok();
        (condition(&node, "MemoryPressure") == "True").then_some(())
    })
    .await;
    // Who asks for nothing is not even taken.
    rig.create_pod("late", json!({ "containers": [container("late")] })).await;
    let late = rig.phase_until("late", "Failed").await;
    assert_eq!(late["status"]["reason"], "Evicted");
    let message = "Pod was rejected: The node had condition: [MemoryPressure]. ";
    assert_eq!(late["status"]["message"], message);
    let mut a = container("a");
    a["resources"] = json!({ "requests": { "memory": "1Mi" } });
    rig.create_pod("web", json!({ "containers": [a] })).await;
    let pod = rig.phase_until("web", "Failed").await;
    assert_eq!(pod["status"]["reason"], "Evicted");
    let message = pod["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("The node was low on resource: memory. Threshold"), "{message}");
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    let target = conditions.iter().find(|it| it["type"] == "DisruptionTarget").unwrap();
    assert_eq!(
        (&target["status"], &target["reason"]),
        (&json!("True"), &json!("TerminationByKubelet"))
    );
    rig.event_until("Evicted: The node was low on resource: memory").await;
    rig.event_until("EvictionThresholdMet: Attempting to reclaim memory").await;
    assert!(
        rig.runtime.journal().contains(&"stop a/0 2".to_owned()),
        "{:?}",
        rig.runtime.journal()
    );
}

#[tokio::test]
async fn pods_that_use_up_what_pods_may_use_go() {
    let mut config = crate::rig::no_eviction();
    config.thresholds.all.push("memory.available<1".parse().unwrap());
    let rig = Rig::start_with(config).await;
    let memory_working_set_bytes = u64::MAX;
    rig.runtime.set_pods_usage(Usage { memory_working_set_bytes, ..Usage::default() });
    let mut a = container("a");
    a["resources"] = json!({ "requests": { "memory": "1Mi" } });
    rig.create_pod("web", json!({ "containers": [a] })).await;
    let pod = rig.phase_until("web", "Failed").await;
    let message = pod["status"]["message"].as_str().unwrap();
    let expected = "The node was low on resource: memory. Threshold quantity: 1, available: 0. ";
    assert!(message.starts_with(expected), "{message}");
    let metrics = rig.answer("/metrics").await;
    let counted = "kubelet_evictions{eviction_signal=\"allocatableMemory.available\"} 1\n";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn a_pod_that_takes_too_much_of_the_disk_goes() {
    let rig = Rig::start().await;
    let mut a = container("a");
    a["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data" }]);
    a["resources"] = json!({ "limits": { "ephemeral-storage": "1Gi" } });
    let volumes = json!([{ "name": "data", "emptyDir": { "sizeLimit": "1Mi" } }]);
    rig.create_pod("web", json!({ "containers": [a], "volumes": volumes })).await;
    rig.running("web").await;
    let config = rig.runtime.config_of("a");
    let data = config.mounts.iter().find(|it| it.container_path == "/data");
    let data = data.unwrap().host_path.clone();
    std::fs::write(data.join("much"), vec![1; 2 << 20]).unwrap();
    // Any change has it looked at.
    let label = json!({ "metadata": { "labels": { "a": "b" } } });
    rig.api.patch("/api/v1/namespaces/default/pods/web", "merge", &label).await.ok();
    let pod = rig.phase_until("web", "Failed").await;
    assert_eq!(pod["status"]["reason"], "Evicted");
    let expected = "Usage of EmptyDir volume \"data\" exceeds the limit \"1Mi\". ";
    assert_eq!(pod["status"]["message"], expected);
}
