//! What controllers ask of a pod beyond the facts in [`api::pod`](crate::api::pod): since when it is
//! ready, and whether that is long enough.

use crate::api::pod::{condition, is_ready, is_terminal};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use std::time::Duration;

/// Being deleted while its containers may still run: upstream `IsPodTerminating`
/// (pkg/controller/controller_utils.go, v1.35).
pub(super) fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_some()
}

/// Since when a ready pod is ready.
pub(super) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// Ready, and has been for `min_ready_seconds`: upstream `IsPodAvailable` (pkg/api/v1/pod/util.go).
pub(super) fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_ready(pod)
        && (min_ready_seconds <= 0
            || ready_since(pod).is_some_and(|since| since + seconds(min_ready_seconds) <= now))
}

/// When a ready pod that is not available yet will be: upstream `nextPodAvailabilityCheck`.
pub(super) fn available_after(
    pod: &Pod,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Option<Duration> {
    let left = (ready_since(pod)? + seconds(min_ready_seconds)).duration_since(now);
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
}

fn seconds(seconds: i32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(seconds))
}
