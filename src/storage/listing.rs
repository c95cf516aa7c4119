//! The entries of one moment, read piece by piece.

use super::{Entry, Page, ReadError};
use crate::api::Revision;
use futures_util::future::BoxFuture;
use std::fmt;

/// The entries of one moment in the order of their keys. Only what is being used of them is in
/// memory, and nobody waits for a reader that is slow.
pub trait Listing: Send + fmt::Debug {
    /// The revision that this shows.
    fn revision(&self) -> Revision;

    /// How many entries have not been handed out.
    fn remaining(&self) -> usize;

    /// The next entries, at least one; none after the last.
    ///
    /// # Errors
    /// [`ReadError::Compacted`] where so much has been written meanwhile that the moment is not
    /// kept.
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Entry>, ReadError>>;
}

/// What is in memory already.
#[derive(Debug)]
pub struct Whole(pub Page);

impl Listing for Whole {
    fn revision(&self) -> Revision {
        self.0.revision
    }

    fn remaining(&self) -> usize {
        self.0.entries.len()
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Entry>, ReadError>> {
        let entries = std::mem::take(&mut self.0.entries);
        Box::pin(std::future::ready(Ok(entries)))
    }
}
