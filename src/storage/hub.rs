//! Fans changes out to watches.
//!
//! A [`Hub`] has a bounded [`Lane`] for every watch, found by the watch's prefix: a change costs
//! nothing to watches on other prefixes. A lane that is full takes nothing more and says so; what it
//! has not taken is in the log, where its watch goes on reading. So memory is bounded however slow a
//! reader is, and a burst is no reason to cut it off.

use crate::api::Revision;
use crate::storage::seq::Seq;
use crate::storage::{Event, WatchRequest};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The most events that wait in one lane. More than these are read from the log again.
pub(crate) const LANE_EVENTS_MAX: usize = 1_024;

/// The most bytes of events that wait in one lane, unless it is a single event.
const LANE_BYTES_MAX: usize = 2 * 1_048_576;

/// An event and its place in the history.
#[derive(Clone, Debug)]
pub(crate) struct Announced {
    pub seq: Seq,
    pub event: Arc<Event>,
}

impl Announced {
    fn bytes(&self) -> usize {
        let sizes = [&self.event.value, &self.event.previous];
        sizes.into_iter().flatten().map(bytes::Bytes::len).sum()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Hub {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Everything through this revision is in the lanes.
    revision: Revision,
    closed: bool,
    next_id: u64,
    by_prefix: HashMap<Box<str>, BTreeMap<u64, Arc<Lane>>>,
    /// How many of the prefixes have which length: an event looks up its key cut to each of them.
    lengths: BTreeMap<usize, usize>,
    /// Lanes that want to hear of progress.
    progress: BTreeMap<u64, Arc<Lane>>,
}

/// What one watch has yet to take.
#[derive(Debug, Default)]
struct Lane {
    state: Mutex<LaneState>,
}

#[derive(Debug, Default)]
struct LaneState {
    mode: Mode,
    queue: VecDeque<Announced>,
    bytes: usize,
    progress: Revision,
    waker: Option<Waker>,
    closed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// The watch reads the log and wants nothing from here.
    #[default]
    Off,
    Taking,
    /// Something came that did not fit; the queue is what came before.
    Full,
}

/// What a lane has for its watch.
#[derive(Debug)]
pub(crate) enum Taken {
    Event(Announced),
    /// All is taken; the hub has announced everything through this revision. Only for watches that
    /// ask for progress.
    Progress(Revision),
    /// Events after the last one taken did not fit.
    Full,
    Closed,
}

/// The place of a watch in the hub. Dropping it ends the watch.
#[derive(Debug)]
pub(crate) struct Subscription {
    hub: Arc<Hub>,
    lane: Arc<Lane>,
    id: u64,
    prefix: Box<str>,
}

impl Hub {
    pub(crate) fn new(revision: Revision) -> Arc<Self> {
        let state = State { revision, ..State::default() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a watch. The flag says whether it is live from the start, which is so when nothing has
    /// been announced after `request.after`.
    pub(crate) fn subscribe(self: &Arc<Self>, request: &WatchRequest) -> (Subscription, bool) {
        let lane = Arc::new(Lane::default());
        let prefix: Box<str> = request.prefix.as_str().into();
        let mut state = self.lock();
        let live = request.after >= state.revision;
        {
            let mut lane = lane.lock();
            lane.closed = state.closed;
            lane.progress = state.revision;
            lane.mode = if live { Mode::Taking } else { Mode::Off };
        }
        let id = state.next_id;
        state.next_id += 1;
        state.add(id, &prefix, &lane, request.progress);
        drop(state);
        (Subscription { hub: Arc::clone(self), lane, id, prefix }, live)
    }

    /// Announces a group: its events in order, and that they are all through `revision`.
    pub(crate) fn publish(&self, events: &[Announced], revision: Revision) {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        for announced in events {
            for lane in state.lanes_of(announced.event.key.as_str()) {
                wakers.extend(lane.lock().offer(announced));
            }
        }
        state.revision = revision;
        for lane in state.progress.values() {
            wakers.extend(lane.lock().advance(revision));
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends every watch, also those to come.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let lanes: Vec<_> = state.by_prefix.values().flat_map(BTreeMap::values).cloned().collect();
        drop(state);
        for lane in lanes {
            let waker = {
                let mut lane = lane.lock();
                lane.closed = true;
                lane.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

impl State {
    fn add(&mut self, id: u64, prefix: &str, lane: &Arc<Lane>, progress: bool) {
        let lanes = self.by_prefix.entry(prefix.into()).or_default();
        lanes.insert(id, Arc::clone(lane));
        *self.lengths.entry(prefix.len()).or_default() += 1;
        if progress {
            self.progress.insert(id, Arc::clone(lane));
        }
    }

    fn remove(&mut self, id: u64, prefix: &str) {
        self.progress.remove(&id);
        if let Some(lanes) = self.by_prefix.get_mut(prefix) {
            lanes.remove(&id);
            if lanes.is_empty() {
                self.by_prefix.remove(prefix);
            }
        }
        if let Some(count) = self.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    fn lanes_of<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Arc<Lane>> {
        self.lengths
            .range(..=key.len())
            .filter_map(move |(length, _)| self.by_prefix.get(key.get(..*length)?))
            .flat_map(BTreeMap::values)
    }
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LaneState {
    fn offer(&mut self, announced: &Announced) -> Option<Waker> {
        if self.mode != Mode::Taking {
            return None;
        }
        let bytes = self.bytes.saturating_add(announced.bytes());
        let fits = self.queue.len() < LANE_EVENTS_MAX && bytes <= LANE_BYTES_MAX;
        if fits || self.queue.is_empty() {
            self.bytes = bytes;
            self.queue.push_back(announced.clone());
        } else {
            self.mode = Mode::Full;
        }
        self.waker.take()
    }

    fn advance(&mut self, revision: Revision) -> Option<Waker> {
        self.progress = revision;
        (self.mode == Mode::Taking).then(|| self.waker.take()).flatten()
    }

    fn take(&mut self) -> Option<Announced> {
        let announced = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(announced.bytes());
        Some(announced)
    }
}

impl Subscription {
    /// Takes events from now on. What is announced before a read of the log begins may come twice,
    /// nothing is left out.
    pub(crate) fn start(&self) {
        let mut lane = self.lane.lock();
        lane.queue.clear();
        lane.bytes = 0;
        lane.mode = Mode::Taking;
    }

    /// Takes nothing any more, and forgets what has not been taken.
    pub(crate) fn stop(&self) {
        let mut lane = self.lane.lock();
        lane.queue = VecDeque::new();
        lane.bytes = 0;
        lane.mode = Mode::Off;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lane.lock().closed
    }

    /// The next event after `from`, or progress past it.
    pub(crate) fn poll(&self, from: Seq, context: &mut Context<'_>) -> Poll<Taken> {
        let mut lane = self.lane.lock();
        if lane.closed {
            return Poll::Ready(Taken::Closed);
        }
        while let Some(announced) = lane.take() {
            if announced.seq > from {
                return Poll::Ready(Taken::Event(announced));
            }
        }
        if lane.mode == Mode::Full {
            return Poll::Ready(Taken::Full);
        }
        if lane.progress > from.complete_through() {
            return Poll::Ready(Taken::Progress(lane.progress));
        }
        lane.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Has progress told from now on, beginning with what there is.
    pub(crate) fn tell_progress(&self) {
        let mut hub = self.hub.lock();
        hub.progress.insert(self.id, Arc::clone(&self.lane));
        self.lane.lock().progress = hub.revision;
    }

    /// Has it told no more.
    pub(crate) fn spare_progress(&self) {
        self.hub.lock().progress.remove(&self.id);
    }

    /// The revision through which a live watch that has taken everything through `from` has seen
    /// every event.
    pub(crate) fn delivered(&self, from: Seq) -> Revision {
        // The hub's lock keeps a group from being half announced.
        let hub = self.hub.lock();
        let lane = self.lane.lock();
        let newest = match lane.queue.iter().find(|announced| announced.seq > from) {
            Some(announced) => Revision(announced.seq.revision().0 - 1),
            None if lane.mode == Mode::Taking => hub.revision,
            None => Revision::default(),
        };
        newest.max(from.complete_through())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.lock().remove(self.id, &self.prefix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Key;

    fn subscribe(hub: &Arc<Hub>, prefix: &str, progress: bool) -> Subscription {
        let request = WatchRequest { prefix: prefix.into(), after: Revision(10), progress };
        hub.subscribe(&request).0
    }

    fn event(key: &str, revision: u64) -> Announced {
        let (key, revision) = (Key::from(key), Revision(revision));
        let event = Event { key, revision, value: None, previous: None };
        Announced { seq: Seq::new(revision, 0), event: Arc::new(event) }
    }

    /// Everything that waits for a watch that has seen revision 10.
    fn drain(subscription: &Subscription) -> String {
        let mut from = Seq::end_of(Revision(10));
        let mut taken = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(item) = subscription.poll(from, &mut context) {
            taken.push(match item {
                Taken::Event(announced) => {
                    from = announced.seq;
                    format!("{}@{}", announced.event.key.as_str(), announced.seq.revision())
                }
                Taken::Progress(revision) => {
                    from = Seq::end_of(revision);
                    format!("progress@{revision}")
                }
                Taken::Full => "full".into(),
                Taken::Closed => "closed".into(),
            });
            if matches!(taken.last().map(String::as_str), Some("full" | "closed")) {
                break;
            }
        }
        taken.join(" ")
    }

    #[test]
    fn events_go_to_the_watches_of_their_prefix() {
        let hub = Hub::new(Revision(10));
        let watches = ["", "/pods/", "/pods/a", "/po", "/nodes/", "/pods/a/longer", "é"]
            .map(|prefix| subscribe(&hub, prefix, false));
        hub.publish(&[event("/pods/a", 11), event("/é", 12)], Revision(12));
        let seen = watches.each_ref().map(drain);
        assert_eq!(
            seen,
            ["/pods/a@11 /é@12", "/pods/a@11", "/pods/a@11", "/pods/a@11", "", "", ""]
        );
        drop(watches);
        assert!(hub.lock().by_prefix.is_empty() && hub.lock().lengths.is_empty());
    }

    #[test]
    fn progress_is_merged_and_only_for_those_who_ask() {
        let hub = Hub::new(Revision(10));
        let asks = subscribe(&hub, "/nodes/", true);
        let silent = subscribe(&hub, "/nodes/", false);
        hub.publish(&[event("/nodes/a", 11)], Revision(11));
        hub.publish(&[], Revision(12));
        hub.publish(&[], Revision(13));
        assert_eq!(drain(&asks), "/nodes/a@11 progress@13");
        assert_eq!(silent.delivered(Seq::end_of(Revision(10))), Revision(10));
        assert_eq!(drain(&silent), "/nodes/a@11");
        assert_eq!(silent.delivered(Seq::new(Revision(11), 0)), Revision(13));
    }

    #[test]
    fn progress_is_told_for_as_long_as_somebody_asks() {
        let hub = Hub::new(Revision(10));
        let watch = subscribe(&hub, "/nodes/", false);
        hub.publish(&[], Revision(12));
        assert_eq!(drain(&watch), "");
        watch.tell_progress();
        assert_eq!(drain(&watch), "progress@12");
        hub.publish(&[event("/nodes/a", 13)], Revision(14));
        assert_eq!(drain(&watch), "/nodes/a@13 progress@14");
        watch.spare_progress();
        hub.publish(&[], Revision(15));
        assert_eq!(watch.lane.lock().progress, Revision(14));
    }

    #[test]
    fn a_full_lane_keeps_what_came_first() {
        let hub = Hub::new(Revision(10));
        let slow = subscribe(&hub, "/", true);
        let first: Vec<_> = (11..).take(LANE_EVENTS_MAX + 5).map(|at| event("/a", at)).collect();
        hub.publish(&first, Revision(3_000));
        let seen = drain(&slow);
        assert_eq!(seen.split(' ').count(), LANE_EVENTS_MAX + 1);
        assert!(seen.starts_with("/a@11 /a@12") && seen.ends_with("full"));
        let last = Seq::new(Revision(10 + LANE_EVENTS_MAX as u64), 0);
        assert_eq!(slow.delivered(last), Revision(last.revision().0 - 1));
        slow.start();
        hub.publish(&[event("/a", 3_001)], Revision(3_001));
        assert_eq!(drain(&slow), "/a@3001 progress@3001");
    }

    #[test]
    fn every_watch_ends_with_the_hub() {
        let hub = Hub::new(Revision(10));
        let watch = subscribe(&hub, "/", false);
        hub.close();
        assert_eq!(drain(&watch), "closed");
        assert_eq!(drain(&subscribe(&hub, "/", false)), "closed");
    }
}
