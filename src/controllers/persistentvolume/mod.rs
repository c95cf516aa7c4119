//! Gives claims their volumes, and says how both are: bound, released, lost.
//!
//! Start at [`claim`] and at [`volume`], which decide about one claim and about one volume; both
//! kinds of keys share a queue. Architecture invariant: a volume is promised by a write to the
//! volume alone, at the revision at which it was seen to be free, so that no two claims get it.
//!
//! Upstream pkg/controller/volume/persistentvolume (v1.35), without its volume plugins: volumes are
//! made and deleted by provisioners that watch the API, our own among them.

pub mod claim;
#[cfg(test)]
mod tests;
pub mod volume;

use super::Caches;
use crate::api::ObjectKey;
use crate::api::volume::{claim_class, claim_of, is_fully_bound, volume_class, volume_name};
use crate::client::{Cache, Client, ClientError, ResourceType, Seen, key_of};
use crate::control::{Attempt, Controller, Plan, Queue};
use claim::ClaimView;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use std::fmt;
use std::sync::Arc;
use volume::{Sight, VolumeView};

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Claim(ObjectKey),
    Volume(ObjectKey),
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(key) => write!(formatter, "claim {key}"),
            Self::Volume(key) => write!(formatter, "volume {key}"),
        }
    }
}

/// What was seen of either.
#[derive(Clone, Debug)]
pub enum Observed {
    Claim(ClaimView),
    Volume(VolumeView),
}

/// See the module.
#[derive(Debug)]
pub struct PersistentVolumeController {
    client: Client,
    claims: Arc<Cache<PersistentVolumeClaim>>,
    volumes: Arc<Cache<PersistentVolume>>,
    classes: Arc<Cache<StorageClass>>,
    pods: Arc<Cache<Pod>>,
}

impl PersistentVolumeController {
    #[must_use]
    pub fn new(client: Client, caches: &Caches) -> Self {
        Self {
            client,
            claims: Arc::clone(&caches.persistent_volume_claims),
            volumes: Arc::clone(&caches.persistent_volumes),
            classes: Arc::clone(&caches.storage_classes),
            pods: Arc::clone(&caches.pods),
        }
    }

    /// Queues what a change concerns: a claim and its volume for each other, and claims without a
    /// volume when one has become free or their class has come.
    #[must_use]
    pub fn queue(&self) -> Queue<Key> {
        let queue = Queue::new();
        let (changed, volumes) = (queue.clone(), Arc::clone(&self.volumes));
        self.claims.on_change(move |change| {
            changed.add(&Key::Claim(change.key.clone()));
            let seen = [change.old.as_deref(), change.new.as_deref()].into_iter().flatten();
            for name in seen.filter_map(volume_name) {
                changed.add(&Key::Volume(ObjectKey::cluster(name)));
            }
            if change.old.is_none() || change.new.is_none() {
                for volume in volumes.list().iter().filter(|it| names_claim(it, &change.key)) {
                    changed.add(&Key::Volume(key_of(&volume.metadata)));
                }
            }
        });
        let (changed, claims) = (queue.clone(), Arc::clone(&self.claims));
        self.volumes.on_change(move |change| {
            changed.add(&Key::Volume(change.key.clone()));
            let seen = [change.old.as_deref(), change.new.as_deref()].into_iter().flatten();
            for reference in seen.filter_map(claim_of) {
                let (namespace, name) = (reference.namespace.as_ref(), reference.name.as_ref());
                if let (Some(namespace), Some(name)) = (namespace, name) {
                    changed.add(&Key::Claim(ObjectKey::namespaced(namespace, name)));
                }
            }
            for claim in claims.list().iter().filter(|claim| match &change.new {
                Some(volume) => may_want(claim, volume),
                None => volume_name(claim) == Some(&change.key.name),
            }) {
                changed.add(&Key::Claim(key_of(&claim.metadata)));
            }
        });
        let (changed, claims) = (queue.clone(), Arc::clone(&self.claims));
        self.classes.on_change(move |change| {
            for claim in claims.list().iter().filter(|claim| volume_name(claim).is_none()) {
                if [change.key.name.as_str(), ""].contains(&claim_class(claim)) {
                    changed.add(&Key::Claim(key_of(&claim.metadata)));
                }
            }
        });
        queue
    }

