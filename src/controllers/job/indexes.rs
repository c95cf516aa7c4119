//! Sets of completion indexes, and their text: `1,3-5,7`.
//!
//! Follows upstream `orderedIntervals` (pkg/controller/job/indexed_job_utils.go, v1.35).

use std::collections::BTreeSet;
use std::fmt;

/// Indexes as intervals that grow and do not touch: ten thousand neighbours are one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<Interval>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Interval {
    first: i32,
    last: i32,
}

impl Indexes {
    /// The indexes that a text names, below `completions`. What cannot be read is left out, as
    /// upstream's `parseIndexesFromString` does.
    pub(super) fn parse(text: &str, completions: i32) -> Self {
        let read = |part: &str| -> Option<Interval> {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse().ok()?, last.parse::<i32>().ok()?);
            (first < completions).then_some(Interval { first, last: last.min(completions - 1) })
        };
        Self::of_intervals(text.split(',').filter_map(read))
    }

    /// The union of intervals in whatever order.
    fn of_intervals(intervals: impl Iterator<Item = Interval>) -> Self {
        let mut sorted: Vec<Interval> = intervals.collect();
        sorted.sort_unstable();
        let mut merged: Vec<Interval> = Vec::with_capacity(sorted.len());
        for next in sorted {
            match merged.last_mut() {
                Some(last) if next.first <= last.last.saturating_add(1) => {
                    last.last = last.last.max(next.last);
                }
                _ => merged.push(next),
            }
        }
        Self(merged)
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        Self::of_intervals(self.0.iter().chain(&other.0).copied())
    }

    pub(super) fn contains(&self, index: i32) -> bool {
        let after = self.0.partition_point(|interval| interval.last < index);
        self.0.get(after).is_some_and(|interval| interval.first <= index)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        let length = |interval: &Interval| i64::from(interval.last) - i64::from(interval.first) + 1;
        usize::try_from(self.0.iter().map(length).sum::<i64>()).unwrap_or_default()
    }

    /// How many indexes both have.
    pub(super) fn count_common(&self, other: &Self) -> usize {
        let (mut mine, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut common = 0;
        while let (Some(one), Some(two)) = (mine.peek(), theirs.peek()) {
            let shared = i64::from(one.last.min(two.last)) - i64::from(one.first.max(two.first));
            common += usize::try_from(shared + 1).unwrap_or_default();
            if one.last < two.last {
                mine.next();
            } else {
                theirs.next();
            }
        }
        common
    }

    /// The lowest indexes below `completions` that are not in the set, `count` at most.
    pub(super) fn first_missing(&self, count: usize, completions: i32) -> Vec<i32> {
        let mut missing = Vec::new();
        let mut candidate = 0;
        for interval in &self.0 {
            missing
                .extend((candidate..interval.first.min(completions)).take(count - missing.len()));
            candidate = interval.last.saturating_add(1);
        }
        missing.extend((candidate..completions).take(count - missing.len()));
        missing
    }
}

impl FromIterator<i32> for Indexes {
    fn from_iter<I: IntoIterator<Item = i32>>(indexes: I) -> Self {
        let distinct: BTreeSet<i32> = indexes.into_iter().collect();
        Self::of_intervals(distinct.into_iter().map(|index| Interval { first: index, last: index }))
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, Interval { first, last }) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            match i64::from(*last) - i64::from(*first) {
                0 => write!(formatter, "{comma}{first}")?,
                1 => write!(formatter, "{comma}{first},{last}")?,
                _ => write!(formatter, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, others: &[i32], expected: &str) {
        let merged = Indexes::parse(text, 10).union(&others.iter().copied().collect());
        assert_eq!(merged.to_string(), expected, "{text} with {others:?}");
    }

    #[test]
    fn indexes_are_joined() {
        check("", &[], "");
        check("", &[3, 1, 3], "1,3");
        check("1-3", &[4], "1-4");
        check("0,2", &[1], "0-2");
        check("0", &[1], "0,1");
        check("5-20", &[0], "0,5-9");
        check("12,x,3-y,7", &[], "7");
    }

    #[test]
    fn indexes_are_counted_and_found() {
        let set = Indexes::parse("0-2,5,7-8", 10);
        assert_eq!(set.len(), 6);
        let held: Vec<_> = (0..10).filter(|index| set.contains(*index)).collect();
        assert_eq!(held, [0, 1, 2, 5, 7, 8]);
        assert_eq!(set.first_missing(10, 10), [3, 4, 6, 9]);
        assert_eq!(set.first_missing(2, 10), [3, 4]);
        assert_eq!(set.first_missing(2, 3), [] as [i32; 0]);
        assert_eq!(Indexes::default().first_missing(2, 3), [0, 1]);
        assert_eq!(set.count_common(&Indexes::parse("1-5,8-9", 10)), 4);
        assert_eq!(set.count_common(&Indexes::default()), 0);
    }
}
