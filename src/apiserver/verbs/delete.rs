//! Delete: at once, or with a grace period, or when the finalizers are done (upstream
//! `Store.Delete` and `BeforeDelete`, apiserver pkg/registry, v1.35).

use super::super::admission::{Admission, Operation};
use super::super::allocate::Reservation;
use super::super::config::WRITE_ATTEMPTS_MAX;
use super::super::errors;
use super::super::metadata::whole_second;
use super::super::query::{FieldValidation, Query, parse_dry_run};
use super::store::{self, Current, Managed, Next, Outcome};
use super::update::modified;
use super::{Call, decode};
use crate::api::status::Status;
use crate::api::{FieldError, FieldPath, ObjectKey, Revision};
use crate::registry::Object;
use crate::registry::metadata::{FOREGROUND_FINALIZER, ORPHAN_FINALIZER};
use crate::registry::schema::types;
use crate::stdx::http::Response;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions as Wire, ObjectMeta, Time};
use serde_json::{Map, Value, json};

/// What happens to the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// How to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DeleteOptions {
    pub(super) grace_seconds: Option<i64>,
    pub(super) propagation: Option<Propagation>,
    pub(super) uid: Option<String>,
    pub(super) revision: Option<String>,
    pub(super) dry_run: bool,
    /// The client asks in the oldest words that dependents go as well, and knows that the object may
    /// still be there then.
    pub(super) expects_to_wait: bool,
}

pub(super) async fn delete(call: &Call<'_>) -> Result<Response, Status> {
    let options = DeleteOptions::parse(call)?;
    let key = call.key()?;
    match delete_object(call, &key, &options).await? {
        Outcome::Removed { value, revision } if call.kind.returns_deleted => {
            call.respond(StatusCode::OK, &value, revision)
        }
        Outcome::Removed { value, revision } => {
            call.respond_success(StatusCode::OK, success(call, &key, &value, revision))
        }
        Outcome::Stored { value, revision } => {
            // Upstream would like to say so to everybody, but not all clients knew it.
            let code = if options.expects_to_wait { StatusCode::ACCEPTED } else { StatusCode::OK };
            call.respond(code, &value, revision)
        }
        Outcome::Raced => Err(modified(call, &key)),
    }
}

/// Deletes one object, or begins to.
pub(super) async fn delete_object(
    call: &Call<'_>,
    key: &ObjectKey,
    options: &DeleteOptions,
) -> Result<Outcome, Status> {
    for _ in 0..WRITE_ATTEMPTS_MAX {
        let current = call.server.current(call.kind, key).await?;
        check_preconditions(call, &current, options)?;
        let mut admission = Admission::of(call);
        admission.mutate(Operation::Delete(current.object.as_ref())).await?;
        admission.validate(Operation::Delete(current.object.as_ref())).await?;
        let now = call.server.config.clock.now();
        let next = match plan(current.object.as_ref(), options, now) {
            Plan::Keep => {
                let (value, revision) = (current.entry.value, current.entry.revision);
                return Ok(Outcome::Stored { value, revision });
            }
            Plan::Mark(object) => Next::Write(object, Managed::Kept, Reservation::default()),
            Plan::Remove => Next::Remove(current.object.clone_box()),
        };
        match store::settle(call, &current, next, options.dry_run).await? {
            Outcome::Raced => {}
            done => return Ok(done),
        }
    }
    Ok(Outcome::Raced)
}

/// What is told about an object that is gone. Unlike upstream's it says at which revision that was, so
/// that a controller knows when its caches have seen it.
fn success(
    call: &Call<'_>,
    key: &ObjectKey,
    stored: &[u8],
    revision: Revision,
) -> Map<String, Value> {
    let uid = call.kind.decode_stored(stored).ok().and_then(|object| object.metadata().uid.clone());
    let facts = &call.kind.facts;
    let mut details = json!({"name": key.name, "kind": facts.plural, "uid": uid});
    if !facts.group.is_empty() {
        details["group"] = json!(facts.group);
    }
    let metadata = json!({"resourceVersion": revision.to_string()});
    Map::from_iter([("details".to_owned(), details), ("metadata".to_owned(), metadata)])
}

