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
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
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
    let is_allowed = volume::is_allowed_by(class, node.labels());
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

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, snapshot};
    use super::*;
    use crate::scheduler::known::Known;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn of<T: DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn merged(mut base: Value, more: &Value) -> Value {
        json_patch::merge(&mut base, more);
        base
    }

    fn using(claims: &[&str]) -> PodFacts {
        let volume =
            |claim: &&str| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}});
        let volumes: Vec<_> = claims.iter().map(volume).collect();
        pod("p", json!({"volumes": volumes}))
    }

    fn capacity_of(class: &str, more: &Value) -> CSIStorageCapacity {
        let base = json!({
            "metadata": {"name": "c", "namespace": "default"}, "storageClassName": class,
        });
        of(merged(base, more))
    }

    /// One node, `a` in the zone `z`, and what there is of storage. Classes make volumes for who
    /// comes first, with the driver `disk.example`.
    struct World(Snapshot);

    impl World {
        fn new() -> Self {
            let labels = json!({"metadata": {"labels": {"zone": "z", "rack": "1"}}});
            Self(snapshot(&[node("a", labels)], &[]))
        }

        fn class(mut self, name: &str, more: Value) -> Self {
            let base = json!({
                "metadata": {"name": name}, "provisioner": "disk.example",
                "volumeBindingMode": "WaitForFirstConsumer",
            });
            let class = of(merged(base, &more));
            self.0.storage.classes.insert(name.to_owned(), Arc::new(class));
            self
        }

        fn claim(mut self, name: &str, more: Value) -> Self {
            let base = json!({
                "metadata": {"name": name, "namespace": "default", "uid": name},
                "spec": {"storageClassName": "fast", "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "5Gi"}}},
            });
            let claim = of(merged(base, &more));
            self.0.storage.claims.insert(ObjectKey::namespaced("default", name), Arc::new(claim));
            self
        }

        fn volume(mut self, name: &str, zone: &str, more: Value) -> Self {
            let zone = json!({"key": "zone", "operator": "In", "values": [zone]});
            let base = json!({
                "metadata": {"name": name},
                "spec": {"storageClassName": "fast", "accessModes": ["ReadWriteOnce"],
                    "capacity": {"storage": "5Gi"},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [
                        {"matchExpressions": [zone]},
                    ]}}},
                "status": {"phase": "Available"},
            });
            let volume = of(merged(base, &more));
            self.0.storage.volumes.insert(name.to_owned(), Arc::new(volume));
            self
        }

        fn driver(mut self, tells_capacity: bool) -> Self {
            let driver = json!({
                "metadata": {"name": "disk.example"}, "spec": {"storageCapacity": tells_capacity},
            });
            self.0.storage.drivers.insert("disk.example".to_owned(), Arc::new(of(driver)));
            self
        }

        fn capacity(mut self, class: &str, more: &Value) -> Self {
            let key = ObjectKey::namespaced("default", self.0.storage.capacities.len().to_string());
            let capacity = Arc::new(capacity_of(class, more));
            self.0.storage.capacities.insert(key, capacity);
            self
        }

        /// What becomes of the claims of a pod on the node, or why they keep it away.
        fn told(&self, claims: &[&str]) -> String {
            let pod = using(claims);
            let known = Known::new(&pod.ask, &self.0);
            let node = self.0.nodes().next().unwrap();
            let planned = Cycle::new(&pod, &known, &self.0).and_then(|cycle| plan(&cycle, node));
            match planned {
                Err(rejection) => rejection.reasons.join(", "),
                Ok(VolumePlan { bindings, provisions }) => {
                    let bound =
                        bindings.iter().map(|it| format!("{}={}", it.claim.name, it.volume));
                    let made = provisions.iter().map(|claim| format!("+{}", claim.name));
                    bound.chain(made).collect::<Vec<_>>().join(" ")
                }
            }
        }
    }

    #[test]
    fn claims_are_bound_or_provisioned_where_the_node_can_have_them() {
        let bound = json!({
            "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": "mine"},
        });
        let selected = |name: &str| json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": name}}});
        let of_class = |class: &str| json!({"spec": {"storageClassName": class}});
        let world = |zone_of_mine: &str| {
            World::new()
                .class("fast", json!({}))
                .class("now", json!({"volumeBindingMode": "Immediate"}))
                .class("by-hand", json!({"provisioner": "kubernetes.io/no-provisioner"}))
                .claim("new", json!({}))
                .claim("large", json!({"spec": {"resources": {"requests": {"storage": "9Gi"}}}}))
                .claim("bound", bound.clone())
                .claim("here", selected("a"))
                .claim("there", selected("b"))
                .claim("now", of_class("now"))
                .claim("by-hand", of_class("by-hand"))
                .claim("no-class", of_class("gone"))
                .volume("mine", zone_of_mine, json!({"status": {"phase": "Bound"}}))
        };
        let check = |world: &World, claims: &[&str], expected: &str| {
            assert_eq!(world.told(claims), expected, "{claims:?}");
        };
        let plain = world("z");
        check(&plain, &["new"], "+new");
        check(&plain, &["bound"], "");
        check(&plain, &["bound", "new"], "+new");
        check(&plain, &["here"], "+here");
        check(&plain, &["there"], NO_VOLUMES);
        check(&plain, &["by-hand"], NO_VOLUMES);
        check(&plain, &["now"], UNBOUND);
        check(&plain, &["no-class"], UNBOUND);
        check(&plain, &["none"], "persistentvolumeclaim \"none\" not found");
        check(&world("other"), &["bound"], UNREACHABLE);
        check(&world("other"), &["bound", "by-hand"], &format!("{UNREACHABLE}, {NO_VOLUMES}"));

        let free = world("z").volume("free", "z", json!({})).volume("far", "y", json!({}));
        check(&free, &["new"], "new=free");
        check(&free, &["new", "large"], "new=free +large");
        // One that a volume is made for already does not take another.
        check(&free, &["here"], "+here");
        let by_hand = world("z").volume("free", "z", of_class("by-hand"));
        check(&by_hand, &["by-hand"], "by-hand=free");
    }

    #[test]
    fn a_class_is_for_nodes_of_its_topologies() {
        let term = |wanted: &[(&str, &[&str])]| {
            let expression =
                |(key, values): &(&str, &[&str])| json!({"key": key, "values": values});
            let all: Vec<_> = wanted.iter().map(expression).collect();
            json!({"matchLabelExpressions": all})
        };
        let check = |terms: Value, expected: &str| {
            let world = World::new()
                .class("fast", json!({"allowedTopologies": terms}))
                .claim("new", json!({}))
                .volume("free", "z", json!({"spec": {"storageClassName": "other"}}));
            assert_eq!(world.told(&["new"]), expected, "{terms}");
        };
        check(json!(null), "+new");
        check(json!([]), "+new");
        check(json!([term(&[("zone", &["z"])])]), "+new");
        check(json!([term(&[("zone", &["y", "z"])])]), "+new");
        check(json!([term(&[("zone", &["y"])])]), NO_VOLUMES);
        check(json!([term(&[("zone", &["z"]), ("rack", &["1"])])]), "+new");
        check(json!([term(&[("zone", &["z"]), ("rack", &["2"])])]), NO_VOLUMES);
        check(json!([term(&[("row", &["1"])])]), NO_VOLUMES);
        // Any term will do, and an empty one is for no node.
        check(json!([term(&[("zone", &["y"])]), term(&[("rack", &["1"])])]), "+new");
        check(json!([{}]), NO_VOLUMES);
        check(json!([term(&[]), term(&[("zone", &["z"])])]), "+new");
        check(json!([term(&[("zone", &[])])]), NO_VOLUMES);

        // They are about volumes that are made, not about those that are there.
        let there = World::new()
            .class("fast", json!({"allowedTopologies": [term(&[("zone", &["y"])])]}))
            .claim("new", json!({}))
            .volume("free", "z", json!({}));
        assert_eq!(there.told(&["new"]), "new=free");
    }

    #[test]
    fn a_driver_that_tells_its_capacity_makes_volumes_only_where_they_fit() {
        let on = |labels: Value| json!({"nodeTopology": {"matchLabels": labels}});
        let everywhere = || json!({"nodeTopology": {}});
        let with = |place: Value, sizes: Value| merged(place, &sizes);
        let check = |capacities: &[(&str, Value)], expected: &str| {
            for (tells, expected) in [(true, expected), (false, "+new")] {
                let world = World::new().class("fast", json!({})).claim("new", json!({}));
                let world = capacities
                    .iter()
                    .fold(world.driver(tells), |world, (class, more)| world.capacity(class, more));
                assert_eq!(world.told(&["new"]), expected, "{capacities:?}");
            }
        };
        let enough = || json!({"capacity": "5Gi"});
        check(&[], NO_SPACE);
        check(&[("fast", with(everywhere(), enough()))], "+new");
        check(&[("fast", with(on(json!({"zone": "z"})), enough()))], "+new");
        check(&[("fast", with(on(json!({"zone": "y"})), enough()))], NO_SPACE);
        check(&[("slow", with(everywhere(), enough()))], NO_SPACE);
        // Without a topology it can be had nowhere.
        check(&[("fast", enough())], NO_SPACE);
        check(&[("fast", with(everywhere(), json!({"capacity": "5119Mi"})))], NO_SPACE);
        check(&[("fast", with(everywhere(), json!({"capacity": "0"})))], NO_SPACE);
        check(&[("fast", everywhere())], NO_SPACE);
        // What counts is the largest volume that can be made, where that is told.
        let largest = |most: &str| json!({"capacity": "1Ti", "maximumVolumeSize": most});
        check(&[("fast", with(everywhere(), largest("5Gi")))], "+new");
        check(&[("fast", with(everywhere(), largest("1Gi")))], NO_SPACE);
        check(&[("fast", with(everywhere(), json!({"maximumVolumeSize": "5Gi"})))], "+new");
        check(
            &[
                ("fast", with(on(json!({"zone": "y"})), enough())),
                ("slow", with(everywhere(), enough())),
                ("fast", with(on(json!({"rack": "1"})), enough())),
            ],
            "+new",
        );
    }

    #[test]
    fn a_pod_is_tried_again_when_more_can_be_made() {
        let told = |old: Value, new: Value| {
            let (old, new) = (capacity_of("fast", &old), capacity_of("fast", &new));
            hint(&using(&["new"]), &Event::CapacityChanged(&old, &new))
        };
        let most = |size: &str| json!({"capacity": "9Gi", "maximumVolumeSize": size});
        assert!(told(json!({}), json!({"capacity": "1Gi"})));
        assert!(told(json!({"capacity": "1Gi"}), json!({"capacity": "2Gi"})));
        assert!(!told(json!({"capacity": "2Gi"}), json!({"capacity": "2Gi"})));
        assert!(!told(json!({"capacity": "2Gi"}), json!({"capacity": "1Gi"})));
        assert!(!told(json!({"capacity": "2Gi"}), json!({})));
        assert!(told(most("1Gi"), most("2Gi")));
        assert!(told(most("1Gi"), json!({"capacity": "9Gi"})));
        assert!(!told(most("2Gi"), most("1Gi")));

        let class = |zone: &str| {
            let terms = json!([{"matchLabelExpressions": [{"key": "zone", "values": [zone]}]}]);
            of(json!({"metadata": {}, "provisioner": "x", "allowedTopologies": terms}))
        };
        let (y, z) = (class("y"), class("z"));
        assert!(hint(&using(&["new"]), &Event::ClassChanged(&y, &z)));
        assert!(!hint(&using(&["new"]), &Event::ClassChanged(&z, &z)));
    }
}
