//! Who is executed, and who waits: the state of all priority levels, changed by what happens. Pure.
//!
//! Start at [`Seats::arrive`]. The rule for seats: a level always gets those that it lends to nobody,
//! and one in any case; beyond those, it gets what is not taken and not kept for
//! another, up to its upper limit. When a seat is free, the level that has the least in relation to what is its
//! own is next; within a level, its [`Queues`] say who. Requests of the exempt level neither wait nor
//! make others wait.

use super::queues::{Queues, Shape, Waiting};
use super::shares::{Limits, Shares};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Requests that wait beyond this many, of all levels together, are refused as where a queue is full.
pub(super) const WAITING_MAX: usize = 5_000;

/// As [`WAITING_MAX`], for what the bodies of all of them take in memory.
pub(super) const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Requests of the exempt level beyond this many are refused: they never wait, but memory ends.
pub(super) const EXEMPT_MAX: usize = 10_000;

/// What a priority level is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LevelPlan {
    pub(super) name: Arc<str>,
    pub(super) uid: String,
    pub(super) shares: Shares,
    pub(super) is_exempt: bool,
    pub(super) shape: Shape,
}

/// What a level has, to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LevelSeen {
    pub(super) name: Arc<str>,
    pub(super) limits: Limits,
    pub(super) executing: usize,
}

/// Where a request is executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) level: Arc<str>,
    pub(super) queue: usize,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    Begins(Place),
    Waits,
    Refused(Refusal),
}

/// Why a request is not served. The names are upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    ConcurrencyLimit,
    QueueFull,
    TimeOut,
    Cancelled,
}

/// A request that has waited, and begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) ticket: u64,
    pub(super) place: Place,
}

#[derive(Debug)]
struct Level {
    plan: LevelPlan,
    limits: Limits,
    executing: usize,
    queues: Queues,
    /// It is no more, but for the requests that it has.
    is_retired: bool,
}

impl Level {
    fn new(plan: LevelPlan) -> Self {
        let queues = Queues::new(plan.shape);
        Self { plan, limits: Limits::default(), executing: 0, queues, is_retired: false }
    }

    fn is_idle(&self) -> bool {
        self.executing == 0 && self.queues.waiting() == 0
    }

