//! What is counted of requests of one sort.

use super::histogram::Histogram;
use crate::stdx::exposition::count;
use crate::stdx::monotonic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Upper bounds of upstream's `apiserver_request_duration_seconds`, in seconds.
pub(super) const DURATIONS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];
/// Upper bounds of upstream's `apiserver_request_sli_duration_seconds`, in seconds.
const LEVELS: &[f64] = &[
    0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0,
    30.0, 45.0, 60.0,
];
/// Upper bounds of upstream's `apiserver_response_sizes`, in bytes.
const SIZES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// The codes that are told by themselves; others are told as the last, which is none.
const CODES: [u16; 28] = [
    101, 200, 201, 202, 204, 301, 302, 304, 307, 400, 401, 403, 404, 405, 406, 408, 409, 410, 412,
    413, 415, 422, 429, 500, 502, 503, 504, 0,
];

/// See the module.
#[derive(Debug)]
pub(super) struct Series {
    codes: [AtomicU64; CODES.len()],
    /// As `codes`, of those that the server cut short to help itself.
    cut: [AtomicU64; CODES.len()],
    pub(super) durations: Histogram<{ DURATIONS.len() + 1 }>,
    /// Without what was spent waiting for others.
    pub(super) levels: Histogram<{ LEVELS.len() + 1 }>,
    pub(super) sizes: Histogram<{ SIZES.len() + 1 }>,
    /// Of those that may take as long as the client likes: how many there are now.
    underway: AtomicU64,
}

impl Series {
    pub(super) fn new() -> Self {
        Self {
            codes: [const { AtomicU64::new(0) }; CODES.len()],
            cut: [const { AtomicU64::new(0) }; CODES.len()],
            durations: Histogram::by(DURATIONS),
            levels: Histogram::by(LEVELS),
            sizes: Histogram::by(SIZES),
            underway: AtomicU64::new(0),
        }
    }

    /// A request is answered after so long, of which it has waited so long for others.
    pub(super) fn note(&self, code: u16, took: Duration, waited: Duration) {
        add_to(&self.codes, code);
        self.durations.note(took.as_secs_f64());
        self.levels.note(took.saturating_sub(waited).as_secs_f64());
    }

    /// The server has cut a request short.
    pub(super) fn note_cut(&self, code: u16) {
        add_to(&self.cut, code);
    }

    /// Codes that there were, and how often.
    pub(super) fn codes(&self) -> Vec<(u16, u64)> {
        counted(&self.codes)
    }

    /// As [`Series::codes`], of requests that were cut short.
    pub(super) fn cut(&self) -> Vec<(u16, u64)> {
        counted(&self.cut)
    }

    pub(super) fn underway(&self) -> u64 {
        self.underway.load(Ordering::Relaxed)
    }
}

fn add_to(codes: &[AtomicU64; CODES.len()], code: u16) {
    let at = CODES.iter().position(|known| *known == code).unwrap_or(CODES.len() - 1);
    codes[at].fetch_add(1, Ordering::Relaxed);
}

fn counted(codes: &[AtomicU64; CODES.len()]) -> Vec<(u16, u64)> {
    let counted = CODES.iter().zip(codes);
    let counted = counted.map(|(code, count)| (*code, count.load(Ordering::Relaxed)));
    counted.filter(|(_, count)| *count > 0).collect()
}

/// An answer that is on its way: what is not known of it before it is out is counted then.
#[derive(Debug)]
pub(in super::super) struct Underway {
    series: Arc<Series>,
    lasting: Option<Lasting>,
    sent: usize,
}

/// What may take as long as the client likes.
#[derive(Debug)]
struct Lasting {
    code: u16,
    began: Instant,
}

impl Underway {
    /// It is over when this is dropped.
    pub(super) fn lasting(series: Arc<Series>, code: u16, began: Instant) -> Self {
        series.underway.fetch_add(1, Ordering::Relaxed);
        Self { series, lasting: Some(Lasting { code, began }), sent: 0 }
    }

    /// It is counted already, but nobody knows yet how large it is.
    pub(super) fn unmeasured(series: Arc<Series>) -> Self {
        Self { series, lasting: None, sent: 0 }
    }

    /// So much more of it is out.
    pub(in super::super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        match &self.lasting {
            None => self.series.sizes.note(count(self.sent)),
            Some(Lasting { code, began }) => {
                self.series.underway.fetch_sub(1, Ordering::Relaxed);
                self.series.note(*code, monotonic() - *began, Duration::ZERO);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_counted_at_its_end() {
        let series = Arc::new(Series::new());
        let underway = Underway::lasting(Arc::clone(&series), 200, monotonic());
        assert_eq!((series.underway(), series.codes()), (1, Vec::new()));
        drop(underway);
        assert_eq!((series.underway(), series.codes()), (0, vec![(200, 1)]));
        assert_eq!(series.sizes.read().count(), 0);
        let mut unmeasured = Underway::unmeasured(Arc::clone(&series));
        unmeasured.sent(600);
        unmeasured.sent(600);
        drop(unmeasured);
        let sizes = series.sizes.read();
        assert_eq!((sizes.count(), sizes.seconds), (1, 1_200.0));
        assert_eq!(series.codes(), [(200, 1)]);
    }

    #[test]
    fn waiting_is_no_part_of_the_level_of_service() {
        let series = Series::new();
        series.note(299, Duration::from_secs(3), Duration::from_secs(2));
        assert_eq!((series.durations.read().seconds, series.levels.read().seconds), (3.0, 1.0));
        assert_eq!(series.codes(), [(0, 1)], "a code of its own is told as none");
    }
}
