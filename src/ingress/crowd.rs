//! Who is in the house, and who has to go when it is full.
//!
//! Every connection has a [`Seat`]. One that waits for a request, because its client is idle or sends
//! its head byte by byte, can be asked to leave; one with a request under way cannot, unless its
//! client takes nothing of the answer. So connections that do nothing keep nobody out, however many
//! there are.

use super::limits::{CLIENT_SILENCE_MAX, WAITING_MAX};
use crate::stdx::monotonic;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// When the house is full, one in so many has to go, so that looking for them is seldom.
const LEAVING_SHARE: usize = 100;

/// See the module.
#[derive(Debug)]
pub(super) struct Crowd {
    seats_max: usize,
    began: Instant,
    seats: Mutex<Seats>,
    /// Told when somebody has left.
    left: Notify,
    asked_to_leave: AtomicU64,
}

#[derive(Debug, Default)]
struct Seats {
    next_id: u64,
    taken: HashMap<u64, Arc<Presence>>,
}

/// A connection that is in. Dropping it is leaving.
#[derive(Debug)]
pub(super) struct Seat {
    id: u64,
    crowd: Arc<Crowd>,
    presence: Arc<Presence>,
}

/// What is known of a connection. Times are milliseconds since the crowd began.
#[derive(Debug, Default)]
struct Presence {
    underway: AtomicUsize,
    /// Of the requests under way, those whose endpoint has to say something.
    awaiting: AtomicUsize,
    /// When the last request was over.
    waiting_since: AtomicU64,
    /// When the client was last given a part of an answer.
    served: AtomicU64,
    leave: Notify,
}

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing whole was asked for too long.
    Idle,
    /// The client takes nothing of its answer.
    Stalled,
    /// Others need the place.
    Crowded,
}

/// A request under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Underway {
    crowd: Arc<Crowd>,
    presence: Arc<Presence>,
    is_awaiting: bool,
}

impl Crowd {
    pub(super) fn new(seats_max: usize) -> Arc<Self> {
        Arc::new(Self {
            seats_max,
            began: monotonic(),
            seats: Mutex::default(),
            left: Notify::new(),
            asked_to_leave: AtomicU64::new(0),
        })
    }

    /// A seat; where there is none, those who have waited longest are asked to leave theirs.
    pub(super) async fn enter(self: &Arc<Self>) -> Seat {
        loop {
            let left = self.left.notified();
            if let Some(seat) = self.try_enter() {
                return seat;
            }
            self.make_room();
            left.await;
        }
    }