    /// What others cannot have of all seats.
    fn taken(&self) -> usize {
        if self.plan.is_exempt { self.limits.lower } else { self.executing.max(self.limits.lower) }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Seats {
    total: usize,
    levels: BTreeMap<Arc<str>, Level>,
    waiting_bytes: usize,
}

impl Seats {
    pub(super) fn new(total: usize) -> Self {
        Self { total, levels: BTreeMap::new(), waiting_bytes: 0 }
    }

    /// These are the levels now. Those who wait of one that is no more go on waiting for its seats.
    pub(super) fn configure(&mut self, plans: Vec<LevelPlan>) -> Vec<Begun> {
        for level in self.levels.values_mut() {
            level.is_retired = true;
        }
        for plan in plans {
            let level = self.levels.entry(Arc::clone(&plan.name));
            let level = level.or_insert_with(|| Level::new(plan.clone()));
            level.queues.reshape(plan.shape);
            level.plan = plan;
            level.is_retired = false;
        }
        self.reckon();
        self.dispatch()
    }

    /// A request of a flow has come to this level.
    pub(super) fn arrive(&mut self, level: &str, flow: u64, waiting: Waiting) -> Arrival {
        let (all_waiting, may_begin) = (self.waiting(), self.may_begin(level));
        let room = WAITING_BYTES_MAX.saturating_sub(self.waiting_bytes);
        let Some((name, level)) = self.levels.get_key_value(level) else {
            return Arrival::Refused(Refusal::ConcurrencyLimit);
        };
        let queue = if level.plan.is_exempt { 0 } else { level.queues.choose(flow) };
        let name = Arc::clone(name);
        let level = self.levels.get_mut(&name).expect("it was found");
        if may_begin {
            level.executing += 1;
            level.queues.begin(queue);
            return Arrival::Begins(Place { level: name, queue });
        }
        if !level.plan.shape.lets_wait() {
            return Arrival::Refused(Refusal::ConcurrencyLimit);
        }
        let is_full = all_waiting >= WAITING_MAX || waiting.bytes > room;
        if is_full || !level.queues.push(queue, waiting) {
            return Arrival::Refused(Refusal::QueueFull);
        }
        self.waiting_bytes += waiting.bytes;
        Arrival::Waits
    }

    /// A request has ended, and has cost so many microseconds.
    pub(super) fn leave(&mut self, place: &Place, cost: u64) -> Vec<Begun> {
        if let Some(level) = self.levels.get_mut(&place.level) {
            level.executing = level.executing.saturating_sub(1);
            level.queues.finish(place.queue, cost);
            if level.is_retired && level.is_idle() {
                self.reckon();
            }
        }
        self.dispatch()
    }

    /// A request waits no more.
    pub(super) fn give_up(&mut self, level: &str, ticket: u64) -> Vec<Begun> {
        let level = self.levels.get_mut(level);
        if let Some((level, gone)) =
            level.and_then(|level| level.queues.remove(ticket).map(|gone| (level, gone)))
        {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(gone.bytes);
            if level.is_retired && level.is_idle() {
                self.reckon();
            }
        }
        self.dispatch()
    }

    /// How many wait, of all levels.
    pub(super) fn waiting(&self) -> usize {
        self.levels.values().map(|level| level.queues.waiting()).sum()
    }

    pub(super) fn seen(&self) -> Vec<LevelSeen> {
        let seen = self.levels.iter().map(|(name, level)| LevelSeen {
            name: Arc::clone(name),
            limits: level.limits,
            executing: level.executing,
        });
        seen.collect()
    }

    /// Forgets levels that are done with, and reckons what the others have.
    fn reckon(&mut self) {
        self.levels.retain(|_, level| !(level.is_retired && level.is_idle()));
        let sum = self.levels.values().map(|level| level.plan.shares.nominal).sum();
        let total = u64::try_from(self.total).unwrap_or(u64::MAX);
        for level in self.levels.values_mut() {
            level.limits = level.plan.shares.limits(sum, total);
        }
    }

    /// Lets begin who can.
    fn dispatch(&mut self) -> Vec<Begun> {
        let mut begun = Vec::new();
        while let Some(name) = self.next_level() {
            let level = self.levels.get_mut(&name).expect("it was found");
            let Some((queue, waiting)) = level.queues.begin_next() else { break };
            level.executing += 1;
            self.waiting_bytes = self.waiting_bytes.saturating_sub(waiting.bytes);
            begun.push(Begun { ticket: waiting.ticket, place: Place { level: name, queue } });
        }
        begun
    }

    /// Of the levels where somebody waits who may begin, the one that has the least.
    fn next_level(&self) -> Option<Arc<str>> {
        if self.levels.values().all(|level| level.queues.waiting() == 0) {
            return None;
        }
        let can = self
            .levels
            .iter()
            .filter(|(name, level)| level.queues.waiting() > 0 && self.may_begin(name));
        let least = can.min_by(|(_, one), (_, other)| {
            // executing / nominal, without dividing.
            let one_has = one.executing.saturating_mul(other.limits.nominal.max(1));
            let other_has = other.executing.saturating_mul(one.limits.nominal.max(1));
            one_has.cmp(&other_has)
        });
        least.map(|(name, _)| Arc::clone(name))
    }

    fn may_begin(&self, name: &str) -> bool {
        let Some(level) = self.levels.get(name) else { return false };
        if level.plan.is_exempt {
            return level.executing < EXEMPT_MAX;
        }
        if level.executing == 0 || level.executing < level.limits.lower {
            return true;
        }
        level.executing < level.limits.upper
            && self.levels.values().map(Level::taken).sum::<usize>() < self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan(name: &str, nominal: u64, lendable_percent: u64, length: usize) -> LevelPlan {
        LevelPlan {
            name: name.into(),
            uid: String::new(),
            shares: Shares { nominal, lendable_percent, borrowing_percent: None },
            is_exempt: name == "exempt",
            shape: if length == 0 { Shape::NONE } else { Shape::new(8, 2, length) },
        }
    }

    /// What becomes of requests in these levels, `-x` being the end of the oldest of `x`: `+` for one that
    /// begins, `.` for one that waits, `!` for one that is refused, and who begins after an end.
    #[track_caller]
    fn check(total: usize, plans: &[LevelPlan], story: &str, expected: &str) {
        let mut seats = Seats::new(total);
        assert_eq!(seats.configure(plans.to_vec()), []);
        let mut executing: Vec<Place> = Vec::new();
        let mut told = Vec::new();
        for (ticket, word) in (0..).zip(story.split(' ')) {
            if let Some(level) = word.strip_prefix('-') {
                let at = executing.iter().position(|place| &*place.level == level).unwrap();
                let begun = seats.leave(&executing.remove(at), 1_000);
                let names: Vec<_> = begun.iter().map(|begun| &*begun.place.level).collect();
                told.push(format!("<{}>", names.join(" ")));
                executing.extend(begun.into_iter().map(|begun| begun.place));
                continue;
            }
            told.push(match seats.arrive(word, 0, Waiting { ticket, bytes: 1 }) {
                Arrival::Begins(place) => {
                    executing.push(place);
                    "+".to_owned()
                }
                Arrival::Waits => ".".to_owned(),
                Arrival::Refused(_) => "!".to_owned(),
            });
        }
        assert_eq!(told.join(" "), expected, "{story}");
    }

    #[test]
    fn a_level_has_what_it_lends_to_nobody() {
        let plans = [plan("a", 1, 0, 9), plan("b", 1, 0, 9)];
        check(4, &plans, "a a a b b b -a -b", "+ + . + + . <a> <b>");
    }

    #[test]
    fn what_is_lent_comes_back_first() {
        let plans = [plan("a", 1, 100, 9), plan("b", 1, 100, 9)];
        check(4, &plans, "a a a a a b b b -a -a", "+ + + + . + . . <> <b>");
        check(4, &plans, "a a a a a b b b -a -a -a -a", "+ + + + . + . . <> <b> <a> <b>");
    }

    #[test]
    fn what_cannot_wait_is_refused() {
        let plans = [plan("a", 1, 0, 0), plan("b", 1, 0, 1)];
        check(2, &plans, "a a b b b b b b -a a", "+ ! + . . ! ! ! <> +");
        check(2, &plans, "none", "!");
    }

    #[test]
    fn the_exempt_neither_wait_nor_make_wait() {
        let plans = [plan("exempt", 0, 0, 0), plan("a", 1, 0, 9)];
        check(1, &plans, "exempt exempt exempt a exempt a -exempt -a", "+ + + + + . <> <a>");
    }

    #[test]
    fn borrowing_has_a_limit() {
        let mut modest = plan("a", 1, 0, 9);
        modest.shares.borrowing_percent = Some(50);
        let plans = [modest, plan("b", 1, 100, 9)];
        check(4, &plans, "a a a a b b -a", "+ + + . + . <b>");
    }

    #[test]
    fn a_level_that_goes_lets_nobody_down() {
        let mut seats = Seats::new(2);
        seats.configure(vec![plan("a", 1, 0, 9), plan("b", 1, 0, 9)]);
        let waiting = |ticket| Waiting { ticket, bytes: 7 };
        let Arrival::Begins(place) = seats.arrive("a", 0, waiting(0)) else { panic!("it is idle") };
        assert_eq!(seats.arrive("a", 0, waiting(1)), Arrival::Waits);
        assert_eq!(seats.arrive("a", 0, waiting(2)), Arrival::Waits);
        assert_eq!((seats.waiting(), seats.waiting_bytes), (2, 14));
        assert_eq!(seats.configure(vec![plan("b", 1, 0, 9)]), []);
        assert_eq!(seats.seen().len(), 2);
        let begun = seats.leave(&place, 1);
        assert_eq!(begun.len(), 1);
        seats.give_up("a", 2);
        assert_eq!((seats.waiting(), seats.waiting_bytes), (0, 0));
        assert_eq!(seats.leave(&begun[0].place, 1), []);
        let seen = seats.seen();
        assert_eq!((seen.len(), seen[0].limits.nominal), (1, 2), "its seats are the other's now");
    }

    #[test]
    fn more_seats_let_begin_who_waits() {
        let mut seats = Seats::new(4);
        seats.configure(vec![plan("a", 1, 0, 9), plan("b", 3, 0, 9)]);
        let waiting = |ticket| Waiting { ticket, bytes: 0 };
        assert!(matches!(seats.arrive("a", 0, waiting(0)), Arrival::Begins(_)));
        assert_eq!(seats.arrive("a", 0, waiting(1)), Arrival::Waits);
        let begun = seats.configure(vec![plan("a", 1, 0, 9), plan("b", 1, 0, 9)]);
        assert_eq!(begun.len(), 1);
    }

    #[test]
    fn what_waits_has_room_in_memory() {
        let mut seats = Seats::new(1);
        seats.configure(vec![plan("a", 1, 0, 1_000)]);
        let waiting = |ticket, bytes| Waiting { ticket, bytes };
        seats.arrive("a", 0, waiting(0, WAITING_BYTES_MAX));
        assert_eq!(seats.arrive("a", 0, waiting(1, WAITING_BYTES_MAX)), Arrival::Waits);
        let full = Arrival::Refused(Refusal::QueueFull);
        assert_eq!(seats.arrive("a", 0, waiting(2, 1)), full);
        assert_eq!(seats.arrive("a", 0, waiting(3, 0)), Arrival::Waits);
    }

    proptest! {
        /// Whatever happens: seats are never exceeded, nobody waits where there is room, and when all
        /// have gone, nobody is left.
        #[test]
        fn seats_are_never_exceeded(
            shares in proptest::collection::vec((0..10_u64, 0..=100_u64), 1..5),
            total in 1..20_usize,
            moves in proptest::collection::vec((0..5_usize, 0..4_u64, any::<bool>()), 1..200),
        ) {
            let names = ["a", "b", "c", "d"];
            let plans: Vec<_> = shares
                .iter()
                .zip(names)
                .map(|((nominal, lendable), name)| plan(name, *nominal, *lendable, 5))
                .collect();
            let mut seats = Seats::new(total);
            seats.configure(plans.clone());
            let mut executing: Vec<Place> = Vec::new();
            for (ticket, (level, flow, is_end)) in (0..).zip(moves) {
                if is_end && !executing.is_empty() {
                    let place = executing.remove(level % executing.len());
                    executing.extend(seats.leave(&place, 500).into_iter().map(|begun| begun.place));
                } else {
                    let waiting = Waiting { ticket, bytes: 10 };
                    let level = &plans[level % plans.len()].name;
                    if let Arrival::Begins(place) = seats.arrive(level, flow, waiting) {
                        executing.push(place);
                    }
                }
                let seen = seats.seen();
                prop_assert_eq!(seen.iter().map(|level| level.executing).sum::<usize>(), executing.len());
                let kept: usize = seen.iter().map(|level| level.limits.lower).sum();
                prop_assert!(executing.len() <= total.max(kept) + plans.len());
                prop_assert!(seats.next_level().is_none(), "somebody waits who could begin");
                for level in &seen {
                    prop_assert!(level.executing <= level.limits.upper.max(1));
                }
            }
            while let Some(place) = executing.pop() {
                executing.extend(seats.leave(&place, 500).into_iter().map(|begun| begun.place));
            }
            prop_assert_eq!((seats.waiting(), seats.waiting_bytes), (0, 0));
        }
    }
}
