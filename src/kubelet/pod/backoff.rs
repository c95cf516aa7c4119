//! How long a container that keeps ending waits before it starts again.
//!
//! Upstream `flowcontrol.Backoff` as `doBackOff` uses it (pkg/kubelet/kuberuntime/
//! kuberuntime_manager.go, v1.35): the first restart is at once, the next after 10 s, and so on.

use crate::stdx::Backoff;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// What a crash-looping container waits, from its end to its next start.
pub const RESTART_BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(10), longest: Duration::from_secs(300) };

/// A container that ran this long before it ended starts afresh: twice the longest wait.
const RESET_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// The restarts of one container so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarts {
    /// Another image is another container: its back-off begins anew.
    image: String,
    failures: u32,
    last_start: Timestamp,
}

impl Restarts {
    /// The wait that follows an end at `finished_at`; none where the container ran long enough.
    #[must_use]
    pub fn wait(&self, image: &str, finished_at: Timestamp) -> Duration {
        if self.is_forgotten(image, finished_at) {
            return Duration::ZERO;
        }
        RESTART_BACKOFF.delay(self.failures)
    }

    /// After a restart at `now` of a container that had ended at `finished_at`.
    #[must_use]
    pub fn after_restart(
        previous: Option<&Self>,
        image: &str,
        finished_at: Timestamp,
        now: Timestamp,
    ) -> Self {
        let failures = previous
            .filter(|restarts| !restarts.is_forgotten(image, finished_at))
            .map_or(0, |restarts| restarts.failures);
        Self { image: image.to_owned(), failures: failures.saturating_add(1), last_start: now }
    }

    fn is_forgotten(&self, image: &str, finished_at: Timestamp) -> bool {
        self.image != image || finished_at.duration_since(self.last_start) > RESET_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn doubles_while_it_keeps_crashing() {
        let mut restarts: Option<Restarts> = None;
        let mut now = 1_000;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let finished = at(now);
            let wait = restarts.as_ref().map_or(Duration::ZERO, |it| it.wait("web:1", finished));
            waits.push(wait.as_secs());
            now += i64::try_from(wait.as_secs()).unwrap();
            restarts = Some(Restarts::after_restart(restarts.as_ref(), "web:1", finished, at(now)));
            now += 1;
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_good_minutes_or_another_image_forgive() {
        let restarts = Restarts::after_restart(None, "web:1", at(0), at(0));
        assert_eq!(restarts.wait("web:1", at(599)).as_secs(), 10);
        assert_eq!(restarts.wait("web:1", at(601)).as_secs(), 0);
        assert_eq!(restarts.wait("web:2", at(1)).as_secs(), 0);
        let again = Restarts::after_restart(Some(&restarts), "web:1", at(601), at(601));
        assert_eq!(again.wait("web:1", at(602)).as_secs(), 10);
    }
}
