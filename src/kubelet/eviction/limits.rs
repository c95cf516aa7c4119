//! Pods that take more of the disk than they may: upstream `localStorageEviction`
//! (pkg/kubelet/eviction/eviction_manager.go, v1.35). Pure.

use crate::api::Quantity;
use crate::api::pod::{amounts, limits};
use k8s_openapi::api::core::v1::{PodSpec, Volume};
use std::collections::BTreeMap;

/// What a pod has on the disk, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OnDisk {
    /// By the names of volumes.
    pub(super) empty_dirs: BTreeMap<String, u64>,
    /// By the names of containers: what they wrote to their root file systems, and their logs.
    pub(super) containers: BTreeMap<String, u64>,
}

const STORAGE: &str = "ephemeral-storage";

/// Whether there is anything to hold a pod to: others are not measured.
pub(super) fn has_limits(spec: &PodSpec) -> bool {
    let limited = |volume: &Volume| size_limit(volume).is_some();
    spec.volumes.iter().flatten().any(limited) || limits(spec).contains_key(STORAGE)
}

fn size_limit(volume: &Volume) -> Option<Quantity> {
    let limit = Quantity::of(volume.empty_dir.as_ref()?.size_limit.as_ref()?);
    (!limit.is_zero()).then_some(limit)
}

fn is_in_memory(volume: &Volume) -> bool {
    volume.empty_dir.as_ref().and_then(|it| it.medium.as_deref()) == Some("Memory")
}

/// What a pod exceeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excess {
    /// Upstream's name for the limit.
    pub(super) signal: &'static str,
    /// In the words of the pod's status.
    pub(super) message: String,
}

pub(super) fn excess(spec: &PodSpec, on_disk: &OnDisk) -> Option<Excess> {
    let of = |signal, message| Some(Excess { signal, message });
    let over = |used: u64, limit: Quantity| i64::try_from(used).unwrap_or(i64::MAX) > limit.units();
    for volume in spec.volumes.iter().flatten() {
        let used = on_disk.empty_dirs.get(&volume.name).copied().unwrap_or_default();
        if let Some(limit) = size_limit(volume).filter(|limit| over(used, *limit)) {
            let name = &volume.name;
            let message =
                format!("Usage of EmptyDir volume {name:?} exceeds the limit \"{limit}\". ");
            return of("emptydirfs.limit", message);
        }
    }
    let volumes = spec.volumes.iter().flatten().filter(|volume| !is_in_memory(volume));
    let of_volumes = volumes.filter_map(|volume| on_disk.empty_dirs.get(&volume.name));
    let whole = on_disk.containers.values().chain(of_volumes).sum();
    if let Some(limit) = limits(spec).get(STORAGE).filter(|limit| over(whole, **limit)) {
        let message = format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "
        );
        return of("ephemeralpodfs.limit", message);
    }
    for container in &spec.containers {
        let limits = amounts(container.resources.as_ref().and_then(|it| it.limits.as_ref()));
        let used = on_disk.containers.get(&container.name).copied().unwrap_or_default();
        if let Some(limit) = limits.get(STORAGE).filter(|limit| over(used, **limit)) {
            let name = &container.name;
            let message = format!(
                "Container {name} exceeded its local ephemeral storage limit \"{limit}\". "
            );
            return of("ephemeralcontainerfs.limit", message);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_limit_is_held() {
        let limit = |amount: &str| json!({ "limits": { "ephemeral-storage": amount } });
        let spec: PodSpec = serde_json::from_value(json!({
            "containers": [
                { "name": "a", "resources": limit("1Ki") },
                { "name": "b", "resources": limit("3Ki") },
            ],
            "volumes": [
                { "name": "small", "emptyDir": { "sizeLimit": "2Ki" } },
                { "name": "shared", "emptyDir": { "medium": "Memory" } },
            ],
        }))
        .unwrap();
        let check = |small, shared, a, b, expected: Option<&str>| {
            let on_disk = OnDisk {
                empty_dirs: [("small".to_owned(), small), ("shared".to_owned(), shared)].into(),
                containers: [("a".to_owned(), a), ("b".to_owned(), b)].into(),
            };
            let told = excess(&spec, &on_disk).map(|excess| excess.message);
            assert_eq!(told.as_deref(), expected);
        };
        check(2_048, 9_999, 1_024, 1_024, None);
        check(
            2_049,
            0,
            0,
            0,
            Some("Usage of EmptyDir volume \"small\" exceeds the limit \"2Ki\". "),
        );
        let whole = "Pod ephemeral local storage usage exceeds the total limit of containers 4Ki. ";
        check(2_048, 0, 1_024, 1_025, Some(whole));
        let own = "Container a exceeded its local ephemeral storage limit \"1Ki\". ";
        check(0, 0, 1_025, 0, Some(own));
        assert!(has_limits(&spec));
        let free: PodSpec =
            serde_json::from_value(json!({ "containers": [{ "name": "a" }] })).unwrap();
        assert!(!has_limits(&free));
    }
}
