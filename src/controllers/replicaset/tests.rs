//! Tables of decisions about ReplicaSets.

use super::*;
use crate::control::{Failure, Verb, Write};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSetStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use std::time::Duration;

const NOW: &str = "2026-11-20T12:00:00Z";

fn set(replicas: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "set", "generation": 1,
            "resourceVersion": "5"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web", "tier": "front"}, "annotations": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    }))
    .unwrap()
}

/// A pod from a few words: its name, and then any of `ready`, `running`, `failed`, `gone` (being
/// deleted), `orphan`, `other` (of another controller), `foreign` (with labels that do not match),
/// `bare` (without the template's other label), `since=SECONDS` ago.
fn pod(words: &str) -> Pod {
    let mut words = words.split(' ');
    let name = words.next().unwrap();
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "9",
            "labels": {"app": "web", "tier": "front"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web",
                "uid": "set", "controller": true}]},
        "spec": {"containers": [], "nodeName": "n"},
        "status": {"phase": "Pending"},
    });
    let mut since = NOW.parse::<Timestamp>().unwrap();
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("ready", _) => {
                pod["status"] = json!({"phase": "Running",
                    "conditions": [{"type": "Ready", "status": "True"}]});
            }
            ("running", _) => pod["status"]["phase"] = json!("Running"),
            ("failed", _) => pod["status"]["phase"] = json!("Failed"),
            ("gone", _) => pod["metadata"]["deletionTimestamp"] = json!(NOW),
            ("orphan", _) => pod["metadata"]["ownerReferences"] = json!([]),
            ("other", _) => pod["metadata"]["ownerReferences"][0]["uid"] = json!("other"),
            ("foreign", _) => pod["metadata"]["labels"] = json!({"app": "else"}),
            ("bare", _) => pod["metadata"]["labels"] = json!({"app": "web"}),
            ("since", seconds) => since -= Duration::from_secs(seconds.parse().unwrap()),
            _ => panic!("{word}"),
        }
    }
    if let Some(condition) = pod["status"].pointer_mut("/conditions/0") {
        condition["lastTransitionTime"] = json!(since.to_string());
    }
    serde_json::from_value(pod).unwrap()
}

fn observed(set: ReplicaSet, pods: &[&str]) -> Observed {
    Observed {
        set: Arc::new(set),
        pods: pods.iter().map(|words| Arc::new(pod(words))).collect(),
        may_adopt: true,
        on_node: BTreeMap::new(),
        attempt: Attempt { now: NOW.parse().unwrap(), failure: None },
    }
}

/// The plan on one line: steps are separated by `|`.
fn brief(plan: &Plan) -> String {
    let steps = plan.steps.iter().map(|step| {
        let mut words: Vec<_> = step.iter().map(|planned| brief_write(&planned.write)).collect();
        words.dedup_by(|word, before| {
            let repeated = word == "create" && before.starts_with("create");
            if repeated {
                let count = before.strip_prefix("create").unwrap().trim_start_matches('*');
                *before = format!("create*{}", count.parse().unwrap_or(1) + 1);
            }
            repeated
        });
        words.join(" ")
    });
    let recheck = plan.recheck_after.map(|after| format!("recheck:{}", after.as_secs()));
    steps.chain(recheck).collect::<Vec<_>>().join(" | ")
}

fn brief_write(write: &Write) -> String {
    let name = write.key().map(|key| key.name.clone()).unwrap_or_default();
    match write {
        Write::Create { .. } => "create".to_owned(),
        Write::Delete { .. } => format!("delete:{name}"),
        Write::Update { .. } => brief_status(&write.body()["status"]),
        Write::Patch { .. } => {
            let owner = &write.body()["metadata"]["ownerReferences"][0];
            let verb = if owner["$patch"] == "delete" { "release" } else { "adopt" };
            format!("{verb}:{name}")
        }
        Write::DeleteCollection { .. } => unreachable!("a set deletes pods one by one"),
    }
}

