//! What the store's refusals mean to a client.

use super::config::RETRY_AFTER_SECONDS;
use crate::api::status::{Cause, Reason, Status, Subject};
use crate::api::{ObjectKey, Revision};
use crate::registry::Kind;
use crate::stdx::chain;
use crate::storage::{CommitError, ReadError, WatchError};
use tracing::error;

/// 507, of which the `http` crate and upstream's reasons know nothing more specific than "internal".
const INSUFFICIENT_STORAGE: u16 = 507;

/// What an update says that was made from an object that is no longer the newest (upstream
/// `OptimisticLockErrorMsg`).
pub(super) const MODIFIED: &str = "the object has been modified; please apply your changes to the \
                                   latest version and try again";

/// The object of a kind that an answer is about.
pub(super) fn subject<'a>(kind: &'a Kind, name: &'a str) -> Subject<'a> {
    Subject { group: &kind.facts.group, resource: &kind.facts.plural, name }
}

pub(super) fn not_found(kind: &Kind, key: &ObjectKey) -> Status {
    Status::not_found(subject(kind, &key.name))
}

/// A list at a revision that is not kept.
pub(super) fn of_read(error: &ReadError) -> Status {
    match error {
        ReadError::Compacted { .. } => {
            Status::expired("The resourceVersion for the provided list is too old.")
        }
        ReadError::Future { requested, newest } => too_large_revision(*requested, *newest),
        ReadError::Unavailable(_) => unavailable("read", error),
    }
}

/// A revision that has not happened yet (upstream `NewTooLargeResourceVersionError`).
pub(super) fn too_large_revision(requested: Revision, newest: Revision) -> Status {
    let message = format!("Timeout: Too large resource version: {requested}, current: {newest}");
    let mut status = Status::new(Reason::Timeout, message);
    status.details.causes = vec![Cause {
        reason: "ResourceVersionTooLarge".to_owned(),
        message: "Too large resource version".to_owned(),
        field: String::new(),
    }];
    status
}

/// A watch that cannot start or go on.
pub(super) fn of_watch(error: &WatchError) -> Status {
    match error {
        WatchError::Compacted { requested, oldest } => {
            Status::expired(format!("too old resource version: {requested} ({oldest})"))
        }
        WatchError::Lagging { backlog_max } => Status::expired(format!(
            "the watch fell more than {backlog_max} events behind; list again"
        )),
        WatchError::Closed => {
            Status::new(Reason::ServiceUnavailable, "the server is shutting down")
        }
        WatchError::Unavailable(_) => unavailable("watched", error),
    }
}

/// A commit that did not happen for a reason that is not the client's. The refusals that are
/// (`Exists`, `Conflict`) are the verbs' own; whatever of them is left here is a race that was lost
/// too often.
pub(super) fn of_commit(error: &CommitError) -> Status {
    match error {
        CommitError::Full => {
            let message = "StorageFull: the disk that holds the store is full, nothing was \
                           written; free space there and try again (reads go on meanwhile)";
            Status { code: INSUFFICIENT_STORAGE, ..Status::new(Reason::InternalError, message) }
        }
        CommitError::TooLarge(what) => {
            let message = format!("Request entity too large: {what}");
            Status::new(Reason::RequestEntityTooLarge, message)
        }
        CommitError::Exists { .. } | CommitError::Conflict { .. } => {
            let mut status = Status::new(Reason::Conflict, format!("{MODIFIED}: {error}"));
            status.details.retry_after_seconds = Some(RETRY_AFTER_SECONDS);
            status
        }
        CommitError::Unavailable(_) => unavailable("written", error),
    }
}

fn unavailable(done: &str, error: &dyn std::error::Error) -> Status {
    error!(error = chain(error), "the store cannot be {done}");
    Status::internal(chain(error))
}
