//! When a Job that has ended goes.

use crate::client::{DeleteOptions, Propagation, ResourceType, key_of};
use crate::control::{Attempt, Plan, Write};
use crate::controllers::job_end::ended_at;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use std::sync::Arc;
use std::time::Duration;

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub job: Arc<Job>,
    pub attempt: Attempt,
}

/// Deletes the Job when its time has come, as it was when that was decided: an update, to a longer
/// time for one, comes first. Its pods go before it does.
pub fn plan(observed: &Observed) -> Plan {
    let Some(expires) = expires_at(&observed.job) else { return Plan::default() };
    let left = Duration::try_from(expires.duration_since(observed.attempt.now));
    if let Some(left) = left.ok().filter(|left| !left.is_zero()) {
        return Plan { recheck_after: Some(left), ..Plan::default() };
    }
    let metadata = &observed.job.metadata;
    Plan::of([Write::Delete {
        resource: ResourceType::of::<Job>(),
        key: key_of(metadata),
        options: DeleteOptions {
            uid: metadata.uid.clone(),
            revision: metadata.resource_version.as_deref().and_then(|text| text.parse().ok()),
            propagation: Some(Propagation::Foreground),
            ..DeleteOptions::default()
        },
    }])
}

/// When the Job is to go, if it has ended and is to go at all.
pub(super) fn expires_at(job: &Job) -> Option<Timestamp> {
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    ended_at(job)?.checked_add(SignedDuration::from_secs(i64::from(seconds))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(job: Value, expected: &str) {
        let job: Job = serde_json::from_value(job).unwrap();
        let now = "2026-11-20T12:00:00Z".parse().unwrap();
        let attempt = Attempt { now, failure: None };
        let plan = plan(&Observed { job: Arc::new(job), attempt });
        let told = match (plan.writes().next(), plan.recheck_after) {
            (Some(Write::Delete { options, .. }), None) => {
                assert_eq!(options.propagation, Some(Propagation::Foreground));
                format!("delete {}", options.uid.clone().unwrap())
            }
            (None, Some(after)) => format!("again in {}", after.as_secs()),
            (None, None) => "nothing".to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(told, expected);
    }

    fn job(ttl: Option<i32>, kind: &str, ended: &str) -> Value {
        json!({"metadata": {"name": "j", "namespace": "n", "uid": "J", "resourceVersion": "7"},
            "spec": {"ttlSecondsAfterFinished": ttl, "template": {}},
            "status": {"conditions": [{"type": kind, "status": "True", "lastTransitionTime": ended}]}})
    }

    #[test]
    fn jobs_go_some_time_after_their_end() {
        check(job(Some(60), "Complete", "2026-11-20T11:59:30Z"), "again in 30");
        check(job(Some(60), "Failed", "2026-11-20T11:59:00Z"), "delete J");
        check(job(Some(0), "Complete", "2026-11-20T12:00:00Z"), "delete J");
        check(job(None, "Complete", "2026-11-20T11:00:00Z"), "nothing");
        check(job(Some(0), "Suspended", "2026-11-20T11:00:00Z"), "nothing");
        let mut going = job(Some(0), "Complete", "2026-11-20T11:00:00Z");
        going["metadata"]["deletionTimestamp"] = json!("2026-11-20T11:00:00Z");
        check(going, "nothing");
    }
}
