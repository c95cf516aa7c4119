//! Keeps a disk, or a claim for one pod only, from being used twice. Follows upstream
//! plugins/volumerestrictions (v1.35).

use super::{Filter, Plugin, Rejection};
use crate::api::volume::ClaimKind;
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::node::NodeFacts;
use crate::scheduler::pod::{Ask, ClaimUse, PodFacts};
use crate::scheduler::snapshot::Snapshot;

const DISK_REASON: &str = "node(s) had no available disk";
const CLAIM_REASON: &str = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";

pub(super) const FILTER: Filter = Filter {
    plugin: Plugin::VolumeRestrictions,
    concerns: |cycle| !cycle.pod.ask.disks.is_empty() || cycle.exclusive.users > 0,
    check,
    hint,
};

/// The pod's claims that one pod may use at a time, and how many pods do.
#[derive(Clone, Debug, Default)]
pub(in crate::scheduler) struct Exclusive {
    claims: Vec<String>,
    users: usize,
}

impl Exclusive {
    pub(in crate::scheduler) fn new(
        pod: &PodFacts,
        snapshot: &Snapshot,
    ) -> Result<Self, Rejection> {
        let mut exclusive = Self::default();
        for used in pod.ask.claims.iter().filter(|used| used.kind == ClaimKind::Named) {
            let Some(claim) = snapshot.storage.claim(&used.key) else {
                let reason = format!("persistentvolumeclaim \"{}\" not found", used.key.name);
                return Err(Rejection::for_good(Plugin::VolumeRestrictions, reason));
            };
            let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref());
            if modes.unwrap_or_default().iter().any(|mode| mode == "ReadWriteOncePod") {
                let is_used = snapshot.is_claim_in_use(pod.namespace(), &used.key.name);
                exclusive.users += usize::from(is_used);
                exclusive.claims.push(used.key.name.clone());
            }
        }
        Ok(exclusive)
    }

    fn uses(&self, pod: &PodFacts, other: &PodFacts) -> usize {
        let is_ours = |used: &&ClaimUse| {
            used.kind == ClaimKind::Named && self.claims.contains(&used.key.name)
        };
        if other.namespace() == pod.namespace() {
            other.ask.claims.iter().filter(is_ours).count()
        } else {
            0
        }
    }

    pub(in crate::scheduler) fn come(&mut self, pod: &PodFacts, other: &PodFacts) {
        self.users += self.uses(pod, other);
    }

    pub(in crate::scheduler) fn gone(&mut self, pod: &PodFacts, other: &PodFacts) {
        self.users = self.users.saturating_sub(self.uses(pod, other));
    }
}

fn check(cycle: &Cycle<'_>, node: &NodeFacts) -> Result<(), Rejection> {
    if node.pods().iter().any(|other| share_disk(&cycle.pod.ask, &other.ask)) {
        return Err(Rejection::for_now(Plugin::VolumeRestrictions, DISK_REASON));
    }
    if cycle.exclusive.users > 0 {
        return Err(Rejection::for_now(Plugin::VolumeRestrictions, CLAIM_REASON));
    }
    Ok(())
}

fn share_disk(one: &Ask, other: &Ask) -> bool {
    one.disks.iter().any(|disk| other.disks.iter().any(|theirs| disk.conflicts_with(theirs)))
}

fn hint(pod: &PodFacts, event: &Event<'_>) -> bool {
    match event {
        Event::NodeAdded(_) => true,
        Event::PodGone(gone) => {
            share_disk(&pod.ask, &gone.ask)
                || gone.ask.claims.iter().any(|used| pod.ask.claims.contains(used))
        }
        Event::ClaimAdded(key) => pod.ask.claims.iter().any(|used| used.key == **key),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, verdict_with};
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_disk_is_shared_by_readers_only() {
        let disk = |read_only: bool| {
            json!({"volumes": [{"name": "d", "iscsi": {
                "targetPortal": "x", "iqn": "iqn.1", "lun": 0, "readOnly": read_only,
            }}]})
        };
        let check = |wanted: Value, taken: Value, expected: &str| {
            let there = pod("there", taken);
            let found =
                verdict_with(&FILTER, &pod("p", wanted), &[node("a", json!({}))], &[(there, "a")]);
            assert_eq!(found, [expected]);
        };
        check(disk(true), disk(true), "ok");
        check(disk(true), disk(false), DISK_REASON);
        check(disk(false), json!({}), "ok");
    }
}
