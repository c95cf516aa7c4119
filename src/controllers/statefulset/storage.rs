//! The claims of a StatefulSet's pods: one per template and pod, who owns them, and the volumes that
//! use them.
//!
//! Upstream: pkg/controller/statefulset/stateful_set_utils.go and stateful_pod_control.go (v1.35).

use super::identity::ordinals;
use crate::api::owner::controller_reference;
use crate::client::ApiObject;
use crate::control::{Detail, Planned, Report, Write};
use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The claims that there are, by name.
pub(super) type Claims = BTreeMap<String, Arc<PersistentVolumeClaim>>;

/// What the set shall be to a pod's claims: upstream's `PersistentVolumeClaimRetentionPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Retention {
    deletes_with_set: bool,
    deletes_when_scaled: bool,
}

impl Retention {
    fn of(spec: &StatefulSetSpec) -> Self {
        let policy = spec.persistent_volume_claim_retention_policy.as_ref();
        let is_delete = |field: Option<&String>| field.is_some_and(|value| value == "Delete");
        Self {
            deletes_with_set: is_delete(policy.and_then(|policy| policy.when_deleted.as_ref())),
            deletes_when_scaled: is_delete(policy.and_then(|policy| policy.when_scaled.as_ref())),
        }
    }
}

/// A pod of a set whose claims are looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    pub(super) set: &'a StatefulSet,
    pub(super) spec: &'a StatefulSetSpec,
    pub(super) ordinal: i32,
    /// `None` where the pod is not there yet.
    pub(super) pod: Option<&'a Pod>,
}

/// What the claims of a pod need.
#[derive(Debug, Default)]
pub(super) struct ClaimWork {
    pub(super) writes: Vec<Planned>,
    /// Why there cannot be a pod with these claims yet.
    pub(super) obstacle: Option<String>,
}

pub(super) fn claim_name(
    template: &PersistentVolumeClaim,
    set: &StatefulSet,
    ordinal: i32,
) -> String {
    let name = |metadata: &ObjectMeta| metadata.name.clone().unwrap_or_default();
    format!("{}-{}-{ordinal}", name(&template.metadata), name(&set.metadata))
}

/// The names of the claims of the pod of this number.
pub(super) fn claim_names(set: &StatefulSet, ordinal: i32) -> impl Iterator<Item = String> {
    let templates = set.spec.iter().flat_map(|spec| spec.volume_claim_templates.iter().flatten());
    templates.map(move |template| claim_name(template, set, ordinal))
}

impl<'a> Member<'a> {
    fn templates(&self) -> impl Iterator<Item = &'a PersistentVolumeClaim> + use<'a> {
        self.spec.volume_claim_templates.iter().flatten()
    }

    /// Whether the pod's volumes are the set's claims: upstream `storageMatches`.
    pub(super) fn has_volumes(&self, pod: &Pod) -> bool {
        let volumes = || pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        self.templates().all(|template| {
            let claim = claim_name(template, self.set, self.ordinal);
            volumes().any(|volume| {
                Some(&volume.name) == template.metadata.name.as_ref()
                    && volume
                        .persistent_volume_claim
                        .as_ref()
                        .is_some_and(|it| it.claim_name == claim)
            })
        })
    }

