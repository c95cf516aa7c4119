//! Decides how much of the past is kept, and when it is worth writing to the disk to forget the rest.
//!
//! Start at [`Past::floor`]. Architecture invariant: pure; time comes in as an argument.
//!
//! Two things are decided apart. Which revisions may be read is a matter of age, as upstream's
//! compactor has it (every 5 minutes it forgets what is older than 5 minutes; k8s.io/apiserver
//! `storage/etcd3/compact.go`, v1.35), and costs nothing. Removing the rows is left until there are
//! enough of them, so that an idle store does not write.

use crate::api::Revision;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// What was replaced longer ago than this cannot be read any more.
    pub age: Duration,
    /// Of what was replaced, at most about so many rows and bytes are kept, however young.
    pub rows_max: u64,
    pub bytes_max: u64,
    /// Rows are removed once this many of them are due, or this many bytes.
    pub sweep_rows_min: u64,
    pub sweep_bytes_min: u64,
}

impl History {
    /// Upstream's age. The limits hold 20 seconds of a store that is written as fast as it can be,
    /// and keep the file of an edge device small.
    pub const DEFAULT: Self = Self {
        age: Duration::from_secs(5 * 60),
        rows_max: 100_000,
        bytes_max: 128 * 1_048_576,
        sweep_rows_min: 1_000,
        sweep_bytes_min: 4 * 1_048_576,
    };
}

/// The past is remembered in steps of this fraction of its age and of its size.
const STEPS: u32 = 32;

/// Replaced rows, counted from some beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Replaced {
    pub rows: u64,
    pub bytes: u64,
}

impl Replaced {
    pub(super) fn add(&mut self, more: Self) {
        self.rows += more.rows;
        self.bytes += more.bytes;
    }

    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            rows: self.rows.saturating_sub(earlier.rows),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }
}

/// The state of the store at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub at: Instant,
    pub revision: Revision,
    /// Everything replaced through `revision`.
    pub replaced: Replaced,
}

/// Marks at intervals, oldest first: what the past looked like. A few dozen of them.
#[derive(Debug)]
pub(super) struct Past {
    history: History,
    marks: VecDeque<Mark>,
    swept: Replaced,
}

impl Past {
    /// Begins at `now`, where everything from `floor` on can be read. When what is kept came to be
    /// is not known, so it is as young as `now`.
    pub(super) fn new(history: History, floor: Revision, now: Mark) -> Self {
        let oldest = Mark { revision: floor, replaced: Replaced::default(), ..now };
        Self { history, marks: VecDeque::from([oldest, now]), swept: Replaced::default() }
    }

    /// Remembers `now`, unless the last mark is nearly the same.
    pub(super) fn record(&mut self, now: Mark) {
        let last = self.marks.back().expect("the first mark is never removed without a successor");
        let grown = now.replaced.since(last.replaced);
        let steps = u64::from(STEPS);
        if now.at.saturating_duration_since(last.at) >= self.history.age / STEPS
            || grown.rows >= self.history.rows_max / steps
            || grown.bytes >= self.history.bytes_max / steps
        {
            self.marks.push_back(now);
        }
    }

    /// The newest moment that is old enough or too big to be kept: what was replaced through its
    /// revision may go. Marks before it are dropped.
    pub(super) fn floor(&mut self, now: Instant, replaced: Replaced) -> Mark {
        while let Some(next) = self.marks.get(1) {
            let kept = replaced.since(self.marks[0].replaced);
            let old = now.saturating_duration_since(next.at) >= self.history.age;
            let big = kept.rows > self.history.rows_max || kept.bytes > self.history.bytes_max;
            if !old && !big {
                break;
            }
            self.marks.pop_front();
        }
        self.marks[0]
    }

    /// Whether removing what may go at `floor` is worth a write.
    pub(super) fn is_sweep_due(&self, floor: &Mark) -> bool {
        self.is_enough(floor.replaced)
    }

    /// When a sweep will be due if nothing else happens. `None` while there is too little to remove.
    pub(super) fn next_sweep(&self) -> Option<Instant> {
        let first = self.marks.iter().find(|mark| self.is_enough(mark.replaced))?;
        Some(first.at + self.history.age)
    }

