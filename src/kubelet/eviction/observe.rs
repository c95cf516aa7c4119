//! Measures the node and its pods.

use super::limits::OnDisk;
use super::plan::{Candidate, Pressure, Room, Rooms, Signal, Use};
use crate::api::pod::{QosClass, amounts, requests};
use crate::kubelet::container::resources::class_cgroup;
use crate::kubelet::pod::is_critical;
use crate::kubelet::volumes::{Usage, measure};
use crate::kubelet::worker::Shared;
use crate::runtime::{ContainerState, ContainerStatus};
use crate::stdx::blocking;
use k8s_openapi::api::core::v1::Pod;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much there is of everything.
pub(super) async fn rooms(shared: &Shared) -> io::Result<Rooms> {
    // It is on the file system of pods and images.
    let directory = shared.config.volumes.pods_dir.clone();
    let runtime = Arc::clone(&shared.runtime);
    let capacity = shared.share.without(&shared.config.node.reserved).memory_bytes;
    let of_pods = class_cgroup(&shared.config.cgroup_root, QosClass::Guaranteed);
    blocking(move || {
        let mut rooms = Rooms::new();
        rooms.extend(memory(&fs::read_to_string("/proc/meminfo")?));
        if let Some(usage) = runtime.cgroup_usage(&of_pods) {
            let available = capacity.saturating_sub(usage.memory_working_set_bytes);
            rooms.insert(Signal::AllocatableMemoryAvailable, Room { available, capacity });
        }
        let disk = rustix::fs::statvfs(&directory).map_err(io::Error::from)?;
        let bytes = Room {
            available: disk.f_bavail.saturating_mul(disk.f_frsize),
            capacity: disk.f_blocks.saturating_mul(disk.f_frsize),
        };
        let inodes = Room { available: disk.f_favail, capacity: disk.f_files };
        for (signal, room) in [
            (Signal::NodefsAvailable, bytes),
            (Signal::ImagefsAvailable, bytes),
            (Signal::NodefsInodesFree, inodes),
            (Signal::ImagefsInodesFree, inodes),
        ] {
            // Some file systems do not count inodes.
            if room.capacity > 0 {
                rooms.insert(signal, room);
            }
        }
        rooms.extend(processes());
        Ok(rooms)
    })
    .await
}

fn memory(meminfo: &str) -> Option<(Signal, Room)> {
    let bytes = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
    };
    let room = Room { available: bytes("MemAvailable:")?, capacity: bytes("MemTotal:")? };
    Some((Signal::MemoryAvailable, room))
}

/// Room for processes: their number is the second of two in the fourth field of `loadavg`.
fn processes() -> Option<(Signal, Room)> {
    let capacity: u64 = fs::read_to_string("/proc/sys/kernel/pid_max").ok()?.trim().parse().ok()?;
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let running: u64 = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    let room = Room { available: capacity.saturating_sub(running), capacity };
    Some((Signal::PidAvailable, room))
}

/// What the pods that run use, as far as `signal` asks for it.
pub(super) async fn candidates(
    shared: &Shared,
    pods: &[Arc<Pod>],
    containers: &[ContainerStatus],
    signal: Signal,
) -> io::Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    for pod in pods {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let running = containers
            .iter()
            .filter(|it| it.pod.uid == uid && matches!(it.state, ContainerState::Running { .. }));
        let mut candidate = Candidate { uid: uid.clone(), ..of_spec(pod) };
        for container in running {
            // One that has just ended uses nothing.
            let usage = shared.runtime.usage(&container.id).await.unwrap_or_default();
            let uses = Use {
                memory_bytes: usage.memory_working_set_bytes,
                processes: usage.processes,
                ..Use::default()
            };
            let requests = request_of(pod, &container.name);
            candidate.uses.memory_bytes += uses.memory_bytes;
            candidate.uses.processes += uses.processes;
            candidate.containers.push((container.name.clone(), uses, requests));
        }
        if candidate.containers.is_empty() {
            continue;
        }
        if signal.pressure() == Pressure::Disk {
            let (on_disk, inodes) = on_disk(shared, pod, containers).await?;
            candidate.uses.inodes = inodes;
            candidate.uses.disk_bytes =
                on_disk.empty_dirs.values().chain(on_disk.containers.values()).sum();
            for (name, uses, _) in &mut candidate.containers {
                uses.disk_bytes = on_disk.containers.get(name).copied().unwrap_or_default();
            }
        }
        candidates.push(candidate);
    }
    Ok(candidates)
}

fn of_spec(pod: &Pod) -> Candidate {
    let spec = pod.spec.clone().unwrap_or_default();
    let priority = spec.priority.unwrap_or_default();
    let asked = requests(&spec);
    let units = |name: &str| asked.get(name).and_then(|it| u64::try_from(it.units()).ok());
    Candidate {
        priority,
        critical: is_critical(pod),
        requests: Use {
            memory_bytes: units("memory").unwrap_or_default(),
            disk_bytes: units("ephemeral-storage").unwrap_or_default(),
            ..Use::default()
        },
        ..Candidate::default()
    }
}

fn request_of(pod: &Pod, name: &str) -> Use {
    let spec = pod.spec.as_ref();
    let mut all = spec
        .iter()
        .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let found = all.find(|container| container.name == name);
    let asked = found.and_then(|it| it.resources.as_ref()?.requests.as_ref());
    let asked = amounts(asked);
    let units = |name: &str| asked.get(name).and_then(|it| u64::try_from(it.units()).ok());
    Use {
        memory_bytes: units("memory").unwrap_or_default(),
        disk_bytes: units("ephemeral-storage").unwrap_or_default(),
        ..Use::default()
    }
}

/// What a pod has on the disk, and in how many files.
pub(super) async fn on_disk(
    shared: &Shared,
    pod: &Pod,
    containers: &[ContainerStatus],
) -> io::Result<(OnDisk, u64)> {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let of_pod = containers.iter().filter(|container| container.pod.uid == uid);
    let places: Vec<(String, Vec<PathBuf>)> = of_pod
        .map(|container| {
            let logs = container.log_path.parent().map(Path::to_owned);
            let layer = shared.runtime.writable_layer(&container.id);
            (container.name.clone(), logs.into_iter().chain(layer).collect())
        })
        .collect();
    let volumes = shared.config.volumes.clone();
    blocking(move || {
        let mut on_disk = OnDisk::default();
        let mut inodes = 0;
        for (name, usage) in volumes.usage(&uid)? {
            inodes += usage.inodes;
            on_disk.empty_dirs.insert(name, usage.bytes);
        }
        let mut seen = std::collections::BTreeSet::new();
        for (name, paths) in places {
            for path in paths {
                // Ended containers of the same name have their logs in the same place.
                if !seen.insert(path.clone()) {
                    continue;
                }
                let usage = match measure(&path) {
                    Err(error) if error.kind() == ErrorKind::NotFound => Usage::default(),
                    usage => usage?,
                };
                inodes += usage.inodes;
                *on_disk.containers.entry(name.clone()).or_default() += usage.bytes;
            }
        }
        Ok((on_disk, inodes))
    })
    .await
}
