//! What the server counts of itself, and `/metrics`, which tells it under upstream's names
//! (apiserver pkg/endpoints/metrics, v1.35).
//!
//! Counting costs a look-up by borrowed words and a few additions; how many different sorts of
//! requests are told apart is bounded, and what strangers make up is told as nothing. What there is
//! to tell of the store and the process is looked up when somebody asks. Start at
//! [`Tally::answered`]; [`gather`] reads what was counted, and [`render`] makes the text.
//!
//! Upstream counts what its handlers answer; here, whoever is refused before that is counted as well.

mod families;
mod gather;
mod histogram;
mod render;
mod series;
mod sort;
mod steps;

pub(super) use self::gather::answer;
pub(super) use self::histogram::Histogram;
use self::series::Series;
pub(super) use self::series::Underway;
use self::sort::{OwnedSort, Sort, Sorted, sort_of};
use self::steps::{AdmissionTally, Outcomes};
pub(super) use self::steps::{Step, StoreTally};
use super::health::HealthTally;
use super::server::Asked;
use crate::registry::{Kind, Rows};
use crate::stdx::exposition::{count, whole};
use crate::stdx::http::Response;
use crate::stdx::monotonic;
use http_body::Body as _;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

/// Sorts of requests, and of watches, beyond this many are told by verb alone.
const SORTS_MAX: usize = 4_096;

/// Upper bounds of upstream's `apiserver_watch_events_sizes`, in bytes.
const EVENT_SIZES: &[f64] =
    &[1_024.0, 2_048.0, 4_096.0, 8_192.0, 16_384.0, 32_768.0, 65_536.0, 131_072.0];

const POISONED: &str = "no panics under this lock";

/// What is counted of each sort.
type BySort<T> = RwLock<HashMap<OwnedSort, Arc<T>>>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tally {
    requests: BySort<Series>,
    /// By group, version and plural.
    watched: BySort<WatchTally>,
    pub(super) store: Arc<StoreTally>,
    pub(super) admission: AdmissionTally,
    /// Whether those who ask were believed.
    pub(super) authentication: Outcomes,
    /// Whether they might.
    pub(super) authorization: Outcomes,
    pub(super) health: HealthTally,
    tls_failures: AtomicU64,
}

/// What is counted of the watches of one kind.
#[derive(Debug)]
pub(super) struct WatchTally {
    sizes: Histogram<{ EVENT_SIZES.len() + 1 }>,
}

impl WatchTally {
    /// An event of so many bytes was written.
    pub(super) fn note(&self, bytes: usize) {
        self.sizes.note(count(bytes));
    }
}

/// A request, and what became of it before its answer was on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered<'a> {
    pub(super) asked: &'a Asked,
    pub(super) began: Instant,
    /// How long it has waited for others.
    pub(super) waited: Duration,
    /// Whether the server cut it short to help itself.
    pub(super) is_cut: bool,
}

impl Tally {
    /// A request has this answer. Where not everything is known before the answer is out, as with
    /// what takes as long as the client likes, the rest is counted when what is returned is dropped.
    pub(super) fn answered(
        &self,
        rows: &Rows,
        request: Answered<'_>,
        response: &Response,
    ) -> Option<Underway> {
        let Answered { asked, began, waited, is_cut } = request;
        let sort = sort_of(rows, asked);
        let series = self.series(sort);
        let code = response.status().as_u16();
        if is_cut {
            series.note_cut(code);
        }
        if asked.info.is_long_running() && response.status().as_u16() < 400 {
            return Some(Underway::lasting(series, code, began));
        }
        series.note(code, monotonic() - began, waited);
        if !matches!(sort.verb, "GET" | "LIST") {
            return None;
        }
        match response.body().size_hint().exact() {
            Some(bytes) => {
                series.sizes.note(whole(bytes));
                None
            }
            None => Some(Underway::unmeasured(series)),
        }
    }

    /// A connection came to nothing before it was one.
    pub(super) fn tls_failed(&self) {
        self.tls_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// What is counted of watches of this kind.
    pub(super) fn watch(&self, kind: &Kind) -> Arc<WatchTally> {
        let facts = &kind.facts;
        let sort = Sort {
            group: &facts.group,
            version: &facts.version,
            resource: &facts.plural,
            ..Sort::of_verb("WATCH")
        };
        entry(&self.watched, sort, || WatchTally { sizes: Histogram::by(EVENT_SIZES) })
    }

    fn series(&self, sort: Sort<'_>) -> Arc<Series> {
        entry(&self.requests, sort, Series::new)
    }
}

/// What is counted of this sort; of a coarser one where there are too many.
fn entry<T>(all: &BySort<T>, sort: Sort<'_>, none: impl Fn() -> T) -> Arc<T> {
    if let Some(known) = all.read().expect(POISONED).get(&sort as &dyn Sorted) {
        return Arc::clone(known);
    }
    let mut all = all.write().expect(POISONED);
    let sort = if all.len() < SORTS_MAX { sort } else { sort.coarse() };
    Arc::clone(all.entry(sort.into()).or_insert_with(|| Arc::new(none())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_not_more_sorts_than_there_may_be() {
        let tally = Tally::default();
        let names: Vec<_> = (0..2 * SORTS_MAX).map(|index| format!("things{index}")).collect();
        for name in &names {
            let series = tally.series(Sort { resource: name, ..Sort::of_verb("GET") });
            series.note(200, Duration::from_millis(1), Duration::ZERO);
        }
        assert_eq!(tally.requests.read().unwrap().len(), SORTS_MAX + 1);
        let coarse = tally.series(Sort::of_verb("GET"));
        assert_eq!(coarse.codes(), [(200, u64::try_from(SORTS_MAX).unwrap())]);
    }
}
