//! What can be seen of the store: late, or at once.

use super::*;

/// A copy of the objects of a kind that lags behind.
pub(super) struct View<K> {
    kind: Kind,
    /// How far it has read the store's log.
    read: usize,
    pub(super) seen: u64,
    pub(super) objects: BTreeMap<String, Arc<K>>,
}

impl<K: DeserializeOwned> View<K> {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, read: 0, seen: 0, objects: BTreeMap::new() }
    }

    pub(super) fn lags(&self, store: &Store) -> bool {
        self.read < store.log.len()
    }

    /// Reads on through the next change of its kind; says what was and what is.
    pub(super) fn advance(&mut self, store: &Store) -> (Option<Arc<K>>, Option<Arc<K>>) {
        while let Some(change) = store.log.get(self.read) {
            self.read += 1;
            self.seen = change.revision;
            if change.kind != self.kind {
                continue;
            }
            let old = self.objects.remove(&change.name);
            let new = change.object.as_ref().map(|object| Arc::new(decode::<K>(object)));
            if let Some(new) = &new {
                self.objects.insert(change.name.clone(), Arc::clone(new));
            }
            return (old, new);
        }
        (None, None)
    }
}

pub(super) fn decode<K: DeserializeOwned>(object: &Value) -> K {
    serde_json::from_value(object.clone()).unwrap()
}

/// Views that do not lag, for the invariants.
pub(super) struct Truth {
    pub(super) deployments: View<Deployment>,
    pub(super) sets: View<ReplicaSet>,
    pub(super) pods: View<Pod>,
}

impl Truth {
    pub(super) fn new() -> Self {
        Self {
            deployments: View::new(Kind::Deployment),
            sets: View::new(Kind::Set),
            pods: View::new(Kind::Pod),
        }
    }

    pub(super) fn catch_up(&mut self, store: &Store) {
        while self.deployments.lags(store) {
            self.deployments.advance(store);
        }
        while self.sets.lags(store) {
            self.sets.advance(store);
        }
        while self.pods.lags(store) {
            self.pods.advance(store);
        }
    }

    pub(super) fn sets_of(&self, deployment: &Deployment) -> Vec<Arc<ReplicaSet>> {
        let uid = deployment.metadata.uid.as_deref().unwrap();
        let sets = self.sets.objects.values();
        sets.filter(|set| is_controlled_by(&set.metadata, uid)).cloned().collect()
    }

    pub(super) fn pods_of(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let uid = set.metadata.uid.as_deref().unwrap();
        let pods = self.pods.objects.values();
        pods.filter(|pod| is_controlled_by(&pod.metadata, uid)).cloned().collect()
    }
}
