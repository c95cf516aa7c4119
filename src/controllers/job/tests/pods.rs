//! How many pods there are, and how they are counted.

use super::*;
use crate::client::ResourceType;
use crate::control::{Failure, Verb};

#[test]
fn pods_are_made_in_growing_batches_up_to_the_parallelism() {
    let none = json!({});
    check(&none, &json!({"startTime": null}), &[], &["create", "status active=1 started-now"]);
    check(
        &json!({"parallelism": 4, "completions": 9}),
        &none,
        &[],
        &["create", "create create", "create", "status active=4"],
    );
    check(
        &json!({"parallelism": 4, "completions": 9}),
        &json!({"succeeded": 7, "active": 1}),
        &["a R"],
        &["create", "status active=2 succeeded=7"],
    );
    check(&json!({"parallelism": 0}), &none, &[], &[]);
    check(&none, &json!({"active": 1}), &["a P"], &[]);
    check(&none, &json!({"active": 1}), &["a R ready"], &["status active=1 ready=1"]);
}

#[test]
fn superfluous_pods_go_the_least_far_first_and_are_not_counted() {
    check(
        &json!({"parallelism": 1, "completions": 5}),
        &json!({"active": 3}),
        &["a R ready", "b P", "c R"],
        &["untrack:b untrack:c", "delete:b delete:c", "status active=1 ready=1 terminating=2"],
    );
    // A removal was cut short after the first of its two steps.
    check(
        &json!({"parallelism": 2, "completions": 5}),
        &json!({"active": 2}),
        &["a R", "b R untracked"],
        &["delete:b", "status active=1 terminating=1"],
    );
}

#[test]
fn a_pod_that_has_ended_is_named_then_freed_then_counted() {
    let spec = json!({"completions": 3});
    check(
        &spec,
        &json!({"active": 1}),
        &["a S"],
        &["create", "status active=1 uncounted-succeeded=a", "untrack:a"],
    );
    // The finalizer is still there: it is not counted twice.
    let named = json!({"active": 1, "uncountedTerminatedPods": {"succeeded": ["a"]}});
    check(&spec, &named, &["a S", "b R"], &["untrack:a"]);
    let counted = ["status active=1 succeeded=1"];
    check(&spec, &named, &["a S untracked", "b R"], &counted);
    // Nor is it lost when it is gone altogether.
    check(&spec, &named, &["b R"], &counted);
    check(&spec, &json!({"active": 1, "succeeded": 1}), &["a S untracked", "b R"], &[]);
    check(
        &spec,
        &json!({"active": 1}),
        &["a F ended=-50", "b R"],
        &["status active=1 uncounted-failed=a", "untrack:a"],
    );
    let failed = json!({"active": 1, "failed": 4, "uncountedTerminatedPods": {"failed": ["a"]}});
    check(&spec, &failed, &["b R"], &["status active=1 failed=5"]);
}

#[test]
fn a_deleted_pod_has_failed_unless_only_failed_pods_are_replaced() {
    check(
        &json!({}),
        &json!({"active": 1}),
        &["a R deleted"],
        &["create", "status active=1 terminating=1 uncounted-failed=a", "untrack:a"],
    );
    check(
        &json!({"podReplacementPolicy": "Failed"}),
        &json!({"active": 1}),
        &["a R deleted"],
        &["status terminating=1"],
    );
    check(
        &json!({"podReplacementPolicy": "Failed"}),
        &json!({"terminating": 1}),
        &["a F deleted"],
        &["create", "status active=1 uncounted-failed=a", "untrack:a"],
    );
}

#[test]
fn failures_delay_the_next_pod() {
    check(&json!({}), &json!({"failed": 1}), &["a F untracked ended=-3"], &["again in 7"]);
    check(
        &json!({}),
        &json!({"failed": 2}),
        &["a F untracked ended=-33", "b F untracked ended=-3"],
        &["again in 17"],
    );
    check(
        &json!({}),
        &json!({"failed": 1}),
        &["a F untracked ended=-10"],
        &["create", "status active=1 failed=1"],
    );
}

#[test]
fn a_pod_that_was_removed_delays_nobody() {
    check(
        &json!({}),
        &json!({"terminating": 1}),
        &["a R deleted untracked"],
        &["create", "status active=1 terminating=1"],
    );
    check(&json!({}), &json!({}), &["a F deleted untracked"], &["create", "status active=1"]);
}

#[test]
fn what_cannot_be_made_is_not_told() {
    let mut observed = look_at(job(&json!({}), &json!({"startTime": null})), &[]);
    observed.attempt.failure = Some(Failure {
        resource: ResourceType::of::<Pod>(),
        verb: Verb::Create,
        message: "no".to_owned(),
    });
    let plan = plan(&Observed::Job(Box::new(observed)));
    assert_eq!(render(&plan), ["status started-now", "create"]);
}

#[test]
fn suspended_jobs_have_no_pods_and_begin_anew() {
    let suspended = json!({"suspend": true});
    check(
        &suspended,
        &json!({"active": 2}),
        &["a R ready", "b P"],
        &[
            "untrack:a untrack:b",
            "delete:a delete:b",
            "status terminating=2 +Suspended(JobSuspended)",
            "Suspended: Job suspended",
        ],
    );
    check(
        &suspended,
        &json!({"startTime": null}),
        &[],
        &["status +Suspended(JobSuspended) not-started", "Suspended: Job suspended"],
    );
    let condition = json!([{"type": "Suspended", "status": "True", "reason": "JobSuspended",
        "message": "Job suspended"}]);
    check(&suspended, &json!({"conditions": condition}), &[], &[]);
    check(
        &json!({"activeDeadlineSeconds": 10}),
        &json!({"conditions": condition, "startTime": null}),
        &[],
        &["create", "status active=1 -Suspended(JobResumed) started-now", "Resumed: Job resumed"],
    );
}

#[test]
fn pods_are_adopted_and_released_with_the_finalizer() {
    check(&json!({}), &json!({}), &["a R orphan untracked"], &["own:a"]);
    check(&json!({}), &json!({"active": 1}), &["a R stranger"], &["own:a"]);
    let observed = look_at(job(&json!({}), &json!({})), &["a R orphan untracked"]);
    let plan = plan(&Observed::Job(Box::new(observed)));
    let patch = plan.writes().next().unwrap().body();
    assert_eq!(patch["metadata"]["finalizers"], json!([look::TRACKING_FINALIZER]));
    let observed = look_at(job(&json!({}), &json!({})), &["a R stranger"]);
    let plan = super::plan(&Observed::Job(Box::new(observed)));
    let patch = plan.writes().next().unwrap().body();
    let finalizers = &patch["metadata"]["$deleteFromPrimitiveList/finalizers"];
    assert_eq!(*finalizers, json!([look::TRACKING_FINALIZER]));
}

#[test]
fn a_job_on_its_way_out_lets_its_pods_go() {
    let mut job = job(&json!({"parallelism": 3}), &json!({"active": 1}));
    job["metadata"]["deletionTimestamp"] = json!(at(-1));
    let plan = plan(&Observed::Job(Box::new(look_at(job, &["a R"]))));
    assert_eq!(render(&plan), ["untrack:a"]);
}

#[test]
fn a_pod_without_a_job_is_freed() {
    let orphan: Pod = serde_json::from_value(pod("a R")).unwrap();
    assert_eq!(render(&plan(&Observed::Orphan(Arc::new(orphan)))), ["untrack:a"]);
}
