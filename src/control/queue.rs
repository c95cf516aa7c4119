//! Keys waiting to be looked at: each at most once, never two looks at one key at a time.

use super::schedule::{Outcome, Schedule};
use super::write::Failure;
use crate::stdx::monotonic;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;

/// Keys waiting to be looked at. Clones are the same queue; one driver takes from it, and any number
/// of cache listeners add to it. Its timer is set only while a key is delayed.
pub struct Queue<Key>(Arc<Shared<Key>>);

struct Shared<Key> {
    schedule: Mutex<Schedule<Key>>,
    changed: Notify,
}

impl<Key: Clone + Ord> Queue<Key> {
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a queue is made on purpose, for one driver")]
    pub fn new() -> Self {
        let schedule = Mutex::new(Schedule::new());
        Self(Arc::new(Shared { schedule, changed: Notify::new() }))
    }

    /// Something about the key has changed: it is to be looked at.
    pub fn add(&self, key: &Key) {
        if self.schedule().add(key) {
            self.0.changed.notify_one();
        }
    }

    /// As `add`, after `delay`.
    pub fn add_after(&self, key: &Key, delay: Duration) {
        self.schedule().add_at(key, monotonic() + delay);
        self.0.changed.notify_one();
    }

    /// Waits for the next key. Nothing is lost when this is dropped before it has returned.
    pub(super) async fn next(&self) -> (Key, Option<Failure>) {
        loop {
            let due = {
                let mut schedule = self.schedule();
                if let Some(taken) = schedule.take(monotonic()) {
                    return taken;
                }
                schedule.next_due()
            };
            let changed = self.0.changed.notified();
            match due {
                None => changed.await,
                Some(due) => {
                    let elapsed = tokio::time::timeout_at(due.into(), changed).await;
                    // Either way the schedule is asked again.
                    drop(elapsed);
                }
            }
        }
    }

    /// What was to be looked at later is looked at now.
    pub(super) fn hurry(&self) {
        self.schedule().hurry();
        self.0.changed.notify_one();
    }

    pub(super) fn finish(&self, key: &Key, outcome: Outcome) {
        self.schedule().finish(key, outcome, monotonic());
        self.0.changed.notify_one();
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule<Key>> {
        self.0.schedule.lock().expect("no panics under this lock")
    }
}

impl<Key> Clone for Queue<Key> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Key> fmt::Debug for Queue<Key> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Queue")
    }
}
