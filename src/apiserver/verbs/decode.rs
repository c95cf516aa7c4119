//! From the body of a request to a typed object: format, type, fields, in upstream's order and
//! words (apiserver pkg/endpoints/handlers/create.go and rest.go, v1.35).

use super::super::encoding::PROTOBUF_MEDIA_TYPE;
use super::super::query::FieldValidation;
use super::Call;
use super::ownership::Claim;
use crate::api::status::{Reason, Status};
use crate::api::{FieldError, FieldPath, Revision};
use crate::registry::managed;
use crate::registry::schema::protobuf::{self, Envelope, TypeMeta};
use crate::registry::schema::{
    self, Checked, DecodeError, Decoded, Format, StrictProblems, TypeRef,
};
use crate::registry::{Kind, Object};
use crate::stdx::hex;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

/// An object as a client submitted it.
#[derive(Debug)]
pub(super) struct Submitted {
    /// Without its `resourceVersion` and `managedFields`.
    pub(super) object: Box<dyn Object>,
    /// The revision that the client made it from, where it says so.
    pub(super) revision: Option<Revision>,
    /// What the client says of who manages it.
    pub(super) managed: Claim,
}

/// The media type of a request's body without its parameters. Absent means JSON.
pub(super) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if media_type.is_empty() { "application/json" } else { media_type }
}

/// How a request's body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Text(Format),
    Protobuf,
}

fn written(headers: &HeaderMap, has_protobuf: bool) -> Result<Written, Status> {
    match media_type(headers).to_ascii_lowercase().as_str() {
        "application/json" => Ok(Written::Text(Format::Json)),
        "application/yaml" | "application/x-yaml" | "text/yaml" => Ok(Written::Text(Format::Yaml)),
        PROTOBUF_MEDIA_TYPE if has_protobuf => Ok(Written::Protobuf),
        _ if !has_protobuf => Err(unsupported_media_type("application/json, application/yaml")),
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

/// A document of the type `of`, which is not the call's kind, such as delete options or a binding.
pub(super) fn document(
    call: &Call<'_>,
    of: TypeRef,
    validation: FieldValidation,
) -> Result<Value, Status> {
    let expected = TypeMeta::of(of);
    let version = expected.api_version.rsplit('/').next().unwrap_or_default();
    let refused = |why: &str| cannot_be(&expected.kind, version, why);
    let format = match written(call.headers, true)? {
        Written::Text(format) => format,
        Written::Protobuf => {
            let envelope = envelope(call)?;
            check_kind(&envelope.type_meta, &expected.kind)?;
            return protobuf::decode(of, envelope.raw).map_err(|error| refused(&error.to_string()));
        }
    };
    let mut decoded = schema::decode(&call.body, format).map_err(unreadable)?;
    if decoded.value.is_null() {
        decoded.value = json!({});
    }
    if !decoded.value.is_object() {
        return Err(Status::bad_request("the body of the request is not an object"));
    }
    let text = |field: &str| decoded.value[field].as_str().unwrap_or_default();
    let own = TypeMeta { api_version: text("apiVersion").into(), kind: text("kind").into() };
    check_kind(&own, &expected.kind)?;
    let checked = schema::check(of, &mut decoded.value);
    if let Some(mistyped) = checked.mistyped.first() {
        return Err(refused(&mistyped.message));
    }
    let problems = StrictProblems::of_document(Some(of), (&*call.body, format), &decoded, &checked);
    tell(call, validation, &problems, refused)?;
    Ok(decoded.value)
}

/// What says nothing of what it is, is what it has to be.
fn check_kind(own: &TypeMeta<'_>, expected: &str) -> Result<(), Status> {
    if own.kind.is_empty() || own.kind == expected {
        return Ok(());
    }
    let (kind, version) = (&own.kind, own.api_version.rsplit('/').next().unwrap_or_default());
    Err(Status::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {expected}"
    )))
}

/// Refuses, warns of or ignores what a strict decoder has against a body.
fn tell(
    call: &Call<'_>,
    validation: FieldValidation,
    problems: &StrictProblems,
    refused: impl Fn(&str) -> Status,
) -> Result<(), Status> {
    match validation {
        FieldValidation::Strict if !problems.is_empty() => {
            return Err(refused(&problems.to_string()));
        }
        FieldValidation::Warn => problems.warnings().for_each(|text| call.warn(text.to_owned())),
        FieldValidation::Strict | FieldValidation::Ignore => {}
    }
    Ok(())
}

fn envelope<'a>(call: &'a Call<'_>) -> Result<Envelope<'a>, Status> {
    Envelope::parse(&call.body).map_err(unreadable)
}

