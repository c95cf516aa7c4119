//! Answers in protobuf: the JSON that another client would get, translated by the schema table.

use super::accept::{Accepted, Form, Language, PROTOBUF_MEDIA_TYPE};
use super::lists::{ListHead, take_turns};
use super::{json_response, partial, pretty, splice};
use crate::api::Status;
use crate::registry::Kind;
use crate::registry::schema::protobuf::{self, ListEncoder, TypeMeta};
use crate::registry::schema::{TypeRef, types};
use crate::stdx::http::{Response, full};
use crate::storage::Entry;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use std::borrow::Cow;

pub(super) const PROTOBUF: HeaderValue = HeaderValue::from_static(PROTOBUF_MEDIA_TYPE);

/// What is stored has been checked by its type before, so that this never happens.
fn untranslatable(error: serde_json::Error) -> Status {
    Status::internal(format_args!("the object has no protobuf form: {error}"))
}

/// What is asked in protobuf has been found to be offered before, so that this never happens.
fn no_message() -> Status {
    Status::internal("the kind has no protobuf form")
}

/// The type of what a client sees of an object, and what it calls itself. Custom resources have
/// none: they are not offered in protobuf, but for their metadata.
pub(crate) fn shown_as(kind: &Kind, form: Form) -> Option<(TypeRef, TypeMeta<'static>)> {
    match form {
        Form::Object | Form::Table(_) => {
            let schema = kind.built_in_schema()?;
            Some((schema, TypeMeta::of(schema)))
        }
        Form::Partial(version) => {
            let type_meta = TypeMeta {
                api_version: Cow::Borrowed(version.api_version()),
                kind: Cow::Borrowed("PartialObjectMetadata"),
            };
            Some((types::PARTIAL_OBJECT_METADATA, type_meta))
        }
    }
}

pub(super) fn response(code: StatusCode, message: Vec<u8>) -> Response {
    let mut response = Response::new(full(message));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, PROTOBUF);
    response
}

pub(super) fn of_status(json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    protobuf::encode(types::STATUS, &TypeMeta::of(types::STATUS), json)
}

/// An object, which is here as JSON, in the language that the client takes.
pub(crate) fn document_response(
    code: StatusCode,
    accepted: Accepted,
    shown: Option<(TypeRef, &TypeMeta<'_>)>,
    json: Vec<u8>,
) -> Result<Response, Status> {
    match accepted.language {
        Language::Json if accepted.pretty => Ok(json_response(code, pretty(&json))),
        Language::Json => Ok(json_response(code, json)),
        Language::Yaml => super::yaml::response(code, &json),
        Language::Protobuf => {
            let (of, type_meta) = shown.ok_or_else(no_message)?;
            let message = protobuf::encode(of, type_meta, &json).map_err(untranslatable)?;
            Ok(response(code, message))
        }
    }
}

/// A list. Its length is the first thing that a client reads of it, so that it is written whole;
/// what is stored of each entry is let go as soon as it is translated.
pub(crate) async fn list_response(
    kind: &Kind,
    entries: Vec<Entry>,
    head: &ListHead,
    form: Form,
) -> Result<Response, Status> {
    let (of, mut type_meta) = shown_as(kind, form).ok_or_else(no_message)?;
    type_meta.kind.to_mut().push_str("List");
    let mut json = Vec::new();
    head.push(&mut json);
    let mut list = ListEncoder::new(of, &type_meta, &json).map_err(untranslatable)?;
    for (index, Entry { value, revision, .. }) in entries.into_iter().enumerate() {
        take_turns(index).await;
        json.clear();
        match form {
            Form::Partial(version) => partial::push(&mut json, &value, revision, version)?,
            Form::Object | Form::Table(_) => {
                splice::push_with_revision(&mut json, &value, revision)
            }
        }
        list.push(&json).map_err(untranslatable)?;
    }
    Ok(response(StatusCode::OK, list.finish()))
}

/// Appends an event of a watch. An object that cannot be translated becomes an `ERROR`.
pub(crate) fn push_watch_frame(
    out: &mut Vec<u8>,
    event: &str,
    shown: Option<(TypeRef, &TypeMeta<'_>)>,
    json: &[u8],
) {
    let pushed = match shown {
        None => Err(no_message()),
        Some(shown) => protobuf::push_watch_frame(out, event, shown, json).map_err(untranslatable),
    };
    let Err(status) = pushed else { return };
    let status = status.to_json();
    let type_meta = TypeMeta::of(types::STATUS);
    protobuf::push_watch_frame(out, "ERROR", (types::STATUS, &type_meta), &status)
        .expect("a status is a Status");
}