    /// How many are in, and how many had to leave for others.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.seats().taken.len(), self.asked_to_leave.load(Ordering::Relaxed))
    }

    fn try_enter(self: &Arc<Self>) -> Option<Seat> {
        let mut seats = self.seats();
        if seats.taken.len() >= self.seats_max {
            return None;
        }
        let (id, presence) = (seats.next_id, Arc::new(Presence::default()));
        presence.waiting_since.store(self.now(), Ordering::Relaxed);
        seats.next_id += 1;
        seats.taken.insert(id, Arc::clone(&presence));
        Some(Seat { id, crowd: Arc::clone(self), presence })
    }

    fn make_room(&self) {
        let seats = self.seats();
        let waiting = seats.taken.iter().filter_map(|(id, presence)| {
            let is_waiting = presence.underway.load(Ordering::Relaxed) == 0;
            is_waiting.then(|| (presence.waiting_since.load(Ordering::Relaxed), *id))
        });
        let leaving = longest(waiting.collect(), self.seats_max.div_ceil(LEAVING_SHARE));
        for id in &leaving {
            seats.taken[id].leave.notify_one();
        }
        let count = u64::try_from(leaving.len()).unwrap_or(u64::MAX);
        self.asked_to_leave.fetch_add(count, Ordering::Relaxed);
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().expect("no panics under this lock")
    }

    fn now(&self) -> u64 {
        u64::try_from(monotonic().duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    fn at(&self, milliseconds: u64) -> Instant {
        self.began + Duration::from_millis(milliseconds)
    }
}

/// The `count` that have waited longest, of pairs of since when and who.
fn longest(mut waiting: Vec<(u64, u64)>, count: usize) -> Vec<u64> {
    if count < waiting.len() {
        waiting.select_nth_unstable(count);
        waiting.truncate(count);
    }
    waiting.into_iter().map(|(_, id)| id).collect()
}

impl Seat {
    /// A request has come.
    pub(super) fn begin(&self) -> Underway {
        self.presence.underway.fetch_add(1, Ordering::Relaxed);
        self.presence.awaiting.fetch_add(1, Ordering::Relaxed);
        let (crowd, presence) = (Arc::clone(&self.crowd), Arc::clone(&self.presence));
        Underway { crowd, presence, is_awaiting: true }
    }

    /// Waits until the connection is to end.
    pub(super) async fn end(&self) -> End {
        let overdue = async {
            loop {
                match self.verdict(monotonic()) {
                    Ok(look_again) => tokio::time::sleep_until(look_again.into()).await,
                    Err(end) => return end,
                }
            }
        };
        tokio::select! {
            end = overdue => end,
            () = self.presence.leave.notified() => End::Crowded,
        }
    }

    /// When to look again, or why not.
    fn verdict(&self, now: Instant) -> Result<Instant, End> {
        let Presence { underway, awaiting, waiting_since, served, .. } = &*self.presence;
        let since = |time: &AtomicU64| self.crowd.at(time.load(Ordering::Relaxed));
        let (due, end) = if underway.load(Ordering::Relaxed) == 0 {
            (since(waiting_since) + WAITING_MAX, End::Idle)
        } else if awaiting.load(Ordering::Relaxed) == 0 {
            (since(served) + CLIENT_SILENCE_MAX, End::Stalled)
        } else {
            // Whoever waits for an endpoint has a deadline of its own.
            return Ok(now + CLIENT_SILENCE_MAX);
        };
        if due <= now { Err(end) } else { Ok(due) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.seats().taken.remove(&self.id);
        self.crowd.left.notify_one();
    }
}

impl Underway {
    /// The client has to wait for the endpoint.
    pub(super) fn awaits(&mut self) {
        if !self.is_awaiting {
            self.is_awaiting = true;
            self.presence.awaiting.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The client is given a part of the answer.
    pub(super) fn serves(&mut self) {
        self.presence.served.store(self.crowd.now(), Ordering::Relaxed);
        if self.is_awaiting {
            self.is_awaiting = false;
            self.presence.awaiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if self.is_awaiting {
            self.presence.awaiting.fetch_sub(1, Ordering::Relaxed);
        }
        self.presence.waiting_since.store(self.crowd.now(), Ordering::Relaxed);
        self.presence.underway.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn those_who_have_waited_longest_go_first() {
        let check = |waiting: &[(u64, u64)], count, expected: &[u64]| {
            let mut found = longest(waiting.to_vec(), count);
            found.sort_unstable();
            assert_eq!(found, expected, "{waiting:?}");
        };
        check(&[], 1, &[]);
        check(&[(5, 1)], 2, &[1]);
        check(&[(5, 1), (3, 2), (4, 3), (9, 4)], 2, &[2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_house_sends_idle_ones_away_and_no_others() {
        let crowd = Crowd::new(2);
        let busy = crowd.enter().await;
        let underway = busy.begin();
        tokio::time::advance(Duration::from_secs(1)).await;
        let idle = crowd.enter().await;
        let third = crowd.enter();
        tokio::pin!(third);
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!(idle.end().await, End::Crowded);
        assert!(busy.end().now_or_never().is_none());
        drop(idle);
        let third = third.await;
        assert_eq!(crowd.counts(), (2, 1));
        drop((underway, third));
        assert_eq!(crowd.counts().0, 1);
    }

    /// How a connection ends on which a request is under way for so many seconds, of which the
    /// endpoint is waited for in the first ones.
    async fn check(awaiting: u64, sending: u64, expected: (End, u64)) {
        let began = tokio::time::Instant::now();
        let crowd = Crowd::new(1);
        let seat = crowd.enter().await;
        let asking = async {
            if awaiting + sending > 0 {
                let mut underway = seat.begin();
                tokio::time::sleep(Duration::from_secs(awaiting)).await;
                underway.serves();
                tokio::time::sleep(Duration::from_secs(sending)).await;
            }
            std::future::pending().await
        };
        let end = tokio::select! {
            end = seat.end() => end,
            end = asking => end,
        };
        assert_eq!((end, began.elapsed().as_secs()), expected, "{awaiting} {sending}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_when_nothing_comes_of_it() {
        check(0, 0, (End::Idle, 60)).await;
        check(0, 10, (End::Idle, 70)).await;
        check(3_590, 20, (End::Idle, 3_670)).await;
        check(0, 100, (End::Stalled, 60)).await;
        check(30, 100, (End::Stalled, 90)).await;
    }
}
