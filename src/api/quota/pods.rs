//! What pods use (upstream pkg/quota/v1/evaluator/core/pods.go, v1.35).

use crate::api::Quantity;
use crate::api::pod::{self, Amounts, amounts};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use std::collections::{BTreeMap, BTreeSet};

const HUGE_PAGES: &str = "hugepages-";
const REQUESTS: &str = "requests.";
const LIMITS: &str = "limits.";

/// What is measured both by its own name and as `requests.` and `limits.` of it.
const COMPUTE: &[&str] = &["cpu", "ephemeral-storage", "memory"];

/// Whoever has a quota of one of these must say how much each container takes. That was a mistake
/// of upstream's, which it keeps.
const TO_BE_SAID: &[&str] =
    &["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];

pub(super) fn is_measured_by(name: &str) -> bool {
    let own = name.strip_prefix(REQUESTS).unwrap_or(name);
    let limited = name.strip_prefix(LIMITS).unwrap_or_default();
    name == "pods"
        || COMPUTE.contains(&own)
        || COMPUTE.contains(&limited)
        || own.starts_with(HUGE_PAGES)
        || (name.starts_with(REQUESTS) && !is_native(name))
}

/// Upstream `IsNativeResource`.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Upstream `PodUsageFunc`, without the number of pods whatever their phase.
pub(super) fn usage(pod: &Pod, now: Timestamp) -> Amounts {
    let is_eligible = eligible_until(pod).is_none_or(|end| now <= end);
    match &pod.spec {
        Some(spec) if is_eligible => compute(&pod::requests(spec), &pod::limits(spec)),
        _ => Amounts::new(),
    }
}

/// Until when a pod counts; `None` while nothing ends it. One that has ended counts no more, and one
/// that should have been gone for some time keeps nobody from a new one (upstream `QuotaV1Pod`).
#[must_use]
pub fn eligible_until(pod: &Pod) -> Option<Timestamp> {
    if pod::is_terminal(pod) {
        return Some(Timestamp::MIN);
    }
    let metadata = &pod.metadata;
    let due = metadata.deletion_timestamp.as_ref()?.0;
    let grace = SignedDuration::from_secs(metadata.deletion_grace_period_seconds?);
    Some(due.checked_add(grace).unwrap_or(Timestamp::MAX))
}

/// Upstream `podComputeUsageHelper`.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::from([("pods".to_owned(), Quantity::decimal(1))]);
    for (name, amount) in requests {
        if COMPUTE.contains(&name.as_str()) || name.starts_with(HUGE_PAGES) {
            used.insert(name.clone(), *amount);
            used.insert(format!("{REQUESTS}{name}"), *amount);
        } else if !is_native(name) {
            used.insert(format!("{REQUESTS}{name}"), *amount);
        }
    }
    for (name, amount) in limits.iter().filter(|(name, _)| COMPUTE.contains(&name.as_str())) {
        used.insert(format!("{LIMITS}{name}"), *amount);
    }
    used
}

/// What containers do not say although a quota of `measured` wants to know it.
pub(super) fn check_said<'a>(
    spec: &PodSpec,
    measured: impl Iterator<Item = &'a str>,
) -> Result<(), String> {
    // What the pod says as a whole is enough.
    if spec.resources.as_ref().is_some_and(|it| it.requests.is_some() || it.limits.is_some()) {
        return Ok(());
    }
    let wanted: Vec<&str> = measured.filter(|name| TO_BE_SAID.contains(name)).collect();
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let said = said(container);
        for name in wanted.iter().filter(|name| !said.contains_key(**name)) {
            missing.entry(name).or_default().insert(&container.name);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let listed: Vec<_> = missing
        .iter()
        .map(|(name, of)| {
            format!("{name} for: {}", of.iter().copied().collect::<Vec<_>>().join(","))
        })
        .collect();
    Err(format!("must specify {}", listed.join("; ")))
}

fn said(container: &Container) -> Amounts {
    let resources = container.resources.as_ref();
    compute(
        &amounts(resources.and_then(|resources| resources.requests.as_ref())),
        &amounts(resources.and_then(|resources| resources.limits.as_ref())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: &str = "2026-01-01T00:01:00Z";

    fn pod(value: &Value) -> Pod {
        let mut full = json!({"metadata": {}, "spec": {"containers": []}});
        json_patch::merge(&mut full, value);
        serde_json::from_value(full).unwrap()
    }

    fn check(value: &Value, expected: &str) {
        let used = usage(&pod(value), NOW.parse().unwrap());
        let listed: Vec<_> = used.iter().map(|(name, it)| format!("{name}={it}")).collect();
        assert_eq!(listed.join(" "), expected, "{value}");
        assert!(used.keys().all(|name| is_measured_by(name)), "{used:?}");
    }

    #[test]
    fn pods_use_what_they_ask_for() {
        check(&json!({}), "pods=1");
        let resources = json!({"requests": {"cpu": "1", "example.com/gpu": "2", "hugepages-2Mi": "4Mi"},
            "limits": {"cpu": "2", "memory": "1Gi"}});
        check(
            &json!({"spec": {"containers": [{"name": "c", "resources": resources}]}}),
            "cpu=1 hugepages-2Mi=4Mi limits.cpu=2 limits.memory=1Gi pods=1 requests.cpu=1 \
             requests.example.com/gpu=2 requests.hugepages-2Mi=4Mi",
        );
    }

    #[test]
    fn pods_that_have_ended_use_nothing() {
        check(&json!({"status": {"phase": "Succeeded"}}), "");
        check(&json!({"status": {"phase": "Failed"}}), "");
        let going = |due: &str| json!({"metadata": {"deletionTimestamp": due, "deletionGracePeriodSeconds": 30}});
        check(&going("2026-01-01T00:00:40Z"), "pods=1");
        check(&going("2026-01-01T00:00:20Z"), "");
    }

    #[test]
    fn quotas_of_compute_want_to_know() {
        let check = |value: Value, measured: &[&str], expected: &str| {
            let pod = pod(&json!({"spec": value}));
            let result = check_said(pod.spec.as_ref().unwrap(), measured.iter().copied());
            assert_eq!(result.err().unwrap_or_default(), expected);
        };
        let silent = json!({"containers": [{"name": "b"}, {"name": "a"}]});
        check(silent.clone(), &["pods", "requests.ephemeral-storage"], "");
        check(
            silent.clone(),
            &["limits.memory", "cpu"],
            "must specify cpu for: a,b; limits.memory for: a,b",
        );
        let mut whole = silent;
        whole["resources"] = json!({"requests": {"cpu": "1"}});
        check(whole, &["cpu"], "");
        let said = json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]});
        check(said, &["cpu", "requests.cpu"], "");
    }
}
