//! The seam between stored bytes and what goes over the wire.
//!
//! Start at [`Form`]: what the client wants to see. Objects in their own form are never decoded:
//! [`splice`] puts the revision into the stored bytes. Tables and metadata alone are rendered here.
//! All of that is JSON; a client that asks for protobuf or YAML gets the same, translated last
//! ([`protobuf`], [`yaml`]).

mod accept;
mod gzip;
mod indent;
mod lists;
mod partial;
mod protobuf;
pub(super) mod splice;
mod table;
mod yaml;

pub(super) use accept::{Accepted, Form, Language, Offers, PROTOBUF_MEDIA_TYPE, negotiate};
pub(super) use gzip::compress;
pub(super) use indent::pretty;
pub(super) use lists::{ListBody, ListHead, take_turns};
pub(super) use partial::object as partial_object;
pub(super) use protobuf::{document_response, list_response, push_watch_frame, shown_as};
pub(super) use table::{TableWriter, bookmark_table};
pub(super) use yaml::response as yaml_response;

use crate::api::{Revision, Status};
use crate::registry::Kind;
use crate::stdx::http::{Response, full};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What a watch in protobuf is called; one in JSON has no name of its own.
pub(super) const PROTOBUF_WATCH: HeaderValue =
    HeaderValue::from_static("application/vnd.kubernetes.protobuf;stream=watch");

/// One stored object as the client wants to see it.
pub(super) fn render(
    kind: &Kind,
    stored: &[u8],
    revision: Revision,
    form: &Form,
    now: Timestamp,
) -> Result<Vec<u8>, Status> {
    match form {
        Form::Object => Ok(splice::with_revision(stored, revision)),
        Form::Partial(version) => partial::object(stored, revision, *version),
        Form::Table(table) => {
            let mut writer = TableWriter::new(kind, *table, now);
            writer.push(stored, revision)?;
            Ok(writer.finish(&lists::ListHead::of(revision)))
        }
    }
}

/// A JSON response.
pub(super) fn json_response(code: StatusCode, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(full(body));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// A `Status` that says no, in the language that the request's headers ask for.
pub(super) fn status_response(status: &Status, asked: &HeaderMap) -> Response {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = status.to_json();
    let translated = match accept::language(asked) {
        Language::Json => None,
        Language::Yaml => yaml::response(code, &json).ok(),
        Language::Protobuf => {
            protobuf::of_status(&json).ok().map(|message| protobuf::response(code, message))
        }
    };
    let mut response = translated.unwrap_or_else(|| json_response(code, json));
    if let Some(seconds) = status.details.retry_after_seconds {
        response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
