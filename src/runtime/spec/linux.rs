//! Namespaces, cgroup, devices and what is hidden from a container.

use super::super::{HugepageLimit, LinuxResources as Limits, NamespaceMode, RuntimeError};
use super::{Inputs, mounts, seccomp};
use oci_spec::runtime::{
    Linux, LinuxCpu, LinuxDevice, LinuxDeviceCgroup, LinuxHugepageLimit, LinuxMemory,
    LinuxNamespace, LinuxNamespaceType, LinuxPids, LinuxResources,
};
use std::collections::HashMap;
use std::path::PathBuf;

/// What containers do not see of `/proc` and `/sys`: upstream's `defaultMaskedPaths`
/// (pkg/securitycontext/util.go, v1.35), which also has the thermal throttling of each processor:
/// see [`HostTraits::masked_paths`](super::HostTraits::masked_paths).
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What containers cannot change there: upstream's `defaultReadonlyPaths`.
const READONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub(super) fn render(inputs: Inputs<'_>) -> Result<Linux, RuntimeError> {
    let security = &inputs.container.security;
    let mut linux = Linux::default();
    let cgroup = format!("{}/{}", inputs.sandbox.cgroup, inputs.container_id);
    linux.set_cgroups_path(Some(PathBuf::from(cgroup)));
    linux.set_namespaces(Some(namespaces(inputs)));
    linux.set_resources(Some(resources(inputs)));
    let propagation = mounts::root_propagation(&inputs.container.mounts);
    linux.set_rootfs_propagation(Some(propagation.to_owned()));
    linux.set_devices(devices(inputs));
    let unmasked = security.privileged || security.unmasked_proc;
    linux.set_masked_paths((!unmasked).then(|| {
        let everywhere = MASKED_PATHS.map(str::to_owned);
        everywhere.into_iter().chain(inputs.host.masked_paths.iter().cloned()).collect()
    }));
    linux.set_readonly_paths((!unmasked).then(|| READONLY_PATHS.map(str::to_owned).to_vec()));
    if let Some(profile) = inputs.seccomp.filter(|_| !security.privileged) {
        linux.set_seccomp(Some(profile.clone()));
    } else if security.seccomp_runtime_default && !security.privileged {
        let capabilities = super::capabilities::render(security, &inputs.host.capabilities)?;
        let effective = capabilities.effective().clone().unwrap_or_default();
        linux.set_seccomp(Some(seccomp::runtime_default(&effective)));
    }
    Ok(linux)
}

fn namespaces(inputs: Inputs<'_>) -> Vec<LinuxNamespace> {
    let paths = inputs.paths;
    let mut namespaces = vec![namespace(LinuxNamespaceType::Mount, None)];
    match inputs.sandbox.namespaces.pid {
        NamespaceMode::Node => {}
        // Its own, where it does not share that of another container.
        NamespaceMode::Container | NamespaceMode::Pod => {
            namespaces.push(namespace(LinuxNamespaceType::Pid, paths.pid.clone()));
        }
    }
    let pinned = [
        (LinuxNamespaceType::Network, &paths.network),
        (LinuxNamespaceType::Ipc, &paths.ipc),
        (LinuxNamespaceType::Uts, &paths.uts),
    ];
    for (kind, path) in pinned {
        if path.is_some() {
            namespaces.push(namespace(kind, path.clone()));
        }
    }
    // With version 2 a container sees its own cgroup as the root, as upstream's runtimes have it.
    if inputs.host.cgroups_unified && !inputs.container.security.privileged {
        namespaces.push(namespace(LinuxNamespaceType::Cgroup, None));
    }
    namespaces
}

fn namespace(kind: LinuxNamespaceType, path: Option<PathBuf>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind);
    namespace.set_path(path);
    namespace
}

