//! The queues of one priority level: in which one a flow waits, and whose turn is next. Pure.
//!
//! A flow has a hand of queues, dealt by a hash of its name, and waits in the one of them where the
//! least goes on: flows that ask for much fill their own hand, and others find room in theirs. Queues
//! take turns by virtual time: each has an account of what its requests have cost, in
//! microseconds, and the one that has cost the least is next. What a request will cost is guessed
//! when it begins and put right when it ends. What has not asked for some time has no claim
//! to what it has not used. Upstream: apiserver pkg/util/flowcontrol/fairqueuing and shufflesharding, v1.35.

use std::collections::VecDeque;

/// A request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) ticket: u64,
    /// What its body takes in memory.
    pub(super) bytes: usize,
}

/// How many queues there are, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    queues: usize,
    hand: usize,
    length_max: usize,
}

/// A level has not more queues than this, however many are asked for.
pub(super) const QUEUES_MAX: usize = 1_024;
/// A flow has not more queues to choose from.
const HAND_MAX: usize = 32;
/// What a request is thought to cost before anybody knows, in microseconds (upstream
/// `defaultRequestServiceTime`: 3 ms).
const GUESS: u64 = 3_000;

impl Shape {
    /// One where nobody waits.
    pub(super) const NONE: Self = Self { queues: 1, hand: 1, length_max: 0 };

    pub(super) fn new(queues: usize, hand: usize, length_max: usize) -> Self {
        let queues = queues.clamp(1, QUEUES_MAX);
        Self { queues, hand: hand.clamp(1, queues.min(HAND_MAX)), length_max }
    }

    pub(super) fn lets_wait(self) -> bool {
        self.length_max > 0
    }
}

#[derive(Clone, Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    executing: usize,
    /// What its requests have cost.
    spent: u64,
}

