//! Claims and their volumes: bound ones must be reachable from the node; for those that wait for a
//! pod, there must be a volume to bind or a way to make one. Follows upstream plugins/volumebinding
//! (v1.35). Absent: translation of volumes of drivers that were once part of Kubernetes itself.

use super::{Filter, Plugin, Reason, Rejection};
use crate::api::labels::Selector;
use crate::api::node_selector::NodeIdentity;
use crate::api::volume::ClaimKind;
use crate::api::{ObjectKey, Quantity, volume};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::node::NodeFacts;
use crate::scheduler::pod::{ClaimUse, PodFacts};
use crate::scheduler::snapshot::Snapshot;
use crate::scheduler::storage::{Storage, VolumeBinding, VolumePlan};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, TopologySelectorTerm};
use k8s_openapi::api::storage::v1::CSIStorageCapacity;

const UNREACHABLE: &str = "node(s) didn't match PersistentVolume's node affinity";
const NO_VOLUMES: &str = "node(s) didn't find available persistent volumes to bind";
const NO_SPACE: &str = "node(s) did not have enough free storage";
const NO_SUCH_VOLUME: &str =
    "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const UNBOUND: &str = "pod has unbound immediate PersistentVolumeClaims";

pub(super) const FILTER: Filter = Filter {
    plugin: Plugin::VolumeBinding,
    concerns: |cycle| !cycle.claims.is_empty(),
    check: |cycle, node| plan(cycle, node).map(drop),
    hint,
};

/// The pod's claims, by what they wait for.
#[derive(Clone, Debug, Default)]
pub(in crate::scheduler) struct Claims<'a> {
    bound: Vec<&'a PersistentVolumeClaim>,
    /// Smallest first, so that large volumes are left for large claims.
    delayed: Vec<(&'a ObjectKey, &'a PersistentVolumeClaim)>,
}

impl<'a> Claims<'a> {
    pub(in crate::scheduler) fn is_empty(&self) -> bool {
        self.bound.is_empty() && self.delayed.is_empty()
    }

    pub(in crate::scheduler) fn new(
        pod: &'a PodFacts,
        snapshot: &'a Snapshot,
    ) -> Result<Self, Rejection> {
        let storage = &snapshot.storage;
        let refused = |reason: String| Rejection::for_good(Plugin::VolumeBinding, reason);
        let mut claims = Self::default();
        for used in &pod.ask.claims {
            let claim = usable(pod, used, storage).map_err(refused)?;
            if volume::is_fully_bound(claim) {
                claims.bound.push(claim);
            } else if storage.is_delayed(claim)
                && volume::volume_name(claim).is_none()
                && !storage.is_settled_elsewhere(&used.key, &pod.uid)
            {
                claims.delayed.push((&used.key, claim));
            } else {
                return Err(refused(UNBOUND.to_owned()));
            }
        }
        claims.delayed.sort_by_key(|(_, claim)| volume::requested(claim));
        Ok(claims)
    }
}

/// Upstream `podHasPVCs`.
fn usable<'a>(
    pod: &PodFacts,
    used: &ClaimUse,
    storage: &'a Storage,
) -> Result<&'a PersistentVolumeClaim, String> {
    let name = &used.key.name;
    let Some(claim) = storage.claim(&used.key) else {
        return Err(match used.kind {
            ClaimKind::Named => format!("persistentvolumeclaim \"{name}\" not found"),
            ClaimKind::Ephemeral => format!(
                "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
            ),
        });
    };
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase == Some("Lost") {
        let volume = volume::volume_name(claim).unwrap_or_default();
        return Err(format!(
            "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
        ));
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
    }
    if used.kind == ClaimKind::Ephemeral
        && !crate::api::owner::is_controlled_by(&claim.metadata, &pod.uid)
    {
        return Err(format!(
            "PVC {} was not created for pod {} (pod is not owner)",
            used.key, pod.key
        ));
    }
    Ok(claim)
}

/// What has to be done with the pod's volumes for it to run on the node (upstream
/// `FindPodVolumes`).
pub(in crate::scheduler) fn plan(
    cycle: &Cycle<'_>,
    node: &NodeFacts,
) -> Result<VolumePlan, Rejection> {
    let storage = &cycle.snapshot.storage;
    let mut reasons: Vec<Reason> = Vec::new();
    match check_bound(&cycle.claims.bound, storage, node.identity()) {
        Ok(()) => {}
        Err(reason) => reasons.push(reason.into()),
    }
    let plan = plan_delayed(cycle, storage, node).unwrap_or_else(|reason| {
        reasons.push(reason.into());
        VolumePlan::default()
    });
    if reasons.is_empty() {
        return Ok(plan);
    }
    Err(Rejection { plugin: Plugin::VolumeBinding, reasons, is_resolvable: false })
}

