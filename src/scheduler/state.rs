//! All that the scheduler knows, and what follows from what it hears. Pure: time comes in, actions
//! go out.
//!
//! Start at [`State::next_actions`]. An action is given out once and comes back by
//! [`State::settle`]; between the two its pod is taken.

use super::SCHEDULER_NAME;
use super::event::Event;
use super::message::Told;
use super::plan::{Nowhere, Placement, Search};
use super::pod::PodFacts;
use super::preempt::{Preemption, Room};
use super::queue::Queue;
use super::snapshot::Snapshot;
use super::storage::{Progress, VolumePlan};
use crate::api::labels::Selector;
use crate::api::{ObjectKey, Revision, pod};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A pod whose volumes are not bound after this long is tried anew (upstream
/// `bindTimeoutSeconds` of VolumeBinding).
const VOLUMES_MAX: Duration = Duration::from_secs(600);

/// Something to be written.
#[derive(Clone, Debug)]
pub(super) struct Action {
    pub(super) pod: Arc<PodFacts>,
    pub(super) task: Task,
}

#[derive(Clone, Debug)]
pub(super) enum Task {
    Bind {
        node: String,
    },
    /// Ask for what the pod's volumes need; they are waited for afterwards.
    PrepareVolumes {
        node: String,
        bindings: Vec<(Arc<PersistentVolume>, Arc<PersistentVolumeClaim>)>,
        provisions: Vec<Arc<PersistentVolumeClaim>>,
    },
    /// Say why the pod has no node.
    Report(Told),
    /// As [`Task::Report`], and stop those that are in the way.
    Preempt(Told, Preemption),
}

/// How an action ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// What volumes need was written, at these revisions.
    Prepared(Written),
    /// The pod is not there any more.
    Gone,
    Failed(String),
}

/// Claims and volumes as they were last written for a pod. What a cache shows is older at first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) claims: Vec<(ObjectKey, Revision)>,
    pub(super) volumes: Vec<(String, Revision)>,
}

/// What the scheduler knows.
#[derive(Debug, Default)]
pub(super) struct State {
    queue: Queue,
    pub(super) snapshot: Snapshot,
    search: Search,
    /// Pods that have a node as soon as their volumes are bound, by uid.
    awaiting: BTreeMap<String, Awaiting>,
    /// What is to be done before further pods are placed.
    ready: VecDeque<Action>,
}

#[derive(Debug)]
struct Awaiting {
    pod: Arc<PodFacts>,
    node: String,
    written: Written,
    until: Instant,
}

impl State {
    /// One pass: places pods, each counted before the next, until `max` writes are to be made.
    pub(super) fn next_actions(&mut self, max: usize, now: Instant) -> Vec<Action> {
        self.snapshot.prepare();
        self.give_up_late_volumes(now);
        let mut actions = Vec::new();
        while actions.len() < max {
            if let Some(action) = self.ready.pop_front() {
                actions.push(action);
                continue;
            }
            let Some(pod) = self.queue.take(now) else { break };
            actions.extend(self.decide(pod, now));
        }
        actions
    }

    /// When [`State::next_actions`] may have something; `None` while only a change can bring it.
    pub(super) fn next_wake(&self, now: Instant) -> Option<Instant> {
        if !self.ready.is_empty() {
            return Some(now);
        }
        let late = self.awaiting.values().map(|awaiting| awaiting.until).min();
        self.queue.next_wake(now).into_iter().chain(late).min()
    }

    fn decide(&mut self, pod: Arc<PodFacts>, now: Instant) -> Option<Action> {
        match self.search.place(&pod, &self.snapshot) {
            Placement::Node { node, volumes } => {
                self.snapshot.assume(Arc::clone(&pod), &node);
                Some(self.carry_out(pod, node, volumes))
            }
            Placement::Nowhere(nowhere) => self.refuse(pod, nowhere, now),
        }
    }

    fn carry_out(&mut self, pod: Arc<PodFacts>, node: String, plan: VolumePlan) -> Action {
        if plan.is_empty() {
            return Action { pod, task: Task::Bind { node } };
        }
        let storage = &mut self.snapshot.storage;
        let claim = |key: &ObjectKey| Arc::clone(&storage.claims[key]);
        let bindings = plan
            .bindings
            .iter()
            .map(|one| (Arc::clone(&storage.volumes[&one.volume]), claim(&one.claim)));
        let task = Task::PrepareVolumes {
            node,
            bindings: bindings.collect(),
            provisions: plan.provisions.iter().map(claim).collect(),
        };
        storage.promise(&pod.uid, plan);
        Action { pod, task }
    }

