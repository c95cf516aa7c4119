//! The checks of the Pod Security Standards, and which of them a standard consists of (upstream
//! pod-security-admission/policy, v1.35).
//!
//! Start at [`evaluate`]. What each check looks at is in [`baseline`](mod@baseline) and
//! [`restricted`](mod@restricted).

use super::policy::{Level, Standard, Version};
use super::{baseline, restricted};
use k8s_openapi::api::core::v1::{ContainerPort, Lifecycle, PodSpec, Probe, SecurityContext};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeSet;

/// A pod, or what pods are made from.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub(super) metadata: &'a ObjectMeta,
    pub(super) spec: &'a PodSpec,
    /// All containers of all sorts, init containers first.
    pub(super) containers: Vec<Part<'a>>,
}

/// What the checks look at in a container.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) name: &'a str,
    pub(super) security: Option<&'a SecurityContext>,
    pub(super) ports: &'a [ContainerPort],
    pub(super) probes: [Option<&'a Probe>; 3],
    pub(super) lifecycle: Option<&'a Lifecycle>,
}

/// The part of a container or an ephemeral one: types without anything in common, whose fields have
/// the same names.
macro_rules! part {
    ($container:ident) => {
        Part {
            name: &$container.name,
            security: $container.security_context.as_ref(),
            ports: $container.ports.as_deref().unwrap_or_default(),
            probes: [
                $container.liveness_probe.as_ref(),
                $container.readiness_probe.as_ref(),
                $container.startup_probe.as_ref(),
            ],
            lifecycle: $container.lifecycle.as_ref(),
        }
    };
}

/// What a pod does that a standard does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason: String,
    pub(super) detail: String,
}

/// Says what is not allowed.
type Look = fn(&Subject<'_>) -> Option<Violation>;

/// One check, with the minor version from which on each form of it counts.
struct Check {
    level: Level,
    forms: &'static [(u32, Look)],
    /// The place of the check that this one makes superfluous.
    replaces: Option<usize>,
}

const fn baseline(forms: &'static [(u32, Look)]) -> Check {
    Check { level: Level::Baseline, forms, replaces: None }
}

const fn restricted(forms: &'static [(u32, Look)], replaces: Option<usize>) -> Check {
    Check { level: Level::Restricted, forms, replaces }
}

const CAPABILITIES: usize = 1;
const HOST_PATHS: usize = 3;
const SECCOMP: usize = 9;

/// In the order in which they are told: by level, then by upstream's name of the check.
const CHECKS: &[Check] = &[
    baseline(&[(0, baseline::app_armor)]),
    baseline(&[(0, baseline::capabilities)]),
    baseline(&[(0, baseline::host_namespaces)]),
    baseline(&[(0, baseline::host_paths)]),
    baseline(&[(0, baseline::host_ports)]),
    baseline(&[(34, baseline::probe_hosts)]),
    baseline(&[(0, baseline::privileged)]),
    baseline(&[(0, baseline::proc_mount)]),
    baseline(&[(0, baseline::selinux), (31, baseline::selinux_31)]),
    baseline(&[(0, baseline::seccomp_annotations), (19, baseline::seccomp)]),
    baseline(&[
        (0, baseline::sysctls),
        (27, baseline::sysctls_27),
        (29, baseline::sysctls_29),
        (32, baseline::sysctls_32),
    ]),
    baseline(&[(0, baseline::windows_host_process)]),
    restricted(
        &[(8, restricted::privilege_escalation), (25, restricted::privilege_escalation_25)],
        None,
    ),
    restricted(
        &[(22, restricted::capabilities), (25, restricted::capabilities_25)],
        Some(CAPABILITIES),
    ),
    restricted(&[(0, restricted::volumes)], Some(HOST_PATHS)),
    restricted(&[(0, restricted::non_root)], None),
    restricted(&[(23, restricted::user)], None),
    restricted(&[(19, restricted::seccomp), (25, restricted::seccomp_25)], Some(SECCOMP)),
];

impl Check {
    fn form(&self, version: Version) -> Option<Look> {
        let forms = self.forms.iter().rev();
        let mut counting = forms.filter(|(minor, _)| Version::Minor(*minor) <= version);
        counting.next().map(|(_, look)| *look)
    }
}

/// Everything that the standard does not allow.
pub(super) fn evaluate(standard: Standard, subject: &Subject<'_>) -> Vec<Violation> {
    let active = CHECKS.iter().enumerate().filter_map(|(place, check)| {
        let form = check.form(standard.version).filter(|_| check.level <= standard.level)?;
        Some((place, check, form))
    });
    let active: Vec<_> = active.collect();
    let replaced: Vec<usize> = active.iter().filter_map(|(_, check, _)| check.replaces).collect();
    active
        .into_iter()
        .filter(|(place, ..)| !replaced.contains(place))
        .filter_map(|(_, _, look)| look(subject))
        .collect()
}

/// Reasons with their details, for who made the pod.
pub(super) fn details(violations: &[Violation]) -> String {
    let each = violations.iter().map(|violation| match violation.detail.as_str() {
        "" => violation.reason.clone(),
        detail => format!("{} ({detail})", violation.reason),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// Reasons alone, for who looks at many pods.
pub(super) fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|it| it.reason.as_str()).collect::<Vec<_>>().join(", ")
}

impl<'a> Subject<'a> {
    pub(super) fn of(metadata: &'a ObjectMeta, spec: &'a PodSpec) -> Self {
        let containers = spec
            .init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
            .map(|container| part!(container))
            .chain(spec.ephemeral_containers.iter().flatten().map(|container| part!(container)))
            .collect();
        Self { metadata, spec, containers }
    }

    pub(super) fn is_windows(&self) -> bool {
        self.spec.os.as_ref().is_some_and(|os| os.name == "windows")
    }

    /// The names of the containers that are not as they should be.
    pub(super) fn bad(&self, is_bad: impl Fn(&Part<'a>) -> bool) -> Vec<&'a str> {
        self.containers.iter().filter(|part| is_bad(part)).map(|part| part.name).collect()
    }
}

/// `"a", "b"`.
pub(super) fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let each = items.into_iter().map(|item| format!("\"{}\"", item.as_ref()));
    each.collect::<Vec<_>>().join(", ")
}

pub(super) fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `containers "a", "b"`.
pub(super) fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// The pod itself and its containers, as those who do something: `pod and container "a"`.
pub(super) fn setters(is_pod: bool, bad: &[&str]) -> Vec<String> {
    let pod = is_pod.then(|| "pod".to_owned());
    let containers = (!bad.is_empty()).then(|| containers(bad));
    pod.into_iter().chain(containers).collect()
}

/// As a set, sorted.
pub(super) fn sorted<'a>(items: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
    items.into_iter().collect()
}

pub(super) fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation { reason: reason.to_owned(), detail })
}