impl Queue {
    fn load(&self) -> usize {
        self.waiting.len() + self.executing
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Queues {
    shape: Shape,
    queues: Vec<Queue>,
    /// What the queue that began last had spent: who comes to wait now has spent as much.
    now: u64,
    waiting: usize,
}

impl Queues {
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, queues: vec![Queue::default(); shape.queues], now: 0, waiting: 0 }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The queue for a request of a flow.
    pub(super) fn choose(&self, flow: u64) -> usize {
        let hand = deal(flow, self.shape.hand, self.queues.len());
        let hand = hand.into_iter().take(self.shape.hand);
        hand.min_by_key(|at| self.queues[*at].load()).unwrap_or_default()
    }

    /// Lets a request wait in this queue, if there is room.
    pub(super) fn push(&mut self, at: usize, waiting: Waiting) -> bool {
        if self.queues[at].waiting.len() >= self.shape.length_max {
            return false;
        }
        self.wake(at);
        self.queues[at].waiting.push_back(waiting);
        self.waiting += 1;
        true
    }

    /// A request of this queue begins that has not waited.
    pub(super) fn begin(&mut self, at: usize) {
        self.wake(at);
        self.charge(at);
    }

    /// The request that is next begins: with its queue.
    pub(super) fn begin_next(&mut self) -> Option<(usize, Waiting)> {
        if self.waiting == 0 {
            return None;
        }
        let has_some = |(_, queue): &(usize, &Queue)| !queue.waiting.is_empty();
        let filled = self.queues.iter().enumerate().filter(has_some);
        // Of several that have spent as much, the one whose first has waited longest.
        let first = |queue: &Queue| queue.waiting.front().map(|waiting| waiting.ticket);
        let (at, _) = filled.min_by_key(|(_, queue)| (queue.spent, first(queue)))?;
        let waiting = self.queues[at].waiting.pop_front()?;
        self.waiting -= 1;
        self.charge(at);
        Some((at, waiting))
    }

    /// A request of this queue has ended and has cost this much.
    pub(super) fn finish(&mut self, at: usize, cost: u64) {
        // The queue may be gone meanwhile.
        let Some(queue) = self.queues.get_mut(at) else { return };
        queue.executing = queue.executing.saturating_sub(1);
        queue.spent = queue.spent.saturating_sub(GUESS).saturating_add(cost.max(1));
    }

    /// Takes a request out that waits no more.
    pub(super) fn remove(&mut self, ticket: u64) -> Option<Waiting> {
        for queue in &mut self.queues {
            let at = queue.waiting.iter().position(|waiting| waiting.ticket == ticket);
            if let Some(removed) = at.and_then(|at| queue.waiting.remove(at)) {
                self.waiting -= 1;
                return Some(removed);
            }
        }
        None
    }

    /// Changes how many queues there are. Whoever waits goes on waiting, also where there is no room for
    /// more.
    pub(super) fn reshape(&mut self, shape: Shape) {
        self.shape = shape;
        let gone = self.queues.split_off(shape.queues.min(self.queues.len()));
        self.queues.resize(shape.queues, Queue::default());
        let left = gone.into_iter().flat_map(|queue| queue.waiting);
        for (index, waiting) in left.enumerate() {
            let at = index % shape.queues;
            self.wake(at);
            self.queues[at].waiting.push_back(waiting);
        }
    }

    /// A queue where nothing went on has not saved anything up.
    fn wake(&mut self, at: usize) {
        let queue = &mut self.queues[at];
        if queue.load() == 0 {
            queue.spent = queue.spent.max(self.now);
        }
    }

    fn charge(&mut self, at: usize) {
        let queue = &mut self.queues[at];
        self.now = self.now.max(queue.spent);
        queue.executing += 1;
        queue.spent = queue.spent.saturating_add(GUESS);
    }
}

/// So many different cards of a deck, drawn by the digits of a hash.
fn deal(mut hash: u64, hand: usize, deck: usize) -> [usize; HAND_MAX] {
    let mut cards = [usize::MAX; HAND_MAX];
    for dealt in 0..hand.min(deck) {
        let left = deck - dealt;
        let digit = hash % u64::try_from(left).expect("a deck is small");
        hash /= u64::try_from(left).expect("a deck is small");
        let mut card = usize::try_from(digit).expect("smaller than the deck");
        // The cards dealt before are in order: each that is not above makes this one another.
        let mut place = 0;
        while place < dealt && cards[place] <= card {
            card += 1;
            place += 1;
        }
        cards[place..=dealt].rotate_right(1);
        cards[place] = card;
    }
    cards
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn waiting(ticket: u64) -> Waiting {
        Waiting { ticket, bytes: 0 }
    }

    /// Lets requests wait in these queues, and says in which order they begin where each costs as much
    /// as its queue is told to.
    #[track_caller]
    fn check(arrivals: &[usize], costs: &[u64], expected: &str) {
        let mut queues = Queues::new(Shape::new(costs.len(), 1, 100));
        for (ticket, at) in (0..).zip(arrivals) {
            assert!(queues.push(*at, waiting(ticket)));
        }
        let mut order = Vec::new();
        while let Some((at, _)) = queues.begin_next() {
            order.push(at.to_string());
            queues.finish(at, costs[at]);
        }
        assert_eq!(order.join(" "), expected);
        assert_eq!(queues.waiting(), 0);
    }

    #[test]
    fn queues_take_turns_by_what_they_cost() {
        check(&[0, 0, 0, 1, 1, 1], &[10, 10], "0 1 0 1 0 1");
        check(&[0, 0, 0, 1, 1, 1], &[20, 10], "0 1 1 0 1 0");
        check(&[0, 0, 0, 0, 0, 1], &[10, 10], "0 1 0 0 0 0");
        check(&[2, 1, 0], &[10, 10, 10], "2 1 0");
        check(&[], &[10], "");
    }

    #[test]
    fn what_did_not_ask_has_no_claim() {
        let mut queues = Queues::new(Shape::new(2, 1, 100));
        for ticket in 0..10 {
            queues.begin(0);
            queues.finish(0, 1_000);
            assert!(queues.push(0, waiting(ticket)) && queues.begin_next().is_some());
            queues.finish(0, 1_000);
        }
        for ticket in 10..14 {
            assert!(queues.push(usize::from(ticket % 2 == 0), waiting(ticket)));
        }
        let order: Vec<_> = std::iter::from_fn(|| {
            let (at, _) = queues.begin_next()?;
            queues.finish(at, 1_000);
            Some(at)
        })
        .collect();
        assert_eq!(order, [1, 0, 1, 0], "the newcomer has one turn before, not ten");
    }

    #[test]
    fn a_queue_is_not_longer_than_it_may_be() {
        let mut queues = Queues::new(Shape::new(1, 1, 2));
        assert!(queues.push(0, waiting(0)) && queues.push(0, waiting(1)));
        assert!(!queues.push(0, waiting(2)));
        assert_eq!(queues.remove(0), Some(waiting(0)));
        assert_eq!(queues.remove(0), None);
        assert!(queues.push(0, waiting(3)));
        assert!(!Queues::new(Shape::NONE).push(0, waiting(0)));
    }

    #[test]
    fn whoever_waits_goes_on_waiting_in_other_queues() {
        let mut queues = Queues::new(Shape::new(8, 2, 10));
        (0..40).for_each(|ticket| {
            let queue = usize::try_from(ticket).expect("a small number") % 8;
            assert!(queues.push(queue, waiting(ticket)));
        });
        queues.reshape(Shape::new(3, 1, 1));
        assert_eq!(queues.waiting(), 40);
        queues.reshape(Shape::NONE);
        let begun: BTreeSet<_> =
            std::iter::from_fn(|| queues.begin_next()).map(|(_, waiting)| waiting.ticket).collect();
        assert_eq!(begun.len(), 40);
        queues.finish(7, 1);
    }

    proptest! {
        #[test]
        fn a_hand_has_different_cards(hash: u64, hand in 1..20_usize, deck in 1..200_usize) {
            let hand = hand.min(deck);
            let cards = deal(hash, hand, deck);
            let dealt: BTreeSet<_> = cards[..hand].iter().collect();
            prop_assert_eq!(dealt.len(), hand);
            prop_assert!(cards[..hand].iter().all(|card| *card < deck));
        }

        /// Whatever costs what: of queues that always have something, none gets more than another
        /// but for what one request costs.
        #[test]
        fn no_queue_starves(costs in proptest::collection::vec(1..50_000_u64, 2..8), seats in 1..5_usize) {
            let mut queues = Queues::new(Shape::new(costs.len(), 1, 1_000_000));
            let mut tickets = 0..;
            for at in 0..costs.len() {
                for _ in 0..2 {
                    queues.push(at, waiting(tickets.next().unwrap()));
                }
            }
            let mut spent = vec![0; costs.len()];
            let mut executing = VecDeque::new();
            for _ in 0..5_000 {
                let (at, _) = queues.begin_next().unwrap();
                executing.push_back(at);
                queues.push(at, waiting(tickets.next().unwrap()));
                if executing.len() == seats {
                    let at = executing.pop_front().unwrap();
                    queues.finish(at, costs[at]);
                    spent[at] += costs[at];
                }
            }
            let most = spent.iter().max().unwrap();
            let least = spent.iter().min().unwrap();
            let dearest = costs.iter().max().unwrap().max(&GUESS);
            let slack = dearest * u64::try_from(2 * seats + 2).unwrap();
            prop_assert!(most - least <= slack, "{spent:?} for {costs:?}");
        }
    }
}
