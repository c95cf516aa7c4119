//! What a Deployment reports, and whether its rollout goes on: counts, conditions, deadlines.
//!
//! Reasons and messages are upstream's, word for word, since `kubectl rollout status` and others read
//! them (pkg/controller/deployment/progress.go and sync.go, v1.35).

use super::bounds::{Bounds, progress_deadline};
use super::draft::{Set, Sets};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentStatus, ReplicaSetCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration;

pub(super) const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Reasons of the condition [`PROGRESSING`].
pub(super) mod reason {
    pub(in super::super) const NEW_SET_CREATED: &str = "NewReplicaSetCreated";
    pub(in super::super) const NEW_SET_FOUND: &str = "FoundNewReplicaSet";
    pub(in super::super) const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
    pub(in super::super) const SET_UPDATED: &str = "ReplicaSetUpdated";
    pub(in super::super) const SET_NOT_CREATED: &str = "ReplicaSetCreateError";
    pub(in super::super) const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
    pub(in super::super) const PAUSED: &str = "DeploymentPaused";
    pub(in super::super) const RESUMED: &str = "DeploymentResumed";
}

/// Looked at again this long after the deadline, so that it has passed whatever the clock rounds to.
const DEADLINE_MARGIN: Duration = Duration::from_secs(1);

/// A status, and what its conditions need to be changed.
#[derive(Clone, Debug)]
pub(super) struct Report<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) now: Timestamp,
    /// The status as it was, with the conditions changed so far.
    pub(super) status: DeploymentStatus,
}

/// What a condition says.
pub(super) struct Says<'a> {
    pub(super) status: &'static str,
    pub(super) reason: &'a str,
    pub(super) message: String,
}

impl<'a> Report<'a> {
    pub(super) fn new(deployment: &'a Deployment, now: Timestamp) -> Self {
        Self { deployment, now, status: deployment.status.clone().unwrap_or_default() }
    }

    pub(super) fn condition(&self, kind: &str) -> Option<&DeploymentCondition> {
        self.status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
    }

    pub(super) fn progress_reason(&self) -> Option<&str> {
        self.condition(PROGRESSING)?.reason.as_deref()
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        progress_deadline(self.deployment.spec.as_ref()?)
    }

    /// Sets a condition, unless it says the same for the same reason already. The time of the
    /// transition stays where only the reason changes.
    pub(super) fn set(&mut self, kind: &str, says: Says<'_>) {
        let current = self.condition(kind);
        let same_status = current.filter(|current| current.status == says.status);
        if same_status.is_some_and(|current| current.reason.as_deref() == Some(says.reason)) {
            return;
        }
        let since = same_status.and_then(|current| current.last_transition_time.clone());
        let condition = DeploymentCondition {
            type_: kind.to_owned(),
            status: says.status.to_owned(),
            reason: Some(says.reason.to_owned()),
            message: Some(says.message),
            last_update_time: Some(Time(self.now)),
            last_transition_time: since.or(Some(Time(self.now))),
        };
        self.put(condition);
    }

    fn put(&mut self, condition: DeploymentCondition) {
        self.remove(&condition.type_.clone());
        self.status.conditions.get_or_insert_default().push(condition);
    }

    fn remove(&mut self, kind: &str) {
        if let Some(conditions) = &mut self.status.conditions {
            conditions.retain(|condition| condition.type_ != kind);
        }
        self.status.conditions.take_if(|conditions| conditions.is_empty());
    }

    /// Notes that the rollout is paused or goes on, so that the time between does not count against
    /// its deadline: upstream `checkPausedConditions`.
    pub(super) fn note_pause(&mut self, is_paused: bool) {
        if self.deadline().is_none() || self.progress_reason() == Some(reason::DEADLINE_EXCEEDED) {
            return;
        }
        let (reason, message) = match (is_paused, self.progress_reason() == Some(reason::PAUSED)) {
            (true, false) => (reason::PAUSED, "Deployment is paused"),
            (false, true) => (reason::RESUMED, "Deployment is resumed"),
            (true, true) | (false, false) => return,
        };
        self.set(PROGRESSING, Says { status: "Unknown", reason, message: message.to_owned() });
    }

