//! A list of what is in the file, read in pieces while it is used.
//!
//! Where the values are is found at one moment. They are read later: rows of the log never change,
//! and are removed only when what replaced them is in the past, which is checked with each piece.

use crate::api::Revision;
use crate::storage::sqlite::readers::Readers;
use crate::storage::sqlite::snapshot::Place;
use crate::storage::{Entry, Key, Listing, ReadError};
use futures_util::future::{BoxFuture, MaybeDone, maybe_done};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

/// How many entries are read at first. Lists that are not longer are read at once.
pub(super) const FIRST_ENTRIES: usize = 500;

/// Later pieces are about as large as this, in bytes, going by what the last one had: large enough for
/// values that are beside each other in the file to be read together.
const PIECE_BYTES: usize = 2 * 1_048_576;
const PIECE_ENTRIES_MAX: usize = 4_096;

/// Where entries are, in the order of their keys.
pub(super) type Found = Vec<(Key, Place)>;

type Reading = MaybeDone<BoxFuture<'static, Result<Vec<Entry>, ReadError>>>;

/// A piece is read while the one before it is used.
pub(super) struct SqliteListing {
    readers: Arc<Readers>,
    revision: Revision,
    /// Not handed out, and not being read.
    rest: std::vec::IntoIter<(Key, Place)>,
    /// How many entries are being read.
    under_way: usize,
    reading: Pin<Box<Reading>>,
}

impl SqliteListing {
    /// A list that begins with `first` and goes on with `rest`.
    pub(super) fn new(
        readers: &Arc<Readers>,
        revision: Revision,
        first: Vec<Entry>,
        rest: Found,
    ) -> Self {
        let under_way = first.len();
        let first: BoxFuture<'static, _> = Box::pin(std::future::ready(Ok(first)));
        Self {
            readers: Arc::clone(readers),
            revision,
            rest: rest.into_iter(),
            under_way,
            reading: Box::pin(maybe_done(first)),
        }
    }

    /// Nothing comes after an error.
    fn end(&mut self) {
        self.under_way = 0;
        self.rest = Vec::new().into_iter();
    }

    async fn next_piece(&mut self) -> Result<Vec<Entry>, ReadError> {
        if self.under_way == 0 {
            return Ok(Vec::new());
        }
        self.reading.as_mut().await;
        let piece = self.reading.as_mut().take_output().expect("it has just been read");
        let piece = piece.inspect_err(|_error| self.end())?;
        let bytes: usize = piece.iter().map(|entry| entry.value.len()).sum();
        let entries = PIECE_BYTES * piece.len().max(1) / bytes.max(1);
        let next: Vec<_> = self.rest.by_ref().take(entries.clamp(1, PIECE_ENTRIES_MAX)).collect();
        self.under_way = next.len();
        if !next.is_empty() {
            let (readers, revision) = (Arc::clone(&self.readers), self.revision);
            let reading: BoxFuture<'static, _> =
                Box::pin(async move { readers.values(next, revision).await });
            self.reading.set(maybe_done(reading));
            // So that a reader begins now.
            let _is_there = futures_util::poll!(self.reading.as_mut());
        }
        Ok(piece)
    }
}

impl Listing for SqliteListing {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn remaining(&self) -> usize {
        self.under_way + self.rest.len()
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Entry>, ReadError>> {
        Box::pin(self.next_piece())
    }
}

impl fmt::Debug for SqliteListing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SqliteListing")
            .field("revision", &self.revision)
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}
