//! What the controllers look at, and what they decide.

use super::*;

impl World {
    pub(super) fn look(&mut self, which: Controller, key: String) {
        let attempt = self.attempt(which, &key);
        let planned = match which {
            Controller::Set => self.look_at_set(&key, attempt),
            Controller::Replication => self.look_at_replication_controller(&key, attempt),
            Controller::Deployment => self.look_at_deployment(&key, attempt),
            Controller::Stateful => self.look_at_stateful_set(&key, attempt),
            Controller::Daemon => self.look_at_daemon_set(&key, attempt),
        };
        if let Some((plan, size)) = planned {
            self.begin(which, key, plan, size);
        }
    }

    fn attempt(&mut self, which: Controller, key: &str) -> Attempt {
        let now = self.now();
        let state = self.loops.get_mut(&which).unwrap();
        state.waiting.remove(key);
        Attempt { now, failure: state.failures.remove(key) }
    }

    /// Whether the API server has the object of this uid.
    fn is_there(&self, kind: Kind, metadata: &ObjectMeta) -> bool {
        let uid = json!(metadata.uid);
        self.store.get(kind, &key(metadata)).is_some_and(|fresh| fresh["metadata"]["uid"] == uid)
    }

    /// The objects that an owner controls, and those that it may adopt.
    fn own<K: Metadata<Ty = ObjectMeta>>(
        objects: &BTreeMap<String, Arc<K>>,
        owner: &ObjectMeta,
        app_of_owner: &str,
    ) -> Vec<Arc<K>> {
        let is_wanted = |object: &&Arc<K>| match controller_of(object.metadata()) {
            Some(reference) => Some(&reference.uid) == owner.uid.as_ref(),
            None => app(object.metadata()) == app_of_owner,
        };
        objects.values().filter(is_wanted).cloned().collect()
    }

    fn look_at_set(&self, key: &str, attempt: Attempt) -> Option<(Plan, usize)> {
        let set = self.seen.sets.objects.get(key)?.clone();
        let pods = Self::own(&self.seen.pods.objects, &set.metadata, &app(&set.metadata));
        let may_adopt = self.is_there(Kind::Set, &set.metadata);
        let size = usize::try_from(set.spec.as_ref()?.replicas?).unwrap();
        let observed =
            replicaset::Observed { set, pods, may_adopt, on_node: BTreeMap::new(), attempt };
        Some((replicaset::plan(&observed), size))
    }

    fn look_at_replication_controller(&self, key: &str, attempt: Attempt) -> Option<(Plan, usize)> {
        let set = self.seen.replication_controllers.objects.get(key)?.clone();
        let pods = Self::own(&self.seen.pods.objects, &set.metadata, key);
        let may_adopt = self.is_there(Kind::ReplicationController, &set.metadata);
        let size = usize::try_from(set.spec.as_ref()?.replicas?).unwrap();
        let observed =
            replicaset::Observed { set, pods, may_adopt, on_node: BTreeMap::new(), attempt };
        Some((replicaset::plan(&observed), size))
    }

    fn look_at_deployment(&self, key: &str, attempt: Attempt) -> Option<(Plan, usize)> {
        let deployment = self.seen.deployments.objects.get(key)?.clone();
        let sets = Self::own(&self.seen.sets.objects, &deployment.metadata, key);
        let is_old = |pod: &&Arc<Pod>| {
            let mut uids = sets.iter().filter_map(|set| set.metadata.uid.as_deref());
            uids.any(|uid| is_controlled_by(&pod.metadata, uid))
        };
        let name = deployment::set_name(&deployment);
        let observed = deployment::Observed {
            namesake: self.seen.sets.objects.get(&name).cloned(),
            pods: self.seen.pods.objects.values().filter(is_old).cloned().collect(),
            deployment,
            sets,
            may_adopt: true,
            attempt,
        };
        Some((deployment::plan(&observed), 0))
    }

    fn look_at_stateful_set(&self, key: &str, attempt: Attempt) -> Option<(Plan, usize)> {
        let set = self.seen.stateful_sets.objects.get(key)?.clone();
        let observed = statefulset::Observed {
            pods: Self::own(&self.seen.pods.objects, &set.metadata, key),
            revisions: Self::own(&self.seen.revisions.objects, &set.metadata, key),
            namesake: self.seen.revisions.objects.get(&statefulset::revision_name(&set)?).cloned(),
            claims: self.seen.claims.objects.values().cloned().collect(),
            may_adopt: self.is_there(Kind::StatefulSet, &set.metadata),
            set,
            attempt,
        };
        Some((statefulset::plan(&observed), 0))
    }

    fn look_at_daemon_set(&self, key: &str, attempt: Attempt) -> Option<(Plan, usize)> {
        let set = self.seen.daemon_sets.objects.get(key)?.clone();
        let observed = daemonset::Observed {
            nodes: self.seen.nodes.objects.values().cloned().collect(),
            pods: Self::own(&self.seen.pods.objects, &set.metadata, key),
            revisions: Self::own(&self.seen.revisions.objects, &set.metadata, key),
            namesake: self.seen.revisions.objects.get(&daemonset::revision_name(&set)?).cloned(),
            waits: BTreeMap::new(),
            may_adopt: self.is_there(Kind::DaemonSet, &set.metadata),
            set,
            attempt,
        };
        Some((daemonset::plan(&observed), 0))
    }
}
