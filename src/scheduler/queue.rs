//! The pods that wait for a node: which is next, and when one that failed is tried again.
//!
//! Pure: every method takes the time. Follows upstream's scheduling queue
//! (pkg/scheduler/backend/queue, v1.35): pods that fit nowhere wait until something happens that may
//! help them, and then as long as their back-off lasts, unless there is nothing else to do.

use super::event::Event;
use super::plugins::{PluginSet, may_help};
use super::pod::PodFacts;
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
    /// It fitted nowhere; something has happened since. Until the back-off is over, or until there
    /// is nothing more urgent (upstream `SchedulerPopFromBackoffQ`).
    Resting(Instant),
    /// A write failed. Until the back-off is over.
    Recovering(Instant),
    /// Until something happens that may help, or this moment.
    Unschedulable(Instant),
    /// It is being bound, or room is being made for it.
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
    /// Who refused nodes in the last attempt.
    refused_by: PluginSet,
    /// Whether something happened that may help while the pod was taken.
    is_helped: bool,
}

/// The order of pods that are ready to be tried: by priority, then by arrival.
type Rank = (Reverse<i32>, u64, String);

/// Pods without a node, by uid.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: BTreeMap<String, Entry>,
    active: BTreeSet<Rank>,
    resting: BTreeSet<(Instant, String)>,
    /// The recovering and the unschedulable, by when their waiting ends.
    waiting: BTreeSet<(Instant, String)>,
    /// Those that events may help.
    refused: BTreeSet<String>,
    arrivals: u64,
}

impl Queue {
    /// A pod came or changed.
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
                refused_by: PluginSet::default(),
                is_helped: false,
            };
            self.entries.insert(uid.clone(), entry);
            self.put(&uid, Place::Active);
            return;
        };
        // A change of its own may be what the pod needs; its status is not, and least of all our
        // own report.
        let old = Arc::clone(&entry.pod);
        let is_helped = old.ask != pod.ask
            && (entry.refused_by.is_empty()
                || may_help(entry.refused_by, &pod, &Event::OwnChange(&old, &pod)));
        let place = match entry.place {
            Place::Unschedulable(_) if is_helped => place_after_help(entry),
            place => place,
        };
        entry.is_helped |= is_helped;
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
        self.refused.remove(uid);
        self.entries.remove(uid);
    }

    /// What is known of a pod that waits.
    pub(super) fn get(&self, uid: &str) -> Option<&Arc<PodFacts>> {
        self.entries.get(uid).map(|entry| &entry.pod)
    }

    /// Takes the next pod to try. It comes back by [`Queue::failed`] or [`Queue::refused`], or goes
    /// by [`Queue::remove`].
    pub(super) fn take(&mut self, now: Instant) -> Option<Arc<PodFacts>> {
        let is_due = |first: Option<&(Instant, String)>| {
            first.filter(|(at, _)| *at <= now).map(|(_, uid)| uid.clone())
        };
        while let Some(uid) = is_due(self.waiting.first()).or_else(|| is_due(self.resting.first()))
        {
            self.put(&uid, Place::Active);
        }
        if self.active.is_empty() {
            let (_, uid) = self.resting.first()?.clone();
            self.put(&uid, Place::Active);
        }
        let (.., uid) = self.active.first()?.clone();
        self.put(&uid, Place::Taken);
        let entry = self.entries.get_mut(&uid).expect("active pods have entries");
        entry.is_helped = false;
        Some(Arc::clone(&entry.pod))
    }

    /// Nothing fits the pod: it waits for something that may help.
    pub(super) fn refused(&mut self, uid: &str, by: PluginSet, now: Instant) {
        self.hold(uid, by, now);
        self.release(uid, now);
    }

    /// As [`Queue::refused`], but the pod is not to be tried before it is [released](Self::release):
    /// room is being made for it.
    pub(super) fn hold(&mut self, uid: &str, by: PluginSet, now: Instant) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.failures = entry.failures.saturating_add(1);
            entry.failed_at = Some(now);
            entry.refused_by = by;
            self.refused.insert(uid.to_owned());
        }
    }

    /// The pod that was held may be tried again once something helps, or has helped already.
    pub(super) fn release(&mut self, uid: &str, now: Instant) {
        let Some(entry) = self.entries.get(uid).filter(|entry| entry.place == Place::Taken) else {
            return;
        };
        let place = match entry.is_helped {
            true => place_after_help(entry),
            false => Place::Unschedulable(now + UNSCHEDULABLE_MAX),
        };
        self.put(uid, place);
    }

    /// A write for the pod failed: it is tried again after its back-off.
    pub(super) fn failed(&mut self, uid: &str, now: Instant) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.failures = entry.failures.saturating_add(1);
            entry.failed_at = Some(now);
            let until = now + BACKOFF.delay(entry.failures);
            self.put(uid, Place::Recovering(until));
        }
    }

    /// Something happened. The pods that it may help are tried again, each after its back-off.
    pub(super) fn happened(&mut self, event: &Event<'_>) {
        let helps = |uid: &&String| {
            let entry = &self.entries[*uid];
            match entry.refused_by.is_empty() {
                // There was no node at all.
                true => matches!(event, Event::NodeAdded(_)),
                false => may_help(entry.refused_by, &entry.pod, event),
            }
        };
        let helped: Vec<_> = self.refused.iter().filter(helps).cloned().collect();
        for uid in helped {
            let entry = self.entries.get_mut(&uid).expect("refused pods have entries");
            entry.is_helped = true;
            if matches!(entry.place, Place::Unschedulable(_)) {
                let place = place_after_help(entry);
                self.put(&uid, place);
            }
        }
    }

    /// When [`Queue::take`] may have a pod next; `None` while only a change can bring one.
    pub(super) fn next_wake(&self, now: Instant) -> Option<Instant> {
        if !self.active.is_empty() || !self.resting.is_empty() {
            return Some(now);
        }
        self.waiting.first().map(|(at, _)| *at)
    }

    /// The one way a pod changes its place, so that the sets and the entries agree.
    fn put(&mut self, uid: &str, place: Place) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        match entry.place {
            Place::Active => drop(self.active.remove(&rank(uid, entry))),
            Place::Resting(until) => drop(self.resting.remove(&(until, uid.to_owned()))),
            Place::Recovering(until) | Place::Unschedulable(until) => {
                self.waiting.remove(&(until, uid.to_owned()));
            }
            Place::Taken => {}
        }
        entry.place = place;
        match place {
            Place::Active => drop(self.active.insert(rank(uid, entry))),
            Place::Resting(until) => drop(self.resting.insert((until, uid.to_owned()))),
            Place::Recovering(until) | Place::Unschedulable(until) => {
                self.waiting.insert((until, uid.to_owned()));
            }
            Place::Taken => {}
        }
        if !matches!(place, Place::Taken | Place::Unschedulable(_)) {
            self.refused.remove(uid);
        }
    }
}

