//! What pods ask for and what nodes have, in whole numbers that add up exactly.

use crate::api::Quantity;
use k8s_openapi::api::core::v1::{Container, Node, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
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

type List = BTreeMap<String, ApiQuantity>;

impl Resources {
    fn of_list(list: Option<&List>) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in list.into_iter().flatten() {
            // Stored quantities have been validated; one that still cannot be read asks for nothing.
            let Ok(quantity) = quantity.0.parse::<Quantity>() else { continue };
            match name.as_str() {
                "cpu" => resources.milli_cpu = quantity.milli_units(),
                "memory" => resources.memory_bytes = quantity.units(),
                "ephemeral-storage" => resources.storage_bytes = quantity.units(),
                "pods" => {}
                _ => drop(resources.others.insert(name.clone(), quantity.units())),
            }
        }
        resources
    }

    /// What the node offers to pods, and how many of them.
    pub(super) fn of_node(node: &Node) -> (Self, i64) {
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        let pods = allocatable.and_then(|list| list.get("pods"));
        let pods = pods.and_then(|quantity| quantity.0.parse::<Quantity>().ok());
        (Self::of_list(allocatable), pods.map_or(0, Quantity::units))
    }

    /// What a pod needs at its most: upstream `PodRequests` (component-helpers resource/helpers.go,
    /// v1.35). Sidecars run beside all that starts after them.
    pub(super) fn of_pod(spec: &PodSpec) -> Self {
        Self::of_containers(spec, |container| {
            let resources = container.resources.as_ref();
            Self::of_list(resources.and_then(|resources| resources.requests.as_ref()))
        })
    }

    /// As [`Resources::of_pod`], where containers without requests count for something, so that
    /// such pods spread as well.
    pub(super) fn of_pod_for_scoring(spec: &PodSpec) -> Self {
        Self::of_containers(spec, |container| {
            let resources = container.resources.as_ref();
            let requests = resources.and_then(|resources| resources.requests.as_ref());
            let mut assumed = Self::of_list(requests);
            let asks = |name: &str| requests.is_some_and(|list| list.contains_key(name));
            if !asks("cpu") {
                assumed.milli_cpu = MILLI_CPU_ASSUMED;
            }
            if !asks("memory") {
                assumed.memory_bytes = MEMORY_BYTES_ASSUMED;
            }
            assumed
        })
    }

    fn of_containers(spec: &PodSpec, request: impl Fn(&Container) -> Self) -> Self {
        let mut running = Self::default();
        for container in &spec.containers {
            running.add(&request(container));
        }
        let mut sidecars = Self::default();
        let mut starting = Self::default();
        for container in spec.init_containers.iter().flatten() {
            let mut step = request(container);
            if container.restart_policy.as_deref() == Some("Always") {
                running.add(&step);
                sidecars.add(&step);
                step = sidecars.clone();
            } else {
                step.add(&sidecars);
            }
            starting.raise_to(&step);
        }
        running.raise_to(&starting);
        running.add(&Self::of_list(spec.overhead.as_ref()));
        running
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.combine(other, |mine, theirs| mine.saturating_add(theirs));
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        self.combine(other, |mine, theirs| mine.saturating_sub(theirs));
    }

    fn raise_to(&mut self, other: &Self) {
        self.combine(other, i64::max);
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

    /// `containers` and `init` are milli-CPU requests; a leading `+` marks a sidecar.
    #[track_caller]
    fn check(containers: &[&str], init: &[&str], expected: i64) {
        let container = |text: &&str| {
            let cpu = text.trim_start_matches('+');
            json!({
                "name": "x",
                "restartPolicy": text.starts_with('+').then_some("Always"),
                "resources": {"requests": {"cpu": format!("{cpu}m")}},
            })
        };
        let list = |texts: &[&str]| texts.iter().map(container).collect::<Vec<_>>();
        let spec = json!({"containers": list(containers), "initContainers": list(init)});
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        assert_eq!(Resources::of_pod(&spec).milli_cpu, expected);
    }

    #[test]
    fn a_pod_needs_what_it_needs_at_its_most() {
        check(&["100", "200"], &[], 300);
        check(&["100"], &["50"], 100);
        check(&["100"], &["500", "200"], 500);
        check(&["100"], &["+50"], 150);
        check(&["100"], &["+50", "300"], 350);
        check(&["100"], &["300", "+50"], 300);
    }

    #[test]
    fn pods_without_requests_count_for_scoring_only() {
        let spec = serde_json::from_value(json!({"containers": [{"name": "x"}]})).unwrap();
        assert_eq!(Resources::of_pod(&spec), Resources::default());
        assert_eq!(Resources::of_pod_for_scoring(&spec).milli_cpu, MILLI_CPU_ASSUMED);
    }
}
