//! Update: what is submitted takes the place of what is there, as far as it may (upstream
//! `Store.Update`, apiserver pkg/registry/generic/registry/store.go, v1.35).

use super::super::admission::{Admission, Operation};
use super::super::allocate::{self, Reservation};
use super::super::authz::{self, Ask};
use super::super::config::WRITE_ATTEMPTS_MAX;
use super::super::query::WriteOptions;
use super::super::rbac::{Action, check_escalation};
use super::super::request::Verb;
use super::super::{errors, metadata};
use super::Call;
use super::create::{AFTER_ADMISSION, create_submitted, drop_repeated_owners, match_namespace};
use super::decode::{self, Submitted};
use super::ownership::{self, Claim};
use super::store::{self, Current, Managed, Next, Outcome};
use crate::api::status::Status;
use crate::api::{FieldError, FieldPath, ObjectKey, Revision};
use crate::registry::Object;
use crate::stdx::http::Response;
use http::StatusCode;

/// Which part of an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Part {
    /// Everything but the status.
    Object,
    Status,
    /// What the subresource of that name is for, such as whether a certificate may be signed.
    Of(&'static str),
}

impl Part {
    /// Empty for the object itself.
    pub(super) fn subresource(self) -> &'static str {
        match self {
            Self::Object => "",
            Self::Status => "status",
            Self::Of(name) => name,
        }
    }
}

pub(super) async fn update(call: &Call<'_>, part: Part) -> Result<Response, Status> {
    let options = WriteOptions::parse(call.query, "UpdateOptions")?;
    let mut submitted = decode::object(call, options.field_validation)?;
    let key = call.key()?;
    match_key(call, &key, submitted.object.as_mut())?;
    for _ in 0..WRITE_ATTEMPTS_MAX {
        let Some(current) = call.server.find_current(call.kind, &key).await? else {
            // Whoever knows a uid means an object that has been, not a new one.
            check_uid(call, submitted.object.as_ref(), "")?;
            if call.kind.creates_on_update && part == Part::Object {
                authorize_creation(call, &key).await?;
                submitted.revision = None;
                return create_submitted(call, submitted, options.dry_run).await;
            }
            return Err(errors::not_found(call.kind, &key));
        };
        let object = submitted.object.clone_box();
        let managed = submitted.managed.clone();
        let copy = Submitted { object, revision: submitted.revision, managed };
        let next = revise(call, &current, copy, part).await?;
        match store::settle(call, &current, next, options.dry_run).await? {
            Outcome::Stored { value, revision } | Outcome::Removed { value, revision } => {
                return call.respond(StatusCode::OK, &value, revision);
            }
            Outcome::Raced if submitted.revision.is_some() => break,
            Outcome::Raced => {}
        }
    }
    Err(modified(call, &key))
}

/// What creates takes the right to create as well (upstream `withAuthorization`, apiserver
/// pkg/endpoints/handlers/update.go, v1.35).
pub(super) async fn authorize_creation(call: &Call<'_>, key: &ObjectKey) -> Result<(), Status> {
    let facts = &call.kind.facts;
    let action = Action::Resource {
        verb: Verb::Create.as_str(),
        group: &facts.group,
        resource: &facts.plural,
        subresource: "",
        name: &key.name,
        namespace: call.namespace,
    };
    authz::require(call.server, &Ask::of(call.identity, action)).await
}

pub(super) fn modified(call: &Call<'_>, key: &ObjectKey) -> Status {
    Status::conflict(errors::subject(call.kind, &key.name), errors::MODIFIED)
}

/// The path and the data must speak of one object.
fn match_key(call: &Call<'_>, key: &ObjectKey, object: &mut dyn Object) -> Result<(), Status> {
    let own = object.metadata().name.clone().unwrap_or_default();
    if own.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            key.name
        )));
    }
    if own != key.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({})",
            key.name
        )));
    }
    match_namespace(call, object)
}

