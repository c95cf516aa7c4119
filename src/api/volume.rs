//! Which PersistentVolume suits which claim, and the annotations that the scheduler, the volume
//! controller and provisioners tell each other with.
//!
//! Follows upstream component-helpers/storage/volume (v1.35).

use super::node_selector::{NodeIdentity, selects};
use super::{ObjectKey, Quantity};
use crate::api::labels::Selector;
use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod,
    TopologySelectorLabelRequirement, TopologySelectorTerm, Volume,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// On a claim: it and its volume know each other.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim or a volume: the controller bound it, not its user.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a claim: the scheduler wants its volume to be made for this node.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a claim or a volume: its class, in the words of long ago.
pub const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// A class with this provisioner makes no volumes.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// The finalizer of claims that pods may use.
pub const PVC_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// The finalizer of volumes that claims may have.
pub const PV_PROTECTION: &str = "kubernetes.io/pv-protection";
/// The finalizer of classes of attributes that either may name.
pub const VAC_PROTECTION: &str = "kubernetes.io/vac-protection";

fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whose classes are served with directories on nodes: ours, and the one that classes name which users
/// bring from k3s.
pub const LOCAL_PROVISIONERS: &[&str] = &["kinglet.dev/local-path", "rancher.io/local-path"];

/// The node for which the claim's volume is to be made.
#[must_use]
pub fn selected_node(claim: &PersistentVolumeClaim) -> Option<&str> {
    annotation(&claim.metadata, SELECTED_NODE)
}

/// The name of the claim's class; empty where it has none.
#[must_use]
pub fn claim_class(claim: &PersistentVolumeClaim) -> &str {
    let class = || claim.spec.as_ref()?.storage_class_name.as_deref();
    annotation(&claim.metadata, BETA_CLASS).or_else(class).unwrap_or_default()
}

/// The name of the volume's class; empty where it has none.
#[must_use]
pub fn volume_class(volume: &PersistentVolume) -> &str {
    let class = || volume.spec.as_ref()?.storage_class_name.as_deref();
    annotation(&volume.metadata, BETA_CLASS).or_else(class).unwrap_or_default()
}

/// The volume that the claim names.
#[must_use]
pub fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

/// Whether the claim has its volume, and both know it.
#[must_use]
pub fn is_fully_bound(claim: &PersistentVolumeClaim) -> bool {
    volume_name(claim).is_some() && annotation(&claim.metadata, BIND_COMPLETED).is_some()
}

/// Whether the volume is promised to this claim: by name, and by uid where it says one.
#[must_use]
pub fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = claim_of(volume) else { return false };
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && reference
            .uid
            .as_ref()
            .is_none_or(|uid| uid.is_empty() || claim.metadata.uid.as_ref() == Some(uid))
}

/// The claim to which the volume is promised.
#[must_use]
pub fn claim_of(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// Whether pods on this node can reach the volume (upstream `CheckNodeAffinity`).
#[must_use]
pub fn is_reachable(volume: &PersistentVolume, node: NodeIdentity<'_>) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|selector| selects(selector, node))
}

/// Whether volumes of the class may be made for a node with these labels: any of its topologies will
/// do; without any, every node will (upstream `MatchTopologySelectorTerms`).
#[must_use]
pub fn is_allowed_by(class: &StorageClass, labels: &BTreeMap<String, String>) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    let holds = |term: &TopologySelectorTerm| {
        let mut all = term.match_label_expressions.iter().flatten().peekable();
        let has = |wanted: &TopologySelectorLabelRequirement| {
            labels.get(&wanted.key).is_some_and(|value| wanted.values.contains(value))
        };
        all.peek().is_some() && all.all(has)
    };
    terms.is_empty() || terms.iter().any(holds)
}

/// How much the claim asks for.
#[must_use]
pub fn requested(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    resources.requests.as_ref()?.get("storage").map(Quantity::of)
}

/// How much the volume holds.
#[must_use]
pub fn capacity(volume: &PersistentVolume) -> Quantity {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get("storage"));
    capacity.map(Quantity::of).unwrap_or_default()
}

/// The claim behind a pod's volume, and whether it was made for this pod alone.
#[must_use]
pub fn claim_used(pod: &Pod, volume: &Volume) -> Option<(ObjectKey, ClaimKind)> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    if let Some(source) = &volume.persistent_volume_claim {
        return Some((ObjectKey::namespaced(namespace, &source.claim_name), ClaimKind::Named));
    }
    volume.ephemeral.as_ref()?;
    let name = format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name);
    Some((ObjectKey::namespaced(namespace, name), ClaimKind::Ephemeral))
}

/// Where the claim of a pod's volume comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClaimKind {
    /// The pod names it.
    Named,
    /// It was made for the pod, from the template in its spec.
    Ephemeral,
}

