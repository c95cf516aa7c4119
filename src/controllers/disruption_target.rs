//! What is told of a pod before somebody other than its owner deletes it.

use crate::client::{DeleteOptions, Patch, ResourceType, key_of};
use crate::control::Write;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

const DISRUPTION_TARGET: &str = "DisruptionTarget";

/// Why a pod is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) reason: &'static str,
    pub(super) message: &'static str,
}

/// Tells why the pod goes; `None` where that is told already.
pub(super) fn mark(pod: &Pod, cause: Cause, now: Timestamp) -> Option<Write> {
    let condition = condition(pod, cause, now)?;
    Some(patch_status(pod, json!({"conditions": [condition]})))
}

/// Tells that the pod has failed, and why where there is a cause. `None` for a pod that has ended.
pub(super) fn mark_failed(pod: &Pod, cause: Option<Cause>, now: Timestamp) -> Option<Write> {
    if crate::api::pod::is_terminal(pod) {
        return None;
    }
    let mut status = json!({"phase": "Failed"});
    if let Some(condition) = cause.and_then(|cause| condition(pod, cause, now)) {
        status["conditions"] = json!([condition]);
    }
    Some(patch_status(pod, status))
}

/// Deletes the pod without waiting for its node.
pub(super) fn delete_at_once(pod: &Pod) -> Write {
    Write::Delete {
        resource: ResourceType::of::<Pod>(),
        key: key_of(&pod.metadata),
        options: DeleteOptions {
            uid: pod.metadata.uid.clone(),
            grace_seconds: Some(0),
            ..DeleteOptions::default()
        },
    }
}

fn condition(pod: &Pod, cause: Cause, now: Timestamp) -> Option<Value> {
    let known = crate::api::pod::condition(pod, DISRUPTION_TARGET);
    let is_told = known.is_some_and(|condition| {
        condition.status == "True" && condition.reason.as_deref() == Some(cause.reason)
    });
    (!is_told).then(|| {
        json!({
            "type": DISRUPTION_TARGET,
            "status": "True",
            "reason": cause.reason,
            "message": cause.message,
            "observedGeneration": pod.metadata.generation,
            "lastTransitionTime": Time(now),
        })
    })
}

fn patch_status(pod: &Pod, status: Value) -> Write {
    Write::Patch {
        resource: ResourceType::of::<Pod>(),
        key: key_of(&pod.metadata),
        subresource: Some("status"),
        patch: Patch::Strategic(json!({"metadata": {"uid": pod.metadata.uid}, "status": status})),
    }
}