/// `status:replicas/labelled/ready/available/terminating`, and the failure where there is one.
fn brief_status(status: &Value) -> String {
    let count = |field: &str| status[field].as_i64().unwrap_or_default();
    let condition = status["conditions"][0]["reason"].as_str();
    let condition = condition.map(|reason| format!("/{reason}")).unwrap_or_default();
    format!(
        "status:{}/{}/{}/{}/{}{condition}",
        count("replicas"),
        count("fullyLabeledReplicas"),
        count("readyReplicas"),
        count("availableReplicas"),
        count("terminatingReplicas"),
    )
}

/// What is done about a set that has no status yet.
#[track_caller]
fn check(replicas: i32, pods: &[&str], expected: &str) {
    assert_eq!(brief(&plan(&observed(set(replicas), pods))), expected);
}

#[test]
fn pods_are_created_until_there_are_enough() {
    check(0, &[], "status:0/0/0/0/0");
    check(1, &[], "create status:0/0/0/0/0");
    check(2, &["a"], "create status:1/1/0/0/0");
    check(3, &["a ready", "b running"], "create status:2/2/1/1/0");
    check(3, &["a", "b", "c"], "status:3/3/0/0/0");
}

#[test]
fn batches_grow_and_a_look_creates_no_more_than_five_hundred() {
    check(7, &[], "create status:0/0/0/0/0 | create*2 | create*4");
    check(10, &["a", "b"], "create status:2/2/0/0/0 | create*2 | create*4 | create");
    let plan = plan(&observed(set(2_000), &[]));
    let creates = plan.writes().filter(|write| write.verb() == Verb::Create).count();
    assert_eq!(creates, 500);
}

#[test]
fn surplus_pods_are_deleted_in_upstreams_order() {
    check(0, &["a ready", "b"], "delete:b delete:a status:2/2/1/1/0");
    check(1, &["a ready", "b"], "delete:b status:2/2/1/1/0");
    check(1, &["a running", "b ready", "c"], "delete:c delete:a status:3/3/1/1/0");
    let mut crowded = observed(set(1), &["a ready", "b ready", "c ready"]);
    let mut alone = pod("b ready");
    alone.spec.as_mut().unwrap().node_name = Some("other".to_owned());
    crowded.pods[1] = Arc::new(alone);
    crowded.on_node = BTreeMap::from([("n".to_owned(), 2), ("other".to_owned(), 1)]);
    assert_eq!(brief(&plan(&crowded)), "delete:a delete:c status:3/3/3/3/0");
}

#[test]
fn pods_that_ended_or_are_going_do_not_count() {
    check(1, &["a failed"], "create status:0/0/0/0/0");
    check(1, &["a gone"], "create status:0/0/0/0/1");
    check(1, &["a failed gone"], "create status:0/0/0/0/0");
    check(1, &["a", "b gone", "c gone ready"], "status:1/1/0/0/2");
}

#[test]
fn pods_are_adopted_and_released_before_they_are_counted() {
    check(1, &["a orphan"], "adopt:a");
    check(1, &["a foreign"], "release:a");
    check(1, &["a foreign", "b orphan", "c"], "release:a adopt:b");
}

#[test]
fn other_controllers_pods_are_left_alone() {
    check(1, &["a other"], "create status:0/0/0/0/0");
    check(1, &["a foreign orphan"], "create status:0/0/0/0/0");
    check(1, &["a orphan failed"], "create status:0/0/0/0/0");
    check(1, &["a orphan gone"], "create status:0/0/0/0/0");
}

#[test]
fn a_set_that_may_be_gone_does_not_adopt_and_creates_nothing_instead() {
    let mut doubtful = observed(set(1), &["a orphan"]);
    doubtful.may_adopt = false;
    assert_eq!(brief(&plan(&doubtful)), "recheck:1");
}

#[test]
fn a_set_that_is_being_deleted_only_reports() {
    let mut dying = set(3);
    dying.metadata.deletion_timestamp = Some(NOW.parse().map(Time).unwrap());
    let observed = observed(dying, &["a", "b orphan", "c foreign"]);
    assert_eq!(brief(&plan(&observed)), "status:1/1/0/0/0");
}

