//! What a Job's status may say, and how it may change.
//!
//! Follows upstream `validateJobStatus`, `ValidateJobStatusUpdate` (pkg/apis/batch/validation) and
//! `getStatusValidationOptions` (pkg/registry/batch/job, v1.35): most rules bind only where what
//! they are about changes, so that a status that was wrong before does not lock the Job.

use super::INDEXED;
use super::indexes;
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{not_negative, to_value};
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use std::collections::BTreeSet;

pub(super) const COMPLETE: &str = "Complete";
pub(super) const FAILED: &str = "Failed";
pub(super) const FAILURE_TARGET: &str = "FailureTarget";
pub(super) const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
pub(super) const SUSPENDED: &str = "Suspended";

/// Whether a condition of this type is true.
pub(super) fn is_true(status: &JobStatus, kind: &str) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == kind && condition.status == "True")
}

/// A status with what its conditions say.
#[derive(Clone, Debug)]
struct State {
    status: JobStatus,
    complete: bool,
    failed: bool,
    failure_target: bool,
    criteria_met: bool,
}

impl State {
    fn of(job: &Job) -> Self {
        let status = job.status.clone().unwrap_or_default();
        Self {
            complete: is_true(&status, COMPLETE),
            failed: is_true(&status, FAILED),
            failure_target: is_true(&status, FAILURE_TARGET),
            criteria_met: is_true(&status, SUCCESS_CRITERIA_MET),
            status,
        }
    }

    fn is_finished(&self) -> bool {
        self.complete || self.failed
    }

    fn completed_indexes(&self) -> &str {
        self.status.completed_indexes.as_deref().unwrap_or_default()
    }

    fn active(&self) -> i32 {
        self.status.active.unwrap_or_default()
    }
}

/// Going from one state to another.
struct Step<'a> {
    spec: &'a JobSpec,
    old: State,
    new: State,
    path: FieldPath,
}

pub(super) fn validate_update(new: &Job, old: &Job) -> Vec<FieldError> {
    let step = Step {
        spec: &new.spec.clone().unwrap_or_default(),
        old: State::of(old),
        new: State::of(new),
        path: FieldPath::new("status"),
    };
    let mut errors = step.counts();
    errors.extend(step.conditions());
    errors.extend(step.times());
    errors.extend(step.finish());
    errors.extend(step.indexes());
    errors.extend(step.transitions());
    errors
}

