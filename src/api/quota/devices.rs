//! How many devices a ResourceClaim may take, by class (upstream `claimEvaluator`,
//! pkg/quota/v1/evaluator/core/resource_claims.go, v1.35).

use crate::api::Quantity;
use crate::api::pod::Amounts;
use k8s_openapi::api::resource::v1::{DeviceRequest, ResourceClaim};
use std::collections::BTreeMap;

/// Behind the name of a class of devices.
const CLASS_SUFFIX: &str = ".deviceclass.resource.k8s.io/devices";

/// As many as a claim is given where it asks for all that there are (upstream
/// `AllocationResultsMaxSize`).
const ALLOCATED_MAX: i64 = 32;

/// Whether an amount of this name is one of devices.
pub(super) fn is_measured_by(name: &str) -> bool {
    name.ends_with(CLASS_SUFFIX)
}

/// The devices of each class. Where there are alternatives, the one counts that takes most.
pub(super) fn usage(claim: &ResourceClaim) -> Amounts {
    let devices = claim.spec.devices.as_ref();
    let requests = devices.and_then(|devices| devices.requests.as_deref()).unwrap_or_default();
    let mut used = Amounts::new();
    for (class, devices) in requests.iter().flat_map(of_request) {
        *used.entry(format!("{class}{CLASS_SUFFIX}")).or_default() += Quantity::decimal(devices);
    }
    used
}

fn of_request(request: &DeviceRequest) -> BTreeMap<&str, i64> {
    let alternatives = request.first_available.as_deref().unwrap_or_default();
    if alternatives.is_empty() {
        let exactly = request.exactly.iter();
        let number = exactly
            .map(|it| (&*it.device_class_name, devices(it.allocation_mode.as_deref(), it.count)));
        return number.collect();
    }
    let mut most = BTreeMap::new();
    for it in alternatives {
        let number = devices(it.allocation_mode.as_deref(), it.count);
        // A class that takes nothing is none that is measured.
        if number > 0 {
            let known: &mut i64 = most.entry(&*it.device_class_name).or_default();
            *known = number.max(*known);
        }
    }
    most
}

/// What a later version may mean is not known, and not counted.
fn devices(mode: Option<&str>, count: Option<i64>) -> i64 {
    match mode {
        Some("ExactCount") => count.unwrap_or_default(),
        Some("All") => ALLOCATED_MAX,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(requests: Value, expected: &str) {
        let spec = json!({"devices": {"requests": requests}});
        let claim = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        let used = usage(&claim);
        assert!(used.keys().all(|name| is_measured_by(name)), "{used:?}");
        let listed: Vec<_> = used.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        assert_eq!(listed.join(" ").replace(CLASS_SUFFIX, ""), expected);
    }

    fn some(class: &str, count: i64) -> Value {
        json!({"name": "s", "deviceClassName": class, "allocationMode": "ExactCount",
            "count": count})
    }

    fn all(class: &str) -> Value {
        json!({"name": "s", "deviceClassName": class, "allocationMode": "All"})
    }

    #[test]
    fn devices_add_up_by_class() {
        check(json!([]), "");
        check(
            json!([{"name": "a", "exactly": some("gold", 2)},
                {"name": "b", "exactly": some("gold", 1)},
                {"name": "c", "exactly": all("tin")}]),
            "gold=3 tin=32",
        );
        check(
            json!([{"name": "a", "exactly": {"deviceClassName": "gold", "allocationMode": "Most"}}]),
            "gold=0",
        );
    }

    #[test]
    fn of_alternatives_the_one_counts_that_takes_most() {
        check(
            json!([{"name": "a", "firstAvailable": [some("gold", 1), some("gold", 4), all("tin")]},
                {"name": "b", "exactly": some("gold", 2)}]),
            "gold=6 tin=32",
        );
    }
}
