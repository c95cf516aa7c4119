//! The cluster as the scheduler sees it, kept up to date change by change, with the indexes that
//! plugins need.
//!
//! A placement that has been decided counts at once ([`Snapshot::assume`]), before the API server
//! has told of it, so that the next pod is not given the same room. Architecture invariant: nothing
//! here is copied for a decision; every index is kept as things change.

use super::journal::{Journal, Seen, Step};
use super::node::{NodeFacts, Slot};
use super::pod::{Labels, NO_LABELS, PodFacts};
use super::storage::Storage;
use super::workloads::Workloads;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The label that says in which zone a node is.
const ZONE: &str = "topology.kubernetes.io/zone";

/// All nodes and the pods on them, and what else plugins look at.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    nodes: Vec<NodeFacts>,
    slots: HashMap<String, Slot>,
    free: Vec<Slot>,
    /// The nodes that are there, zone by zone in turns (upstream `nodeTree`), so that a part of them
    /// is a fair part.
    order: Vec<Slot>,
    is_order_stale: bool,
    placed: HashMap<String, Placed>,
    /// The uids of the placed pods of each namespace.
    by_namespace: HashMap<String, BTreeSet<String>>,
    /// Nodes with pods that have terms about other pods.
    with_terms: BTreeSet<Slot>,
    /// On which nodes each image is, and how large.
    images: HashMap<String, BTreeMap<Slot, i64>>,
    /// How many placed pods use each claim.
    claims_in_use: HashMap<(String, String), usize>,
    /// Pods for which room is being made, by the name of the node.
    nominated: BTreeMap<String, Vec<Arc<PodFacts>>>,
    pub(super) storage: Storage,
    pub(super) workloads: Workloads,
    pub(super) budgets: BTreeMap<(String, String), Arc<PodDisruptionBudget>>,
    namespaces: HashMap<String, Arc<Labels>>,
    journal: Journal,
}

#[derive(Debug)]
struct Placed {
    pod: Arc<PodFacts>,
    slot: Slot,
}

impl Snapshot {
    /// The last changes of nodes, of the pods on them, and of namespaces.
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Brings the order of the nodes up to date. To be called before a pass.
    pub(super) fn prepare(&mut self) {
        if !std::mem::take(&mut self.is_order_stale) {
            return;
        }
        let mut zones: BTreeMap<&str, BTreeMap<&str, Slot>> = BTreeMap::new();
        for node in self.nodes.iter().filter(|node| node.node.is_some()) {
            let zone = node.label(ZONE).unwrap_or_default();
            zones.entry(zone).or_default().insert(&node.name, node.slot);
        }
        let mut zones: Vec<_> = zones.into_values().map(BTreeMap::into_values).collect();
        self.order.clear();
        while !zones.is_empty() {
            zones.retain_mut(|zone| zone.next().map(|slot| self.order.push(slot)).is_some());
        }
    }

