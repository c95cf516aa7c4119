//! Reading one object, and writing what a verb has decided.

use super::super::allocate::{self, Reservation};
use super::super::server::Server;
use super::super::{errors, keys};
use super::Call;
use crate::api::{ObjectKey, Revision, Status};
use crate::registry::{Kind, Object};
use crate::storage::{Commit, CommitError, Durability, Entry, Op};
use bytes::Bytes;

/// An object as it is in the store.
#[derive(Debug)]
pub(in super::super) struct Current {
    /// As the version of the kind shows it.
    pub(in super::super) entry: Entry,
    /// The bytes in the store.
    stored: Bytes,
    pub(in super::super) object: Box<dyn Object>,
}

/// What is to become of an object.
#[derive(Debug)]
pub(super) enum Next {
    /// With what was reserved for it.
    Write(Box<dyn Object>, Reservation),
    /// Removes it; what it was at the end is shown to the client.
    Remove(Box<dyn Object>),
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
        let object = kind.decode_stored(&entry.value).map_err(Status::internal)?;
        Ok(Some(Current { entry, stored, object }))
    }
}

/// Stores a new object, and in the same commit what comes with it. `Raced` when an allocation that belongs to it was taken meanwhile, or what
/// it was admitted on has changed.
pub(super) async fn insert(
    call: &Call<'_>,
    key: &ObjectKey,
    object: &dyn Object,
    others: Vec<Op>,
    dry_run: bool,
) -> Result<Outcome, Status> {
    let value = object.encode();
    let store = &call.server.store;
    let storage_key = keys::of(call.kind, key);
    if dry_run {
        let found = call.server.find(call.kind, key).await?;
        return match found {
            Some(_) => Err(exists(call, key).await),
            None => Ok(Outcome::Stored { value, revision: store.revision() }),
        };
    }
    let stored = call.server.to_store(call.kind, value.clone()).await?;
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
        Next::Write(object, reservation) => {
            replace(call, current, (object.as_ref(), reservation), dry_run).await
        }
        Next::Remove(last) => remove(call, current, last.as_ref(), dry_run).await,
    }
}

async fn replace(
    call: &Call<'_>,
    current: &Current,
    (object, reservation): (&dyn Object, Reservation),
    dry_run: bool,
) -> Result<Outcome, Status> {
    let old = current.object.as_ref();
    let (value, revision) = (object.encode(), current.entry.revision);
    let stored = call.server.to_store(call.kind, value.clone()).await?;
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

async fn remove(
    call: &Call<'_>,
    current: &Current,
    last: &dyn Object,
    dry_run: bool,
) -> Result<Outcome, Status> {
    let (value, revision) = (last.encode(), current.entry.revision);
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
