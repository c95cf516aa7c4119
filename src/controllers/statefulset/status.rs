//! What a StatefulSet reports: upstream `updateStatus` and `completeRollingUpdate`
//! (pkg/controller/statefulset, v1.35).

use super::identity::revision;
use super::plan::{is_running_and_ready, min_ready_seconds};
use crate::controllers::availability::is_available;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;

/// The status of a set with these pods. `revisions` are the names of the current one and of the
/// template's.
pub(super) fn status(
    set: &StatefulSet,
    pods: &[&Pod],
    (current, update): (&str, &str),
    now: Timestamp,
) -> StatefulSetStatus {
    let old = set.status.clone().unwrap_or_default();
    let spec = set.spec.clone().unwrap_or_default();
    let seconds = min_ready_seconds(&spec);
    let ready = || pods.iter().filter(|pod| is_running_and_ready(pod));
    let of = |name: &str| {
        let stay = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        count(stay.filter(|pod| revision(pod) == name))
    };
    let (mut current, mut current_replicas, updated_replicas) = (current, of(current), of(update));
    let (replicas, ready_replicas) = (count(pods.iter()), count(ready()));
    let wanted = spec.replicas.unwrap_or(1);
    let strategy = spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    let is_complete = [updated_replicas, ready_replicas, replicas] == [wanted; 3];
    if strategy == Some("RollingUpdate") && is_complete {
        (current, current_replicas) = (update, updated_replicas);
    }
    StatefulSetStatus {
        replicas,
        ready_replicas: shown(ready_replicas),
        available_replicas: Some(count(ready().filter(|pod| is_available(pod, seconds, now)))),
        current_replicas: shown(current_replicas),
        updated_replicas: shown(updated_replicas),
        current_revision: Some(current.to_owned()),
        update_revision: Some(update.to_owned()),
        observed_generation: set.metadata.generation,
        collision_count: Some(old.collision_count.unwrap_or_default()),
        conditions: old.conditions,
    }
}

/// A set never gets near the limit; if it did, the limit is the truth that can be told.
fn count<'a>(pods: impl Iterator<Item = &'a &'a Pod>) -> i32 {
    i32::try_from(pods.count()).unwrap_or(i32::MAX)
}

/// Zeros are left out of the object, as upstream's encoding leaves them out.
fn shown(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}
