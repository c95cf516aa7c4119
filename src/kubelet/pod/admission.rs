//! Whether this node takes a pod that is bound to it: upstream's admit handlers, in their order
//! (pkg/kubelet/kubelet.go, v1.35). Pure.
//!
//! Start at [`admit`]. It is asked once for each pod, before anything of the pod is made.

use super::bound::BoundPod;
use super::fit::{Misfit, Occupant, is_critical, misfits};
use super::preempt::victims;
use crate::api::node_selector::tolerates;
use crate::api::pod::{QosClass, qos_class};
use crate::kubelet::eviction::plan::Pressure;
use k8s_openapi::api::core::v1::{AppArmorProfile, Node, Taint};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// What a pod may set in namespaces of its own without harm to others: upstream
/// pkg/kubelet/sysctl/safe_sysctls.go, v1.35. Kernels that kinglet runs on have them all.
const SAFE_SYSCTLS: [&str; 12] = [
    SHARED_MEMORY_SYSCTL,
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The one of them that belongs to the IPC namespace.
const SHARED_MEMORY_SYSCTL: &str = "kernel.shm_rmid_forced";

/// Why a pod is not taken, in the words of its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Cow<'static, str>,
    pub message: String,
}

impl Refusal {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason: Cow::Borrowed(reason), message: message.into() }
    }
}

/// What [`admit`] looks at besides the pod.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    pub node: &'a Node,
    /// The other pods that this node has taken.
    pub others: &'a [Occupant],
    /// What the node is short of.
    pub pressure: &'a BTreeSet<Pressure>,
    /// The machine goes down.
    pub is_going_down: bool,
    /// The node's kernel enforces AppArmor.
    pub has_apparmor: bool,
}

/// What becomes of a pod that is bound to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    Taken,
    /// As soon as these, by their uids, have gone.
    TakenAfter(Vec<String>),
    Refused(Refusal),
}

/// Decides.
#[must_use]
pub fn admit(pod: &BoundPod, around: &Surroundings<'_>) -> Admission {
    let refused = under_pressure(pod, around.pressure)
        .or_else(|| forbidden_sysctl(pod))
        .or_else(|| wrong_system(pod));
    if let Some(refusal) = refused {
        return Admission::Refused(refusal);
    }
    let place = match make_place(pod, around) {
        Ok(going) => going,
        Err(refusal) => return Admission::Refused(refusal),
    };
    let unenforced = unenforced_profile(pod).filter(|_| !around.has_apparmor);
    let refused = unenforced.or_else(|| {
        let message = "Pod was rejected as the node is shutting down.";
        around.is_going_down.then(|| Refusal::new("NodeShutdown", message))
    });
    match refused {
        Some(refusal) => Admission::Refused(refusal),
        None if place.is_empty() => Admission::Taken,
        None => Admission::TakenAfter(place),
    }
}

