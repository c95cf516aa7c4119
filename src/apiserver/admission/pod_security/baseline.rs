//! What a pod of the baseline does without: the ways by which it would have its node.

use super::checks::{
    Part, Subject, Violation, containers, plural, quoted, setters, sorted, violation,
};
use k8s_openapi::api::core::v1::{LifecycleHandler, SELinuxOptions};
use std::collections::BTreeSet;

const APP_ARMOR_ANNOTATION_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_ANNOTATION: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_ANNOTATION_PREFIX: &str = "container.seccomp.security.alpha.kubernetes.io/";

const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

const SELINUX_TYPES: &[&str] = &["", "container_t", "container_init_t", "container_kvm_t"];
/// From version 31 on.
const SELINUX_ENGINE_TYPE: &str = "container_engine_t";

/// Each with the minor version from which on it is safe.
const SYSCTLS: &[(&str, u32)] = &[
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

pub(super) fn app_armor(subject: &Subject<'_>) -> Option<Violation> {
    let is_bad = |kind: &&str| !matches!(*kind, "RuntimeDefault" | "Localhost");
    let of_pod = subject.spec.security_context.as_ref();
    let of_pod = of_pod.and_then(|it| it.app_armor_profile.as_ref()).map(|it| it.type_.as_str());
    let of_part = |part: &Part<'_>| {
        let profile = part.security?.app_armor_profile.as_ref()?;
        Some(profile.type_.clone()).filter(|kind| is_bad(&kind.as_str()))
    };
    let bad = subject.bad(|part| of_part(part).is_some());
    let own: Vec<String> = subject.containers.iter().filter_map(of_part).collect();
    let bad_of_pod = of_pod.filter(is_bad);
    let mut values: Vec<String> = sorted(own.iter().map(String::as_str).chain(bad_of_pod))
        .into_iter()
        .map(str::to_owned)
        .collect();
    let mut by = setters(bad_of_pod.is_some(), &bad);
    let annotations = subject.metadata.annotations.iter().flatten();
    let forbidden: Vec<String> = annotations
        .filter(|(name, value)| {
            name.starts_with(APP_ARMOR_ANNOTATION_PREFIX)
                && !value.is_empty()
                && *value != "runtime/default"
                && !value.starts_with("localhost/")
        })
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    if !forbidden.is_empty() {
        by.push(plural("annotation", "annotations", forbidden.len()).to_owned());
        values.extend(forbidden);
    }
    if by.is_empty() {
        return None;
    }
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    let (by, values) = (by.join(" and "), quoted(&values));
    violation(reason, format!("{by} must not set AppArmor profile type to {values}"))
}

pub(super) fn capabilities(subject: &Subject<'_>) -> Option<Violation> {
    let added = |part: &Part<'_>| -> Vec<String> {
        let capabilities = part.security.and_then(|it| it.capabilities.as_ref());
        let added = capabilities.and_then(|it| it.add.as_deref()).unwrap_or_default();
        added.iter().filter(|name| !CAPABILITIES.contains(&name.as_str())).cloned().collect()
    };
    let bad = subject.bad(|part| !added(part).is_empty());
    if bad.is_empty() {
        return None;
    }
    let all: BTreeSet<String> = subject.containers.iter().flat_map(added).collect();
    let (by, all) = (containers(&bad), quoted(&all));
    let detail = format!("{by} must not include {all} in securityContext.capabilities.add");
    violation("non-default capabilities", detail)
}

pub(super) fn host_namespaces(subject: &Subject<'_>) -> Option<Violation> {
    let spec = subject.spec;
    let shared: Vec<&str> = [
        ("hostNetwork=true", spec.host_network),
        ("hostPID=true", spec.host_pid),
        ("hostIPC=true", spec.host_ipc),
    ]
    .into_iter()
    .filter_map(|(what, is_set)| (is_set == Some(true)).then_some(what))
    .collect();
    if shared.is_empty() { None } else { violation("host namespaces", shared.join(", ")) }
}

pub(super) fn host_paths(subject: &Subject<'_>) -> Option<Violation> {
    let volumes = subject.spec.volumes.iter().flatten();
    let bad: Vec<&str> =
        volumes.filter(|it| it.host_path.is_some()).map(|it| it.name.as_str()).collect();
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} {}", plural("volume", "volumes", bad.len()), quoted(&bad));
    violation("hostPath volumes", detail)
}

