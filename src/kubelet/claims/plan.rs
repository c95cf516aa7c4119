//! When the claims of a pod are asked for, and which answers will do. Pure.

use crate::api::ObjectKey;
use crate::api::node_selector::NodeIdentity;
use crate::api::owner::is_controlled_by;
use crate::api::volume::{claim_of, is_reachable, volume_name};
use crate::client::key_of;
use crate::kubelet::pod::BoundPod;
use crate::stdx::Backoff;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What passes before a claim that cannot be used yet is asked for again. Upstream looks ten times a
/// second.
const RETRY: Backoff =
    Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(30) };

/// What is known of the volume behind a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    Volume(Arc<PersistentVolume>),
    /// Why there is none.
    Refused(String),
    /// Not asked yet, or no answer yet.
    Unknown,
}

/// The claims of one pod, by the names of its volumes.
#[derive(Clone, Debug, Default)]
pub struct Claims(BTreeMap<String, Entry>);

#[derive(Clone, Debug, Default)]
enum Entry {
    #[default]
    New,
    Asked {
        failures: u32,
    },
    Refused {
        why: String,
        failures: u32,
        retry_at: Timestamp,
    },
    Found(Arc<PersistentVolume>),
}

impl Claims {
    #[must_use]
    pub fn new(pod: &BoundPod) -> Self {
        let volumes = pod.spec().volumes.iter().flatten();
        let claimed =
            volumes.filter(|it| it.persistent_volume_claim.is_some() || it.ephemeral.is_some());
        Self(claimed.map(|volume| (volume.name.clone(), Entry::New)).collect())
    }

    /// What is to be asked for now. It counts as asked until [`take`](Self::take).
    pub fn due(&mut self, now: Timestamp) -> Vec<String> {
        let mut due = Vec::new();
        for (name, entry) in &mut self.0 {
            let failures = match entry {
                Entry::New => 0,
                Entry::Refused { failures, retry_at, .. } if *retry_at <= now => *failures,
                _ => continue,
            };
            *entry = Entry::Asked { failures };
            due.push(name.clone());
        }
        due
    }

    /// When something will be due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let retries = self.0.values().filter_map(|entry| match entry {
            Entry::Refused { retry_at, .. } => Some(*retry_at),
            _ => None,
        });
        retries.min()
    }

    /// Takes what came of asking.
    pub fn take(
        &mut self,
        name: &str,
        answer: Result<Arc<PersistentVolume>, String>,
        now: Timestamp,
    ) {
        let Some(entry) = self.0.get_mut(name) else { return };
        let before = match entry {
            Entry::Asked { failures } => *failures,
            _ => 0,
        };
        *entry = match answer {
            Ok(volume) => Entry::Found(volume),
            Err(why) => {
                let failures = before.saturating_add(1);
                let delay = SignedDuration::try_from(RETRY.delay(failures));
                let delay = delay.unwrap_or(SignedDuration::MAX);
                let retry_at = now.saturating_add(delay).unwrap_or(Timestamp::MAX);
                Entry::Refused { why, failures, retry_at }
            }
        };
    }

    /// What has failed is asked for again at once.
    pub fn retry(&mut self) {
        for entry in self.0.values_mut() {
            if let Entry::Refused { retry_at, .. } = entry {
                *retry_at = Timestamp::MIN;
            }
        }
    }

    /// Nobody is asked any more: whoever was has come to nothing.
    pub fn give_up_asking(&mut self) {
        for entry in self.0.values_mut().filter(|entry| matches!(entry, Entry::Asked { .. })) {
            *entry = Entry::New;
        }
    }

    /// What the volumes can be made of.
    #[must_use]
    pub fn known(&self) -> BTreeMap<String, Found> {
        let known = |entry: &Entry| match entry {
            Entry::New | Entry::Asked { .. } => Found::Unknown,
            Entry::Refused { why, .. } => Found::Refused(why.clone()),
            Entry::Found(volume) => Found::Volume(Arc::clone(volume)),
        };
        self.0.iter().map(|(name, entry)| (name.clone(), known(entry))).collect()
    }
}

/// The name of the volume that a claim has. `owner` is the pod that the claim must be of.
///
/// # Errors
/// Why a pod cannot use the claim now.
pub(super) fn check_claim(
    claim: &PersistentVolumeClaim,
    owner: Option<(&str, ObjectKey)>,
) -> Result<String, String> {
    if let Some((uid, pod)) = owner
        && !is_controlled_by(&claim.metadata, uid)
    {
        let key = key_of(&claim.metadata);
        return Err(format!("PVC {key} was not created for pod {pod} (pod is not owner)"));
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err("PVC is being deleted".to_owned());
    }
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    match volume_name(claim) {
        Some(name) if phase == Some("Bound") => Ok(name.to_owned()),
        _ => Err("PVC is not bound".to_owned()),
    }
}

