//! What is under way on one connection, and when that is a reason to end it.
//!
//! Start at [`Activity::end`]. A connection ends when nothing has been asked on it for some time,
//! and when one of its answers has taken too long to make or to send: a peer that reads nothing must
//! not keep a place that others could have. Watches and logs take as long as they like.

use super::config::{CONNECTION_IDLE_MAX, FIRST_REQUEST_TIMEOUT};
use crate::stdx::monotonic;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// See the module.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    /// Told when a connection that had to wait for nothing may have to again.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    next_id: u64,
    /// Requests with a deadline.
    bounded: BTreeSet<(Instant, u64)>,
    /// Requests without.
    unbounded: usize,
    /// When the connection is idle for too long, unless something is under way.
    idle_until: Instant,
}

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Idle,
    /// An answer is not sent although its time is over.
    Overdue,
}

/// What to do about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    End(End),
    LookAgainAt(Instant),
    /// Nothing happens before something changes.
    Wait,
}

/// A request under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Underway {
    activity: Arc<Activity>,
    id: u64,
    deadline: Option<Instant>,
}

impl Activity {
    /// A connection that has just come.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                next_id: 0,
                bounded: BTreeSet::new(),
                unbounded: 0,
                idle_until: monotonic() + FIRST_REQUEST_TIMEOUT,
            }),
            changed: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request comes. Without a deadline it may take as long as it likes.
    pub(super) fn begin(self: &Arc<Self>, deadline: Option<Instant>) -> Underway {
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        match deadline {
            Some(deadline) => {
                state.bounded.insert((deadline, id));
            }
            None => state.unbounded += 1,
        }
        drop(state);
        self.changed.notify_one();
        Underway { activity: Arc::clone(self), id, deadline }
    }

    /// Waits until the connection is to end.
    pub(super) async fn end(&self) -> End {
        loop {
            let verdict = self.lock().verdict(monotonic());
            match verdict {
                Verdict::End(end) => return end,
                // Whatever comes later is due later: nothing before then needs a look.
                Verdict::LookAgainAt(at) => tokio::time::sleep_until(at.into()).await,
                Verdict::Wait => self.changed.notified().await,
            }
        }
    }
}

impl State {
    fn verdict(&self, now: Instant) -> Verdict {
        match self.bounded.first() {
            Some((deadline, _)) if *deadline <= now => Verdict::End(End::Overdue),
            Some((deadline, _)) => Verdict::LookAgainAt(*deadline),
            None if self.unbounded > 0 => Verdict::Wait,
            None if self.idle_until <= now => Verdict::End(End::Idle),
            None => Verdict::LookAgainAt(self.idle_until),
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let mut state = self.activity.lock();
        match self.deadline {
            Some(deadline) => {
                state.bounded.remove(&(deadline, self.id));
            }
            None => state.unbounded -= 1,
        }
        state.idle_until = monotonic() + CONNECTION_IDLE_MAX;
        drop(state);
        self.activity.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::REQUEST_TIMEOUT;
    use super::*;
    use std::time::Duration;

    /// How a connection ends after `requests`, each with a deadline or not and under way for so
    /// many seconds, one after another.
    async fn check(requests: &[(bool, u64)], expected: (End, u64)) {
        let began = tokio::time::Instant::now();
        let activity = Activity::new();
        let asking = async {
            for (bounded, seconds) in requests {
                let deadline = bounded.then(|| monotonic() + REQUEST_TIMEOUT);
                let underway = activity.begin(deadline);
                tokio::time::sleep(Duration::from_secs(*seconds)).await;
                drop(underway);
            }
            std::future::pending().await
        };
        let end = tokio::select! {
            end = activity.end() => end,
            end = asking => end,
        };
        assert_eq!((end, began.elapsed().as_secs()), expected, "{requests:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_when_it_is_idle_or_overdue() {
        check(&[], (End::Idle, 30)).await;
        check(&[(true, 5)], (End::Idle, 95)).await;
        check(&[(true, 5), (true, 59)], (End::Idle, 154)).await;
        check(&[(true, 61)], (End::Overdue, 60)).await;
        check(&[(false, 3_600)], (End::Idle, 3_690)).await;
        check(&[(false, 100), (true, 61)], (End::Overdue, 160)).await;
    }
}
