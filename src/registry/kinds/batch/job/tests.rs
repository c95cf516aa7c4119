//! Jobs as a whole: how they are made, and what of them may change.

use crate::registry::kinds::testing::{Case, check, check_update};
use serde_json::{Value, json};

fn job() -> Case {
    Case::of(
        "jobs",
        json!({
            "metadata": {"name": "pi", "namespace": "default", "uid": "7"},
            "spec": {"template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}],
            }}},
        }),
    )
}

fn with_spec(spec: Value) -> Case {
    job().with(json!({"spec": spec}))
}

#[test]
fn defaults_are_upstreams() {
    let spec = job().created().to_value()["spec"].clone();
    for (field, expected) in [
        ("completions", json!(1)),
        ("parallelism", json!(1)),
        ("backoffLimit", json!(6)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("manualSelector", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
    ] {
        assert_eq!(spec[field], expected, "{field}");
    }
    let of = |spec: Value| with_spec(spec).created().to_value()["spec"].clone();
    assert_eq!(of(json!({"parallelism": 2}))["completions"], Value::Null);
    assert_eq!(of(json!({"backoffLimitPerIndex": 1}))["backoffLimit"], i32::MAX);
    let policy = json!({"rules": [{"action": "Count", "onPodConditions": [{"type": "A"}]}]});
    let spec = of(json!({"podFailurePolicy": policy}));
    assert_eq!(spec["podReplacementPolicy"], "Failed");
    assert_eq!(spec["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["status"], "True");
}

#[test]
fn a_job_selects_its_own_pods() {
    check(&job(), &[]);
    let created = job().created().to_value();
    let labels = json!({
        "batch.kubernetes.io/job-name": "pi", "batch.kubernetes.io/controller-uid": "7",
        "job-name": "pi", "controller-uid": "7",
    });
    assert_eq!(created["spec"]["template"]["metadata"]["labels"], labels);
    let selected = json!({"batch.kubernetes.io/controller-uid": "7"});
    assert_eq!(created["spec"]["selector"]["matchLabels"], selected);
    check(
        &with_spec(json!({"template": {"metadata": {"labels": {"job-name": "x"}}}})),
        &["spec.template.metadata.labels[job-name]: Invalid value: {"],
    );
    check(
        &with_spec(json!({"selector": {"matchLabels": {"a": "b"}}})),
        &[
            "spec.template.metadata.labels: Invalid value: {",
            "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",",
        ],
    );
}

#[test]
fn a_selector_of_ones_own_is_kept() {
    let own = json!({"manualSelector": true, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}}});
    check(&with_spec(own.clone()), &[]);
    let created = with_spec(own).created().to_value();
    assert_eq!(created["spec"]["template"]["metadata"]["labels"], json!({"a": "b"}));
    check(
        &with_spec(json!({"manualSelector": true})),
        &["spec.selector: Required value", "spec.template.metadata.labels: Invalid value: null"],
    );
}

#[test]
fn pods_of_indexed_jobs_have_host_names() {
    let name = "a".repeat(62);
    let indexed = json!({"completionMode": "Indexed", "completions": 11});
    check(
        &with_spec(indexed).with(json!({"metadata": {"name": name}})),
        &[&format!(
            "metadata.name: Invalid value: \"{name}\": will not able to create pod with invalid DNS label: {name}-10"
        )],
    );
}

/// A change as somebody makes it who has read the job before.
#[track_caller]
fn check_change(old: &Case, changes: Value, expected: &[&str]) {
    let before = old.created();
    let mut new = before.to_value();
    json_patch::merge(&mut new, &json!({"spec": changes}));
    let old = Case::of("jobs", before.to_value());
    check_update(&old, &Case::of("jobs", new), expected);
}

#[test]
fn little_may_change() {
    check_change(&job(), json!({"parallelism": 3, "suspend": true, "backoffLimit": 1}), &[]);
    check_change(
        &job(),
        json!({"completions": 2, "managedBy": "example.com/x",
            "template": {"spec": {"nodeSelector": {"a": "b"}}}}),
        &[
            "spec.completions: Invalid value: 2: field is immutable",
            "spec.template: Invalid value: {",
            "spec.managedBy: Invalid value: \"example.com/x\": field is immutable",
        ],
    );
    let indexed =
        with_spec(json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3}));
    check_change(&indexed, json!({"completions": 2, "parallelism": 2}), &[]);
    check_change(
        &indexed,
        json!({"completions": 2}),
        &[
            "spec.completions: Invalid value: 2: can only be modified in tandem with spec.parallelism",
        ],
    );
}

#[test]
fn a_suspended_job_can_be_placed() {
    let suspended = with_spec(json!({"suspend": true}));
    let term = json!({"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "a", "operator": "Exists"},
    ]}]});
    let placed = json!({"template": {
        "metadata": {"annotations": {"a": "b"}},
        "spec": {
            "nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}},
        },
    }});
    check_change(&suspended, placed, &[]);
    check_change(
        &suspended,
        json!({"template": {"spec": {"hostNetwork": true}}}),
        &["spec.template: Invalid value: {"],
    );
}
