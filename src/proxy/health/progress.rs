//! Whether the kernel's rules keep up with what changes. Pure, but for the lock.

use jiff::Timestamp;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Rules that are behind for longer say that this node is not to be used. Twice upstream's sync period
/// (`NewProxyHealthServer`, cmd/kube-proxy/app/server.go, v1.35).
const PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub(in super::super) struct Progress(Mutex<State>);

/// How far the rules are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct State {
    /// Since when something is waiting that the kernel does not have.
    pub(in super::super) behind_since: Option<Instant>,
    /// When something last changed.
    pub(in super::super) queued: Option<Timestamp>,
    /// When the kernel last had everything that was known.
    pub(in super::super) applied: Option<Timestamp>,
}

impl Progress {
    /// Something has changed.
    pub(in super::super) fn queued(&self, now: Instant, at: Timestamp) {
        let mut state = self.lock();
        state.behind_since.get_or_insert(now);
        state.queued = Some(at);
    }

    /// The kernel has what was known, but for what has changed meanwhile, since `behind_since`.
    pub(in super::super) fn applied(&self, at: Timestamp, behind_since: Option<Instant>) {
        let mut state = self.lock();
        state.behind_since = behind_since;
        state.applied = Some(at);
    }

    /// As upstream's `Health` (pkg/proxy/healthcheck/proxy_health.go, v1.35): who starts has not failed
    /// yet.
    pub(in super::super) fn is_healthy(&self, now: Instant) -> bool {
        let since = self.lock().behind_since;
        since.is_none_or(|since| now.saturating_duration_since(since) < PATIENCE)
    }

    pub(in super::super) fn state(&self) -> State {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panics under this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::monotonic;

    #[test]
    fn what_waits_for_long_is_not_healthy() {
        let (progress, at, began) = (Progress::default(), Timestamp::UNIX_EPOCH, monotonic());
        let after = |seconds| began + Duration::from_secs(seconds);
        assert!(progress.is_healthy(after(600)), "nothing was to be done");
        progress.queued(after(0), at);
        progress.queued(after(59), at);
        assert!(progress.is_healthy(after(59)));
        assert!(!progress.is_healthy(after(60)), "it is the first that counts");
        progress.applied(at, Some(after(60)));
        assert!(progress.is_healthy(after(119)));
        assert!(!progress.is_healthy(after(120)));
        progress.applied(at, None);
        assert!(progress.is_healthy(after(600)));
    }
}