/// Upstream `managerImpl.Admit` (pkg/kubelet/eviction/eviction_manager.go, v1.35): nobody comes whom
/// the node would end at once.
fn under_pressure(pod: &BoundPod, pressure: &BTreeSet<Pressure>) -> Option<Refusal> {
    if pressure.is_empty() || is_critical(pod.object()) {
        return None;
    }
    let taint = Taint {
        key: "node.kubernetes.io/memory-pressure".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    let tolerations = pod.spec().tolerations.as_deref().unwrap_or_default();
    let is_spared = qos_class(pod.spec()) != QosClass::BestEffort || tolerates(tolerations, &taint);
    if is_spared && pressure.iter().all(|kind| *kind == Pressure::Memory) {
        return None;
    }
    let conditions: Vec<_> = pressure.iter().map(|kind| kind.condition()).collect();
    let message = format!("The node had condition: [{}]. ", conditions.join(" "));
    Some(Refusal::new("Evicted", message))
}

/// Upstream `rejectPodAdmissionBasedOnOSSelector` and `rejectPodAdmissionBasedOnOSField`
/// (pkg/kubelet/lifecycle/predicate.go, v1.35).
fn wrong_system(pod: &BoundPod) -> Option<Refusal> {
    let labels = pod.object().metadata.labels.as_ref();
    let label = labels.and_then(|labels| labels.get("kubernetes.io/os"));
    if label.is_some_and(|label| label != "linux") {
        let message =
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Some(Refusal::new("PodOSSelectorNodeLabelDoesNotMatch", message));
    }
    let is_other = pod.spec().os.as_ref().is_some_and(|os| os.name != "linux");
    is_other.then(|| {
        let message = "Failed to admit pod as the OS field doesn't match node OS";
        Refusal::new("PodOSNotSupported", message)
    })
}

/// Who has to go for the pod: nobody, where there is room; nobody goes for a pod that is not
/// critical, or that would not be taken all the same. Upstream `HandleAdmissionFailure`
/// (pkg/kubelet/preemption/preemption.go, v1.35).
fn make_place(pod: &BoundPod, around: &Surroundings<'_>) -> Result<Vec<String>, Refusal> {
    let misfits = misfits(pod.object(), around.node, around.others);
    let mut shortages = Vec::new();
    for misfit in &misfits {
        match misfit {
            Misfit::Short(shortage) if is_critical(pod.object()) => shortages.push(shortage),
            Misfit::Short(_) | Misfit::Other { .. } => return Err(misfit.refusal()),
        }
    }
    let found = victims(&Occupant::of(pod.object()), around.others, &shortages);
    found.map_err(|problem| {
        let message = format!(
            "Unexpected error while attempting to recover from admission failure: preemption: \
             error finding a set of pods to preempt: {problem}"
        );
        Refusal::new("UnexpectedAdmissionError", message)
    })
}

/// Upstream `patternAllowlist.Admit` (pkg/kubelet/sysctl/allowlist.go, v1.35).
fn forbidden_sysctl(pod: &BoundPod) -> Option<Refusal> {
    let spec = pod.spec();
    let sysctls = spec.security_context.iter().flat_map(|it| it.sysctls.iter().flatten());
    let mut problems = sysctls.filter_map(|sysctl| {
        let name = normalized(&sysctl.name);
        let shares = |with_host: Option<bool>| with_host == Some(true);
        if !SAFE_SYSCTLS.contains(&name.as_str()) {
            Some(format!("{name:?} not allowlisted"))
        } else if name == SHARED_MEMORY_SYSCTL && shares(spec.host_ipc) {
            Some(format!("{name:?} not allowed with host IPC enabled"))
        } else if name != SHARED_MEMORY_SYSCTL && shares(spec.host_network) {
            Some(format!("{name:?} not allowed with host net enabled"))
        } else {
            None
        }
    });
    let message = format!("forbidden sysctl: {}", problems.next()?);
    Some(Refusal::new("SysctlForbidden", message))
}

/// With the separators of `/proc/sys`, names are written with slashes; then dots are part of them.
fn normalized(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(first) if name.as_bytes()[first] == b'/' => name
            .chars()
            .map(|letter| match letter {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// Upstream `appArmorAdmitHandler.Admit` (pkg/kubelet/lifecycle/handlers.go, v1.35), for a node whose
/// kernel confines nothing: a pod that asks for it must not run without.
fn unenforced_profile(pod: &BoundPod) -> Option<Refusal> {
    let is_required = |profile: &AppArmorProfile| profile.type_ != "Unconfined";
    let of_pod = pod.spec().security_context.as_ref().and_then(|it| it.app_armor_profile.as_ref());
    let of_containers = pod
        .all_containers()
        .filter_map(|container| container.security_context.as_ref()?.app_armor_profile.as_ref());
    of_pod.into_iter().chain(of_containers).any(is_required).then(|| {
        let message = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        Refusal::new("AppArmor", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn pod(spec: Value) -> BoundPod {
        let mut spec = spec;
        spec.as_object_mut().unwrap().entry("containers").or_insert(json!([{ "name": "a" }]));
        let metadata = json!({ "name": "web", "namespace": "shop", "uid": "u1" });
        let status = json!({ "phase": "Pending" });
        let object = json!({ "metadata": metadata, "spec": spec, "status": status });
        BoundPod::read(Arc::new(serde_json::from_value(object).unwrap())).unwrap()
    }

    fn node() -> Node {
        let allocatable = json!({ "cpu": "2", "memory": "1Gi", "pods": "10" });
        serde_json::from_value(json!({
            "metadata": { "name": "one" }, "status": { "allocatable": allocatable },
        }))
        .unwrap()
    }

    fn surroundings<'a>(node: &'a Node, others: &'a [Occupant]) -> Surroundings<'a> {
        static NONE: BTreeSet<Pressure> = BTreeSet::new();
        let (is_going_down, has_apparmor) = (false, false);
        Surroundings { node, others, pressure: &NONE, is_going_down, has_apparmor }
    }

    #[track_caller]
    fn check_under(pressure: &[Pressure], spec: &Value, expected: Option<(&str, &str)>) {
        let pressure = pressure.iter().copied().collect();
        let node = node();
        let around = Surroundings { pressure: &pressure, ..surroundings(&node, &[]) };
        let expected = expected.map_or(Admission::Taken, |(reason, message)| {
            let reason = Cow::Owned(reason.to_owned());
            Admission::Refused(Refusal { reason, message: message.to_owned() })
        });
        assert_eq!(admit(&pod(spec.clone()), &around), expected, "{spec}");
    }

    #[track_caller]
    fn check(spec: Value, expected: Option<(&str, &str)>) {
        check_under(&[], &spec, expected);
    }

    #[test]
    fn a_node_that_is_short_takes_only_who_may_stay() {
        use Pressure::{Disk, Memory};
        let asks = json!({ "resources": { "requests": { "cpu": "1m" } }, "name": "a" });
        let burstable = json!({ "containers": [asks] });
        let tolerant = json!({ "tolerations": [
            { "key": "node.kubernetes.io/memory-pressure", "operator": "Exists" },
        ] });
        let memory = Some(("Evicted", "The node had condition: [MemoryPressure]. "));
        let disk = Some(("Evicted", "The node had condition: [DiskPressure]. "));
        let both = Some(("Evicted", "The node had condition: [MemoryPressure DiskPressure]. "));
        check_under(&[Memory], &json!({}), memory);
        check_under(&[Memory], &burstable, None);
        check_under(&[Memory], &tolerant, None);
        check_under(&[Memory], &json!({ "priority": 2_000_001_000 }), None);
        check_under(&[Disk], &burstable, disk);
        check_under(&[Memory, Disk], &tolerant, both);
    }

    #[test]
    fn others_go_for_critical_pods_only() {
        let asking = |cpu: &str, more: Value| {
            let resources = json!({ "requests": { "cpu": cpu } });
            let mut spec = more;
            spec["containers"] = json!([{ "name": "a", "resources": resources }]);
            pod(spec)
        };
        let here =
            Occupant { uid: "q".to_owned(), ..Occupant::of(asking("1", json!({})).object()) };
        let node = node();
        let check = |pod: &BoundPod, is_going_down, expected: Result<&[&str], &str>| {
            let others = std::slice::from_ref(&here);
            let around = Surroundings { is_going_down, ..surroundings(&node, others) };
            let found = match admit(pod, &around) {
                Admission::Taken => Ok(Vec::new()),
                Admission::TakenAfter(uids) => Ok(uids),
                Admission::Refused(refusal) => Err(refusal.reason.into_owned()),
            };
            let expected = expected.map(|uids| uids.iter().map(|it| (*it).to_owned()).collect());
            assert_eq!(found, expected.map_err(str::to_owned));
        };
        let critical = json!({ "priority": 2_000_001_000 });
        check(&asking("1", json!({})), false, Ok(&[]));
        check(&asking("2", json!({})), false, Err("OutOfcpu"));
        check(&asking("2", critical.clone()), false, Ok(&["q"]));
        check(&asking("3", critical.clone()), false, Err("UnexpectedAdmissionError"));
        let elsewhere = json!({ "priority": 2_000_001_000, "nodeSelector": { "zone": "b" } });
        check(&asking("2", elsewhere), false, Err("NodeAffinity"));
        check(&asking("1", critical), true, Err("NodeShutdown"));
    }

    #[test]
    fn pods_of_other_systems_are_refused() {
        let message = "Failed to admit pod as the OS field doesn't match node OS";
        check(json!({ "os": { "name": "windows" } }), Some(("PodOSNotSupported", message)));
        check(json!({ "os": { "name": "linux" } }), None);
    }

    #[test]
    fn only_harmless_sysctls_are_set() {
        let with = |name: &str, other: Value| {
            let mut spec = other;
            spec["securityContext"] = json!({ "sysctls": [{ "name": name, "value": "1" }] });
            spec
        };
        let forbidden = |message| Some(("SysctlForbidden", message));
        check(with("net.ipv4.tcp_syncookies", json!({})), None);
        check(with("net/ipv4/tcp_syncookies", json!({})), None);
        check(with("kernel.shm_rmid_forced", json!({ "hostNetwork": true })), None);
        check(
            with("net.core.somaxconn", json!({})),
            forbidden("forbidden sysctl: \"net.core.somaxconn\" not allowlisted"),
        );
        check(
            with("kernel.panic", json!({})),
            forbidden("forbidden sysctl: \"kernel.panic\" not allowlisted"),
        );
        check(
            with("net.ipv4.tcp_rmem", json!({ "hostNetwork": true })),
            forbidden("forbidden sysctl: \"net.ipv4.tcp_rmem\" not allowed with host net enabled"),
        );
        check(
            with("kernel.shm_rmid_forced", json!({ "hostIPC": true })),
            forbidden(
                "forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host IPC enabled",
            ),
        );
    }

    #[test]
    fn profiles_that_nobody_enforces_are_refused() {
        let profile = |kind: &str| json!({ "appArmorProfile": { "type": kind } });
        let message = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        let refused = Some(("AppArmor", message));
        check(json!({ "securityContext": profile("RuntimeDefault") }), refused);
        check(json!({ "securityContext": profile("Unconfined") }), None);
        let container = json!([{ "name": "a", "securityContext": profile("Localhost") }]);
        check(json!({ "containers": container }), refused);
        check(json!({}), None);
        let node = node();
        let around = Surroundings { has_apparmor: true, ..surroundings(&node, &[]) };
        let confined = pod(json!({ "securityContext": profile("RuntimeDefault") }));
        assert_eq!(admit(&confined, &around), Admission::Taken);
    }
}
