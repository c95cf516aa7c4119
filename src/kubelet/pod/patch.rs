//! What has to be written so that the API shows what the kubelet reports. Pure.
//!
//! A strategic merge patch of the parts that are the kubelet's, so that a readiness gate set by
//! somebody else meanwhile stays. The uid in it is a precondition: a pod of the same name that was
//! made since is not touched (upstream `PatchPodStatus`, pkg/util/pod/pod.go, v1.35).

use super::conditions::OWN_CONDITIONS;
use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use serde_json::{Map, Value, json};

/// The parts of a status that are replaced whole.
const WHOLE: [&str; 11] = [
    "phase",
    "reason",
    "message",
    "hostIP",
    "hostIPs",
    "podIP",
    "qosClass",
    "startTime",
    "observedGeneration",
    "containerStatuses",
    "initContainerStatuses",
];

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
    if before.get("podIPs") != after.get("podIPs") {
        // Merged by address, unless it is said that the list is the whole list.
        let mut list = vec![json!({ "$patch": "replace" })];
        list.extend(after.get("podIPs").and_then(Value::as_array).into_iter().flatten().cloned());
        status.insert("podIPs".to_owned(), Value::Array(list));
    }
    let conditions = conditions(in_api, wanted);
    if !conditions.is_empty() {
        status.insert("conditions".to_owned(), Value::Array(conditions));
    }
    (!status.is_empty()).then(|| json!({ "metadata": { "uid": uid }, "status": status }))
}

fn fields(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        other => unreachable!("a status is an object: {other:?}"),
    }
}

/// The kubelet's conditions that differ, each with `null` for what is to go.
fn conditions(in_api: &PodStatus, wanted: &PodStatus) -> Vec<Value> {
    let own = |status: &PodStatus, kind: &str| -> Option<PodCondition> {
        let mut conditions = status.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == kind).cloned()
    };
    let differing = OWN_CONDITIONS.iter().filter_map(|kind| {
        let (before, after) = (own(in_api, kind), own(wanted, kind)?);
        (before.as_ref() != Some(&after)).then_some(after)
    });
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
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodIP;

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
    fn addresses_are_replaced_as_a_whole() {
        let before = PodStatus {
            pod_ips: Some(vec![PodIP { ip: "10.0.0.1".into() }]),
            ..Default::default()
        };
        let after = PodStatus {
            pod_ips: Some(vec![PodIP { ip: "10.0.0.2".into() }]),
            ..Default::default()
        };
        let list = &patch("u", &before, &after).unwrap()["status"]["podIPs"];
        assert_eq!(*list, json!([{ "$patch": "replace" }, { "ip": "10.0.0.2" }]));
        let list = &patch("u", &before, &PodStatus::default()).unwrap()["status"]["podIPs"];
        assert_eq!(*list, json!([{ "$patch": "replace" }]));
    }
}