fn place_after_help(entry: &Entry) -> Place {
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
    use super::super::plugins::Plugin;
    use super::super::plugins::testing::{node, pod as pod_of};
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, priority: i32) -> Arc<PodFacts> {
        Arc::new(pod_of(uid, json!({"priority": priority})))
    }

    fn by_fit() -> PluginSet {
        PluginSet::from_iter([Plugin::NodeResourcesFit])
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
    fn a_pod_that_fits_nowhere_waits_for_what_may_help() {
        let start = crate::stdx::monotonic();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut queue = Queue::default();
        queue.set(pod("a", 0));
        assert_eq!(taken(&mut queue, start), ["a"]);
        queue.refused("a", by_fit(), start);
        let useless = node("n", json!({"status": {"allocatable": {"pods": "0"}}}));
        queue.happened(&Event::NodeAdded(&useless));
        assert_eq!(taken(&mut queue, at(200)), [""; 0]);
        queue.happened(&Event::NodeAdded(&node("n", json!({}))));
        assert_eq!(taken(&mut queue, at(200)), ["a"]);
        queue.refused("a", by_fit(), at(200));
        assert_eq!(queue.next_wake(at(200)), Some(at(500)));
        assert_eq!(taken(&mut queue, at(500)), ["a"]);
    }

    #[test]
    fn a_pod_that_was_helped_rests_while_there_are_others() {
        let start = crate::stdx::monotonic();
        let mut queue = Queue::default();
        queue.set(pod("a", 10));
        queue.take(start);
        queue.refused("a", by_fit(), start);
        queue.happened(&Event::PodGone(&pod("other", 0)));
        queue.set(pod("b", 0));
        assert_eq!(taken(&mut queue, start), ["b", "a"]);
        queue.refused("a", by_fit(), start);
        queue.happened(&Event::PodGone(&pod("other", 0)));
        queue.set(pod("c", 0));
        assert_eq!(taken(&mut queue, start + Duration::from_secs(2)), ["a", "c"]);
    }

    #[test]
    fn a_pod_whose_binding_failed_rests_for_the_whole_back_off() {
        let start = crate::stdx::monotonic();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut queue = Queue::default();
        queue.set(pod("a", 0));
        for (failed, rest) in [(0, 1), (10, 2), (20, 4), (30, 8), (50, 10), (70, 10)] {
            assert_eq!(taken(&mut queue, at(failed)), ["a"]);
            queue.failed("a", at(failed));
            assert_eq!(queue.next_wake(at(failed)), Some(at(failed + rest)));
        }
    }

    #[test]
    fn help_that_comes_while_room_is_being_made_is_not_forgotten() {
        let now = crate::stdx::monotonic();
        let mut queue = Queue::default();
        queue.set(pod("a", 0));
        queue.take(now);
        queue.hold("a", by_fit(), now);
        queue.happened(&Event::PodGone(&pod("victim", 0)));
        assert_eq!(taken(&mut queue, now), [""; 0]);
        queue.release("a", now);
        assert_eq!(taken(&mut queue, now), ["a"]);
    }

    #[test]
    fn a_pod_that_goes_while_it_is_tried_does_not_come_back() {
        let now = crate::stdx::monotonic();
        let mut queue = Queue::default();
        queue.set(pod("a", 0));
        queue.take(now);
        queue.remove("a");
        queue.failed("a", now);
        queue.refused("a", by_fit(), now);
        queue.happened(&Event::PodGone(&pod("other", 0)));
        assert_eq!(queue.next_wake(now), None);
    }

    #[test]
    fn only_a_change_that_matters_wakes_an_unschedulable_pod() {
        let start = crate::stdx::monotonic();
        let asking = |cpu: &str| {
            let requests = json!({"requests": {"cpu": cpu}});
            Arc::new(pod_of("a", json!({"containers": [{"name": "c", "resources": requests}]})))
        };
        let mut queue = Queue::default();
        queue.set(asking("2"));
        queue.take(start);
        queue.refused("a", by_fit(), start);
        queue.set(asking("2"));
        assert_eq!(queue.next_wake(start), Some(start + UNSCHEDULABLE_MAX));
        queue.set(asking("1"));
        assert_eq!(taken(&mut queue, start), ["a"]);
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
