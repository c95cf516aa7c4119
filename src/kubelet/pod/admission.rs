//! Whether this node takes a pod that is bound to it: upstream's admit handlers. Pure.

use super::bound::BoundPod;
use crate::api::pod::phase;
use k8s_openapi::api::core::v1::AppArmorProfile;

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
    pub reason: &'static str,
    pub message: String,
}

/// `None` for a pod that is taken.
#[must_use]
pub fn refusal(pod: &BoundPod) -> Option<Refusal> {
    forbidden_sysctl(pod).or_else(|| unenforced_profile(pod))
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
    Some(Refusal { reason: "SysctlForbidden", message })
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

/// Upstream `appArmorAdmitHandler.Admit` (pkg/kubelet/lifecycle/handlers.go, v1.35), for a node
/// that confines nothing: whether or not its kernel could, a pod that asks for it must not run
/// without.
fn unenforced_profile(pod: &BoundPod) -> Option<Refusal> {
    if phase(pod.object()) != "Pending" {
        return None;
    }
    let is_required = |profile: &AppArmorProfile| profile.type_ != "Unconfined";
    let of_pod = pod.spec().security_context.as_ref().and_then(|it| it.app_armor_profile.as_ref());
    let of_containers = pod
        .all_containers()
        .filter_map(|container| container.security_context.as_ref()?.app_armor_profile.as_ref());
    of_pod.into_iter().chain(of_containers).any(is_required).then(|| Refusal {
        reason: "AppArmor",
        message: "Cannot enforce AppArmor: this node applies no profiles".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn check(spec: Value, expected: Option<(&str, &str)>) {
        let mut spec = spec;
        spec.as_object_mut().unwrap().entry("containers").or_insert(json!([{ "name": "a" }]));
        let metadata = json!({ "name": "web", "namespace": "shop", "uid": "u1" });
        let status = json!({ "phase": "Pending" });
        let object = json!({ "metadata": metadata, "spec": spec, "status": status });
        let pod = BoundPod::read(Arc::new(serde_json::from_value(object).unwrap())).unwrap();
        let actual = refusal(&pod);
        let actual = actual.as_ref().map(|it| (it.reason, it.message.as_str()));
        assert_eq!(
            actual,
            expected,
            "{}",
            pod.object().spec.as_ref().map_or(json!(null), |it| json!(it))
        );
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
        let refused = Some(("AppArmor", "Cannot enforce AppArmor: this node applies no profiles"));
        check(json!({ "securityContext": profile("RuntimeDefault") }), refused);
        check(json!({ "securityContext": profile("Unconfined") }), None);
        let container = json!([{ "name": "a", "securityContext": profile("Localhost") }]);
        check(json!({ "containers": container }), refused);
        check(json!({}), None);
    }
}
