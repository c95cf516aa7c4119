//! What a claim was given, and who uses it.
//!
//! Start at [`validate`]. Follows upstream `validateResourceClaimStatusUpdate`
//! (pkg/apis/resource/validation, v1.35).

use super::claim::RequestNames;
use super::configuration::{self, Novelty, validate_object};
use super::{
    CONFIGURATIONS_MAX, REQUESTS_MAX, validate_distinct, validate_each, validate_label,
    validate_pool,
};
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{canonical_ip, conditions, immutable, one_of, present, to_value};
use crate::registry::kinds::core::podspec;
use ipnet::IpNet;
use k8s_openapi::api::resource::v1::{
    AllocatedDeviceStatus, AllocationResult, DeviceAllocationConfiguration,
    DeviceRequestAllocationResult, NetworkDeviceData, ResourceClaim,
    ResourceClaimConsumerReference, ResourceClaimStatus,
};
use std::collections::BTreeSet;

const USERS_MAX: usize = 256;
const CONDITIONS_MAX: usize = 8;
const DATA_BYTES_MAX: usize = 10 * 1024;
const IPS_MAX: usize = 16;
const INTERFACE_BYTES_MAX: usize = 256;
const HARDWARE_ADDRESS_BYTES_MAX: usize = 128;

/// Takes away what belongs to features that are off, and what is told of devices that the claim
/// has no more (upstream `dropDeallocatedStatusDevices`).
pub(super) fn prepare(status: &mut ResourceClaimStatus, old: &ResourceClaimStatus) {
    if let Some(allocation) = &mut status.allocation {
        allocation.allocation_timestamp = None;
        let results = allocation.devices.iter_mut().flat_map(|devices| devices.results.iter_mut());
        for result in results.flatten() {
            result.binding_conditions = None;
            result.binding_failure_conditions = None;
            result.share_id = None;
            result.consumed_capacity = None;
        }
    }
    let mut gone = allocated(old.allocation.as_ref());
    for device in allocated(status.allocation.as_ref()) {
        gone.remove(&device);
    }
    for device in status.devices.iter_mut().flatten() {
        device.share_id = None;
    }
    if let Some(devices) = &mut status.devices {
        devices.retain(|device| !gone.contains(&told_of(device)));
    }
    status.devices.take_if(|devices| devices.is_empty());
}

/// The devices of an allocation: `driver/pool/device`.
fn allocated(allocation: Option<&AllocationResult>) -> BTreeSet<String> {
    let devices = allocation.and_then(|allocation| allocation.devices.as_ref());
    let results = devices.iter().flat_map(|devices| devices.results.iter().flatten());
    results.map(|it| format!("{}/{}/{}", it.driver, it.pool, it.device)).collect()
}

fn told_of(device: &AllocatedDeviceStatus) -> String {
    format!("{}/{}/{}", device.driver, device.pool, device.device)
}

pub(super) fn validate(claim: &ResourceClaim, old: &ResourceClaim) -> Vec<FieldError> {
    let path = FieldPath::new("status");
    let status = claim.status.clone().unwrap_or_default();
    let before = old.status.clone().unwrap_or_default();
    let (users, users_path) = (status.reserved_for.unwrap_or_default(), path.child("reservedFor"));
    let mut errors = validate_each(&users, USERS_MAX, &users_path, validate_user);
    let uid = |user: &ResourceClaimConsumerReference| user.uid.clone();
    errors.extend(validate_distinct(&users, ("uid", &users_path), uid));

    let known = allocated(status.allocation.as_ref());
    let (devices, devices_path) = (status.devices.unwrap_or_default(), path.child("devices"));
    errors.extend(validate_each(&devices, usize::MAX, &devices_path, |device, path| {
        validate_device(device, &known, path)
    }));
    errors.extend(validate_distinct(&devices, ("deviceID", &devices_path), told_of));

    if !users.is_empty() && status.allocation.is_none() {
        let detail = "may not be specified when `allocated` is not set";
        errors.push(FieldError::forbidden(&users_path, detail));
    } else if claim.metadata.deletion_timestamp.is_some() {
        let before = before.reserved_for.unwrap_or_default();
        if users.iter().any(|user| !before.contains(user)) {
            let detail = "new entries may not be added while `deallocationRequested` or \
                          `deletionTimestamp` are set";
            errors.push(FieldError::forbidden(&users_path, detail));
        }
    }
    let path = path.child("allocation");
    match (&status.allocation, &before.allocation) {
        (Some(new), Some(old)) => errors.extend(immutable(&path, to_value(new), &to_value(old))),
        (Some(new), None) => {
            errors.extend(validate_allocation(new, &RequestNames::of(&claim.spec), &path));
        }
        (None, _) => {}
    }
    errors
}

