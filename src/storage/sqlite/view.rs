//! What readers have to know beside the file: the newest revision, the coalesced values that have
//! not reached the disk, and which revisions cannot be read any more.
//!
//! Architecture invariant: a reader takes its [`Overlay`] *before* its snapshot of the file. When
//! the newest row of that snapshot is the overlay's `base`, the two together are the store at the
//! overlay's revision. When the file has gone on since, everything in the overlay has reached it (a
//! durable group writes all that is pending), so the file alone is the store at its newest revision.

use crate::api::Revision;
use crate::storage::seq::Seq;
use crate::storage::sqlite::recent::Recent;
use crate::storage::{Key, ListRequest, Lookup, Page};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A coalesced value that is not on disk.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// The newest of the coalesced changes of this key; the ones before it are forgotten.
    pub seq: Seq,
    /// The revision of the first of them.
    pub since: Revision,
    pub value: Bytes,
    /// The row on disk that these changes replace, and the size of its value.
    pub base: Seq,
    pub base_bytes: usize,
}

/// Revisions that were announced and then taken back by a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub first: Revision,
    pub last: Revision,
}

#[derive(Debug)]
pub(super) struct View {
    pub revision: Revision,
    /// The newest row of the log.
    pub base: Seq,
    /// The oldest revision that may be read.
    pub floor: Revision,
    pub lost: Vec<Lost>,
    pub pending: BTreeMap<Key, Pending>,
    pub pending_bytes: usize,
    pub recent: Recent,
}

/// A part of the [`View`], as of one moment.
#[derive(Debug)]
pub(super) struct Overlay {
    pub revision: Revision,
    pub base: Seq,
    pub floor: Revision,
    pub pending: BTreeMap<Key, Pending>,
}

/// The one [`View`] of a store: written by the writer, read by everybody.
#[derive(Debug)]
pub(super) struct SharedView {
    view: Mutex<View>,
    revision: AtomicU64,
}

impl View {
    pub(super) fn overlay(&self, prefix: &str) -> Overlay {
        let from = Key::from(prefix);
        let within = self.pending.range(from..);
        let within = within.take_while(|(key, _)| key.as_str().starts_with(prefix));
        Overlay {
            revision: self.revision,
            base: self.base,
            floor: self.floor,
            pending: within.map(|(key, pending)| (key.clone(), pending.clone())).collect(),
        }
    }

    /// Adds coalesced values; of a key that has one already only the new one is kept.
    pub(super) fn add_pending(&mut self, added: Vec<(Key, Pending)>) {
        for (key, added) in added {
            self.pending_bytes += key.as_str().len() + added.value.len();
            match self.pending.get_mut(&key) {
                Some(pending) => {
                    self.pending_bytes -= key.as_str().len() + pending.value.len();
                    pending.seq = added.seq;
                    pending.value = added.value;
                }
                None => {
                    self.pending.insert(key, added);
                }
            }
        }
    }

    /// The oldest revision after `revision` that can be read, where `revision` itself cannot.
    pub(super) fn refuses(&self, revision: Revision) -> Option<Revision> {
        if revision < self.floor {
            return Some(self.floor);
        }
        let lost = self.lost.iter().find(|lost| lost.first <= revision && revision <= lost.last);
        lost.map(|lost| Revision(lost.last.0 + 1))
    }
}

impl SharedView {
    pub(super) fn new(view: View) -> Self {
        Self { revision: AtomicU64::new(view.revision.0), view: Mutex::new(view) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the view; readers see all of the change or nothing of it.
    pub(super) fn update(&self, change: impl FnOnce(&mut View)) {
        let mut view = self.lock();
        change(&mut view);
        self.revision.fetch_max(view.revision.0, Ordering::AcqRel);
    }

    /// A reader has found this revision on disk. Between the commit and the update of the view it is
    /// newer than the view, and whoever has been shown it must not be told that it is in the future.
    pub(super) fn seen(&self, revision: Revision) {
        self.revision.fetch_max(revision.0, Ordering::AcqRel);
    }

    /// What is remembered, where nobody has been shown anything newer.
    fn remembered<T>(&self, look: impl FnOnce(&mut Recent) -> Option<T>) -> Option<(T, Revision)> {
        let mut view = self.lock();
        if view.revision != self.revision() {
            return None;
        }
        look(&mut view.recent).map(|found| (found, view.revision))
    }

    /// The value of a key without a look into the file, where it is remembered.
    pub(super) fn remembered_value(&self, key: &Key) -> Option<Lookup> {
        let (entry, revision) = self.remembered(|recent| recent.value(key))?;
        Some(Lookup { entry, revision })
    }

    /// A page without a look into the file, where it is remembered.
    pub(super) fn remembered_page(&self, request: &ListRequest) -> Option<Page> {
        let (entries, revision) = self.remembered(|recent| recent.page(request))?;
        Some(Page { entries, revision, remaining: 0 })
    }

    /// A reader has found this. It is remembered if it is not outdated already.
    pub(super) fn remember_value(&self, key: &Key, found: &Lookup) {
        let mut view = self.lock();
        if view.revision == found.revision {
            view.recent.read(key, found.entry.as_ref());
        }
    }

    /// As [`SharedView::remember_value`], of a page that nothing comes after.
    pub(super) fn remember_page(&self, request: &ListRequest, found: &Page) {
        let mut view = self.lock();
        if view.revision == found.revision && found.remaining == 0 {
            view.recent.listed(request, &found.entries);
        }
    }

    /// The newest revision that anybody has been told of.
    pub(super) fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_has_seen_is_not_in_the_future() {
        let shared = SharedView::new(View {
            revision: Revision(5),
            base: Seq::end_of(Revision(5)),
            floor: Revision(0),
            lost: Vec::new(),
            pending: BTreeMap::new(),
            pending_bytes: 0,
            recent: Recent::default(),
        });
        shared.seen(Revision(6));
        assert_eq!(shared.revision(), Revision(6));
        shared.seen(Revision(4));
        let key = Key::from("/a");
        let found = |revision| Lookup { entry: None, revision: Revision(revision) };
        shared.remember_value(&key, &found(5));
        assert_eq!(shared.remembered_value(&key), None);
        shared.update(|view| view.revision = Revision(6));
        assert_eq!(shared.revision(), Revision(6));
        assert_eq!(shared.remembered_value(&key), Some(found(6)));
        shared.remember_value(&Key::from("/b"), &found(5));
        assert_eq!(shared.remembered_value(&Key::from("/b")), None);
    }
}
