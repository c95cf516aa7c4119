//! Patch: JSON patch, merge patch and strategic merge patch, made of what is stored and then written
//! as an update (upstream apiserver pkg/endpoints/handlers/patch.go, v1.35).

use super::super::config::PATCH_ATTEMPTS_MAX;
use super::super::encoding::splice;
use super::super::query::{self, FieldValidation, WriteOptions};
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
    let options = WriteOptions::of_patch(call.query, query::Patching::Other)?;
    let patch = parse(call)?;
    let key = call.key()?;
    for _ in 0..PATCH_ATTEMPTS_MAX {
        let current = call.server.current(call.kind, &key).await?;
        let submitted = submitted(call, &patch, &current, options.field_validation)?;
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
    const PREFIX: &str = "error decoding patch: ";
    match decode::media_type(call.headers) {
        "application/json-patch+json" => {
            let patch = read(call, PREFIX)?.value;
            let is_one = patch.is_array();
            expect(is_one, &patch, PREFIX, "[]handlers.jsonPatchOp")?;
            Ok(Patch::Json(patch))
        }
        "application/merge-patch+json" => {
            let patch = read(call, PREFIX)?;
            expect(patch.value.is_object(), &patch.value, PREFIX, "map[string]interface {}")?;
            Ok(Patch::Merge(patch))
        }
        "application/strategic-merge-patch+json" => {
            let patch = read(call, "")?;
            expect(patch.value.is_object(), &patch.value, "", "map[string]interface {}")?;
            Ok(Patch::Strategic(patch))
        }
        _ => Err(decode::unsupported_media_type(SUPPORTED)),
    }
}

fn read(call: &Call<'_>, prefix: &str) -> Result<Decoded, Status> {
    schema::decode(&call.body, Format::Json).map_err(|error| {
        let problem = decode::json_problem(&error).unwrap_or_else(|| error.to_string());
        Status::bad_request(format!("{prefix}{problem}"))
    })
}

/// What is of no type for a patch is told as Go's decoder tells it.
fn expect(fits: bool, patch: &Value, prefix: &str, wanted: &str) -> Result<(), Status> {
    let what = decode::no_object(patch).unwrap_or("object");
    if fits {
        return Ok(());
    }
    let why = format!("{prefix}json: cannot unmarshal {what} into Go value of type {wanted}");
    Err(Status::bad_request(why))
}

/// A patch of a document of a type, which is known of built-in ones.
struct Patching<'a> {
    call: &'a Call<'a>,
    patch: &'a Patch,
    of: Option<TypeRef>,
    document: &'a dyn Fn() -> Result<Value, Status>,
}

impl Patching<'_> {
    fn apply(&self) -> Result<Value, Status> {
        apply_to(self.of, self.patch, (self.document)()?)
    }
}

impl decode::Patched for Patching<'_> {
    fn problems(&self, checked: &Checked) -> StrictProblems {
        match self.patch {
            Patch::Json(_) => StrictProblems::of_json_patch(&self.call.body, checked),
            Patch::Merge(patch) | Patch::Strategic(patch) => {
                StrictProblems::of_patch(patch, checked)
            }
        }
    }

    /// Upstream shows the whole object, or of a strategic patch the patch.
    fn told(&self) -> String {
        match self.patch {
            Patch::Strategic(patch) => schema::patch::go_text(&patch.value),
            // It has been applied before.
            Patch::Json(_) | Patch::Merge(_) => {
                self.apply().map(|made| made.to_string()).unwrap_or_default()
            }
        }
    }

    fn in_its_words(&self, of: TypeRef, value: &Value) -> Option<String> {
        match self.patch {
            Patch::Strategic(_) => schema::unrestorable(of, value),
            Patch::Json(_) | Patch::Merge(_) => None,
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

/// The object that the patch makes of the stored one.
fn submitted(
    call: &Call<'_>,
    patch: &Patch,
    current: &Current,
    validation: FieldValidation,
) -> Result<Submitted, Status> {
    let of = call.kind.built_in_schema();
    let patching = Patching { call, patch, of, document: &|| shown(call, current) };
    decode::patched(call, patching.apply()?, &patching, validation)
}

/// What is stored, as the client sees it with its revision. Who manages the fields is read only for
/// those who speak of it.
fn shown(call: &Call<'_>, current: &Current) -> Result<Value, Status> {
    let mentions = |name: &[u8]| call.body.windows(name.len()).any(|part| part == name);
    let stored = if mentions(b"managedFields") { &current.entry.value } else { &current.bare };
    let shown = splice::with_revision(stored, current.entry.revision);
    serde_json::from_slice(&shown).map_err(Status::internal)
}

/// What the call's patch makes of a document of the type `of` that is shown for an object, such as a
/// scale.
pub(super) fn patched_document(
    call: &Call<'_>,
    of: TypeRef,
    document: &Value,
    validation: FieldValidation,
) -> Result<Value, Status> {
    let patch = parse(call)?;
    // What belongs to a custom resource takes the patches that it takes.
    let known = call.kind.built_in_schema().map(|_| of);
    let document = || Ok(document.clone());
    let patching = Patching { call, patch: &patch, of: known, document: &document };
    decode::patched_document(call, of, patching.apply()?, &patching, validation)
}

fn apply_to(of: Option<TypeRef>, patch: &Patch, document: Value) -> Result<Value, Status> {
    let applied = match patch {
        Patch::Json(patch) => schema::patch::json_patch(document, patch.clone()),
        Patch::Merge(patch) => schema::patch::merge_patch(document, &patch.value),
        Patch::Strategic(patch) => {
            let of = of.ok_or_else(|| decode::unsupported_media_type(SUPPORTED_OF_CUSTOM))?;
            let own = ["apiVersion", "kind"].map(|field| (field, document[field].clone()));
            let made = schema::patch::strategic_merge_patch(of, document, patch.value.clone());
            // What it is of is known, whatever the patch says.
            made.map(|mut made| {
                own.into_iter().for_each(|(field, value)| made[field] = value);
                made
            })
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
    if new.name.as_ref().is_none_or(String::is_empty) {
        return Err(Status::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            call.name.unwrap_or_default()
        )));
    }
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
