//! CronJobs: a Job whenever a schedule says so.
//!
//! Follows upstream pkg/registry/batch/cronjob and `ValidateCronJobCreate`
//! (pkg/apis/batch/validation, v1.35). Which schedules there are is told by
//! [`api::cron`](crate::api::cron); which time zones, by the database of the host.

use super::job::{apply_spec_defaults, spec_warnings, validate_spec};
use crate::api::cron::ZonedSchedule;
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{not_negative, one_of, to_value};
use crate::registry::kinds::apps::container_cells;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{
    ALL, BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves,
};
use jiff::Timestamp;
use jiff::tz;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, JobSpec, JobTemplateSpec};
use serde_json::Value;
use std::borrow::Cow;

const CONCURRENCY_POLICIES: &[&str] = &["Allow", "Forbid", "Replace"];
const SUCCESSFUL_JOBS_HISTORY_LIMIT: i32 = 3;
const FAILED_JOBS_HISTORY_LIMIT: i32 = 1;
/// Longer names are refused: a job's name is 11 characters longer, and a label in the end.
const NAME_BYTES_MAX: usize = 52;
/// No part of the name of a time zone is longer (IANA's own rule).
const ZONE_PART_BYTES_MAX: usize = 14;

impl Resource for CronJob {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "cronjob",
        short_names: &[Cow::Borrowed("cj")],
        categories: ALL,
        subresources: &[Subresource::STATUS],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::CRON_JOB;
    const HALVES: Halves<Self> = halves!();
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Schedule", "When a job is due."),
        Column::text("Timezone", "Time zone of the schedule."),
        Column::boolean("Suspend", "Whether no more jobs are made for now."),
        Column::integer("Active", "Number of jobs that are running."),
        Column::text("Last Schedule", "Time since a job was last made."),
        Column::AGE,
        Column::wide("Containers", "Names of the template's containers."),
        Column::wide("Images", "Images of the template's containers."),
        Column::wide("Selector", "Labels of the pods that count."),
    ];

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.concurrency_policy.take_if(|policy| policy.is_empty());
        spec.concurrency_policy.get_or_insert_with(|| "Allow".to_owned());
        spec.suspend.get_or_insert(false);
        spec.successful_jobs_history_limit.get_or_insert(SUCCESSFUL_JOBS_HISTORY_LIMIT);
        spec.failed_jobs_history_limit.get_or_insert(FAILED_JOBS_HISTORY_LIMIT);
        apply_spec_defaults(spec.job_template.spec.get_or_insert_default());
        self.status.get_or_insert_default();
    }

    fn validate(&self) -> Vec<FieldError> {
        let spec = self.spec.clone().unwrap_or_default();
        let path = FieldPath::new("spec");
        let mut errors: Vec<_> = validate_schedule(&spec, &path.child("schedule"));
        let deadline = spec.starting_deadline_seconds;
        errors.extend(not_negative(&path.child("startingDeadlineSeconds"), deadline));
        let policy = spec.concurrency_policy.as_deref().unwrap_or_default();
        errors.extend(one_of(&path.child("concurrencyPolicy"), policy, CONCURRENCY_POLICIES));
        errors.extend(validate_template(&spec.job_template, &path.child("jobTemplate")));
        for (field, limit) in [
            ("successfulJobsHistoryLimit", spec.successful_jobs_history_limit),
            ("failedJobsHistoryLimit", spec.failed_jobs_history_limit),
        ] {
            errors.extend(not_negative(&path.child(field), limit));
        }
        errors
    }

    fn validate_create(&self) -> Vec<FieldError> {
        let spec = self.spec.clone().unwrap_or_default();
        let mut errors = validate_zone(&spec);
        errors.extend(validate_zone_in_schedule(&spec, false));
        let name = self.metadata.name.as_deref().unwrap_or_default();
        if name.len() > NAME_BYTES_MAX {
            let path = FieldPath::new("metadata").child("name");
            let detail = "must be no more than 52 characters";
            errors.push(FieldError::invalid(&path, name, detail));
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let (spec, old) =
            (self.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        let is_new = spec.time_zone != old.time_zone;
        let mut errors = if is_new { validate_zone(&spec) } else { Vec::new() };
        errors.extend(validate_zone_in_schedule(&spec, old.schedule.contains("TZ")));
        errors
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let job = self.spec.as_ref().and_then(|spec| spec.job_template.spec.as_ref());
        let path = FieldPath::new("spec").child("jobTemplate").child("spec");
        let metadata = (&self.metadata, old.map(|old| &old.metadata));
        job.map(|job| spec_warnings(metadata, job, &path)).unwrap_or_default()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().unwrap_or_default();
        let job = spec.job_template.spec.unwrap_or_default();
        let (names, images) = container_cells(Some(&job.template));
        let last = status.last_schedule_time.as_ref().map(|last| cells::since(Some(last), now));
        let suspend = match spec.suspend {
            Some(true) => "True",
            Some(false) => "False",
            None => "<unset>",
        };
        vec![
            cells::name(&self.metadata),
            spec.schedule.into(),
            spec.time_zone.unwrap_or_else(|| cells::NONE.to_owned()).into(),
            suspend.into(),
            status.active.map_or(0, |active| active.len()).into(),
            cells::or_none(last.as_deref()),
            cells::age(&self.metadata, now),
            names.into(),
            images.into(),
            cells::selector(job.selector.as_ref()),
        ]
    }
}

fn validate_schedule(spec: &CronJobSpec, path: &FieldPath) -> Vec<FieldError> {
    let schedule = spec.schedule.as_str();
    if schedule.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let problem = match schedule.parse::<ZonedSchedule>() {
        Err(error) => Some(error.to_string()),
        Ok(ZonedSchedule { zone: Some(zone), .. }) if !is_zone(&zone) => {
            Some(format!("provided bad location {zone}: unknown time zone {zone}"))
        }
        Ok(_) => None,
    };
    problem.map(|detail| FieldError::invalid(path, schedule, detail)).into_iter().collect()
}

/// A zone belongs into its own field. `may_stay`: the schedule had one before there was that field.
fn validate_zone_in_schedule(spec: &CronJobSpec, may_stay: bool) -> Option<FieldError> {
    if !spec.schedule.contains("TZ") {
        return None;
    }
    let detail = match (may_stay, &spec.time_zone) {
        (true, None) => return None,
        (true, Some(_)) => "cannot use both timeZone field and TZ or CRON_TZ in schedule",
        (false, _) => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
    };
    let path = FieldPath::new("spec").child("schedule");
    Some(FieldError::invalid(&path, spec.schedule.as_str(), detail))
}

/// Upstream `validateTimeZone`.
fn validate_zone(spec: &CronJobSpec) -> Vec<FieldError> {
    let Some(zone) = spec.time_zone.as_deref() else {
        return Vec::new();
    };
    let path = FieldPath::new("spec").child("timeZone");
    let invalid = |detail: String| FieldError::invalid(&path, zone, detail);
    if zone.is_empty() {
        return vec![invalid("timeZone must be nil or non-empty string".to_owned())];
    }
    let mut errors = Vec::new();
    if zone.eq_ignore_ascii_case("Local") {
        let detail =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(invalid(detail.to_owned()));
    }
    if !zone.split('/').all(is_zone_part) || !is_zone(zone) {
        errors.push(invalid(format!("unknown time zone {zone}")));
    }
    errors
}

fn is_zone_part(part: &str) -> bool {
    (1..=ZONE_PART_BYTES_MAX).contains(&part.len())
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte))
        && !part.starts_with('-')
        && !matches!(part, "." | "..")
}