/// The machine's devices for privileged containers, and what is a volume for whoever has it.
fn devices(inputs: Inputs<'_>) -> Option<Vec<LinuxDevice>> {
    let is_privileged = inputs.container.security.privileged;
    let volumes = inputs.host.volume_devices.iter().map(|(device, _)| device.clone());
    let mut devices: Vec<LinuxDevice> = volumes.collect();
    if is_privileged {
        let taken = |node: &&LinuxDevice| devices.iter().all(|it| it.path() != node.path());
        let others: Vec<_> = inputs.host.devices.iter().filter(taken).cloned().collect();
        devices.extend(others);
    }
    (is_privileged || !devices.is_empty()).then_some(devices)
}

/// What a container may do with a device that is its volume.
fn access(device: &LinuxDevice, read_only: bool) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true);
    rule.set_typ(Some(device.typ()));
    rule.set_major(Some(device.major()));
    rule.set_minor(Some(device.minor()));
    rule.set_access(Some(if read_only { "rm" } else { "rwm" }.to_owned()));
    rule
}

fn resources(inputs: Inputs<'_>) -> LinuxResources {
    let limits = &inputs.container.resources;
    let mut rule = LinuxDeviceCgroup::default();
    // The devices that every container has are let through by the OCI runtimes themselves.
    rule.set_allow(inputs.container.security.privileged);
    rule.set_access(Some("rwm".to_owned()));

    let mut resources = LinuxResources::default();
    let volumes = inputs.host.volume_devices.iter();
    let volumes = volumes.map(|(device, read_only)| access(device, *read_only));
    resources.set_devices(Some(std::iter::once(rule).chain(volumes).collect()));
    resources.set_cpu(cpu(limits));
    resources.set_memory(memory(limits, inputs.host.swap_limits));
    resources.set_pids(limits.pids_limit.map(|limit| {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        pids
    }));
    let hugepages: Vec<_> = limits.hugepage_limits.iter().map(hugepage).collect();
    resources.set_hugepage_limits((!hugepages.is_empty()).then_some(hugepages));
    if inputs.host.cgroups_unified {
        // A container that runs out of memory ends as a whole: the kubelet's default with version
        // 2 (`singleProcessOOMKill: false`).
        let group = HashMap::from([("memory.oom.group".to_owned(), "1".to_owned())]);
        resources.set_unified(Some(group));
    }
    resources
}

/// What a container that runs is given. A limit that is not said is taken away.
pub(super) fn update(limits: &Limits, swap_limits: bool) -> LinuxResources {
    /// As the kernel's files take "no limit".
    const UNLIMITED: i64 = -1;
    let limits = Limits {
        cpu_quota: Some(limits.cpu_quota.unwrap_or(UNLIMITED)),
        memory_limit_bytes: Some(limits.memory_limit_bytes.unwrap_or(UNLIMITED)),
        ..limits.clone()
    };
    let mut resources = LinuxResources::default();
    resources.set_devices(None);
    resources.set_cpu(cpu(&limits));
    resources.set_memory(memory(&limits, swap_limits));
    resources
}

fn cpu(limits: &Limits) -> Option<LinuxCpu> {
    let asked = [limits.cpu_shares.is_some(), limits.cpu_quota.is_some()];
    if !asked.contains(&true) && limits.cpu_period.is_none() {
        return None;
    }
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(limits.cpu_shares);
    cpu.set_quota(limits.cpu_quota);
    cpu.set_period(limits.cpu_period);
    Some(cpu)
}

fn memory(limits: &Limits, swap_limits: bool) -> Option<LinuxMemory> {
    let limit = limits.memory_limit_bytes?;
    let mut memory = LinuxMemory::default();
    memory.set_limit(Some(limit));
    // Memory and swap together are limited to the same: no swap, as the kubelet's default.
    memory.set_swap(swap_limits.then_some(limit));
    Some(memory)
}

fn hugepage(limit: &HugepageLimit) -> LinuxHugepageLimit {
    let mut hugepage = LinuxHugepageLimit::default();
    hugepage.set_page_size(limit.page_size.clone());
    hugepage.set_limit(i64::try_from(limit.bytes).unwrap_or(i64::MAX));
    hugepage
}
