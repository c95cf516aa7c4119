//! Deletecollection: a delete of everything that a list would show, several side by side.

use super::super::config::{DELETE_PAGE_OBJECTS, DELETES_SIDE_BY_SIDE};
use super::super::selection::Selection;
use super::super::{errors, keys};
use super::Call;
use super::delete::{DeleteOptions, delete_object};
use super::list::selected_page;
use crate::api::status::{Reason, Status};
use crate::registry::schema::types;
use crate::stdx::http::Response;
use crate::storage::{Entry, Key};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::StatusCode;
use serde_json::json;

pub(super) async fn delete_collection(call: &Call<'_>) -> Result<Response, Status> {
    let options = DeleteOptions::parse(call)?;
    if options.uid.is_some() || options.revision.is_some() {
        return Err(Status::bad_request("preconditions cannot be used with a collection"));
    }
    let selection = Selection::parse(call.kind, call.namespace, call.query)?;
    let mut after: Option<Key> = None;
    loop {
        let page = selected_page(call, &selection, after, DELETE_PAGE_OBJECTS).await?;
        delete_page(call, &page.entries, &options).await?;
        match page.next {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    let facts = &call.kind.facts;
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"group": facts.group, "kind": facts.plural},
    });
    call.respond_with(StatusCode::OK, types::STATUS, body.to_string().into_bytes())
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
        Ok(super::store::Outcome::Raced) => {
            Err(Status::conflict(errors::subject(call.kind, &key.name), errors::MODIFIED))
        }
        Ok(_) => Ok(()),
        Err(status) if status.reason == Reason::NotFound => Ok(()),
        Err(status) => Err(status),
    }
}