/// Whether this is the object that is meant, and as it is meant.
pub(super) fn check_preconditions(
    call: &Call<'_>,
    current: &Current,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let metadata = current.object.metadata();
    let subject = errors::subject(call.kind, metadata.name.as_deref().unwrap_or_default());
    let uid = metadata.uid.as_deref().unwrap_or_default();
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != uid) {
        let why = format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The \
             object might have been deleted and then recreated"
        );
        return Err(Status::conflict(subject, &why));
    }
    let revision = current.entry.revision;
    let wanted = options.revision.as_deref();
    if let Some(wanted) = wanted.filter(|wanted| wanted.parse() != Ok::<Revision, _>(revision)) {
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion \
             in record ({revision}). The object might have been modified"
        );
        return Err(Status::conflict(subject, &why));
    }
    Ok(())
}

/// What a delete does to an object.
#[derive(Debug)]
enum Plan {
    /// Its deletion goes on as it is.
    Keep,
    /// It stays, marked as being deleted, until somebody else is done with it.
    Mark(Box<dyn Object>),
    Remove,
}

/// Decides. Pure.
fn plan(object: &dyn Object, options: &DeleteOptions, now: Timestamp) -> Plan {
    let mut marked = object.clone_box();
    let graceful = match begin_grace(marked.as_mut(), options, now) {
        Grace::Pending => return Plan::Keep,
        Grace::Begun { seconds } => seconds > 0,
        Grace::None => false,
    };
    let unspecified =
        if marked.orphans_dependents() { Propagation::Orphan } else { Propagation::Background };
    set_finalizers(marked.metadata_mut(), options.propagation, unspecified);
    let has_finalizers = marked.metadata().finalizers.as_ref().is_some_and(|list| !list.is_empty());
    if !has_finalizers && !marked.is_held() && !graceful {
        return Plan::Remove;
    }
    if !graceful {
        mark_deleting(marked.metadata_mut(), now);
    }
    if object.metadata().deletion_timestamp.is_none() {
        marked.begin_deletion();
    }
    Plan::Mark(marked)
}

enum Grace {
    /// The kind has none, or it is over.
    None,
    /// It runs already, and not longer than asked.
    Pending,
    /// It runs from now on.
    Begun { seconds: i64 },
}

/// Upstream `BeforeDelete`: the period can be begun, and shortened, never lengthened.
fn begin_grace(object: &mut dyn Object, options: &DeleteOptions, now: Timestamp) -> Grace {
    let requested = options.grace_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
    let metadata = object.metadata();
    if let Some(Time(due)) = metadata.deletion_timestamp {
        let running = metadata.deletion_grace_period_seconds.unwrap_or_default();
        if running == 0 {
            return Grace::None;
        }
        return match requested {
            Some(seconds) if seconds < running => {
                let begun = due - SignedDuration::from_secs(running);
                let due = whole_second(begun + SignedDuration::from_secs(seconds));
                shorten(object.metadata_mut(), seconds, due, now)
            }
            _ => Grace::Pending,
        };
    }
    let Some(seconds) = object.deletion_grace_seconds(requested) else {
        return Grace::None;
    };
    let metadata = object.metadata_mut();
    metadata.deletion_timestamp =
        Some(Time(whole_second(now + SignedDuration::from_secs(seconds))));
    metadata.deletion_grace_period_seconds = Some(seconds);
    bump_generation(metadata);
    Grace::Begun { seconds }
}

fn shorten(metadata: &mut ObjectMeta, seconds: i64, due: Timestamp, now: Timestamp) -> Grace {
    let is_over = due < whole_second(now);
    // Somebody still has to end it, so that a period that was asked for does not become none.
    let seconds = if is_over && seconds != 0 { 1 } else { seconds };
    metadata.deletion_timestamp = Some(Time(if is_over { whole_second(now) } else { due }));
    metadata.deletion_grace_period_seconds = Some(seconds);
    Grace::Begun { seconds }
}

/// Upstream `markAsDeleting`: without a grace period, an object waits for its finalizers only.
fn mark_deleting(metadata: &mut ObjectMeta, now: Timestamp) {
    let now = whole_second(now);
    if metadata.deletion_timestamp.is_none() {
        bump_generation(metadata);
    }
    match metadata.deletion_timestamp {
        Some(Time(due)) if due <= now => {}
        _ => metadata.deletion_timestamp = Some(Time(now)),
    }
    metadata.deletion_grace_period_seconds = Some(0);
}

