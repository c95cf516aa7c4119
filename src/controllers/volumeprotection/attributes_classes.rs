//! Classes of attributes stay while volumes or claims name them.
//!
//! Upstream pkg/controller/volume/vacprotection (v1.35).

use super::{Protected, Use, concerns, plan, queue_of};
use crate::api::ObjectKey;
use crate::api::volume::VAC_PROTECTION;
use crate::client::{ApiObject, Cache, Client, ResourceType, Seen, Selection};
use crate::control::{Attempt, Controller, Plan, Queue};
use crate::controllers::Caches;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use std::sync::Arc;

/// Protects classes of attributes.
#[derive(Debug)]
pub struct AttributesClassProtection {
    client: Client,
    classes: Arc<Cache<VolumeAttributesClass>>,
    claims: Arc<Cache<PersistentVolumeClaim>>,
    volumes: Arc<Cache<PersistentVolume>>,
}

impl AttributesClassProtection {
    #[must_use]
    pub fn new(client: Client, caches: &Caches) -> Self {
        Self {
            client,
            classes: Arc::clone(&caches.volume_attributes_classes),
            claims: Arc::clone(&caches.persistent_volume_claims),
            volumes: Arc::clone(&caches.persistent_volumes),
        }
    }

    /// Queues a class that has a finalizer to get or to lose, and those that claims and volumes no
    /// longer name.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = queue_of(&self.classes, VAC_PROTECTION);
        let changed = queue.clone();
        self.claims.on_change(move |change| {
            let named = change.old.iter().flat_map(|claim| named_by_claim(claim));
            named.for_each(|name| changed.add(&ObjectKey::cluster(name)));
        });
        let changed = queue.clone();
        self.volumes.on_change(move |change| {
            let named = change.old.as_deref().and_then(named_by_volume);
            named.into_iter().for_each(|name| changed.add(&ObjectKey::cluster(name)));
        });
        queue
    }

    /// Whether a claim or a volume names the class. That none does, the API server itself has to
    /// say: one may be too new for the cache.
    async fn use_of(&self, name: &str) -> Use {
        let by_claim = |claim: &PersistentVolumeClaim| named_by_claim(claim).any(|it| it == name);
        let by_volume = |volume: &PersistentVolume| named_by_volume(volume) == Some(name);
        if self.claims.list().iter().any(|claim| by_claim(claim))
            || self.volumes.list().iter().any(|volume| by_volume(volume))
        {
            return Use::Used;
        }
        match (self.any(by_claim).await, self.any(by_volume).await) {
            (Some(true), _) | (_, Some(true)) => Use::Used,
            (Some(false), Some(false)) => Use::Unused,
            _ => Use::Unknown,
        }
    }

    /// Whether the API server has one like this; nothing where it does not say.
    async fn any<K: ApiObject>(&self, is_like_this: impl Fn(&K) -> bool) -> Option<bool> {
        let all = self.client.list::<K>(&Selection::default()).await.ok()?;
        Some(all.items.iter().any(is_like_this))
    }
}

/// What a claim wants, has, and is on its way to: upstream `getPVCReferencedVACNames`.
fn named_by_claim(claim: &PersistentVolumeClaim) -> impl Iterator<Item = &str> {
    let status = claim.status.as_ref();
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let has = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let target = status
        .and_then(|status| status.modify_volume_status.as_ref())
        .and_then(|status| status.target_volume_attributes_class_name.as_deref());
    [wanted, has, target].into_iter().flatten().filter(|name| !name.is_empty())
}

fn named_by_volume(volume: &PersistentVolume) -> Option<&str> {
    volume.spec.as_ref()?.volume_attributes_class_name.as_deref()
}

impl Controller for AttributesClassProtection {
    const NAME: &'static str = "volumeattributesclass-protection-controller";
    type Key = ObjectKey;
    type Observed = Protected<VolumeAttributesClass>;

    async fn observe(&self, key: &ObjectKey, _attempt: Attempt) -> Option<Self::Observed> {
        let object = self.classes.get(key).filter(|class| concerns(&**class, VAC_PROTECTION))?;
        let used = match object.metadata.deletion_timestamp {
            Some(_) => self.use_of(&key.name).await,
            None => Use::Used,
        };
        Some(Protected { object, used })
    }

    fn plan(observed: &Self::Observed) -> Plan {
        plan(observed, VAC_PROTECTION)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![(
            ResourceType::of::<VolumeAttributesClass>(),
            Arc::clone(&self.classes) as Arc<dyn Seen>,
        )]
    }
}