pub(super) fn host_ports(subject: &Subject<'_>) -> Option<Violation> {
    let used = |part: &Part<'_>| -> Vec<String> {
        let ports = part.ports.iter().filter_map(|port| port.host_port.filter(|port| *port != 0));
        ports.map(|port| port.to_string()).collect()
    };
    let bad = subject.bad(|part| !used(part).is_empty());
    if bad.is_empty() {
        return None;
    }
    let ports: BTreeSet<String> = subject.containers.iter().flat_map(used).collect();
    let detail = format!(
        "{} {} {} {}",
        containers(&bad),
        plural("uses", "use", bad.len()),
        plural("hostPort", "hostPorts", ports.len()),
        ports.into_iter().collect::<Vec<_>>().join(", ")
    );
    violation("hostPort", detail)
}

pub(super) fn probe_hosts(subject: &Subject<'_>) -> Option<Violation> {
    let bad = sorted(subject.bad(|part| !hosts(part).is_empty()));
    if bad.is_empty() {
        return None;
    }
    let hosts: BTreeSet<String> = subject.containers.iter().flat_map(hosts).collect();
    let bad: Vec<&str> = bad.into_iter().collect();
    let detail = format!(
        "{} {} {} {}",
        containers(&bad),
        plural("uses", "use", bad.len()),
        plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
        quoted(&hosts)
    );
    violation("probe or lifecycle host", detail)
}

/// The hosts that a container's probes and hooks name.
fn hosts(part: &Part<'_>) -> Vec<String> {
    let probes = part.probes.into_iter().flatten();
    let of_probes = probes.flat_map(|probe| {
        let http = probe.http_get.as_ref().and_then(|it| it.host.clone());
        [http, probe.tcp_socket.as_ref().and_then(|it| it.host.clone())]
    });
    let of_hook = |hook: &LifecycleHandler| {
        let http = hook.http_get.as_ref().and_then(|it| it.host.clone());
        [http, hook.tcp_socket.as_ref().and_then(|it| it.host.clone())]
    };
    let hooks = part.lifecycle.into_iter().flat_map(|it| [&it.post_start, &it.pre_stop]);
    let of_hooks = hooks.flatten().flat_map(of_hook);
    of_probes.chain(of_hooks).flatten().filter(|host| !host.is_empty()).collect()
}

pub(super) fn privileged(subject: &Subject<'_>) -> Option<Violation> {
    let bad = subject.bad(|part| part.security.is_some_and(|it| it.privileged == Some(true)));
    if bad.is_empty() {
        return None;
    }
    let by = containers(&bad);
    violation("privileged", format!("{by} must not set securityContext.privileged=true"))
}

pub(super) fn proc_mount(subject: &Subject<'_>) -> Option<Violation> {
    let set = |part: &Part<'_>| {
        part.security.and_then(|it| it.proc_mount.clone()).filter(|kind| kind != "Default")
    };
    let bad = subject.bad(|part| set(part).is_some());
    if bad.is_empty() {
        return None;
    }
    let kinds: BTreeSet<String> = subject.containers.iter().filter_map(set).collect();
    let (by, kinds) = (containers(&bad), quoted(&kinds));
    violation("procMount", format!("{by} must not set securityContext.procMount to {kinds}"))
}

pub(super) fn selinux(subject: &Subject<'_>) -> Option<Violation> {
    selinux_except(subject, SELINUX_TYPES)
}

pub(super) fn selinux_31(subject: &Subject<'_>) -> Option<Violation> {
    let types: Vec<&str> = SELINUX_TYPES.iter().copied().chain([SELINUX_ENGINE_TYPE]).collect();
    selinux_except(subject, &types)
}

fn selinux_except(subject: &Subject<'_>, types: &[&str]) -> Option<Violation> {
    let is_set = |field: &Option<String>| field.as_ref().is_some_and(|text| !text.is_empty());
    let bad_type = |options: &SELinuxOptions| {
        options.type_.clone().filter(|kind| !types.contains(&kind.as_str()))
    };
    let is_bad = |options: &SELinuxOptions| {
        bad_type(options).is_some() || is_set(&options.user) || is_set(&options.role)
    };
    let of_pod = subject.spec.security_context.as_ref();
    let of_pod = of_pod.and_then(|it| it.se_linux_options.as_ref());
    let of_part = |part: &Part<'_>| part.security.and_then(|it| it.se_linux_options.clone());
    let bad = subject.bad(|part| of_part(part).is_some_and(|options| is_bad(&options)));
    let by = setters(of_pod.is_some_and(is_bad), &bad);
    if by.is_empty() {
        return None;
    }
    let all: Vec<SELinuxOptions> =
        of_pod.cloned().into_iter().chain(subject.containers.iter().filter_map(of_part)).collect();
    let kinds: BTreeSet<String> = all.iter().filter_map(bad_type).collect();
    let mut what = Vec::new();
    if !kinds.is_empty() {
        what.push(format!("{} {}", plural("type", "types", kinds.len()), quoted(&kinds)));
    }
    if all.iter().any(|options| is_set(&options.user)) {
        what.push("user may not be set".to_owned());
    }
    if all.iter().any(|options| is_set(&options.role)) {
        what.push("role may not be set".to_owned());
    }
    let (by, what) = (by.join(" and "), what.join("; "));
    let detail = format!("{by} set forbidden securityContext.seLinuxOptions: {what}");
    violation("seLinuxOptions", detail)
}

