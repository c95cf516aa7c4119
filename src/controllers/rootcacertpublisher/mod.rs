//! Keeps a ConfigMap `kube-root-ca.crt` in every namespace, with the certificate by which pods know
//! the API server.
//!
//! Start at [`plan()`]. Follows upstream pkg/controller/certificates/rootcacertpublisher (v1.35).

mod plan;

pub use plan::{Observed, plan};

use super::Caches;
use crate::api::ObjectKey;
use crate::client::{Cache, ResourceType, Seen};
use crate::control::{Attempt, Controller, Plan, Queue};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use std::sync::Arc;

/// The name of the ConfigMap, the same in every namespace.
pub const ROOT_CA_CONFIG_MAP: &str = "kube-root-ca.crt";

/// Looks at namespaces and the certificates in them.
#[derive(Debug)]
pub struct RootCaCertPublisher {
    namespaces: Arc<Cache<Namespace>>,
    /// Only those of this name.
    certificates: Arc<Cache<ConfigMap>>,
    authority: Arc<str>,
}

impl RootCaCertPublisher {
    /// `authority` is the certificate to publish, as PEM.
    #[must_use]
    pub fn new(caches: &Caches, authority: Arc<str>) -> Self {
        Self {
            namespaces: Arc::clone(&caches.namespaces),
            certificates: Arc::clone(&caches.root_ca_config_maps),
            authority,
        }
    }

    /// Queues a namespace when it or its certificate changes.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = Queue::new();
        let changed = queue.clone();
        self.namespaces.on_change(move |change| {
            if change.new.is_some() {
                changed.add(&change.key);
            }
        });
        let changed = queue.clone();
        self.certificates.on_change(move |change| {
            if let Some(namespace) = &change.key.namespace {
                changed.add(&ObjectKey::cluster(namespace.as_str()));
            }
        });
        queue
    }
}

impl Controller for RootCaCertPublisher {
    const NAME: &'static str = "root-ca-cert-publisher";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, _attempt: Attempt) -> Option<Observed> {
        let namespace = self.namespaces.get(key)?;
        let published = ObjectKey::namespaced(key.name.as_str(), ROOT_CA_CONFIG_MAP);
        let published = self.certificates.get(&published);
        Some(Observed { namespace, published, authority: Arc::clone(&self.authority) })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (ResourceType::of::<Namespace>(), Arc::clone(&self.namespaces) as Arc<dyn Seen>),
            (ResourceType::of::<ConfigMap>(), Arc::clone(&self.certificates) as Arc<dyn Seen>),
        ]
    }
}
