//! Keeps to the number of volumes that a driver can attach to a node. Follows upstream
//! plugins/nodevolumelimits/csi.go (v1.35). Absent: volumes of drivers that were once part of
//! Kubernetes itself, and attachments without a pod (there are no VolumeAttachments here).

use super::{Filter, Plugin, Rejection};
use crate::api::{ObjectKey, volume};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::node::NodeFacts;
use crate::scheduler::pod::PodFacts;
use crate::scheduler::storage::Storage;
use k8s_openapi::api::storage::v1::CSINode;
use std::collections::{BTreeMap, BTreeSet};

const REASON: &str = "node(s) exceed max volume count";

pub(super) const FILTER: Filter = Filter {
    plugin: Plugin::NodeVolumeLimits,
    concerns: |cycle| !cycle.pod.ask.claims.is_empty(),
    check,
    hint,
};

fn check(cycle: &Cycle<'_>, node: &NodeFacts) -> Result<(), Rejection> {
    let storage = &cycle.snapshot.storage;
    let limits = storage.nodes.get(&node.name).map(|node| limits(node)).unwrap_or_default();
    if limits.is_empty() {
        return Ok(());
    }
    let attached: BTreeSet<_> = node.pods().iter().flat_map(|pod| volumes(storage, pod)).collect();
    let wanted: BTreeSet<_> =
        volumes(storage, cycle.pod).filter(|volume| !attached.contains(volume)).collect();
    let count = |volumes: &BTreeSet<(String, String)>, driver: &str| {
        volumes.iter().filter(|(name, _)| name == driver).count()
    };
    for (driver, most) in limits {
        let more = count(&wanted, driver);
        if more > 0 && count(&attached, driver) + more > most {
            return Err(Rejection::for_now(Plugin::NodeVolumeLimits, REASON));
        }
    }
    Ok(())
}

fn limits(node: &CSINode) -> BTreeMap<&str, usize> {
    let limit = |driver: &k8s_openapi::api::storage::v1::CSINodeDriver| {
        let count = driver.allocatable.as_ref()?.count?;
        usize::try_from(count).ok()
    };
    let drivers = node.spec.drivers.iter();
    drivers.filter_map(|driver| Some((driver.name.as_str(), limit(driver)?))).collect()
}

/// Drivers with what they attach for the pod. A volume that is still to be made counts by its claim.
fn volumes(storage: &Storage, pod: &PodFacts) -> impl Iterator<Item = (String, String)> {
    pod.ask.claims.iter().filter_map(|used| {
        let claim = storage.claim(&used.key)?;
        if let Some(found) = volume::volume_name(claim).and_then(|name| storage.volume(name)) {
            let source = found.spec.as_ref()?.csi.as_ref()?;
            return Some((source.driver.clone(), source.volume_handle.clone()));
        }
        let class = storage.class_of(claim)?;
        Some((class.provisioner.clone(), format!("claim {}", used.key)))
    })
}

fn hint(pod: &PodFacts, event: &Event<'_>) -> bool {
    let uses = |key: &ObjectKey| pod.ask.claims.iter().any(|used| used.key == *key);
    match event {
        Event::NodeAdded(_) | Event::CsiNodeAdded => true,
        Event::CsiNodeChanged(old, new) => {
            let before = limits(old);
            limits(new).iter().any(|(driver, most)| before.get(driver).is_none_or(|old| most > old))
        }
        Event::PodGone(gone) => !gone.ask.claims.is_empty(),
        Event::ClaimAdded(key) => uses(key),
        _ => false,
    }
}
