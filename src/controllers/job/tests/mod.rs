//! What a Job's plan does, one look at a time.

mod ends;
mod indexed;
mod pods;

use super::*;
use crate::control::Write;
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) const NOW: i64 = 1_763_640_000;

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOW + second).unwrap()
}

/// A Job that started 100 seconds ago.
pub(super) fn job(spec: &Value, status: &Value) -> Value {
    let mut job = json!({
        "metadata": {"name": "j", "namespace": "n", "uid": "J", "resourceVersion": "1"},
        "spec": {"parallelism": 1, "completions": 1, "backoffLimit": 6,
            "completionMode": "NonIndexed", "suspend": false,
            "podReplacementPolicy": "TerminatingOrFailed",
            "selector": {"matchLabels": {"job": "j"}},
            "template": {"metadata": {"labels": {"job": "j"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}},
        "status": {"startTime": at(-100), "ready": 0, "terminating": 0, "uncountedTerminatedPods": {}},
    });
    json_patch::merge(&mut job["spec"], spec);
    json_patch::merge(&mut job["status"], status);
    job
}

/// `name phase[ ended][ flags]`: phases are their first letters, flags are `deleted`, `untracked`,
/// `ready`, `ignored`, `orphan`, `index=N`, `failures=N`, `code=N`, `restarts=N`.
pub(super) fn pod(text: &str) -> Value {
    let mut words = text.split(' ');
    let (name, phase) = (words.next().unwrap(), words.next().unwrap());
    let phase = match phase {
        "P" => "Pending",
        "R" => "Running",
        "S" => "Succeeded",
        "F" => "Failed",
        other => panic!("{other}"),
    };
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"job": "j"},
            "creationTimestamp": at(-100), "finalizers": [look::TRACKING_FINALIZER],
            "annotations": {}, "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job",
                "name": "j", "uid": "J", "controller": true}]},
        "spec": {"nodeName": "node", "containers": []},
        "status": {"phase": phase, "conditions": []},
    });
    let (metadata, mut exit, mut restarts) = ("metadata", json!({}), 0);
    if matches!(phase, "Succeeded" | "Failed") {
        exit = json!({"exitCode": i32::from(phase == "Failed"), "finishedAt": at(-90)});
    }
    for word in words {
        let (flag, value) = word.split_once('=').unwrap_or((word, ""));
        match flag {
            "ended" => exit["finishedAt"] = json!(at(value.parse().unwrap())),
            "code" => exit["exitCode"] = json!(value.parse::<i32>().unwrap()),
            "restarts" => restarts = value.parse::<i32>().unwrap(),
            "deleted" => {
                pod[metadata]["deletionTimestamp"] = json!(at(-30));
                pod[metadata]["deletionGracePeriodSeconds"] = json!(0);
            }
            "untracked" => pod[metadata]["finalizers"] = json!([]),
            "orphan" => pod[metadata]["ownerReferences"] = json!([]),
            "stranger" => pod[metadata]["labels"] = json!({}),
            "ready" => {
                pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True",
                    "lastTransitionTime": at(-50)}]);
            }
            "disrupted" => {
                pod["status"]["conditions"] =
                    json!([{"type": "DisruptionTarget", "status": "True"}]);
            }
            "index" => pod[metadata]["annotations"][look::COMPLETION_INDEX] = json!(value),
            "failures" => pod[metadata]["annotations"][look::INDEX_FAILURES] = json!(value),
            other => panic!("{other}"),
        }
    }
    let state = if exit == json!({}) { json!({}) } else { json!({"terminated": exit}) };
    pod["status"]["containerStatuses"] = json!([{"name": "c", "image": "", "imageID": "",
        "ready": false, "restartCount": restarts, "state": state}]);
    pod
}

pub(super) fn look_at(job: Value, pods: &[&str]) -> ObservedJob {
    let job: Job = serde_json::from_value(job).unwrap();
    let pods: Vec<Arc<Pod>> =
        pods.iter().map(|text| serde_json::from_value(pod(text)).unwrap()).collect();
    let mut failures = Failures::default();
    let spec = job.spec.clone().unwrap();
    failures.learn(pods.iter().map(|pod| &**pod), |pod| delays_others(&spec, pod));
    ObservedJob {
        job: Arc::new(job),
        pods,
        may_adopt: true,
        failures,
        attempt: Attempt { now: at(0), failure: None },
    }
}

/// A plan, a line a step.
pub(super) fn render(plan: &Plan) -> Vec<String> {
    let mut lines: Vec<String> = plan
        .steps
        .iter()
        .map(|step| {
            let writes: Vec<_> = step.iter().map(|planned| brief(&planned.write)).collect();
            writes.join(" ")
        })
        .collect();
    for report in &plan.reports {
        lines.push(format!("{}: {}", report.reason, report.message));
    }
    if let Some(after) = plan.recheck_after {
        lines.push(format!("again in {}", after.as_secs()));
    }
    lines
}

fn brief(write: &Write) -> String {
    let body = write.body();
    let name = write.key().map(|key| key.name.clone()).unwrap_or_default();
    match write {
        Write::Create { .. } => {
            let index = &body["metadata"]["annotations"][look::COMPLETION_INDEX];
            index.as_str().map_or("create".to_owned(), |index| format!("create:{index}"))
        }
        Write::Delete { .. } => format!("delete:{name}"),
        Write::Patch { .. } if body["metadata"]["ownerReferences"].is_array() => {
            format!("own:{name}")
        }
        Write::Patch { .. } => format!("untrack:{name}"),
        _ => status_line(&body["status"]),
    }
}

/// What of a status is not as in [`job`].
fn status_line(status: &Value) -> String {
    let mut words = vec!["status".to_owned()];
    for field in ["active", "ready", "terminating", "succeeded", "failed"] {
        if let Some(count) = status[field].as_i64().filter(|count| *count != 0) {
            words.push(format!("{field}={count}"));
        }
    }
    for field in ["completedIndexes", "failedIndexes"] {
        if let Some(text) = status[field].as_str() {
            words.push(format!("{field}={text}"));
        }
    }
    for field in ["succeeded", "failed"] {
        if let Some(uids) = status["uncountedTerminatedPods"][field].as_array() {
            let uids: Vec<_> = uids.iter().map(|uid| uid.as_str().unwrap()).collect();
            words.push(format!("uncounted-{field}={}", uids.join(",")));
        }
    }
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let sign = if condition["status"] == "True" { "+" } else { "-" };
        let [kind, reason] = ["type", "reason"].map(|field| condition[field].as_str().unwrap());
        words.push(format!("{sign}{kind}({reason})"));
    }
    if status["startTime"].is_null() {
        words.push("not-started".to_owned());
    } else if status["startTime"] == json!("2025-11-20T12:00:00Z") {
        words.push("started-now".to_owned());
    }
    if status["completionTime"].is_string() {
        words.push("completed".to_owned());
    }
    words.join(" ")
}

#[track_caller]
pub(super) fn check(spec: &Value, status: &Value, pods: &[&str], expected: &[&str]) {
    let observed = look_at(job(spec, status), pods);
    let plan = plan(&Observed::Job(Box::new(observed)));
    assert_eq!(render(&plan), expected, "{spec} {status} {pods:?}");
}
