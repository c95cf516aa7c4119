//! How long a node waits for its next pod after pods that failed there.

use crate::stdx::Backoff;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// The delay after failed pods in a row: upstream's `failedPodsBackoff`
/// (cmd/kube-controller-manager/app/apps.go, v1.35).
const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(15 * 60) };

/// After this long without a failure a node begins anew, and is forgotten.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_mins(30);

/// The pods that failed and were deleted, by the uid of their DaemonSet and their node.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<(String, String), Entry>);

#[derive(Debug)]
struct Entry {
    count: u32,
    last: Timestamp,
}

impl Failures {
    pub(super) fn note(&mut self, set_uid: &str, node: &str, now: Timestamp) {
        self.0.retain(|_, entry| now.duration_since(entry.last) < FORGOTTEN_AFTER);
        let key = (set_uid.to_owned(), node.to_owned());
        let entry = self.0.entry(key).or_insert(Entry { count: 0, last: now });
        *entry = Entry { count: entry.count.saturating_add(1), last: now };
    }

    /// The nodes that have to wait, with how long.
    pub(super) fn waits(&self, set_uid: &str, now: Timestamp) -> BTreeMap<String, Duration> {
        let first = (set_uid.to_owned(), String::new());
        let of_set = self.0.range(first..).take_while(|((uid, _), _)| uid == set_uid);
        let wait = |entry: &Entry| {
            let elapsed = Duration::try_from(now.duration_since(entry.last)).unwrap_or_default();
            BACKOFF.delay(entry.count).checked_sub(elapsed).filter(|left| !left.is_zero())
        };
        of_set.filter_map(|((_, node), entry)| Some((node.clone(), wait(entry)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_are_forgotten() {
        let start: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let at = |seconds: i64| start + SignedDuration::from_secs(seconds);
        let mut failures = Failures::default();
        let wait = |failures: &Failures, seconds: i64| {
            failures.waits("set", at(seconds)).get("n").map(Duration::as_secs)
        };
        assert_eq!(wait(&failures, 0), None);
        failures.note("set", "n", at(0));
        failures.note("other", "n", at(0));
        assert_eq!(wait(&failures, 0), Some(1));
        assert_eq!(wait(&failures, 1), None);
        failures.note("set", "n", at(1));
        assert_eq!((wait(&failures, 1), wait(&failures, 2)), (Some(2), Some(1)));
        for seconds in 10..40 {
            failures.note("set", "n", at(seconds));
        }
        assert_eq!(wait(&failures, 39), Some(900));
        failures.note("set", "m", at(39 + 30 * 60));
        assert_eq!(failures.0.len(), 1);
    }
}
