//! The pods that wait for a node: which is next, and when one that failed is tried again.
//!
//! Pure: every method takes the time. Follows upstream's scheduling queue
//! (pkg/scheduler/backend/queue, v1.35): pods that fit nowhere rest until something in the cluster
//! changes, and then as long as their back-off lasts.

use super::snapshot::PodFacts;
use crate::stdx::Backoff;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After a failed attempt a pod rests this long (upstream `podInitialBackoffSeconds` and
/// `podMaxBackoffSeconds`).
const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(10) };

/// A pod that fits nowhere is tried again after this long even if nothing has changed (upstream
/// `podMaxInUnschedulablePodsDuration`).
const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(300);

/// Where a pod is in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active,
    /// Until the back-off is over.
    Resting(Instant),
    /// Until the cluster changes, or this moment.
    Unschedulable(Instant),
    /// Its binding is under way.
    Taken,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<PodFacts>,
    place: Place,
    arrival: u64,
    failures: u32,
    /// When the last attempt failed.
    failed_at: Option<Instant>,
}

/// The order of pods that are ready to be tried: by priority, then by arrival.
type Rank = (Reverse<i32>, u64, String);

/// Pods without a node, by uid.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: BTreeMap<String, Entry>,
    active: BTreeSet<Rank>,
    /// The resting and the unschedulable, by when their waiting ends.
    waiting: BTreeSet<(Instant, String)>,
    arrivals: u64,
}

impl Queue {
    /// A pod came or changed. A change may be what an unschedulable pod needs, so it is tried
    /// again; a change of its status is not, and least of all our own report (upstream
    /// `isPodUpdated`).
    pub(super) fn set(&mut self, pod: Arc<PodFacts>) {
        let uid = pod.uid.clone();
        let Some(entry) = self.entries.get_mut(&uid) else {
            self.arrivals += 1;
            let entry = Entry {
                pod,
                place: Place::Taken,
                arrival: self.arrivals,
                failures: 0,
                failed_at: None,
            };
            self.entries.insert(uid.clone(), entry);
            self.put(&uid, Place::Active);
            return;
        };
        let place = match entry.place {
            Place::Unschedulable(_) if !is_alike(&entry.pod, &pod) => place_after_change(entry),
            place => place,
        };
        // Its rank may change with it.
        self.put(&uid, Place::Taken);
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.pod = pod;
        }
        self.put(&uid, place);
    }

    /// The pod has a node, has ended or is gone.
    pub(super) fn remove(&mut self, uid: &str) {
        self.put(uid, Place::Taken);
        self.entries.remove(uid);
    }

    /// Takes the next pod to try. It comes back by [`Queue::failed`] or goes by [`Queue::remove`].
    pub(super) fn take(&mut self, now: Instant) -> Option<Arc<PodFacts>> {
        while let Some((at, _)) = self.waiting.first()
            && *at <= now
        {
            let (_, uid) = self.waiting.pop_first().expect("looked at just now");
            self.put(&uid, Place::Active);
        }
        let (.., uid) = self.active.pop_first()?;
        let entry = self.entries.get_mut(&uid).expect("active pods have entries");
        entry.place = Place::Taken;
        Some(Arc::clone(&entry.pod))
    }

    /// Nothing fits the pod: it waits for the cluster to change.
    pub(super) fn unschedulable(&mut self, uid: &str, now: Instant) {
        self.put_back(uid, now, Place::Unschedulable(now + UNSCHEDULABLE_MAX));
    }

    /// The pod's binding failed: it is tried again after its back-off.
    pub(super) fn failed(&mut self, uid: &str, now: Instant) {
        let failures = self.entries.get(uid).map_or(0, |entry| entry.failures);
        self.put_back(uid, now, Place::Resting(now + BACKOFF.delay(failures + 1)));
    }

    fn put_back(&mut self, uid: &str, now: Instant, place: Place) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.failures = entry.failures.saturating_add(1);
            entry.failed_at = Some(now);
            self.put(uid, place);
        }
    }

    /// Something in the cluster changed that may make room: unschedulable pods are tried again,
    /// each after its back-off.
    pub(super) fn cluster_changed(&mut self) {
        let unschedulable: Vec<_> = self
            .waiting
            .iter()
            .filter_map(|(_, uid)| self.entries.get_key_value(uid))
            .filter(|(_, entry)| matches!(entry.place, Place::Unschedulable(_)))
            .map(|(uid, entry)| (uid.clone(), place_after_change(entry)))
            .collect();
        for (uid, place) in unschedulable {
            self.put(&uid, place);
        }
    }

    /// When [`Queue::take`] may have a pod next; `None` while only a change can bring one.
    pub(super) fn next_wake(&self, now: Instant) -> Option<Instant> {
        if !self.active.is_empty() {
            return Some(now);
        }
        self.waiting.first().map(|(at, _)| *at)
    }

    /// The one way a pod changes its place, so that the sets and the entries agree.
    fn put(&mut self, uid: &str, place: Place) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        match entry.place {
            Place::Active => {
                self.active.remove(&rank(uid, entry));
            }
            Place::Resting(until) | Place::Unschedulable(until) => {
                self.waiting.remove(&(until, uid.to_owned()));
            }
            Place::Taken => {}
        }
        entry.place = place;
        match place {
            Place::Active => {
                self.active.insert(rank(uid, entry));
            }
            Place::Resting(until) | Place::Unschedulable(until) => {
                self.waiting.insert((until, uid.to_owned()));
            }
            Place::Taken => {}
        }
    }
}