/// Upstream `validateResourceClaimUserReference`.
fn validate_user(user: &ResourceClaimConsumerReference, path: &FieldPath) -> Vec<FieldError> {
    [("resource", &user.resource), ("name", &user.name), ("uid", &user.uid)]
        .into_iter()
        .filter_map(|(field, text)| present(&path.child(field), Some(text)))
        .collect()
}

/// Upstream `validateAllocationResult`.
fn validate_allocation(
    allocation: &AllocationResult,
    known: &RequestNames<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let devices = allocation.devices.clone().unwrap_or_default();
    let devices_path = path.child("devices");
    let results = devices.results.unwrap_or_default();
    let mut errors =
        validate_each(&results, REQUESTS_MAX, &devices_path.child("results"), |result, path| {
            validate_result(result, known, path)
        });
    // Those of the class and those of the claim.
    let config = devices.config.unwrap_or_default();
    let config_path = devices_path.child("config");
    errors.extend(validate_each(&config, 2 * CONFIGURATIONS_MAX, &config_path, |it, path| {
        validate_configuration(it, known, path)
    }));
    if let Some(selector) = &allocation.node_selector {
        errors.extend(podspec::validate_node_selector(selector, &path.child("nodeSelector")));
    }
    errors
}

/// Upstream `validateDeviceRequestAllocationResult`.
fn validate_result(
    result: &DeviceRequestAllocationResult,
    known: &RequestNames<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = known.validate(&result.request, &path.child("request"));
    errors.extend(podspec::validate_driver_name(&result.driver, &path.child("driver")));
    errors.extend(validate_pool(&result.pool, &path.child("pool")));
    errors.extend(validate_label(&result.device, &path.child("device")));
    errors
}

/// Upstream `validateDeviceAllocationConfiguration`.
fn validate_configuration(
    config: &DeviceAllocationConfiguration,
    known: &RequestNames<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let source_path = path.child("source");
    let mut errors: Vec<_> = match config.source.as_str() {
        "" => Some(FieldError::required(&source_path, "")),
        source => one_of(&source_path, source, &["FromClaim", "FromClass"]),
    }
    .into_iter()
    .collect();
    errors.extend(known.validate_all(config.requests.as_deref(), &path.child("requests")));
    errors.extend(configuration::validate(config.opaque.as_ref(), Novelty::New, path));
    errors
}

/// Upstream `validateDeviceStatus`.
fn validate_device(
    device: &AllocatedDeviceStatus,
    known: &BTreeSet<String>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = podspec::validate_driver_name(&device.driver, &path.child("driver"));
    errors.extend(validate_pool(&device.pool, &path.child("pool")));
    errors.extend(validate_label(&device.device, &path.child("device")));
    let own = told_of(device);
    if !known.contains(&own) {
        errors.push(FieldError::invalid(path, own, "must be an allocated device in the claim"));
    }
    let told = device.conditions.as_deref().unwrap_or_default();
    let conditions_path = path.child("conditions");
    if told.len() > CONDITIONS_MAX {
        errors.push(FieldError::too_many(&conditions_path, told.len(), CONDITIONS_MAX));
    }
    errors.extend(conditions(told, &conditions_path));
    if let Some(data) = &device.data {
        errors.extend(validate_object(data, Some(DATA_BYTES_MAX), &path.child("data")));
    }
    let network = device.network_data.iter();
    errors.extend(network.flat_map(|it| validate_network(it, &path.child("networkData"))));
    errors
}

