//! What can be seen of the store: late, or at once.

use super::*;

/// A copy of the objects of a kind that lags behind.
pub(super) struct View<K> {
    kind: Kind,
    /// How far it has read the store's log.
    read: usize,
    pub(super) objects: BTreeMap<String, Arc<K>>,
}

/// What a view has just learned: the object as it was and as it is.
pub(super) struct Delivered {
    pub(super) versions: Vec<ObjectMeta>,
    /// A pod that ran no longer does.
    pub(super) has_ended: bool,
}

impl<K: DeserializeOwned + Metadata<Ty = ObjectMeta>> View<K> {
    fn new(kind: Kind) -> Self {
        Self { kind, read: 0, objects: BTreeMap::new() }
    }

    fn lags(&self, store: &Store) -> bool {
        self.read < store.log(self.kind).len()
    }

    /// The revision through which everything has been seen.
    fn seen(&self, store: &Store) -> u64 {
        match store.log(self.kind).get(self.read) {
            Some(next) => next.revision - 1,
            None => store.revision(),
        }
    }

    /// Reads the next change.
    fn advance(&mut self, store: &Store) -> Delivered {
        let change = &store.log(self.kind)[self.read];
        self.read += 1;
        let old = self.objects.remove(&change.name);
        let new = change.object.as_ref().map(|object| Arc::new(decode::<K>(object)));
        if let Some(new) = &new {
            self.objects.insert(change.name.clone(), Arc::clone(new));
        }
        let versions = old.iter().chain(&new).map(|object| object.metadata().clone()).collect();
        Delivered { versions, has_ended: false }
    }
}

pub(super) fn decode<K: DeserializeOwned>(object: &Value) -> K {
    serde_json::from_value(object.clone()).unwrap()
}

/// One view of each kind.
pub(super) struct Views {
    pub(super) deployments: View<Deployment>,
    pub(super) sets: View<ReplicaSet>,
    pub(super) replication_controllers: View<ReplicationController>,
    pub(super) stateful_sets: View<StatefulSet>,
    pub(super) daemon_sets: View<DaemonSet>,
    pub(super) revisions: View<ControllerRevision>,
    pub(super) claims: View<PersistentVolumeClaim>,
    pub(super) nodes: View<Node>,
    pub(super) pods: View<Pod>,
}

/// Evaluates `$body` with the view of a kind, whatever its type.
macro_rules! with_view {
    ($views:expr, $kind:expr, $view:ident => $body:expr) => {
        match $kind {
            Kind::Deployment => {
                let $view = &mut $views.deployments;
                $body
            }
            Kind::Set => {
                let $view = &mut $views.sets;
                $body
            }
            Kind::ReplicationController => {
                let $view = &mut $views.replication_controllers;
                $body
            }
            Kind::StatefulSet => {
                let $view = &mut $views.stateful_sets;
                $body
            }
            Kind::DaemonSet => {
                let $view = &mut $views.daemon_sets;
                $body
            }
            Kind::Revision => {
                let $view = &mut $views.revisions;
                $body
            }
            Kind::Claim => {
                let $view = &mut $views.claims;
                $body
            }
            Kind::Node => {
                let $view = &mut $views.nodes;
                $body
            }
            Kind::Pod => {
                let $view = &mut $views.pods;
                $body
            }
        }
    };
}

impl Views {
    pub(super) fn new() -> Self {
        Self {
            deployments: View::new(Kind::Deployment),
            sets: View::new(Kind::Set),
            replication_controllers: View::new(Kind::ReplicationController),
            stateful_sets: View::new(Kind::StatefulSet),
            daemon_sets: View::new(Kind::DaemonSet),
            revisions: View::new(Kind::Revision),
            claims: View::new(Kind::Claim),
            nodes: View::new(Kind::Node),
            pods: View::new(Kind::Pod),
        }
    }

    pub(super) fn lagging(&mut self, store: &Store) -> Vec<Kind> {
        let lags = |kind: &Kind| with_view!(self, kind, view => view.lags(store));
        Kind::ALL.into_iter().filter(lags).collect()
    }

    pub(super) fn seen(&mut self, store: &Store) -> BTreeMap<Kind, u64> {
        let seen = |kind: Kind| (kind, with_view!(self, kind, view => view.seen(store)));
        Kind::ALL.map(seen).into()
    }

    /// The names of the objects of a kind.
    pub(super) fn names(&mut self, kind: Kind) -> BTreeSet<String> {
        with_view!(self, kind, view => view.objects.keys().cloned().collect())
    }

    pub(super) fn advance(&mut self, kind: Kind, store: &Store) -> Delivered {
        if kind != Kind::Pod {
            return with_view!(self, kind, view => view.advance(store));
        }
        let name = store.log(kind)[self.pods.read].name.clone();
        let ran = self.pods.objects.get(&name).is_some_and(|pod| !is_terminal(pod));
        let delivered = self.pods.advance(store);
        let runs = self.pods.objects.get(&name).is_some_and(|pod| !is_terminal(pod));
        Delivered { has_ended: ran && !runs, ..delivered }
    }

    /// As views that do not lag.
    pub(super) fn catch_up(&mut self, store: &Store) {
        for kind in Kind::ALL {
            with_view!(self, kind, view => while view.lags(store) { view.advance(store); });
        }
    }

    pub(super) fn sets_of(&self, deployment: &Deployment) -> Vec<Arc<ReplicaSet>> {
        let uid = deployment.metadata.uid.as_deref().unwrap();
        let sets = self.sets.objects.values();
        sets.filter(|set| is_controlled_by(&set.metadata, uid)).cloned().collect()
    }

    pub(super) fn pods_of(&self, owner: &ObjectMeta) -> Vec<Arc<Pod>> {
        let uid = owner.uid.as_deref().unwrap();
        let pods = self.pods.objects.values();
        pods.filter(|pod| is_controlled_by(&pod.metadata, uid)).cloned().collect()
    }
}
