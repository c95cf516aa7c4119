//! Tables of decisions about StatefulSets.

use super::*;
use crate::control::{Planned, Verb, Write};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use std::time::Duration;

const NOW: &str = "2026-11-20T12:00:00Z";

/// A set of three with one claim template, and whatever else `spec` says.
fn set(spec: &Value) -> StatefulSet {
    let mut set = json!({
        "metadata": {"name": "db", "namespace": "default", "uid": "set", "generation": 1,
            "resourceVersion": "5"},
        "spec": {
            "replicas": 3, "serviceName": "db", "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate",
                "rollingUpdate": {"partition": 0, "maxUnavailable": 1}},
            "selector": {"matchLabels": {"app": "db"}},
            "template": {
                "metadata": {"labels": {"app": "db"}},
                "spec": {"containers": [{"name": "c", "image": "new"}],
                    "volumes": [{"name": "own", "emptyDir": {}}]},
            },
        },
        "status": {"replicas": 0, "currentRevision": "db-old"},
    });
    json_patch::merge(&mut set["spec"], spec);
    serde_json::from_value(set).unwrap()
}

fn with_claims() -> Value {
    json!({"volumeClaimTemplates": [{"metadata": {"name": "data", "labels": {"a": "b"}},
        "spec": {"accessModes": ["ReadWriteOnce"]}}]})
}

/// The revision of this image's template, whose name has the image's.
fn revision(image: &str, number: i64) -> ControllerRevision {
    let mut set = set(&json!({}));
    let spec = set.spec.as_mut().unwrap();
    spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
    let entry = history::Entry { number, collisions: None, hash_label: "hash" };
    let template = set.spec.as_ref().unwrap().template.clone();
    let mut revision = history::render(&set, &template, entry);
    revision.metadata.name = Some(format!("db-{image}"));
    revision
}

/// A pod from a few words: its number, and then any of `ready`, `running`, `failed`, `succeeded`,
/// `gone` (being deleted), `orphan`, `foreign` (with labels that do not match), `old` (of the
/// revision before), `bare` (without the label of its name), `since=SECONDS` ago.
fn pod(words: &str) -> Pod {
    let mut words = words.split(' ');
    let name = format!("db-{}", words.next().unwrap());
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "9",
            "labels": {"app": "db", "statefulset.kubernetes.io/pod-name": name,
                "controller-revision-hash": "db-new"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db",
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
            ("succeeded", _) => pod["status"]["phase"] = json!("Succeeded"),
            ("gone", _) => pod["metadata"]["deletionTimestamp"] = json!(NOW),
            ("orphan", _) => pod["metadata"]["ownerReferences"] = json!([]),
            ("foreign", _) => pod["metadata"]["labels"]["app"] = json!("else"),
            ("old", _) => pod["metadata"]["labels"]["controller-revision-hash"] = json!("db-old"),
            ("bare", _) => {
                let labels = pod["metadata"]["labels"].as_object_mut().unwrap();
                labels.remove("statefulset.kubernetes.io/pod-name");
            }
            ("since", seconds) => since -= Duration::from_secs(seconds.parse().unwrap()),
            _ => panic!("{word}"),
        }
    }
    if let Some(condition) = pod["status"].pointer_mut("/conditions/0") {
        condition["lastTransitionTime"] = json!(since.to_string());
    }
    serde_json::from_value(pod).unwrap()
}

fn observed(spec: &Value, pods: &[&str]) -> Observed {
    Observed {
        set: Arc::new(set(spec)),
        pods: pods.iter().map(|words| Arc::new(pod(words))).collect(),
        revisions: vec![Arc::new(revision("old", 1)), Arc::new(revision("new", 2))],
        namesake: None,
        claims: Vec::new(),
        may_adopt: true,
        attempt: Attempt { now: NOW.parse().unwrap(), failure: None },
    }
}

