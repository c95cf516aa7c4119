//! What may be wrong with the status of a Pod.
//!
//! Follows upstream `ValidatePodStatusUpdate` (pkg/apis/core/validation, v1.35).

use super::changes;
use crate::api::{FieldError, FieldPath, names, pod};
use crate::registry::checks::{immutable, invalid, ip, parse_ip, to_value};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodSpec, PodStatus};
use std::collections::BTreeSet;

const SYSTEM_CONDITIONS: &[&str] = &["PodScheduled", "Ready", "Initialized"];

/// One address of each family.
const ADDRESSES_MAX: usize = 2;

pub(super) fn validate(new: &Pod, old: &Pod) -> Vec<FieldError> {
    let annotations_path = FieldPath::new("metadata").child("annotations");
    let mut errors = changes::validate_annotations(&new.metadata, &old.metadata, &annotations_path);
    let path = FieldPath::new("status");
    let spec = old.spec.clone().unwrap_or_default();
    let (new, old) =
        (new.status.clone().unwrap_or_default(), old.status.clone().unwrap_or_default());
    let conditions = new.conditions.as_deref().unwrap_or_default();
    errors.extend(validate_conditions(conditions, &path.child("conditions")));
    errors.extend(validate_nomination(&new, &old, &path.child("nominatedNodeName")));
    if let Some(generation) = new.observed_generation.filter(|generation| *generation < 0) {
        let path = path.child("observedGeneration");
        errors.push(FieldError::invalid(&path, generation, "must be a non-negative integer"));
    }
    let class_path = path.child("qosClass");
    errors.extend(immutable(&class_path, to_value(&new.qos_class), &to_value(&old.qos_class)));
    errors.extend(validate_transitions(&new, &old, &spec, &path));
    let pod_ips: Vec<_> = new.pod_ips.iter().flatten().map(|one| one.ip.as_str()).collect();
    errors.extend(validate_addresses(&pod_ips, &path.child("podIPs"), to_value(&new.pod_ips)));
    let host_ips: Vec<_> = new.host_ips.iter().flatten().map(|one| one.ip.as_str()).collect();
    let host_path = path.child("hostIPs");
    if let Some(first) = host_ips.first()
        && new.host_ip.as_deref() != Some(*first)
    {
        let path = host_path.index(0).child("ip");
        errors.push(FieldError::invalid(&path, *first, "must be equal to `hostIP`"));
    }
    errors.extend(validate_addresses(&host_ips, &host_path, to_value(&new.host_ips)));
    errors
}

fn validate_conditions(conditions: &[PodCondition], path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        if let Some(generation) = condition.observed_generation.filter(|value| *value < 0) {
            let path = path.child("observedGeneration");
            errors.push(FieldError::invalid(&path, generation, "must be a non-negative integer"));
        }
        let kind = condition.type_.as_str();
        if !SYSTEM_CONDITIONS.contains(&kind) {
            errors.extend(invalid(&path.child("Type"), kind, names::qualified_name(kind)));
        }
    }
    errors
}

fn validate_nomination(new: &PodStatus, old: &PodStatus, path: &FieldPath) -> Vec<FieldError> {
    match new.nominated_node_name.as_deref() {
        Some(name) if !name.is_empty() && new.nominated_node_name != old.nominated_node_name => {
            invalid(path, name, names::dns1123_subdomain(name))
        }
        _ => Vec::new(),
    }
}

/// What has ended for good does not run again.
fn validate_transitions(
    new: &PodStatus,
    old: &PodStatus,
    spec: &PodSpec,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let lists = [
        ("containerStatuses", &new.container_statuses, &old.container_statuses),
        ("initContainerStatuses", &new.init_container_statuses, &old.init_container_statuses),
        (
            "ephemeralContainerStatuses",
            &new.ephemeral_container_statuses,
            &old.ephemeral_container_statuses,
        ),
    ];
    for (field, new, old) in lists {
        let running = new.iter().flatten().filter(|now| exit_code_of_none(now));
        let running: BTreeSet<_> = running.map(|now| now.name.as_str()).collect();
        for (index, was) in old.iter().flatten().enumerate() {
            let Some(exit_code) = exit_code(was) else {
                continue;
            };
            let may_return = || {
                field != "ephemeralContainerStatuses"
                    && may_restart(spec, field, &was.name, exit_code)
            };
            if running.contains(was.name.as_str()) && !may_return() {
                let path = path.child(field).index(index).child("state");
                let detail = "may not be transitioned to non-terminated state";
                errors.push(FieldError::forbidden(&path, detail));
            }
        }
    }
    errors
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    status.state.as_ref()?.terminated.as_ref().map(|ended| ended.exit_code)
}

fn exit_code_of_none(status: &ContainerStatus) -> bool {
    exit_code(status).is_none()
}