/// The call's object as the client wrote it, and what a strict decoder may have against it.
fn read(call: &Call<'_>) -> Result<(Decoded, Option<Format>), Status> {
    let kind = call.kind;
    let schema = kind.built_in_schema();
    if let Written::Text(format) = written(call.headers, schema.is_some())? {
        let decoded = schema::decode(&call.body, format);
        let mut decoded = decoded.map_err(|error| unrecognized(call, unreadable(error)))?;
        // Nothing is an object without fields.
        if decoded.value.is_null() {
            decoded.value = json!({});
        }
        if let Some(what) = no_object(&decoded.value) {
            let why = format!(
                "couldn't get version/kind; json parse error: json: cannot unmarshal {what} into \
                 Go value of type {TYPE_META}"
            );
            return Err(unrecognized(call, Status::bad_request(why)));
        }
        check_type(kind, &mut decoded.value)?;
        return Ok((decoded, Some(format)));
    }
    let envelope = envelope(call).map_err(|status| unrecognized(call, status))?;
    let Envelope { type_meta: TypeMeta { api_version, kind: name }, raw } = envelope;
    let mut type_meta = json!({"apiVersion": api_version, "kind": name});
    // Before the message is read: a field means nothing without its type.
    check_type(kind, &mut type_meta)?;
    let schema = schema.ok_or_else(|| unsupported_media_type("application/json"))?;
    let mut value =
        protobuf::decode(schema, raw).map_err(|error| cannot_handle(kind, &error.to_string()))?;
    for field in ["apiVersion", "kind"] {
        value[field] = type_meta[field].take();
    }
    Ok((Decoded { value, duplicates: Vec::new() }, None))
}

/// What upstream reads of a document before it knows its type (`SimpleMetaFactory`, apimachinery
/// pkg/runtime/serializer/json/meta.go).
const TYPE_META: &str = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;

/// What Go calls a value that is no object.
pub(super) fn no_object(value: &Value) -> Option<&'static str> {
    match value {
        Value::Object(_) => None,
        Value::Array(_) => Some("array"),
        Value::String(_) => Some("string"),
        Value::Bool(_) => Some("bool"),
        Value::Number(_) | Value::Null => Some("number"),
    }
}

fn unreadable(error: DecodeError) -> Status {
    let why = match &error {
        DecodeError::TooLarge | DecodeError::TooManyObjects | DecodeError::TooManyValues => {
            let why = format!("Request entity too large: {error}");
            return Status::new(Reason::RequestEntityTooLarge, why);
        }
        DecodeError::Json { problem } => {
            let problem = json_problem(&error).unwrap_or_else(|| problem.clone());
            format!("couldn't get version/kind; json parse error: {problem}")
        }
        DecodeError::Yaml { .. } => error.to_string(),
        DecodeError::Protobuf { problem, .. } => problem.clone(),
    };
    Status::bad_request(why)
}

/// What is wrong with a document of JSON: serde's words, but for what is most common.
pub(super) fn json_problem(error: &DecodeError) -> Option<String> {
    let DecodeError::Json { problem } = error else { return None };
    let is_cut = problem.starts_with("EOF while parsing");
    Some(if is_cut { "unexpected end of JSON input".to_owned() } else { problem.clone() })
}

/// A body that does not even say what it is of (upstream `transformDecodeError`).
fn unrecognized(call: &Call<'_>, status: Status) -> Status {
    if status.reason != Reason::BadRequest {
        return status;
    }
    let (kind, why) = (&call.kind.facts.kind, status.message);
    let summary = summary(&call.body);
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): {why} ({summary})"
    ))
}

/// The beginning of a body, for somebody who looks for what is wrong with it (upstream
/// `summarizeData`).
fn summary(body: &[u8]) -> String {
    const SHOWN_BYTES: usize = 30;
    let shown = &body[..body.len().min(SHOWN_BYTES)];
    let more = if body.len() > SHOWN_BYTES { " ..." } else { "" };
    match shown.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(shown)),
        Some(_) => {
            format!("{}{more}", hex(shown))
        }
    }
}

/// The object in the body of a create or update.
pub(super) fn object(call: &Call<'_>, validation: FieldValidation) -> Result<Submitted, Status> {
    let (mut decoded, format) = read(call)?;
    let checked = call.kind.check(&mut decoded.value);
    let object = typed(call.kind, decoded.value.take(), &checked)?;
    let problems = format.map_or_else(StrictProblems::default, |format| {
        let document = (&*call.body, format);
        StrictProblems::of_document(call.kind.built_in_schema(), document, &decoded, &checked)
    });
    tell(call, validation, &problems, |why| cannot_handle(call.kind, why))?;
    submitted(call.kind, object)
}

