//! Which key is looked at next: the queue's decisions, without its waiting.
//!
//! Keys are in here only while there is something to remember of them. The meaning of adding while
//! running, and the delays after failures, are upstream's (client-go util/workqueue, v1.35).

use super::write::Failure;
use crate::stdx::Backoff;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// The delays after failures in a row: upstream's `DefaultTypedControllerRateLimiter`.
pub(super) const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(5), longest: Duration::from_secs(1_000) };

/// A key whose every look ends in writes, this many times in a row, is slowed down as if it failed:
/// its plan does not come to rest.
const WRITING_LOOKS_MAX: u32 = 64;

/// How a look at a key ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Settled {
        recheck_after: Option<Duration>,
    },
    /// The caches have seen what was written: look again.
    Wrote,
    /// Somebody else was faster: look again, soon.
    Conflict,
    Failed(Failure),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Not to be looked at, but perhaps later: see [`Entry::due`].
    #[default]
    Idle,
    Ready,
    Running {
        /// Something has changed since it was taken.
        again: bool,
    },
}

/// What is remembered of a key.
#[derive(Debug, Default)]
struct Entry {
    place: Place,
    due: Option<Instant>,
    failures: u32,
    writing_looks: u32,
    failure: Option<Failure>,
}

impl Entry {
    fn is_forgettable(&self) -> bool {
        self.place == Place::Idle && self.due.is_none() && self.failures == 0
    }
}

#[derive(Debug)]
pub(super) struct Schedule<Key> {
    entries: BTreeMap<Key, Entry>,
    ready: VecDeque<Key>,
    due: BTreeSet<(Instant, Key)>,
}

impl<Key: Clone + Ord> Schedule<Key> {
    pub(super) fn new() -> Self {
        Self { entries: BTreeMap::new(), ready: VecDeque::new(), due: BTreeSet::new() }
    }

    /// Something about the key has changed. Says whether it has become ready.
    pub(super) fn add(&mut self, key: &Key) -> bool {
        let entry = self.entries.entry(key.clone()).or_default();
        match &mut entry.place {
            Place::Idle => {
                entry.place = Place::Ready;
                self.ready.push_back(key.clone());
                true
            }
            Place::Ready => false,
            Place::Running { again } => {
                *again = true;
                false
            }
        }
    }

    /// Adds the key at a later time; the earliest of several counts.
    pub(super) fn add_at(&mut self, key: &Key, at: Instant) {
        let entry = self.entries.entry(key.clone()).or_default();
        match entry.due {
            Some(earlier) if earlier <= at => return,
            Some(later) => {
                self.due.remove(&(later, key.clone()));
            }
            None => {}
        }
        entry.due = Some(at);
        self.due.insert((at, key.clone()));
    }

    /// The time of day has become another: what was to be looked at later is looked at now, and what is
    /// being looked at by the old time once more after that.
    pub(super) fn hurry(&mut self) {
        for (_, key) in std::mem::take(&mut self.due) {
            self.entry(&key).due = None;
            self.add(&key);
        }
        for entry in self.entries.values_mut() {
            if let Place::Running { again } = &mut entry.place {
                *again = true;
            }
        }
    }

    /// The next key to look at, and what went wrong with it last.
    pub(super) fn take(&mut self, now: Instant) -> Option<(Key, Option<Failure>)> {
        while let Some((at, _)) = self.due.first()
            && *at <= now
        {
            let (_, key) = self.due.pop_first().expect("looked at just now");
            self.entry(&key).due = None;
            self.add(&key);
        }
        let key = self.ready.pop_front()?;
        let entry = self.entry(&key);
        entry.place = Place::Running { again: false };
        Some((key, entry.failure.clone()))
    }

    /// When the next of the delayed keys is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The look at the key is over.
    pub(super) fn finish(&mut self, key: &Key, outcome: Outcome, now: Instant) {
        let entry = self.entry(key);
        let Place::Running { again } = entry.place else {
            unreachable!("only keys that were taken are finished")
        };
        entry.place = Place::Idle;
        let mut look_again = again;
        let mut delay = None;
        match outcome {
            Outcome::Settled { recheck_after } => {
                *entry = Entry { due: entry.due, ..Entry::default() };
                delay = recheck_after;
            }
            Outcome::Wrote => {
                entry.failure = None;
                entry.failures = 0;
                entry.writing_looks = entry.writing_looks.saturating_add(1);
                if let Some(excess) = entry.writing_looks.checked_sub(WRITING_LOOKS_MAX) {
                    look_again = false;
                    delay = Some(BACKOFF.delay(excess.saturating_add(1)));
                } else {
                    look_again = true;
                }
            }
            Outcome::Conflict => {
                entry.failures = entry.failures.saturating_add(1);
                delay = Some(BACKOFF.delay(entry.failures));
            }
            Outcome::Failed(failure) => {
                entry.failure = Some(failure);
                entry.failures = entry.failures.saturating_add(1);
                delay = Some(BACKOFF.delay(entry.failures));
            }
        }
        if look_again {
            self.add(key);
        }
        if let Some(delay) = delay {
            self.add_at(key, now + delay);
        }
        if self.entry(key).is_forgettable() {
            self.entries.remove(key);
        }
    }

