//! Whether a pod that is bound to this node fits on it, beside those that are here: upstream
//! `predicateAdmitHandler` (pkg/kubelet/lifecycle/predicate.go, v1.35). Pure.
//!
//! The scheduler has looked at the same before; this is for pods that were bound by hand, run from
//! files, or placed while the node changed.

use super::admission::Refusal;
use crate::api::host_port::{HostPort, conflict, host_ports};
use crate::api::node_selector::{NodeIdentity, pod_may_use, tolerates};
use crate::api::pod::{
    Amounts, CRITICAL_PRIORITY, QosClass, amounts, is_extended_resource, qos_class, requests,
};
use crate::kubelet::static_pods::{is_static, mirrored};
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec, Taint};

/// What a pod that this node has taken needs of it.
#[derive(Clone, Debug)]
pub struct Occupant {
    pub uid: String,
    pub requests: Amounts,
    pub ports: Vec<HostPort>,
    pub priority: Option<i32>,
    pub is_critical: bool,
    pub class: QosClass,
}

impl Occupant {
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let none = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&none);
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            requests: requests(spec),
            ports: host_ports(spec),
            priority: spec.priority,
            is_critical: is_critical(pod),
            class: qos_class(spec),
        }
    }

    /// As messages count it: processor time in thousandths, everything else in units.
    #[must_use]
    pub fn request(&self, resource: &str) -> i64 {
        if resource == PODS { 1 } else { count(&self.requests, resource) }
    }
}

/// Whether the node does not go without the pod: upstream `IsCriticalPod` (pkg/kubelet/types/
/// pod_update.go, v1.35).
#[must_use]
pub fn is_critical(pod: &Pod) -> bool {
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority);
    is_static(pod)
        || mirrored(pod).is_some()
        || priority.is_some_and(|priority| priority >= CRITICAL_PRIORITY)
}

const PODS: &str = "pods";

fn count(amounts: &Amounts, resource: &str) -> i64 {
    amounts.get(resource).map_or(0, |amount| match resource {
        "cpu" => amount.milli_units(),
        _ => amount.units(),
    })
}

/// There is not enough of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shortage {
    pub(super) resource: String,
    requested: i64,
    used: i64,
    capacity: i64,
}

impl Shortage {
    /// So much more of it there would have to be.
    #[must_use]
    pub(super) fn missing(&self) -> i64 {
        self.requested.saturating_sub(self.capacity.saturating_sub(self.used))
    }
}

/// Why a pod does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    Short(Shortage),
    /// Nobody could make room for it.
    Other {
        predicate: &'static str,
        description: &'static str,
    },
}

impl Misfit {
    /// In the words of the pod's status.
    #[must_use]
    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::Short(Shortage { resource, requested, used, capacity }) => Refusal {
                reason: format!("OutOf{resource}").into(),
                message: format!(
                    "Node didn't have enough resource: {resource}, requested: {requested}, used: \
                     {used}, capacity: {capacity}"
                ),
            },
            Self::Other { predicate, description } => Refusal {
                reason: (*predicate).into(),
                message: format!("Predicate {predicate} failed: {description}"),
            },
        }
    }
}