/// The plan on one line, without the status: steps are separated by `|`.
fn brief(plan: &Plan) -> String {
    let words = |step: &Vec<Planned>| {
        let words: Vec<_> = step.iter().filter_map(|planned| brief_write(&planned.write)).collect();
        (!words.is_empty()).then(|| words.join(" "))
    };
    let steps = plan.steps.iter().filter_map(words);
    let recheck = plan.recheck_after.map(|after| format!("recheck:{}", after.as_secs()));
    let reports =
        plan.reports.iter().map(|report| format!("{}: {}", report.reason, report.message));
    steps.chain(recheck).chain(reports).collect::<Vec<_>>().join(" | ")
}

fn brief_write(write: &Write) -> Option<String> {
    let body = write.body();
    let name = match write.key() {
        Some(key) => key.name.clone(),
        None => body["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
    };
    let kind = match &*write.resource().kind {
        "Pod" => "",
        "PersistentVolumeClaim" => "claim:",
        "ControllerRevision" => "revision:",
        _ => "set:",
    };
    let verb = match write {
        Write::Create { .. } => "create",
        Write::Delete { .. } => "delete",
        Write::Update { subresource: Some(_), .. } => return None,
        Write::Update { .. } => "update",
        Write::Patch { .. } => {
            let owner = &body["metadata"]["ownerReferences"][0];
            if owner["$patch"] == "delete" { "release" } else { "adopt" }
        }
        Write::DeleteCollection { .. } => unreachable!("a set deletes pods one by one"),
    };
    let image = body["spec"]["containers"][0]["image"].as_str().filter(|_| verb == "create");
    let image = image.filter(|image| *image != "new").map(|image| format!("={image}"));
    Some(format!("{verb}:{kind}{name}{}", image.unwrap_or_default()))
}

#[track_caller]
fn check(spec: &Value, pods: &[&str], expected: &str) {
    assert_eq!(brief(&plan(&observed(spec, pods))), expected);
}

fn parallel() -> Value {
    json!({"podManagementPolicy": "Parallel"})
}

#[test]
fn pods_are_created_in_order_each_once_the_one_before_is_ready() {
    let ordered = json!({});
    check(&ordered, &[], "create:db-0");
    check(&ordered, &["0"], "");
    check(&ordered, &["0 running"], "");
    check(&ordered, &["0 ready"], "create:db-1");
    check(&ordered, &["0 ready", "1 ready", "2 running"], "");
    check(&ordered, &["0 ready", "2 ready"], "create:db-1");
    check(&ordered, &["1 ready", "2 ready"], "create:db-0");
    check(&ordered, &["0 ready gone", "1 ready"], "");
    check(&json!({"replicas": 0}), &[], "");
    check(&json!({"ordinals": {"start": 5}}), &["5 ready"], "create:db-6");
}

#[test]
fn pods_are_created_all_at_once_where_order_does_not_matter() {
    check(&parallel(), &[], "create:db-0 | create:db-1 create:db-2");
    check(&parallel(), &["1"], "create:db-0 | create:db-2");
    check(&parallel(), &["1 gone"], "create:db-0 | create:db-2");
    let mut many = observed(&parallel(), &[]);
    many.set = Arc::new(set(&json!({"podManagementPolicy": "Parallel", "replicas": i32::MAX})));
    let creates = plan(&many).writes().filter(|write| write.verb() == Verb::Create).count();
    assert_eq!(creates, 500);
}

#[test]
fn pods_that_ended_are_replaced() {
    check(&json!({}), &["0 ready", "1 failed", "2 ready"], "delete:db-1");
    check(&json!({}), &["0 succeeded", "1 failed"], "delete:db-0");
    check(&json!({}), &["0 failed gone"], "");
    check(&parallel(), &["0 failed", "1 succeeded", "2 ready"], "delete:db-0 delete:db-1");
}

#[test]
fn the_highest_go_first_and_only_once_all_is_well() {
    let one = json!({"replicas": 1});
    check(&one, &["0 ready", "1 ready", "2 ready"], "delete:db-2");
    check(&one, &["0 ready", "1 ready", "2 ready gone"], "");
    check(&one, &["0", "1 ready", "2 ready"], "");
    // What is not well waits for what is below it and not well either.
    check(&one, &["0 ready", "1 running", "2 running"], "");
    check(&one, &["0 ready", "1 ready", "2 running"], "delete:db-2");
    check(&one, &["0 ready", "1 running", "2 ready"], "delete:db-2");
    check(&one, &["0 ready", "1 failed", "2 failed"], "delete:db-2");
    check(&one, &["0 ready", "1 failed", "2 running"], "delete:db-1");
    let all_at_once = json!({"replicas": 1, "podManagementPolicy": "Parallel"});
    check(&all_at_once, &["0", "1 running", "2 ready", "3 gone"], "delete:db-2 delete:db-1");
    check(
        &json!({"replicas": 2, "ordinals": {"start": 1}}),
        &["0 ready", "1 ready", "2 ready"],
        "delete:db-0",
    );
}

#[test]
fn updates_go_from_the_highest_to_the_partition() {
    let ordered = json!({});
    check(&ordered, &["0 ready old", "1 ready old", "2 ready old"], "delete:db-2");
    check(&ordered, &["0 ready old", "1 ready old", "2 ready"], "delete:db-1");
    check(&ordered, &["0 ready old", "1 ready old", "2 running"], "");
    check(&ordered, &["0 ready old", "1 ready old"], "create:db-2");
    check(&ordered, &["0 ready", "1 ready", "2 ready"], "");
    let partition = |partition: i32, max: i32| {
        json!({"updateStrategy": {"type": "RollingUpdate",
            "rollingUpdate": {"partition": partition, "maxUnavailable": max}}})
    };
    let old = ["0 ready old", "1 ready old", "2 ready old"];
    check(&partition(2, 1), &old, "delete:db-2");
    check(&partition(2, 1), &["0 ready old", "1 ready old", "2 ready"], "");
    check(&partition(7, 1), &old, "");
    check(&partition(0, 2), &old, "delete:db-2 delete:db-1");
    check(&partition(1, 9), &old, "delete:db-2 delete:db-1");
    check(&json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}), &old, "");
    // Below the partition, pods come back as they were.
    check(&partition(2, 1), &[], "create:db-0=old");
    check(&partition(2, 1), &["0 ready old", "1 ready old"], "create:db-2");
    check(
        &json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}),
        &[],
        "create:db-0",
    );
}

