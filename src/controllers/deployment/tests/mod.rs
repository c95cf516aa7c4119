//! Tables of decisions about Deployments: `sizes` of their sets, and what is `reported`.
//!
//! Templates are named by a letter, and sets by the letter of their template. A set is written as
//! `a 3/2/1`: to have three pods, has two, of which one is available.

mod reported;
mod sizes;

use super::*;
use crate::control::{Failure, Planned, Verb, Write};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

const NOW: &str = "2026-11-20T12:00:00Z";
const REVISION: &str = "deployment.kubernetes.io/revision";

fn template(letter: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
        {"name": "c", "image": letter}]}})
}

/// A Deployment from a few words: the letter of its template, its number of replicas, and then any of
/// `surge=`, `unavailable=`, `recreate`, `paused`, `gone`, `limit=` (of the history), `deadline=`
/// (in seconds), `patience=` (minReadySeconds), `generation=`.
fn deployment(words: &str) -> Deployment {
    let mut words = words.split(' ');
    let (letter, replicas) = (words.next().unwrap(), words.next().unwrap());
    let mut deployment = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "web", "generation": 1,
            "resourceVersion": "5"},
        "spec": {
            "replicas": replicas.parse::<i32>().unwrap(),
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(letter),
            "strategy": {"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        },
    });
    for word in words {
        let (word, value) = word.split_once('=').unwrap_or((word, ""));
        let number = value.parse::<i64>().map_or(json!(value), Value::from);
        let (path, value) = match word {
            "surge" => ("/spec/strategy/rollingUpdate/maxSurge", number),
            "unavailable" => ("/spec/strategy/rollingUpdate/maxUnavailable", number),
            "recreate" => ("/spec/strategy", json!({"type": "Recreate"})),
            "paused" => ("/spec/paused", json!(true)),
            "gone" => ("/metadata/deletionTimestamp", json!(NOW)),
            "limit" => ("/spec/revisionHistoryLimit", number),
            "deadline" => ("/spec/progressDeadlineSeconds", number),
            "patience" => ("/spec/minReadySeconds", number),
            "generation" => ("/metadata/generation", number),
            _ => panic!("{word}"),
        };
        put(&mut deployment, path, value);
    }
    serde_json::from_value(deployment).unwrap()
}

fn put(object: &mut Value, path: &str, value: Value) {
    let (parent, name) = path.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[name] = value;
}

/// A set from a few words: the letter of its template, `wanted/actual/available`, and then any of
/// `of=` (the size of the Deployment when it was scaled, its surge added), `revision=`, `orphan`,
/// `other` (of another controller), `failing`, `behind` (its status is of an older generation),
/// `labels=` (instead of those that are selected).
fn set(words: &str) -> ReplicaSet {
    let mut words = words.split(' ');
    let letter = words.next().unwrap();
    let mut counts = words.next().unwrap().split('/').map(|count| count.parse::<i32>().unwrap());
    let mut count = || counts.next().unwrap_or_default();
    let mut template = template(letter);
    template["metadata"]["labels"]["pod-template-hash"] = json!(letter);
    let age = letter.bytes().next().unwrap() - b'a';
    let mut set = json!({
        "metadata": {"name": format!("web-{letter}"), "namespace": "default", "uid": letter,
            "generation": 1, "resourceVersion": "9", "labels": {"app": "web"},
            "creationTimestamp": format!("2026-11-20T10:{age:02}:00Z"),
            "annotations": {REVISION: (age + 1).to_string()},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web",
                "uid": "web", "controller": true}]},
        "spec": {"replicas": count(), "template": template,
            "selector": {"matchLabels": {"app": "web", "pod-template-hash": letter}}},
        "status": {"replicas": count(), "observedGeneration": 1, "terminatingReplicas": 0},
    });
    let available = count();
    set["status"]["availableReplicas"] = json!(available);
    set["status"]["readyReplicas"] = json!(available);
    for word in words {
        let (word, value) = word.split_once('=').unwrap_or((word, ""));
        match word {
            "of" => {
                let (desired, max) = value.split_once('+').unwrap();
                let (desired, surge): (i32, i32) = (desired.parse().unwrap(), max.parse().unwrap());
                let annotations = &mut set["metadata"]["annotations"];
                annotations["deployment.kubernetes.io/desired-replicas"] =
                    json!(desired.to_string());
                annotations["deployment.kubernetes.io/max-replicas"] =
                    json!((desired + surge).to_string());
            }
            "revision" => set["metadata"]["annotations"][REVISION] = json!(value),
            "orphan" => set["metadata"]["ownerReferences"] = json!([]),
            "other" => set["metadata"]["ownerReferences"][0]["uid"] = json!("other"),
            "labels" => set["metadata"]["labels"] = json!({"app": value}),
            "behind" => set["metadata"]["generation"] = json!(2),
            "failing" => {
                set["status"]["conditions"] = json!([{"type": "ReplicaFailure", "status": "True",
                    "reason": "FailedCreate", "message": "quota", "lastTransitionTime": NOW}]);
            }
            _ => panic!("{word}"),
        }
    }
    serde_json::from_value(set).unwrap()
}

