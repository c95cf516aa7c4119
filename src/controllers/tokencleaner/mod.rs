//! Deletes the tokens by which machines join when they are good for nothing any more.
//!
//! Start at [`plan()`]. Follows upstream pkg/controller/bootstrap/tokencleaner.go (v1.35).

mod plan;

pub use plan::{Observed, plan};

use super::Caches;
use crate::api::ObjectKey;
use crate::client::{Cache, ResourceType, Seen, Selection};
use crate::control::{Attempt, Controller, Plan, Queue};
use k8s_openapi::api::core::v1::Secret;
use std::sync::Arc;

/// Such tokens.
pub(super) fn selection() -> Selection {
    Selection {
        namespace: Some("kube-system".to_owned()),
        fields: Some("type=bootstrap.kubernetes.io/token".to_owned()),
        labels: None,
    }
}

/// Looks at tokens.
#[derive(Debug)]
pub struct TokenCleaner {
    tokens: Arc<Cache<Secret>>,
}

impl TokenCleaner {
    #[must_use]
    pub fn new(caches: &Caches) -> Self {
        Self { tokens: Arc::clone(&caches.bootstrap_tokens) }
    }

    /// Queues a token when it changes.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = Queue::new();
        let changed = queue.clone();
        self.tokens.on_change(move |change| {
            if change.new.is_some() {
                changed.add(&change.key);
            }
        });
        queue
    }
}

impl Controller for TokenCleaner {
    const NAME: &'static str = "token-cleaner";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, attempt: Attempt) -> Option<Observed> {
        Some(Observed { token: self.tokens.get(key)?, now: attempt.now })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![(ResourceType::of::<Secret>(), Arc::clone(&self.tokens) as Arc<dyn Seen>)]
    }
}
