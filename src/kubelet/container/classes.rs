//! What the cgroups above those of pods are given: upstream `setCPUCgroupConfig`
//! (pkg/kubelet/cm/qos_container_manager_linux.go) and `getCgroupConfigInternal`
//! (pkg/kubelet/cm/node_container_manager_linux.go), v1.35. Pure.
//!
//! Deliberately absent: limits of huge pages, which the kernel does not limit by default, and those
//! of memory for a class, which take upstream's `qosReserved`.

use super::resources::{SHARES_MIN, class_cgroup, shares_of};
use crate::api::pod::{Amounts, QosClass, is_terminal, qos_class, requests};
use crate::runtime::LinuxResources;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use std::collections::BTreeMap;

/// What all pods of a node may use together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeShare {
    pub milli_cpu: u64,
    pub memory_bytes: u64,
}

impl NodeShare {
    /// Without what is not for pods: upstream `GetNodeAllocatableAbsolute`.
    #[must_use]
    pub fn without(self, reserved: &Amounts) -> Self {
        let of = |name: &str| reserved.get(name).copied().unwrap_or_default();
        let milli_cpu = u64::try_from(of("cpu").milli_units()).unwrap_or_default();
        let memory_bytes = u64::try_from(of("memory").units()).unwrap_or_default();
        Self {
            milli_cpu: self.milli_cpu.saturating_sub(milli_cpu),
            memory_bytes: self.memory_bytes.saturating_sub(memory_bytes),
        }
    }
}

/// The cgroups above those of pods, `root` first where there is one, with what they are given.
///
/// Pods that ask for processor time are promised it together: their class weighs as much as all
/// that they ask for. Those that ask for nothing get what is left, and a guaranteed pod weighs for
/// itself.
#[must_use]
pub fn class_cgroups<'a>(
    root: &str,
    node: NodeShare,
    pods: impl Iterator<Item = &'a Pod>,
) -> BTreeMap<String, LinuxResources> {
    let burstable: i64 = pods
        .filter(|pod| !is_terminal(pod))
        .filter_map(|pod| pod.spec.as_ref())
        .map(burstable_milli)
        .fold(0, i64::saturating_add);
    let shares = |shares: i64| LinuxResources {
        cpu_shares: u64::try_from(shares).ok(),
        ..LinuxResources::default()
    };
    let whole = LinuxResources {
        memory_limit_bytes: i64::try_from(node.memory_bytes).ok(),
        ..shares(shares_of(i64::try_from(node.milli_cpu).unwrap_or(i64::MAX)))
    };
    let mut cgroups = BTreeMap::from([
        (class_cgroup(root, QosClass::Guaranteed), whole.clone()),
        (class_cgroup(root, QosClass::Burstable), shares(shares_of(burstable))),
        (class_cgroup(root, QosClass::BestEffort), shares(SHARES_MIN)),
    ]);
    if !root.is_empty() {
        cgroups.insert(root.to_owned(), whole);
    }
    cgroups
}

fn burstable_milli(spec: &PodSpec) -> i64 {
    if qos_class(spec) != QosClass::Burstable {
        return 0;
    }
    requests(spec).get("cpu").map_or(0, |amount| amount.milli_units())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(phase: &str, cpu: Value, limits: Value) -> Pod {
        let resources = json!({ "requests": cpu, "limits": limits });
        let object = json!({
            "spec": { "containers": [{ "name": "a", "resources": resources }] },
            "status": { "phase": phase },
        });
        serde_json::from_value(object).unwrap()
    }

    #[track_caller]
    fn check(root: &str, pods: &[Pod], expected: &[&str]) {
        let node = NodeShare { milli_cpu: 4_000, memory_bytes: 1 << 30 };
        let lines: Vec<_> = class_cgroups(root, node, pods.iter())
            .into_iter()
            .map(|(cgroup, given)| {
                let memory =
                    given.memory_limit_bytes.map(|bytes| format!(" {bytes}")).unwrap_or_default();
                format!("{cgroup}={}{memory}", given.cpu_shares.unwrap())
            })
            .collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn classes_weigh_what_their_pods_ask_for() {
        let all = json!({ "cpu": "1", "memory": "1Gi" });
        let pods = [
            pod("Running", json!({ "cpu": "500m" }), json!({})),
            pod("Pending", json!({ "cpu": "250m", "memory": "1Gi" }), json!({})),
            pod("Running", json!({ "memory": "1Gi" }), json!({})),
            pod("Succeeded", json!({ "cpu": "8" }), json!({})),
            pod("Running", all.clone(), all),
            pod("Running", json!({}), json!({})),
        ];
        let whole = "4096 1073741824";
        check(
            "/k",
            &pods,
            &[
                &format!("/k={whole}"),
                &format!("/k/kubepods={whole}"),
                "/k/kubepods/besteffort=2",
                "/k/kubepods/burstable=768",
            ],
        );
        check(
            "",
            &[],
            &[&format!("/kubepods={whole}"), "/kubepods/besteffort=2", "/kubepods/burstable=2"],
        );
    }

    #[test]
    fn what_is_reserved_is_not_in_the_pods_cgroup() {
        let whole = NodeShare { milli_cpu: 4_000, memory_bytes: 1 << 30 };
        let reserved = [("cpu", "500m"), ("memory", "256Mi"), ("ephemeral-storage", "1Gi")];
        let reserved = reserved.map(|(name, it)| (name.to_owned(), it.parse().unwrap())).into();
        let left = NodeShare { milli_cpu: 3_500, memory_bytes: 768 << 20 };
        assert_eq!(whole.without(&reserved), left);
        assert_eq!(whole.without(&Amounts::new()), whole);
    }
}