/// # Errors
/// Why the volume is not the claim's, or not to be had here.
pub(super) fn check_volume(
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
    node: &Node,
) -> Result<(), String> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let owner = claim_of(volume).and_then(|reference| reference.uid.as_ref());
    if owner.is_none() || owner != claim.metadata.uid.as_ref() {
        return Err(format!("PV {name} is not bound to this claim"));
    }
    let node_name = node.metadata.name.as_deref().unwrap_or_default();
    let identity = NodeIdentity { name: node_name, labels: node.metadata.labels.as_ref() };
    if is_reachable(volume, identity) {
        return Ok(());
    }
    Err(format!("NodeAffinity check failed for volume {name:?}: no matching NodeSelectorTerms"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn typed<K: serde::de::DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).unwrap()
    }

    #[track_caller]
    fn check(claim: Value, owner: Option<&str>, expected: Result<&str, &str>) {
        let mut whole = json!({
            "metadata": { "name": "data", "namespace": "shop" },
            "spec": { "volumeName": "v" }, "status": { "phase": "Bound" },
        });
        json_patch::merge(&mut whole, &claim);
        let owner = owner.map(|uid| (uid, ObjectKey::namespaced("shop", "web")));
        let result = check_claim(&typed(whole), owner);
        assert_eq!(result.as_deref().map_err(String::as_str), expected, "{claim}");
    }

    #[test]
    fn only_claims_that_are_bound_and_stay_can_be_used() {
        check(json!({}), None, Ok("v"));
        check(json!({ "status": { "phase": "Pending" } }), None, Err("PVC is not bound"));
        check(json!({ "spec": { "volumeName": null } }), None, Err("PVC is not bound"));
        let going = json!({ "metadata": { "deletionTimestamp": "2026-11-21T00:00:00Z" } });
        check(going, None, Err("PVC is being deleted"));
        let owner = json!({ "apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "u1", "controller": true });
        let owned = json!({ "metadata": { "ownerReferences": [owner] } });
        check(owned.clone(), Some("u1"), Ok("v"));
        check(
            owned,
            Some("u2"),
            Err("PVC shop/data was not created for pod shop/web (pod is not owner)"),
        );
    }

    #[test]
    fn volumes_are_the_claims_and_within_reach() {
        let claim = typed(json!({ "metadata": { "name": "data", "uid": "c1" } }));
        let node: Node = typed(json!({ "metadata": { "name": "n1", "labels": { "zone": "a" } } }));
        let requirement = json!({ "key": "zone", "operator": "In", "values": ["a"] });
        let affinity =
            json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [requirement] }] } });
        let volume = |uid: &str, affinity: Value| -> PersistentVolume {
            typed(json!({ "metadata": { "name": "v" },
                "spec": { "claimRef": { "uid": uid }, "nodeAffinity": affinity } }))
        };
        let plain = volume("c1", Value::Null);
        assert_eq!(check_volume(&claim, &plain, &node), Ok(()));
        assert!(check_volume(&claim, &volume("c2", Value::Null), &node).is_err());
        let local = volume("c1", affinity);
        assert_eq!(check_volume(&claim, &local, &node), Ok(()));
        let elsewhere: Node = typed(json!({ "metadata": { "name": "n2" } }));
        assert_eq!(
            check_volume(&claim, &local, &elsewhere).unwrap_err(),
            "NodeAffinity check failed for volume \"v\": no matching NodeSelectorTerms"
        );
    }

    #[test]
    fn what_is_refused_is_asked_for_again_and_what_is_found_is_not() {
        let pod = json!({ "metadata": { "name": "web", "namespace": "shop", "uid": "u1" },
            "spec": { "containers": [], "volumes": [
                { "name": "data", "persistentVolumeClaim": { "claimName": "data" } },
                { "name": "plain", "emptyDir": {} },
            ] } });
        let pod = BoundPod::read(Arc::new(typed(pod))).unwrap();
        let mut claims = Claims::new(&pod);
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(claims.due(at(0)), ["data"]);
        assert!(claims.due(at(0)).is_empty());
        claims.take("data", Err("PVC is not bound".to_owned()), at(0));
        assert_eq!(claims.known()["data"], Found::Refused("PVC is not bound".to_owned()));
        assert!(claims.due(at(0)).is_empty() && claims.next_due().is_some());
        assert_eq!(claims.due(at(1)), ["data"]);
        claims.take("data", Ok(Arc::default()), at(1));
        assert!(claims.due(at(9)).is_empty() && claims.next_due().is_none());
        assert!(matches!(claims.known()["data"], Found::Volume(_)));
    }
}
