//! Claims, volumes and what is known of how volumes are made, with what has been promised but is not
//! written yet.

use super::pod::PodFacts;
use super::state::Written;
use crate::api::{ObjectKey, Revision, volume};
use crate::client::revision_of;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{
    CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Objects about storage, and promises.
#[derive(Debug, Default)]
pub(super) struct Storage {
    pub(super) claims: BTreeMap<ObjectKey, Arc<PersistentVolumeClaim>>,
    pub(super) volumes: BTreeMap<String, Arc<PersistentVolume>>,
    pub(super) classes: BTreeMap<String, Arc<StorageClass>>,
    pub(super) nodes: BTreeMap<String, Arc<CSINode>>,
    pub(super) drivers: BTreeMap<String, Arc<CSIDriver>>,
    pub(super) capacities: BTreeMap<ObjectKey, Arc<CSIStorageCapacity>>,
    pub(super) attachments: BTreeMap<String, Arc<VolumeAttachment>>,
    /// What decided placements will do, by the uid of the pod, until it is done or given up.
    promises: BTreeMap<String, VolumePlan>,
}

/// What has to be written, and then to happen, before a pod can be bound to its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VolumePlan {
    /// Volumes that are to be bound to claims.
    pub(super) bindings: Vec<VolumeBinding>,
    /// Claims for which volumes are to be made for the node.
    pub(super) provisions: Vec<ObjectKey>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VolumeBinding {
    pub(super) volume: String,
    pub(super) claim: ObjectKey,
}

impl VolumePlan {
    pub(super) fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.provisions.is_empty()
    }
}

/// How far the volumes of a decided placement are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Every claim of the pod has its volume.
    Bound,
    Waiting,
    /// It will not happen on this node.
    Failed(String),
}

impl Storage {
    pub(super) fn claim(&self, key: &ObjectKey) -> Option<&PersistentVolumeClaim> {
        self.claims.get(key).map(|claim| &**claim)
    }

    pub(super) fn volume(&self, name: &str) -> Option<&PersistentVolume> {
        self.volumes.get(name).map(|volume| &**volume)
    }

    pub(super) fn class_of(&self, claim: &PersistentVolumeClaim) -> Option<&StorageClass> {
        self.classes.get(volume::claim_class(claim)).map(|class| &**class)
    }

    /// Whether the claim's volume is chosen or made only once a pod needs it.
    pub(super) fn is_delayed(&self, claim: &PersistentVolumeClaim) -> bool {
        let mode = self.class_of(claim).and_then(|class| class.volume_binding_mode.as_deref());
        mode == Some("WaitForFirstConsumer")
    }

    pub(super) fn promise(&mut self, uid: &str, plan: VolumePlan) {
        if !plan.is_empty() {
            self.promises.insert(uid.to_owned(), plan);
        }
    }

    /// What was promised is done, or will not be. Says whether there was something.
    pub(super) fn release(&mut self, uid: &str) -> bool {
        self.promises.remove(uid).is_some()
    }

    pub(super) fn promise_of(&self, uid: &str) -> Option<&VolumePlan> {
        self.promises.get(uid)
    }

    /// Whether another claim than this has been promised the volume.
    pub(super) fn is_promised_elsewhere(&self, name: &str, claim: &ObjectKey) -> bool {
        let mut bindings = self.promises.values().flat_map(|plan| &plan.bindings);
        bindings.any(|binding| binding.volume == name && binding.claim != *claim)
    }

    /// Whether a placement has been decided that will have a volume bound to or made for the claim.
    pub(super) fn is_settled_elsewhere(&self, claim: &ObjectKey, uid: &str) -> bool {
        self.promises.iter().any(|(other, plan)| {
            let mut bound = plan.bindings.iter().map(|binding| &binding.claim);
            other != uid && (bound.any(|bound| bound == claim) || plan.provisions.contains(claim))
        })
    }

    /// Whether what was written for a pod has come back from the API server.
    pub(super) fn has_seen(&self, written: &Written) -> bool {
        let is_seen = |metadata: Option<&ObjectMeta>, revision: Revision| {
            // What is gone was seen to go.
            metadata
                .is_none_or(|metadata| revision_of(metadata).is_none_or(|seen| seen >= revision))
        };
        let mut claims = written.claims.iter();
        let mut volumes = written.volumes.iter();
        claims
            .all(|(key, revision)| is_seen(self.claim(key).map(|claim| &claim.metadata), *revision))
            && volumes.all(|(name, revision)| {
                is_seen(self.volume(name).map(|volume| &volume.metadata), *revision)
            })
    }

    /// How far the volumes of `pod`, which is to go to `node`, are (upstream `checkBindings`,
    /// plugins/volumebinding/binder.go, v1.35).
    pub(super) fn progress(&self, pod: &PodFacts, node: &str) -> Progress {
        let Some(plan) = self.promise_of(&pod.uid) else { return Progress::Bound };
        for binding in &plan.bindings {
            let Some(found) = self.volume(&binding.volume) else {
                return Progress::Failed(format!("volume {} is gone", binding.volume));
            };
            let Some(claim) = self.claim(&binding.claim) else {
                return Progress::Failed(format!("claim {} is gone", binding.claim));
            };
            if volume::claim_of(found).is_some() && !volume::is_bound_to(found, claim) {
                return Progress::Failed(format!("volume {} was given away", binding.volume));
            }
            if !volume::is_fully_bound(claim) {
                return Progress::Waiting;
            }
        }
        for key in &plan.provisions {
            let Some(claim) = self.claim(key) else {
                return Progress::Failed(format!("claim {key} is gone"));
            };
            if volume::is_fully_bound(claim) {
                continue;
            }
            match volume::selected_node(claim) {
                Some(selected) if selected == node => return Progress::Waiting,
                _ => return Progress::Failed(format!("provisioning failed for claim {key}")),
            }
        }
        Progress::Bound
    }
}
