//! Says of each range of the addresses of Services that it is ready, and keeps it while a Service has
//! one of its addresses.
//!
//! Start at [`plan()`].

mod plan;

pub use plan::{Observed, plan};

use super::Caches;
use super::metadata::{MetadataFeed, News};
use super::ownership::queue_of;
use crate::api::ObjectKey;
use crate::client::{Cache, Client, ResourceType, Seen, Selection, key_of};
use crate::control::{Attempt, Controller, Plan, Queue};
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use std::net::IpAddr;
use std::sync::Arc;

/// The addresses of Services, and not those that others keep in the same way.
const OF_SERVICES: &str = "ipaddress.kubernetes.io/managed-by=ipallocator.k8s.io";

/// Looks at ServiceCIDRs.
#[derive(Debug)]
pub struct ServiceCidrController {
    client: Client,
    ranges: Arc<Cache<ServiceCIDR>>,
}

impl ServiceCidrController {
    /// `client` is asked which addresses there are when a range is to go.
    #[must_use]
    pub fn new(client: Client, caches: &Caches) -> Self {
        Self { client, ranges: Arc::clone(&caches.service_cidrs) }
    }

    /// Queues a range when it changes; those that are to go when any range changes or an address
    /// goes.
    #[must_use]
    pub(super) fn queue(&self, feed: &MetadataFeed) -> Queue<ObjectKey> {
        let queue = queue_of(&self.ranges);
        let (changed, ranges) = (queue.clone(), Arc::clone(&self.ranges));
        self.ranges.on_change(move |_| queue_leaving(&changed, &ranges));
        let (changed, ranges) = (queue.clone(), Arc::clone(&self.ranges));
        let addresses = ResourceType::of::<IPAddress>();
        let kind = feed.kinds().of_resource(&addresses);
        feed.on_news(move |of, news: &News<'_>| {
            if kind == Some(of) && matches!(news, News::Deleted(_)) {
                queue_leaving(&changed, &ranges);
            }
        });
        queue
    }

    async fn addresses(&self) -> Option<Vec<IpAddr>> {
        let selection = Selection { labels: Some(OF_SERVICES.to_owned()), ..Selection::default() };
        let list = self.client.list::<IPAddress>(&selection).await.ok()?;
        let names = list.items.into_iter().filter_map(|address| address.metadata.name);
        Some(names.filter_map(|name| name.parse().ok()).collect())
    }
}

fn queue_leaving(queue: &Queue<ObjectKey>, ranges: &Cache<ServiceCIDR>) {
    let ranges = ranges.list();
    let leaving = ranges.iter().filter(|range| range.metadata.deletion_timestamp.is_some());
    leaving.for_each(|range| queue.add(&key_of(&range.metadata)));
}

impl Controller for ServiceCidrController {
    const NAME: &'static str = "service-cidrs-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, attempt: Attempt) -> Option<Observed> {
        let range = self.ranges.get(key)?;
        let addresses = match range.metadata.deletion_timestamp {
            Some(_) => self.addresses().await,
            None => None,
        };
        Some(Observed { range, all: self.ranges.list(), addresses, attempt })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![(ResourceType::of::<ServiceCIDR>(), Arc::clone(&self.ranges) as Arc<dyn Seen>)]
    }
}