/// What a patch made, and how to tell what is wrong with it.
pub(super) trait Patched {
    /// What a strict decoder has against it.
    fn problems(&self, checked: &Checked) -> StrictProblems;

    /// What is shown of it where it is none of its type.
    fn told(&self) -> String;

    /// What upstream's decoder for this sort of patch says of the first value of a wrong type, where
    /// it is not what its decoder of JSON says.
    fn in_its_words(&self, of: TypeRef, value: &Value) -> Option<String>;
}

/// The object that a patch made.
pub(super) fn patched(
    call: &Call<'_>,
    mut value: Value,
    patched: &dyn Patched,
    validation: FieldValidation,
) -> Result<Submitted, Status> {
    check_type(call.kind, &mut value).map_err(|status| unfit(patched, &status.message))?;
    let checked = call.kind.check(&mut value);
    weigh(call, (call.kind.built_in_schema(), &value), (&checked, patched), validation)?;
    submitted(call.kind, typed(call.kind, value, &checked)?)
}

/// The document of the type `of`, which is not the call's kind, such as a scale, that a patch made.
pub(super) fn patched_document(
    call: &Call<'_>,
    of: TypeRef,
    mut value: Value,
    patched: &dyn Patched,
    validation: FieldValidation,
) -> Result<Value, Status> {
    let text = |field: &str| value[field].as_str().unwrap_or_default();
    let own = TypeMeta { api_version: text("apiVersion").into(), kind: text("kind").into() };
    let expected = TypeMeta::of(of);
    check_kind(&own, &expected.kind).map_err(|status| unfit(patched, &status.message))?;
    let checked = schema::check(of, &mut value);
    weigh(call, (Some(of), &value), (&checked, patched), validation)?;
    Ok(value)
}

/// Refuses what a patch made where it is none of its type, or strictly is none.
fn weigh(
    call: &Call<'_>,
    (of, value): (Option<TypeRef>, &Value),
    (checked, patched): (&Checked, &dyn Patched),
    validation: FieldValidation,
) -> Result<(), Status> {
    if let Some(mistyped) = checked.mistyped.first() {
        let words = of.and_then(|of| patched.in_its_words(of, value));
        return Err(unfit(patched, words.as_ref().unwrap_or(&mistyped.message)));
    }
    if validation == FieldValidation::Ignore {
        return Ok(());
    }
    let problems = patched.problems(checked);
    tell(call, validation, &problems, |why| unfit(patched, why))
}

/// The patch could be read, but not what it makes of the object.
fn unfit(patched: &dyn Patched, why: &str) -> Status {
    let error = FieldError::invalid(&FieldPath::new("patch"), patched.told(), why);
    Status::invalid("", "", "", &[error])
}

/// The object that an applied configuration makes of the live one.
pub(super) fn merged(call: &Call<'_>, mut value: Value) -> Result<Submitted, Status> {
    let subject = managed::subject(&value);
    let checked = call.kind.check(&mut value);
    if let Some(mistyped) = checked.mistyped.first() {
        let version = call.kind.facts.api_version();
        return Err(Status::new(
            Reason::Unknown,
            format!(
                "failed to convert new object ({subject}) to proper version ({version}): {}",
                mistyped.message
            ),
        ));
    }
    submitted(call.kind, typed(call.kind, value, &checked)?)
}

/// Upstream hears of what is strictly wrong only when all values have their types
/// (`Serializer.Decode`, apimachinery pkg/runtime/serializer/json).
fn typed(kind: &Kind, value: Value, checked: &Checked) -> Result<Box<dyn Object>, Status> {
    if let Some(mistyped) = checked.mistyped.first() {
        return Err(cannot_handle(kind, &mistyped.message));
    }
    if checked.bytes > schema::OBJECT_BYTES_MAX {
        let why = format!(
            "Request entity too large: the object takes more than {} bytes of memory",
            schema::OBJECT_BYTES_MAX
        );
        return Err(Status::new(Reason::RequestEntityTooLarge, why));
    }
    kind.decode(value).map_err(|error| cannot_handle(kind, &error.to_string()))
}

fn submitted(kind: &Kind, mut object: Box<dyn Object>) -> Result<Submitted, Status> {
    let revision = parse_revision(kind, object.metadata_mut().resource_version.take())?;
    let managed = Claim::take(object.as_mut());
    Ok(Submitted { object, revision, managed })
}

fn cannot_handle(kind: &Kind, why: &str) -> Status {
    cannot_be(&kind.facts.kind, &kind.facts.version, why)
}

fn cannot_be(kind: &str, version: &str, why: &str) -> Status {
    Status::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
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