/// Before there were fields for it.
pub(super) fn seccomp_annotations(subject: &Subject<'_>) -> Option<Violation> {
    let annotations = subject.metadata.annotations.as_ref()?;
    let of_parts =
        subject.containers.iter().map(|part| SECCOMP_ANNOTATION_PREFIX.to_owned() + part.name);
    let forbidden: BTreeSet<String> = std::iter::once(SECCOMP_ANNOTATION.to_owned())
        .chain(of_parts)
        .filter_map(|name| Some((annotations.get(&name)?, name)))
        .filter(|(value, _)| {
            !matches!(value.as_str(), "runtime/default" | "docker/default")
                && !value.starts_with("localhost/")
        })
        .map(|(value, name)| format!("{name}={value:?}"))
        .collect();
    if forbidden.is_empty() {
        return None;
    }
    let (count, all) = (forbidden.len(), forbidden.into_iter().collect::<Vec<_>>().join(", "));
    let detail = format!("forbidden {} {all}", plural("annotation", "annotations", count));
    violation("seccompProfile", detail)
}

pub(super) fn is_seccomp_allowed(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}

pub(super) fn seccomp(subject: &Subject<'_>) -> Option<Violation> {
    let is_bad = |kind: &String| !is_seccomp_allowed(kind);
    let of_pod = subject.spec.security_context.as_ref();
    let of_pod = of_pod.and_then(|it| Some(it.seccomp_profile.as_ref()?.type_.clone()));
    let of_pod = of_pod.filter(is_bad);
    let of_part = |part: &Part<'_>| {
        let profile = part.security?.seccomp_profile.as_ref()?;
        Some(profile.type_.clone()).filter(is_bad)
    };
    let by = setters(of_pod.is_some(), &subject.bad(|part| of_part(part).is_some()));
    if by.is_empty() {
        return None;
    }
    let kinds: BTreeSet<String> =
        of_pod.into_iter().chain(subject.containers.iter().filter_map(of_part)).collect();
    let (by, kinds) = (by.join(" and "), quoted(&kinds));
    let detail = format!("{by} must not set securityContext.seccompProfile.type to {kinds}");
    violation("seccompProfile", detail)
}

pub(super) fn sysctls(subject: &Subject<'_>) -> Option<Violation> {
    sysctls_beyond(subject, 0)
}

pub(super) fn sysctls_27(subject: &Subject<'_>) -> Option<Violation> {
    sysctls_beyond(subject, 27)
}

pub(super) fn sysctls_29(subject: &Subject<'_>) -> Option<Violation> {
    sysctls_beyond(subject, 29)
}

pub(super) fn sysctls_32(subject: &Subject<'_>) -> Option<Violation> {
    sysctls_beyond(subject, 32)
}

fn sysctls_beyond(subject: &Subject<'_>, minor: u32) -> Option<Violation> {
    let is_safe = |name: &str| SYSCTLS.iter().any(|(safe, since)| *safe == name && *since <= minor);
    let security = subject.spec.security_context.as_ref();
    let set = security.and_then(|it| it.sysctls.as_deref()).unwrap_or_default();
    let forbidden: Vec<&str> =
        set.iter().map(|it| it.name.as_str()).filter(|name| !is_safe(name)).collect();
    if forbidden.is_empty() { None } else { violation("forbidden sysctls", forbidden.join(", ")) }
}

pub(super) fn windows_host_process(subject: &Subject<'_>) -> Option<Violation> {
    let of_pod = subject.spec.security_context.as_ref();
    let of_pod = of_pod.and_then(|it| it.windows_options.as_ref()?.host_process);
    let bad = subject.bad(|part| {
        let options = part.security.and_then(|it| it.windows_options.as_ref());
        options.is_some_and(|it| it.host_process == Some(true))
    });
    let by = setters(of_pod == Some(true), &bad);
    if by.is_empty() {
        return None;
    }
    let by = by.join(" and ");
    let detail = format!("{by} must not set securityContext.windowsOptions.hostProcess=true");
    violation("hostProcess", detail)
}
