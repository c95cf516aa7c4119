//! The machine goes down.

use crate::rig::{NODE, Rig, condition, container};
use crate::runtime::OnTerm;
use crate::support::eventually;
use jiff::SignedDuration;
use kinglet::kubelet::shutdown::plan::{ShutdownGrace, Step};
use serde_json::{Value, json};

const CRITICAL: i32 = 2_000_000_000;

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

async fn going_down(steps: &'static [(i32, i64)]) -> Rig {
    let step =
        |(priority, grace): &(i32, i64)| Step { priority: *priority, grace: seconds(*grace) };
    let grace = ShutdownGrace::by_priority(steps.iter().map(step).collect()).unwrap();
    Rig::start_as(move |config| config.shutdown_grace = grace.clone()).await
}

async fn ready_condition(rig: &Rig) -> Value {
    let node = rig.api.get(&format!("/api/v1/nodes/{NODE}")).await.ok();
    let conditions = node["status"]["conditions"].as_array().unwrap().clone();
    conditions.into_iter().find(|it| it["type"] == "Ready").unwrap()
}

/// A pod with one container of that name.
async fn create(rig: &Rig, name: &str, spec: Value) {
    let mut spec = spec;
    spec["containers"] = json!([container(name)]);
    rig.create_pod(name, spec).await;
    rig.running(name).await;
}

#[tokio::test]
async fn those_that_matter_least_end_first() {
    let rig = going_down(&[(0, 30), (CRITICAL, 10)]).await;
    assert!(rig.kubelet.ends_pods_on_shutdown());
    create(&rig, "vital", json!({ "priorityClassName": "system-node-critical" })).await;
    create(&rig, "plain", json!({ "terminationGracePeriodSeconds": 600 })).await;
    create(&rig, "quick", json!({ "terminationGracePeriodSeconds": 4 })).await;
    rig.kubelet.shut_down().await;
    for name in ["vital", "plain", "quick"] {
        let status = rig.pod(name).await.unwrap()["status"].clone();
        assert_eq!(status["phase"], "Failed", "{status:#}");
        assert_eq!(status["reason"], "Terminated");
        let message = "Pod was terminated in response to imminent node shutdown.";
        assert_eq!(status["message"], message);
        let conditions = status["conditions"].as_array().unwrap();
        let target = conditions.iter().find(|it| it["type"] == "DisruptionTarget").unwrap();
        assert_eq!(target["reason"], "TerminationByKubelet");
        assert_eq!(target["message"], message);
    }
    let journal = rig.runtime.journal();
    let stops: Vec<_> = journal.iter().filter(|it| it.starts_with("stop ")).collect();
    assert_eq!(stops.len(), 3, "{journal:?}");
    assert_eq!(stops[2], "stop vital/0 10");
    for expected in ["stop plain/0 30", "stop quick/0 4"] {
        assert!(stops[..2].iter().any(|it| *it == expected), "{stops:?}");
    }
    let ready = ready_condition(&rig).await;
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("KubeletNotReady")));
    assert_eq!(ready["message"], "node is shutting down");
    // Nobody else comes.
    rig.create_pod("late", json!({})).await;
    let late = rig.phase_until("late", "Failed").await;
    assert_eq!(late["status"]["reason"], "NodeShutdown");
    let message = "Pod was rejected: Pod was rejected as the node is shutting down.";
    assert_eq!(late["status"]["message"], message);
    assert_eq!(condition(&late, "DisruptionTarget"), "");
    rig.event_until("NodeShutdown: Pod was rejected as the node is shutting down.").await;
}

#[tokio::test]
async fn who_is_late_holds_nobody_up() {
    let rig = going_down(&[(0, 1), (CRITICAL, 10)]).await;
    create(&rig, "stuck", json!({})).await;
    create(&rig, "vital", json!({ "priorityClassName": "system-node-critical" })).await;
    rig.runtime.on_term("stuck", OnTerm::Ignores);
    rig.runtime.clear_journal();
    rig.kubelet.shut_down().await;
    let journal = rig.runtime.journal();
    let place = |what: &str| journal.iter().position(|it| it == what).expect(what);
    // A container has two seconds, whatever its group has.
    assert!(place("stop stuck/0 2") < place("stop vital/0 10"), "{journal:?}");
    assert!(place("exit vital/0 143") < place("exit stuck/0 137"), "{journal:?}");
    for name in ["stuck", "vital"] {
        assert_eq!(rig.pod(name).await.unwrap()["status"]["reason"], "Terminated");
    }
}

#[tokio::test]
async fn a_restart_is_no_shutdown() {
    let mut rig = Rig::start().await;
    assert!(!rig.kubelet.ends_pods_on_shutdown());
    create(&rig, "web", json!({})).await;
    rig.stop_kubelet().await;
    rig.start_kubelet();
    eventually("the node to be ready", async || {
        (ready_condition(&rig).await["status"] == "True").then_some(())
    })
    .await;
    rig.listing_until(&["web/0=run"]).await;
}
