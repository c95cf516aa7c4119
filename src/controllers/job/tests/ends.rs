//! How Jobs end.

use super::*;

fn told(kind: &str, reason: &str) -> Value {
    json!([{"type": kind, "status": "True", "reason": reason, "message": "m"}])
}

#[test]
fn a_job_is_complete_when_enough_pods_have_succeeded_and_are_counted() {
    check(
        &json!({}),
        &json!({"active": 1}),
        &["a S"],
        &["status uncounted-succeeded=a +SuccessCriteriaMet(CompletionsReached)", "untrack:a"],
    );
    let met = told("SuccessCriteriaMet", "CompletionsReached");
    let named = json!({"conditions": met, "uncountedTerminatedPods": {"succeeded": ["a"]}});
    check(
        &json!({}),
        &named,
        &["a S untracked"],
        &[
            "status succeeded=1 +SuccessCriteriaMet(CompletionsReached) +Complete(CompletionsReached) completed",
            "Completed: Job completed",
        ],
    );
    // Not while a pod of it may still run.
    check(
        &json!({}),
        &named,
        &["a S untracked", "b R deleted untracked"],
        &["status terminating=1 succeeded=1 +SuccessCriteriaMet(CompletionsReached)"],
    );
    check(
        &json!({"completions": 0}),
        &json!({}),
        &[],
        &[
            "status +SuccessCriteriaMet(CompletionsReached) +Complete(CompletionsReached) completed",
            "Completed: Job completed",
        ],
    );
}

#[test]
fn without_completions_one_success_is_enough_and_the_others_may_end() {
    let spec = json!({"completions": null, "parallelism": 3});
    check(
        &spec,
        &json!({"active": 3}),
        &["a S", "b R", "c R"],
        &["status active=2 uncounted-succeeded=a", "untrack:a"],
    );
    check(&spec, &json!({"active": 2, "succeeded": 1}), &["b R", "c R"], &[]);
    check(
        &spec,
        &json!({"active": 1, "succeeded": 2}),
        &["c F"],
        &[
            "status succeeded=2 uncounted-failed=c +SuccessCriteriaMet(CompletionsReached)",
            "untrack:c",
        ],
    );
}

#[test]
fn too_many_failures_fail_the_job() {
    let spec = json!({"backoffLimit": 1, "parallelism": 2, "completions": 5});
    check(
        &spec,
        &json!({"active": 2, "failed": 1}),
        &["a F", "b R ready"],
        &[
            "delete:b",
            "status terminating=1 failed=1 uncounted-failed=a,b +FailureTarget(BackoffLimitExceeded)",
            "untrack:a untrack:b",
        ],
    );
    let target = told("FailureTarget", "BackoffLimitExceeded");
    let named = json!({"failed": 1, "terminating": 1, "conditions": target,
        "uncountedTerminatedPods": {"failed": ["a", "b"]}});
    check(
        &spec,
        &named,
        &["a F untracked", "b R deleted untracked"],
        &["status terminating=1 failed=3 +FailureTarget(BackoffLimitExceeded)"],
    );
    check(
        &spec,
        &json!({"failed": 3, "terminating": 1, "conditions": target}),
        &["a F untracked"],
        &[
            "status failed=3 +FailureTarget(BackoffLimitExceeded) +Failed(BackoffLimitExceeded)",
            "BackoffLimitExceeded: m",
        ],
    );
}

#[test]
fn restarts_in_place_count_as_failures() {
    let spec = json!({"backoffLimit": 2, "template": {"spec": {"restartPolicy": "OnFailure"}}});
    check(&spec, &json!({"active": 1}), &["a R restarts=1"], &[]);
    check(
        &spec,
        &json!({"active": 1}),
        &["a R restarts=2"],
        &[
            "delete:a",
            "status terminating=1 uncounted-failed=a +FailureTarget(BackoffLimitExceeded)",
            "untrack:a",
        ],
    );
}

#[test]
fn a_job_may_be_active_for_so_long() {
    check(
        &json!({"activeDeadlineSeconds": 130}),
        &json!({"active": 1}),
        &["a R"],
        &["again in 30"],
    );
    check(
        &json!({"activeDeadlineSeconds": 100}),
        &json!({"active": 1}),
        &["a P"],
        &[
            "delete:a",
            "status terminating=1 uncounted-failed=a +FailureTarget(DeadlineExceeded)",
            "untrack:a",
        ],
    );
    check(
        &json!({"activeDeadlineSeconds": 100, "suspend": true}),
        &json!({"conditions": [{"type": "Suspended", "status": "True", "reason": "JobSuspended",
            "message": "Job suspended"}]}),
        &[],
        &[],
    );
}

#[test]
fn rules_for_failed_pods() {
    let policy = json!({"podFailurePolicy": {"rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
    ]}, "backoffLimit": 0});
    check(&policy, &json!({"active": 1}), &["a F disrupted"], &["create", "untrack:a"]);
    check(
        &policy,
        &json!({"active": 1}),
        &["a F code=42"],
        &["status uncounted-failed=a +FailureTarget(PodFailurePolicy)", "untrack:a"],
    );
    // How a pod on its way out will have ended is not known yet.
    check(&policy, &json!({"terminating": 1}), &["a R deleted"], &[]);
}

#[test]
fn a_verdict_stays() {
    let met = told("SuccessCriteriaMet", "SuccessPolicy");
    check(
        &json!({"completions": 5, "parallelism": 2, "backoffLimit": 0}),
        &json!({"conditions": met, "active": 1}),
        &["a F", "b R"],
        &[
            "delete:b",
            "status terminating=1 uncounted-failed=a +SuccessCriteriaMet(SuccessPolicy)",
            "untrack:a untrack:b",
        ],
    );
}