/// Whether a placement would see no difference.
fn is_alike(old: &PodFacts, new: &PodFacts) -> bool {
    old.pod.spec == new.pod.spec && old.pod.metadata.labels == new.pod.metadata.labels
}

fn place_after_change(entry: &Entry) -> Place {
    match entry.failed_at {
        Some(at) => Place::Resting(at + BACKOFF.delay(entry.failures)),
        None => Place::Active,
    }
}

fn rank(uid: &str, entry: &Entry) -> Rank {
    (Reverse(entry.pod.priority()), entry.arrival, uid.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ObjectKey;
    use serde_json::json;

    fn pod(uid: &str, priority: i32) -> Arc<PodFacts> {
        let pod = json!({
            "metadata": {"name": uid, "uid": uid},
            "spec": {"containers": [], "priority": priority},
        });
        let key = ObjectKey::namespaced("default", uid);
        Arc::new(PodFacts::new(key, Arc::new(serde_json::from_value(pod).unwrap())))
    }

    fn taken(queue: &mut Queue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| queue.take(now)).map(|pod| pod.uid.clone()).collect()
    }

    #[test]
    fn important_pods_go_first_then_early_ones() {
        let now = crate::stdx::monotonic();
        let mut queue = Queue::default();
        for (uid, priority) in [("a", 0), ("b", 10), ("c", 0), ("d", 10)] {
            queue.set(pod(uid, priority));
        }
        assert_eq!(taken(&mut queue, now), ["b", "d", "a", "c"]);
        assert_eq!(queue.next_wake(now), None);
    }

    #[test]
    fn an_unschedulable_pod_waits_for_a_change_and_its_back_off() {
        let start = crate::stdx::monotonic();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut queue = Queue::default();
        queue.set(pod("a", 0));
        assert_eq!(taken(&mut queue, start), ["a"]);
        queue.unschedulable("a", start);
        assert_eq!(taken(&mut queue, at(200)), [""; 0]);
        queue.cluster_changed();
        assert_eq!(queue.next_wake(start), Some(at(1)));
        assert_eq!(taken(&mut queue, at(1)), ["a"]);
        queue.unschedulable("a", at(1));
        assert_eq!(queue.next_wake(at(1)), Some(at(301)));
        assert_eq!(taken(&mut queue, at(301)), ["a"]);
    }

    #[test]
    fn a_pod_that_goes_while_it_is_tried_does_not_come_back() {
        let now = crate::stdx::monotonic();
        let mut queue = Queue::default();
        queue.set(pod("a", 0));
        queue.take(now);
        queue.remove("a");
        queue.failed("a", now);
        assert_eq!(queue.next_wake(now), None);
    }

    #[test]
    fn only_a_change_that_matters_wakes_an_unschedulable_pod() {
        let start = crate::stdx::monotonic();
        let mut queue = Queue::default();
        queue.set(pod("a", 0));
        queue.take(start);
        queue.unschedulable("a", start);
        queue.set(pod("a", 0));
        assert_eq!(queue.next_wake(start), Some(start + UNSCHEDULABLE_MAX));
        queue.set(pod("a", 7));
        assert_eq!(queue.next_wake(start), Some(start + Duration::from_secs(1)));
        queue.remove("a");
        assert_eq!(queue.next_wake(start), None);
    }

    #[test]
    fn a_pod_that_changes_while_it_is_tried_is_not_tried_twice() {
        let now = crate::stdx::monotonic();
        let mut queue = Queue::default();
        queue.set(pod("a", 0));
        queue.take(now);
        queue.set(pod("a", 5));
        assert_eq!(taken(&mut queue, now), [""; 0]);
    }
}
