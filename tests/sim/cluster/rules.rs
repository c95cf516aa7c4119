//! What must be true after every commit.

use super::audit::{Audit, Change, Objects, is_over, list, millicores, millis, name, text, uid};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The rules of every scenario.
pub(super) fn always(audit: &mut Audit) {
    audit.rule(pods_are_bound_once);
    audit.rule(pods_fit_their_nodes);
    audit.rule(claims_and_volumes_go_in_pairs);
    audit.rule(no_claim_is_provided_for_twice);
}

fn pods_are_bound_once(_: &Objects, change: &Change) -> Result<(), String> {
    let Some(new) = change.new_of("core/pods") else { return Ok(()) };
    let Some(old) = &change.old else { return Ok(()) };
    let (before, now) = (text(old, "/spec/nodeName"), text(new, "/spec/nodeName"));
    let is_moved = !before.is_empty() && before != now && uid(old) == uid(new);
    if is_moved { Err(format!("{} moves from {before} to {now}", change.key)) } else { Ok(()) }
}

/// Only where a pod is put there: what is there already may have become too much.
fn pods_fit_their_nodes(objects: &Objects, change: &Change) -> Result<(), String> {
    let Some(pod) = change.new_of("core/pods") else { return Ok(()) };
    let was_bound = change.old.as_ref().is_some_and(|old| !text(old, "/spec/nodeName").is_empty());
    let node = text(pod, "/spec/nodeName");
    if was_bound || node.is_empty() {
        return Ok(());
    }
    let Some(machine) = objects.get(&format!("/core/nodes/{node}")) else { return Ok(()) };
    let there = list(objects, "core/pods");
    let there = there.filter(|pod| text(pod, "/spec/nodeName") == node && !is_over(pod));
    let asked: u64 = there.map(millicores).sum();
    let most = text(machine, "/status/allocatable/cpu");
    if asked > millis(most) {
        return Err(format!("pods on {node} ask for {asked}m of {most} processors"));
    }
    Ok(())
}

/// A claim that names a volume is the one that the volume names, and never names another.
fn claims_and_volumes_go_in_pairs(objects: &Objects, change: &Change) -> Result<(), String> {
    let Some(claim) = change.new_of("core/persistentvolumeclaims") else { return Ok(()) };
    let named = text(claim, "/spec/volumeName");
    if let Some(old) = &change.old {
        let before = text(old, "/spec/volumeName");
        if !before.is_empty() && before != named && uid(old) == uid(claim) {
            return Err(format!("{} goes from {before} to {named}", change.key));
        }
    }
    if named.is_empty() || text(claim, "/status/phase") == "Lost" {
        return Ok(());
    }
    let Some(volume) = objects.get(&format!("/core/persistentvolumes/{named}")) else {
        return Ok(());
    };
    let owner = text(volume, "/spec/claimRef/uid");
    if owner != uid(claim) {
        return Err(format!("{} names {named}, which is of {owner:?}", change.key));
    }
    Ok(())
}

fn no_claim_is_provided_for_twice(objects: &Objects, change: &Change) -> Result<(), String> {
    let Some(volume) = change.new_of("core/persistentvolumes") else { return Ok(()) };
    if change.old.is_some() || !is_provisioned(volume) {
        return Ok(());
    }
    let claim = text(volume, "/spec/claimRef/uid");
    let same = list(objects, "core/persistentvolumes")
        .filter(|it| is_provisioned(it) && text(it, "/spec/claimRef/uid") == claim);
    let names: Vec<&str> = same.map(name).collect();
    if names.len() > 1 { Err(format!("for claim {claim} there are {names:?}")) } else { Ok(()) }
}

pub(super) fn is_provisioned(volume: &Value) -> bool {
    volume["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"].is_string()
}

/// No pod is let into a namespace beyond what its quota has.
pub(super) fn quota_holds(
    objects: &Objects,
    change: &Change,
    now: Timestamp,
) -> Result<(), String> {
    let Some(pod) = change.new_of("core/pods").filter(|_| change.old.is_none()) else {
        return Ok(());
    };
    let namespace = text(pod, "/metadata/namespace");
    let quotas = list(objects, "core/resourcequotas");
    for quota in quotas.filter(|it| text(it, "/metadata/namespace") == namespace) {
        let (pods, cpu) = used(objects, namespace, now);
        // What users have just asked for counts from when it is in the status.
        let most = |resource: &str| text(&quota["status"]["hard"], resource).to_owned();
        let (most_pods, most_cpu) = (most("/pods"), most("/requests.cpu"));
        if !most_pods.is_empty() && pods > most_pods.parse::<u64>().unwrap() {
            let told = &quota["status"]["used"];
            return Err(format!("{pods} pods are in {namespace}, of {most_pods}; told: {told}"));
        }
        if !most_cpu.is_empty() && cpu > millis(&most_cpu) {
            return Err(format!("{cpu}m are asked for in {namespace}, of {most_cpu}"));
        }
    }
    Ok(())
}

/// How many pods of a namespace count, and what they ask for. Those that have ended do not, and those
/// whose machine has not let them go in twice the time it had (upstream `QuotaV1Pod`).
pub(super) fn used(objects: &Objects, namespace: &str, now: Timestamp) -> (u64, u64) {
    let is_overdue = |pod: &Value| {
        let due = text(pod, "/metadata/deletionTimestamp").parse::<Timestamp>();
        let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default();
        due.is_ok_and(|due| now > due + jiff::SignedDuration::from_secs(grace))
    };
    let pods = list(objects, "core/pods").filter(|pod| {
        text(pod, "/metadata/namespace") == namespace && !is_over(pod) && !is_overdue(pod)
    });
    let pods: Vec<&Value> = pods.collect();
    (u64::try_from(pods.len()).unwrap(), pods.into_iter().map(millicores).sum())
}

/// Nothing is removed while somebody who is to stay owns it, unless a user has said so.
#[derive(Default)]
pub(super) struct Collection {
    /// The uids of what is deleted in the foreground.
    foreground: BTreeSet<String>,
}

impl Collection {
    pub(super) fn check(&mut self, objects: &Objects, change: &Change) -> Result<(), String> {
        if let Some(new) = &change.new {
            let finalizers = new["metadata"]["finalizers"].as_array().into_iter().flatten();
            let waits = finalizers.into_iter().any(|it| it == "foregroundDeletion");
            if waits && super::audit::is_going(new) {
                self.foreground.insert(uid(new).to_owned());
            }
            return Ok(());
        }
        let Some(gone) = &change.old else { return Ok(()) };
        if self.foreground.contains(uid(gone)) {
            let left = objects.iter().find(|(_, object)| blocks(object, uid(gone)));
            if let Some((left, _)) = left {
                return Err(format!("{} goes before {left}", change.key));
            }
        }
        if gone["metadata"]["annotations"]["user"] == "deletes" {
            return Ok(());
        }
        let by_uid: BTreeMap<&str, &Value> =
            objects.values().map(|object| (uid(object), object)).collect();
        let stays = owners(gone).find(|owner| {
            by_uid.get(text(owner, "/uid")).is_some_and(|it| !super::audit::is_going(it))
        });
        match stays {
            Some(owner) => Err(format!("{} goes while {} stays", change.key, owner["name"])),
            None => Ok(()),
        }
    }
}

pub(super) fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten()
}

fn blocks(object: &Value, owner: &str) -> bool {
    owners(object).any(|it| text(it, "/uid") == owner && it["blockOwnerDeletion"] == true)
}
