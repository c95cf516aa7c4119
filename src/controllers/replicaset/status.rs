//! What a ReplicaSet reports: upstream `calculateStatus` (pkg/controller/replicaset/
//! replica_set_utils.go, v1.35).

use super::owner::Replicated;
use super::plan::{Observed, Pods, wanted_replicas};
use crate::api::labels::Selector;
use crate::api::pod::is_ready;
use crate::control::{Failure, Verb};
use crate::controllers::availability::is_available;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::cmp::Ordering;

const REPLICA_FAILURE: &str = "ReplicaFailure";

pub(super) fn status<O: Replicated>(observed: &Observed<O>, pods: &Pods<'_>) -> ReplicaSetStatus {
    let set = &*observed.set;
    let template_labels = set
        .template()
        .and_then(|template| template.metadata.as_ref()?.labels.clone())
        .unwrap_or_default();
    let fully_labeled = Selector::of_labels(&template_labels);
    let has_labels = |pod: &&&Pod| {
        let labels = pod.metadata.labels.as_ref();
        labels.map_or(template_labels.is_empty(), |labels| fully_labeled.matches(labels))
    };
    let (seconds, now) = (set.min_ready_seconds(), observed.attempt.now);
    let active = || pods.active.iter();
    ReplicaSetStatus {
        replicas: count(active()),
        fully_labeled_replicas: shown(count(active().filter(has_labels))),
        ready_replicas: shown(count(active().filter(|pod| is_ready(pod)))),
        available_replicas: shown(count(active().filter(|pod| is_available(pod, seconds, now)))),
        terminating_replicas: Some(count(pods.terminating.iter())),
        observed_generation: set.metadata().generation,
        conditions: conditions(observed, pods),
    }
}

/// The failure condition keeps the time and the message of its first failure until a look goes well.
fn conditions<O: Replicated>(
    observed: &Observed<O>,
    pods: &Pods<'_>,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = observed.set.conditions();
    let lacking = pods.active.len().cmp(&wanted_replicas(&*observed.set));
    let failure = observed.attempt.failure.as_ref();
    match failure.and_then(|failure| failure_reason(failure, lacking)) {
        None => conditions.retain(|condition| condition.type_ != REPLICA_FAILURE),
        Some(_) if conditions.iter().any(|condition| condition.type_ == REPLICA_FAILURE) => {}
        Some((reason, message)) => conditions.push(ReplicaSetCondition {
            type_: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(Time(observed.attempt.now)),
        }),
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// What a failed write to a pod says in the condition, as long as more such writes are needed.
fn failure_reason(failure: &Failure, lacking: Ordering) -> Option<(&'static str, String)> {
    match (&*failure.resource.kind, failure.verb, lacking) {
        ("Pod", Verb::Create, Ordering::Less) => Some(("FailedCreate", failure.message.clone())),
        ("Pod", Verb::Delete, Ordering::Greater) => {
            Some(("FailedDelete", format!("unable to delete pods: {}", failure.message)))
        }
        _ => None,
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
