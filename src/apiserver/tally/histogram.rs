//! Amounts by how large they were, counted by several threads at once without locks.

use crate::stdx::exposition::Durations;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module. `N` is one more than there are bounds.
#[derive(Debug)]
pub(in super::super) struct Histogram<const N: usize> {
    bounds: &'static [f64],
    counts: [AtomicU64; N],
    /// All of them together, in millionths: what counts in whole steps can be added to by anybody.
    millionths: AtomicU64,
}

const MILLION: f64 = 1e6;

impl<const N: usize> Histogram<N> {
    pub(in super::super) const fn by(bounds: &'static [f64]) -> Self {
        assert!(bounds.len() + 1 == N, "there is a count for each bound, and one above");
        Self { bounds, counts: [const { AtomicU64::new(0) }; N], millionths: AtomicU64::new(0) }
    }

    /// Counts one more.
    pub(in super::super) fn note(&self, amount: f64) {
        let at = self.bounds.iter().position(|bound| amount <= *bound).unwrap_or(N - 1);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let millionths = (amount * MILLION) as u64;
        self.millionths.fetch_add(millionths, Ordering::Relaxed);
    }

    /// What was counted until now.
    pub(in super::super) fn read(&self) -> Durations {
        let counts = self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        let sum = crate::stdx::exposition::whole(self.millionths.load(Ordering::Relaxed));
        Durations::counted(self.bounds, &counts, sum / MILLION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_counted_by_their_bounds() {
        let histogram = Histogram::<3>::by(&[0.5, 2.0]);
        for amount in [0.1, 0.5, 1.0, 3.0] {
            histogram.note(amount);
        }
        let read = histogram.read();
        assert_eq!(read.up_to().collect::<Vec<_>>(), [(0.5, 2), (2.0, 3)]);
        assert_eq!((read.count(), read.seconds), (4, 4.6));
    }
}
