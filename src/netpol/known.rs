//! What is known so far, and whether that is enough to make rules of it.

use super::plan::World;
use super::policy::Policy;
use super::view::{NamespaceView, PodView};
use crate::api::Revision;
use crate::client::watch::Item;
use crate::network::Attached;
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use std::collections::BTreeMap;
use std::sync::Arc;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Known {
    world: Arc<World>,
    /// Grows with every change that rules may depend on.
    change: u64,
    /// Through which revision policies are known.
    policies: Option<Revision>,
    pods: bool,
    namespaces: bool,
    ranges: bool,
}

impl Known {
    /// The world and the newest change that is in it, where nothing is missing that rules depend on.
    /// Without policies nobody has to be known.
    pub(super) fn complete(&self) -> Option<(Arc<World>, u64)> {
        let peers = self.world.policies.is_empty() || (self.pods && self.namespaces);
        let is_complete = self.policies.is_some() && self.ranges && peers;
        is_complete.then(|| (Arc::clone(&self.world), self.change))
    }

    /// The newest change, which is not in the rules yet perhaps.
    pub(super) fn change(&self) -> u64 {
        self.change
    }

    pub(super) fn has_policies(&self) -> bool {
        !self.world.policies.is_empty()
    }

    /// Whether every policy that was written at or before this revision is known.
    pub(super) fn has_policies_through(&self, revision: Revision) -> bool {
        self.policies.is_some_and(|known| known >= revision)
    }

    /// Takes what the watch shows, which has seen through `revision` then.
    pub(super) fn take_policies(&mut self, item: Item<NetworkPolicy>, revision: Revision) {
        if self.policies.is_some() || matches!(item, Item::Listed(_)) {
            self.policies = Some(revision);
        }
        let world = Arc::make_mut(&mut self.world);
        match item {
            Item::Progress => return,
            Item::Listed(listed) => {
                let policies = listed.iter().map(Policy::of);
                let by_key = |policy: Policy| (policy.key.clone(), Arc::new(policy));
                world.policies = policies.map(by_key).collect();
            }
            Item::Applied(policy) => {
                let policy = Policy::of(&policy);
                world.policies.insert(policy.key.clone(), Arc::new(policy));
            }
            Item::Deleted(policy) => {
                world.policies.remove(&Policy::of(&policy).key);
            }
        }
        self.change += 1;
    }

    pub(super) fn take_pods(&mut self, item: Item<PodView>) {
        let pods = &mut Arc::make_mut(&mut self.world).pods;
        match item {
            Item::Progress => return,
            Item::Listed(listed) => {
                let by_key = |pod: PodView| (pod.key.clone(), Arc::new(pod));
                *pods = listed.into_iter().map(by_key).collect();
                self.pods = true;
            }
            Item::Applied(pod) => {
                let known = pods.insert(pod.key.clone(), Arc::new(pod.clone()));
                if known.is_some_and(|known| known.is_as(&pod)) {
                    return;
                }
            }
            Item::Deleted(pod) => {
                pods.remove(&pod.key);
            }
        }
        self.change += 1;
    }

    pub(super) fn take_namespaces(&mut self, item: Item<NamespaceView>) {
        let namespaces = &mut Arc::make_mut(&mut self.world).namespaces;
        match item {
            Item::Progress => return,
            Item::Listed(listed) => {
                let by_name = |one: NamespaceView| (one.name, one.labels);
                *namespaces = listed.into_iter().map(by_name).collect();
                self.namespaces = true;
            }
            Item::Applied(namespace) => {
                let labels = namespace.labels.clone();
                let known = namespaces.insert(namespace.name, labels);
                if known == Some(namespace.labels) {
                    return;
                }
            }
            Item::Deleted(namespace) => {
                namespaces.remove(&namespace.name);
            }
        }
        self.change += 1;
    }

    /// Nobody watches pods and namespaces any more.
    pub(super) fn forget_peers(&mut self) {
        let world = Arc::make_mut(&mut self.world);
        (world.pods, world.namespaces) = (BTreeMap::new(), BTreeMap::new());
        (self.pods, self.namespaces) = (false, false);
    }

    pub(super) fn set_ranges(&mut self, ranges: Vec<IpNet>) {
        Arc::make_mut(&mut self.world).ranges = ranges;
        self.ranges = true;
        self.change += 1;
    }

    /// Returns the change that rules have to have reached before the sandbox is of any use.
    pub(super) fn attach(&mut self, attached: Attached) -> u64 {
        let sandbox = attached.sandbox.clone();
        if self.world.attached.get(&sandbox) != Some(&attached) {
            Arc::make_mut(&mut self.world).attached.insert(sandbox, attached);
            self.change += 1;
        }
        self.change
    }

    pub(super) fn keep_attached(&mut self, is_kept: impl Fn(&str) -> bool) {
        if self.world.attached.keys().all(|sandbox| is_kept(sandbox)) {
            return;
        }
        let attached = &mut Arc::make_mut(&mut self.world).attached;
        attached.retain(|sandbox, _| is_kept(sandbox));
        self.change += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn policy() -> NetworkPolicy {
        let metadata = json!({"namespace": "x", "name": "p", "resourceVersion": "7"});
        from_value(json!({"metadata": metadata, "spec": {}})).unwrap()
    }

    fn pod(labels: &Value, phase: &str) -> PodView {
        let metadata = json!({"namespace": "x", "name": "a", "labels": labels});
        from_value(json!({"metadata": metadata, "status": {"message": phase}})).unwrap()
    }

    #[test]
    fn without_policies_nobody_has_to_be_known() {
        let mut known = Known::default();
        assert!(known.complete().is_none());
        known.take_policies(Item::Listed(vec![]), Revision(1));
        assert!(known.complete().is_none());
        known.set_ranges(vec![]);
        assert!(known.complete().is_some());
        known.take_policies(Item::Applied(policy()), Revision(7));
        assert!(known.complete().is_none());
        known.take_pods(Item::Listed(vec![]));
        known.take_namespaces(Item::Listed(vec![]));
        assert!(known.complete().is_some());
        known.take_policies(Item::Deleted(policy()), Revision(8));
        known.forget_peers();
        assert!(known.complete().is_some());
    }

    #[test]
    fn policies_are_known_through_what_the_watch_has_seen() {
        let mut known = Known::default();
        assert!(!known.has_policies_through(Revision(0)));
        known.take_policies(Item::Listed(vec![policy()]), Revision(7));
        assert!(known.has_policies_through(Revision(7)));
        assert!(!known.has_policies_through(Revision(8)));
        known.take_policies(Item::Progress, Revision(8));
        assert!(known.has_policies_through(Revision(8)));
    }

    #[test]
    fn what_policies_do_not_look_at_is_no_change() {
        let mut known = Known::default();
        known.take_pods(Item::Applied(pod(&json!({"a": "1"}), "starting")));
        let before = known.change();
        known.take_pods(Item::Applied(pod(&json!({"a": "1"}), "running")));
        assert_eq!(known.change(), before);
        known.take_pods(Item::Applied(pod(&json!({"a": "2"}), "running")));
        assert_ne!(known.change(), before);
    }
}