#[test]
fn no_more_than_some_are_missing_where_order_does_not_matter() {
    let max = |max: &Value| {
        json!({"podManagementPolicy": "Parallel", "updateStrategy": {"type": "RollingUpdate",
            "rollingUpdate": {"partition": 0, "maxUnavailable": max}}})
    };
    let (one, two) = (max(&json!(1)), max(&json!(2)));
    check(&one, &["0 ready old", "1 ready old", "2 ready old"], "delete:db-2");
    check(&two, &["0 ready old", "1 ready old", "2 ready old"], "delete:db-2 delete:db-1");
    check(&two, &["0 ready old", "1 ready old", "2 ready old gone"], "delete:db-1");
    check(&one, &["0 ready old", "1 ready old", "2"], "");
    check(
        &max(&json!("70%")),
        &["0 ready old", "1 ready old", "2 ready old"],
        "delete:db-2 delete:db-1",
    );
    check(&max(&json!("1%")), &["0 ready old", "1 ready old", "2 ready old"], "delete:db-2");
    // What is broken is replaced at once, one after the other.
    check(&one, &["0 old", "1 old", "2 old"], "delete:db-2");
    check(&one, &["0 old", "1 ready old", "2 old gone"], "");
    check(&two, &["0 old", "1 ready old", "2 ready old"], "delete:db-0 delete:db-2");
}

