//! Server-side apply: a PATCH that says what its sender wants of an object, merged with what others
//! want (upstream `applyPatcher`, apiserver pkg/endpoints/handlers/patch.go, v1.35).

use super::super::config::PATCH_ATTEMPTS_MAX;
use super::super::query::{FieldValidation, Patching, WriteOptions};
use super::create::create_submitted;
use super::decode::Submitted;
use super::ownership::{self, Claim, OtherVersions};
use super::patch::check_identity;
use super::store::{self, Current, Outcome};
use super::update::{Part, authorize_creation, modified, revise};
use super::{Call, decode};
use crate::api::status::{Reason, Status};
use crate::registry::managed::{self, Application, Applied};
use crate::registry::schema::{self, Decoded, Format};
use crate::stdx::http::Response;
use http::StatusCode;
use serde_json::Value;

/// What a client applies.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) document: Value,
    pub(super) options: WriteOptions,
    pub(super) force: bool,
}

/// Reads the body, which is YAML, of which JSON is a part.
pub(super) fn configuration(call: &Call<'_>) -> Result<Configuration, Status> {
    let options = WriteOptions::of_patch(call.query, Patching::Apply)?;
    let is_json = call.body.trim_ascii_start().starts_with(b"{");
    let json = if is_json { schema::decode(&call.body, Format::Json).ok() } else { None };
    let decoded = json.map_or_else(|| schema::decode(&call.body, Format::Yaml), Ok);
    let Decoded { value, duplicates } =
        decoded.map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
    if !value.is_object() {
        return Err(Status::bad_request("error decoding YAML: the document is not an object"));
    }
    if !duplicates.is_empty() {
        let lines: String = duplicates.iter().map(|text| format!("\n  {text}")).collect();
        let text = format!("error converting YAML to JSON: yaml: unmarshal errors:{lines}");
        match options.field_validation {
            FieldValidation::Strict => {
                return Err(Status::bad_request(format!("error strict decoding YAML: {text}")));
            }
            FieldValidation::Warn => call.warn(text),
            FieldValidation::Ignore => {}
        }
    }
    Ok(Configuration { document: value, options, force: call.query.flag("force") })
}

pub(super) async fn apply(call: &Call<'_>, part: Part) -> Result<Response, Status> {
    let wanted = configuration(call)?;
    let key = call.key()?;
    for _ in 0..PATCH_ATTEMPTS_MAX {
        let Some(current) = call.server.find_current(call.kind, &key).await? else {
            if part != Part::Object {
                return Err(super::super::errors::not_found(call.kind, &key));
            }
            authorize_creation(call, &key).await?;
            match create(call, &wanted).await {
                // Somebody else was faster: there is something to apply to.
                Err(status) if status.reason == Reason::AlreadyExists => continue,
                answered => return answered,
            }
        };
        let mut submitted = applied(call, &wanted, Some(&current), part).await?;
        // What is applied is merged into what there is, and has its revision unless it says another.
        submitted.revision.get_or_insert(current.entry.revision);
        check_identity(call, &submitted, &current)?;
        let next = revise(call, &current, submitted, part).await?;
        match store::settle(call, &current, next, wanted.options.dry_run).await? {
            Outcome::Stored { value, revision } | Outcome::Removed { value, revision } => {
                return call.respond(StatusCode::OK, &value, revision);
            }
            Outcome::Raced => {}
        }
    }
    Err(modified(call, &key))
}

/// Makes an object of the configuration alone.
async fn create(call: &Call<'_>, wanted: &Configuration) -> Result<Response, Status> {
    let mut submitted = applied(call, wanted, None, Part::Object).await?;
    submitted.revision = None;
    let metadata = submitted.object.metadata();
    let path = call.name.unwrap_or_default();
    if let Some(uid) = metadata.uid.as_deref().filter(|uid| !uid.is_empty()) {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(Status::conflict(super::super::errors::subject(call.kind, path), &why));
    }
    match metadata.name.as_deref().unwrap_or_default() {
        "" => Err(Status::bad_request(format!(
            "the name of the object ({path} based on URL) was undeterminable: name must be provided"
        ))),
        name if name != path => Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({path})"
        ))),
        _ => create_submitted(call, submitted, wanted.options.dry_run).await,
    }
}

/// The object that the configuration makes of what there is.
async fn applied(
    call: &Call<'_>,
    wanted: &Configuration,
    current: Option<&Current>,
    part: Part,
) -> Result<Submitted, Status> {
    let (version, manager) = (call.kind.facts.api_version(), ownership::manager(call));
    let versions = OtherVersions::of(call);
    let frame = ownership::frame(call, (&version, part.subresource()), &versions);
    let writer = ownership::writer(call, &manager, part.subresource());
    let application = Application {
        live: current.map(|current| &*current.bare),
        managed: current.and_then(|current| current.managed.as_deref()),
        config: &wanted.document,
        kind: &call.kind.facts.kind,
        force: wanted.force,
    };
    let reckoned = versions.settle(|| managed::apply(&frame, &application, &writer)).await;
    let Applied { object, managed } = reckoned.map_err(|refused| ownership::refusal(&refused))?;
    let mut submitted = decode::merged(call, object)?;
    submitted.managed = Claim::Settled(managed);
    Ok(submitted)
}
