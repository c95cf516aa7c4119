//! In-place resize: what a pod's containers have been granted, and what they run with. Pure.
//!
//! Follows upstream pkg/kubelet/allocation/allocation_manager.go and `computePodResizeAction`
//! (pkg/kubelet/kuberuntime/kuberuntime_manager.go), v1.35. Where upstream keeps what it granted in
//! files of its own, here it is what the API shows of containers that run: that is where a new
//! worker begins.
//!
//! A pod is planned with what it was granted in the place of what its spec asks for, so that only
//! this file knows that the two may differ.

use super::bound::BoundPod;
use super::facts::ContainerFacts;
use super::plan::Observed;
use crate::api::pod::{Amounts, amounts, is_sidecar};
use crate::kubelet::container::resources::limits_of_container;
use crate::runtime::{ContainerId, LinuxResources, RUNTIME_NAME};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, ResourceRequirements};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What can be changed while a container runs.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// What the containers of a pod have been granted, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allocation(BTreeMap<String, ResourceRequirements>);

impl Allocation {
    /// All that the spec asks for.
    #[must_use]
    pub fn of(object: &Pod) -> Self {
        let asked = resizable(object).map(|container| {
            (container.name.clone(), container.resources.clone().unwrap_or_default())
        });
        Self(asked.collect())
    }

    /// What an earlier worker granted: containers that run have it.
    #[must_use]
    pub fn infer(object: &Pod) -> Self {
        let mut allocation = Self::of(object);
        let status = object.status.as_ref();
        let init = status.and_then(|status| status.init_container_statuses.as_deref());
        let app = status.and_then(|status| status.container_statuses.as_deref());
        for known in [init, app].into_iter().flatten().flatten() {
            let runs = known.state.as_ref().is_some_and(|state| state.running.is_some());
            let granted = allocation.0.get_mut(&known.name).filter(|_| runs);
            if let (Some(granted), Some(resources)) = (granted, &known.resources)
                && !same(granted, resources)
            {
                *granted = resources.clone();
            }
        }
        allocation
    }

    /// Whether the spec asks for something else.
    #[must_use]
    pub fn differs_from(&self, object: &Pod) -> bool {
        let none = ResourceRequirements::default();
        resizable(object).any(|container| {
            let asked = container.resources.as_ref().unwrap_or(&none);
            self.0.get(&container.name).is_some_and(|granted| !same(granted, asked))
        })
    }

    /// The pod as it has been granted.
    #[must_use]
    pub fn applied_to(&self, object: &Arc<Pod>) -> Arc<Pod> {
        if !self.differs_from(object) {
            return Arc::clone(object);
        }
        let mut pod = Pod::clone(object);
        if let Some(spec) = &mut pod.spec {
            for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
                if let Some(granted) = self.0.get(&container.name) {
                    container.resources = Some(granted.clone());
                }
            }
        }
        Arc::new(pod)
    }
}

/// Containers that can be resized.
fn resizable(object: &Pod) -> impl Iterator<Item = &Container> {
    let spec = object.spec.iter();
    spec.flat_map(|spec| {
        let init = spec.init_containers.iter().flatten();
        init.filter(|container| is_sidecar(container)).chain(&spec.containers)
    })
}

/// Whether two ask for the same, however that is written.
fn same(left: &ResourceRequirements, right: &ResourceRequirements) -> bool {
    let all =
        |of: &ResourceRequirements| (amounts(of.requests.as_ref()), amounts(of.limits.as_ref()));
    all(left) == all(right)
}

/// Why what a pod asks for is not granted, in the words of its condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// `Deferred` or `Infeasible`.
    pub reason: &'static str,
    pub message: String,
}

/// Whether a pod that asks for `asked` fits beside what the others were granted: upstream
/// `canResizePod`.
///
/// # Errors
/// Where it does not, now or ever.
pub fn fits(asked: &Amounts, others: &Amounts, allocatable: &Amounts) -> Result<(), Denied> {
    let of = |amounts: &Amounts, name: &str| match (name, amounts.get(name)) {
        (_, None) => 0,
        ("cpu", Some(amount)) => amount.milli_units(),
        (_, Some(amount)) => amount.units(),
    };
    // Memory first: upstream tells of it where both are too much.
    for name in ["memory", "cpu"] {
        let (asked, capacity) = (of(asked, name), of(allocatable, name));
        if asked > capacity {
            let message = format!(
                "Node didn't have enough capacity: {name}, requested: {asked}, capacity: {capacity}"
            );
            return Err(Denied { reason: "Infeasible", message });
        }
    }
    for name in ["cpu", "memory"] {
        let (asked, used, capacity) = (of(asked, name), of(others, name), of(allocatable, name));
        if asked.saturating_add(used) > capacity {
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {asked}, used: {used}, \
                 capacity: {capacity}"
            );
            return Err(Denied { reason: "Deferred", message });
        }
    }
    Ok(())
}

