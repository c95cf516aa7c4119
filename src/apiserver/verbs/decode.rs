//! From the body of a request to a typed object: format, type, fields, in upstream's order and
//! words (apiserver pkg/endpoints/handlers/create.go and rest.go, v1.35).

use super::super::encoding::protobuf::{Envelope, ProtobufError};
use super::super::query::FieldValidation;
use super::Call;
use crate::api::status::{Reason, Status};
use crate::api::{FieldError, FieldPath, Revision};
use crate::registry::schema::{
    self, Checked, DecodeError, Decoded, Format, StrictProblems, TypeRef,
};
use crate::registry::{Kind, Object};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

/// An object as a client submitted it.
#[derive(Debug)]
pub(super) struct Submitted {
    /// Without its `resourceVersion`.
    pub(super) object: Box<dyn Object>,
    /// The revision that the client made it from, where it says so.
    pub(super) revision: Option<Revision>,
}

/// The media type of a request's body without its parameters. Absent means JSON.
pub(super) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if media_type.is_empty() { "application/json" } else { media_type }
}

/// How a request's body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Text(Format),
    Protobuf,
}

fn encoding_of(headers: &HeaderMap) -> Result<Encoding, Status> {
    match media_type(headers) {
        "application/json" => Ok(Encoding::Text(Format::Json)),
        "application/yaml" | "application/x-yaml" | "text/yaml" => Ok(Encoding::Text(Format::Yaml)),
        "application/vnd.kubernetes.protobuf" => Ok(Encoding::Protobuf),
        _ => Err(unsupported_media_type(
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

pub(super) fn unsupported_media_type(supported: &str) -> Status {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: \
         {supported}"
    );
    Status::new(Reason::UnsupportedMediaType, message)
}

/// A document that is not an object of the call's kind, such as delete options or a binding: of
/// the type `of`.
pub(super) fn document(call: &Call<'_>, of: TypeRef) -> Result<Value, Status> {
    let value = match encoding_of(call.headers)? {
        Encoding::Text(format) => schema::decode(&call.body, format).map_err(unreadable)?.value,
        Encoding::Protobuf => {
            let decoded = Envelope::open(&call.body).and_then(|envelope| envelope.decode(of));
            decoded.map_err(unreadable_message)?
        }
    };
    if value.is_object() {
        return Ok(value);
    }
    Err(Status::bad_request("the body of the request is not an object"))
}

/// An object of the call's kind in protobuf, whose messages tell nothing of their type.
fn message(call: &Call<'_>) -> Result<Value, Status> {
    let envelope = Envelope::open(&call.body).map_err(unreadable_message)?;
    check_type(call.kind, &mut json!({"apiVersion": envelope.api_version, "kind": envelope.kind}))?;
    envelope.decode(call.kind.schema).map_err(unreadable_message)
}

fn unreadable_message(error: ProtobufError) -> Status {
    Status::bad_request(error.to_string())
}

fn unreadable(error: DecodeError) -> Status {
    match error {
        DecodeError::TooLarge => {
            Status::new(Reason::RequestEntityTooLarge, format!("Request entity too large: {error}"))
        }
        DecodeError::Json { .. } | DecodeError::Yaml { .. } => {
            Status::bad_request(format!("couldn't get version/kind; parse error: {error}"))
        }
    }
}

/// The object in the body of a create or update.
pub(super) fn object(call: &Call<'_>, validation: FieldValidation) -> Result<Submitted, Status> {
    let encoding = encoding_of(call.headers)?;
    let mut decoded = match encoding {
        Encoding::Text(format) => schema::decode(&call.body, format).map_err(unreadable)?,
        Encoding::Protobuf => Decoded { value: message(call)?, duplicates: Vec::new() },
    };
    check_type(call.kind, &mut decoded.value)?;
    let checked = schema::check(call.kind.schema, &mut decoded.value);
    let problems = match encoding {
        Encoding::Text(format) => {
            let text = (&call.body[..], format);
            StrictProblems::of_document(call.kind.schema, text, &decoded, &checked)
        }
        // What a message has beyond its type has no name to tell.
        Encoding::Protobuf => StrictProblems::default(),
    };
    match validation {
        FieldValidation::Strict if !problems.is_empty() => {
            return Err(cannot_handle(call.kind, &problems.to_string()));
        }
        FieldValidation::Warn => problems.warnings().for_each(|text| call.warn(text.to_owned())),
        FieldValidation::Strict | FieldValidation::Ignore => {}
    }
    typed(call.kind, decoded.value, &checked)
}

/// The object that a patch made. `problems` tells what a strict decoder has against it.
pub(super) fn patched(
    call: &Call<'_>,
    mut value: Value,
    problems: impl FnOnce(&Checked) -> StrictProblems,
    validation: FieldValidation,
) -> Result<Submitted, Status> {
    check_type(call.kind, &mut value)?;
    let checked = schema::check(call.kind.schema, &mut value);
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => {
            problems(&checked).warnings().for_each(|text| call.warn(text.to_owned()));
        }
        FieldValidation::Strict => {
            let problems = problems(&checked);
            if !problems.is_empty() {
                let patch = String::from_utf8_lossy(&call.body).into_owned();
                let path = FieldPath::new("patch");
                let error = FieldError::invalid(&path, patch, problems.to_string());
                return Err(Status::invalid("", "", "", &[error]));
            }
        }
    }
    typed(call.kind, value, &checked)
}

fn typed(kind: &Kind, value: Value, checked: &Checked) -> Result<Submitted, Status> {
    if let Some(mistyped) = checked.mistyped.first() {
        return Err(cannot_handle(kind, &mistyped.message));
    }
    let decoded = (kind.decode)(value);
    let mut object = decoded.map_err(|error| cannot_handle(kind, &error.to_string()))?;
    let revision = parse_revision(kind, object.metadata_mut().resource_version.take())?;
    Ok(Submitted { object, revision })
}

fn cannot_handle(kind: &Kind, why: &str) -> Status {
    let facts = &kind.facts;
    Status::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: {why}",
        facts.kind, facts.version, facts.kind
    ))
}

/// The type in the data must be the one of the path; data without one is taken to be of it.
fn check_type(kind: &Kind, value: &mut Value) -> Result<(), Status> {
    if !value.is_object() {
        return Err(Status::bad_request("the body of the request is not an object"));
    }
    let facts = &kind.facts;
    let expected = facts.api_version();
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let (version, name) = (text("apiVersion"), text("kind"));
    if !name.is_empty() && name != facts.kind {
        let version = version.rsplit('/').next().unwrap_or_default();
        return Err(Status::bad_request(format!(
            "{name} in version {version:?} cannot be handled as a {}",
            facts.kind
        )));
    }
    if !version.is_empty() && version != expected {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version \
             ({expected})"
        )));
    }
    value["apiVersion"] = json!(expected);
    value["kind"] = json!(facts.kind);
    Ok(())
}

fn parse_revision(kind: &Kind, text: Option<String>) -> Result<Option<Revision>, Status> {
    let Some(text) = text.filter(|text| !text.is_empty() && text != "0") else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|error| {
        let path = FieldPath::new("metadata").child("resourceVersion");
        let error = FieldError::invalid(&path, text, format!("must be a number: {error}"));
        Status::invalid(&kind.facts.group, &kind.facts.kind, "", &[error])
    })
}
