//! Patch: JSON patch, merge patch and strategic merge patch, made of what is stored and then written
//! as an update (upstream apiserver pkg/endpoints/handlers/patch.go, v1.35).

use super::super::config::PATCH_ATTEMPTS_MAX;
use super::super::encoding::splice;
use super::super::query::{Patching, WriteOptions};
use super::decode::{self, Submitted};
use super::store::{self, Current, Outcome};
use super::update::{Part, modified, revise};
use super::{Call, apply};
use crate::api::status::{Reason, Status};
use crate::registry::schema::{self, Checked, Decoded, Format, StrictProblems, TypeRef};
use crate::stdx::http::Response;
use http::StatusCode;
use serde_json::Value;

/// A patch, read as far as it can be without the object.
#[derive(Debug)]
enum Patch {
    Json(Value),
    Merge(Decoded),
    Strategic(Decoded),
}

pub(super) async fn patch(call: &Call<'_>, part: Part) -> Result<Response, Status> {
    if is_apply(call) {
        return apply::apply(call, part).await;
    }
    let options = WriteOptions::of_patch(call.query, Patching::Other)?;
    let patch = parse(call)?;
    let key = call.key()?;
    for _ in 0..PATCH_ATTEMPTS_MAX {
        let current = call.server.current(call.kind, &key).await?;
        let document = patched(call, &patch, &current)?;
        let problems = |checked: &Checked| patch.problems(&call.body, checked);
        let submitted = decode::patched(call, document, problems, options.field_validation)?;
        check_identity(call, &submitted, &current)?;
        let next = revise(call, &current, submitted, part).await?;
        match store::settle(call, &current, next, options.dry_run).await? {
            Outcome::Stored { value, revision } | Outcome::Removed { value, revision } => {
                return call.respond(StatusCode::OK, &value, revision);
            }
            Outcome::Raced => {}
        }
    }
    Err(modified(call, &key))
}

fn parse(call: &Call<'_>) -> Result<Patch, Status> {
    let read = || {
        schema::decode(&call.body, Format::Json)
            .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))
    };
    match decode::media_type(call.headers) {
        "application/json-patch+json" => Ok(Patch::Json(read()?.value)),
        "application/merge-patch+json" => Ok(Patch::Merge(read()?)),
        "application/strategic-merge-patch+json" => Ok(Patch::Strategic(read()?)),
        _ => Err(decode::unsupported_media_type(SUPPORTED)),
    }
}

impl Patch {
    fn problems(&self, body: &[u8], checked: &Checked) -> StrictProblems {
        match self {
            Self::Json(_) => StrictProblems::of_json_patch(body, checked),
            Self::Merge(patch) | Self::Strategic(patch) => StrictProblems::of_patch(patch, checked),
        }
    }
}

const SUPPORTED: &str = "application/json-patch+json, application/merge-patch+json, \
                         application/strategic-merge-patch+json, application/apply-patch+yaml";

/// Whether the patch is a configuration to apply.
pub(super) fn is_apply(call: &Call<'_>) -> bool {
    decode::media_type(call.headers) == "application/apply-patch+yaml"
}

/// Of custom resources no lists are known by their merge keys.
const SUPPORTED_OF_CUSTOM: &str = "application/json-patch+json, application/merge-patch+json, \
                                   application/apply-patch+yaml";

/// The object that the patch makes of what is stored, which the client sees with its revision. Who
/// manages the fields is read only for those who speak of it.
fn patched(call: &Call<'_>, patch: &Patch, current: &Current) -> Result<Value, Status> {
    let mentions = |name: &[u8]| call.body.windows(name.len()).any(|part| part == name);
    let stored = if mentions(b"managedFields") { &current.entry.value } else { &current.bare };
    let shown = splice::with_revision(stored, current.entry.revision);
    let document: Value = serde_json::from_slice(&shown).map_err(Status::internal)?;
    apply_to(call.kind.built_in_schema(), patch, document)
}

/// What the call's patch makes of a document that is shown for an object, such as a scale. Its
/// lists have no merge keys, so that a strategic patch is a merge patch.
pub(super) fn apply_document(call: &Call<'_>, document: Value) -> Result<Value, Status> {
    let patch = match parse(call)? {
        Patch::Strategic(patch) => Patch::Merge(patch),
        other => other,
    };
    apply_to(call.kind.built_in_schema(), &patch, document)
}

fn apply_to(of: Option<TypeRef>, patch: &Patch, document: Value) -> Result<Value, Status> {
    let applied = match patch {
        Patch::Json(patch) => schema::patch::json_patch(document, patch.clone()),
        Patch::Merge(patch) => schema::patch::merge_patch(document, &patch.value),
        Patch::Strategic(patch) => {
            let of = of.ok_or_else(|| decode::unsupported_media_type(SUPPORTED_OF_CUSTOM))?;
            schema::patch::strategic_merge_patch(of, document, patch.value.clone())
        }
    };
    let document = applied.map_err(|error| error.to_status())?;
    if document.is_object() {
        return Ok(document);
    }
    Err(Status::new(Reason::Invalid, "the patch makes something that is not an object"))
}

/// A patch does not rename.
pub(super) fn check_identity(
    call: &Call<'_>,
    submitted: &Submitted,
    current: &Current,
) -> Result<(), Status> {
    let (new, old) = (submitted.object.metadata(), current.object.metadata());
    if new.name != old.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            new.name.as_deref().unwrap_or_default(),
            call.name.unwrap_or_default()
        )));
    }
    if new.namespace != old.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}
