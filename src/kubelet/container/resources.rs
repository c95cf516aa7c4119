//! Cgroups of pods and containers: their places and their limits. Pure.
//!
//! Upstream `generateLinuxContainerResources` (pkg/kubelet/kuberuntime/kuberuntime_container_linux.go),
//! `ResourceConfigForPod` (pkg/kubelet/cm/helpers_linux.go) and `GetContainerOOMScoreAdjust`
//! (pkg/kubelet/qos/policy.go), v1.35.

use crate::api::Quantity;
use crate::api::pod::{
    Amounts, CRITICAL_PRIORITY, QosClass, amounts, is_sidecar, limits, qos_class, requests,
};
use crate::kubelet::pod::BoundPod;
use crate::runtime::{HugepageLimit, LinuxResources};
use k8s_openapi::api::core::v1::Container;

/// What a processor is worth in shares.
const SHARES_PER_CPU: i64 = 1_024;
/// The kernel's own bounds; amounts beyond are moved to them.
pub(super) const SHARES_MIN: i64 = 2;
const SHARES_MAX: i64 = 262_144;

/// The kernel counts a quota over this time.
const PERIOD_MICROSECONDS: u64 = 100_000;
/// The kernel takes no smaller quota.
const QUOTA_MICROSECONDS_MIN: i64 = 1_000;

const OOM_SCORE_GUARANTEED: i32 = -997;
const OOM_SCORE_BEST_EFFORT: i32 = 1_000;

/// The parents of all pods of a class, below the node's root: `/root/kubepods/burstable`.
#[must_use]
pub fn class_cgroup(root: &str, class: QosClass) -> String {
    match class {
        QosClass::Guaranteed => format!("{root}/kubepods"),
        QosClass::Burstable => format!("{root}/kubepods/burstable"),
        QosClass::BestEffort => format!("{root}/kubepods/besteffort"),
    }
}

/// Where a pod's containers have their cgroups.
#[must_use]
pub fn pod_cgroup(root: &str, pod: &BoundPod) -> String {
    format!("{}/pod{}", class_cgroup(root, qos_class(pod.spec())), pod.uid())
}

/// The limits of all containers of a pod together.
#[must_use]
pub fn pod_resources(pod: &BoundPod) -> LinuxResources {
    let spec = pod.spec();
    let (requests, limits) = (requests(spec), limits(spec));
    let class = qos_class(spec);
    let shares = match class {
        QosClass::BestEffort => SHARES_MIN,
        QosClass::Guaranteed | QosClass::Burstable => milli(&requests, "cpu"),
    };
    let shares = if class == QosClass::BestEffort { shares } else { shares_of(shares) };
    let limited = |name| class == QosClass::Guaranteed || all_limited(pod, name);
    let quota = quota_of(milli(&limits, "cpu")).filter(|_| limited("cpu"));
    LinuxResources {
        cpu_shares: u64::try_from(shares).ok(),
        cpu_quota: quota,
        cpu_period: quota.map(|_| PERIOD_MICROSECONDS),
        memory_limit_bytes: bytes(&limits, "memory").filter(|_| limited("memory")),
        pids_limit: None,
        oom_score_adj: None,
        hugepage_limits: hugepages(&limits),
    }
}

/// Only where every container has a limit has the pod one, unless it names its own.
fn all_limited(pod: &BoundPod, name: &str) -> bool {
    let is_set = |amounts: &Amounts| amounts.get(name).is_some_and(|amount| !amount.is_zero());
    let own = pod.spec().resources.as_ref().and_then(|own| own.limits.as_ref());
    let mut containers = pod.containers().iter().chain(pod.init_containers());
    is_set(&amounts(own)) || containers.all(|container| is_set(&limits_of(container)))
}

fn limits_of(container: &Container) -> Amounts {
    amounts(container.resources.as_ref().and_then(|resources| resources.limits.as_ref()))
}

