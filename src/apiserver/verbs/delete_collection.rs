//! Deletecollection: a delete of everything that a list would show, several side by side. The answer
//! is that list (upstream `Store.DeleteCollection`, apiserver pkg/registry/generic/registry/store.go,
//! v1.35).

use super::super::config::{DELETE_PAGE_OBJECTS, DELETES_SIDE_BY_SIDE};
use super::super::selection::Selection;
use super::super::{errors, keys};
use super::Call;
use super::delete::{DeleteOptions, delete_object};
use super::list::{self, ListOptions};
use super::store::Outcome;
use crate::api::status::{Reason, Status};
use crate::stdx::http::Response;
use crate::storage::Entry;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

pub(super) async fn delete_collection(call: &Call<'_>) -> Result<Response, Status> {
    let options = DeleteOptions::parse(call)?;
    if options.uid.is_some() || options.revision.is_some() {
        return Err(Status::bad_request("preconditions cannot be used with a collection"));
    }
    let selection = Selection::parse(call.kind, (call.namespace, None), call.query)?;
    let mut list = ListOptions::parse(call.query, &selection)?;
    // Whoever asks for one page has one page deleted.
    let wants_all = list.limit.is_none();
    list.limit = list.limit.or(Some(DELETE_PAGE_OBJECTS));
    let mut deleted = list::read(call, &selection, &list).await?;
    delete_page(call, &deleted.entries, &options).await?;
    while wants_all && let Some(last) = deleted.next.take() {
        let next = ListOptions::after(last, Some(DELETE_PAGE_OBJECTS));
        let page = list::read(call, &selection, &next).await?;
        delete_page(call, &page.entries, &options).await?;
        deleted.entries.extend(page.entries);
        deleted.next = page.next;
        deleted.remaining = page.remaining;
    }
    list::respond(call, &selection, deleted).await
}

async fn delete_page(
    call: &Call<'_>,
    entries: &[Entry],
    options: &DeleteOptions,
) -> Result<(), Status> {
    let mut deletes = Vec::with_capacity(entries.len());
    for entry in entries {
        deletes.push(delete_one(call, entry, options));
    }
    stream::iter(deletes).buffer_unordered(DELETES_SIDE_BY_SIDE).try_collect::<()>().await
}

/// Somebody else may have deleted it meanwhile, which is as good.
async fn delete_one(call: &Call<'_>, entry: &Entry, options: &DeleteOptions) -> Result<(), Status> {
    let key = keys::object_key(call.kind, &entry.key);
    match delete_object(call, &key, options).await {
        Ok(Outcome::Raced) => {
            Err(Status::conflict(errors::subject(call.kind, &key.name), errors::MODIFIED))
        }
        Ok(_) => Ok(()),
        Err(status) if status.reason == Reason::NotFound => Ok(()),
        Err(status) => Err(status),
    }
}