fn check_bound(
    claims: &[&PersistentVolumeClaim],
    storage: &Storage,
    node: NodeIdentity<'_>,
) -> Result<(), &'static str> {
    for claim in claims {
        let name = volume::volume_name(claim).unwrap_or_default();
        let volume = storage.volume(name).ok_or(NO_SUCH_VOLUME)?;
        if !volume::is_reachable(volume, node) {
            return Err(UNREACHABLE);
        }
    }
    Ok(())
}

fn plan_delayed(
    cycle: &Cycle<'_>,
    storage: &Storage,
    node: &NodeFacts,
) -> Result<VolumePlan, &'static str> {
    let mut plan = VolumePlan::default();
    for (key, claim) in &cycle.claims.delayed {
        let selected = volume::selected_node(claim);
        if selected.is_some_and(|selected| selected != node.name) {
            return Err(NO_VOLUMES);
        }
        let found =
            if selected.is_some() { None } else { find_volume(&plan, storage, (key, claim), node) };
        match found {
            Some(volume) => plan.bindings.push(VolumeBinding {
                volume: volume.metadata.name.clone().unwrap_or_default(),
                claim: (*key).clone(),
            }),
            None => {
                can_provision(storage, claim, node)?;
                plan.provisions.push((*key).clone());
            }
        }
    }
    Ok(plan)
}

fn find_volume<'a>(
    plan: &VolumePlan,
    storage: &'a Storage,
    (key, claim): (&ObjectKey, &PersistentVolumeClaim),
    node: &NodeFacts,
) -> Option<&'a PersistentVolume> {
    let is_free = |name: &str| {
        !plan.bindings.iter().any(|binding| binding.volume == name)
            && !storage.is_promised_elsewhere(name, key)
    };
    let free = storage.volumes.iter().filter(|(name, _)| is_free(name));
    volume::find_match(claim, free.map(|(_, volume)| &**volume), Some(node.identity()), true)
}

/// Upstream `checkVolumeProvisions`.
fn can_provision(
    storage: &Storage,
    claim: &PersistentVolumeClaim,
    node: &NodeFacts,
) -> Result<(), &'static str> {
    let class = storage.class_of(claim).ok_or(NO_VOLUMES)?;
    let is_allowed = matches_topologies(class.allowed_topologies.as_deref(), node);
    if matches!(class.provisioner.as_str(), "" | volume::NO_PROVISIONER) || !is_allowed {
        return Err(NO_VOLUMES);
    }
    let tells_capacity = storage
        .drivers
        .get(&class.provisioner)
        .is_some_and(|driver| driver.spec.storage_capacity == Some(true));
    let Some(wanted) = volume::requested(claim).filter(|_| tells_capacity) else { return Ok(()) };
    let class = volume::claim_class(claim);
    let mut of_class =
        storage.capacities.values().filter(|capacity| capacity.storage_class_name == class);
    let has_space = of_class.any(|capacity| {
        is_of_node(capacity, node) && most(capacity).is_some_and(|most| most >= wanted)
    });
    if has_space { Ok(()) } else { Err(NO_SPACE) }
}

/// The largest volume that can be made.
fn most(capacity: &CSIStorageCapacity) -> Option<Quantity> {
    capacity.maximum_volume_size.as_ref().or(capacity.capacity.as_ref()).map(Quantity::of)
}

fn is_of_node(capacity: &CSIStorageCapacity, node: &NodeFacts) -> bool {
    let selector = Selector::of_object(capacity.node_topology.as_ref());
    selector.is_ok_and(|selector| selector.matches(node.labels()))
}

/// Any of the terms will do; without terms every node will (upstream `MatchTopologySelectorTerms`).
fn matches_topologies(terms: Option<&[TopologySelectorTerm]>, node: &NodeFacts) -> bool {
    let terms = terms.unwrap_or_default();
    let holds = |term: &TopologySelectorTerm| {
        let mut all = term.match_label_expressions.iter().flatten().peekable();
        all.peek().is_some()
            && all.all(|wanted| {
                node.label(&wanted.key)
                    .is_some_and(|value| wanted.values.iter().any(|one| one == value))
            })
    };
    terms.is_empty() || terms.iter().any(holds)
}

fn hint(pod: &PodFacts, event: &Event<'_>) -> bool {
    match event {
        Event::NodeAdded(_)
        | Event::VolumeAdded
        | Event::VolumeChanged(..)
        | Event::ClassAdded(_)
        | Event::CsiNodeAdded
        | Event::CapacityAdded => true,
        Event::NodeChanged(old, new) => old.metadata.labels != new.metadata.labels,
        // What was promised to its claims may be promised to others again.
        Event::PodGone(gone) => !gone.ask.claims.is_empty(),
        Event::ClaimAdded(key) | Event::ClaimChanged(key) => {
            pod.ask.claims.iter().any(|used| used.key == **key)
        }
        Event::ClassChanged(old, new) => old.allowed_topologies != new.allowed_topologies,
        Event::CapacityChanged(old, new) => most(new) > most(old),
        Event::CsiDriverChanged(old, new) => {
            old.spec.storage_capacity == Some(true) && new.spec.storage_capacity != Some(true)
        }
        _ => false,
    }
}
