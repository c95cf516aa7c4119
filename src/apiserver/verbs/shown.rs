//! The seam between what is stored and what a version of a kind shows of it.

use super::super::server::Server;
use crate::api::Status;
use crate::registry::Kind;
use crate::registry::custom::Reading;
use crate::storage::Entry;
use bytes::Bytes;

impl Server {
    /// The entries as this version of their kind shows them.
    pub(in super::super) async fn show(
        &self,
        kind: &Kind,
        mut entries: Vec<Entry>,
    ) -> Result<Vec<Entry>, Status> {
        if !kind.is_stored_as_shown() {
            for entry in &mut entries {
                entry.value = self.show_value(kind, entry.value.clone()).await?;
            }
        }
        Ok(entries)
    }

    /// As [`show`](Self::show), of one.
    pub(in super::super) async fn show_one(
        &self,
        kind: &Kind,
        mut entry: Entry,
    ) -> Result<Entry, Status> {
        if !kind.is_stored_as_shown() {
            entry.value = self.show_value(kind, entry.value).await?;
        }
        Ok(entry)
    }

    pub(in super::super) async fn show_value(
        &self,
        kind: &Kind,
        stored: Bytes,
    ) -> Result<Bytes, Status> {
        match kind.shown(stored).map_err(Status::internal)? {
            Reading::Done(shown) => Ok(shown),
            Reading::Convert(_) => Err(Status::internal("webhooks")),
        }
    }

    /// What is stored of an object that this version shows.
    pub(in super::super) async fn to_store(
        &self,
        kind: &Kind,
        shown: Bytes,
    ) -> Result<Bytes, Status> {
        match kind.stored(shown).map_err(Status::internal)? {
            Reading::Done(stored) => Ok(stored),
            Reading::Convert(_) => Err(Status::internal("webhooks")),
        }
    }
}
