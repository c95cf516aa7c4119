//! Jobs with indexes.

use super::*;

fn indexed(spec: &Value) -> Value {
    let mut indexed = json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3});
    json_patch::merge(&mut indexed, spec);
    indexed
}

#[test]
fn every_index_has_a_pod() {
    check(
        &indexed(&json!({})),
        &json!({}),
        &[],
        &["create:0", "create:1 create:2", "status active=3"],
    );
    check(
        &indexed(&json!({"completions": 6})),
        &json!({"active": 1, "succeeded": 2, "completedIndexes": "1,3"}),
        &["a R index=0"],
        &["create:2", "create:4", "status active=3 succeeded=2 completedIndexes=1,3"],
    );
    let observed = look_at(job(&indexed(&json!({})), &json!({})), &[]);
    let plan = plan(&Observed::Job(Box::new(observed)));
    let pod = plan.writes().next().unwrap().body();
    assert_eq!(pod["metadata"]["generateName"], "j-0-");
    assert_eq!(pod["metadata"]["labels"][look::COMPLETION_INDEX], "0");
    assert_eq!(pod["spec"]["hostname"], "j-0");
    let variable = &pod["spec"]["containers"][0]["env"][0];
    assert_eq!(variable["name"], "JOB_COMPLETION_INDEX");
    assert_eq!(
        variable["valueFrom"]["fieldRef"]["fieldPath"],
        "metadata.labels['batch.kubernetes.io/job-completion-index']"
    );
}

#[test]
fn an_index_succeeds_once() {
    let spec = indexed(&json!({}));
    check(
        &spec,
        &json!({"active": 2, "succeeded": 1, "completedIndexes": "1"}),
        &["a S index=0", "b S index=1", "c R index=2", "d S index=7"],
        &["status active=1 succeeded=2 completedIndexes=0,1", "untrack:a untrack:b untrack:d"],
    );
    check(
        &spec,
        &json!({"active": 1, "succeeded": 2, "completedIndexes": "0,1"}),
        &["c S index=2"],
        &[
            "status succeeded=3 completedIndexes=0-2 +SuccessCriteriaMet(CompletionsReached)",
            "untrack:c",
        ],
    );
}

#[test]
fn doubles_and_pods_without_an_index_go() {
    check(
        &indexed(&json!({})),
        &json!({"active": 5}),
        &["a R index=0", "b R index=0 ready", "c R index=2", "d R", "e R index=3"],
        &[
            "untrack:e untrack:d untrack:a",
            "delete:e delete:d delete:a",
            "status active=2 ready=1 terminating=3",
        ],
    );
}

#[test]
fn a_job_that_shrinks_forgets_what_is_beyond() {
    check(
        &indexed(&json!({"completions": 2, "parallelism": 2})),
        &json!({"succeeded": 2, "completedIndexes": "0,3", "active": 1}),
        &["b R index=1"],
        &["status active=1 succeeded=1 completedIndexes=0"],
    );
}

#[test]
fn indexes_fail_by_themselves() {
    let spec = indexed(&json!({"backoffLimitPerIndex": 1, "backoffLimit": 2_147_483_647}));
    let known = json!({"active": 2, "failedIndexes": ""});
    // The failed pod stays until its replacement, which inherits the count, is there.
    check(
        &spec,
        &known,
        &["a F index=0 failures=0 ended=-4", "b R index=1", "c R index=2"],
        &["again in 6"],
    );
    check(
        &spec,
        &known,
        &["a F index=0 failures=0 ended=-40", "b R index=1", "c R index=2"],
        &["create:0", "status active=3 failedIndexes="],
    );
    let observed = look_at(
        job(&spec, &known),
        &["a F index=0 failures=0 ended=-40", "b R index=1", "c R index=2"],
    );
    let created = plan(&Observed::Job(Box::new(observed))).writes().next().unwrap().body();
    assert_eq!(created["metadata"]["annotations"][look::INDEX_FAILURES], "1");
    check(
        &spec,
        &json!({"active": 3, "failedIndexes": ""}),
        &["a F index=0 failures=0", "d R index=0 failures=1", "b R index=1", "c R index=2"],
        &["status active=3 failedIndexes= uncounted-failed=a", "untrack:a"],
    );
    check(
        &spec,
        &known,
        &["d F index=0 failures=1", "b R index=1", "c R index=2"],
        &["status active=2 failedIndexes=0 uncounted-failed=d", "untrack:d"],
    );
}

#[test]
fn failed_indexes_fail_the_job_at_its_end_or_when_they_are_too_many() {
    let spec = json!({"backoffLimitPerIndex": 0, "backoffLimit": 2_147_483_647});
    check(
        &indexed(&spec),
        &json!({"active": 1, "failed": 1, "failedIndexes": "0", "succeeded": 1, "completedIndexes": "1"}),
        &["c F index=2 failures=0"],
        &[
            "status succeeded=1 failed=1 completedIndexes=1 failedIndexes=0,2 uncounted-failed=c +FailureTarget(FailedIndexes)",
            "untrack:c",
        ],
    );
    let mut limited = spec;
    limited["maxFailedIndexes"] = json!(0);
    check(
        &indexed(&limited),
        &json!({"active": 3, "failedIndexes": ""}),
        &["a F index=0 failures=0", "b R index=1", "c R index=2"],
        &[
            "delete:b delete:c",
            "status terminating=2 failedIndexes=0 uncounted-failed=a,b,c +FailureTarget(MaxFailedIndexesExceeded)",
            "untrack:a untrack:b untrack:c",
        ],
    );
}

#[test]
fn a_rule_can_fail_an_index_at_once() {
    let spec = indexed(&json!({"backoffLimitPerIndex": 5, "backoffLimit": 2_147_483_647,
        "podFailurePolicy": {"rules": [
            {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [9]}}]}}));
    check(
        &spec,
        &json!({"active": 3, "failedIndexes": ""}),
        &["a F index=0 failures=0 code=9", "b R index=1", "c R index=2"],
        &["status active=2 failedIndexes=0 uncounted-failed=a", "untrack:a"],
    );
}

#[test]
fn some_indexes_can_be_enough() {
    let spec = indexed(&json!({"successPolicy": {"rules": [{"succeededIndexes": "1"}]}}));
    check(
        &spec,
        &json!({"active": 3}),
        &["a R index=0", "b S index=1", "c R index=2"],
        &[
            "delete:a delete:c",
            "status terminating=2 succeeded=1 completedIndexes=1 +SuccessCriteriaMet(SuccessPolicy)",
            "untrack:a untrack:b untrack:c",
        ],
    );
}
