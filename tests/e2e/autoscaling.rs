//! An autoscaler against what pods really use.

use super::machine::Machine;
use kinglet::api::Quantity;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// What is asked of each pod, in thousandths of a core. They may use twice as much, and do.
const ASKED_MILLI: i64 = 50;

/// Pods that are busy as long as a file says so.
fn manifest(load: &Path) -> Value {
    let busy = "while :; do if [ -e /load/on ]; then :; else sleep 1; fi; done";
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "busy"},
        "spec": {
            "selector": {"matchLabels": {"app": "busy"}},
            "template": {
                "metadata": {"labels": {"app": "busy"}},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "volumes": [{"name": "load", "hostPath": {"path": load}}],
                    "containers": [
                        {
                            "name": "busy", "image": "127.0.0.1:5000/hello:1",
                            "command": ["sh", "-c", busy],
                            "resources": {
                                "requests": {"cpu": format!("{ASKED_MILLI}m"), "memory": "8Mi"},
                                "limits": {"cpu": format!("{}m", 2 * ASKED_MILLI)},
                            },
                            "volumeMounts": [{"name": "load", "mountPath": "/load"}],
                        },
                        {
                            "name": "idle", "image": "127.0.0.1:5000/hello:1",
                            "command": ["sleep", "10000"],
                            "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}},
                        },
                    ],
                },
            },
        },
    })
}

fn autoscaler(name: &str, metrics: &Value) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": 1, "maxReplicas": 3,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
            "metrics": metrics,
        },
    })
}

fn target(percent: i32) -> Value {
    json!({"type": "Utilization", "averageUtilization": percent})
}

struct Autoscaler<'a> {
    machine: &'a Machine,
    name: &'static str,
}

impl Autoscaler<'_> {
    fn get(&self) -> Value {
        let text = self.machine.kubectl(&["get", "hpa", self.name, "-o", "json"]);
        serde_json::from_str(&text).unwrap()
    }

    /// Status, reason and message of a condition.
    fn condition(&self, kind: &str) -> Option<(String, String, String)> {
        let autoscaler = self.get();
        let conditions = autoscaler["status"]["conditions"].as_array()?;
        let condition = conditions.iter().find(|condition| condition["type"] == kind)?;
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        Some((text("status"), text("reason"), text("message")))
    }

    fn eventually(&self, kind: &str, expected: (&str, &str)) -> String {
        self.machine.eventually(&format!("{} says {kind} {expected:?}", self.name), || {
            self.condition(kind).is_some_and(|(status, reason, _)| (&*status, &*reason) == expected)
        });
        self.condition(kind).map(|(_, _, message)| message).unwrap()
    }
}

#[test]
fn replicas_follow_what_pods_really_use() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    let load = machine.path("load");
    fs::create_dir(&load).unwrap();
    fs::write(load.join("on"), "").unwrap();
    let deployment = manifest(&load);
    machine.apply(&deployment.to_string());
    let metrics = json!([
        {"type": "ContainerResource",
         "containerResource": {"name": "cpu", "container": "busy", "target": target(50)}},
        {"type": "Resource", "resource": {"name": "memory", "target": {
            "type": "AverageValue", "averageValue": "100Mi"}}},
    ]);
    machine.apply(&autoscaler("busy", &metrics).to_string());
    what_cannot_be_measured_is_told(&machine, &deployment);
    let busy = Autoscaler { machine: &machine, name: "busy" };
    it_scales_out(&busy);
    fs::remove_file(load.join("on")).unwrap();
    it_scales_in(&busy);
    machine.kubectl(&["delete", "hpa,deployment", "--all", "--timeout=60s"]);
    machine.kubectl(&["wait", "--for=delete", "pod", "--all", "--timeout=60s"]);
    machine.stop(Signal::SIGTERM);
    machine.killall();
}