    fn refuse(&mut self, pod: Arc<PodFacts>, nowhere: Nowhere, now: Instant) -> Option<Action> {
        let mut told = Told::unschedulable(nowhere.message);
        match nowhere.room {
            Room::Made(preemption) => {
                // It waits until the others have been told to go; what helps meanwhile counts.
                self.queue.hold(&pod.uid, nowhere.plugins, now);
                for displaced in &preemption.displaced {
                    self.snapshot.deny(&displaced.uid);
                }
                self.snapshot.nominate(Arc::clone(&pod), &preemption.node);
                told.nomination = Some(preemption.node.clone());
                return Some(Action { pod, task: Task::Preempt(told, preemption) });
            }
            Room::Withdrawn => {
                if self.snapshot.deny(&pod.uid).is_some() || pod.nominated_node().is_some() {
                    told.nomination = Some(String::new());
                }
            }
            Room::Kept => {}
        }
        // It waits from now on, so that a change during the report is not missed.
        self.queue.refused(&pod.uid, nowhere.plugins, now);
        Some(Action { pod, task: Task::Report(told) })
    }

    /// Takes in how an action ended. Says what users have to be warned of.
    pub(super) fn settle(&mut self, action: &Action, outcome: Outcome, now: Instant) {
        let pod = &action.pod;
        match (&action.task, outcome) {
            (Task::Bind { .. }, Outcome::Done) => drop(self.snapshot.storage.release(&pod.uid)),
            (Task::PrepareVolumes { node, .. }, Outcome::Prepared(written)) => {
                if self.snapshot.placed(&pod.uid).is_some() {
                    let (until, node) = (now + VOLUMES_MAX, node.clone());
                    let awaiting = Awaiting { pod: Arc::clone(pod), node, written, until };
                    self.awaiting.insert(pod.uid.clone(), awaiting);
                    self.look_at_volumes(now);
                }
            }
            (Task::Bind { .. } | Task::PrepareVolumes { .. }, Outcome::Gone) => {
                self.queue.remove(&pod.uid);
                self.unplace(&pod.uid);
            }
            (Task::Bind { .. } | Task::PrepareVolumes { .. }, Outcome::Failed(why)) => {
                self.give_up(pod, why, now);
            }
            (Task::Preempt(..), Outcome::Failed(_)) => self.queue.failed(&pod.uid, now),
            (Task::Preempt(..), _) => self.queue.release(&pod.uid, now),
            (Task::Report(_), _)
            | (Task::Bind { .. }, Outcome::Prepared(_))
            | (Task::PrepareVolumes { .. }, Outcome::Done) => {}
        }
    }

    /// The decided placement will not be: the pod is tried anew after its back-off.
    fn give_up(&mut self, pod: &Arc<PodFacts>, why: String, now: Instant) {
        // What a watch has told since is newer than what was decided.
        let is_bound =
            self.snapshot.placed(&pod.uid).is_some_and(|(known, _)| pod::is_bound(&known.pod));
        if is_bound || self.queue.get(&pod.uid).is_none() {
            return;
        }
        self.unplace(&pod.uid);
        self.queue.failed(&pod.uid, now);
        let told = Told::failed(why);
        self.ready.push_back(Action { pod: Arc::clone(pod), task: Task::Report(told) });
    }

    /// The pod takes no room any more. Others may have it.
    fn unplace(&mut self, uid: &str) {
        self.awaiting.remove(uid);
        self.snapshot.storage.release(uid);
        if let Some(pod) = self.snapshot.forget(uid) {
            self.queue.happened(&Event::PodGone(&pod));
        }
    }

    fn give_up_late_volumes(&mut self, now: Instant) {
        let late = self.awaiting.values().filter(|awaiting| awaiting.until <= now);
        let late: Vec<_> = late.map(|awaiting| Arc::clone(&awaiting.pod)).collect();
        for pod in late {
            self.give_up(&pod, "binding volumes: context deadline exceeded".to_owned(), now);
        }
    }

    /// Whether pods that wait for their volumes have them now.
    fn look_at_volumes(&mut self, now: Instant) {
        let mut failed = Vec::new();
        let (storage, ready) = (&self.snapshot.storage, &mut self.ready);
        self.awaiting.retain(|_, Awaiting { pod, node, written, .. }| {
            if !storage.has_seen(written) {
                return true;
            }
            match storage.progress(pod, node) {
                Progress::Waiting => true,
                Progress::Bound => {
                    let task = Task::Bind { node: node.clone() };
                    ready.push_back(Action { pod: Arc::clone(pod), task });
                    false
                }
                Progress::Failed(why) => {
                    failed.push((Arc::clone(pod), why));
                    false
                }
            }
        });
        for (pod, why) in failed {
            self.give_up(&pod, format!("binding volumes: {why}"), now);
        }
    }

