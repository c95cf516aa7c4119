//! The last changes of the snapshot, so that what was worked out from it earlier can be brought up
//! to date instead of worked out anew.

use super::node::Slot;
use super::pod::{Ask, PodFacts};
use std::collections::VecDeque;
use std::sync::Arc;

/// This many changes are kept. What is further behind is worked out anew.
const STEPS_MAX: usize = 1_024;

/// One change.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A pod counts on a node that is there.
    Came(Seen),
    /// It counts there no more.
    Gone(Seen),
    /// A node offers something else than before; its labels and taints are as they were.
    Offered,
}

/// A pod as others on the same nodes see it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) ask: Arc<Ask>,
    pub(super) is_terminating: bool,
    pub(super) slot: Slot,
}

impl Seen {
    pub(super) fn of(pod: &PodFacts, slot: Slot) -> Self {
        Self { ask: Arc::clone(&pod.ask), is_terminating: pod.is_terminating(), slot }
    }
}

/// How many changes there had been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position(u64);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Journal {
    steps: VecDeque<Step>,
    end: Position,
}

impl Journal {
    /// After the newest change.
    pub(super) fn end(&self) -> Position {
        self.end
    }

    pub(super) fn add(&mut self, step: Step) {
        if self.steps.len() == STEPS_MAX {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
        self.end.0 += 1;
    }

    /// Something changed that cannot be taken in step by step.
    pub(super) fn begin_anew(&mut self) {
        self.steps.clear();
        self.end.0 += 1;
    }

    /// The changes after `position`, where all of them are known.
    pub(super) fn since(&self, position: Position) -> Option<impl Iterator<Item = &Step>> {
        let missed = usize::try_from(self.end.0 - position.0).ok()?;
        let skipped = self.steps.len().checked_sub(missed)?;
        Some(self.steps.iter().skip(skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(journal: &Journal, position: Position) -> Option<usize> {
        journal.since(position).map(Iterator::count)
    }

    #[test]
    fn changes_are_known_for_a_while() {
        let mut journal = Journal::default();
        let start = journal.end();
        assert_eq!(count(&journal, start), Some(0));
        journal.add(Step::Offered);
        journal.add(Step::Offered);
        let later = journal.end();
        assert_eq!((count(&journal, start), count(&journal, later)), (Some(2), Some(0)));
        for _ in 0..STEPS_MAX {
            journal.add(Step::Offered);
        }
        assert_eq!((count(&journal, start), count(&journal, later)), (None, Some(STEPS_MAX)));
        let before = journal.end();
        journal.begin_anew();
        assert_eq!((count(&journal, before), count(&journal, journal.end())), (None, Some(0)));
    }
}
