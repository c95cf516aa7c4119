//! The only place that reads a clock, and that waits for a time of day.
//!
//! Timers count the seconds in which the machine runs; the time of day may be set, either way, and
//! goes on while the machine sleeps. So whoever waits for a time of day waits here
//! ([`Clock::sleep_until`]) or hears when to reckon anew ([`Clock::settings`]).

use jiff::Timestamp;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Where the time of day comes from. Cheap to clone; tests pass one of their own.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    set: Arc<watch::Sender<()>>,
}

impl Clock {
    /// The clock of this machine. Somebody has to tell it when that is set: see
    /// `sys::clock_watch`.
    #[must_use]
    pub fn system() -> Self {
        Self::from_fn(Timestamp::now)
    }

    /// A clock that says what `now` says.
    #[must_use]
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { now: Arc::new(now), set: Arc::new(watch::Sender::new(())) }
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// The clock was set, or the machine has slept: whoever waits reckons anew.
    pub fn was_set(&self) {
        self.set.send_replace(());
    }

    /// When the clock is set from now on.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings(self.set.subscribe())
    }

    /// Waits until it is `at`, also where the clock is set meanwhile. Where it is already, others
    /// have their turn first.
    pub async fn sleep_until(&self, at: Timestamp) {
        let mut settings = self.settings();
        loop {
            let left = Duration::try_from(at.duration_since(self.now())).unwrap_or_default();
            if left.is_zero() {
                return tokio::task::yield_now().await;
            }
            tokio::select! {
                biased;
                () = settings.next() => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clock")
    }
}

/// Hears when a clock is set.
#[derive(Debug)]
pub struct Settings(watch::Receiver<()>);

impl Settings {
    /// Returns when the clock was set since the last time. Nothing is lost when this is dropped
    /// before it has returned.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The clock is gone, and nobody sets it any more.
            std::future::pending::<()>().await;
        }
    }
}

/// The monotonic clock. Follows tokio's paused time in tests.
#[must_use]
pub fn monotonic() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};

    /// A clock that is ahead of the timers by what the counter says.
    fn clock() -> (Clock, Arc<AtomicI64>) {
        let (ahead, started) = (Arc::new(AtomicI64::new(0)), tokio::time::Instant::now());
        let offset = Arc::clone(&ahead);
        let now = move || {
            let seconds = offset.load(Ordering::Relaxed);
            Timestamp::from_second(1_800_000_000 + seconds).unwrap() + started.elapsed()
        };
        (Clock::from_fn(now), ahead)
    }

    /// Sets the clock ten seconds after the wait for an hour has begun; says how long it took.
    async fn waited(ahead: i64) -> u64 {
        let (clock, offset) = clock();
        let (began, due) = (monotonic(), clock.now() + Duration::from_secs(3_600));
        let set = async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            offset.store(ahead, Ordering::Relaxed);
            clock.was_set();
        };
        tokio::join!(clock.sleep_until(due), set);
        monotonic().duration_since(began).as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_of_day_is_met_whichever_way_the_clock_is_set() {
        assert_eq!(waited(0).await, 3_600);
        assert_eq!(waited(600).await, 3_000);
        assert_eq!(waited(-600).await, 4_200);
        assert_eq!(waited(86_400).await, 10);
    }
}