/// Names count with their case, as in Go; `Local` and nothing are the host's own zone and UTC.
fn is_zone(name: &str) -> bool {
    matches!(name, "" | "UTC" | "Local")
        || tz::db().get(name).is_ok_and(|zone| zone.iana_name() == Some(name))
}

/// The selector is made for each job.
fn validate_template(template: &JobTemplateSpec, path: &FieldPath) -> Vec<FieldError> {
    let path = path.child("spec");
    let spec: JobSpec = template.spec.clone().unwrap_or_default();
    let mut errors = validate_spec(&spec, &path);
    if let Some(selector) = &spec.selector {
        let detail = "`selector` will be auto-generated";
        errors.push(FieldError::invalid(&path.child("selector"), to_value(selector), detail));
    }
    if spec.manual_selector == Some(true) {
        let path = path.child("manualSelector");
        errors.push(FieldError::not_supported(&path, true, &["nil", "false"]));
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::{Value, json};

    fn cron_job() -> Case {
        Case::of(
            "cronjobs",
            json!({
                "metadata": {"name": "backup", "namespace": "default"},
                "spec": {
                    "schedule": "*/5 * * * *",
                    "jobTemplate": {"spec": {"template": {"spec": {
                        "restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "i"}],
                    }}}},
                },
            }),
        )
    }

    fn with_spec(spec: Value) -> Case {
        cron_job().with(json!({"spec": spec}))
    }

    #[test]
    fn defaults_are_upstreams() {
        let spec = cron_job().created().to_value()["spec"].clone();
        assert_eq!(spec["concurrencyPolicy"], "Allow");
        assert_eq!(spec["suspend"], false);
        assert_eq!(spec["successfulJobsHistoryLimit"], 3);
        assert_eq!(spec["failedJobsHistoryLimit"], 1);
        assert_eq!(spec["jobTemplate"]["spec"]["completions"], Value::Null, "its jobs have those");
        check(&cron_job(), &[]);
    }

    #[test]
    fn everything_wrong_is_listed() {
        check(
            &with_spec(json!({
                "schedule": "* * * *", "startingDeadlineSeconds": -1, "concurrencyPolicy": "Never",
                "successfulJobsHistoryLimit": -1, "failedJobsHistoryLimit": -1,
                "jobTemplate": {"spec": {
                    "backoffLimit": -1, "selector": {}, "manualSelector": true,
                }},
            })),
            &[
                "spec.schedule: Invalid value: \"* * * *\": expected exactly 5 fields, found 4: [* * * *]",
                "spec.startingDeadlineSeconds: Invalid value: -1",
                "spec.concurrencyPolicy: Unsupported value: \"Never\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
                "spec.jobTemplate.spec.backoffLimit: Invalid value: -1",
                "spec.jobTemplate.spec.selector: Invalid value: {}: `selector` will be auto-generated",
                "spec.jobTemplate.spec.manualSelector: Unsupported value: true",
                "spec.successfulJobsHistoryLimit: Invalid value: -1",
                "spec.failedJobsHistoryLimit: Invalid value: -1",
            ],
        );
        check(&with_spec(json!({"schedule": ""})), &["spec.schedule: Required value"]);
    }

    #[test]
    fn names_leave_room_for_the_time() {
        let named =
            |bytes: usize| cron_job().with(json!({"metadata": {"name": "a".repeat(bytes)}}));
        check(&named(52), &[]);
        check(&named(53), &["metadata.name: Invalid value: \"aaa"]);
        check_update(&named(53), &named(53), &[]);
    }

    #[test]
    fn zones_have_names() {
        check(&with_spec(json!({"timeZone": "UTC"})), &[]);
        for (zone, expected) in [
            ("", &["timeZone must be nil or non-empty string"][..]),
            ("Mars/Olympus", &["unknown time zone Mars/Olympus"]),
            ("../etc", &["unknown time zone ../etc"]),
            ("Local", &["timeZone must be an explicit time zone as defined in"]),
            ("local", &["timeZone must be an explicit time zone", "unknown time zone local"]),
        ] {
            let expected: Vec<_> = expected
                .iter()
                .map(|detail| format!("spec.timeZone: Invalid value: {zone:?}: {detail}"))
                .collect();
            let expected: Vec<_> = expected.iter().map(String::as_str).collect();
            check(&with_spec(json!({"timeZone": zone})), &expected);
        }
    }

    #[test]
    fn zones_in_schedules_are_a_thing_of_the_past() {
        let refused = "spec.schedule: Invalid value: \"TZ=UTC 0 0 * * *\": cannot use";
        let zoned = with_spec(json!({"schedule": "TZ=UTC 0 0 * * *"}));
        check(&zoned, &[refused]);
        check_update(&cron_job(), &zoned, &[refused]);
        check_update(&zoned, &zoned, &[]);
        check_update(&zoned, &zoned.with(json!({"spec": {"timeZone": "UTC"}})), &[refused]);
        check(
            &with_spec(json!({"schedule": "CRON_TZ=No/Where @daily"})),
            &[
                "spec.schedule: Invalid value: \"CRON_TZ=No/Where @daily\": provided bad location No/Where: unknown time zone No/Where",
                "spec.schedule: Invalid value: \"CRON_TZ=No/Where @daily\": cannot use TZ or CRON_TZ",
            ],
        );
    }
}
