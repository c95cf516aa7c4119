//! What pods ask for and what nodes have, in whole numbers that add up exactly.

use crate::api::Quantity;
use crate::api::pod;
use k8s_openapi::api::core::v1::{Node, PodSpec};
use std::collections::BTreeMap;

/// What scoring takes a container without a request to use (upstream `DefaultMilliCPURequest` and
/// `DefaultMemoryRequest`, pkg/scheduler/util/pod_resources.go, v1.35).
const MILLI_CPU_ASSUMED: i64 = 100;
const MEMORY_BYTES_ASSUMED: i64 = 200 << 20;

/// Amounts of each resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resources {
    /// Thousandths of a processor.
    pub(super) milli_cpu: i64,
    pub(super) memory_bytes: i64,
    pub(super) storage_bytes: i64,
    /// Huge pages, devices and the like, by name.
    pub(super) others: BTreeMap<String, i64>,
}

impl Resources {
    fn of(amounts: pod::Amounts) -> Self {
        let mut resources = Self::default();
        for (name, amount) in amounts {
            match name.as_str() {
                "cpu" => resources.milli_cpu = amount.milli_units(),
                "memory" => resources.memory_bytes = amount.units(),
                "ephemeral-storage" => resources.storage_bytes = amount.units(),
                "pods" => {}
                _ => drop(resources.others.insert(name, amount.units())),
            }
        }
        resources
    }

    /// What the node offers to pods, and how many of them.
    pub(super) fn of_node(node: &Node) -> (Self, i64) {
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        let amounts = pod::amounts(allocatable);
        let pods = amounts.get("pods").map_or(0, |pods| pods.units());
        (Self::of(amounts), pods)
    }

    /// What is set aside for a pod.
    pub(super) fn of_pod(spec: &PodSpec) -> Self {
        Self::of(pod::requests(spec))
    }

    /// As [`Resources::of_pod`], where containers without requests count for something, so that
    /// such pods spread as well.
    pub(super) fn of_pod_for_scoring(spec: &PodSpec) -> Self {
        let assumed = [
            ("cpu".to_owned(), Quantity::milli(MILLI_CPU_ASSUMED)),
            ("memory".to_owned(), Quantity::binary(MEMORY_BYTES_ASSUMED)),
        ];
        Self::of(pod::requests_assuming(spec, &assumed.into()))
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.combine(other, |mine, theirs| mine.saturating_add(theirs));
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        self.combine(other, |mine, theirs| mine.saturating_sub(theirs));
    }

    fn combine(&mut self, other: &Self, with: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = with(self.milli_cpu, other.milli_cpu);
        self.memory_bytes = with(self.memory_bytes, other.memory_bytes);
        self.storage_bytes = with(self.storage_bytes, other.storage_bytes);
        for (name, amount) in &other.others {
            let mine = self.others.entry(name.clone()).or_default();
            *mine = with(*mine, *amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_without_requests_count_for_scoring_only() {
        let spec = serde_json::from_value(json!({"containers": [{"name": "x"}]})).unwrap();
        assert_eq!(Resources::of_pod(&spec), Resources::default());
        assert_eq!(Resources::of_pod_for_scoring(&spec).milli_cpu, MILLI_CPU_ASSUMED);
    }
}
