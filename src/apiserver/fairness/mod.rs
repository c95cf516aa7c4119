//! Priority and fairness: whose requests are served when not all can be.
//!
//! FlowSchemas say to which flow of which priority level a request belongs ([`classify`]), levels have
//! shares of the server's seats ([`shares`]), and within a level flows take turns ([`queues`]); all
//! of it together is in [`seats`]. Start at [`Fairness::enter`]. What is decided is pure; this file keeps
//! what it is decided by. Differences from upstream are in docs/decisions/0030.
//!
//! Callers in this process do not come here: see [`local`](super::local).

mod classify;
mod config;
mod counts;
mod dangling;
mod keep;
mod queues;
mod seats;
mod shares;

use self::classify::{Digest, ResourceDigest, Schema};
use self::config::{Config, Levels, Schemas};
pub(super) use self::counts::FairnessSeen;
use self::counts::FlowCounts;
pub(super) use self::keep::keep_conditions;
use self::queues::Waiting;
use self::seats::{Arrival, Begun, Place, Refusal, Seats};
use super::identity::Identity;
use super::request::RequestInfo;
use crate::stdx::monotonic;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

const POISONED: &str = "no panics under this lock";

/// See the module.
#[derive(Debug)]
pub(super) struct Fairness {
    objects: Mutex<Objects>,
    /// Told when the objects have changed.
    changed: watch::Sender<u64>,
    rules: RwLock<Arc<Rules>>,
    room: Mutex<Room>,
    /// Nobody can choose names that fall together.
    hashes: RandomState,
}

/// What was heard of the objects that say how it is to be.
#[derive(Debug, Default)]
struct Objects {
    schemas: Schemas,
    levels: Levels,
    /// Whether all of each kind were heard of.
    has_schemas: bool,
    has_levels: bool,
}

/// By what requests are judged, until it changes.
#[derive(Debug)]
struct Rules {
    config: Config,
    /// By the name of the schema.
    flows: BTreeMap<Arc<str>, Flow>,
}

/// What is known of a flow schema besides its rules.
#[derive(Clone, Debug)]
struct Flow {
    counts: Arc<FlowCounts>,
    uids: [HeaderValue; 2],
}

#[derive(Debug)]
struct Room {
    seats: Seats,
    next_ticket: u64,
    waiting: HashMap<u64, oneshot::Sender<Place>>,
}

/// A request that asks for a seat.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comer<'a> {
    pub(super) identity: &'a Identity,
    pub(super) request: &'a RequestInfo,
    /// What its body takes in memory.
    pub(super) bytes: usize,
    /// How long it may wait.
    pub(super) patience: Duration,
}

/// What has become of a request.
#[derive(Debug)]
pub(super) struct Entered {
    /// `None`: there are too many.
    pub(super) seat: Option<Seat>,
    pub(super) waited: Duration,
    uids: [HeaderValue; 2],
}

impl Entered {
    /// Tells whoever asks how the request was judged.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        let [schema, level] = &self.uids;
        headers.insert(SCHEMA_UID, schema.clone());
        headers.insert(LEVEL_UID, level.clone());
    }
}

/// A request is executed, until this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    fairness: Arc<Fairness>,
    place: Place,
    counts: Arc<FlowCounts>,
    began: Instant,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.counts.ends();
        let cost = u64::try_from((monotonic() - self.began).as_micros()).unwrap_or(u64::MAX);
        self.fairness.room().leave(&self.place, cost);
    }
}

impl Fairness {
    /// With so many seats, and what every cluster has until more is known.
    pub(super) fn new(total: usize) -> Arc<Self> {
        let config = Config::well_known();
        let mut seats = Seats::new(total);
        seats.configure(config.levels.clone());
        Arc::new(Self {
            objects: Mutex::default(),
            changed: watch::Sender::new(0),
            rules: RwLock::new(Arc::new(Rules::new(config, &BTreeMap::new()))),
            room: Mutex::new(Room { seats, next_ticket: 0, waiting: HashMap::new() }),
            hashes: RandomState::new(),
        })
    }

    /// A seat for a request, as soon as it is its turn.
    pub(super) async fn enter(self: &Arc<Self>, comer: Comer<'_>) -> Entered {
        let rules = Arc::clone(&self.rules.read().expect(POISONED));
        let digest = digest(&comer);
        let schema = rules.config.classify(&digest);
        let flow = rules.flows.get(&schema.name).expect("each schema has one");
        let hash = self.hashes.hash_one((&schema.name, schema.distinguish(&digest)));
        let began = monotonic();
        let place = self.take_place(schema, (hash, flow), &comer).await;
        let waited = monotonic() - began;
        let seat = match place {
            Ok(place) => {
                flow.counts.begins(waited);
                let (fairness, counts) = (Arc::clone(self), Arc::clone(&flow.counts));
                Some(Seat { fairness, place, counts, began: began + waited })
            }
            Err(why) => {
                flow.counts.refused(why, waited);
                None
            }
        };
        Entered { seat, waited, uids: flow.uids.clone() }
    }

