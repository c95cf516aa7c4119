//! What a CronJob's plan does, one look at a time.

use super::*;
use crate::control::Write;
use jiff::Timestamp;
use serde_json::{Value, json};

const NOW: &str = "2026-11-20T12:00:10Z";
/// `2026-11-20T12:00:00Z` in minutes.
const NOON: &str = "c-29919600";

fn cron_job(spec: &Value, status: &Value) -> Value {
    let mut cron_job = json!({
        "metadata": {"name": "c", "namespace": "n", "uid": "C", "resourceVersion": "1",
            "creationTimestamp": "2026-11-20T11:00:30Z"},
        "spec": {"schedule": "0 * * * *", "concurrencyPolicy": "Allow", "suspend": false,
            "successfulJobsHistoryLimit": 2, "failedJobsHistoryLimit": 1,
            "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}}},
        "status": {},
    });
    json_patch::merge(&mut cron_job["spec"], spec);
    json_patch::merge(&mut cron_job["status"], status);
    cron_job
}

/// `name[ complete=T][ failed][ at=T][ started=T][ leaving]`, with times of the day.
fn job(text: &str) -> Value {
    let mut words = text.split(' ');
    let name = words.next().unwrap();
    let time = |text: &str| format!("2026-11-20T{text}:00Z");
    let mut job = json!({"metadata": {"name": name, "namespace": "n", "uid": name,
        "annotations": {}}, "spec": {"template": {}}, "status": {}});
    for word in words {
        let (flag, value) = word.split_once('=').unwrap_or((word, ""));
        match flag {
            "complete" => {
                job["status"]["conditions"] = json!([{"type": "Complete", "status": "True"}]);
                job["status"]["completionTime"] = json!(time(value));
            }
            "failed" => {
                job["status"]["conditions"] = json!([{"type": "Failed", "status": "True"}]);
            }
            "at" => {
                job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"] =
                    json!(time(value));
            }
            "started" => job["status"]["startTime"] = json!(time(value)),
            "leaving" => job["metadata"]["deletionTimestamp"] = json!(time("11:00")),
            other => panic!("{other}"),
        }
    }
    job
}

fn observed(cron_job: Value, jobs: &[&str]) -> Observed {
    let cron_job: CronJob = serde_json::from_value(cron_job).unwrap();
    let schedule: ZonedSchedule = cron_job.spec.as_ref().unwrap().schedule.parse().unwrap();
    let jobs: Vec<Arc<Job>> =
        jobs.iter().map(|text| serde_json::from_value(job(text)).unwrap()).collect();
    let now: Timestamp = NOW.parse().unwrap();
    Observed {
        cron_job: Arc::new(cron_job),
        calendar: Ok(Calendar { schedule: schedule.schedule, zone: TimeZone::UTC }),
        others: jobs.iter().filter_map(|job| job.metadata.name.clone()).collect(),
        jobs,
        gone: BTreeSet::new(),
        attempt: Attempt { now, failure: None },
    }
}

fn render(plan: &Plan) -> Vec<String> {
    let mut lines: Vec<String> = plan
        .writes()
        .map(|write| match write {
            Write::Create { .. } => {
                let body = write.body();
                format!("create {}", body["metadata"]["name"].as_str().unwrap())
            }
            Write::Delete { key, .. } => format!("delete {}", key.name),
            _ => {
                let status = &write.body()["status"];
                let active: Vec<_> = status["active"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|job| job["name"].as_str().unwrap().to_owned())
                    .collect();
                let time = |field: &str| {
                    status[field].as_str().map_or("-", |text| &text[11..16]).to_owned()
                };
                let (last, success) = (time("lastScheduleTime"), time("lastSuccessfulTime"));
                format!("status active={} last={last} success={success}", active.join(","))
            }
        })
        .collect();
    lines.extend(plan.reports.iter().map(|it| format!("{}: {}", it.reason, it.message)));
    if let Some(after) = plan.recheck_after {
        lines.push(format!("again in {}", after.as_secs()));
    }
    lines
}

#[track_caller]
fn check(spec: &Value, status: &Value, jobs: &[&str], expected: &[&str]) {
    let observed = observed(cron_job(spec, status), jobs);
    assert_eq!(render(&plan(&observed)), expected, "{spec} {status} {jobs:?}");
}

fn active(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"name": name, "uid": name})).collect()
}

const AGAIN: &str = "again in 3590";

#[test]
fn a_job_is_made_when_its_time_has_come_and_then_told() {
    let create = format!("create {NOON}");
    check(&json!({}), &json!({}), &[], &[&create, AGAIN]);
    let made = format!("{NOON} at=12:00");
    let told = format!("status active={NOON} last=12:00 success=-");
    check(&json!({}), &json!({}), &[&made], &[&told, AGAIN]);
    let last = json!({"lastScheduleTime": "2026-11-20T12:00:00Z", "active": active(&[NOON])});
    check(&json!({}), &last, &[&made], &[AGAIN]);
    // Between two times nothing happens.
    let last = json!({"lastScheduleTime": "2026-11-20T12:00:00Z"});
    check(&json!({"schedule": "30 * * * *"}), &last, &[], &["again in 1790"]);
    check(&json!({"suspend": true}), &json!({}), &[], &[]);
}