#[test]
fn availability_takes_its_time() {
    let patient = |pods: &[&str]| {
        let mut set = set(2);
        set.spec.as_mut().unwrap().min_ready_seconds = Some(10);
        brief(&plan(&observed(set, pods)))
    };
    assert_eq!(patient(&["a ready since=10", "b ready since=11"]), "status:2/2/2/2/0");
    assert_eq!(patient(&["a ready since=9", "b ready since=3"]), "status:2/2/2/0/0 | recheck:1");
    assert_eq!(patient(&["a ready since=20", "b ready since=3"]), "status:2/2/2/1/0 | recheck:7");
    assert_eq!(patient(&["a ready since=20", "b"]), "status:2/2/1/1/0");
}

#[test]
fn labels_of_the_template_are_counted_apart() {
    check(2, &["a bare ready", "b"], "status:2/1/1/1/0");
}

/// The status that the plan for these pods writes.
fn reported(observed: &Observed) -> ReplicaSetStatus {
    let plan = plan(observed);
    let update = plan.writes().find(|write| write.verb() == Verb::Update).expect("a status");
    serde_json::from_value(update.body()["status"].clone()).unwrap()
}

#[test]
fn a_status_that_is_true_already_is_not_written() {
    let mut observed = observed(set(2), &["a ready", "b"]);
    let status = reported(&observed);
    assert_eq!(status.observed_generation, Some(1));
    let mut settled = set(2);
    settled.status = Some(status);
    observed.set = Arc::new(settled.clone());
    assert_eq!(plan(&observed).steps, Vec::<Vec<_>>::new());

    settled.metadata.generation = Some(2);
    observed.set = Arc::new(settled);
    assert_eq!(brief(&plan(&observed)), "status:2/2/1/1/0");
}

#[test]
fn a_failure_is_a_condition_for_as_long_as_it_lasts() {
    let failing = |pods: &[&str], verb| {
        let mut observed = observed(set(1), pods);
        let resource = ResourceType::of::<Pod>();
        let message = "pods \"web-\" is forbidden: exceeded quota".to_owned();
        observed.attempt.failure = Some(Failure { resource, verb, message });
        observed
    };
    let mut observed = failing(&[], Verb::Create);
    assert_eq!(brief(&plan(&observed)), "create status:0/0/0/0/0/FailedCreate");
    let status = reported(&observed);
    let condition = &status.conditions.as_ref().unwrap()[0];
    assert_eq!(condition.message.as_deref(), Some("pods \"web-\" is forbidden: exceeded quota"));

    // It stays as it was while creating fails, and goes when it does not.
    let mut set = set(1);
    set.status = Some(status);
    observed.set = Arc::new(set);
    assert_eq!(brief(&plan(&observed)), "create");
    observed.attempt.failure = None;
    assert_eq!(brief(&plan(&observed)), "create status:0/0/0/0/0");

    // Nothing lacks any more: the failure is of the past.
    assert_eq!(brief(&plan(&failing(&["a"], Verb::Create))), "status:1/1/0/0/0");
    assert_eq!(
        brief(&plan(&failing(&["a", "b"], Verb::Delete))),
        "delete:a status:2/2/0/0/0/FailedDelete"
    );
}

#[test]
fn pods_are_made_from_the_template() {
    let plan = plan(&observed(set(1), &[]));
    let planned = &plan.steps[0][0];
    let expected = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "web-", "namespace": "default",
            "labels": {"app": "web", "tier": "front"}, "annotations": {"a": "b"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web",
                "uid": "set", "controller": true, "blockOwnerDeletion": true}],
        },
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    assert_eq!(planned.write.body(), expected);
    assert_eq!(planned.succeeded.as_ref().unwrap().message, "Created pod: ");
    assert_eq!(planned.failed.as_ref().unwrap().reason, "FailedCreate");
    assert_eq!(plan.regarding.uid.as_deref(), Some("set"));
}

#[test]
fn deletes_and_adoptions_name_the_very_object() {
    let plan = |pods: &[&str]| plan(&observed(set(0), pods));
    let Write::Delete { options, .. } = &plan(&["a"]).steps[0][0].write else { panic!() };
    assert_eq!(options.uid.as_deref(), Some("a"));
    assert_eq!(options.revision, None);
    let adoption = plan(&["a orphan"]).steps[0][0].write.body();
    assert_eq!(adoption["metadata"]["uid"], "a");
    assert_eq!(adoption["metadata"]["resourceVersion"], "9");
}