fn requests_of(container: &Container) -> Amounts {
    amounts(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
}

/// The limits of one container. A container without limits of its own has those of the pod.
#[must_use]
pub fn container_resources(
    pod: &BoundPod,
    container: &Container,
    node_memory_bytes: u64,
) -> LinuxResources {
    LinuxResources {
        oom_score_adj: Some(oom_score(pod, container, node_memory_bytes)),
        ..limits_of_container(pod, container)
    }
}

/// The limits of one container, without its score for those that run out of memory: that stays as
/// it was at its start.
#[must_use]
pub fn limits_of_container(pod: &BoundPod, container: &Container) -> LinuxResources {
    let (requests, mut limits) = (requests_of(container), limits_of(container));
    let own = pod.spec().resources.as_ref().and_then(|own| own.limits.as_ref());
    for (name, amount) in amounts(own) {
        limits.entry(name).or_insert(amount);
    }
    let asked = if requests.contains_key("cpu") { &requests } else { &limits };
    let quota = quota_of(milli(&limits, "cpu"));
    LinuxResources {
        cpu_shares: u64::try_from(shares_of(milli(asked, "cpu"))).ok(),
        cpu_quota: quota,
        cpu_period: quota.map(|_| PERIOD_MICROSECONDS),
        memory_limit_bytes: bytes(&limits, "memory"),
        pids_limit: None,
        oom_score_adj: None,
        hugepage_limits: hugepages(&limits),
    }
}

fn milli(amounts: &Amounts, name: &str) -> i64 {
    amounts.get(name).map_or(0, |amount| amount.milli_units())
}

fn bytes(amounts: &Amounts, name: &str) -> Option<i64> {
    amounts.get(name).map(|amount| amount.units()).filter(|bytes| *bytes > 0)
}

/// Shares of an amount of thousandths of a processor.
#[must_use]
pub fn shares_of(milli: i64) -> i64 {
    (milli.saturating_mul(SHARES_PER_CPU) / 1_000).clamp(SHARES_MIN, SHARES_MAX)
}

fn quota_of(milli: i64) -> Option<i64> {
    let period = i64::try_from(PERIOD_MICROSECONDS).expect("a small constant");
    let quota = milli.saturating_mul(period) / 1_000;
    (milli > 0).then(|| quota.max(QUOTA_MICROSECONDS_MIN))
}

/// `hugepages-2Mi` -> `2MB`, as the cgroup's files are named.
fn hugepages(limits: &Amounts) -> Vec<HugepageLimit> {
    let sizes = limits.iter().filter_map(|(name, amount)| {
        let size: Quantity = name.strip_prefix("hugepages-")?.parse().ok()?;
        let bytes = u64::try_from(amount.units()).ok()?;
        let page_size = match size.units() {
            kilobytes if kilobytes % (1 << 30) == 0 => format!("{}GB", kilobytes >> 30),
            kilobytes if kilobytes % (1 << 20) == 0 => format!("{}MB", kilobytes >> 20),
            other => format!("{}KB", other >> 10),
        };
        Some(HugepageLimit { page_size, bytes })
    });
    sizes.collect()
}

/// How readily the kernel kills a container for want of memory: the more of the node's memory it
/// has asked for, the later.
fn oom_score(pod: &BoundPod, container: &Container, node_memory_bytes: u64) -> i32 {
    if pod.spec().priority.is_some_and(|priority| priority >= CRITICAL_PRIORITY) {
        return OOM_SCORE_GUARANTEED;
    }
    match qos_class(pod.spec()) {
        QosClass::Guaranteed => return OOM_SCORE_GUARANTEED,
        QosClass::BestEffort => return OOM_SCORE_BEST_EFFORT,
        QosClass::Burstable => {}
    }
    let capacity = i128::from(node_memory_bytes).max(1);
    let score = |memory: i64| 1_000 - 1_000 * i128::from(memory) / capacity;
    let memory = |container: &Container| bytes(&requests_of(container), "memory").unwrap_or(0);
    let share = unassigned_memory_share(pod);
    let mut adjust = score(memory(container).saturating_add(share));
    let of_pod = pod.init_containers().iter().any(|init| init.name == container.name);
    if of_pod && is_sidecar(container) {
        // A sidecar is not killed before the containers that it serves.
        let least = pod.containers().iter().map(memory).min().unwrap_or(0);
        adjust = adjust.min(score(least.saturating_add(share)));
    }
    // Above what is guaranteed, below what asked for nothing.
    let lowest = i128::from(1_000 + OOM_SCORE_GUARANTEED);
    let highest = i128::from(OOM_SCORE_BEST_EFFORT - 1);
    i32::try_from(adjust.clamp(lowest, highest)).expect("clamped to small numbers")
}

/// What the pod as a whole asks for beyond its containers, for each of them.
fn unassigned_memory_share(pod: &BoundPod) -> i64 {
    let own = pod.spec().resources.as_ref().and_then(|own| own.requests.as_ref());
    let Some(total) = bytes(&amounts(own), "memory") else {
        return 0;
    };
    let assigned = bytes(&crate::api::pod::container_requests(pod.spec()), "memory").unwrap_or(0);
    let sidecars = pod.init_containers().iter().filter(|container| is_sidecar(container)).count();
    let count = i64::try_from(pod.containers().len() + sidecars).unwrap_or(1).max(1);
    (total - assigned).max(0) / count
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    const GIB: u64 = 1 << 30;

    fn pod(spec: Value) -> BoundPod {
        let metadata = json!({ "name": "web", "namespace": "shop", "uid": "u1" });
        let object = json!({ "metadata": metadata, "spec": spec });
        BoundPod::read(Arc::new(serde_json::from_value(object).unwrap())).unwrap()
    }

    fn container(requests: Value, limits: Value) -> Value {
        json!({ "name": "a", "resources": { "requests": requests, "limits": limits } })
    }

    /// `shares quota memory oom`.
    fn render(resources: &LinuxResources) -> String {
        let number = |number: Option<i64>| number.map_or("-".to_owned(), |it| it.to_string());
        let shares = resources.cpu_shares.map_or("-".to_owned(), |it| it.to_string());
        format!(
            "{shares} {} {} {}",
            number(resources.cpu_quota),
            number(resources.memory_limit_bytes),
            number(resources.oom_score_adj.map(i64::from)),
        )
    }

    #[test]
    fn containers_get_what_they_ask_for() {
        for (requests, limits, expected) in [
            (json!({}), json!({}), "2 - - 1000"),
            (json!({ "cpu": "500m" }), json!({}), "512 - - 999"),
            (json!({ "cpu": "1m" }), json!({}), "2 - - 999"),
            (json!({}), json!({ "cpu": "2" }), "2048 200000 - 999"),
            (json!({ "cpu": "100m" }), json!({ "cpu": "5m" }), "102 1000 - 999"),
            (json!({ "memory": "1Gi" }), json!({ "memory": "2Gi" }), "2 - 2147483648 900"),
            (json!({ "memory": "20Gi" }), json!({}), "2 - - 3"),
            (
                json!({ "cpu": "1", "memory": "1Gi" }),
                json!({ "cpu": "1", "memory": "1Gi" }),
                "1024 100000 1073741824 -997",
            ),
        ] {
            let pod = pod(json!({ "containers": [container(requests, limits)] }));
            let made = container_resources(&pod, &pod.containers()[0], 10 * GIB);
            assert_eq!(render(&made), expected);
        }
    }

    #[test]
    fn pods_get_the_sum_where_every_container_is_limited() {
        let limited =
            || container(json!({ "cpu": "250m" }), json!({ "cpu": "1", "memory": "1Gi" }));
        let open = || container(json!({ "cpu": "250m" }), json!({}));
        for (containers, cgroup, expected) in [
            (vec![json!({ "name": "a" })], "/k/kubepods/besteffort/podu1", "2 - - -"),
            (vec![limited(), limited()], "/k/kubepods/burstable/podu1", "512 200000 2147483648 -"),
            (vec![limited(), open()], "/k/kubepods/burstable/podu1", "512 - - -"),
            (
                vec![container(
                    json!({ "cpu": "1", "memory": "1Gi" }),
                    json!({ "cpu": "1", "memory": "1Gi" }),
                )],
                "/k/kubepods/podu1",
                "1024 100000 1073741824 -",
            ),
        ] {
            let pod = pod(json!({ "containers": containers }));
            assert_eq!(pod_cgroup("/k", &pod), cgroup);
            assert_eq!(render(&pod_resources(&pod)), expected);
        }
    }

    #[test]
    fn critical_pods_and_sidecars_are_spared() {
        let big = container(json!({ "memory": "5Gi" }), json!({}));
        let critical = pod(json!({ "priority": 2_000_001_000, "containers": [big.clone()] }));
        let score = |pod: &BoundPod, container: &Container| {
            container_resources(pod, container, 10 * GIB).oom_score_adj
        };
        assert_eq!(score(&critical, &critical.containers()[0]), Some(-997));
        let sidecar = json!({ "name": "s", "restartPolicy": "Always" });
        let pod = pod(json!({ "initContainers": [sidecar], "containers": [big] }));
        assert_eq!(score(&pod, &pod.containers()[0]), Some(500));
        assert_eq!(score(&pod, &pod.init_containers()[0]), Some(500));
    }

    #[test]
    fn huge_pages_are_named_as_the_kernels_files() {
        let limits = json!({ "hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi" });
        let pod = pod(json!({ "containers": [container(json!({}), limits)] }));
        let made = container_resources(&pod, &pod.containers()[0], GIB).hugepage_limits;
        let names: Vec<_> =
            made.iter().map(|limit| format!("{}={}", limit.page_size, limit.bytes)).collect();
        assert_eq!(names, ["1GB=1073741824", "2MB=4194304"]);
    }
}
