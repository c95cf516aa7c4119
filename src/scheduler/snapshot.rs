//! The nodes as the scheduler sees them, kept up to date change by change.
//!
//! A placement that has been decided counts at once ([`Snapshot::assume`]), before the API server
//! has told of it, so that the next pod is not given the same room.

use super::resources::Resources;
use crate::api::ObjectKey;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A pod with what the plugins ask of it, worked out once.
#[derive(Clone, Debug)]
pub(super) struct PodFacts {
    pub(super) key: ObjectKey,
    pub(super) uid: String,
    pub(super) pod: Arc<Pod>,
    pub(super) requests: Resources,
    pub(super) requests_for_scoring: Resources,
}

impl PodFacts {
    pub(super) fn new(key: ObjectKey, pod: Arc<Pod>) -> Self {
        let spec = pod.spec.as_ref();
        let requests = spec.map(Resources::of_pod).unwrap_or_default();
        let requests_for_scoring = spec.map(Resources::of_pod_for_scoring).unwrap_or_default();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        Self { key, uid, pod, requests, requests_for_scoring }
    }

    pub(super) fn priority(&self) -> i32 {
        self.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default()
    }
}

/// A node with what its pods take of it.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeFacts {
    /// `None` while pods name a node that is not there.
    pub(super) node: Option<Arc<Node>>,
    pub(super) allocatable: Resources,
    pub(super) pods_max: i64,
    pub(super) requested: Resources,
    pub(super) requested_for_scoring: Resources,
    pods: BTreeMap<String, Arc<PodFacts>>,
}

impl NodeFacts {
    pub(super) fn pods_count(&self) -> i64 {
        i64::try_from(self.pods.len()).unwrap_or(i64::MAX)
    }

    pub(super) fn taints(&self) -> impl Iterator<Item = &Taint> {
        let spec = self.node.as_ref().and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.taints.as_ref()).into_iter().flatten()
    }

    pub(super) fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.node.as_ref()?.metadata.labels.as_ref()
    }

    fn add(&mut self, pod: Arc<PodFacts>) {
        self.requested.add(&pod.requests);
        self.requested_for_scoring.add(&pod.requests_for_scoring);
        self.pods.insert(pod.uid.clone(), pod);
    }

    fn remove(&mut self, uid: &str) {
        if let Some(pod) = self.pods.remove(uid) {
            self.requested.subtract(&pod.requests);
            self.requested_for_scoring.subtract(&pod.requests_for_scoring);
        }
    }
}

/// All nodes and the pods on them.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    nodes: BTreeMap<String, NodeFacts>,
    /// Where each pod counts, by uid.
    places: BTreeMap<String, String>,
}

impl Snapshot {
    /// The nodes that are there, in the order of their names.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&str, &NodeFacts)> {
        let there = self.nodes.iter().filter(|(_, facts)| facts.node.is_some());
        there.map(|(name, facts)| (name.as_str(), facts))
    }

    pub(super) fn set_node(&mut self, name: &str, node: Option<Arc<Node>>) {
        let Some(node) = node else {
            if let Some(facts) = self.nodes.get_mut(name) {
                facts.node = None;
            }
            self.drop_if_empty(name);
            return;
        };
        let facts = self.nodes.entry(name.to_owned()).or_default();
        (facts.allocatable, facts.pods_max) = Resources::of_node(&node);
        facts.node = Some(node);
    }

    /// Counts a pod on `node`, wherever it counted before: what a watch said, or what was just
    /// decided.
    pub(super) fn assume(&mut self, pod: Arc<PodFacts>, node: &str) {
        self.forget(&pod.uid);
        self.places.insert(pod.uid.clone(), node.to_owned());
        self.nodes.entry(node.to_owned()).or_default().add(pod);
    }

    /// The pod has ended or its binding failed: it takes no room any more.
    pub(super) fn forget(&mut self, uid: &str) {
        let Some(node) = self.places.remove(uid) else { return };
        if let Some(facts) = self.nodes.get_mut(&node) {
            facts.remove(uid);
        }
        self.drop_if_empty(&node);
    }

    pub(super) fn is_placed(&self, uid: &str) -> bool {
        self.places.contains_key(uid)
    }

    fn drop_if_empty(&mut self, name: &str) {
        let empty = |facts: &NodeFacts| facts.node.is_none() && facts.pods.is_empty();
        if self.nodes.get(name).is_some_and(empty) {
            self.nodes.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, cpu: &str) -> Arc<PodFacts> {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": uid, "namespace": "default", "uid": uid},
            "spec": {"containers": [{"name": "x", "resources": {"requests": {"cpu": cpu}}}]},
        }));
        let key = ObjectKey::namespaced("default", uid);
        Arc::new(PodFacts::new(key, Arc::new(pod.unwrap())))
    }

    fn requested(snapshot: &Snapshot, node: &str) -> i64 {
        snapshot.nodes.get(node).map_or(-1, |facts| facts.requested.milli_cpu)
    }

    #[test]
    fn a_pod_counts_once_wherever_it_is_heard_of() {
        let mut snapshot = Snapshot::default();
        snapshot.assume(pod("a", "100m"), "one");
        snapshot.assume(pod("a", "100m"), "one");
        assert_eq!(requested(&snapshot, "one"), 100);
        snapshot.assume(pod("a", "100m"), "two");
        assert_eq!((requested(&snapshot, "one"), requested(&snapshot, "two")), (-1, 100));
        snapshot.forget("a");
        snapshot.forget("a");
        assert_eq!(requested(&snapshot, "two"), -1);
    }

    #[test]
    fn a_node_that_comes_late_has_its_pods_already() {
        let mut snapshot = Snapshot::default();
        snapshot.assume(pod("a", "1"), "one");
        assert_eq!(snapshot.nodes().count(), 0);
        let node = serde_json::from_value(json!({"metadata": {"name": "one"}})).unwrap();
        snapshot.set_node("one", Some(Arc::new(node)));
        let (_, facts) = snapshot.nodes().next().unwrap();
        assert_eq!(facts.requested.milli_cpu, 1000);
        snapshot.set_node("one", None);
        assert_eq!(snapshot.nodes().count(), 0);
        assert!(snapshot.is_placed("a"));
    }
}