    /// Gives the pod its claims as volumes, in place of those of the same name: upstream
    /// `updateStorage`.
    pub(super) fn put_volumes(&self, pod: &mut Pod) {
        let volumes = self.templates().map(|template| Volume {
            name: template.metadata.name.clone().unwrap_or_default(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(template, self.set, self.ordinal),
                read_only: None,
            }),
            ..Volume::default()
        });
        let mut volumes: Vec<Volume> = volumes.collect();
        let count = volumes.len();
        let spec = pod.spec.get_or_insert_default();
        for volume in spec.volumes.take().unwrap_or_default() {
            if !volumes[..count].iter().any(|claim| claim.name == volume.name) {
                volumes.push(volume);
            }
        }
        spec.volumes = (!volumes.is_empty()).then_some(volumes);
    }

    /// Creates the claims that are not there: upstream `createPersistentVolumeClaims`.
    pub(super) fn missing_claims(&self, claims: &Claims) -> ClaimWork {
        let mut work = ClaimWork::default();
        for template in self.templates() {
            let name = claim_name(template, self.set, self.ordinal);
            match claims.get(&name) {
                None => work.writes.push(self.create(template, name)),
                Some(claim) if claim.metadata.deletion_timestamp.is_some() => {
                    work.obstacle.get_or_insert(format!("pvc {name} is being deleted"));
                }
                Some(_) => {}
            }
        }
        work
    }

    /// Unlike upstream, a claim belongs to the set from the beginning where it is to go with it, so
    /// that nothing is left behind when the set goes soon.
    fn create(&self, template: &PersistentVolumeClaim, name: String) -> Planned {
        let mut labels = template.metadata.labels.clone().unwrap_or_default();
        labels.extend(self.spec.selector.match_labels.clone().unwrap_or_default());
        let owners = Retention::of(self.spec).deletes_with_set;
        let claim = PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: self.set.metadata.namespace.clone(),
                labels: (!labels.is_empty()).then_some(labels),
                annotations: template.metadata.annotations.clone(),
                owner_references: owners.then(|| vec![controller_reference(self.set)]),
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        };
        let set = self.set.metadata.name.as_deref().unwrap_or_default();
        let pod = format!("{set}-{}", self.ordinal);
        let made = format!("Create Claim {name} Pod {pod} in StatefulSet {set} success");
        let failed =
            format!("Create Claim {name} for Pod {pod} in StatefulSet {set} failed error: ");
        Planned {
            write: Write::create(&claim),
            succeeded: Some(Report::normal("SuccessfulCreate", made)),
            failed: Some(Report::warning("FailedCreate", failed).with(Detail::Error)),
        }
    }

    /// Makes the owners of the pod's claims what the set's policy wants: upstream
    /// `UpdatePodClaimForRetentionPolicy`. Nothing happens to a claim of which somebody else is the
    /// controller, or which is of an earlier set or pod of the same name.
    pub(super) fn claims_to_own(&self, claims: &Claims) -> Vec<Planned> {
        let names = self.templates().map(|template| claim_name(template, self.set, self.ordinal));
        let claims: Vec<_> = names.filter_map(|name| claims.get(&name)).collect();
        claims.into_iter().filter_map(|claim| self.own(claim)).map(Planned::from).collect()
    }

    fn own(&self, claim: &PersistentVolumeClaim) -> Option<Write> {
        let references = claim.metadata.owner_references.clone().unwrap_or_default();
        if references.iter().any(|reference| self.is_stale(reference)) {
            return None;
        }
        let is_ours = |reference: &&OwnerReference| self.is_ours(reference);
        let retention = Retention::of(self.spec);
        let keeps = retention == Retention { deletes_with_set: false, deletes_when_scaled: false };
        let is_foreign = |reference: &OwnerReference| {
            reference.controller == Some(true) && !self.is_ours(reference)
        };
        let wanted = if !keeps && references.iter().any(is_foreign) {
            Vec::new()
        } else {
            self.owners(retention)
        };
        let ours: Vec<_> = references.iter().filter(is_ours).collect();
        let is_right = ours.len() == wanted.len()
            && wanted.iter().all(|owner| {
                ours.iter().any(|ours| ours.uid == owner.uid && ours.controller == Some(true))
            });
        if is_right {
            return None;
        }
        let mut references: Vec<_> =
            references.into_iter().filter(|reference| !self.is_ours(reference)).collect();
        references.extend(wanted);
        let mut claim = claim.clone();
        claim.metadata.owner_references = (!references.is_empty()).then_some(references);
        Some(Write::update(&claim))
    }

    /// Who the claims of this pod are to go with: the set, or, once the set has become smaller, the
    /// pod.
    fn owners(&self, retention: Retention) -> Vec<OwnerReference> {
        let is_scaled_down = !ordinals(self.spec).contains(&self.ordinal);
        let with_pod = retention.deletes_when_scaled && is_scaled_down;
        let with_set = retention.deletes_with_set && !with_pod;
        let pod = self.pod.filter(|_| with_pod).map(controller_reference);
        pod.into_iter().chain(with_set.then(|| controller_reference(self.set))).collect()
    }

    /// Whether a reference is to the set or the pod, or was to one before of the same name.
    fn is_named(&self, reference: &OwnerReference) -> Option<bool> {
        let to_set = refers_to(self.set, reference);
        let pod = self.pod.and_then(|pod| refers_to(pod, reference));
        let is_gone = self.pod.is_none()
            && reference.kind == Pod::KIND
            && reference.name == super::identity::pod_name(self.set, self.ordinal);
        to_set.or(pod).or(is_gone.then_some(false))
    }

    fn is_ours(&self, reference: &OwnerReference) -> bool {
        self.is_named(reference) == Some(true)
    }

    fn is_stale(&self, reference: &OwnerReference) -> bool {
        self.is_named(reference) == Some(false)
    }

    /// Whether one of the claims still goes with a pod or a set that is gone: upstream
    /// `PodClaimIsStale`, which looks at pods only. The garbage collector is about to delete it, and
    /// with it what a new pod would write there.
    pub(super) fn has_stale_claim(&self, claims: &Claims) -> bool {
        self.templates().any(|template| {
            let claim = claims.get(&claim_name(template, self.set, self.ordinal));
            let owners = claim.and_then(|claim| claim.metadata.owner_references.as_ref());
            owners.into_iter().flatten().any(|reference| self.is_stale(reference))
        })
    }
}

/// `None` where the reference is to something else; else whether it is to this very object.
fn refers_to<K: ApiObject>(object: &K, reference: &OwnerReference) -> Option<bool> {
    let metadata = object.metadata();
    let is_named = reference.api_version == <K as Resource>::API_VERSION
        && reference.kind == <K as Resource>::KIND
        && Some(&reference.name) == metadata.name.as_ref();
    is_named.then(|| Some(&reference.uid) == metadata.uid.as_ref())
}