/// Everything that is wrong, in upstream's order: see `AdmissionCheck` (pkg/scheduler/scheduler.go).
#[must_use]
pub(super) fn misfits(pod: &Pod, node: &Node, others: &[Occupant]) -> Vec<Misfit> {
    let other = |predicate, description| Misfit::Other { predicate, description };
    let mut misfits: Vec<_> =
        shortages(&Occupant::of(pod), node, others).into_iter().map(Misfit::Short).collect();
    let spec = pod.spec.clone().unwrap_or_default();
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let labels = node.metadata.labels.as_ref();
    if !pod_may_use(&spec, NodeIdentity { name, labels }) {
        misfits.push(other("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
    }
    let taken: Vec<_> = others.iter().flat_map(|other| other.ports.clone()).collect();
    if conflict(&host_ports(&spec), &taken) {
        let description = "node(s) didn't have free ports for the requested pod ports";
        misfits.push(other("NodePorts", description));
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let drives_away = |taint: &Taint| taint.effect == "NoExecute" && !tolerates(tolerations, taint);
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    if !is_static(pod) && taints.any(drives_away) {
        let description = "node(s) had taints that the pod didn't tolerate";
        misfits.push(other("TaintToleration", description));
    }
    misfits
}

/// Upstream `fitsRequest` (pkg/scheduler/framework/plugins/noderesources/fit.go), without the
/// extended resources that the node does not have: they may be the cluster's.
fn shortages(pod: &Occupant, node: &Node, others: &[Occupant]) -> Vec<Shortage> {
    let have = amounts(node.status.as_ref().and_then(|status| status.allocatable.as_ref()));
    let mut shortages = Vec::new();
    let (used, capacity) = (i64::try_from(others.len()).unwrap_or(i64::MAX), count(&have, PODS));
    if used.saturating_add(1) > capacity {
        shortages.push(Shortage { resource: PODS.to_owned(), requested: 1, used, capacity });
    }
    let rest = pod.requests.keys().map(String::as_str);
    let rest = rest.filter(|name| !COUNTED_FIRST.contains(name));
    for name in COUNTED_FIRST.into_iter().chain(rest) {
        let requested = count(&pod.requests, name);
        if requested <= 0 || (is_extended_resource(name) && !have.contains_key(name)) {
            continue;
        }
        let used = others.iter().map(|other| count(&other.requests, name));
        let used = used.fold(0, i64::saturating_add);
        let capacity = count(&have, name);
        if requested > capacity.saturating_sub(used) {
            shortages.push(Shortage { resource: name.to_owned(), requested, used, capacity });
        }
    }
    shortages
}

const COUNTED_FIRST: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::{Value, json};

    pub(in crate::kubelet::pod) fn pod(uid: &str, requests: Value, spec: Value) -> Pod {
        let mut spec = spec;
        let ports = spec["ports"].take();
        let resources = json!({ "requests": requests });
        spec["containers"] = json!([{ "name": "a", "resources": resources, "ports": ports }]);
        let object = json!({ "metadata": { "uid": uid }, "spec": spec });
        serde_json::from_value(object).unwrap()
    }

    pub(in crate::kubelet::pod) fn node() -> Node {
        serde_json::from_value(json!({
            "metadata": { "name": "one", "labels": { "zone": "a" } },
            "spec": { "taints": [
                { "key": "gone", "effect": "NoExecute" }, { "key": "busy", "effect": "NoSchedule" },
            ] },
            "status": { "allocatable": {
                "cpu": "2", "memory": "1Gi", "pods": "2", "example.com/dongle": "1",
            } },
        }))
        .unwrap()
    }

    /// What everybody here has to tolerate.
    fn spec(more: Value) -> Value {
        let mut spec = more;
        spec["tolerations"] = json!([{ "key": "gone", "operator": "Exists" }]);
        spec
    }

    #[track_caller]
    fn check(pod: &Pod, others: &[Pod], expected: &[(&str, &str)]) {
        let others: Vec<_> = others.iter().map(Occupant::of).collect();
        let found = misfits(pod, &node(), &others);
        let found: Vec<_> = found.iter().map(Misfit::refusal).collect();
        let found: Vec<_> = found.iter().map(|it| (&*it.reason, &*it.message)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn pods_that_were_bound_by_hand_have_to_fit() {
        let asks = |cpu: &str| json!({ "cpu": cpu });
        let plain = |uid, requests| pod(uid, requests, spec(json!({})));
        check(&plain("p", asks("2")), &[], &[]);
        check(
            &plain("p", asks("1500m")),
            &[plain("q", asks("600m"))],
            &[(
                "OutOfcpu",
                "Node didn't have enough resource: cpu, requested: 1500, used: 600, capacity: 2000",
            )],
        );
        let two = [plain("q", json!({})), plain("r", json!({}))];
        check(
            &plain("p", json!({ "memory": "2Gi" })),
            &two,
            &[
                (
                    "OutOfpods",
                    "Node didn't have enough resource: pods, requested: 1, used: 2, capacity: 2",
                ),
                (
                    "OutOfmemory",
                    "Node didn't have enough resource: memory, requested: 2147483648, used: 0, \
                     capacity: 1073741824",
                ),
            ],
        );
        check(
            &plain("p", json!({ "example.com/dongle": "2", "example.com/other": "1" })),
            &[],
            &[(
                "OutOfexample.com/dongle",
                "Node didn't have enough resource: example.com/dongle, requested: 2, used: 0, \
                 capacity: 1",
            )],
        );
    }

    #[test]
    fn labels_ports_and_taints_are_looked_at_again() {
        let elsewhere = pod("p", json!({}), spec(json!({ "nodeSelector": { "zone": "b" } })));
        let affinity =
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        check(&elsewhere, &[], &[("NodeAffinity", affinity)]);
        let port = json!({ "ports": [{ "containerPort": 80, "hostPort": 80 }] });
        let listening = |uid| pod(uid, json!({}), spec(port.clone()));
        let ports = "Predicate NodePorts failed: node(s) didn't have free ports for the requested \
                     pod ports";
        check(&listening("p"), &[listening("q")], &[("NodePorts", ports)]);
        let taints =
            "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate";
        check(&pod("p", json!({}), json!({})), &[], &[("TaintToleration", taints)]);
        let mut from_file = pod("p", json!({}), json!({}));
        let source = ("kubernetes.io/config.source".to_owned(), "file".to_owned());
        from_file.metadata.annotations = Some([source].into());
        check(&from_file, &[], &[]);
    }
}