    /// A pod came, changed (`old` is what it was) or went.
    pub(super) fn note_pod(
        &mut self,
        key: &ObjectKey,
        old: Option<&Arc<Pod>>,
        new: Option<&Arc<Pod>>,
    ) {
        let uid = |pod: &Arc<Pod>| pod.metadata.uid.clone().unwrap_or_default();
        if let Some(old) = old
            && new.map(uid) != Some(uid(old))
        {
            self.gone(&uid(old));
        }
        let Some(pod) = new else { return };
        let uid = uid(pod);
        if pod::is_terminal(pod) {
            self.gone(&uid);
        } else if let Some(node) = pod::node_name(pod) {
            self.note_placed(key, pod, node);
        } else if is_ours(pod) {
            self.note_waiting(key, pod);
        } else {
            self.gone(&uid);
        }
    }

    fn note_placed(&mut self, key: &ObjectKey, pod: &Arc<Pod>, node: &str) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let known =
            self.snapshot.placed(uid).map(|(known, at)| (Arc::clone(known), at.name == node));
        let facts = match &known {
            Some((known, _)) => known.renewed(Arc::clone(pod)),
            None => PodFacts::new(key.clone(), Arc::clone(pod)),
        };
        let facts = Arc::new(facts);
        self.queue.remove(uid);
        self.awaiting.remove(uid);
        self.snapshot.storage.release(uid);
        self.snapshot.assume(Arc::clone(&facts), node);
        match known {
            Some((old, true)) if pod::is_bound(&old.pod) => {
                self.queue.happened(&Event::PodChanged(&old, &facts));
            }
            _ => self.queue.happened(&Event::PodPlaced(&facts)),
        }
    }

    fn note_waiting(&mut self, key: &ObjectKey, pod: &Arc<Pod>) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let known = self.queue.get(uid).cloned();
        let facts = match &known {
            Some(known) => known.renewed(Arc::clone(pod)),
            None => PodFacts::new(key.clone(), Arc::clone(pod)),
        };
        let facts = Arc::new(facts);
        let before = known.as_deref().and_then(PodFacts::nominated_node);
        // A placement that has been decided is newer than what the watch tells.
        if self.snapshot.placed(uid).is_none() {
            match facts.nominated_node() {
                Some(node) => self.snapshot.nominate(Arc::clone(&facts), node),
                None if before.is_some() => drop(self.snapshot.deny(uid)),
                None => {}
            }
        }
        if before.is_some() && before != facts.nominated_node() {
            self.queue.happened(&Event::RoomFreed { priority: facts.priority() });
        }
        self.queue.set(facts);
    }

    /// The pod has ended, is gone, or is no longer ours.
    fn gone(&mut self, uid: &str) {
        let waiting = self.queue.get(uid).cloned();
        self.queue.remove(uid);
        if self.snapshot.deny(uid).is_some()
            && let Some(pod) = waiting
        {
            self.queue.happened(&Event::RoomFreed { priority: pod.priority() });
        }
        self.unplace(uid);
    }

    pub(super) fn note_node(
        &mut self,
        name: &str,
        old: Option<&Arc<Node>>,
        new: Option<&Arc<Node>>,
    ) {
        self.snapshot.set_node(name, new.cloned());
        match (old, new) {
            (None, Some(new)) => self.queue.happened(&Event::NodeAdded(new)),
            (Some(old), Some(new)) => self.queue.happened(&Event::NodeChanged(old, new)),
            (Some(old), None) => self.queue.happened(&Event::NodeRemoved(old)),
            (None, None) => {}
        }
    }

    /// What creates pods has this selector now.
    pub(super) fn note_owner(&mut self, kind: &str, key: &ObjectKey, selector: Option<Selector>) {
        self.snapshot.workloads.set_owner(kind, key, selector);
    }

    /// Something happened to what volumes are made of.
    pub(super) fn note_storage(&mut self, event: Option<&Event<'_>>, now: Instant) {
        if let Some(event) = event {
            self.queue.happened(event);
        }
        if !self.awaiting.is_empty() {
            self.look_at_volumes(now);
        }
    }
}

/// Whether the pod waits for this scheduler.
fn is_ours(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let name = spec.scheduler_name.as_deref().unwrap_or(SCHEDULER_NAME);
    let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    name == SCHEDULER_NAME && !gated && pod.metadata.deletion_timestamp.is_none()
}