#[test]
fn availability_takes_its_time() {
    let patient = json!({"minReadySeconds": 10});
    check(&patient, &["0 ready since=10"], "create:db-1");
    check(&patient, &["0 ready since=4"], "recheck:6");
    check(
        &patient,
        &["0 ready old since=20", "1 ready old since=20", "2 ready since=9"],
        "recheck:1",
    );
}

#[test]
fn pods_are_adopted_by_their_names_and_released() {
    check(&json!({}), &["0 orphan"], "adopt:db-0");
    check(&json!({}), &["0 foreign", "1 orphan"], "release:db-0 adopt:db-1");
    check(&json!({}), &["x orphan"], "create:db-0");
    check(&json!({}), &["0 orphan foreign"], "create:db-0");
    let mut doubtful = observed(&json!({}), &["0 orphan"]);
    doubtful.may_adopt = false;
    assert_eq!(brief(&plan(&doubtful)), "recheck:1");
}

#[test]
fn a_set_that_is_being_deleted_only_reports() {
    let mut dying = observed(&json!({}), &["0 failed", "1 orphan"]);
    Arc::make_mut(&mut dying.set).metadata.deletion_timestamp =
        Some(NOW.parse().map(Time).unwrap());
    assert_eq!(brief(&plan(&dying)), "");
    assert_eq!(plan(&dying).writes().count(), 1);
    dying.revisions.clear();
    assert_eq!(plan(&dying).writes().count(), 0);
}

#[test]
fn templates_are_recorded_before_anything_is_made_of_them() {
    let mut fresh = observed(&json!({}), &["0 failed"]);
    fresh.revisions.truncate(1);
    let name = revision_name(&fresh.set).unwrap();
    assert_eq!(brief(&plan(&fresh)), format!("create:revision:{name}"));
    fresh.revisions[0] = Arc::new(revision("new", 1));
    fresh.revisions.push(Arc::new(revision("old", 2)));
    let plan_of_rollback = plan(&fresh);
    assert_eq!(brief(&plan_of_rollback), "update:revision:db-new");
    assert_eq!(plan_of_rollback.writes().next().unwrap().body()["revision"], 3);
    // An orphan is adopted first.
    let mut orphan = revision("new", 1);
    orphan.metadata.owner_references = None;
    fresh.revisions = vec![Arc::new(orphan)];
    assert_eq!(brief(&plan(&fresh)), "adopt:revision:db-new");
}

#[test]
fn a_hash_with_two_meanings_gets_another_count() {
    let mut collided = observed(&json!({}), &[]);
    collided.revisions.clear();
    collided.namesake = Some(Arc::new(revision("other", 1)));
    let plan = plan(&collided);
    let status = plan.writes().next().unwrap().body()["status"].clone();
    assert_eq!((plan.writes().count(), &status["collisionCount"]), (1, &json!(1)));
}

#[test]
fn old_revisions_are_forgotten_but_for_those_in_use() {
    let limit = json!({"revisionHistoryLimit": 1, "replicas": 1});
    let mut long = observed(&limit, &["0 ready"]);
    for (image, number) in [("a", 3), ("b", 4), ("c", 5), ("new", 9)] {
        long.revisions.push(Arc::new(revision(image, number)));
    }
    // `db-old` is what the status has as the current one.
    assert_eq!(brief(&plan(&long)), "delete:revision:db-a delete:revision:db-b");
    long.pods.push(Arc::new({
        let mut pod = pod("1 gone");
        pod.metadata
            .labels
            .as_mut()
            .unwrap()
            .insert("controller-revision-hash".into(), "db-a".into());
        pod
    }));
    assert_eq!(brief(&plan(&long)), "delete:revision:db-b");
}