    async fn see_claim(&self, key: &ObjectKey) -> Option<ClaimView> {
        let claim = self.claims.get(key)?;
        let class = self.classes.get(&ObjectKey::cluster(claim_class(&claim)));
        let mut view = ClaimView { claim, class, ..ClaimView::default() };
        match volume_name(&view.claim) {
            Some(name) => {
                let key = ObjectKey::cluster(name);
                match self.volumes.get(&key) {
                    // Before data is called lost, the API server itself is asked.
                    None if claim::is_complete(&view.claim) => {
                        match self.client.get::<PersistentVolume>(&key).await {
                            Ok(volume) => view.volumes = vec![Arc::new(volume)],
                            Err(error) => view.is_unsure = !error.is_not_found(),
                        }
                    }
                    volume => view.volumes = volume.into_iter().collect(),
                }
            }
            None if claim::is_complete(&view.claim) => {}
            None => {
                view.volumes = self.volumes.list();
                view.default_class = claim::default_class(&self.classes.list());
                view.waiting_pods = self.waiting_pods(key);
            }
        }
        Some(view)
    }

    /// The pods that use the claim and have no node yet.
    fn waiting_pods(&self, claim: &ObjectKey) -> Vec<String> {
        let pods = self.pods.list_in(claim.namespace.as_deref().unwrap_or_default());
        let waits = |pod: &&Arc<Pod>| {
            let Some(spec) = &pod.spec else { return false };
            let mut claims = spec.volumes.iter().flatten();
            spec.node_name.is_none()
                && claims.any(|volume| {
                    let used = crate::api::volume::claim_used(pod, volume);
                    used.is_some_and(|(used, _)| used == *claim)
                })
        };
        let names = pods.iter().filter(waits).filter_map(|pod| pod.metadata.name.clone());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    async fn see_volume(&self, key: &ObjectKey) -> Option<VolumeView> {
        let volume = self.volumes.get(key)?;
        let claim = match claim_of(&volume) {
            Some(reference) if reference.uid.as_ref().is_some_and(|uid| !uid.is_empty()) => {
                let namespace = reference.namespace.clone().unwrap_or_default();
                let name = reference.name.clone().unwrap_or_default();
                let uid = reference.uid.clone().unwrap_or_default();
                self.see_claim_of(&ObjectKey::namespaced(namespace, name), &uid).await
            }
            _ => Sight::Gone,
        };
        Some(VolumeView { volume, claim })
    }

    /// A claim that the cache does not have may be so new that it will: before its volume counts as
    /// free, the API server itself is asked.
    async fn see_claim_of(&self, key: &ObjectKey, uid: &str) -> Sight {
        let is_it = |claim: &PersistentVolumeClaim| claim.metadata.uid.as_deref() == Some(uid);
        if let Some(claim) = self.claims.get(key).filter(|claim| is_it(claim)) {
            return Sight::Found(claim);
        }
        let asked: Result<PersistentVolumeClaim, ClientError> = self.client.get(key).await;
        match asked {
            Ok(claim) if is_it(&claim) => Sight::Found(Arc::new(claim)),
            Ok(_another) => Sight::Gone,
            Err(error) if error.is_not_found() => Sight::Gone,
            Err(_) => Sight::Unknown,
        }
    }
}

fn names_claim(volume: &PersistentVolume, claim: &ObjectKey) -> bool {
    claim_of(volume).is_some_and(|reference| {
        reference.namespace == claim.namespace && reference.name.as_ref() == Some(&claim.name)
    })
}

/// Whether a change of the volume may be what the claim waits for.
fn may_want(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    if is_fully_bound(claim) {
        return false;
    }
    match volume_name(claim) {
        Some(name) => volume.metadata.name.as_deref() == Some(name),
        None => claim_of(volume).is_none() && volume_class(volume) == claim_class(claim),
    }
}

impl Controller for PersistentVolumeController {
    const NAME: &'static str = "persistent-volume-binder";
    type Key = Key;
    type Observed = Observed;

    async fn observe(&self, key: &Key, _attempt: Attempt) -> Option<Observed> {
        Some(match key {
            Key::Claim(key) => Observed::Claim(self.see_claim(key).await?),
            Key::Volume(key) => Observed::Volume(self.see_volume(key).await?),
        })
    }

    fn plan(observed: &Observed) -> Plan {
        match observed {
            Observed::Claim(view) => claim::plan(view),
            Observed::Volume(view) => volume::plan(view),
        }
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (
                ResourceType::of::<PersistentVolumeClaim>(),
                Arc::clone(&self.claims) as Arc<dyn Seen>,
            ),
            (ResourceType::of::<PersistentVolume>(), Arc::clone(&self.volumes) as Arc<dyn Seen>),
            (ResourceType::of::<StorageClass>(), Arc::clone(&self.classes) as Arc<dyn Seen>),
            (ResourceType::of::<Pod>(), Arc::clone(&self.pods) as Arc<dyn Seen>),
        ]
    }
}
