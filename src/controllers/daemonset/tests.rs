//! Tables of decisions about DaemonSets.

use super::*;
use crate::control::{Planned, Verb, Write};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSetStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use std::time::Duration;

const NOW: &str = "2026-11-20T12:00:00Z";

/// A set with this strategy for a rolling update.
fn set(unavailable: &str, surge: &str) -> DaemonSet {
    let share = |text: &str| text.parse::<i32>().map_or(json!(text), Value::from);
    serde_json::from_value(json!({
        "metadata": {"name": "log", "namespace": "default", "uid": "set", "generation": 1,
            "resourceVersion": "5", "annotations": {"deprecated.daemonset.template.generation": "2"}},
        "spec": {
            "selector": {"matchLabels": {"app": "log"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate":
                {"maxUnavailable": share(unavailable), "maxSurge": share(surge)}},
            "template": {
                "metadata": {"labels": {"app": "log"}},
                "spec": {"containers": [{"name": "c", "image": "new"}]},
            },
        },
    }))
    .unwrap()
}

/// The revision of this image's template, whose hash is the image's name.
fn revision(image: &str, number: i64) -> ControllerRevision {
    let set = set("1", "0");
    let mut template = set.spec.as_ref().unwrap().template.clone();
    template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
    let hash_label = history::REVISION_LABEL;
    let entry = history::Entry { number, collisions: None, hash_label };
    let mut revision = history::render(&set, &template, entry);
    revision.metadata.name = Some(format!("log-{image}"));
    revision.metadata.labels.as_mut().unwrap().insert(hash_label.to_owned(), image.to_owned());
    revision
}

/// A node from a few words: its name, and then `full` (takes no pods) or `hostile` (drives them out).
fn node(words: &str) -> Node {
    let (name, effect) = words.split_once(' ').unwrap_or((words, ""));
    let effect = match effect {
        "" => "PreferNoSchedule",
        "full" => "NoSchedule",
        "hostile" => "NoExecute",
        other => panic!("{other}"),
    };
    serde_json::from_value(json!({"metadata": {"name": name},
        "spec": {"taints": [{"key": "k", "effect": effect}]}}))
    .unwrap()
}

/// A pod from a few words: its name and node, and then any of `ready`, `failed`, `succeeded`, `gone`
/// (being deleted), `old` (of the revision before), `unbound` (not there yet), `orphan`, `foreign`,
/// `since=SECONDS` ago.
fn pod(words: &str) -> Pod {
    let mut words = words.split(' ');
    let (name, node) = words.next().unwrap().split_once('@').unwrap();
    let mut pod = serde_json::to_value(render::render_pod(&set("1", "0"), "new", node)).unwrap();
    let metadata = &mut pod["metadata"];
    metadata["name"] = json!(name);
    metadata["uid"] = json!(name);
    metadata["resourceVersion"] = json!("9");
    pod["spec"]["nodeName"] = json!(node);
    pod["status"] = json!({"phase": "Pending"});
    let mut since = NOW.parse::<Timestamp>().unwrap();
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("ready", _) => {
                pod["status"] = json!({"phase": "Running",
                    "conditions": [{"type": "Ready", "status": "True"}]});
            }
            ("failed", _) => pod["status"]["phase"] = json!("Failed"),
            ("succeeded", _) => pod["status"]["phase"] = json!("Succeeded"),
            ("gone", _) => pod["metadata"]["deletionTimestamp"] = json!(NOW),
            ("old", _) => {
                let labels = &mut pod["metadata"]["labels"];
                labels["controller-revision-hash"] = json!("old");
                labels["pod-template-generation"] = json!("1");
            }
            ("unbound", _) => pod["spec"]["nodeName"] = Value::Null,
            ("orphan", _) => pod["metadata"]["ownerReferences"] = json!([]),
            ("foreign", _) => pod["metadata"]["labels"]["app"] = json!("else"),
            ("since", seconds) => since -= Duration::from_secs(seconds.parse().unwrap()),
            _ => panic!("{word}"),
        }
    }
    if let Some(condition) = pod["status"].pointer_mut("/conditions/0") {
        condition["lastTransitionTime"] = json!(since.to_string());
    }
    serde_json::from_value(pod).unwrap()
}