fn pod(set: &str, phase: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "default", "ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "", "uid": set,
            "controller": true}]},
        "status": {"phase": phase},
    }))
    .unwrap()
}

fn observed(deployment_words: &str, sets: &[&str]) -> Observed {
    Observed {
        deployment: Arc::new(deployment(deployment_words)),
        sets: sets.iter().map(|words| Arc::new(set(words))).collect(),
        namesake: None,
        pods: Vec::new(),
        may_adopt: true,
        attempt: Attempt { now: NOW.parse().unwrap(), failure: None },
    }
}

/// What becomes of the sets, on one line; the status is looked at elsewhere.
fn brief(plan: &Plan) -> String {
    let planned = plan.steps.iter().flatten().filter_map(brief_write);
    planned.collect::<Vec<_>>().join(" ")
}

fn brief_write(planned: &Planned) -> Option<String> {
    let write = &planned.write;
    let name = |text: &str| text.strip_prefix("web-").unwrap().to_owned();
    let key = write.key().map(|key| key.name.clone());
    let body = write.body();
    Some(match (write, key) {
        (Write::Update { subresource: Some(_), .. }, _) => return None,
        (Write::Update { .. }, Some(key)) => {
            let image = body["spec"]["template"]["spec"]["containers"][0]["image"].as_str();
            assert_eq!(image, Some(&*name(&key)), "templates of sets do not change");
            match &planned.succeeded {
                Some(report) => {
                    let words = report.message.split(' ').collect::<Vec<_>>();
                    format!(
                        "{}:{}>{}",
                        name(&key),
                        words[words.len() - 3],
                        body["spec"]["replicas"]
                    )
                }
                None => format!("{}:note", name(&key)),
            }
        }
        (Write::Create { .. }, _) => {
            let image = body["spec"]["template"]["spec"]["containers"][0]["image"].as_str();
            format!("create:{}={}", image.unwrap(), body["spec"]["replicas"])
        }
        (Write::Delete { .. }, Some(key)) => format!("delete:{}", name(&key)),
        (Write::Patch { .. }, Some(key)) => {
            let owner = &body["metadata"]["ownerReferences"][0];
            let verb = if owner["$patch"] == "delete" { "release" } else { "adopt" };
            format!("{verb}:{}", name(&key))
        }
        other => panic!("{other:?}"),
    })
}

#[track_caller]
fn check(deployment: &str, sets: &[&str], expected: &str) {
    assert_eq!(brief(&plan(&observed(deployment, sets))), expected);
}

/// The Deployment as the plan writes its status.
fn status_write(plan: &Plan) -> Option<Value> {
    let is_status = |write: &&Write| matches!(write, Write::Update { subresource: Some(_), .. });
    plan.writes().find(is_status).map(Write::body)
}

/// What the plan reports: `updated/replicas/ready/available/unavailable`, and the reasons of the
/// conditions.
fn reported(observed: &Observed) -> String {
    let Some(deployment) = status_write(&plan(observed)) else { return "-".to_owned() };
    let status = &deployment["status"];
    let count = |name: &str| status[name].as_i64().unwrap_or_default();
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let reasons: Vec<_> = conditions
        .map(|condition| {
            let sign = match condition["status"].as_str().unwrap() {
                "True" => '+',
                "False" => '-',
                _ => '?',
            };
            format!("{sign}{}", condition["reason"].as_str().unwrap())
        })
        .collect();
    format!(
        "{}/{}/{}/{}/{} {}",
        count("updatedReplicas"),
        count("replicas"),
        count("readyReplicas"),
        count("availableReplicas"),
        count("unavailableReplicas"),
        reasons.join(" ")
    )
}