/// Upstream `validateNetworkDeviceData`.
fn validate_network(data: &NetworkDeviceData, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (field, text, max) in [
        ("interfaceName", &data.interface_name, INTERFACE_BYTES_MAX),
        ("hardwareAddress", &data.hardware_address, HARDWARE_ADDRESS_BYTES_MAX),
    ] {
        if text.as_ref().is_some_and(|text| text.len() > max) {
            errors.push(FieldError::too_long(&path.child(field), max));
        }
    }
    let (ips, path) = (data.ips.as_deref().unwrap_or_default(), path.child("ips"));
    errors.extend(validate_each(ips, IPS_MAX, &path, |address, path| {
        validate_interface_address(address, path).into_iter().collect()
    }));
    errors.extend(validate_distinct(ips, ("", &path), String::clone));
    errors
}

/// An address with the length of its network (upstream `IsValidInterfaceAddress`).
fn validate_interface_address(text: &str, path: &FieldPath) -> Option<FieldError> {
    let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
    let Ok(network) = text.parse::<IpNet>() else {
        return Some(FieldError::invalid(path, text, detail));
    };
    let address = text.split('/').next().unwrap_or_default();
    if let Some(error) = canonical_ip(path, address)
        && error.detail.contains("IPv4-mapped")
    {
        return Some(FieldError::invalid(path, text, error.detail));
    }
    let canonical = format!("{}/{}", network.addr(), network.prefix_len());
    (canonical != text).then(|| {
        FieldError::invalid(path, text, format!("must be in canonical form ({canonical:?})"))
    })
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check_status_update};
    use serde_json::{Value, json};

    fn claim(status: Value) -> Case {
        let request = json!({"name": "r", "exactly": {"deviceClassName": "c"}});
        Case::of(
            "resourceclaims",
            json!({
                "metadata": {"name": "x", "namespace": "ns"},
                "spec": {"devices": {"requests": [request]}}, "status": status,
            }),
        )
    }

    fn allocation(device: &str) -> Value {
        let result = json!({"request": "r", "driver": "d.io", "pool": "p/q", "device": device});
        json!({"devices": {"results": [result]}})
    }

    fn user(name: &str) -> Value {
        json!({"resource": "pods", "name": name, "uid": name})
    }

    #[test]
    fn an_allocation_answers_the_requests() {
        let none = claim(json!({}));
        check_status_update(&none, &claim(json!({"allocation": allocation("a")})), &[]);
        let at = "status.allocation.devices";
        check_status_update(
            &none,
            &claim(json!({"allocation": {
                "devices": {
                    "results": [{"request": "s", "driver": "", "pool": "P/", "device": "A"}],
                    "config": [{"source": ""}, {"source": "Me", "requests": ["r"],
                        "opaque": {"driver": "d.io", "parameters": {}}}],
                },
                "nodeSelector": {"nodeSelectorTerms": []},
            }})),
            &[
                &format!(
                    "{at}.results[0].request: Invalid value: \"s\": must be the name of a request"
                ),
                &format!("{at}.results[0].driver: Required value"),
                &format!(
                    "{at}.results[0].pool: Invalid value: \"P\": a lowercase RFC 1123 subdomain"
                ),
                &format!(
                    "{at}.results[0].pool: Invalid value: \"\": a lowercase RFC 1123 subdomain"
                ),
                &format!(
                    "{at}.results[0].device: Invalid value: \"A\": a lowercase RFC 1123 label"
                ),
                &format!("{at}.config[0].source: Required value"),
                &format!("{at}.config[0].opaque: Required value"),
                &format!(
                    "{at}.config[1].source: Unsupported value: \"Me\": supported values: \"FromClaim\", \"FromClass\""
                ),
                "status.allocation.nodeSelector.nodeSelectorTerms: Required value: must have at least one",
            ],
        );
        let given = claim(json!({"allocation": allocation("a")}));
        check_status_update(
            &given,
            &claim(json!({"allocation": allocation("b")})),
            &["status.allocation: Invalid value: {\"devices\":{\"results\":[{\"device\":\"b\""],
        );
        check_status_update(&given, &none, &[]);
    }

    #[test]
    fn who_uses_a_claim_has_one() {
        let given =
            |users: &[Value]| claim(json!({"allocation": allocation("a"), "reservedFor": users}));
        check_status_update(&given(&[]), &given(&[user("a"), user("b")]), &[]);
        check_status_update(
            &given(&[]),
            &given(&[user("a"), user("a"), json!({"resource": "", "name": "", "uid": ""})]),
            &[
                "status.reservedFor[2].resource: Required value",
                "status.reservedFor[2].name: Required value",
                "status.reservedFor[2].uid: Required value",
                "status.reservedFor[1].uid: Duplicate value: \"a\"",
            ],
        );
        check_status_update(
            &claim(json!({})),
            &claim(json!({"reservedFor": [user("a")]})),
            &["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"],
        );
        let gone = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let (old, new) = (given(&[user("a")]).with(gone.clone()), given(&[user("b")]).with(gone));
        check_status_update(
            &old,
            &new,
            &["status.reservedFor: Forbidden: new entries may not be added while"],
        );
        check_status_update(&old, &old, &[]);
    }

    #[test]
    fn devices_tell_of_themselves() {
        let with = |device: Value| {
            let mut told = json!({"driver": "d.io", "pool": "p/q", "device": "a"});
            json_patch::merge(&mut told, &device);
            claim(json!({"allocation": allocation("a"), "devices": [told]}))
        };
        let old = claim(json!({"allocation": allocation("a")}));
        let data = json!({"ips": ["10.0.0.1/8", "fd00::1/64"], "interfaceName": "eth0"});
        check_status_update(&old, &with(json!({"networkData": data, "data": {"x": 1}})), &[]);
        let many: Vec<_> = (0..9)
            .map(|n| {
                json!({"type": format!("T{n}"), "status": "True", "reason": "R", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"})
            })
            .collect();
        check_status_update(
            &old,
            &with(json!({
                "device": "b", "conditions": many, "data": [],
                "networkData": {"ips": ["10.0.0.1", "fd00::01/64", "10.0.0.1"],
                    "interfaceName": "x".repeat(257), "hardwareAddress": "x".repeat(129)},
            })),
            &[
                "status.devices[0]: Invalid value: \"d.io/p/q/b\": must be an allocated device in the claim",
                "status.devices[0].conditions: Too many: 9: must have at most 8 items",
                "status.devices[0].data: Invalid value: \"<value omitted>\": must be a valid JSON object",
                "status.devices[0].networkData.interfaceName: Too long: may not be more than 256 bytes",
                "status.devices[0].networkData.hardwareAddress: Too long: may not be more than 128 bytes",
                "status.devices[0].networkData.ips[0]: Invalid value: \"10.0.0.1\": must be a valid address in CIDR form",
                "status.devices[0].networkData.ips[1]: Invalid value: \"fd00::01/64\": must be in canonical form (\"fd00::1/64\")",
                "status.devices[0].networkData.ips[2]: Invalid value: \"10.0.0.1\": must be a valid address in CIDR form",
                "status.devices[0].networkData.ips[2]: Duplicate value: \"10.0.0.1\"",
            ],
        );
    }

    #[test]
    fn what_is_told_goes_with_its_device() {
        let told = json!([{"driver": "d.io", "pool": "p/q", "device": "a", "shareID": "s"}]);
        let old = claim(json!({"allocation": allocation("a"), "devices": told})).decode();
        let mut new = claim(json!({"devices": told})).decode();
        new.prepare_status_update(&*old);
        assert_eq!(new.to_value()["status"], json!({}));
    }
}