fn observed(set: DaemonSet, nodes: &[&str], pods: &[&str]) -> Observed {
    Observed {
        set: Arc::new(set),
        nodes: nodes.iter().map(|words| Arc::new(node(words))).collect(),
        pods: pods.iter().map(|words| Arc::new(pod(words))).collect(),
        revisions: vec![Arc::new(revision("old", 1)), Arc::new(revision("new", 2))],
        namesake: None,
        waits: BTreeMap::new(),
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
    let reports = plan.reports.iter().map(|report| report.reason.to_owned());
    steps.chain(recheck).chain(reports).collect::<Vec<_>>().join(" | ")
}

fn brief_write(write: &Write) -> Option<String> {
    let body = write.body();
    let key = write.key().map(|key| key.name.clone()).unwrap_or_default();
    match write {
        Write::Create { resource, .. } if resource.kind == "Pod" => {
            let pod: Pod = serde_json::from_value(body).unwrap();
            Some(format!("create@{}", target_node(&pod).unwrap()))
        }
        Write::Create { .. } => Some("create:revision".to_owned()),
        Write::Delete { .. } => Some(format!("delete:{key}")),
        Write::Update { subresource: Some(_), .. } => None,
        Write::Update { .. } => Some(format!("update:{key}={}", body["revision"])),
        Write::Patch { .. } => {
            let owner = &body["metadata"]["ownerReferences"][0];
            let verb = match (&owner["$patch"], &body["metadata"]["labels"]) {
                (_, Value::Object(_)) => "relabel",
                (Value::Null, _) => "adopt",
                _ => "release",
            };
            Some(format!("{verb}:{key}"))
        }
        Write::DeleteCollection { .. } => unreachable!("a set deletes pods one by one"),
    }
}

#[track_caller]
fn check(nodes: &[&str], pods: &[&str], expected: &str) {
    assert_eq!(brief(&plan(&observed(set("1", "0"), nodes, pods))), expected);
}

#[test]
fn every_node_that_fits_gets_one_pod() {
    check(&[], &[], "");
    check(&["n1", "n2", "n3"], &[], "create@n1 | create@n2 create@n3");
    check(&["n1", "n2"], &["a@n1"], "create@n2");
    check(&["n1"], &["a@n1 unbound"], "");
    check(&["n1"], &["a@n1 gone"], "");
    check(&["n1 full", "n2 hostile"], &[], "");
    check(&["n1 full"], &["a@n1 ready"], "");
    check(&["n1 hostile"], &["a@n1 ready", "b@n1 gone"], "delete:a");
    // One with a node stays rather than one without.
    check(&["n1"], &["a@n1 unbound", "b@n1 ready"], "delete:a");
    check(&["n1"], &["a@n1 ready", "b@n1 ready", "c@n1 ready"], "delete:b delete:c");
    // Of a node that is gone, the pod that never got there goes; the others are somebody else's.
    check(&[], &["a@n1 unbound", "b@n1 ready"], "delete:a");
}

#[test]
fn no_more_than_some_pods_are_made_at_a_time() {
    let names: Vec<_> = (0..600).map(|number| format!("n{number:03}")).collect();
    let nodes: Vec<_> = names.iter().map(String::as_str).collect();
    let plan = plan(&observed(set("1", "0"), &nodes, &[]));
    let creates = plan.writes().filter(|write| write.verb() == Verb::Create).count();
    assert_eq!(creates, 250);
}

#[test]
fn pods_that_ended_are_replaced_with_some_patience() {
    check(&["n1"], &["a@n1 failed"], "delete:a | FailedDaemonPod");
    check(&["n1"], &["a@n1 failed gone"], "create@n1");
    check(&["n1"], &["a@n1 succeeded"], "delete:a | SucceededDaemonPod");
    let mut tried = observed(set("1", "0"), &["n1", "n2"], &["a@n1 failed", "b@n2 failed"]);
    tried.waits.insert("n1".to_owned(), Duration::from_secs(4));
    assert_eq!(brief(&plan(&tried)), "delete:b | recheck:4 | FailedDaemonPod");
}

#[test]
fn new_pods_come_in_place_of_old_ones() {
    let nodes = ["n1", "n2", "n3", "n4"];
    let roll = |unavailable: &str, pods: &[&str]| {
        brief(&plan(&observed(set(unavailable, "0"), &nodes, pods)))
    };
    let old = ["a@n1 ready old", "b@n2 ready old", "c@n3 ready old", "d@n4 ready old"];
    assert_eq!(roll("1", &old), "delete:a");
    assert_eq!(roll("50%", &old), "delete:a delete:b");
    assert_eq!(roll("1%", &old), "delete:a");
    assert_eq!(roll("0", &old), "delete:a");
    assert_eq!(roll("9", &old), "delete:a delete:b delete:c delete:d");
    let under_way = ["a@n1", "b@n2 ready old", "c@n3 ready old", "d@n4 ready old"];
    assert_eq!(roll("1", &under_way), "");
    assert_eq!(roll("2", &under_way), "delete:b");
    let going = ["a@n1 ready old gone", "b@n2 ready old", "c@n3 ready old", "d@n4 ready old"];
    assert_eq!(roll("1", &going), "");
    // Pods that are not available may go at once.
    let broken = ["a@n1 old", "b@n2 old", "c@n3 ready old", "d@n4 ready"];
    assert_eq!(roll("1", &broken), "delete:a delete:b");
    assert_eq!(roll("3", &broken), "delete:a delete:b delete:c");
    // A pod from before there were hashes is known by its generation.
    let mut dated = observed(set("1", "0"), &["n1"], &["a@n1 ready"]);
    let labels = Arc::make_mut(&mut dated.pods[0]).metadata.labels.as_mut().unwrap();
    labels.remove("controller-revision-hash");
    assert_eq!(brief(&plan(&dated)), "");
}

#[test]
fn new_pods_come_beside_old_ones() {
    let nodes = ["n1", "n2", "n3"];
    let roll = |surge: &str, pods: &[&str]| brief(&plan(&observed(set("0", surge), &nodes, pods)));
    let old = ["a@n1 ready old", "b@n2 ready old", "c@n3 ready old"];
    assert_eq!(roll("1", &old), "create@n1");
    assert_eq!(roll("50%", &old), "create@n1 | create@n2");
    let mut beside = old.to_vec();
    beside.push("d@n1");
    assert_eq!(roll("1", &beside), "");
    assert_eq!(roll("2", &beside), "create@n2");
    beside[3] = "d@n1 ready";
    assert_eq!(roll("1", &beside), "delete:a");
    // An old pod that is not available does not wait for the surge, nor is it kept beside a new one.
    assert_eq!(
        roll("1", &["a@n1 old", "b@n2 old", "c@n3 ready old"]),
        "create@n1 | create@n2 create@n3"
    );
    assert_eq!(roll("1", &["a@n1 old", "d@n1", "b@n2 ready", "c@n3 ready"]), "delete:a");
    assert_eq!(roll("1", &["a@n1 ready gone", "b@n2 ready", "c@n3 ready"]), "create@n1");
    assert_eq!(
        roll("1", &["a@n1 failed", "b@n2 ready", "c@n3 ready"]),
        "delete:a | FailedDaemonPod"
    );
}

#[test]
fn those_who_surge_lose_no_pod_before_another_is_available() {
    let roll = |pods: &[&str]| brief(&plan(&observed(set("0", "1"), &["n1 full", "n2"], pods)));
    assert_eq!(roll(&["a@n1 ready old", "b@n2"]), "");
    assert_eq!(roll(&["a@n1 ready old", "b@n2 ready"]), "delete:a");
    assert_eq!(roll(&["a@n1 old", "b@n2"]), "delete:a");
}

#[test]
fn on_delete_waits_for_users() {
    let mut set = set("1", "0");
    let strategy = set.spec.as_mut().unwrap().update_strategy.as_mut().unwrap();
    strategy.type_ = Some("OnDelete".to_owned());
    strategy.rolling_update = None;
    let rolls = |pods: &[&str]| brief(&plan(&observed(set.clone(), &["n1", "n2"], pods)));
    assert_eq!(rolls(&["a@n1 ready old", "b@n2 ready old"]), "");
    assert_eq!(rolls(&["b@n2 ready old"]), "create@n1");
}

#[test]
fn availability_takes_its_time() {
    let mut set = set("1", "0");
    set.spec.as_mut().unwrap().min_ready_seconds = Some(10);
    let rolls = |pods: &[&str]| brief(&plan(&observed(set.clone(), &["n1", "n2"], pods)));
    assert_eq!(rolls(&["a@n1 ready since=4", "b@n2 ready old since=99"]), "recheck:6");
    assert_eq!(rolls(&["a@n1 ready since=10", "b@n2 ready old since=99"]), "delete:b");
}

#[test]
fn pods_are_adopted_and_released() {
    check(&["n1"], &["a@n1 orphan"], "adopt:a");
    check(&["n1"], &["a@n1 foreign"], "release:a");
    check(&["n1"], &["a@n1 orphan foreign"], "create@n1");
    let mut dying = observed(set("1", "0"), &["n1"], &["a@n1 orphan"]);
    Arc::make_mut(&mut dying.set).metadata.deletion_timestamp =
        Some(NOW.parse().map(Time).unwrap());
    assert_eq!(plan(&dying), Plan::default());
}

#[test]
fn templates_are_recorded_and_found_again() {
    let mut fresh = observed(set("1", "0"), &["n1"], &[]);
    fresh.revisions.truncate(1);
    assert_eq!(brief(&plan(&fresh)), "create:revision");
    fresh.revisions = vec![Arc::new(revision("new", 1)), Arc::new(revision("old", 2))];
    assert_eq!(brief(&plan(&fresh)), "update:log-new=3");
    fresh.revisions.clear();
    fresh.namesake = Some(Arc::new(revision("other", 1)));
    let plan_of_collision = plan(&fresh);
    let body = plan_of_collision.writes().next().unwrap().body();
    assert_eq!(body["status"]["collisionCount"], 1);
}

#[test]
fn revisions_of_one_template_become_one() {
    let mut twice = observed(set("1", "0"), &["n1", "n2"], &["a@n1 ready", "b@n2 ready"]);
    let mut copy = revision("new", 1);
    copy.metadata.name = Some("log-copy".to_owned());
    copy.metadata.labels.as_mut().unwrap().insert("controller-revision-hash".into(), "copy".into());
    twice.revisions.push(Arc::new(copy));
    let labels = Arc::make_mut(&mut twice.pods[1]).metadata.labels.as_mut().unwrap();
    labels.insert("controller-revision-hash".into(), "copy".into());
    assert_eq!(brief(&plan(&twice)), "relabel:b | delete:log-copy");
}

#[test]
fn old_revisions_are_forgotten_but_for_those_in_use() {
    let mut long = observed(set("1", "0"), &["n1", "n2"], &["a@n1 ready", "b@n2 gone"]);
    Arc::make_mut(&mut long.set).spec.as_mut().unwrap().revision_history_limit = Some(2);
    for (image, number) in [("x", 3), ("y", 4), ("z", 5), ("new", 9)] {
        long.revisions.push(Arc::new(revision(image, number)));
    }
    long.revisions.remove(1);
    assert_eq!(brief(&plan(&long)), "delete:log-old delete:log-x");
    let labels = Arc::make_mut(&mut long.pods[1]).metadata.labels.as_mut().unwrap();
    labels.insert("controller-revision-hash".into(), "old".into());
    assert_eq!(brief(&plan(&long)), "delete:log-x delete:log-y");
}

/// `desired/current/updated/ready/available/unavailable/misscheduled`.
#[track_caller]
fn check_status(nodes: &[&str], pods: &[&str], expected: [i32; 7]) {
    let observed = observed(set("1", "0"), nodes, pods);
    let plan = plan(&observed);
    let body = plan.writes().find(|write| write.resource().kind == "DaemonSet").unwrap().body();
    let status: DaemonSetStatus = serde_json::from_value(body["status"].clone()).unwrap();
    let counts = [
        status.desired_number_scheduled,
        status.current_number_scheduled,
        status.updated_number_scheduled.unwrap_or_default(),
        status.number_ready,
        status.number_available.unwrap_or_default(),
        status.number_unavailable.unwrap_or_default(),
        status.number_misscheduled,
    ];
    assert_eq!(counts, expected);
    assert_eq!(status.observed_generation, Some(1));
    let mut settled = observed.clone();
    Arc::make_mut(&mut settled.set).status = Some(status);
    assert!(super::plan(&settled).writes().all(|write| write.resource().kind != "DaemonSet"));
}

#[test]
fn counts_are_of_nodes() {
    check_status(&["n1", "n2"], &[], [2, 0, 0, 0, 0, 2, 0]);
    check_status(&["n1", "n2"], &["a@n1 ready", "b@n2 old"], [2, 2, 1, 1, 1, 1, 0]);
    check_status(&["n1", "n2 full"], &["a@n1 ready", "b@n2 ready"], [1, 1, 1, 1, 1, 0, 1]);
    check_status(&["n1 hostile"], &["a@n1 ready"], [0, 0, 0, 0, 0, 0, 1]);
    check_status(&["n1"], &["a@n1 ready", "b@n1"], [1, 1, 1, 1, 1, 0, 0]);
}

#[test]
fn pods_are_made_for_their_node() {
    let mut set = set("1", "0");
    let spec = set.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    spec.affinity = Some(
        serde_json::from_value(json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "a", "operator": "Exists"}]}]},
            "preferredDuringSchedulingIgnoredDuringExecution": [],
        }, "podAffinity": {}}))
        .unwrap(),
    );
    let pod = serde_json::to_value(render::render_pod(&set, "h", "n1")).unwrap();
    assert_eq!(
        pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"],
        json!({"nodeSelectorTerms": [{"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]})
    );
    assert_eq!(pod["spec"]["affinity"]["podAffinity"], json!({}));
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"app": "log", "controller-revision-hash": "h", "pod-template-generation": "2"})
    );
    assert_eq!(pod["metadata"]["generateName"], "log-");
    assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 6);
}