/// A container that runs and is to be given other limits, in two steps: what shrinks first, so
/// that all containers together never have more than their pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resize {
    pub container: ContainerId,
    pub name: String,
    /// What it has, where that is less than what it will have. `None`: nothing shrinks.
    pub shrink: Option<LinuxResources>,
    pub then: LinuxResources,
}

/// The containers that run with other limits than the pod has been granted, but for those that
/// have to be restarted for it.
pub(super) fn resizes(observed: &Observed<'_>) -> Vec<Resize> {
    let mut resizes = Vec::new();
    for spec in resizable(observed.pod.object()) {
        let latest = observed.facts.latest(&spec.name).filter(|latest| latest.is_running());
        let Some(latest) = latest else { continue };
        if in_sync(observed.pod, spec, latest) || needs_restart(observed.pod, spec, latest) {
            continue;
        }
        let then = limits_of_container(observed.pod, spec);
        let least = least(&latest.status.resources, &then);
        resizes.push(Resize {
            container: latest.status.id.clone(),
            name: spec.name.clone(),
            shrink: (!same_limits(&least, &latest.status.resources)).then_some(least),
            then,
        });
    }
    resizes
}

/// Whether a container that runs has what the pod has been granted.
pub(super) fn in_sync(pod: &BoundPod, spec: &Container, latest: &ContainerFacts) -> bool {
    same_limits(&limits_of_container(pod, spec), &latest.status.resources)
}

fn same_limits(left: &LinuxResources, right: &LinuxResources) -> bool {
    let limits =
        |of: &LinuxResources| (of.cpu_shares, of.cpu_quota, of.cpu_period, of.memory_limit_bytes);
    limits(left) == limits(right)
}

/// The lesser of both, limit by limit. None is more than any.
fn least(has: &LinuxResources, wanted: &LinuxResources) -> LinuxResources {
    fn lesser<N: Ord>(left: Option<N>, right: Option<N>) -> Option<N> {
        match (left, right) {
            (Some(left), Some(right)) => Some(left.min(right)),
            (left, right) => left.or(right),
        }
    }
    LinuxResources {
        cpu_shares: lesser(has.cpu_shares, wanted.cpu_shares),
        cpu_quota: lesser(has.cpu_quota, wanted.cpu_quota),
        cpu_period: has.cpu_period.or(wanted.cpu_period),
        memory_limit_bytes: lesser(has.memory_limit_bytes, wanted.memory_limit_bytes),
        ..has.clone()
    }
}

/// Whether a container that runs has to be started anew to get what it was granted: it says so of
/// a resource that differs from what the API shows of this very container.
pub(super) fn needs_restart(pod: &BoundPod, spec: &Container, latest: &ContainerFacts) -> bool {
    let policies = spec.resize_policy.as_deref().unwrap_or_default();
    let mut restarting =
        policies.iter().filter(|policy| policy.restart_policy == "RestartContainer");
    let Some(known) = shown(pod, latest).and_then(|status| status.resources.as_ref()) else {
        return false;
    };
    let none = ResourceRequirements::default();
    let granted = spec.resources.as_ref().unwrap_or(&none);
    restarting.any(|policy| {
        RESIZABLE.contains(&policy.resource_name.as_str())
            && amounts_of(granted, &policy.resource_name)
                != amounts_of(known, &policy.resource_name)
    })
}

/// What the API shows of this very container.
fn shown<'a>(pod: &'a BoundPod, latest: &ContainerFacts) -> Option<&'a ContainerStatus> {
    let id = format!("{RUNTIME_NAME}://{}", latest.status.id);
    let status = pod.object().status.as_ref()?;
    let lists = [&status.init_container_statuses, &status.container_statuses];
    let mut all = lists.into_iter().flatten().flatten();
    all.find(|status| status.container_id.as_deref() == Some(&id))
}