    fn entry(&mut self, key: &Key) -> &mut Entry {
        self.entries.get_mut(key).expect("keys that are ready, due or running have an entry")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ResourceType;
    use crate::control::Verb;
    use k8s_openapi::api::core::v1::Pod;

    fn failed() -> Outcome {
        let resource = ResourceType::of::<Pod>();
        let message = "no".to_owned();
        Outcome::Failed(Failure { resource, verb: Verb::Create, message })
    }

    fn settled(recheck_after: Option<Duration>) -> Outcome {
        Outcome::Settled { recheck_after }
    }

    struct Case {
        schedule: Schedule<&'static str>,
        start: Instant,
    }

    impl Case {
        fn new() -> Self {
            Self { schedule: Schedule::new(), start: crate::stdx::monotonic() }
        }

        fn at(&self, millis: u64) -> Instant {
            self.start + Duration::from_millis(millis)
        }

        fn take(&mut self, millis: u64) -> Option<&'static str> {
            let now = self.at(millis);
            self.schedule.take(now).map(|(key, _)| key)
        }

        fn finish(&mut self, key: &'static str, outcome: Outcome, millis: u64) {
            let now = self.at(millis);
            self.schedule.finish(&key, outcome, now);
        }

        /// When the key next comes, in milliseconds from the start.
        fn next_due(&self) -> Option<u128> {
            Some(self.schedule.next_due()?.duration_since(self.start).as_millis())
        }
    }

    #[test]
    fn a_key_is_queued_once_and_run_by_one() {
        let mut case = Case::new();
        assert!(case.schedule.add(&"a"));
        assert!(!case.schedule.add(&"a"));
        assert!(case.schedule.add(&"b"));
        assert_eq!(case.take(0), Some("a"));
        // Changed while it is looked at: once more afterwards, and not before.
        assert!(!case.schedule.add(&"a"));
        assert_eq!(case.take(0), Some("b"));
        assert_eq!(case.take(0), None);
        case.finish("a", settled(None), 0);
        assert_eq!(case.take(0), Some("a"));
        case.finish("a", settled(None), 0);
        case.finish("b", settled(None), 0);
        assert_eq!(case.take(0), None);
        assert!(case.schedule.entries.is_empty());
    }

    #[test]
    fn failures_delay_and_changes_do_not_wait() {
        let mut case = Case::new();
        case.schedule.add(&"a");
        for (failures, expected) in [(1_u64, 5), (2, 15), (3, 35), (4, 75)] {
            let now = case.next_due().map_or(0, |due| u64::try_from(due).unwrap());
            assert_eq!(case.take(now), Some("a"), "before failure {failures}");
            case.finish("a", failed(), now);
            assert_eq!(case.next_due(), Some(expected));
            assert_eq!(case.take(now), None);
        }
        // A change is looked at at once; the delayed look comes as well.
        assert!(case.schedule.add(&"a"));
        let (_, failure) = case.schedule.take(case.at(40)).unwrap();
        assert_eq!(failure.unwrap().message, "no");
        case.finish("a", settled(None), 40);
        assert_eq!(case.next_due(), Some(75));
        // The failures are forgotten after a success.
        assert_eq!(case.take(75), Some("a"));
        case.finish("a", Outcome::Conflict, 75);
        assert_eq!(case.next_due(), Some(80));
    }

    #[test]
    fn the_earliest_recheck_counts() {
        let mut case = Case::new();
        case.schedule.add(&"a");
        case.take(0);
        case.finish("a", settled(Some(Duration::from_millis(100))), 0);
        let later = case.at(200);
        case.schedule.add_at(&"a", later);
        assert_eq!(case.next_due(), Some(100));
        let earlier = case.at(50);
        case.schedule.add_at(&"a", earlier);
        assert_eq!(case.next_due(), Some(50));
        assert_eq!(case.take(49), None);
        assert_eq!(case.take(50), Some("a"));
        assert_eq!(case.next_due(), None);
    }

    #[test]
    fn another_time_of_day_is_reckoned_with_by_all() {
        let mut case = Case::new();
        case.schedule.add(&"later");
        case.schedule.add(&"running");
        assert_eq!(case.take(0), Some("later"));
        case.finish("later", settled(Some(Duration::from_secs(3_600))), 0);
        assert_eq!(case.take(0), Some("running"));
        case.schedule.hurry();
        assert_eq!(case.take(0), Some("later"));
        assert_eq!(case.next_due(), None);
        case.finish("running", settled(Some(Duration::from_secs(3_600))), 0);
        assert_eq!(case.take(0), Some("running"));
    }

    #[test]
    fn a_plan_that_does_not_come_to_rest_is_slowed_down() {
        let mut case = Case::new();
        case.schedule.add(&"a");
        for _ in 0..WRITING_LOOKS_MAX - 1 {
            assert_eq!(case.take(0), Some("a"));
            case.finish("a", Outcome::Wrote, 0);
        }
        assert_eq!(case.take(0), Some("a"));
        case.finish("a", Outcome::Wrote, 0);
        assert_eq!(case.take(0), None);
        assert_eq!(case.next_due(), Some(5));
        assert_eq!(case.take(5), Some("a"));
        case.finish("a", Outcome::Wrote, 5);
        assert_eq!(case.next_due(), Some(15));
    }
}
