//! Keeps a ServiceAccount `default` in every namespace, as whom pods run that name no other.
//!
//! Start at [`plan()`]. Follows upstream pkg/controller/serviceaccount/serviceaccounts_controller.go
//! (v1.35).

mod plan;

pub use plan::{Observed, plan};

use super::Caches;
use crate::api::ObjectKey;
use crate::client::{Cache, ResourceType, Seen};
use crate::control::{Attempt, Controller, Plan, Queue};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use plan::DEFAULT_ACCOUNT;
use std::sync::Arc;

/// Looks at namespaces and their `default` accounts.
#[derive(Debug)]
pub struct ServiceAccountController {
    namespaces: Arc<Cache<Namespace>>,
    accounts: Arc<Cache<ServiceAccount>>,
}

impl ServiceAccountController {
    #[must_use]
    pub fn new(caches: &Caches) -> Self {
        Self {
            namespaces: Arc::clone(&caches.namespaces),
            accounts: Arc::clone(&caches.service_accounts),
        }
    }

    /// Queues a namespace when it changes or its account goes.
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
        self.accounts.on_change(move |change| {
            if let (None, DEFAULT_ACCOUNT, Some(namespace)) =
                (&change.new, change.key.name.as_str(), &change.key.namespace)
            {
                changed.add(&ObjectKey::cluster(namespace.as_str()));
            }
        });
        queue
    }
}

impl Controller for ServiceAccountController {
    const NAME: &'static str = "service-account-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, _attempt: Attempt) -> Option<Observed> {
        let namespace = self.namespaces.get(key)?;
        let account = ObjectKey::namespaced(key.name.as_str(), DEFAULT_ACCOUNT);
        let is_there = self.accounts.get(&account).is_some();
        Some(Observed { namespace, is_there })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (ResourceType::of::<Namespace>(), Arc::clone(&self.namespaces) as Arc<dyn Seen>),
            (ResourceType::of::<ServiceAccount>(), Arc::clone(&self.accounts) as Arc<dyn Seen>),
        ]
    }
}
