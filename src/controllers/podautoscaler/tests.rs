//! What autoscalers decide.

use super::limits::{Wish, limit};
use super::*;
use serde_json::{Value, json};

const NOW: &str = "2026-11-20T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

/// `name[ use=N][ pending][ unready][ leaving][ young]`: usage in thousandths of a core, of the
/// hundred that each asks for.
fn pod(text: &str) -> (Arc<Pod>, Option<PodUsage>) {
    let name = text.split(' ').next().unwrap();
    let has = |flag: &str| text.split(' ').any(|word| word == flag);
    let started = if has("young") { ago(100) } else { ago(1_000) };
    let turned = if has("young") { ago(90) } else { started };
    let mut pod = json!({
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}}]},
        "status": {"phase": if has("pending") { "Pending" } else { "Running" },
            "startTime": started, "conditions": [{"type": "Ready",
                "status": if has("unready") { "False" } else { "True" },
                "lastTransitionTime": turned}]},
    });
    if has("leaving") {
        pod["metadata"]["deletionTimestamp"] = json!(now());
    }
    let used = text.split(' ').find_map(|word| word.strip_prefix("use="));
    let usage = used.map(|used| PodUsage {
        timestamp: ago(10),
        window: SignedDuration::from_secs(15),
        containers: BTreeMap::from([(
            "c".to_owned(),
            BTreeMap::from([("cpu".to_owned(), used.parse().unwrap())]),
        )]),
    });
    (serde_json::from_value(pod).unwrap(), usage)
}

fn observed(spec: Value, replicas: i32, pods: &[&str]) -> ObservedDue {
    let mut autoscaler = json!({"metadata": {"name": "web", "namespace": "n"},
        "spec": {"minReplicas": 1, "maxReplicas": 100,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 50}}}]}});
    json_patch::merge(&mut autoscaler["spec"], &spec);
    let scale = json!({"metadata": {"name": "web", "namespace": "n"},
        "spec": {"replicas": replicas}, "status": {"replicas": replicas, "selector": "app=web"}});
    let pods: Vec<_> = pods.iter().map(|text| pod(text)).collect();
    let usage = pods
        .iter()
        .filter_map(|(pod, usage)| Some((pod.metadata.name.clone().unwrap(), usage.clone()?)));
    ObservedDue {
        autoscaler: serde_json::from_value(autoscaler).unwrap(),
        target: Ok(ScaleTarget {
            resource: ResourceType::of::<k8s_openapi::api::apps::v1::Deployment>(),
            key: ObjectKey::namespaced("n", "web"),
            scale: serde_json::from_value(scale).unwrap(),
        }),
        usage: Ok(usage.collect()),
        pods: pods.into_iter().map(|(pod, _)| pod).collect(),
        selecting: vec![ObjectKey::namespaced("n", "web")],
        history: History::default(),
        attempt: Attempt { now: now(), failure: None },
    }
}

fn render(observed: ObservedDue) -> String {
    let plan = plan(&Observed::Due(Box::new(observed)));
    assert_eq!(plan.recheck_after, Some(SYNC_PERIOD));
    let mut text = String::new();
    for write in plan.writes() {
        let body = write.body();
        if body["status"]["conditions"].is_null() {
            text += &format!("scale to {}; ", body["spec"]["replicas"]);
            continue;
        }
        let status = &body["status"];
        let conditions = status["conditions"].as_array().unwrap().iter().map(|condition| {
            let sign = if condition["status"] == "True" { "+" } else { "-" };
            format!("{sign}{}", condition["reason"].as_str().unwrap())
        });
        let percent = &status["currentMetrics"][0]["resource"]["current"]["averageUtilization"];
        let conditions = conditions.collect::<Vec<_>>().join(" ");
        text += &format!("{}% {conditions}", percent.as_i64().unwrap_or(-1));
    }
    text
}

#[track_caller]
fn check(spec: Value, replicas: i32, pods: &[&str], expected: &str) {
    assert_eq!(render(observed(spec, replicas, pods)), expected, "{replicas} {pods:?}");
}

#[test]
fn replicas_follow_usage() {
    let none = || json!({});
    let settled =
        |percent| format!("{percent}% +ReadyForNewScale +ValidMetricFound -DesiredWithinRange");
    let scaled = |count, percent| {
        format!(
            "scale to {count}; {percent}% +SucceededRescale +ValidMetricFound -DesiredWithinRange"
        )
    };
    check(none(), 2, &["a use=50", "b use=50"], &settled(50));
    check(none(), 2, &["a use=54", "b use=54"], &settled(54));
    check(none(), 2, &["a use=75", "b use=75"], &scaled(3, 75));
    check(none(), 4, &["a use=10", "b use=10", "c use=10", "d use=10"], &scaled(1, 10));
    check(
        none(),
        1,
        &["a use=1000"],
        "scale to 4; 1000% +SucceededRescale +ValidMetricFound +ScaleUpLimit",
    );
    check(
        json!({"maxReplicas": 3}),
        2,
        &["a use=500", "b use=500"],
        "scale to 3; 500% +SucceededRescale +ValidMetricFound +TooManyReplicas",
    );
    check(
        json!({"minReplicas": 2}),
        2,
        &["a use=1", "b use=1"],
        "1% +ReadyForNewScale +ValidMetricFound +TooFewReplicas",
    );
}

