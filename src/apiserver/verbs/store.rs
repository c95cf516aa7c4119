//! Reading one object, and writing what a verb has decided.

use super::super::allocate::{self, Reservation};
use super::super::server::Server;
use super::super::{errors, keys};
use super::shown::Written;
use super::{Call, ownership};
use crate::api::{ObjectKey, Revision, Status};
use crate::registry::managed;
use crate::registry::{Kind, Object};
use crate::storage::{Commit, CommitError, Durability, Entry, Op};
use bytes::Bytes;
use std::borrow::Cow;

/// An object as it is in the store.
#[derive(Debug)]
pub(in super::super) struct Current {
    /// As the version of the kind shows it.
    pub(in super::super) entry: Entry,
    /// The bytes in the store.
    stored: Bytes,
    /// The entry's value without who manages its fields.
    pub(in super::super) bare: Bytes,
    /// Who does, as JSON.
    pub(in super::super) managed: Option<String>,
    /// Without them as well.
    pub(in super::super) object: Box<dyn Object>,
}

/// What is to become of an object.
#[derive(Debug)]
pub(super) enum Next {
    /// With what was reserved for it.
    Write(Box<dyn Object>, Managed, Reservation),
    /// Removes it; what it was at the end is shown to the client.
    Remove(Box<dyn Object>),
}

/// Who manages its fields then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Managed {
    /// Those who do now.
    Kept,
    Now(Option<String>),
}

/// What has become of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is stored like this; by this write, or before when nothing changed.
    Stored {
        value: Bytes,
        revision: Revision,
    },
    Removed {
        value: Bytes,
        revision: Revision,
    },
    /// Somebody else was faster: look again.
    Raced,
}

impl Server {
    pub(in super::super) async fn find(
        &self,
        kind: &Kind,
        key: &ObjectKey,
    ) -> Result<Option<Entry>, Status> {
        match self.find_stored(kind, key).await? {
            Some(entry) => self.show_one(kind, entry).await.map(Some),
            None => Ok(None),
        }
    }

    /// As [`find`](Self::find), as it is in the store.
    async fn find_stored(&self, kind: &Kind, key: &ObjectKey) -> Result<Option<Entry>, Status> {
        let lookup = self.store.get(&keys::of(kind, key)).await;
        Ok(lookup.map_err(|error| errors::of_read(&error))?.entry)
    }

    /// The object, decoded.
    ///
    /// # Errors
    /// Not found where there is none.
    pub(in super::super) async fn current(
        &self,
        kind: &Kind,
        key: &ObjectKey,
    ) -> Result<Current, Status> {
        self.find_current(kind, key).await?.ok_or_else(|| errors::not_found(kind, key))
    }

    /// The object, decoded, where there is one.
    pub(in super::super) async fn find_current(
        &self,
        kind: &Kind,
        key: &ObjectKey,
    ) -> Result<Option<Current>, Status> {
        let Some(entry) = self.find_stored(kind, key).await? else { return Ok(None) };
        let stored = entry.value.clone();
        let entry = self.show_one(kind, entry).await?;
        Current::of(kind, entry, stored).map(Some)
    }
}

impl Current {
    fn of(kind: &Kind, entry: Entry, stored: Bytes) -> Result<Self, Status> {
        let split = managed::split(&entry.value);
        let mut bare = match split.object {
            Cow::Borrowed(_) => entry.value.clone(),
            Cow::Owned(bare) => Bytes::from(bare),
        };
        let mut managed = split.managed.map(str::to_owned);
        let mut object = kind.decode_stored(&bare).map_err(Status::internal)?;
        // What was converted has them somewhere else.
        if let Some(list) = object.metadata_mut().managed_fields.take() {
            bare = object.encode();
            managed = managed.or_else(|| managed::canonical(&ownership::json(&list)));
        }
        Ok(Self { entry, stored, bare, managed, object })
    }
}

/// Stores a new object, and in the same commit what comes with it. `Raced` when an allocation that belongs to it was taken meanwhile, or what
/// it was admitted on has changed.
pub(super) async fn insert(
    call: &Call<'_>,
    key: &ObjectKey,
    (object, managed): (&dyn Object, Option<&str>),
    others: Vec<Op>,
    dry_run: bool,
) -> Result<Outcome, Status> {
    let value = Bytes::from(managed::join(&object.encode(), managed));
    let store = &call.server.store;
    let storage_key = keys::of(call.kind, key);
    if dry_run {
        let found = call.server.find(call.kind, key).await?;
        return match found {
            Some(_) => Err(exists(call, key).await),
            // What is not stored has no revision, so that it can be created as it is shown.
            None => Ok(Outcome::Stored { value, revision: Revision::default() }),
        };
    }
    let Written { stored, shown: value } = call.server.to_store(call.kind, value).await?;
    let create = Op::Create { key: storage_key.clone(), value: stored };
    let commit = Commit { ops: with(create, others), durability: Durability::Durable };
    match store.commit(commit).await {
        Ok(revision) => Ok(Outcome::Stored { value, revision }),
        Err(CommitError::Exists { key: taken }) if taken == storage_key => {
            Err(exists(call, key).await)
        }
        Err(CommitError::Exists { .. } | CommitError::Conflict { .. }) => Ok(Outcome::Raced),
        Err(error) => Err(errors::of_commit(&error)),
    }
}

