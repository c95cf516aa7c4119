//! The Secrets that Ingresses name, each watched by itself, and only as long as one does.
//!
//! There is deliberately no copy of all of them: the proxy may see no others.

use crate::api::ObjectKey;
use crate::client::{Cache, Client, Selection};
use crate::stdx::Tasks;
use k8s_openapi::api::core::v1::Secret;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// See the module.
pub(super) struct Secrets {
    client: Client,
    shutdown: CancellationToken,
    /// Told when one has changed.
    on_change: Arc<dyn Fn() + Send + Sync>,
    watched: BTreeMap<ObjectKey, Watched>,
}

/// One that is watched. Dropping it ends the watch.
struct Watched {
    cache: Arc<Cache<Secret>>,
    _tasks: Tasks,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Secrets").field("count", &self.watched.len()).finish()
    }
}

impl Secrets {
    pub(super) fn new(
        client: Client,
        shutdown: CancellationToken,
        on_change: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let on_change = Arc::new(on_change);
        Self { client, shutdown, on_change, watched: BTreeMap::new() }
    }

    /// Watches these and no others.
    pub(super) fn watch(&mut self, wanted: &BTreeSet<ObjectKey>) {
        self.watched.retain(|key, _| wanted.contains(key));
        for key in wanted {
            if !self.watched.contains_key(key) {
                let watched = self.start(key);
                self.watched.insert(key.clone(), watched);
            }
        }
    }

    fn start(&self, key: &ObjectKey) -> Watched {
        let mut tasks = Tasks::new(self.shutdown.child_token());
        let selection = Selection {
            namespace: key.namespace.clone(),
            labels: None,
            fields: Some(format!("metadata.name={}", key.name)),
        };
        let cache = Cache::start_unawaited(self.client.clone(), selection, &mut tasks);
        let on_change = Arc::clone(&self.on_change);
        cache.on_change(move |_change| on_change());
        // That there is no such Secret is an answer, too, and no change.
        let (answered, on_change) = (Arc::clone(&cache), Arc::clone(&self.on_change));
        let shutdown = tasks.shutdown();
        tasks.spawn("ingress-secret", async move {
            shutdown.run_until_cancelled(answered.synced()).await;
            on_change();
        });
        Watched { cache, _tasks: tasks }
    }

    /// What is known of them; `None` of those that are not there. Those of which nothing is known yet
    /// are left out.
    pub(super) fn known(&self) -> BTreeMap<ObjectKey, Option<Arc<Secret>>> {
        let known = self.watched.iter().filter(|(_, watched)| watched.cache.is_synced());
        known.map(|(key, watched)| (key.clone(), watched.cache.get(key))).collect()
    }

    /// The caches that are being filled.
    pub(super) fn caches(&self) -> Vec<Arc<Cache<Secret>>> {
        self.watched.values().map(|watched| Arc::clone(&watched.cache)).collect()
    }
}
