//! Keeps pods in the zones of their volumes, where labels of volumes say so. Follows upstream
//! plugins/volumezone (v1.35).

use super::{Filter, Plugin, Rejection};
use crate::api::volume::{self, ClaimKind};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::node::NodeFacts;
use crate::scheduler::pod::PodFacts;
use crate::scheduler::snapshot::Snapshot;
use k8s_openapi::api::core::v1::PersistentVolume;
use std::collections::BTreeSet;

const REASON: &str = "node(s) had no available volume zone";

/// Labels of volumes and nodes, with the label of nodes that will do as well.
const ZONE_LABELS: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];

/// In one label a volume names several zones with this between them.
const ZONES_SEPARATOR: &str = "__";

pub(super) const FILTER: Filter =
    Filter { plugin: Plugin::VolumeZone, concerns: |cycle| !cycle.zones.is_empty(), check, hint };

/// Where a volume of the pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::scheduler) struct VolumeZone {
    label: &'static str,
    node_label: &'static str,
    values: BTreeSet<String>,
}

/// Where the pod's volumes are.
pub(in crate::scheduler) fn zones(
    pod: &PodFacts,
    snapshot: &Snapshot,
) -> Result<Vec<VolumeZone>, Rejection> {
    let storage = &snapshot.storage;
    let refused = |reason: String| Rejection::for_good(Plugin::VolumeZone, reason);
    let mut all = Vec::new();
    for used in pod.ask.claims.iter().filter(|used| used.kind == ClaimKind::Named) {
        let Some(claim) = storage.claim(&used.key) else {
            return Err(refused(format!("persistentvolumeclaim \"{}\" not found", used.key.name)));
        };
        if let Some(name) = volume::volume_name(claim) {
            let Some(found) = storage.volume(name) else {
                return Err(refused(format!("persistentvolume \"{name}\" not found")));
            };
            all.extend(zones_of(found));
        } else if volume::claim_class(claim).is_empty() {
            return Err(refused(
                "PersistentVolumeClaim had no pv name and storageClass name".to_owned(),
            ));
        } else if storage.class_of(claim).is_none() {
            let class = volume::claim_class(claim);
            return Err(refused(format!("storageclass.storage.k8s.io \"{class}\" not found")));
        } else if !storage.is_delayed(claim) {
            return Err(refused("PersistentVolume had no name".to_owned()));
        }
    }
    Ok(all)
}

fn zones_of(volume: &PersistentVolume) -> impl Iterator<Item = VolumeZone> {
    let labels = volume.metadata.labels.as_ref();
    ZONE_LABELS.into_iter().filter_map(move |(label, node_label)| {
        let value = labels?.get(label)?;
        let values = value.split(ZONES_SEPARATOR).map(|zone| zone.trim().to_owned()).collect();
        Some(VolumeZone { label, node_label, values })
    })
}

/// A node that says nothing about where it is can take every volume.
fn check(cycle: &Cycle<'_>, node: &NodeFacts) -> Result<(), Rejection> {
    if ZONE_LABELS.iter().all(|(label, _)| node.label(label).is_none()) {
        return Ok(());
    }
    let is_there = |zone: &VolumeZone| {
        let value = node.label(zone.label).or_else(|| node.label(zone.node_label));
        value.is_some_and(|value| zone.values.contains(value))
    };
    if cycle.zones.iter().all(is_there) {
        Ok(())
    } else {
        Err(Rejection::for_good(Plugin::VolumeZone, REASON))
    }
}

fn hint(pod: &PodFacts, event: &Event<'_>) -> bool {
    match event {
        Event::NodeAdded(_) | Event::VolumeAdded => true,
        Event::NodeChanged(old, new) => old.metadata.labels != new.metadata.labels,
        Event::ClaimAdded(key) | Event::ClaimChanged(key) => {
            pod.ask.claims.iter().any(|used| used.key == **key)
        }
        Event::VolumeChanged(old, new) => old.metadata.labels != new.metadata.labels,
        Event::ClassAdded(class) => {
            class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn volumes_name_their_zones_in_labels() {
        let volume = json!({"metadata": {"name": "v", "labels": {
            "topology.kubernetes.io/zone": "a__b", "other": "c",
        }}});
        let volume: PersistentVolume = serde_json::from_value(volume).unwrap();
        let zones: Vec<_> = zones_of(&volume).collect();
        assert_eq!(zones.len(), 1);
        assert_eq!(zones[0].values, ["a", "b"].map(str::to_owned).into());
    }
}