#[test]
fn pods_that_tell_nothing_make_changes_smaller() {
    // Above the target, a missing pod is taken to use nothing.
    check(
        json!({}),
        2,
        &["a use=90", "b"],
        "90% +ReadyForNewScale +ValidMetricFound -DesiredWithinRange",
    );
    // Below, all that it asks for.
    check(
        json!({}),
        3,
        &["a use=5", "b use=5", "c"],
        "5% +ReadyForNewScale +ValidMetricFound -DesiredWithinRange",
    );
    // Pods that start, and those that go, do not count.
    check(
        json!({}),
        2,
        &["a use=90", "b pending"],
        "90% +ReadyForNewScale +ValidMetricFound -DesiredWithinRange",
    );
    check(
        json!({}),
        2,
        &["a use=90", "b use=90 young unready"],
        "90% +ReadyForNewScale +ValidMetricFound -DesiredWithinRange",
    );
    check(
        json!({}),
        1,
        &["a use=50", "b use=900 leaving"],
        "50% +ReadyForNewScale +ValidMetricFound -DesiredWithinRange",
    );
}

#[test]
fn what_cannot_be_told_changes_nothing() {
    check(json!({}), 1, &["a"], "-1% +SucceededGetScale -FailedGetResourceMetric");
    check(json!({}), 1, &[], "-1% +SucceededGetScale -FailedGetResourceMetric");
    check(json!({}), 0, &[], "-1% +SucceededGetScale -ScalingDisabled");
    let mut lost = observed(json!({}), 1, &["a use=1"]);
    lost.target = Err("gone".to_owned());
    assert_eq!(render(lost), "-1% -FailedGetScale");
    let mut shared = observed(json!({}), 1, &["a use=1"]);
    shared.selecting.push(ObjectKey::namespaced("n", "other"));
    assert_eq!(render(shared), "-1% +SucceededGetScale -AmbiguousSelector");
    check(json!({"maxReplicas": 2}), 5, &["a use=1"], "scale to 2; -1% +SucceededRescale");
    check(json!({"minReplicas": 3}), 1, &["a use=1"], "scale to 3; -1% +SucceededRescale");
}

/// The number of replicas and the reasons, from a history of (seconds ago, recommended, change).
#[track_caller]
fn check_limits(spec: Value, history: &[(i64, i32, i32)], sizes: (i32, i32), expected: &str) {
    let mut past = History::default();
    for (seconds, recommended, change) in history {
        past.note(*recommended, *change, ago(*seconds));
    }
    let spec: HorizontalPodAutoscalerSpec = serde_json::from_value(spec).unwrap();
    let (current, desired) = sizes;
    let limited = limit(Wish { spec: &spec, history: &past, current, desired, now: now() });
    let text = format!("{} {} {}", limited.replicas, limited.able.0, limited.limit.0);
    assert_eq!(text, expected);
}

fn spec(behavior: Value) -> Value {
    json!({"minReplicas": 1, "maxReplicas": 50, "behavior": behavior,
        "scaleTargetRef": {"kind": "Deployment", "name": "web"}})
}

#[test]
fn going_down_waits_for_what_was_asked_for_lately() {
    let plain = || spec(Value::Null);
    check_limits(plain(), &[(200, 8, 0)], (8, 2), "8 ScaleDownStabilized DesiredWithinRange");
    check_limits(plain(), &[(301, 8, 0)], (8, 2), "2 ReadyForNewScale DesiredWithinRange");
    check_limits(plain(), &[], (8, 30), "16 ReadyForNewScale ScaleUpLimit");
    check_limits(plain(), &[], (30, 90), "50 ReadyForNewScale TooManyReplicas");
}

#[test]
fn rules_limit_the_pace() {
    let policy =
        |kind: &str, value: i32| json!({"type": kind, "value": value, "periodSeconds": 60});
    let up = |select: &str| {
        spec(json!({"scaleUp": {"selectPolicy": select, "stabilizationWindowSeconds": 0,
            "policies": [policy("Pods", 2), policy("Percent", 50)]},
            "scaleDown": {"selectPolicy": "Max", "stabilizationWindowSeconds": 0,
                "policies": [policy("Pods", 1)]}}))
    };
    check_limits(up("Max"), &[], (10, 40), "15 ReadyForNewScale ScaleUpLimit");
    check_limits(up("Min"), &[], (10, 40), "12 ReadyForNewScale ScaleUpLimit");
    check_limits(up("Disabled"), &[], (10, 40), "10 ReadyForNewScale ScaleUpLimit");
    // What was added in this period counts.
    check_limits(up("Max"), &[(30, 10, 4)], (10, 40), "10 ReadyForNewScale ScaleUpLimit");
    check_limits(up("Max"), &[(90, 10, 4)], (10, 40), "15 ReadyForNewScale ScaleUpLimit");
    check_limits(up("Max"), &[], (10, 2), "9 ReadyForNewScale ScaleDownLimit");
    let slow = spec(json!({"scaleUp": {"stabilizationWindowSeconds": 60, "selectPolicy": "Max",
        "policies": [policy("Percent", 900)]}}));
    check_limits(slow, &[(30, 4, 0)], (3, 9), "4 ScaleUpStabilized DesiredWithinRange");
}
