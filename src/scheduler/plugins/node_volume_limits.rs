//! Keeps to the number of volumes that a driver can attach to a node. Follows upstream
//! plugins/nodevolumelimits/csi.go (v1.35). Absent: volumes of drivers that were once part of
//! Kubernetes itself.

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
    let of_pods: BTreeSet<_> = node.pods().iter().flat_map(|pod| volumes(storage, pod)).collect();
    let wanted = volumes(storage, cycle.pod).filter(|volume| !of_pods.contains(volume)).collect();
    let attached = of_pods.into_iter().chain(attachments(storage, &node.name)).collect();
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

/// What is attached to the node, whether or not a pod uses it still.
fn attachments(storage: &Storage, node: &str) -> impl Iterator<Item = (String, String)> {
    let of_node = storage.attachments.values().filter(move |one| one.spec.node_name == node);
    of_node.filter_map(|one| {
        let name = one.spec.source.persistent_volume_name.as_deref()?;
        let source = storage.volume(name)?.spec.as_ref()?.csi.as_ref()?;
        Some((one.spec.attacher.clone(), source.volume_handle.clone()))
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
        Event::Detached => !pod.ask.claims.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, snapshot, verdict_in};
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn of<T: DeserializeOwned>(value: Value) -> Arc<T> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn using(name: &str, claims: &[&str]) -> PodFacts {
        let volume =
            |claim: &&str| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}});
        let volumes: Vec<_> = claims.iter().map(volume).collect();
        pod(name, json!({"volumes": volumes}))
    }

    /// A node on which the driver can attach two volumes.
    #[track_caller]
    fn check(wanted: &[&str], used: &[&str], attached: &[&str], expected: &str) {
        let mut snapshot = snapshot(&[node("a", json!({}))], &[(using("there", used), "a")]);
        for name in ["v1", "v2", "v3"] {
            let csi = json!({"driver": "disk.example", "volumeHandle": name});
            let volume = of(json!({"metadata": {"name": name}, "spec": {"csi": csi}}));
            snapshot.storage.volumes.insert(name.to_owned(), volume);
            let claim = of(json!({
                "metadata": {"name": name, "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
                "spec": {"volumeName": name},
            }));
            snapshot.storage.claims.insert(ObjectKey::namespaced("default", name), claim);
        }
        let driver = json!({"name": "disk.example", "nodeID": "a", "allocatable": {"count": 2}});
        let limits = of(json!({"metadata": {"name": "a"}, "spec": {"drivers": [driver]}}));
        snapshot.storage.nodes.insert("a".to_owned(), limits);
        for name in attached {
            let spec = json!({"attacher": "disk.example", "nodeName": "a", "source": {"persistentVolumeName": name}});
            snapshot
                .storage
                .attachments
                .insert((*name).to_owned(), of(json!({"metadata": {}, "spec": spec})));
        }
        assert_eq!(verdict_in(&FILTER, &using("p", wanted), &snapshot), [expected]);
    }

    #[test]
    fn a_node_takes_no_more_volumes_than_the_driver_can_attach() {
        check(&["v1", "v2"], &[], &[], "ok");
        check(&["v1", "v2", "v3"], &[], &[], REASON);
        check(&["v3"], &["v1", "v2"], &[], REASON);
        check(&["v2"], &["v1", "v2"], &[], "ok");
        check(&["v3"], &["v1"], &["v1"], "ok");
        check(&["v3"], &["v1"], &["v2"], REASON);
    }
}
