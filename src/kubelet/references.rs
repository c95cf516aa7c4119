//! ConfigMaps, Secrets and RuntimeClasses that pods of this node use, each watched only as long as a
//! pod does, and no longer once it says that it is immutable.
//!
//! Start at [`ReferenceCaches::register`]. There is deliberately no copy of all of them: a node may
//! see only those that its pods name, and most clusters have many more. Upstream's
//! pkg/kubelet/util/manager/watch_based_manager.go (v1.35) does the same.

use super::container::references::{Lookup, Names, References};
use crate::api::ObjectKey;
use crate::client::{ApiObject, Cache, Client, Selection};
use crate::stdx::Tasks;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::node::v1::RuntimeClass;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

/// Told the uid of each pod that uses an object that has changed.
pub(super) type OnChange = Arc<dyn Fn(&str) + Send + Sync>;

pub(super) struct ReferenceCaches {
    client: Client,
    shutdown: CancellationToken,
    on_change: OnChange,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    config_maps: Watches<ConfigMap>,
    secrets: Watches<Secret>,
    runtime_classes: Watches<RuntimeClass>,
}

struct Watches<K>(BTreeMap<ObjectKey, Watch<K>>);

impl<K> Default for Watches<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// One object that is watched. Dropping it ends the watch.
struct Watch<K> {
    cache: Arc<Cache<K>>,
    users: Users,
    /// `None`: what is in the cache says that it will never change.
    tasks: Option<Tasks>,
}

/// The uids of the pods that use an object.
type Users = Arc<Mutex<BTreeSet<String>>>;

impl fmt::Debug for ReferenceCaches {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ReferenceCaches").finish_non_exhaustive()
    }
}

impl ReferenceCaches {
    pub(super) fn new(client: Client, shutdown: CancellationToken, on_change: OnChange) -> Self {
        Self { client, shutdown, on_change, state: Mutex::default() }
    }

    /// Says that the pod `uid` uses these objects and no others, and returns what is known of them.
    /// What is not known yet is told through `on_change`.
    pub(super) fn register(&self, uid: &str, namespace: &str, names: &Names) -> References {
        let mut state = self.state.lock().expect("no panics under this lock");
        let State { config_maps, secrets, runtime_classes } = &mut *state;
        let own = |name: &String| ObjectKey::namespaced(namespace, name);
        References {
            config_maps: config_maps.register(self, uid, keys(&names.config_maps, own), |it| {
                it.immutable == Some(true)
            }),
            secrets: secrets
                .register(self, uid, keys(&names.secrets, own), |it| it.immutable == Some(true)),
            runtime_classes: runtime_classes.register(
                self,
                uid,
                keys(&names.runtime_classes, |name| ObjectKey::cluster(name)),
                |_| false,
            ),
            // The pod's worker asks for these.
            tokens: BTreeMap::new(),
            claims: BTreeMap::new(),
        }
    }

    /// Says that the pod is gone.
    pub(super) fn forget(&self, uid: &str) {
        let mut state = self.state.lock().expect("no panics under this lock");
        let client = &self.client;
        state.config_maps.release(client, uid, |_| false);
        state.secrets.release(client, uid, |_| false);
        state.runtime_classes.release(client, uid, |_| false);
    }
}

fn keys(names: &BTreeSet<String>, key: impl Fn(&String) -> ObjectKey) -> BTreeSet<ObjectKey> {
    names.iter().map(key).collect()
}

impl<K: ApiObject> Watches<K> {
    fn register(
        &mut self,
        shared: &ReferenceCaches,
        uid: &str,
        keys: BTreeSet<ObjectKey>,
        is_immutable: impl Fn(&K) -> bool,
    ) -> BTreeMap<String, Lookup<K>> {
        self.release(&shared.client, uid, |key| keys.contains(key));
        let mut lookups = BTreeMap::new();
        for key in keys {
            let watch = self.0.entry(key.clone()).or_insert_with(|| Watch::start(shared, &key));
            watch.users.lock().expect("no panics under this lock").insert(uid.to_owned());
            let lookup = watch.look(&key);
            if let Lookup::Found(object) = &lookup
                && is_immutable(object)
            {
                watch.tasks = None;
            }
            lookups.insert(key.name, lookup);
        }
        lookups
    }

    /// Takes the pod off what it does not keep, and drops what nobody uses.
    fn release(&mut self, client: &Client, uid: &str, keeps: impl Fn(&ObjectKey) -> bool) {
        self.0.retain(|key, watch| {
            let mut users = watch.users.lock().expect("no panics under this lock");
            if !keeps(key) {
                users.remove(uid);
            }
            let is_used = !users.is_empty() || keeps(key);
            if !is_used {
                client.forget::<K>(&selection(key));
            }
            is_used
        });
    }
}

/// One object, by its name.
fn selection(key: &ObjectKey) -> Selection {
    Selection {
        namespace: key.namespace.clone(),
        labels: None,
        fields: Some(format!("metadata.name={}", key.name)),
    }
}

impl<K: ApiObject> Watch<K> {
    fn start(shared: &ReferenceCaches, key: &ObjectKey) -> Self {
        let mut tasks = Tasks::new(shared.shutdown.child_token());
        let cache = Cache::start_unawaited(shared.client.clone(), selection(key), &mut tasks);
        let users = Users::default();
        let tell = {
            let (users, on_change) = (Arc::clone(&users), Arc::clone(&shared.on_change));
            move || {
                let users = users.lock().expect("no panics under this lock").clone();
                users.iter().for_each(|uid| on_change(uid));
            }
        };
        cache.on_change({
            let tell = tell.clone();
            move |_change| tell()
        });
        // That there is no such object is an answer, too, and no change.
        let answered = Arc::clone(&cache);
        let shutdown = tasks.shutdown();
        tasks.spawn("reference", async move {
            shutdown.run_until_cancelled(answered.synced()).await;
            tell();
        });
        Self { cache, users, tasks: Some(tasks) }
    }

    fn look(&self, key: &ObjectKey) -> Lookup<K> {
        match self.cache.get(key) {
            Some(object) => Lookup::Found(object),
            None if self.cache.is_synced() => Lookup::Missing,
            None => Lookup::Unknown,
        }
    }
}
