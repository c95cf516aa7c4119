//! Whether a Job has failed or succeeded.
//!
//! Follows upstream `syncJob` (pkg/controller/job/job_controller.go, v1.35): what was decided before
//! stays, then failures are looked for, then success.

use super::look::Look;
use super::policy::{FailureAction, success_message};
use crate::api::pod::phase;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration;

pub(super) const SUSPENDED: &str = "Suspended";

/// What is decided of a Job. It is over once no pod of it runs any more and all are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    end: End,
    pub(super) reason: String,
    pub(super) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Success,
    Failure,
}

impl End {
    /// Said as soon as it is decided.
    fn interim(self) -> &'static str {
        match self {
            Self::Success => "SuccessCriteriaMet",
            Self::Failure => "FailureTarget",
        }
    }

    /// Said at the end.
    fn last(self) -> &'static str {
        match self {
            Self::Success => "Complete",
            Self::Failure => "Failed",
        }
    }
}

impl Verdict {
    fn failure(reason: &str, message: impl Into<String>) -> Self {
        Self { end: End::Failure, reason: reason.to_owned(), message: message.into() }
    }

    fn success(reason: &str, message: impl Into<String>) -> Self {
        Self { end: End::Success, reason: reason.to_owned(), message: message.into() }
    }

    /// As many pods as were asked for have succeeded.
    pub(super) fn completions_reached() -> Self {
        Self::success("CompletionsReached", "Reached expected number of succeeded pods")
    }

    pub(super) fn is_failure(&self) -> bool {
        self.end == End::Failure
    }

    /// Says what is decided, and once `is_over`, that it is done.
    pub(super) fn write(&self, status: &mut JobStatus, is_over: bool, now: Timestamp) {
        self.set(status, self.end.interim(), now);
        if is_over {
            self.set(status, self.end.last(), now);
            if self.end == End::Success {
                status.completion_time = Some(Time(now));
            }
        }
    }

    fn set(&self, status: &mut JobStatus, kind: &str, now: Timestamp) {
        if !is_true(status, kind) {
            set_condition(status, kind, "True", (&self.reason, &self.message), now);
        }
    }
}

/// The verdict, where one can be given before it is known what happens to the pods.
pub(super) fn verdict(look: &Look<'_>) -> Option<Verdict> {
    decided_before(&look.status)
        .or_else(|| failed_by_policy(look))
        .or_else(|| past_limits(look))
        .or_else(|| failed_indexes(look))
        .or_else(|| {
            let policy = look.spec.success_policy.as_ref().filter(|_| look.is_indexed());
            let message = success_message(policy, &look.succeeded_indexes, look.completions())?;
            Some(Verdict::success("SuccessPolicy", message))
        })
}

fn decided_before(status: &JobStatus) -> Option<Verdict> {
    let told = |end: End| {
        let condition = condition(status, end.interim()).filter(|it| it.status == "True")?;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Some(Verdict { end, reason: text(&condition.reason), message: text(&condition.message) })
    };
    told(End::Success).or_else(|| told(End::Failure))
}

fn failed_by_policy(look: &Look<'_>) -> Option<Verdict> {
    let mut failed = look.pods.iter().filter(|pod| look.is_failed(pod));
    failed.find_map(|pod| match look.failure_action(pod) {
        FailureAction::FailJob { message } => Some(Verdict::failure("PodFailurePolicy", message)),
        FailureAction::Count | FailureAction::Ignore | FailureAction::FailIndex => None,
    })
}

fn past_limits(look: &Look<'_>) -> Option<Verdict> {
    let limit = usize::try_from(look.spec.backoff_limit.unwrap_or_default()).unwrap_or_default();
    if look.failed() > limit || restarts_past(look, limit) {
        let message = "Job has reached the specified backoff limit";
        Some(Verdict::failure("BackoffLimitExceeded", message))
    } else if deadline_after(look).is_some_and(|left| left.is_zero()) {
        let message = "Job was active longer than specified deadline";
        Some(Verdict::failure("DeadlineExceeded", message))
    } else {
        None
    }
}

/// How long the Job may still be active. `None` where it may forever, zero where it may no more.
pub(super) fn deadline_after(look: &Look<'_>) -> Option<Duration> {
    if look.is_suspended() {
        return None;
    }
    let allowed = SignedDuration::from_secs(look.spec.active_deadline_seconds?);
    let active = look.now.duration_since(look.status.start_time.as_ref()?.0);
    Some(Duration::try_from(allowed.saturating_sub(active)).unwrap_or(Duration::ZERO))
}

/// Where containers are restarted in their pods, the restarts count: upstream
/// `pastBackoffLimitOnFailure`.
fn restarts_past(look: &Look<'_>, limit: usize) -> bool {
    let policy = look.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let restarts = |pod: &&Pod| -> usize {
        let status = pod.status.as_ref();
        let inits = status.and_then(|status| status.init_container_statuses.as_ref());
        let containers = status.and_then(|status| status.container_statuses.as_ref());
        let all = inits.into_iter().chain(containers).flatten();
        let count = |it: &ContainerStatus| usize::try_from(it.restart_count).unwrap_or_default();
        all.map(count).sum()
    };
    let running = look.pods.iter().filter(|pod| matches!(phase(pod), "Running" | "Pending"));
    let total: usize = running.map(restarts).sum();
    if limit == 0 { total > 0 } else { total >= limit }
}

fn failed_indexes(look: &Look<'_>) -> Option<Verdict> {
    let failed = look.failed_indexes.as_ref()?.len();
    let most = look.spec.max_failed_indexes.and_then(|most| usize::try_from(most).ok());
    let completions = usize::try_from(look.completions()).unwrap_or_default();
    if most.is_some_and(|most| failed > most) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        Some(Verdict::failure("MaxFailedIndexesExceeded", message))
    } else if failed > 0 && failed + look.succeeded_indexes.len() >= completions {
        Some(Verdict::failure("FailedIndexes", "Job has failed indexes"))
    } else {
        None
    }
}

fn condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

pub(super) fn is_true(status: &JobStatus, kind: &str) -> bool {
    condition(status, kind).is_some_and(|condition| condition.status == "True")
}

/// Sets a condition; says whether that changed anything. A condition that was never true is not
/// said to be false (upstream `ensureJobConditionStatus`).
pub(super) fn set_condition(
    status: &mut JobStatus,
    kind: &str,
    value: &str,
    (reason, message): (&str, &str),
    now: Timestamp,
) -> bool {
    let condition = JobCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    let conditions = status.conditions.get_or_insert_default();
    let is_same = |old: &JobCondition| {
        (&old.status, &old.reason, &old.message)
            == (&condition.status, &condition.reason, &condition.message)
    };
    match conditions.iter_mut().find(|old| old.type_ == kind) {
        Some(old) if is_same(old) => false,
        Some(old) => {
            *old = condition;
            true
        }
        None if value == "False" => {
            status.conditions.take_if(|conditions| conditions.is_empty());
            false
        }
        None => {
            conditions.push(condition);
            true
        }
    }
}
