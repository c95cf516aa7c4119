//! Counts what the quotas of a namespace have used, when something there comes, goes or changes.
//!
//! Start at [`plan()`]. The API server charges the quotas for what is created, in the same commit;
//! this controller finds out what is used less. Its count is of a time at which the quota was as it
//! writes it: whoever was charged since then has changed the quota, and the write is refused.
//! Follows upstream pkg/controller/resourcequota (v1.35), which counts every five minutes as well.

mod plan;

pub use plan::{Observed, plan};

use super::Caches;
use super::kinds::Kinds;
use super::metadata::{MetadataFeed, News};
use crate::api::pod::Amounts;
use crate::api::quota::{Counted, Subject, eligible_until, is_in_scope, usage};
use crate::api::{ObjectKey, Quantity};
use crate::client::{ApiObject, Cache, Client, ResourceType, Seen, Selection, key_of, revision_of};
use crate::control::{Attempt, Controller, Plan, Queue};
use crate::stdx::chain;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use k8s_openapi::api::resource::v1::ResourceClaim;
use plan::{Count, hard};
use std::sync::Arc;

/// Looks at quotas and at all that they measure.
#[derive(Debug)]
pub struct ResourceQuotaController {
    client: Client,
    quotas: Arc<Cache<ResourceQuota>>,
    pods: Arc<Cache<Pod>>,
    kinds: Kinds,
}

impl ResourceQuotaController {
    #[must_use]
    pub(super) fn new(client: Client, caches: &Caches, kinds: Kinds) -> Self {
        let (quotas, pods) = (Arc::clone(&caches.resource_quotas), Arc::clone(&caches.pods));
        Self { client, quotas, pods, kinds }
    }

    /// Queues a quota when its limits change, and when there is something else to count.
    #[must_use]
    pub(super) fn queue(&self, feed: &MetadataFeed) -> Queue<ObjectKey> {
        let queue = Queue::new();
        let changed = queue.clone();
        self.quotas.on_change(move |change| {
            if change.new.as_ref().is_some_and(|quota| !plan::is_current(quota)) {
                changed.add(&change.key);
            }
        });
        let (changed, quotas) = (queue.clone(), Arc::clone(&self.quotas));
        self.pods.on_change(move |change| {
            let (old, new) = (change.old.as_deref(), change.new.as_deref());
            if let Some(namespace) = &change.key.namespace
                && plan::counts_anew(old, new)
            {
                let pods = Counted { group: "", plural: "pods" };
                concerned(&quotas, namespace, pods).for_each(|key| changed.add(&key));
            }
        });
        let (changed, quotas) = (queue.clone(), Arc::clone(&self.quotas));
        let kinds = self.kinds.clone();
        feed.on_news(move |kind, news: &News<'_>| {
            let (News::Applied(object) | News::Deleted(object)) = news else { return };
            let kind = kinds.get(kind);
            let resource = &kind.resource;
            let counted = Counted { group: &resource.group, plural: &resource.plural };
            // The cache of pods tells more of them.
            if let (Some(namespace), false) = (&object.namespace, counted.plural == "pods") {
                concerned(&quotas, namespace, counted).for_each(|key| changed.add(&key));
            }
        });
        queue
    }

    async fn count(&self, quota: &ResourceQuota, now: Timestamp) -> Result<Count, String> {
        let namespace = quota.metadata.namespace.as_deref().unwrap_or_default();
        let mut count = Count::default();
        for kind in self.kinds.namespaced() {
            let resource = &kind.resource;
            let counted = Counted { group: &resource.group, plural: &resource.plural };
            if !hard(quota).any(|name| counted.is_measured_by(name)) {
                continue;
            }
            match (&*resource.group, &*resource.plural) {
                ("", "pods") => self.count_pods(quota, now, &mut count).await,
                ("", "services") => {
                    for service in self.list::<Service>(namespace).await? {
                        add(quota, Subject::Service(&service), now, &mut count.used);
                    }
                }
                ("", "persistentvolumeclaims") => {
                    for claim in self.list::<PersistentVolumeClaim>(namespace).await? {
                        add(quota, Subject::Claim(&claim), now, &mut count.used);
                    }
                }
                ("resource.k8s.io", "resourceclaims") => {
                    for claim in self.list::<ResourceClaim>(namespace).await? {
                        add(quota, Subject::Devices(&claim), now, &mut count.used);
                    }
                }
                _ => self.count_objects(quota, resource, &mut count).await?,
            }
        }
        Ok(count)
    }

    /// The cache has seen whatever the quota was charged for.
    async fn count_pods(&self, quota: &ResourceQuota, now: Timestamp, count: &mut Count) {
        if let Some(revision) = revision_of(&quota.metadata) {
            self.pods.wait_seen(revision).await;
        }
        let namespace = quota.metadata.namespace.as_deref().unwrap_or_default();
        for pod in self.pods.list_in(namespace) {
            add(quota, Subject::Pod(&pod), now, &mut count.used);
            let end = eligible_until(&pod).filter(|end| *end >= now);
            count.changes_at = count.changes_at.into_iter().chain(end).min();
        }
    }

    /// Objects of which only the number matters.
    async fn count_objects(
        &self,
        quota: &ResourceQuota,
        resource: &ResourceType,
        count: &mut Count,
    ) -> Result<(), String> {
        let counted = Counted { group: &resource.group, plural: &resource.plural };
        if !is_in_scope(quota, Subject::Other(counted)) {
            return Ok(());
        }
        let namespace = quota.metadata.namespace.as_deref().unwrap_or_default();
        let number = self.client.count(resource, &Selection::namespace(namespace)).await;
        let number = number.map_err(|error| format!("{resource}: {}", chain(&error)))?;
        for (name, _one) in usage(Subject::Other(counted), Timestamp::MIN) {
            *count.used.entry(name).or_default() += Quantity::decimal(number);
        }
        Ok(())
    }

    async fn list<K: ApiObject>(&self, namespace: &str) -> Result<Vec<K>, String> {
        let list = self.client.list::<K>(&Selection::namespace(namespace)).await;
        match list {
            Ok(list) => Ok(list.items),
            Err(error) => Err(format!("{}: {}", K::URL_PATH_SEGMENT, chain(&error))),
        }
    }
}

fn add(quota: &ResourceQuota, subject: Subject<'_>, now: Timestamp, used: &mut Amounts) {
    if is_in_scope(quota, subject) {
        for (name, amount) in usage(subject, now) {
            *used.entry(name).or_default() += amount;
        }
    }
}

/// The quotas of a namespace that measure such objects.
fn concerned<'a>(
    quotas: &Cache<ResourceQuota>,
    namespace: &str,
    counted: Counted<'a>,
) -> impl Iterator<Item = ObjectKey> + use<'a> {
    let measuring =
        quotas.list_where(namespace, |quota| hard(quota).any(|name| counted.is_measured_by(name)));
    measuring.into_iter().map(|quota| key_of(&quota.metadata))
}

impl Controller for ResourceQuotaController {
    const NAME: &'static str = "resourcequota-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, attempt: Attempt) -> Option<Observed> {
        let quota = self.quotas.get(key)?;
        let count = self.count(&quota, attempt.now).await;
        Some(Observed { quota, count, now: attempt.now })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (ResourceType::of::<ResourceQuota>(), Arc::clone(&self.quotas) as Arc<dyn Seen>),
            (ResourceType::of::<Pod>(), Arc::clone(&self.pods) as Arc<dyn Seen>),
        ]
    }
}
