//! Create: default, admit, fill in, validate, store (upstream `Store.Create`, apiserver
//! pkg/registry/generic/registry/store.go, v1.35).

use super::super::admission::{Admission, Operation};
use super::super::allocate::{self, Reservation};
use super::super::config::{NAME_ATTEMPTS_MAX, WRITE_ATTEMPTS_MAX};
use super::super::query::WriteOptions;
use super::super::rbac::check_escalation;
use super::super::request::Verb;
use super::super::{errors, metadata};
use super::Call;
use super::decode::{self, Submitted};
use super::ownership;
use super::store::{self, Outcome};
use crate::api::ObjectKey;
use crate::api::status::Status;
use crate::registry::Object;
use crate::stdx::http::Response;
use http::StatusCode;

pub(super) async fn create(call: &Call<'_>) -> Result<Response, Status> {
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let submitted = decode::object(call, options.field_validation)?;
    create_submitted(call, submitted, options.dry_run).await
}

/// Creates what was submitted, by a POST or by a PUT of something new.
pub(super) async fn create_submitted(
    call: &Call<'_>,
    submitted: Submitted,
    dry_run: bool,
) -> Result<Response, Status> {
    if submitted.revision.is_some() {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(Status::bad_request(message));
    }
    let mut template = submitted.object;
    match_namespace(call, template.as_mut())?;
    metadata::wipe(template.metadata_mut());
    // What a patch says of owners is merged first.
    if call.verb != Verb::Patch {
        drop_repeated_owners(call, template.as_mut(), "");
    }
    template.apply_defaults();
    let managed = ownership::of_new(call, template.as_ref(), submitted.managed).await;

    let wants_name = template.metadata().name.as_ref().is_none_or(String::is_empty);
    let mut names_tried = 0;
    for _ in 0..WRITE_ATTEMPTS_MAX {
        let mut object = template.clone_box();
        let mut admission = Admission::of(call);
        admission.mutate(Operation::Create(object.as_mut())).await?;
        drop_repeated_owners(call, object.as_mut(), AFTER_ADMISSION);
        check_escalation(call, object.as_ref(), None).await?;
        let (key, reservation) = finish(call, object.as_mut()).await?;
        call.server.tokens.fill(object.as_mut()).await?;
        let grounds = admission.validate(Operation::Create(object.as_mut())).await?;
        let mut others = reservation.ops;
        others.extend(grounds.ops.iter().cloned());
        let new = (object.as_ref(), managed.as_deref());
        match store::insert(call, &key, new, others, dry_run).await {
            Ok(Outcome::Stored { value, revision } | Outcome::Removed { value, revision }) => {
                return call.respond(StatusCode::CREATED, &value, revision);
            }
            // An address that was to be the object's own was taken meanwhile, or its namespace has
            // changed.
            Ok(Outcome::Raced) => {}
            Err(status) if wants_name && status.code == StatusCode::CONFLICT => {
                names_tried += 1;
                if names_tried == NAME_ATTEMPTS_MAX {
                    return Err(status);
                }
            }
            Err(status) => return Err(status),
        }
    }
    Err(Status::conflict(errors::subject(call.kind, ""), errors::MODIFIED))
}

/// Makes the object what will be stored, under a name of its own. What it is given is there before
/// it is validated (upstream's `BeginCreate` precedes `BeforeCreate`).
async fn finish(
    call: &Call<'_>,
    object: &mut dyn Object,
) -> Result<(ObjectKey, Reservation), Status> {
    let birth = metadata::Birth {
        namespace: call.namespace,
        now: call.server.config.clock.now(),
        uid: &call.server.config.entropy.uuid().to_string(),
        entropy: call.server.config.entropy.draw(),
    };
    metadata::prepare_create(object.metadata_mut(), &birth);
    object.prepare_create();
    object.stamp_creator(call.identity.as_creator());
    // Some kinds have labels or defaults that follow from the name, which may be new.
    object.apply_defaults();
    object.metadata_mut().generation = object.first_generation();
    let name = object.metadata().name.clone().unwrap_or_default();
    let reservation = allocate::reserve(call.server, None, object).await?;
    let problems = object.validate();
    if !problems.is_empty() {
        let facts = &call.kind.facts;
        return Err(Status::invalid(&facts.group, &facts.kind, &name, &problems));
    }
    object.warnings(None).into_iter().for_each(|text| call.warn(text));
    Ok((ObjectKey { namespace: call.namespace.map(str::to_owned), name }, reservation))
}

/// When owners are looked at for the second time, and what a patch has made of them for the first.
pub(super) const AFTER_ADMISSION: &str = " after mutating admission happens";

/// Keeps each owner once, and tells the client (upstream `dedupOwnerReferencesAndAddWarning`,
/// apiserver pkg/endpoints/handlers/rest.go, v1.35).
pub(super) fn drop_repeated_owners(call: &Call<'_>, object: &mut dyn Object, when: &str) {
    let repeated = metadata::drop_repeated_owners(object.metadata_mut());
    if !repeated.is_empty() {
        call.warn(format!(
            ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner \
             references in 1.20+, and may reject such requests as early as 1.24; please fix your \
             requests; duplicate UID(s) observed: {}",
            repeated.join(", ")
        ));
    }
}

/// Upstream `EnsureObjectNamespaceMatchesRequestNamespace`.
pub(super) fn match_namespace(call: &Call<'_>, object: &mut dyn Object) -> Result<(), Status> {
    let metadata = object.metadata_mut();
    let own = metadata.namespace.take().filter(|namespace| !namespace.is_empty());
    match (own, call.namespace) {
        (Some(own), Some(path)) if own != path => Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
        (_, path) => {
            metadata.namespace = path.map(str::to_owned);
            Ok(())
        }
    }
}