    /// The nodes that are there, in an order that takes turns among the zones.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeFacts> {
        debug_assert!(!self.is_order_stale, "prepared before the pass");
        self.order.iter().map(|slot| self.at(*slot))
    }

    pub(super) fn nodes_count(&self) -> usize {
        self.order.len()
    }

    /// The `index`th of the nodes, counted around.
    pub(super) fn node_around(&self, index: usize) -> &NodeFacts {
        self.at(self.order[index % self.order.len()])
    }

    pub(super) fn at(&self, slot: Slot) -> &NodeFacts {
        &self.nodes[slot.0]
    }

    /// The node of this name, if it is there.
    pub(super) fn node(&self, name: &str) -> Option<&NodeFacts> {
        let node = self.at(*self.slots.get(name)?);
        node.node.is_some().then_some(node)
    }

    /// Nodes with pods that have terms about other pods.
    pub(super) fn nodes_with_terms(&self) -> impl Iterator<Item = &NodeFacts> {
        self.with_terms.iter().map(|slot| self.at(*slot)).filter(|node| node.node.is_some())
    }

    /// The pods of a namespace that have a node which is there.
    pub(super) fn pods_in(&self, namespace: &str) -> impl Iterator<Item = (&PodFacts, &NodeFacts)> {
        let uids = self.by_namespace.get(namespace).into_iter().flatten();
        let placed = uids.map(|uid| &self.placed[uid]);
        let pods = placed.map(|placed| (&*placed.pod, self.at(placed.slot)));
        pods.filter(|(_, node)| node.node.is_some())
    }

    /// The namespaces in which there are pods with a node.
    pub(super) fn namespaces_with_pods(&self) -> impl Iterator<Item = &str> {
        self.by_namespace.keys().map(String::as_str)
    }

    pub(super) fn namespace_labels(&self, namespace: &str) -> &Labels {
        self.namespaces.get(namespace).map_or(&NO_LABELS, |labels| labels)
    }

    pub(super) fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        let has_changed = match labels {
            Some(labels) => self
                .namespaces
                .insert(name.to_owned(), Arc::new(labels.clone()))
                .is_none_or(|old| *old != labels),
            None => self.namespaces.remove(name).is_some(),
        };
        if has_changed {
            self.journal.begin_anew();
        }
    }

    /// On which nodes the image is, and how large.
    pub(super) fn image(&self, name: &str) -> Option<&BTreeMap<Slot, i64>> {
        self.images.get(name)
    }

    /// Whether a pod with a node uses this claim.
    pub(super) fn is_claim_in_use(&self, namespace: &str, name: &str) -> bool {
        self.claims_in_use.contains_key(&(namespace.to_owned(), name.to_owned()))
    }

    pub(super) fn set_node(&mut self, name: &str, node: Option<Arc<Node>>) {
        if node.is_none() && !self.slots.contains_key(name) {
            return;
        }
        let slot = self.slot_of(name);
        let old = self.nodes[slot.0].node.clone();
        if !is_relevant_change(old.as_deref(), node.as_deref()) {
            self.nodes[slot.0].node = node;
            return;
        }
        self.set_images(slot, old.as_deref(), node.as_deref());
        let zone = |node: Option<&Node>| node?.metadata.labels.as_ref()?.get(ZONE).cloned();
        self.is_order_stale |=
            old.is_some() != node.is_some() || zone(old.as_deref()) != zone(node.as_deref());
        if is_same_place(old.as_deref(), node.as_deref()) {
            self.journal.add(Step::Offered);
        } else {
            self.journal.begin_anew();
        }
        self.nodes[slot.0].set(node);
        self.drop_if_empty(slot);
    }

    fn set_images(&mut self, slot: Slot, old: Option<&Node>, new: Option<&Node>) {
        let images = |node: Option<&Node>| -> BTreeMap<String, i64> {
            let images = node.and_then(|node| node.status.as_ref()?.images.clone());
            let named = images.into_iter().flatten().flat_map(|image| {
                let size = image.size_bytes.unwrap_or_default();
                image.names.into_iter().flatten().map(move |name| (name, size))
            });
            named.collect()
        };
        let (old, new) = (images(old), images(new));
        for name in old.keys().filter(|name| !new.contains_key(*name)) {
            if let Some(nodes) = self.images.get_mut(name) {
                nodes.remove(&slot);
                if nodes.is_empty() {
                    self.images.remove(name);
                }
            }
        }
        for (name, size) in new {
            self.images.entry(name).or_default().insert(slot, size);
        }
    }

    fn slot_of(&mut self, name: &str) -> Slot {
        if let Some(slot) = self.slots.get(name) {
            return *slot;
        }
        let slot = self.free.pop().unwrap_or(Slot(self.nodes.len()));
        let facts = NodeFacts::new(slot, name);
        if slot.0 == self.nodes.len() {
            self.nodes.push(facts);
        } else {
            self.nodes[slot.0] = facts;
        }
        self.slots.insert(name.to_owned(), slot);
        slot
    }

    fn drop_if_empty(&mut self, slot: Slot) {
        let facts = &self.nodes[slot.0];
        if facts.node.is_none() && facts.pods().is_empty() {
            self.slots.remove(&facts.name);
            self.nodes[slot.0] = NodeFacts::default();
            self.free.push(slot);
        }
    }

    /// Counts a pod on `node`, wherever it counted before: what a watch said, or what was just
    /// decided.
    pub(super) fn assume(&mut self, pod: Arc<PodFacts>, node: &str) {
        self.deny(&pod.uid);
        if let Some(placed) = self.placed.get_mut(&pod.uid)
            && self.nodes[placed.slot.0].name == node
            && placed.pod.ask == pod.ask
        {
            let slot = placed.slot;
            self.nodes[slot.0].renew(&pod);
            let old = std::mem::replace(&mut placed.pod, Arc::clone(&pod));
            // Whether a pod is on its way out matters to those who count pods of a topology.
            if old.is_terminating() != pod.is_terminating() {
                self.note(slot, Step::Gone(Seen::of(&old, slot)));
                self.note(slot, Step::Came(Seen::of(&pod, slot)));
            }
            return;
        }
        self.forget(&pod.uid);
        let slot = self.slot_of(node);
        for claim in &pod.ask.claims {
            let key = (pod.namespace().to_owned(), claim.key.name.clone());
            *self.claims_in_use.entry(key).or_default() += 1;
        }
        let uids = self.by_namespace.entry(pod.namespace().to_owned()).or_default();
        uids.insert(pod.uid.clone());
        self.placed.insert(pod.uid.clone(), Placed { pod: Arc::clone(&pod), slot });
        self.note(slot, Step::Came(Seen::of(&pod, slot)));
        self.nodes[slot.0].add(pod);
        self.index_terms(slot);
    }

    /// Pods count once their nodes are there.
    fn note(&mut self, slot: Slot, step: Step) {
        if self.nodes[slot.0].node.is_some() {
            self.journal.add(step);
        }
    }

    /// The pod has ended or its binding failed: it takes no room any more.
    pub(super) fn forget(&mut self, uid: &str) -> Option<Arc<PodFacts>> {
        let Placed { pod, slot } = self.placed.remove(uid)?;
        for claim in &pod.ask.claims {
            let key = (pod.namespace().to_owned(), claim.key.name.clone());
            if let Some(count) = self.claims_in_use.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.claims_in_use.remove(&key);
                }
            }
        }
        if let Some(uids) = self.by_namespace.get_mut(pod.namespace()) {
            uids.remove(uid);
            if uids.is_empty() {
                self.by_namespace.remove(pod.namespace());
            }
        }
        self.nodes[slot.0].remove(uid);
        self.index_terms(slot);
        self.note(slot, Step::Gone(Seen::of(&pod, slot)));
        self.drop_if_empty(slot);
        Some(pod)
    }

    fn index_terms(&mut self, slot: Slot) {
        if self.nodes[slot.0].pods_with_terms > 0 {
            self.with_terms.insert(slot);
        } else {
            self.with_terms.remove(&slot);
        }
    }

    /// The pod that counts on a node.
    pub(super) fn placed(&self, uid: &str) -> Option<(&Arc<PodFacts>, &NodeFacts)> {
        let placed = self.placed.get(uid)?;
        Some((&placed.pod, self.at(placed.slot)))
    }

    /// Room is being made for the pod on this node.
    pub(super) fn nominate(&mut self, pod: Arc<PodFacts>, node: &str) {
        self.deny(&pod.uid);
        self.nominated.entry(node.to_owned()).or_default().push(pod);
    }

    /// No room is made for the pod any more. Says where it was.
    pub(super) fn deny(&mut self, uid: &str) -> Option<String> {
        let holds = |pods: &Vec<Arc<PodFacts>>| pods.iter().any(|pod| pod.uid == uid);
        let node = self.nominated.iter().find(|(_, pods)| holds(pods))?.0.clone();
        let pods = self.nominated.get_mut(&node).expect("found just now");
        pods.retain(|pod| pod.uid != uid);
        if pods.is_empty() {
            self.nominated.remove(&node);
        }
        Some(node)
    }

    /// The pods for which room is being made on this node.
    pub(super) fn nominated(&self, node: &str) -> &[Arc<PodFacts>] {
        self.nominated.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn has_nominations(&self) -> bool {
        !self.nominated.is_empty()
    }
}

/// Whether the two states of a node are of the same domains, and for the same pods.
fn is_same_place(old: Option<&Node>, new: Option<&Node>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return false };
    let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
    old.metadata.labels == new.metadata.labels && taints(old) == taints(new)
}

/// Heartbeats change nothing that a placement depends on.
fn is_relevant_change(old: Option<&Node>, new: Option<&Node>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return old.is_some() || new.is_some() };
    let (old_status, new_status) = (old.status.as_ref(), new.status.as_ref());
    old.spec != new.spec
        || old.metadata.labels != new.metadata.labels
        || old_status.map(|status| &status.allocatable)
            != new_status.map(|status| &status.allocatable)
        || old_status.map(|status| &status.images) != new_status.map(|status| &status.images)
}