#[test]
fn a_job_says_for_which_time_it_was_made() {
    let mut observed = observed(cron_job(&json!({}), &json!({})), &[]);
    let zone = TimeZone::get("Asia/Kolkata").unwrap();
    observed.calendar = Ok(Calendar { schedule: "30 * * * *".parse().unwrap(), zone });
    let body = plan(&observed).writes().next().unwrap().body();
    let metadata = &body["metadata"];
    assert_eq!(
        metadata["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"],
        "2026-11-20T17:30:00+05:30"
    );
    assert_eq!(metadata["labels"], json!({"a": "b"}));
    assert_eq!(metadata["ownerReferences"][0]["uid"], "C");
}

#[test]
fn jobs_that_have_ended_are_seen() {
    check(
        &json!({}),
        &json!({"active": active(&["a", "b"]), "lastScheduleTime": "2026-11-20T12:00:00Z"}),
        &["a complete=11:30", "b failed"],
        &[
            "status active= last=12:00 success=11:30",
            "SawCompletedJob: Saw completed job: a, condition: Complete",
            "SawCompletedJob: Saw completed job: b, condition: Failed",
            AGAIN,
        ],
    );
    let last = json!({"lastScheduleTime": "2026-11-20T12:00:00Z"});
    check(
        &json!({}),
        &last,
        &["manual"],
        &["UnexpectedJob: Saw a job that the controller did not create or forgot: manual", AGAIN],
    );
    let mut observed = observed(
        cron_job(
            &json!({}),
            &json!({"active": active(&["a", "b"]),
            "lastScheduleTime": "2026-11-20T12:00:00Z"}),
        ),
        &[],
    );
    observed.gone = BTreeSet::from(["a".to_owned()]);
    let lines = render(&plan(&observed));
    let expected =
        ["status active=b last=12:00 success=-", "MissingJob: Active job went missing: a", AGAIN];
    assert_eq!(lines, expected);
}

#[test]
fn policies_for_jobs_that_still_run() {
    let running = json!({"active": active(&["old"]), "lastScheduleTime": "2026-11-20T11:00:00Z"});
    let create = format!("create {NOON}");
    check(&json!({}), &running, &["old at=11:00"], &[&create, AGAIN]);
    let already = "JobAlreadyActive: Not starting job because prior execution is running and concurrency policy is Forbid";
    let forbid = json!({"concurrencyPolicy": "Forbid"});
    check(&forbid, &running, &["old at=11:00"], &[already, AGAIN]);
    let replace = json!({"concurrencyPolicy": "Replace"});
    check(
        &replace,
        &running,
        &["old at=11:00"],
        &["delete old", &create, "status active= last=11:00 success=-", AGAIN],
    );
}

#[test]
fn what_is_too_late_is_left_out() {
    check(
        &json!({"schedule": "58 11 * * *", "startingDeadlineSeconds": 200}),
        &json!({}),
        &[],
        &["create c-29919598", "again in 86270"],
    );
    check(
        &json!({"schedule": "58 11 * * *", "startingDeadlineSeconds": 20}),
        &json!({}),
        &[],
        &["again in 86270"],
    );
    check(
        &json!({"schedule": "* * * * *"}),
        &json!({"lastScheduleTime": "2026-11-20T09:00:00Z"}),
        &[],
        &[
            &format!("create {NOON}"),
            "TooManyMissedTimes: too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew",
            "again in 50",
        ],
    );
}

#[test]
fn the_oldest_of_history_go() {
    let last = json!({"lastScheduleTime": "2026-11-20T12:00:00Z",
        "lastSuccessfulTime": "2026-11-20T11:50:00Z"});
    check(
        &json!({}),
        &last,
        &[
            "a complete=11:01 started=11:00",
            "b complete=10:01 started=10:00",
            "c complete=09:01 started=09:00",
            "d failed started=08:00",
            "e failed started=07:00",
            "f failed started=06:00 leaving",
        ],
        &["delete c", "delete e", AGAIN],
    );
    check(
        &json!({"successfulJobsHistoryLimit": 0, "failedJobsHistoryLimit": 0}),
        &last,
        &["a complete=11:01 started=11:00", "d failed started=08:00"],
        &["delete a", "delete d", AGAIN],
    );
}

#[test]
fn a_name_that_is_taken_is_left_alone() {
    let mut observed = observed(cron_job(&json!({}), &json!({})), &[]);
    observed.others = BTreeSet::from([NOON.to_owned()]);
    assert_eq!(render(&plan(&observed)), [AGAIN]);
}
