//! Nodes that can take a certain kind of pods, best first.
//!
//! Thousands of equal pods come one after the other. Placing one changes what one node has room for,
//! not how all the others compare: so the next one takes the best of those that are left. Upstream
//! does the same for pods that come in a row (`OpportunisticBatching`, pkg/scheduler/framework/runtime,
//! v1.35); here a change of a node moves that node alone.

use super::cycle::Cycle;
use super::journal::Step;
use super::node::Slot;
use super::plugins::{Plugin, room_score};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};

/// So many nodes of domains that are full are passed over, before others are looked for.
const PASSED_MAX: usize = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Ranking {
    ranked: BTreeSet<Ranked>,
    by_slot: HashMap<Slot, Ranked>,
    /// Whose score is not as it was.
    changed: Vec<Slot>,
    /// Nodes that did not do, and may once a pod has gone from there.
    refused: HashSet<Slot>,
    /// How many more pods are placed from it: then others of many nodes are looked at.
    uses_left: usize,
    turns: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ranked {
    score: i64,
    /// Decides between equals: who came first.
    turn: Reverse<usize>,
    /// The part of the score that stays as it is when pods come.
    fixed: i64,
    slot: Slot,
}

/// A node that can take the pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) slot: Slot,
    pub(super) score: i64,
    /// The part of the score that stays as it is when pods come.
    pub(super) fixed: i64,
}

/// The best node, where there will be no next pod like this. Of equals, the candidate at the index
/// `first` comes first, and then those after it.
pub(super) fn best(candidates: &[Candidate], first: usize) -> Option<Slot> {
    ranked(candidates, first).max().map(|best| best.slot)
}

fn ranked(candidates: &[Candidate], first: usize) -> impl Iterator<Item = Ranked> {
    let count = candidates.len();
    candidates.iter().enumerate().map(move |(index, candidate)| {
        let Candidate { slot, score, fixed } = *candidate;
        let turn = Reverse((index + count - first % count) % count);
        Ranked { score, turn, fixed, slot }
    })
}

impl Ranking {
    /// Of equals, the candidate at the index `first` comes first, and then those after it.
    pub(super) fn new(
        candidates: &[Candidate],
        first: usize,
        refused: impl Iterator<Item = Slot>,
    ) -> Self {
        let (ranked, count): (BTreeSet<_>, _) =
            (ranked(candidates, first).collect(), candidates.len());
        Self {
            by_slot: ranked.iter().map(|ranked| (ranked.slot, *ranked)).collect(),
            ranked,
            changed: Vec::new(),
            refused: refused.collect(),
            uses_left: count,
            turns: count,
        }
    }

    /// Takes in a change of the snapshot. Says no where it changes how other nodes compare.
    pub(super) fn outlives(&mut self, step: &Step) -> bool {
        let (seen, has_gone) = match step {
            Step::Came(seen) => (seen, false),
            Step::Gone(seen) => (seen, true),
            Step::Offered => return false,
        };
        if has_gone && self.refused.contains(&seen.slot) {
            return false;
        }
        self.changed.push(seen.slot);
        true
    }

    /// The best node for the next pod.
    pub(super) fn take(&mut self, cycle: &Cycle<'_>) -> Option<Slot> {
        self.uses_left = self.uses_left.checked_sub(1)?;
        self.refresh(cycle);
        let mut passed = Vec::new();
        let mut found = None;
        while passed.len() < PASSED_MAX {
            let Some(best) = self.ranked.pop_last() else { break };
            match cycle.check(cycle.snapshot.at(best.slot)) {
                Ok(()) => {
                    self.ranked.insert(best);
                    found = Some(best.slot);
                    break;
                }
                // Others will fill the other domains.
                Err(rejection) if rejection.plugin == Plugin::PodTopologySpread => {
                    passed.push(best);
                }
                Err(_) => {
                    self.by_slot.remove(&best.slot);
                    self.refused.insert(best.slot);
                }
            }
        }
        self.ranked.extend(passed);
        found
    }

    /// Whoever was given a pod comes after its equals.
    fn refresh(&mut self, cycle: &Cycle<'_>) {
        for slot in std::mem::take(&mut self.changed) {
            let Some(ranked) = self.by_slot.get_mut(&slot) else { continue };
            self.ranked.remove(ranked);
            ranked.score = ranked.fixed + room_score(cycle, cycle.snapshot.at(slot));
            ranked.turn = Reverse(self.turns);
            self.turns += 1;
            self.ranked.insert(*ranked);
        }
    }
}