impl Step<'_> {
    fn changed<T: PartialEq>(&self, what: impl Fn(&State) -> T) -> bool {
        what(&self.old) != what(&self.new)
    }

    fn on_conditions(&self, detail: &str) -> FieldError {
        FieldError::invalid_unprinted(&self.path.child("conditions"), detail)
    }

    fn counts(&self) -> Vec<FieldError> {
        let status = &self.new.status;
        let mut errors: Vec<_> = [
            ("active", status.active),
            ("succeeded", status.succeeded),
            ("failed", status.failed),
            ("ready", status.ready),
            ("terminating", status.terminating),
        ]
        .into_iter()
        .filter_map(|(field, value)| not_negative(&self.path.child(field), value))
        .collect();
        let Some(uncounted) = &status.uncounted_terminated_pods else {
            return errors;
        };
        let path = self.path.child("uncountedTerminatedPods");
        let mut seen = BTreeSet::new();
        for (field, uids) in [("succeeded", &uncounted.succeeded), ("failed", &uncounted.failed)] {
            for (index, uid) in uids.iter().flatten().enumerate() {
                let path = path.child(field).index(index);
                if uid.is_empty() {
                    errors.push(FieldError::invalid(&path, "", "must not be empty"));
                } else if !seen.insert(uid) {
                    errors.push(FieldError::duplicate(&path, uid.as_str()));
                }
            }
        }
        errors
    }

    fn conditions(&self) -> Vec<FieldError> {
        let new = &self.new;
        let completes = self.changed(|state| state.complete);
        let fails = self.changed(|state| state.failed);
        let targets = self.changed(|state| state.failure_target);
        let meets = self.changed(|state| state.criteria_met);
        let has_policy = self.spec.success_policy.is_some();
        [
            (
                (completes || fails) && new.complete && new.failed,
                "cannot set Complete=True and Failed=true conditions",
            ),
            (
                (completes || targets) && new.complete && new.failure_target,
                "cannot set Complete=True and FailureTarget=true conditions",
            ),
            (
                (fails || self.changed(|state| state.status.failed_indexes.clone()))
                    && new.failed
                    && !new.failure_target,
                "cannot set Failed=True condition without the FailureTarget=true condition",
            ),
            (
                (completes || meets) && new.complete && !new.criteria_met,
                "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            ),
            (
                new.criteria_met && new.failed,
                "cannot set SuccessCriteriaMet=True and Failed=true conditions",
            ),
            (
                new.criteria_met && new.failure_target,
                "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
            ),
            (
                has_policy && !new.criteria_met && new.complete,
                "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
            ),
        ]
        .into_iter()
        .filter(|(is_wrong, _)| *is_wrong)
        .map(|(_, detail)| self.on_conditions(detail))
        .collect()
    }

    fn times(&self) -> Vec<FieldError> {
        let (new, status) = (&self.new, &self.new.status);
        let path = self.path.child("completionTime");
        let starts = self.changed(|state| state.status.start_time.clone());
        let ends = self.changed(|state| state.status.completion_time.clone());
        let is_about_end = ends || self.changed(|state| state.complete);
        let mut errors = Vec::new();
        match &status.completion_time {
            Some(end) if is_about_end && !new.complete => {
                let detail = "cannot set completionTime when there is no Complete=True condition";
                errors.push(FieldError::invalid(&path, to_value(end), detail));
            }
            None if is_about_end && new.complete => {
                let detail = "completionTime is required for Complete jobs";
                errors.push(FieldError::required(&path, detail));
            }
            _ => {}
        }
        if let (Some(start), Some(end)) = (&status.start_time, &status.completion_time)
            && (starts || ends)
            && end.0 < start.0
        {
            let detail = "must be equal to or after `startTime`";
            errors.push(FieldError::invalid(&path, to_value(end), detail));
        }
        if let (Some(before), Some(end)) =
            (&self.old.status.completion_time, &status.completion_time)
            && before != end
        {
            errors.push(FieldError::invalid(&path, to_value(end), "field is immutable"));
        }
        // Upstream's controller lets the time begin anew where a Job goes on after it was suspended.
        let resumes = is_true(&self.old.status, SUSPENDED) && status.start_time.is_some();
        let has_started = self.old.status.start_time.is_some();
        if starts && has_started && !resumes && self.spec.suspend != Some(true) {
            let detail = "startTime cannot be removed for unsuspended job";
            errors.push(FieldError::required(&self.path.child("startTime"), detail));
        }
        errors
    }

    /// What does not go with a Job that is over.
    fn finish(&self) -> Vec<FieldError> {
        let (new, status) = (&self.new, &self.new.status);
        let mut errors = Vec::new();
        let acts = self.changed(State::active);
        if status.ready.is_some_and(|ready| ready > new.active())
            && (acts || self.changed(|state| state.status.ready))
        {
            let detail = "cannot set more ready pods than active";
            errors.push(FieldError::invalid(&self.path.child("ready"), status.ready, detail));
        }
        if !new.is_finished() {
            return errors;
        }
        let finishes = self.changed(State::is_finished);
        if new.active() > 0 && (finishes || acts) {
            let detail = "active>0 is invalid for finished job";
            errors.push(FieldError::invalid(&self.path.child("active"), new.active(), detail));
        }
        let never_began = self.spec.suspend == Some(true) && self.spec.completions == Some(0);
        let starts = self.changed(|state| state.status.start_time.clone());
        if status.start_time.is_none() && (finishes || starts) && !never_began {
            let detail = "startTime is required for finished job";
            errors.push(FieldError::required(&self.path.child("startTime"), detail));
        }
        let counts = self.changed(|state| state.status.uncounted_terminated_pods.clone());
        if let Some(pods) = &status.uncounted_terminated_pods
            && pods.succeeded.iter().chain(&pods.failed).any(|uids| !uids.is_empty())
            && (finishes || counts)
        {
            let path = self.path.child("uncountedTerminatedPods");
            let detail = "must be empty for finished job";
            errors.push(FieldError::invalid(&path, to_value(pods), detail));
        }
        let ends = self.changed(|state| state.status.terminating);
        if let Some(terminating) =
            status.terminating.filter(|count| *count > 0 && (finishes || ends))
        {
            let detail = "terminating>0 is invalid for finished job";
            errors.push(FieldError::invalid(&self.path.child("terminating"), terminating, detail));
        }
        errors
    }

    fn indexes(&self) -> Vec<FieldError> {
        let completed = self.new.completed_indexes();
        let failed = self.new.status.failed_indexes.as_deref();
        let completes = self.changed(|state| state.completed_indexes().to_owned());
        let fails = self.changed(|state| state.status.failed_indexes.clone());
        let completed_path = self.path.child("completedIndexes");
        let failed_path = self.path.child("failedIndexes");
        let mut errors = Vec::new();
        if let Some(completions) = self.spec.completions {
            if completes && let Err(error) = indexes::count(completed, completions) {
                let detail = format!("error parsing completedIndexes: {error}");
                errors.push(FieldError::invalid(&completed_path, completed, detail));
            }
            if let Some(failed) = failed.filter(|_| fails && self.counts_failures())
                && let Err(error) = indexes::count(failed, completions)
            {
                let detail = format!("error parsing failedIndexes: {error}");
                errors.push(FieldError::invalid(&failed_path, failed, detail));
            }
        }
        if completes && !completed.is_empty() && !self.is_indexed() {
            let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
            errors.push(FieldError::invalid(&completed_path, completed, detail));
        }
        let Some(failed) = failed else {
            return errors;
        };
        if fails && !self.counts_failures() {
            let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            errors.push(FieldError::invalid(&failed_path, failed, detail));
        }
        if let Some(completions) = self.spec.completions.filter(|_| fails || completes)
            && let Some(index) = indexes::overlap(completed, failed, completions)
        {
            let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
            errors.push(FieldError::invalid(&failed_path, failed, detail));
        }
        errors
    }

    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some(INDEXED)
    }

    fn counts_failures(&self) -> bool {
        self.spec.backoff_limit_per_index.is_some()
    }

    /// What has been said stays said.
    fn transitions(&self) -> Vec<FieldError> {
        let (old, new) = (&self.old, &self.new);
        let mut errors = Vec::new();
        for kind in [FAILED, COMPLETE, FAILURE_TARGET] {
            if is_true(&old.status, kind) && !is_true(&new.status, kind) {
                let detail = format!("cannot disable the terminal {kind}=True condition");
                errors.push(self.on_conditions(&detail));
            }
        }
        // An Indexed Job can be scaled down, with its completions.
        let is_elastic = self.is_indexed() && self.spec.completions == self.spec.parallelism;
        for (field, value, before, may_shrink) in [
            ("failed", new.status.failed, old.status.failed, false),
            ("succeeded", new.status.succeeded, old.status.succeeded, is_elastic),
        ] {
            let value = value.unwrap_or_default();
            if value < before.unwrap_or_default() && !may_shrink {
                let detail = format!("cannot decrease the {field} counter");
                errors.push(FieldError::invalid(&self.path.child(field), value, detail));
            }
        }
        if old.criteria_met && !new.criteria_met {
            let detail = "cannot disable the SuccessCriteriaMet=True condition";
            errors.push(self.on_conditions(detail));
        }
        if old.complete && !old.criteria_met && new.criteria_met {
            let detail =
                "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
            errors.push(self.on_conditions(detail));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check_status_update};
    use serde_json::{Value, json};

    const START: &str = "2026-01-01T00:00:00Z";
    const END: &str = "2026-01-01T00:01:00Z";

    fn conditions(kinds: &[&str]) -> Value {
        kinds.iter().map(|kind| json!({"type": kind, "status": "True"})).collect()
    }

    #[track_caller]
    fn check(spec: Value, old: Value, new: Value, expected: &[&str]) {
        let case = Case::of(
            "jobs",
            json!({
                "metadata": {"name": "a", "namespace": "b", "uid": "1"},
                "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
            }),
        );
        let case = case.with(json!({"spec": spec}));
        let with = |status| case.with(json!({"status": status}));
        check_status_update(&with(old), &with(new), expected);
    }

    #[test]
    fn a_job_ends_as_upstreams_controller_ends_it() {
        let done = json!({
            "conditions": conditions(&["SuccessCriteriaMet", "Complete"]),
            "startTime": START, "completionTime": END, "succeeded": 1,
        });
        check(json!({}), json!({"startTime": START}), done.clone(), &[]);
        check(json!({}), done.clone(), done, &[]);
        let failed = json!({
            "conditions": conditions(&["FailureTarget", "Failed"]), "startTime": START, "failed": 7,
        });
        check(json!({}), json!({"startTime": START, "active": 1}), failed, &[]);
    }

    #[test]
    fn an_end_is_whole() {
        check(
            json!({}),
            json!({}),
            json!({"conditions": conditions(&["Complete"]), "active": 1, "terminating": 1,
                "uncountedTerminatedPods": {"failed": ["x", "", "x"]}}),
            &[
                "status.uncountedTerminatedPods.failed[1]: Invalid value: \"\": must not be empty",
                "status.uncountedTerminatedPods.failed[2]: Duplicate value: \"x\"",
                "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
                "status.completionTime: Required value: completionTime is required for Complete jobs",
                "status.active: Invalid value: 1: active>0 is invalid for finished job",
                "status.startTime: Required value: startTime is required for finished job",
                "status.uncountedTerminatedPods: Invalid value: {\"failed\":[\"x\",\"\",\"x\"]}: must be empty for finished job",
                "status.terminating: Invalid value: 1: terminating>0 is invalid for finished job",
            ],
        );
        check(
            json!({}),
            json!({"startTime": END}),
            json!({"startTime": END, "completionTime": START, "ready": 1,
                "conditions": conditions(&["Failed", "Complete", "SuccessCriteriaMet"])}),
            &[
                "status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions",
                "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
                "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and Failed=true conditions",
                "status.completionTime: Invalid value: \"2026-01-01T00:00:00Z\": must be equal to or after `startTime`",
                "status.ready: Invalid value: 1: cannot set more ready pods than active",
            ],
        );
    }

    #[test]
    fn the_time_of_a_job_that_goes_on_begins_anew() {
        let suspended = json!({"startTime": START, "conditions": conditions(&["Suspended"])});
        check(json!({}), suspended.clone(), json!({"startTime": END}), &[]);
        let removed =
            ["status.startTime: Required value: startTime cannot be removed for unsuspended job"];
        check(json!({}), suspended, json!({}), &removed);
    }

    #[test]
    fn what_was_said_stays() {
        check(
            json!({}),
            json!({"conditions": conditions(&["FailureTarget", "Failed"]), "startTime": START,
                "failed": 2, "succeeded": 1}),
            json!({"startTime": END, "failed": 1}),
            &[
                "status.startTime: Required value: startTime cannot be removed for unsuspended job",
                "status.conditions: Invalid value: cannot disable the terminal Failed=True condition",
                "status.conditions: Invalid value: cannot disable the terminal FailureTarget=True condition",
                "status.failed: Invalid value: 1: cannot decrease the failed counter",
                "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter",
            ],
        );
    }

    #[test]
    fn indexes_are_below_the_completions() {
        let spec = json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3});
        check(
            spec.clone(),
            json!({}),
            json!({"completedIndexes": "0-3", "failedIndexes": "1"}),
            &[
                "status.completedIndexes: Invalid value: \"0-3\": error parsing completedIndexes: too large index: \"3\"",
                "status.failedIndexes: Invalid value: \"1\": cannot set non-null failedIndexes when backoffLimitPerIndex is null",
            ],
        );
        let mut counted = spec.clone();
        counted["backoffLimitPerIndex"] = json!(1);
        check(
            counted,
            json!({}),
            json!({"completedIndexes": "0-1", "failedIndexes": "1"}),
            &[
                "status.failedIndexes: Invalid value: \"1\": failedIndexes and completedIndexes overlap at index: 1",
            ],
        );
        check(spec, json!({"succeeded": 3}), json!({"succeeded": 1}), &[]);
        check(
            json!({}),
            json!({}),
            json!({"completedIndexes": "0"}),
            &[
                "status.completedIndexes: Invalid value: \"0\": cannot set non-empty completedIndexes when non-indexed",
            ],
        );
    }
}