    /// Everything replaced through `mark` has been removed.
    pub(super) fn swept(&mut self, replaced: Replaced) {
        self.swept = replaced;
    }

    /// At least so much had been replaced through `revision`.
    pub(super) fn replaced_through(&self, revision: Revision) -> Replaced {
        let newest = self.marks.iter().rfind(|mark| mark.revision <= revision);
        newest.map_or(self.swept, |mark| mark.replaced)
    }

    /// What waits to be removed out of `replaced`.
    pub(super) fn waiting(&self, replaced: Replaced) -> Replaced {
        replaced.since(self.swept)
    }

    fn is_enough(&self, replaced: Replaced) -> bool {
        let due = self.waiting(replaced);
        due.rows >= self.history.sweep_rows_min || due.bytes >= self.history.sweep_bytes_min
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: History = History {
        age: Duration::from_secs(320),
        rows_max: 3_200,
        bytes_max: 32_000,
        sweep_rows_min: 50,
        sweep_bytes_min: 5_000,
    };

    struct Scene {
        start: Instant,
        past: Past,
        replaced: Replaced,
        revision: u64,
    }

    impl Scene {
        fn new() -> Self {
            let start = crate::stdx::monotonic();
            let now = Mark { at: start, revision: Revision(100), replaced: Replaced::default() };
            let past = Past::new(HISTORY, Revision(40), now);
            Self { start, past, replaced: Replaced::default(), revision: 100 }
        }

        /// Replaces rows and returns the floor after that.
        fn write(&mut self, second: u64, rows: u64, bytes: u64) -> Mark {
            let at = self.start + Duration::from_secs(second);
            self.revision += 1;
            self.replaced.add(Replaced { rows, bytes });
            let revision = Revision(self.revision);
            self.past.record(Mark { at, revision, replaced: self.replaced });
            self.past.floor(at, self.replaced)
        }
    }

    #[test]
    fn what_is_older_than_the_age_may_not_be_read() {
        let mut scene = Scene::new();
        let floors: Vec<_> = [10, 20, 319, 320, 331, 341, 1_000]
            .map(|second| scene.write(second, 0, 0).revision.0)
            .into();
        assert_eq!(floors, [40, 40, 40, 100, 101, 102, 106]);
    }

    #[test]
    fn more_than_the_limits_is_not_kept_however_young() {
        let mut scene = Scene::new();
        assert_eq!(scene.write(1, 3_200, 0).revision, Revision(40));
        let floor = scene.write(1, 1, 0);
        assert_eq!(floor.revision, Revision(101));
        let floor = scene.write(2, 0, 20_000);
        assert_eq!(floor.revision, Revision(101));
        let floor = scene.write(2, 0, 20_000);
        assert_eq!(floor.revision, Revision(103));
    }

    #[test]
    fn few_rows_are_not_worth_a_write() {
        let mut scene = Scene::new();
        scene.write(10, 49, 0);
        assert_eq!(scene.past.next_sweep(), None);
        let floor = scene.write(1_000, 0, 0);
        assert!(!scene.past.is_sweep_due(&floor));
        let floor = scene.write(1_100, 1, 0);
        assert!(!scene.past.is_sweep_due(&floor));
        let due = scene.start + Duration::from_secs(1_100 + 320);
        assert_eq!(scene.past.next_sweep(), Some(due));
        let floor = scene.past.floor(due, scene.replaced);
        assert!(scene.past.is_sweep_due(&floor));
        scene.past.swept(floor.replaced);
        assert_eq!(scene.past.next_sweep(), None);
        assert_eq!(scene.past.waiting(scene.replaced), Replaced::default());
    }

    #[test]
    fn the_past_is_remembered_in_few_marks() {
        let mut scene = Scene::new();
        for second in 0..100_000 {
            scene.write(second / 100, 1, 10);
        }
        assert!(scene.past.marks.len() <= 3 * STEPS as usize, "{}", scene.past.marks.len());
    }
}
