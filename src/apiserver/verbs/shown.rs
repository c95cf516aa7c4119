//! The seam between what is stored and what a version of a kind shows of it.
//!
//! Most kinds are stored as they are shown. Other versions are converted here: by a function, or by the
//! webhook that a definition names ([`conversion`](super::super::conversion)), which is asked for many
//! objects at once.

use super::super::conversion::{BYTES_PER_REVIEW_MAX, OBJECTS_PER_REVIEW_MAX};
use super::super::server::Server;
use crate::api::Status;
use crate::api::status::Reason;
use crate::registry::Kind;
use crate::registry::custom::{CustomVersion, Reading};
use crate::storage::{Entry, Event};
use bytes::Bytes;
use serde_json::Value;

/// What a write stores, and what it shows of that.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) stored: Bytes,
    pub(super) shown: Bytes,
}

/// Objects that wait for their conversion, with where they go then.
#[derive(Default)]
struct Batch<'v> {
    places: Vec<&'v mut Bytes>,
    objects: Vec<Value>,
    bytes: usize,
}

impl<'v> Batch<'v> {
    fn push(&mut self, place: &'v mut Bytes, object: Value) {
        self.bytes += place.len();
        self.places.push(place);
        self.objects.push(object);
    }

    fn is_full(&self) -> bool {
        self.objects.len() >= OBJECTS_PER_REVIEW_MAX || self.bytes >= BYTES_PER_REVIEW_MAX
    }
}

impl Server {
    /// The entries as this version of their kind shows them.
    pub(in super::super) async fn show(
        &self,
        kind: &Kind,
        mut entries: Vec<Entry>,
    ) -> Result<Vec<Entry>, Status> {
        self.show_all(kind, entries.iter_mut().map(|entry| &mut entry.value).collect()).await?;
        Ok(entries)
    }

    /// As [`show`](Self::show), of one.
    pub(in super::super) async fn show_one(
        &self,
        kind: &Kind,
        mut entry: Entry,
    ) -> Result<Entry, Status> {
        self.show_all(kind, vec![&mut entry.value]).await?;
        Ok(entry)
    }

    /// What the object of an event was and is. Where what it is tells everything, what it was is left
    /// as it is stored.
    pub(super) async fn show_event(
        &self,
        kind: &Kind,
        event: &Event,
        needs_both: bool,
    ) -> Result<(Option<Bytes>, Option<Bytes>), Status> {
        let (mut previous, mut value) = (event.previous.clone(), event.value.clone());
        let previous_too = previous.as_mut().filter(|_| needs_both || value.is_none());
        let all = previous_too.into_iter().chain(value.as_mut());
        self.show_all(kind, all.collect()).await?;
        Ok((previous, value))
    }

    /// Stored bytes become shown ones, each in its place.
    async fn show_all(&self, kind: &Kind, values: Vec<&mut Bytes>) -> Result<(), Status> {
        if kind.is_stored_as_shown() {
            return Ok(());
        }
        let mut batch = Batch::default();
        for value in values {
            match kind.shown(value.clone()).map_err(unreadable)? {
                Reading::Done(shown) => *value = shown,
                Reading::Convert(object) => {
                    batch.push(value, object);
                    if batch.is_full() {
                        self.convert_batch(kind, std::mem::take(&mut batch)).await?;
                    }
                }
            }
        }
        self.convert_batch(kind, batch).await
    }

    async fn convert_batch(&self, kind: &Kind, batch: Batch<'_>) -> Result<(), Status> {
        let Some(version) = kind.custom_version().filter(|_| !batch.objects.is_empty()) else {
            return Ok(());
        };
        let converted = self.convert_to(version, batch.objects).await?;
        for (place, shown) in batch.places.into_iter().zip(converted) {
            *place = shown;
        }
        Ok(())
    }

    /// What `version` shows of objects of others, by its webhook.
    pub(super) async fn convert_to(
        &self,
        version: &CustomVersion,
        objects: Vec<Value>,
    ) -> Result<Vec<Bytes>, Status> {
        let converted = self.convert(version, objects).await?.into_iter();
        converted.map(|object| version.converted(object).map_err(unreadable)).collect()
    }

    /// What is stored of an object that this version shows. What it is converted to may be less than was
    /// submitted: what is stored is shown to whoever has written it (upstream `store.Create` and
    /// `GuaranteedUpdate` decode what they have encoded).
    pub(super) async fn to_store(&self, kind: &Kind, shown: Bytes) -> Result<Written, Status> {
        let stored = match kind.stored(shown.clone()).map_err(Status::internal)? {
            Reading::Done(stored) => stored,
            Reading::Convert(object) => {
                let storage = kind.custom_version().map(|version| version.storage());
                let storage = storage.ok_or_else(|| Status::internal("nobody converts this"))?;
                let converted = self.convert_to(&storage, vec![object]).await?;
                converted.into_iter().next().unwrap_or_default()
            }
        };
        let mut written = Written { shown, stored };
        if kind.custom_version().is_some_and(|version| !version.is_stored()) {
            written.shown = written.stored.clone();
            self.show_all(kind, vec![&mut written.shown]).await?;
        }
        Ok(written)
    }
}

/// Upstream has no reason for what cannot be decoded either.
fn unreadable(error: serde_json::Error) -> Status {
    Status::new(Reason::Unknown, error.to_string())
}