fn amounts_of(resources: &ResourceRequirements, name: &str) -> [Option<crate::api::Quantity>; 2] {
    [&resources.requests, &resources.limits].map(|it| amounts(it.as_ref()).get(name).copied())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{bound, facts, object};
    use super::super::plan::Memory;
    use super::super::probes::Probes;
    use super::*;
    use serde_json::{Value, json};

    fn given(list: Value) -> ResourceRequirements {
        serde_json::from_value(list).unwrap()
    }

    fn asking(cpu: &str, memory: &str) -> Pod {
        let mut pod = object("Always", &[], &["a".to_owned()]);
        let limits = json!({ "limits": { "cpu": cpu, "memory": memory } });
        pod.spec.as_mut().unwrap().containers[0].resources = Some(given(limits));
        pod
    }

    /// `a: shrinks, then 500m/64Mi`; what runs has one processor and 128 MiB.
    #[track_caller]
    fn check(cpu: &str, memory: &str, expected: &str) {
        let pod = bound(asking(cpu, memory));
        let mut facts = facts("s0 a:0@s0=run");
        let before = bound(asking("1", "128Mi"));
        facts.give("a", limits_of_container(&before, &before.containers()[0]));
        let observed = Observed {
            pod: &pod,
            facts: &facts,
            memory: &Memory::default(),
            probes: &Probes::default(),
            now: super::super::fixtures::at(1_000),
        };
        let words: Vec<_> = resizes(&observed)
            .iter()
            .map(|it| {
                let show = |limits: &LinuxResources| {
                    let quota = limits.cpu_quota.unwrap_or_default() / 100;
                    format!("{quota}m/{}Mi", limits.memory_limit_bytes.unwrap_or_default() >> 20)
                };
                let shrink = it.shrink.as_ref().map_or("-".to_owned(), show);
                format!("{}: {shrink}, then {}", it.name, show(&it.then))
            })
            .collect();
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn what_shrinks_goes_first() {
        check("1", "128Mi", "");
        check("1000m", "0.125Gi", "");
        check("2", "256Mi", "a: -, then 2000m/256Mi");
        check("500m", "64Mi", "a: 500m/64Mi, then 500m/64Mi");
        check("500m", "256Mi", "a: 500m/128Mi, then 500m/256Mi");
    }

    #[test]
    fn what_runs_tells_what_was_granted() {
        let mut pod = asking("2", "1Gi");
        assert!(!Allocation::infer(&pod).differs_from(&pod));
        pod.status = serde_json::from_value(json!({ "containerStatuses": [{
            "name": "a", "ready": true, "restartCount": 0, "image": "", "imageID": "",
            "state": { "running": {} },
            "resources": { "limits": { "cpu": "1", "memory": "1024Mi" } },
        }] }))
        .unwrap();
        let inferred = Allocation::infer(&pod);
        assert!(inferred.differs_from(&pod));
        let granted = inferred.applied_to(&Arc::new(pod.clone()));
        let limits = granted.spec.as_ref().unwrap().containers[0].resources.clone().unwrap();
        assert_eq!(limits.limits.unwrap()["cpu"].0, "1");
        assert!(!Allocation::of(&pod).differs_from(&pod));
    }

    #[test]
    fn what_does_not_fit_waits_or_never_will() {
        let of = |cpu: &str, memory: &str| {
            amounts(given(json!({ "limits": { "cpu": cpu, "memory": memory } })).limits.as_ref())
        };
        let node = of("4", "1Ki");
        let check = |asked: Amounts, others: Amounts, expected: Option<(&str, &str)>| {
            let denied = fits(&asked, &others, &node).err();
            assert_eq!(denied.as_ref().map(|it| (it.reason, it.message.as_str())), expected);
        };
        check(of("2", "1"), of("2", "1"), None);
        check(
            of("2500m", "1"),
            of("2", "1"),
            Some((
                "Deferred",
                "Node didn't have enough resource: cpu, requested: 2500, used: 2000, capacity: 4000",
            )),
        );
        check(
            of("5", "2Ki"),
            of("0", "0"),
            Some((
                "Infeasible",
                "Node didn't have enough capacity: memory, requested: 2048, capacity: 1024",
            )),
        );
    }

    #[test]
    fn containers_may_ask_to_be_restarted() {
        let mut pod = asking("2", "128Mi");
        let policy = json!([{ "resourceName": "cpu", "restartPolicy": "RestartContainer" }]);
        pod.spec.as_mut().unwrap().containers[0].resize_policy =
            Some(serde_json::from_value(policy).unwrap());
        pod.status = serde_json::from_value(json!({ "containerStatuses": [{
            "name": "a", "ready": true, "restartCount": 0, "image": "", "imageID": "",
            "containerID": "kinglet://a0",
            "resources": { "limits": { "cpu": "1", "memory": "128Mi" } },
        }] }))
        .unwrap();
        let (pod, facts) = (bound(pod), facts("s0 a:0@s0=run a:1@s0=run"));
        let restarts = |attempt: usize| {
            needs_restart(&pod, &pod.containers()[0], facts.of("a").nth(attempt).unwrap())
        };
        assert!(!restarts(0), "of another container nothing is known");
        assert!(restarts(1));
    }
}