/// Chooses the volume for a claim: the one that is promised to it, or the smallest that suits it.
/// Without a node, only the claim's own wishes count (upstream `FindMatchingVolume`).
pub fn find_match<'a>(
    claim: &PersistentVolumeClaim,
    volumes: impl IntoIterator<Item = &'a PersistentVolume>,
    node: Option<NodeIdentity<'_>>,
    is_delayed: bool,
) -> Option<&'a PersistentVolume> {
    let wanted = requested(claim).unwrap_or_default();
    let spec = claim.spec.as_ref();
    let selector = spec.and_then(|spec| spec.selector.as_ref());
    let selector = selector.map(|selector| Selector::of_object(Some(selector)));
    let selector = match selector {
        Some(Ok(selector)) => selector,
        Some(Err(_)) => return None,
        None => Selector::everything(),
    };
    let mut smallest: Option<(&PersistentVolume, Quantity)> = None;
    for volume in volumes {
        let size = capacity(volume);
        let is_promised = is_bound_to(volume, claim);
        if (claim_of(volume).is_some() && !is_promised) || size < wanted || !fits(claim, volume) {
            continue;
        }
        let is_reachable = node.is_none_or(|node| is_reachable(volume, node));
        if is_promised {
            return is_reachable.then_some(volume);
        }
        if (node.is_none() && is_delayed)
            || !is_reachable
            || !is_available(volume)
            || !selector.matches(volume.metadata.labels.as_ref().unwrap_or(&NO_LABELS))
            || volume_class(volume) != claim_class(claim)
            || !has_modes(claim, volume)
        {
            continue;
        }
        if smallest.is_none_or(|(_, least)| size < least) {
            smallest = Some((volume, size));
        }
    }
    smallest.map(|(volume, _)| volume)
}

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

fn is_available(volume: &PersistentVolume) -> bool {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Available")
}

/// What must be the same even of a volume that is promised to the claim.
fn fits(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let (Some(claim), Some(spec)) = (&claim.spec, &volume.spec) else { return false };
    let mode = |mode: &Option<String>| mode.as_deref().unwrap_or("Filesystem").to_owned();
    let attributes = |class: &Option<String>| class.clone().unwrap_or_default();
    mode(&claim.volume_mode) == mode(&spec.volume_mode)
        && attributes(&claim.volume_attributes_class_name)
            == attributes(&spec.volume_attributes_class_name)
        && volume.metadata.deletion_timestamp.is_none()
}

fn has_modes(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let offered = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref());
    let offered = offered.unwrap_or_default();
    let wanted = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref());
    wanted.unwrap_or_default().iter().all(|mode| offered.contains(mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    fn volume(name: &str, size: &str, more: Value) -> PersistentVolume {
        let mut spec = json!({
            "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
        });
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let volume = json!({
            "metadata": {"name": name, "labels": {"disk": name}},
            "spec": spec,
            "status": {"phase": "Available"},
        });
        serde_json::from_value(volume).unwrap()
    }

    #[track_caller]
    fn check(claim: Value, volumes: &[PersistentVolume], expected: &str) {
        let mut spec = json!({
            "resources": {"requests": {"storage": "5Gi"}},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "fast",
        });
        for (key, value) in claim.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let claim = json!({
            "metadata": {"name": "data", "namespace": "default", "uid": "1"}, "spec": spec,
        });
        let claim = serde_json::from_value(claim).unwrap();
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        let node = NodeIdentity { name: "one", labels: Some(&labels) };
        let found = find_match(&claim, volumes, Some(node), true);
        let found = found.and_then(|volume| volume.metadata.name.as_deref());
        assert_eq!(found.unwrap_or("none"), expected);
    }

    #[test]
    fn the_smallest_volume_that_suits_is_taken() {
        let zone = |zone: &str| {
            let requirement = json!({"key": "zone", "operator": "In", "values": [zone]});
            json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [requirement]}]}}})
        };
        let promised = |name: &str, uid: &str| json!({"claimRef": {"name": name, "namespace": "default", "uid": uid}});
        let sizes = [
            volume("l", "20Gi", json!({})),
            volume("m", "10Gi", json!({})),
            volume("s", "1Gi", json!({})),
        ];
        check(json!({}), &sizes, "m");
        check(json!({"selector": {"matchLabels": {"disk": "l"}}}), &sizes, "l");
        check(json!({"storageClassName": "slow"}), &sizes, "none");
        check(json!({"accessModes": ["ReadWriteMany"]}), &sizes, "none");
        check(json!({"volumeMode": "Block"}), &sizes, "none");
        check(json!({}), &[volume("a", "5Gi", zone("a")), volume("b", "5Gi", zone("b"))], "a");
        check(json!({}), &[volume("b", "5Gi", zone("b"))], "none");
        check(json!({}), &[volume("x", "5Gi", promised("other", ""))], "none");
        check(
            json!({}),
            &[volume("m", "5Gi", json!({})), volume("x", "9Gi", promised("data", "1"))],
            "x",
        );
        check(json!({}), &[volume("x", "9Gi", promised("data", "2"))], "none");
    }
}