/// Decides what becomes of `current` when somebody submits this for it.
pub(super) async fn revise(
    call: &Call<'_>,
    current: &Current,
    submitted: Submitted,
    part: Part,
) -> Result<Next, Status> {
    let Submitted { mut object, revision, managed } = submitted;
    let old = current.object.as_ref();
    check_revision(call, current, revision)?;
    check_uid(call, object.as_ref(), old.metadata().uid.as_deref().unwrap_or_default())?;
    object.apply_defaults();
    if call.verb != Verb::Patch {
        drop_repeated_owners(call, object.as_mut(), "");
    }
    let subresource = part.subresource();
    let managed = ownership::of_update(call, current, object.as_ref(), managed, subresource).await;
    let mut admission = Admission::of(call);
    admission.mutate(Operation::Update { object: object.as_mut(), old, part }).await?;
    drop_repeated_owners(call, object.as_mut(), AFTER_ADMISSION);
    metadata::prepare_update(object.metadata_mut(), old.metadata());
    let mut reservation = Reservation::default();
    let problems = match part {
        Part::Object => {
            object.prepare_update(old);
            object.apply_defaults();
            check_escalation(call, object.as_ref(), Some(old)).await?;
            call.server.tokens.fill(object.as_mut()).await?;
            reservation = allocate::reserve(call.server, Some(old), object.as_mut()).await?;
            begin_generation(object.as_mut(), old);
            object.validate_update(old)
        }
        Part::Status => {
            object.prepare_status_update(old);
            object.stamp_status(old, metadata::whole_second(call.server.config.clock.now()));
            object.validate_status_update(old)
        }
        Part::Of(subresource) => {
            object.prepare_part(subresource, old);
            begin_generation(object.as_mut(), old);
            object.stamp_status(old, metadata::whole_second(call.server.config.clock.now()));
            object.validate_part(subresource, old)
        }
    };
    if !problems.is_empty() {
        let (facts, name) = (&call.kind.facts, old.metadata().name.as_deref());
        let name = name.unwrap_or_default();
        return Err(Status::invalid(&facts.group, &facts.kind, name, &problems));
    }
    let warnings = match part {
        Part::Object => object.warnings(Some(old)),
        Part::Status => object.status_warnings(),
        Part::Of(_) => Vec::new(),
    };
    warnings.into_iter().for_each(|text| call.warn(text));
    let grounds = admission.validate(Operation::Update { object: object.as_mut(), old, part });
    reservation.rest_on(grounds.await?);
    Ok(match is_finished(object.as_ref(), old) {
        true => Next::Remove(object),
        false => Next::Write(object, Managed::Now(managed), reservation),
    })
}

/// Counts on where what is wanted of the object has changed.
fn begin_generation(object: &mut dyn Object, old: &dyn Object) {
    if object.is_new_generation(old) {
        let next = old.metadata().generation.unwrap_or_default() + 1;
        object.metadata_mut().generation = Some(next);
    }
}

/// Whether nothing keeps an object any more whose deletion was asked for (upstream
/// `ShouldDeleteDuringUpdate`).
pub(super) fn is_finished(new: &dyn Object, old: &dyn Object) -> bool {
    let (new_metadata, old_metadata) = (new.metadata(), old.metadata());
    new_metadata.finalizers.as_ref().is_none_or(Vec::is_empty)
        && old_metadata.deletion_timestamp.is_some()
        && old_metadata.deletion_grace_period_seconds.unwrap_or_default() == 0
        && !new.is_held()
}

pub(super) fn check_revision(
    call: &Call<'_>,
    current: &Current,
    revision: Option<Revision>,
) -> Result<(), Status> {
    let name = current.object.metadata().name.as_deref().unwrap_or_default();
    match revision {
        Some(revision) if revision == current.entry.revision => Ok(()),
        Some(_) => Err(Status::conflict(errors::subject(call.kind, name), errors::MODIFIED)),
        None if call.kind.updates_unconditionally => Ok(()),
        None => {
            let path = FieldPath::new("metadata").child("resourceVersion");
            let error = FieldError::invalid(&path, 0, "must be specified for an update");
            let facts = &call.kind.facts;
            Err(Status::invalid(&facts.group, &facts.plural, name, &[error]))
        }
    }
}

/// `is` is the uid of what is stored; nothing has none (upstream `Preconditions.Check`).
pub(super) fn check_uid(call: &Call<'_>, new: &dyn Object, is: &str) -> Result<(), Status> {
    match new.metadata().uid.as_deref() {
        None | Some("") => Ok(()),
        Some(wanted) if wanted == is => Ok(()),
        Some(wanted) => {
            let name = new.metadata().name.as_deref().unwrap_or_default();
            let why = format!(
                "Precondition failed: UID in precondition: {wanted}, UID in object meta: {is}"
            );
            Err(Status::conflict(errors::subject(call.kind, name), &why))
        }
    }
}

/// Changes a stored object in a way that is the server's own: no admission, and no validation but
/// what `change` does. Nobody comes to own fields by it, as upstream's registries write past their
/// field managers too.
pub(super) async fn amend(
    call: &Call<'_>,
    key: &ObjectKey,
    dry_run: bool,
    change: impl Fn(&Current, &mut dyn Object) -> Result<(), Status> + Send + Sync,
) -> Result<Outcome, Status> {
    amend_by(call, key, (None, dry_run), change).await
}

/// As [`amend`], as a write of the client by way of a subresource.
pub(super) async fn amend_by(
    call: &Call<'_>,
    key: &ObjectKey,
    (subresource, dry_run): (Option<&str>, bool),
    change: impl Fn(&Current, &mut dyn Object) -> Result<(), Status> + Send + Sync,
) -> Result<Outcome, Status> {
    for _ in 0..WRITE_ATTEMPTS_MAX {
        let current = call.server.current(call.kind, key).await?;
        let mut object = current.object.clone_box();
        change(&current, object.as_mut())?;
        let managed = match subresource {
            None => Managed::Kept,
            Some(name) => {
                let new = object.as_ref();
                let now = ownership::of_update(call, &current, new, Claim::None, name);
                Managed::Now(now.await)
            }
        };
        let next = match is_finished(object.as_ref(), current.object.as_ref()) {
            true => Next::Remove(object),
            false => Next::Write(object, managed, Reservation::default()),
        };
        match store::settle(call, &current, next, dry_run).await? {
            Outcome::Raced => {}
            done => return Ok(done),
        }
    }
    Err(modified(call, key))
}