/// Upstream tells when the object in the way is on its way out.
async fn exists(call: &Call<'_>, key: &ObjectKey) -> Status {
    let mut status = Status::already_exists(errors::subject(call.kind, &key.name));
    if let Ok(Some(current)) = call.server.find_current(call.kind, key).await
        && current.object.metadata().deletion_timestamp.is_some()
    {
        status.message = format!("object is being deleted: {}", status.message);
    }
    status
}

/// Does with `current` what was decided, unless it has changed since it was read.
pub(super) async fn settle(
    call: &Call<'_>,
    current: &Current,
    next: Next,
    dry_run: bool,
) -> Result<Outcome, Status> {
    match next {
        Next::Write(object, managed, reservation) => {
            replace(call, current, (object.as_ref(), managed, reservation), dry_run).await
        }
        Next::Remove(last) => remove(call, current, last.as_ref(), dry_run).await,
    }
}

async fn replace(
    call: &Call<'_>,
    current: &Current,
    (object, managed, reservation): (&dyn Object, Managed, Reservation),
    dry_run: bool,
) -> Result<Outcome, Status> {
    let old = current.object.as_ref();
    let (bare, revision) = (object.encode(), current.entry.revision);
    let managed = now_managed(current, managed, bare == current.bare);
    let value = Bytes::from(managed::join(&bare, managed.as_deref()));
    let Written { stored, shown: value } = call.server.to_store(call.kind, value).await?;
    // A write that changes nothing is no write. What is stored in another version than it would be
    // stored in now is written, though all versions show the same.
    if dry_run || stored == current.stored {
        return Ok(Outcome::Stored { value, revision });
    }
    let is_heartbeat = reservation.ops.is_empty() && object.is_heartbeat(old);
    let durability = if is_heartbeat { Durability::Coalesced } else { Durability::Durable };
    let key = current.entry.key.clone();
    let update = Op::Update { key, value: stored, expected: revision };
    let commit = Commit { ops: with(update, reservation.ops), durability };
    match call.server.store.commit(commit).await {
        Ok(revision) => Ok(Outcome::Stored { value, revision }),
        Err(CommitError::Exists { .. } | CommitError::Conflict { .. }) => Ok(Outcome::Raced),
        Err(error) => Err(errors::of_commit(&error)),
    }
}

/// Who manages the fields after a write. Where nothing else changes, times stay as they are (upstream
/// `IgnoreManagedFieldsTimestampsTransformer`).
fn now_managed(current: &Current, managed: Managed, is_same: bool) -> Option<String> {
    match (managed, &current.managed) {
        (Managed::Kept, kept) => kept.clone(),
        (Managed::Now(Some(now)), Some(kept)) if is_same && managed::same_but_times(&now, kept) => {
            Some(kept.clone())
        }
        (Managed::Now(now), _) => now,
    }
}

async fn remove(
    call: &Call<'_>,
    current: &Current,
    last: &dyn Object,
    dry_run: bool,
) -> Result<Outcome, Status> {
    let value = Bytes::from(managed::join(&last.encode(), current.managed.as_deref()));
    let revision = current.entry.revision;
    if dry_run {
        return Ok(Outcome::Removed { value, revision });
    }
    let released = allocate::release(call.server, current.object.as_ref()).await?;
    let delete = Op::Delete { key: current.entry.key.clone(), expected: revision };
    let commit = Commit { ops: with(delete, released.ops), durability: Durability::Durable };
    match call.server.store.commit(commit).await {
        Ok(revision) => Ok(Outcome::Removed { value, revision }),
        Err(CommitError::Exists { .. } | CommitError::Conflict { .. }) => Ok(Outcome::Raced),
        Err(error) => Err(errors::of_commit(&error)),
    }
}

/// The object's own operation and those of what belongs to it.
fn with(own: Op, mut others: Vec<Op>) -> Vec<Op> {
    others.insert(0, own);
    others
}