fn it_scales_out(busy: &Autoscaler<'_>) {
    let machine = busy.machine;
    let replicas = ["get", "deployment", "busy", "-o", "jsonpath={.status.readyReplicas}"];
    machine.eventually("it has as many as it may", || machine.kubectl(&replicas) == "3");
    let message = busy.eventually("ScalingActive", ("True", "ValidMetricFound"));
    assert_eq!(
        message,
        "the HPA was able to successfully calculate a replica count from cpu container resource \
         utilization (percentage of request)"
    );
    // Measured again and again: what it uses now and then is not enough on a busy machine.
    let message = busy.eventually("ScalingLimited", ("True", "TooManyReplicas"));
    assert_eq!(message, "the desired replica count is more than the maximum replica count");
    // A container is held to what it may use, and is not to be held exactly.
    machine.eventually("what it uses is what it may use", || {
        let metric = &busy.get()["status"]["currentMetrics"][0]["containerResource"];
        metric["current"]["averageUtilization"].as_i64().is_some_and(|it| (80..=260).contains(&it))
    });
    let current = &busy.get()["status"]["currentMetrics"];
    let memory = current[1]["resource"]["current"]["averageValue"].as_str().unwrap();
    // The mean of several pods need not be a multiple of anything.
    assert!(memory.parse::<Quantity>().unwrap().units() > 0, "{memory}");
    let shown = machine.kubectl(&["get", "hpa", "busy"]);
    let now = machine.kubectl(&[
        "get",
        "hpa",
        "busy",
        "-o",
        "jsonpath={.status.currentMetrics[0].containerResource.current.averageUtilization}",
    ]);
    assert!(shown.contains(&format!("cpu: {now}%/50%, memory: ")), "{shown}");
    assert!(shown.contains("Deployment/busy"), "{shown}");
    let described = machine.kubectl(&["describe", "hpa", "busy"]);
    let reason = "reason: cpu container resource utilization (percentage of request) above target";
    for expected in ["SuccessfulRescale", reason, "resource cpu of container \"busy\" on pods"] {
        assert!(described.contains(expected), "no {expected:?}:\n{described}");
    }
}

fn it_scales_in(busy: &Autoscaler<'_>) {
    let machine = busy.machine;
    let replicas = ["get", "deployment", "busy", "-o", "jsonpath={.status.replicas}"];
    machine.eventually("one is enough", || machine.kubectl(&replicas) == "1");
    let described = machine.kubectl(&["describe", "hpa", "busy"]);
    assert!(described.contains("reason: All metrics below target"), "{described}");
    let able = busy.condition("AbleToScale").unwrap();
    assert_eq!(able.0, "True", "{able:?}");
}

fn what_cannot_be_measured_is_told(machine: &Machine, deployment: &Value) {
    let mut without = deployment.clone();
    without["metadata"]["name"] = json!("unasked");
    let spec = &mut without["spec"];
    spec["selector"]["matchLabels"]["app"] = json!("unasked");
    spec["template"]["metadata"]["labels"]["app"] = json!("unasked");
    let containers = spec["template"]["spec"]["containers"].as_array_mut().unwrap();
    containers.remove(0);
    containers[0]["resources"] = json!({});
    machine.apply(&without.to_string());
    let resource = json!([{"type": "Resource", "resource": {"name": "cpu", "target": target(50)}}]);
    machine.apply(&autoscaler("unasked", &resource).to_string());
    let pods = json!([{"type": "Pods", "pods": {
        "metric": {"name": "requests"}, "target": {"type": "AverageValue", "averageValue": "10"}}}]);
    let mut custom = autoscaler("custom", &pods);
    custom["spec"]["scaleTargetRef"]["name"] = json!("missing");
    machine.apply(&custom.to_string());
    let custom = Autoscaler { machine, name: "custom" };
    let message = custom.eventually("AbleToScale", ("False", "FailedGetScale"));
    let expected = "the HPA controller was unable to get the target's current scale: \
                    deployments.apps \"missing\" not found";
    assert_eq!(message, expected);
    machine.kubectl(&["delete", "hpa", "custom"]);
    let unasked = Autoscaler { machine, name: "unasked" };
    machine.eventually("what is missing is told", || {
        unasked.condition("ScalingActive").is_some_and(|(_, _, it)| it.contains("missing request"))
    });
    let (status, reason, message) = unasked.condition("ScalingActive").unwrap();
    assert_eq!((&*status, &*reason), ("False", "FailedGetResourceMetric"));
    let expected = "the HPA was unable to compute the replica count: failed to get cpu utilization: \
                    missing request for cpu in container idle of Pod unasked-";
    assert!(message.starts_with(expected), "{message}");
    let shown = machine.kubectl(&["get", "hpa", "unasked"]);
    assert!(shown.contains("cpu: <unknown>/50%"), "{shown}");
    machine.kubectl(&[
        "patch",
        "hpa",
        "unasked",
        "--type=merge",
        "-p",
        &json!({"spec": {"metrics": pods}}).to_string(),
    ]);
    let message = unasked.eventually("ScalingActive", ("False", "FailedGetPodsMetric"));
    let expected = "the HPA was unable to compute the replica count: unable to get metric requests: \
                    unable to fetch metrics from custom metrics API: no custom metrics API \
                    (custom.metrics.k8s.io) registered";
    assert_eq!(message, expected);
    machine.kubectl(&["delete", "hpa,deployment", "unasked"]);
}