    /// Counts the pods, and says whether enough are available: upstream `calculateStatus`.
    pub(super) fn count(&mut self, sets: &Sets, bounds: Bounds) {
        let actual = |set: &Set| set.reported().replicas;
        let available = sets.available();
        let old = std::mem::take(&mut self.status);
        self.status = DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: shown(sets.all().map(actual).sum()),
            updated_replicas: shown(sets.new.as_ref().map_or(0, actual)),
            ready_replicas: shown(sets.all().filter_map(|set| set.reported().ready_replicas).sum()),
            available_replicas: shown(available),
            unavailable_replicas: shown((sets.replicas() - available).max(0)),
            terminating_replicas: terminating(sets),
            collision_count: old.collision_count,
            conditions: old.conditions,
        };
        let says = if available >= bounds.available_min() {
            let message = "Deployment has minimum availability.".to_owned();
            Says { status: "True", reason: "MinimumReplicasAvailable", message }
        } else {
            let message = "Deployment does not have minimum availability.".to_owned();
            Says { status: "False", reason: "MinimumReplicasUnavailable", message }
        };
        self.set(AVAILABLE, says);
    }

    /// As `count`, and says how the rollout goes: upstream `syncRolloutStatus`.
    pub(super) fn follow_rollout(&mut self, sets: &Sets, bounds: Bounds) {
        let before = self.status.clone();
        self.count(sets, bounds);
        if self.deadline().is_none() {
            self.remove(PROGRESSING);
        } else if !self.was_complete() {
            self.note_progress(&before, sets.new.as_ref(), bounds);
        }
        self.remove(REPLICA_FAILURE);
        let failure = sets.new.iter().chain(&sets.old).find_map(failure_of);
        if let Some(failure) = failure {
            let kept = before.conditions.into_iter().flatten().find(|condition| {
                condition.type_ == REPLICA_FAILURE
                    && condition.status == failure.status
                    && condition.reason == failure.reason
            });
            self.put(kept.unwrap_or(failure));
        }
    }

    /// Only one set has pods, and its rollout has ended well: there is no progress to speak of.
    fn was_complete(&self) -> bool {
        self.status.replicas == self.status.updated_replicas
            && self.progress_reason() == Some(reason::NEW_SET_AVAILABLE)
    }

    fn note_progress(&mut self, before: &DeploymentStatus, new: Option<&Set>, bounds: Bounds) {
        let name = self.deployment.metadata.name.as_deref().unwrap_or_default();
        let subject = match new {
            Some(set) => format!("ReplicaSet {:?}", set.name()),
            None => format!("Deployment {name:?}"),
        };
        if is_complete(self.deployment, &self.status, bounds) {
            let message = format!("{subject} has successfully progressed.");
            self.set(
                PROGRESSING,
                Says { status: "True", reason: reason::NEW_SET_AVAILABLE, message },
            );
        } else if has_progressed(before, &self.status) {
            // Progress is noted each time, although the reason is the same.
            let current = self.condition(PROGRESSING).filter(|current| current.status == "True");
            let since = current.and_then(|current| current.last_transition_time.clone());
            self.put(DeploymentCondition {
                type_: PROGRESSING.to_owned(),
                status: "True".to_owned(),
                reason: Some(reason::SET_UPDATED.to_owned()),
                message: Some(format!("{subject} is progressing.")),
                last_update_time: Some(Time(self.now)),
                last_transition_time: since.or(Some(Time(self.now))),
            });
        } else if self.has_timed_out() {
            let message = format!("{subject} has timed out progressing.");
            self.set(
                PROGRESSING,
                Says { status: "False", reason: reason::DEADLINE_EXCEEDED, message },
            );
        }
    }

    fn has_timed_out(&self) -> bool {
        match self.progress_reason() {
            Some(reason::DEADLINE_EXCEEDED) => true,
            _ => self.time_left().is_some_and(|left| left < SignedDuration::ZERO),
        }
    }

    /// How long until the rollout counts as stuck; negative where it does.
    fn time_left(&self) -> Option<SignedDuration> {
        if self.progress_reason() == Some(reason::NEW_SET_AVAILABLE) {
            return None;
        }
        let last = self.condition(PROGRESSING)?.last_update_time.as_ref()?.0;
        Some((last + self.deadline()?).duration_since(self.now))
    }

    /// When to look again whether the rollout is stuck: upstream `requeueStuckDeployment`.
    pub(super) fn recheck_after(&self, bounds: Bounds) -> Option<Duration> {
        let is_over = is_complete(self.deployment, &self.status, bounds)
            || self.progress_reason() == Some(reason::DEADLINE_EXCEEDED);
        let left = self.time_left().filter(|_| !is_over)?;
        Some(Duration::try_from(left).unwrap_or_default() + DEADLINE_MARGIN)
    }
}

/// All pods wanted are there, new and available, and no others: upstream `DeploymentComplete`.
pub(super) fn is_complete(
    deployment: &Deployment,
    status: &DeploymentStatus,
    bounds: Bounds,
) -> bool {
    let wanted = shown(bounds.replicas);
    status.updated_replicas.filter(|count| *count != 0) == wanted
        && status.replicas.filter(|count| *count != 0) == wanted
        && status.available_replicas.filter(|count| *count != 0) == wanted
        && status.observed_generation >= deployment.metadata.generation
}

/// Upstream `DeploymentProgressing`.
fn has_progressed(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let count = |count: Option<i32>| count.unwrap_or_default();
    let old = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(after.updated_replicas) > count(before.updated_replicas)
        || old(after) < old(before)
        || count(after.ready_replicas) > count(before.ready_replicas)
        || count(after.available_replicas) > count(before.available_replicas)
}

/// The sum, unless a set that has reported does not say: upstream
/// `GetTerminatingReplicaCountForReplicaSets`.
fn terminating(sets: &Sets) -> Option<i32> {
    let mut sum = 0;
    for status in sets.all().map(Set::reported) {
        match status.terminating_replicas {
            Some(count) => sum += count,
            None if status.observed_generation.unwrap_or_default() == 0 => {}
            None => return None,
        }
    }
    Some(sum)
}

fn failure_of(set: &Set) -> Option<DeploymentCondition> {
    let conditions = set.reported().conditions.unwrap_or_default();
    let failure = conditions.into_iter().find(|condition| condition.type_ == REPLICA_FAILURE)?;
    let ReplicaSetCondition { type_, status, reason, message, last_transition_time } = failure;
    Some(DeploymentCondition {
        type_,
        status,
        reason,
        message,
        last_update_time: last_transition_time.clone(),
        last_transition_time,
    })
}

/// Zeros are left out of the object, as upstream's encoding leaves them out.
fn shown(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}
