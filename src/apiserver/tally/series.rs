//! The requests of a sort, and what is counted of them.
//!
//! A sort is looked up by borrowed words: counting a request allocates nothing, but the first of its
//! sort.

use super::histogram::Histogram;
use crate::stdx::exposition::Labels;
use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of upstream's `apiserver_request_duration_seconds`, in seconds.
pub(super) const DURATIONS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];
/// Upper bounds of upstream's `apiserver_response_sizes`, in bytes.
const SIZES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// The codes that are told by themselves; others are told as the last, which is none.
const CODES: [u16; 23] = [
    200, 201, 202, 101, 304, 400, 401, 403, 404, 405, 406, 408, 409, 410, 413, 415, 422, 429, 500,
    502, 503, 504, 0,
];

/// What requests of one sort have in common, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct Sort<'a> {
    pub(in super::super) verb: &'static str,
    pub(in super::super) dry_run: &'static str,
    pub(in super::super) scope: &'static str,
    pub(in super::super) group: &'a str,
    pub(in super::super) version: &'a str,
    pub(in super::super) resource: &'a str,
    pub(in super::super) subresource: &'a str,
}

impl Sort<'_> {
    /// The same without what there may be many of.
    pub(super) fn coarse(self) -> Sort<'static> {
        let Sort { verb, dry_run, scope, .. } = self;
        Sort { verb, dry_run, scope, group: "", version: "", resource: "", subresource: "" }
    }

    /// Its labels as upstream's metrics have them.
    pub(super) fn labels(&self) -> Labels<'_> {
        vec![
            ("component", "apiserver"),
            ("group", self.group),
            ("resource", self.resource),
            ("scope", self.scope),
            ("subresource", self.subresource),
            ("verb", self.verb),
            ("version", self.version),
        ]
    }
}

/// A [`Sort`] that is kept.
#[derive(Debug)]
pub(super) struct OwnedSort {
    verb: &'static str,
    dry_run: &'static str,
    scope: &'static str,
    words: [Box<str>; 4],
}

impl From<Sort<'_>> for OwnedSort {
    fn from(sort: Sort<'_>) -> Self {
        let Sort { verb, dry_run, scope, .. } = sort;
        let words = [sort.group, sort.version, sort.resource, sort.subresource].map(Box::from);
        Self { verb, dry_run, scope, words }
    }
}

/// Whatever has the words of a sort, borrowed or its own.
pub(super) trait Sorted {
    fn sort(&self) -> Sort<'_>;
}

impl Sorted for Sort<'_> {
    fn sort(&self) -> Sort<'_> {
        *self
    }
}

impl Sorted for OwnedSort {
    fn sort(&self) -> Sort<'_> {
        let Self { verb, dry_run, scope, words: [group, version, resource, subresource] } = self;
        Sort { verb, dry_run, scope, group, version, resource, subresource }
    }
}

impl Hash for dyn Sorted + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sort().hash(state);
    }
}

impl PartialEq for dyn Sorted + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.sort() == other.sort()
    }
}

impl Eq for dyn Sorted + '_ {}

impl Hash for OwnedSort {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sort().hash(state);
    }
}

impl PartialEq for OwnedSort {
    fn eq(&self, other: &Self) -> bool {
        self.sort() == other.sort()
    }
}

impl Eq for OwnedSort {}

impl<'a> Borrow<dyn Sorted + 'a> for OwnedSort {
    fn borrow(&self) -> &(dyn Sorted + 'a) {
        self
    }
}

/// What is counted of requests of one sort.
#[derive(Debug)]
pub(super) struct Series {
    codes: [AtomicU64; CODES.len()],
    pub(super) durations: Histogram<{ DURATIONS.len() + 1 }>,
    pub(super) sizes: Histogram<{ SIZES.len() + 1 }>,
    /// Of those that may take as long as the client likes: how many there are now.
    underway: AtomicU64,
}

impl Series {
    pub(super) fn new() -> Self {
        Self {
            codes: [const { AtomicU64::new(0) }; CODES.len()],
            durations: Histogram::by(DURATIONS),
            sizes: Histogram::by(SIZES),
            underway: AtomicU64::new(0),
        }
    }

    pub(super) fn note_code(&self, code: u16) {
        let at = CODES.iter().position(|known| *known == code);
        let count = &self.codes[at.unwrap_or(CODES.len() - 1)];
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Codes that there were, and how often.
    pub(super) fn codes(&self) -> Vec<(u16, u64)> {
        let counted = CODES.iter().zip(&self.codes);
        let counted = counted.map(|(code, count)| (*code, count.load(Ordering::Relaxed)));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    pub(super) fn underway(&self) -> u64 {
        self.underway.load(Ordering::Relaxed)
    }
}

/// A request that may take as long as the client likes, until it is dropped.
#[derive(Debug)]
pub(super) struct Underway(Arc<Series>);

impl Underway {
    pub(super) fn of(series: Arc<Series>) -> Self {
        series.underway.fetch_add(1, Ordering::Relaxed);
        Self(series)
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.underway.fetch_sub(1, Ordering::Relaxed);
    }
}
