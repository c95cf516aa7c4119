//! How long a Job waits after failed pods before it makes others.
//!
//! Follows upstream pkg/controller/job/backoff_utils.go (v1.35), with one difference: what failed is
//! told from the pods themselves as long as they are there, so that a restart of the controller
//! does not make it forget.

use crate::api::pod::{condition, is_sidecar, phase};
use crate::stdx::Backoff;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use std::collections::BTreeMap;
use std::time::Duration;

/// The delay after failed pods: upstream's `DefaultJobPodFailureBackOff` and
/// `MaxJobPodFailureBackOff`.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(10), longest: Duration::from_secs(600) };

/// After this many failures since the last success the delay is the longest; of more nothing is
/// remembered.
const FAILURES_MAX: usize = 7;

/// The newest failures of a Job's pods since the last success, by the pods' uids. Pods that are gone
/// are remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    last_success: Option<Timestamp>,
    recent: BTreeMap<String, Timestamp>,
}

impl Failures {
    /// Takes in what the pods tell that are there. `is_failed` is the Job's opinion.
    pub(super) fn learn<'a>(
        &mut self,
        pods: impl Iterator<Item = &'a Pod>,
        is_failed: impl Fn(&Pod) -> bool,
    ) {
        for pod in pods {
            if phase(pod) == "Succeeded" {
                self.last_success = self.last_success.max(Some(finished_at(pod)));
            } else if is_failed(pod) {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                self.recent.entry(uid).or_insert_with(|| finished_at(pod));
            }
        }
        let last_success = self.last_success;
        self.recent.retain(|_, failed| last_success.is_none_or(|success| *failed > success));
        while self.recent.len() > FAILURES_MAX {
            let oldest = self.recent.iter().min_by_key(|(_, failed)| **failed);
            let oldest = oldest.map(|(uid, _)| uid.clone()).expect("there are several");
            self.recent.remove(&oldest);
        }
    }

    /// How long from now no pod is to be made.
    pub(super) fn wait(&self, now: Timestamp) -> Option<Duration> {
        let last = self.recent.values().max()?;
        wait_after(self.recent.len(), *last, now)
    }
}

/// How long from now the index of this failed pod is to wait, which failed as often before.
pub(super) fn wait_of_index(failed: &Pod, before: i32, now: Timestamp) -> Option<Duration> {
    let failures = usize::try_from(before).unwrap_or_default().saturating_add(1);
    wait_after(failures, finished_at(failed), now)
}

fn wait_after(failures: usize, last: Timestamp, now: Timestamp) -> Option<Duration> {
    let delay = BACKOFF.delay(u32::try_from(failures).unwrap_or(u32::MAX));
    let delay = SignedDuration::try_from(delay).expect("ten minutes at most");
    let left = (last + delay).duration_since(now);
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
}

/// When the pod has finished: when its last container ended, or failing that when it stopped being
/// ready, when it was deleted, or when it was made (upstream `getFinishedTime`).
pub(super) fn finished_at(pod: &Pod) -> Timestamp {
    let unready = || {
        let ready = condition(pod, "Ready").filter(|ready| ready.status == "False")?;
        ready.last_transition_time.as_ref().map(|time| time.0)
    };
    let deleted = || {
        let gone = pod.metadata.deletion_timestamp.as_ref()?.0;
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or_default();
        gone.checked_sub(SignedDuration::from_secs(grace)).ok()
    };
    let created = || pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let known = last_exit(pod).or_else(unready).or_else(deleted).or_else(created);
    known.unwrap_or_default()
}

/// When the last of the containers and sidecars ended, if all of them have.
fn last_exit(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let sidecars = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let is_of_sidecar = |status: &&ContainerStatus| {
        sidecars.clone().any(|container| is_sidecar(container) && container.name == status.name)
    };
    let inits = status.init_container_statuses.iter().flatten().filter(is_of_sidecar);
    let mut last = None;
    for container in status.container_statuses.iter().flatten().chain(inits) {
        let ended = container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?;
        last = last.max(Some(ended.0));
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_763_640_000 + second).unwrap()
    }

    fn pod(uid: usize, phase: &str, ended: i64) -> Pod {
        let pod = json!({"metadata": {"uid": uid.to_string()}, "status": {"phase": phase,
            "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": {"exitCode": 1,
                    "finishedAt": at(ended)}}}]}});
        serde_json::from_value(pod).unwrap()
    }

    /// The wait at second 0 after pods have failed (`F`) or succeeded (`S`) at these seconds.
    #[track_caller]
    fn check(ends: &[(char, i64)], expected: Option<u64>) {
        let pods: Vec<_> = ends
            .iter()
            .enumerate()
            .map(|(uid, (end, at))| pod(uid, if *end == 'S' { "Succeeded" } else { "Failed" }, *at))
            .collect();
        let mut failures = Failures::default();
        for _ in 0..2 {
            failures.learn(pods.iter(), |pod| phase(pod) == "Failed");
        }
        failures.learn(std::iter::empty(), |_| true);
        assert_eq!(failures.wait(at(0)).map(|wait| wait.as_secs()), expected, "{ends:?}");
        assert!(failures.recent.len() <= FAILURES_MAX);
    }

    #[test]
    fn the_wait_doubles_with_each_failure() {
        check(&[], None);
        check(&[('F', 0)], Some(10));
        check(&[('F', -10)], None);
        check(&[('F', -30), ('F', -5)], Some(15));
        check(&[('F', -9), ('F', -9), ('F', -9)], Some(31));
        check(&[('F', -90), ('F', -5), ('S', -20)], Some(5));
        check(&[('F', -9), ('S', -9)], None);
        check(&[('F', 0); 30], Some(600));
    }

    #[test]
    fn a_pod_that_was_deleted_has_finished_then() {
        let pod = json!({"metadata": {"creationTimestamp": at(0), "deletionTimestamp": at(50),
            "deletionGracePeriodSeconds": 30}, "status": {"phase": "Running"}});
        assert_eq!(finished_at(&serde_json::from_value(pod.clone()).unwrap()), at(20));
        let mut unready = pod;
        unready["status"]["conditions"] =
            json!([{"type": "Ready", "status": "False", "lastTransitionTime": at(25)}]);
        assert_eq!(finished_at(&serde_json::from_value(unready).unwrap()), at(25));
    }
}
