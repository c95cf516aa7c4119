//! Whether and how a Job has ended, for the controllers that look at Jobs from outside.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use std::fmt;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobEnd {
    Complete,
    Failed,
}

impl JobEnd {
    fn condition_type(self) -> &'static str {
        match self {
            Self::Complete => "Complete",
            Self::Failed => "Failed",
        }
    }
}

impl fmt::Display for JobEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.condition_type())
    }
}

/// How the Job has ended; `None` while it has not (upstream `FinishedCondition`,
/// pkg/controller/job/util, v1.35).
pub(super) fn job_end(job: &Job) -> Option<JobEnd> {
    last_condition(job).map(|(end, _)| end)
}

/// When the Job has ended.
pub(super) fn ended_at(job: &Job) -> Option<Timestamp> {
    last_condition(job)?.1.last_transition_time.as_ref().map(|time| time.0)
}

fn last_condition(job: &Job) -> Option<(JobEnd, &JobCondition)> {
    let conditions = job.status.as_ref()?.conditions.as_deref().unwrap_or_default();
    conditions.iter().filter(|condition| condition.status == "True").find_map(|condition| {
        let ends = [JobEnd::Complete, JobEnd::Failed];
        let end = ends.into_iter().find(|end| end.condition_type() == condition.type_)?;
        Some((end, condition))
    })
}