/// Whether a container that ended so is started again, by its own rules or the pod's (upstream
/// `ContainerShouldRestart`, pkg/api/v1/pod).
fn may_restart(spec: &PodSpec, field: &str, name: &str, exit_code: i32) -> bool {
    let is_init = field == "initContainerStatuses";
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let containers = if is_init { init } else { &spec.containers[..] };
    let container = containers.iter().find(|container| container.name == name);
    if is_init && container.is_some_and(pod::is_sidecar) {
        return true;
    }
    for rule in container.iter().flat_map(|one| one.restart_policy_rules.iter().flatten()) {
        let codes = rule.exit_codes.as_ref();
        let listed =
            codes.is_some_and(|codes| codes.values.iter().flatten().any(|c| *c == exit_code));
        let wants_listed = codes.is_some_and(|codes| codes.operator == "In");
        if codes.is_some() && listed == wants_listed {
            return rule.action == "Restart";
        }
    }
    let own = container.and_then(|container| container.restart_policy.as_deref());
    match own.or(spec.restart_policy.as_deref()) {
        Some("Never") => false,
        Some("OnFailure") => exit_code != 0,
        _ => true,
    }
}

fn validate_addresses(
    addresses: &[&str],
    path: &FieldPath,
    shown: serde_json::Value,
) -> Vec<FieldError> {
    let each = addresses.iter().enumerate();
    let mut errors: Vec<_> =
        each.filter_map(|(index, address)| ip(&path.index(index), address)).collect();
    let is_ipv4 = |address: &&&str| parse_ip(address).is_some_and(|ip| ip.is_ipv4());
    let ipv4 = addresses.iter().filter(is_ipv4).count();
    let is_mixed = ipv4 == 1 && addresses.len() == ADDRESSES_MAX;
    if addresses.len() > 1 && !is_mixed {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(path, shown, detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check_status_update};
    use serde_json::{Value, json};

    fn pod(restart_policy: &str, status: Value) -> Case {
        Case::of(
            "pods",
            json!({
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": restart_policy},
                "status": status,
            }),
        )
    }

    #[track_caller]
    fn check(status: Value, expected: &[&str]) {
        check_status_update(&pod("Always", json!({})), &pod("Always", status), expected);
    }

    #[test]
    fn addresses() {
        check(
            json!({"podIPs": [{"ip": "10.42.0.1"}, {"ip": "fd00::1"}], "hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.1"}]}),
            &[],
        );
        check(
            json!({"podIPs": [{"ip": "10.42.0.1"}, {"ip": "10.42.0.2"}], "hostIP": "10.0.0.1", "hostIPs": [{"ip": "x"}]}),
            &[
                "status.podIPs: Invalid value: [{\"ip\":\"10.42.0.1\"},{\"ip\":\"10.42.0.2\"}]: may specify no more than one IP for each IP family",
                "status.hostIPs[0].ip: Invalid value: \"x\": must be equal to `hostIP`",
                "status.hostIPs[0]: Invalid value: \"x\": must be a valid IP address",
            ],
        );
    }

    #[test]
    fn conditions_generations_and_nominations() {
        check(
            json!({"conditions": [{"type": "Ready", "status": "True"}, {"type": "a.b/c", "status": "True"}]}),
            &[],
        );
        check(
            json!({"conditions": [{"type": "-", "status": "True", "observedGeneration": -1}], "observedGeneration": -1, "nominatedNodeName": "A"}),
            &[
                "status.conditions[0].observedGeneration: Invalid value: -1: must be a non-negative integer",
                "status.conditions[0].Type: Invalid value: \"-\": name part must consist of",
                "status.nominatedNodeName: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
                "status.observedGeneration: Invalid value: -1: must be a non-negative integer",
            ],
        );
        let old = pod("Always", json!({"qosClass": "Burstable"}));
        check_status_update(
            &old,
            &old.with(json!({"status": {"qosClass": "Guaranteed"}})),
            &["status.qosClass: Invalid value: \"Guaranteed\": field is immutable"],
        );
        check_status_update(&old, &old.with(json!({"status": {"qosClass": null}})), &[]);
    }

    #[test]
    fn what_has_ended_for_good_stays_so() {
        let status = |state: Value| json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]});
        let ended = |code: i32| status(json!({"terminated": {"exitCode": code}}));
        let running = status(json!({"running": {}}));
        for (policy, code, is_allowed) in [
            ("Always", 0, true),
            ("OnFailure", 0, false),
            ("OnFailure", 1, true),
            ("Never", 1, false),
        ] {
            let error = "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state";
            let expected: &[&str] = if is_allowed { &[] } else { &[error] };
            check_status_update(&pod(policy, ended(code)), &pod(policy, running.clone()), expected);
        }
    }

    #[test]
    fn the_spec_and_the_owners_are_left_alone() {
        let old = pod(
            "Always",
            json!({"observedGeneration": 3, "conditions": [{"type": "Ready", "status": "True", "observedGeneration": 3}]}),
        );
        let mut new = old
            .with(json!({"spec": {"nodeName": "x"}, "status": {"phase": "Running", "observedGeneration": 0,
                "conditions": [{"type": "Ready", "status": "False"}]}}))
            .decode();
        new.prepare_status_update(&*old.decode());
        let value = new.to_value();
        assert_eq!(value["spec"].get("nodeName"), None);
        assert_eq!(value["status"]["observedGeneration"], 3);
        assert_eq!(value["status"]["conditions"][0]["observedGeneration"], 3);
    }
}