fn bump_generation(metadata: &mut ObjectMeta) {
    if let Some(generation) = metadata.generation.filter(|generation| *generation > 0) {
        metadata.generation = Some(generation + 1);
    }
}

/// Upstream `deletionFinalizersForGarbageCollection`: the policy of this request, else the one that
/// the object's finalizers show, else that of the kind.
fn set_finalizers(
    metadata: &mut ObjectMeta,
    propagation: Option<Propagation>,
    unspecified: Propagation,
) {
    let finalizers = metadata.finalizers.clone().unwrap_or_default();
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    let propagation = propagation.unwrap_or_else(|| {
        if has(ORPHAN_FINALIZER) {
            Propagation::Orphan
        } else if has(FOREGROUND_FINALIZER) {
            Propagation::Foreground
        } else {
            unspecified
        }
    });
    let wanted = match propagation {
        Propagation::Orphan => Some(ORPHAN_FINALIZER),
        Propagation::Foreground => Some(FOREGROUND_FINALIZER),
        Propagation::Background => None,
    };
    let is_policy = |name: &str| name == ORPHAN_FINALIZER || name == FOREGROUND_FINALIZER;
    let mut kept: Vec<_> = finalizers
        .iter()
        .filter(|name| !is_policy(name) || wanted == Some(name))
        .cloned()
        .collect();
    if let Some(wanted) = wanted.filter(|wanted| !has(wanted)) {
        kept.push(wanted.to_owned());
    }
    metadata.finalizers = (!kept.is_empty()).then_some(kept);
}

impl DeleteOptions {
    /// Options come in the body, or else in the query.
    pub(super) fn parse(call: &Call<'_>) -> Result<Self, Status> {
        let lenient = FieldValidation::Ignore;
        let wire = if call.body.is_empty() {
            of_query(call.query)?
        } else {
            serde_json::from_value::<Wire>(decode::document(call, types::DELETE_OPTIONS, lenient)?)
                .map_err(|error| Status::bad_request(format!("error decoding options: {error}")))?
        };
        Self::of_wire(wire)
    }

    pub(super) fn of_wire(wire: Wire) -> Result<Self, Status> {
        let mut errors = Vec::new();
        let dry_run = wire.dry_run.unwrap_or_default();
        let dry_run = parse_dry_run(dry_run.iter().map(String::as_str), &mut errors);
        let propagation =
            propagation(wire.propagation_policy.as_deref(), wire.orphan_dependents, &mut errors);
        if !errors.is_empty() {
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &errors));
        }
        let preconditions = wire.preconditions.unwrap_or_default();
        Ok(Self {
            grace_seconds: wire.grace_period_seconds,
            propagation,
            uid: preconditions.uid,
            revision: preconditions.resource_version,
            dry_run,
            expects_to_wait: wire.orphan_dependents == Some(false),
        })
    }
}

fn of_query(query: &Query) -> Result<Wire, Status> {
    Ok(Wire {
        grace_period_seconds: query.number("gracePeriodSeconds")?,
        orphan_dependents: query.get("orphanDependents").map(|_| query.flag("orphanDependents")),
        propagation_policy: query.text("propagationPolicy").map(str::to_owned),
        dry_run: Some(query.all("dryRun").map(str::to_owned).collect()),
        ..Wire::default()
    })
}

fn propagation(
    policy: Option<&str>,
    orphan: Option<bool>,
    errors: &mut Vec<FieldError>,
) -> Option<Propagation> {
    let path = FieldPath::new("propagationPolicy");
    match (policy, orphan) {
        (Some(policy), Some(_)) => {
            let text = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&path, policy, text));
            None
        }
        (None, orphan) => {
            orphan.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background })
        }
        (Some("Orphan"), None) => Some(Propagation::Orphan),
        (Some("Background"), None) => Some(Propagation::Background),
        (Some("Foreground"), None) => Some(Propagation::Foreground),
        (Some(other), None) => {
            let supported = ["Background", "Foreground", "Orphan"];
            errors.push(FieldError::not_supported(&path, other, &supported));
            None
        }
    }
}
