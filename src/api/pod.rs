//! Facts about pods that several components need: how far along one is, and what it asks for.

use super::Quantity;
use k8s_openapi::api::core::v1::{
    Container, EphemeralContainer, Pod, PodCondition, PodSpec, PodStatus, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource;
use std::collections::BTreeMap;

/// Amounts by the name of the resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`; empty before the first status.
#[must_use]
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether all containers have ended for good (upstream `IsPodPhaseTerminal`).
#[must_use]
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod counts for its controller: neither ended nor on its way out (upstream
/// `IsPodActive`, pkg/controller/controller_utils.go, v1.35).
#[must_use]
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Whether the pod has a node.
#[must_use]
pub fn is_bound(pod: &Pod) -> bool {
    node_name(pod).is_some()
}

/// The node that the pod is bound to.
#[must_use]
pub fn node_name(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    spec.node_name.as_deref().filter(|name| !name.is_empty())
}

/// The condition of this type.
#[must_use]
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    status_condition(pod.status.as_ref()?, kind)
}

/// The condition of this type in a status that may not be a pod's yet.
#[must_use]
pub fn status_condition<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a PodCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Whether an init container goes on beside the containers after it has started.
#[must_use]
pub fn is_sidecar(init_container: &Container) -> bool {
    init_container.restart_policy.as_deref() == Some("Always")
}

/// What an ephemeral container has in common with others.
#[must_use]
pub fn as_container(one: &EphemeralContainer) -> Container {
    let one = one.clone();
    Container {
        args: one.args,
        command: one.command,
        env: one.env,
        env_from: one.env_from,
        image: one.image,
        image_pull_policy: one.image_pull_policy,
        lifecycle: one.lifecycle,
        liveness_probe: one.liveness_probe,
        name: one.name,
        ports: one.ports,
        readiness_probe: one.readiness_probe,
        resize_policy: one.resize_policy,
        resources: one.resources,
        restart_policy: one.restart_policy,
        restart_policy_rules: one.restart_policy_rules,
        security_context: one.security_context,
        startup_probe: one.startup_probe,
        stdin: one.stdin,
        stdin_once: one.stdin_once,
        termination_message_path: one.termination_message_path,
        termination_message_policy: one.termination_message_policy,
        tty: one.tty,
        volume_devices: one.volume_devices,
        volume_mounts: one.volume_mounts,
        working_dir: one.working_dir,
    }
}

/// What the scheduler and the node set aside for the pod: the larger of what its containers need
/// together and what its init containers need one after another, what the pod as a whole asks
/// for, and the overhead (upstream `PodRequests`, component-helpers/resource, v1.35).
#[must_use]
pub fn requests(spec: &PodSpec) -> Amounts {
    requests_assuming(spec, &Amounts::new())
}

/// As [`requests`], where a container that does not ask for one of `assumed` counts as asking for
/// that much of it.
#[must_use]
pub fn requests_assuming(spec: &PodSpec, assumed: &Amounts) -> Amounts {
    let mut total = aggregate(spec, |resources| resources.requests.as_ref(), assumed);
    for (name, amount) in pod_level(spec, |resources| resources.requests.as_ref()) {
        total.insert(name, amount);
    }
    add(&mut total, &amounts(spec.overhead.as_ref()));
    total
}

/// What the pod may use at most; a resource without a limit is absent (upstream `PodLimits`).
#[must_use]
pub fn limits(spec: &PodSpec) -> Amounts {
    let mut total = container_limits(spec);
    for (name, amount) in pod_level(spec, |resources| resources.limits.as_ref()) {
        total.insert(name, amount);
    }
    for (name, overhead) in amounts(spec.overhead.as_ref()) {
        if let Some(limit) = total.get_mut(&name).filter(|limit| !limit.is_zero()) {
            *limit += overhead;
        }
    }
    total
}

/// As [`requests`], of the containers alone (upstream `AggregateContainerRequests`).
#[must_use]
pub fn container_requests(spec: &PodSpec) -> Amounts {
    aggregate(spec, |resources| resources.requests.as_ref(), &Amounts::new())
}

/// As [`limits`], of the containers alone (upstream `AggregateContainerLimits`).
#[must_use]
pub fn container_limits(spec: &PodSpec) -> Amounts {
    aggregate(spec, |resources| resources.limits.as_ref(), &Amounts::new())
}

/// Resources that can be asked for by the pod as a whole.
#[must_use]
pub fn is_pod_level_resource(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Whether the resource is of a domain that is not Kubernetes' own: upstream `IsExtendedResourceName`
/// (pkg/apis/core/v1/helper/helpers.go, v1.35).
#[must_use]
pub fn is_extended_resource(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

type Pick = fn(&ResourceRequirements) -> Option<&BTreeMap<String, resource::Quantity>>;

fn pod_level(spec: &PodSpec, pick: Pick) -> Amounts {
    let mut all = amounts(spec.resources.as_ref().and_then(pick));
    all.retain(|name, _| is_pod_level_resource(name));
    all
}

fn aggregate(spec: &PodSpec, pick: Pick, assumed: &Amounts) -> Amounts {
    let of = |container: &Container| {
        let mut all = assumed.clone();
        all.extend(amounts(container.resources.as_ref().and_then(pick)));
        all
    };
    let mut total = Amounts::new();
    for container in &spec.containers {
        add(&mut total, &of(container));
    }
    // While one init container runs, so do the sidecars before it.
    let mut sidecars = Amounts::new();
    let mut while_starting = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let mut needed = of(container);
        if is_sidecar(container) {
            add(&mut total, &needed);
            add(&mut sidecars, &needed);
            needed.clone_from(&sidecars);
        } else {
            add(&mut needed, &sidecars);
        }
        raise(&mut while_starting, needed);
    }
    raise(&mut total, while_starting);
    total
}

/// The quantities of a field.
#[must_use]
pub fn amounts(field: Option<&BTreeMap<String, resource::Quantity>>) -> Amounts {
    let all = field.into_iter().flatten();
    all.map(|(name, amount)| (name.clone(), Quantity::of(amount))).collect()
}

fn add(total: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        *total.entry(name.clone()).or_default() += *amount;
    }
}

fn raise(total: &mut Amounts, other: Amounts) {
    for (name, amount) in other {
        let known = total.entry(name).or_insert(amount);
        *known = (*known).max(amount);
    }
}

/// Pods of this priority are critical: upstream `SystemCriticalPriority`.
pub const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// How the node treats the pod when memory runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QosClass {
    /// Every container has limits on cpu and memory, and asks for as much.
    Guaranteed,
    /// Something is asked for or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl QosClass {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// Upstream `ComputePodQOS` (pkg/apis/core/helper/qos, v1.35). Ephemeral containers do not count:
/// they have no resources.
#[must_use]
pub fn qos_class(spec: &PodSpec) -> QosClass {
    let whole_pod = spec.resources.as_ref();
    let each = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let parts: Vec<&ResourceRequirements> = match whole_pod {
        Some(resources) => vec![resources],
        None => each().filter_map(|container| container.resources.as_ref()).collect(),
    };
    let some_without_resources =
        whole_pod.is_none() && each().any(|container| container.resources.is_none());
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    let mut all_limited = !some_without_resources;
    for part in parts {
        add(&mut requests, &compute_amounts(part.requests.as_ref()));
        let part_limits = compute_amounts(part.limits.as_ref());
        // A pod that only asks, as a whole, is compared by what it asks for.
        let is_exempt = whole_pod.is_some() && part.limits.iter().all(BTreeMap::is_empty);
        all_limited &= is_exempt || part_limits.len() == 2;
        add(&mut limits, &part_limits);
    }
    match (requests.is_empty() && limits.is_empty(), all_limited && requests == limits) {
        (true, _) => QosClass::BestEffort,
        (false, true) => QosClass::Guaranteed,
        (false, false) => QosClass::Burstable,
    }
}

/// The amounts of cpu and memory that are more than nothing.
fn compute_amounts(field: Option<&BTreeMap<String, resource::Quantity>>) -> Amounts {
    let mut all = amounts(field);
    all.retain(|name, amount| {
        matches!(name.as_str(), "cpu" | "memory") && !amount.is_zero() && !amount.is_negative()
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(value: Value) -> PodSpec {
        serde_json::from_value(value).unwrap()
    }

    fn render(amounts: &Amounts) -> String {
        let pairs: Vec<_> =
            amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        pairs.join(" ")
    }

    #[test]
    fn init_containers_and_sidecars_count_while_they_run() {
        let cpu = |amount: &str| json!({"name": "c", "resources": {"requests": {"cpu": amount}, "limits": {"cpu": amount}}});
        let sidecar = |amount: &str| {
            let mut container = cpu(amount);
            container["restartPolicy"] = json!("Always");
            container
        };
        for (containers, init_containers, expected) in [
            (vec![cpu("1"), cpu("500m")], vec![], "cpu=1500m"),
            (vec![cpu("1")], vec![cpu("3"), cpu("2")], "cpu=3"),
            (vec![cpu("1")], vec![sidecar("1"), cpu("3")], "cpu=4"),
            (vec![cpu("1")], vec![cpu("3"), sidecar("1")], "cpu=3"),
            (vec![cpu("1")], vec![sidecar("1"), sidecar("2")], "cpu=4"),
        ] {
            let pod = spec(json!({"containers": containers, "initContainers": init_containers}));
            assert_eq!(render(&requests(&pod)), expected);
            assert_eq!(render(&limits(&pod)), expected);
        }
    }

    #[test]
    fn overhead_and_pod_level_amounts() {
        let pod = spec(json!({
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "0"}}}],
            "resources": {"requests": {"cpu": "3", "example.com/x": "1"}, "limits": {"memory": "4Gi"}},
            "overhead": {"cpu": "100m", "memory": "1Mi"},
        }));
        assert_eq!(render(&requests(&pod)), "cpu=3100m memory=1025Mi");
        assert_eq!(render(&limits(&pod)), "cpu=0 memory=4097Mi");
    }

    #[test]
    fn qos_classes() {
        let container = |resources: Value| json!({"name": "c", "resources": resources});
        let full = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1Gi"}});
        for (pod, expected) in [
            (json!({"containers": [{"name": "c"}]}), QosClass::BestEffort),
            (
                json!({"containers": [container(json!({"requests": {"cpu": "0"}}))]}),
                QosClass::BestEffort,
            ),
            (
                json!({"containers": [container(json!({"requests": {"example.com/x": "1"}}))]}),
                QosClass::BestEffort,
            ),
            (
                json!({"containers": [container(json!({"requests": {"cpu": "1"}}))]}),
                QosClass::Burstable,
            ),
            (json!({"containers": [container(full.clone())]}), QosClass::Guaranteed),
            (json!({"containers": [container(full.clone()), {"name": "d"}]}), QosClass::Burstable),
            (
                json!({"containers": [container(full.clone())], "initContainers": [container(json!({}))]}),
                QosClass::Burstable,
            ),
            (json!({"containers": [{"name": "c"}], "resources": full}), QosClass::Guaranteed),
            (
                json!({"containers": [{"name": "c"}], "resources": {"requests": {"cpu": "1"}}}),
                QosClass::Burstable,
            ),
        ] {
            assert_eq!(qos_class(&spec(pod.clone())), expected, "{pod}");
        }
    }

    #[test]
    fn how_far_along() {
        let pod = |value: Value| -> Pod { serde_json::from_value(value).unwrap() };
        let running = pod(json!({"metadata": {}, "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True"},
        ]}}));
        assert!(is_active(&running) && is_ready(&running) && !is_bound(&running));
        let dying = pod(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        assert!(!is_active(&dying) && !is_ready(&dying));
        let failed = pod(json!({"metadata": {}, "status": {"phase": "Failed"}}));
        assert!(is_terminal(&failed) && !is_active(&failed));
    }
}