    async fn take_place(
        self: &Arc<Self>,
        schema: &Schema,
        (hash, flow): (u64, &Flow),
        comer: &Comer<'_>,
    ) -> Result<Place, Refusal> {
        let (ticket, receiver) = {
            let mut room = self.room();
            let ticket = room.next_ticket;
            room.next_ticket += 1;
            match room.seats.arrive(&schema.level, hash, Waiting { ticket, bytes: comer.bytes }) {
                Arrival::Begins(place) => return Ok(place),
                Arrival::Refused(why) => return Err(why),
                Arrival::Waits => {}
            }
            let (sender, receiver) = oneshot::channel();
            room.waiting.insert(ticket, sender);
            (ticket, receiver)
        };
        flow.counts.waits();
        let counts = Arc::clone(&flow.counts);
        let level = Arc::clone(&schema.level);
        let mut queued = Queued { fairness: self, level, ticket, receiver, counts, is_over: false };
        queued.turn(comer.patience).await
    }

    /// What there is to tell.
    pub(super) fn seen(&self) -> FairnessSeen {
        let rules = Arc::clone(&self.rules.read().expect(POISONED));
        let flows = rules.flows.values().map(|flow| Arc::clone(&flow.counts)).collect();
        FairnessSeen { flows, levels: self.room().seats.seen() }
    }

    /// The objects are others: from now on, what they say holds.
    fn change(&self, change: impl FnOnce(&mut Objects)) {
        let mut objects = self.objects.lock().expect(POISONED);
        change(&mut objects);
        if objects.has_schemas && objects.has_levels {
            let config = Config::of(&objects.schemas, &objects.levels);
            let levels = config.levels.clone();
            let mut rules = self.rules.write().expect(POISONED);
            *rules = Arc::new(Rules::new(config, &rules.flows));
            drop(rules);
            self.room().configure(levels);
        }
        drop(objects);
        self.changed.send_modify(|times| *times += 1);
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().expect(POISONED)
    }
}

impl Rules {
    /// What was counted of flows that are still there goes on.
    fn new(config: Config, before: &BTreeMap<Arc<str>, Flow>) -> Self {
        let flow = |schema: &Schema| {
            let known = before.get(&schema.name).filter(|flow| flow.counts.level == schema.level);
            let counts = known.map(|flow| Arc::clone(&flow.counts)).unwrap_or_else(|| {
                Arc::new(FlowCounts::new(Arc::clone(&schema.name), Arc::clone(&schema.level)))
            });
            let level = config.levels.iter().find(|level| level.name == schema.level);
            let uids = [schema.uid.as_str(), level.map_or("", |level| &level.uid)];
            // What is no header is no uid either.
            let uids =
                uids.map(|uid| HeaderValue::from_str(uid).unwrap_or(HeaderValue::from_static("")));
            (Arc::clone(&schema.name), Flow { counts, uids })
        };
        let flows = config.schemas.iter().map(flow).collect();
        Self { config, flows }
    }
}

impl Room {
    fn configure(&mut self, levels: Vec<seats::LevelPlan>) {
        let begun = self.seats.configure(levels);
        self.call(begun);
    }

    fn leave(&mut self, place: &Place, cost: u64) {
        let begun = self.seats.leave(place, cost);
        self.call(begun);
    }

    fn call(&mut self, begun: Vec<Begun>) {
        for Begun { ticket, place } in begun {
            if let Some(sender) = self.waiting.remove(&ticket) {
                // Whoever has gone meanwhile finds the place in the channel, and gives it back.
                drop(sender.send(place));
            }
        }
    }
}

/// A request that waits. Whoever goes, leaves the queue.
struct Queued<'a> {
    fairness: &'a Fairness,
    level: Arc<str>,
    ticket: u64,
    receiver: oneshot::Receiver<Place>,
    counts: Arc<FlowCounts>,
    is_over: bool,
}

impl Queued<'_> {
    async fn turn(&mut self, patience: Duration) -> Result<Place, Refusal> {
        let called = tokio::time::timeout(patience, &mut self.receiver).await;
        self.is_over = true;
        match called {
            Ok(Ok(place)) => Ok(place),
            _ => self.go().ok_or(Refusal::TimeOut),
        }
    }

    /// Leaves the queue; with a place, where it was called meanwhile.
    fn go(&mut self) -> Option<Place> {
        let mut room = self.fairness.room();
        if room.waiting.remove(&self.ticket).is_some() {
            let begun = room.seats.give_up(&self.level, self.ticket);
            room.call(begun);
            return None;
        }
        self.receiver.try_recv().ok()
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.counts.waits_no_more();
        if self.is_over {
            return;
        }
        // Whoever asked is gone.
        self.counts.refused(Refusal::Cancelled, Duration::ZERO);
        if let Some(place) = self.go() {
            self.fairness.room().leave(&place, 0);
        }
    }
}

fn digest<'a>(comer: &Comer<'a>) -> Digest<'a> {
    let Comer { identity, request, .. } = *comer;
    let verb = match &request.resource {
        Some(_) => request.verb.as_str(),
        None => &request.method,
    };
    let resource = request.resource.as_ref().map(|path| ResourceDigest {
        group: &path.group,
        resource: &path.resource,
        subresource: path.subresource.as_deref().unwrap_or_default(),
        namespace: path.namespace.as_deref().unwrap_or_default(),
    });
    let (user, groups) = (identity.user(), identity.groups());
    Digest { user, groups, verb, path: &request.path, resource }
}

#[cfg(test)]
mod tests;