#[test]
fn claims_come_before_their_pods() {
    check(&with_claims(), &[], "create:claim:data-db-0 | create:db-0");
    let mut observed = observed(&with_claims(), &[]);
    let plan_of_first = plan(&observed);
    let bodies: Vec<_> = plan_of_first.writes().map(Write::body).collect();
    let claim = bodies.iter().find(|body| body["kind"] == "PersistentVolumeClaim").unwrap();
    assert_eq!(claim["metadata"]["labels"], json!({"a": "b", "app": "db"}));
    assert_eq!(claim["metadata"]["ownerReferences"], Value::Null);
    let pod = bodies.iter().find(|body| body["kind"] == "Pod").unwrap();
    assert_eq!(
        pod["spec"]["volumes"],
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}},
            {"name": "own", "emptyDir": {}}])
    );
    assert_eq!(
        (&pod["spec"]["hostname"], &pod["spec"]["subdomain"]),
        (&json!("db-0"), &json!("db"))
    );
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"app": "db", "apps.kubernetes.io/pod-index": "0",
            "statefulset.kubernetes.io/pod-name": "db-0", "controller-revision-hash": "db-new"})
    );
    // A claim that is there is taken; one that goes is waited for.
    let mut claim: PersistentVolumeClaim = serde_json::from_value(claim.clone()).unwrap();
    observed.claims = vec![Arc::new(claim.clone())];
    assert_eq!(brief(&plan(&observed)), "create:db-0");
    claim.metadata.deletion_timestamp = Some(NOW.parse().map(Time).unwrap());
    observed.claims = vec![Arc::new(claim)];
    assert_eq!(
        brief(&plan(&observed)),
        "FailedCreate: Create Pod db-0 in StatefulSet db failed error: pvc data-db-0 is being deleted"
    );
}

#[test]
fn claims_of_pods_that_wait_are_created_anew() {
    check(&with_claims(), &["0"], "create:claim:data-db-0");
    // A pod that runs without its volume is mended, as far as the API lets it.
    check(
        &with_claims(),
        &["0 ready"],
        "create:claim:data-db-0 update:db-0 | create:claim:data-db-1 | create:db-1",
    );
    check(&json!({}), &["0 ready bare", "1"], "update:db-0");
}

/// Who owns the claim of the pod `db-N` after the plan: `set`, `pod`, `other` or nobody.
#[track_caller]
fn check_owners(policy: (&str, &str), number: i32, before: &[&str], expected: &str) {
    let mut spec = with_claims();
    spec["replicas"] = json!(1);
    spec["podManagementPolicy"] = json!("Parallel");
    spec["persistentVolumeClaimRetentionPolicy"] =
        json!({"whenDeleted": policy.0, "whenScaled": policy.1});
    let mut observed = observed(&spec, &[&format!("{number}")]);
    let owners: Vec<_> = before
        .iter()
        .map(|owner| match *owner {
            "set" => json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "set", "controller": true}),
            "idle" => json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "set"}),
            "stale" => json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "before", "controller": true}),
            "pod" => json!({"apiVersion": "v1", "kind": "Pod", "name": format!("db-{number}"), "uid": format!("db-{number}"), "controller": true}),
            other => json!({"apiVersion": "v1", "kind": "ConfigMap", "name": other, "uid": other, "controller": other == "boss"}),
        })
        .collect();
    let claim = json!({"metadata": {"name": format!("data-db-{number}"), "namespace": "default",
        "ownerReferences": owners}});
    observed.claims = vec![Arc::new(serde_json::from_value(claim).unwrap())];
    let plan = plan(&observed);
    let update = plan.writes().find(|write| write.resource().kind == "PersistentVolumeClaim");
    let after = update.map_or("same".to_owned(), |update| {
        let owners = update.body()["metadata"]["ownerReferences"].clone();
        let kinds = owners.as_array().cloned().unwrap_or_default();
        let kinds: Vec<_> =
            kinds.iter().map(|it| it["kind"].as_str().unwrap().to_owned()).collect();
        kinds.join(" ")
    });
    assert_eq!(after, expected, "{policy:?} {number} {before:?}");
}

