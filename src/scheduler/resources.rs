//! What pods ask for and what nodes have, in whole numbers that add up exactly.

use crate::api::Quantity;
use crate::api::pod;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Node, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource;
use std::borrow::Cow;
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

    /// Of huge pages, devices and the like.
    pub(super) fn other(&self, name: &str) -> i64 {
        self.others.get(name).copied().unwrap_or_default()
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

/// The spec with each request at least what the container was given: a container that is being made
/// smaller still has what it had (upstream `PodRequests` with `UseStatusResources`,
/// component-helpers/resource, v1.35).
pub(super) fn with_actual_sizes<'a>(pod: &Pod, spec: &'a PodSpec) -> Cow<'a, PodSpec> {
    let Some(status) = &pod.status else { return Cow::Borrowed(spec) };
    let told = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let sized: Vec<_> = told.filter(|one| actual(one).next().is_some()).collect();
    if sized.is_empty() {
        return Cow::Borrowed(spec);
    }
    let mut spec = spec.clone();
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let status = sized.iter().find(|status| status.name == container.name);
        for (name, amount) in status.into_iter().flat_map(|status| actual(status)) {
            raise(container, name, amount);
        }
    }
    Cow::Owned(spec)
}

/// What the container has, and what it was promised.
fn actual(status: &ContainerStatus) -> impl Iterator<Item = (&String, &resource::Quantity)> {
    let has = status.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    has.into_iter().chain(&status.allocated_resources).flatten()
}

fn raise(container: &mut Container, name: &str, amount: &resource::Quantity) {
    let resources = container.resources.get_or_insert_default();
    let requests = resources.requests.get_or_insert_default();
    let wanted = requests.entry(name.to_owned()).or_insert_with(|| amount.clone());
    if Quantity::of(wanted) < Quantity::of(amount) {
        wanted.clone_from(amount);
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

    #[test]
    fn a_container_that_shrinks_keeps_its_room_until_it_has() {
        let container = |cpu: &str| json!({"name": "x", "resources": {"requests": {"cpu": cpu}}});
        for (wanted, has, expected) in [("1", "2", 2000), ("3", "2", 3000)] {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {},
                "spec": {"containers": [container(wanted)]},
                "status": {"containerStatuses": [{
                    "name": "x", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "resources": {"requests": {"cpu": has}},
                }]},
            }))
            .unwrap();
            let spec = with_actual_sizes(&pod, pod.spec.as_ref().unwrap());
            assert_eq!(Resources::of_pod(&spec).milli_cpu, expected);
        }
    }
}
