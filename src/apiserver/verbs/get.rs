//! One object: its stored bytes with the revision put in.

use super::super::errors;
use super::Call;
use crate::api::Status;
use crate::stdx::http::Response;
use http::StatusCode;

pub(super) async fn get(call: &Call<'_>) -> Result<Response, Status> {
    let key = call.key()?;
    if call.query.flag("export") {
        let why = "the export parameter, deprecated since v1.14, is no longer supported";
        return Err(Status::bad_request(why));
    }
    // Any revision that has happened will do: what is read is the newest.
    let wanted = call.query.revision();
    let wanted = wanted.map_err(|error| Status::bad_request(error.to_string()))?;
    call.server.reach(wanted.unwrap_or_default()).await?;
    let entry = call.server.find(call.kind, &key).await?;
    let entry = entry.ok_or_else(|| errors::not_found(call.kind, &key))?;
    call.respond(StatusCode::OK, &entry.value, entry.revision)
}