#[test]
fn claims_go_with_whom_the_policy_says() {
    let (retain, delete) = ("Retain", "Delete");
    check_owners((retain, retain), 0, &[], "same");
    check_owners((retain, retain), 0, &["set", "x"], "ConfigMap");
    check_owners((delete, retain), 0, &[], "StatefulSet");
    check_owners((delete, retain), 0, &["set"], "same");
    check_owners((delete, retain), 0, &["idle"], "StatefulSet");
    check_owners((delete, retain), 1, &["pod"], "StatefulSet");
    check_owners((retain, delete), 0, &[], "same");
    check_owners((retain, delete), 1, &[], "Pod");
    check_owners((retain, delete), 0, &["pod"], "");
    check_owners((delete, delete), 0, &[], "StatefulSet");
    check_owners((delete, delete), 1, &["set"], "Pod");
    // Somebody else's, or of a set before: hands off.
    check_owners((delete, delete), 0, &["boss"], "same");
    check_owners((delete, delete), 0, &["boss", "set"], "ConfigMap");
    check_owners((delete, delete), 0, &["stale"], "same");
}

#[test]
fn a_claim_that_goes_with_a_pod_before_is_not_used_again() {
    let mut spec = with_claims();
    spec["persistentVolumeClaimRetentionPolicy"] =
        json!({"whenDeleted": "Retain", "whenScaled": "Delete"});
    let mut observed = observed(&spec, &[]);
    let claim = json!({"metadata": {"name": "data-db-0", "namespace": "default", "ownerReferences": [
        {"apiVersion": "v1", "kind": "Pod", "name": "db-0", "uid": "before", "controller": true}]}});
    observed.claims = vec![Arc::new(serde_json::from_value(claim).unwrap())];
    assert_eq!(brief(&plan(&observed)), "");
}

/// `replicas/ready/available/current/updated current update`.
#[track_caller]
fn check_status(spec: &Value, pods: &[&str], expected: &str) {
    let plan = plan(&observed(spec, pods));
    let status = plan.writes().find(|write| write.resource().kind == "StatefulSet").unwrap().body();
    let status = &status["status"];
    let counts =
        ["replicas", "readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas"];
    let counts: Vec<_> =
        counts.iter().map(|name| status[name].as_i64().unwrap_or_default().to_string()).collect();
    let name = |field: &str| status[field].as_str().unwrap().to_owned();
    let line =
        format!("{} {} {}", counts.join("/"), name("currentRevision"), name("updateRevision"));
    assert_eq!(line, expected);
    assert_eq!(status["observedGeneration"], 1);
}

#[test]
fn counts_are_of_the_pods_there_are() {
    let plain = json!({});
    check_status(&plain, &[], "0/0/0/0/0 db-old db-new");
    check_status(&plain, &["0 ready old", "1 old", "2 ready"], "3/2/2/2/1 db-old db-new");
    check_status(&plain, &["0 ready old", "1 ready gone"], "2/2/2/1/0 db-old db-new");
    check_status(&plain, &["0 ready", "1 ready", "2 ready"], "3/3/3/3/3 db-new db-new");
    check_status(&plain, &["0 ready", "1 ready", "2"], "3/2/2/0/3 db-old db-new");
    check_status(
        &json!({"minReadySeconds": 5}),
        &["0 ready since=6", "1 ready"],
        "2/2/1/0/2 db-old db-new",
    );
    let on_delete = json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}});
    check_status(&on_delete, &["0 ready", "1 ready", "2 ready"], "3/3/3/0/3 db-old db-new");
}

#[test]
fn a_status_that_is_true_already_is_not_written() {
    let mut settled = observed(&json!({}), &["0 ready", "1 ready", "2 ready"]);
    let body = plan(&settled).writes().next().unwrap().body();
    settled.set = Arc::new(serde_json::from_value(body).unwrap());
    assert_eq!(plan(&settled).writes().count(), 0);
}
