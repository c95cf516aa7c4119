//! What has to be written so that the API shows what the kubelet reports. Pure.
//!
//! A strategic merge patch of the parts that are the kubelet's, so that a readiness gate set by
//! somebody else meanwhile stays. The uid in it is a precondition: a pod of the same name that was
//! made since is not touched (upstream `PatchPodStatus`, pkg/util/pod/pod.go, v1.35).

use super::conditions::{OPTIONAL_CONDITIONS, OWN_CONDITIONS};
use crate::stdx::json;
use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use serde_json::{Map, Value, json};

/// The parts of a status that are replaced whole.
const WHOLE: [&str; 11] = [
    "phase",
    "reason",
    "message",
    "hostIP",
    "podIP",
    "qosClass",
    "startTime",
    "observedGeneration",
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
];

/// Lists that are merged by address unless the patch says that it has the whole list.
const ADDRESSES: [&str; 2] = ["hostIPs", "podIPs"];

/// The body of a patch of the `status` subresource; `None` where nothing is to be written.
#[must_use]
pub fn patch(uid: &str, in_api: &PodStatus, wanted: &PodStatus) -> Option<Value> {
    let (before, after) = (fields(in_api), fields(wanted));
    let mut status = Map::new();
    for name in WHOLE {
        let (before, after) = (before.get(name), after.get(name));
        if before != after {
            status.insert(name.to_owned(), after.cloned().unwrap_or(Value::Null));
        }
    }
    for name in ADDRESSES {
        let (before, after) = (before.get(name), after.get(name));
        if before != after {
            let addresses = after.and_then(Value::as_array).into_iter().flatten().cloned();
            let whole = [json!({ "$patch": "replace" })].into_iter().chain(addresses);
            status.insert(name.to_owned(), whole.collect());
        }
    }
    let conditions = conditions(in_api, wanted);
    if !conditions.is_empty() {
        status.insert("conditions".to_owned(), Value::Array(conditions));
    }
    (!status.is_empty()).then(|| json!({ "metadata": { "uid": uid }, "status": status }))
}

fn fields(status: &PodStatus) -> Map<String, Value> {
    match json::to_value(status) {
        Value::Object(fields) => fields,
        other => unreachable!("a status is an object: {other:?}"),
    }
}

/// The kubelet's conditions that differ, each with `null` for what is to go.
fn conditions(in_api: &PodStatus, wanted: &PodStatus) -> Vec<Value> {
    let own = |status: &PodStatus, kind: &str| -> Option<PodCondition> {
        let mut conditions = status.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == kind).cloned()
    };
    let kinds = OWN_CONDITIONS.iter().chain(&OPTIONAL_CONDITIONS);
    // What others may say as well is written and not taken away.
    let differing = kinds.clone().chain(&["DisruptionTarget"]).filter_map(|kind| {
        let (before, after) = (own(in_api, kind), own(wanted, kind)?);
        (before.as_ref() != Some(&after)).then_some(after)
    });
    let gone = kinds.filter(|kind| own(in_api, kind).is_some() && own(wanted, kind).is_none());
    let gone = gone.map(|kind| json!({ "type": kind, "$patch": "delete" }));
    differing
        .map(|condition| {
            json!({
                "type": condition.type_,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message,
                "observedGeneration": condition.observed_generation,
                "lastProbeTime": null,
                "lastTransitionTime": condition.last_transition_time,
            })
        })
        .chain(gone)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::schema::patch::strategic_merge_patch;
    use crate::registry::schema::types;
    use k8s_openapi::api::core::v1::{HostIP, PodIP};

    fn condition(kind: &str, status: &str, reason: Option<&str>) -> PodCondition {
        PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
            ..PodCondition::default()
        }
    }

    fn status(phase: &str, conditions: Vec<PodCondition>) -> PodStatus {
        let conditions = Some(conditions);
        PodStatus { phase: Some(phase.to_owned()), conditions, ..PodStatus::default() }
    }

    #[test]
    fn nothing_new_is_nothing_to_write() {
        let same = status("Running", vec![condition("Ready", "True", None)]);
        assert_eq!(patch("u", &same, &same), None);
    }

    #[test]
    fn what_goes_is_null_and_what_others_own_is_left() {
        let gate = condition("example.com/gate", "True", None);
        let before = status("Pending", vec![gate, condition("Ready", "False", Some("Why"))]);
        let after = status("Running", vec![condition("Ready", "True", None)]);
        let patch = patch("u1", &before, &after).unwrap();
        assert_eq!(patch["metadata"], json!({ "uid": "u1" }));
        assert_eq!(patch["status"]["phase"], "Running");
        let conditions = patch["status"]["conditions"].as_array().unwrap();
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0]["status"], "True");
        assert_eq!(conditions[0]["reason"], Value::Null);
    }

    #[test]
    fn what_is_patched_is_what_was_wanted() {
        let addresses = |host: &[&str], pod: &[&str]| {
            let host = host.iter().map(|ip| HostIP { ip: (*ip).to_owned() });
            let pod = pod.iter().map(|ip| PodIP { ip: (*ip).to_owned() });
            let (host_ips, pod_ips) = (Some(host.collect()), Some(pod.collect()));
            PodStatus { host_ips, pod_ips, ..PodStatus::default() }
        };
        let check = |before: &PodStatus, after: &PodStatus| {
            let mut patch = patch("u", before, after).unwrap();
            let document = json!({ "status": fields(before) });
            patch.as_object_mut().unwrap().remove("metadata");
            let patched = strategic_merge_patch(types::POD, document, patch).unwrap();
            let mut expected = fields(after);
            // A list of which nothing is left is there, and empty.
            for name in ADDRESSES {
                expected.entry(name).or_insert_with(|| json!([]));
            }
            assert_eq!(patched["status"], Value::Object(expected));
        };
        let here = addresses(&["10.0.0.1"], &["10.42.0.2"]);
        check(&here, &addresses(&["10.0.0.9"], &["10.42.0.2"]));
        check(&here, &addresses(&["10.0.0.9", "fd00::1"], &["10.42.0.3", "fd42::3"]));
        check(&here, &PodStatus::default());
        check(&addresses(&[], &[]), &here);
    }
}
