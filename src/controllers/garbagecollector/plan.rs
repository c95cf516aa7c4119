//! The decision about one object: whether it is garbage, and what its owners' deletions ask of it.
//!
//! Upstream: pkg/controller/garbagecollector/garbagecollector.go (v1.35).

use super::graph::Dependent;
use crate::api::{ObjectKey, Revision};
use crate::client::{DeleteOptions, Patch, Propagation, ResourceType};
use crate::control::{Plan, Write};
use crate::controllers::metadata::{Deletion, FOREGROUND_FINALIZER, ORPHAN_FINALIZER, Sketch};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};
use std::time::Duration;

/// After a look at which an owner could neither be found nor be found missing.
const UNCERTAIN_RETRY: Duration = Duration::from_secs(5);

/// An object as the API server itself has it just now.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) resource: ResourceType,
    pub(super) key: ObjectKey,
    pub(super) sketch: Sketch,
}

/// What the API server itself says of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnerState {
    /// It is there, or of a kind that nobody here knows and that may well exist.
    Present,
    /// It is there, and is being deleted once all that it owns is gone.
    Waiting,
    /// It is not there, or another object has its name.
    Absent,
    /// That could not be found out.
    Uncertain,
    /// A cluster-scoped object cannot have an owner in a namespace.
    Impossible,
}

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub(super) object: Object,
    /// As many as the object has owner references.
    pub(super) owners: Vec<OwnerState>,
    /// What the object owns, as far as is known.
    pub(super) dependents: Vec<Dependent>,
    /// What is to forget the object, according to the API server itself; `None` where that could
    /// not be found out.
    pub(super) orphans: Option<Vec<Object>>,
}

pub fn plan(observed: &Observed) -> Plan {
    match observed.object.sketch.deletion() {
        Deletion::Ordinary => Plan::default(),
        Deletion::Foreground => finish_foreground(observed),
        Deletion::Orphan => orphan_dependents(observed),
        Deletion::No => collect(observed),
    }
}

/// Upstream `processDeletingDependentsItem`.
fn finish_foreground(observed: &Observed) -> Plan {
    if observed.dependents.iter().any(|dependent| dependent.is_blocking) {
        return Plan::default();
    }
    Plan::of([remove_finalizer(&observed.object, FOREGROUND_FINALIZER)])
}

/// Upstream `attemptToOrphanWorker`.
fn orphan_dependents(observed: &Observed) -> Plan {
    let Some(orphans) = &observed.orphans else { return retry() };
    let uid = &*observed.object.sketch.uid;
    let forget = |dependent: &Object| {
        let owners = dependent.sketch.owners().iter().filter(|owner| owner.uid != uid);
        set_owners(dependent, owners)
    };
    let mut plan = Plan::of(orphans.iter().map(forget));
    plan.then([remove_finalizer(&observed.object, ORPHAN_FINALIZER)]);
    plan
}

/// Upstream `attemptToDeleteItem`.
fn collect(observed: &Observed) -> Plan {
    let owners = || observed.object.sketch.owners().iter().zip(&observed.owners);
    let has = |state| observed.owners.contains(&state);
    if observed.owners.is_empty() || has(OwnerState::Impossible) {
        return Plan::default();
    }
    if has(OwnerState::Uncertain) {
        return retry();
    }
    if has(OwnerState::Present) {
        let lost = observed.owners.iter().any(|state| *state != OwnerState::Present);
        let present = owners().filter(|(_, state)| **state == OwnerState::Present);
        let keep = lost.then(|| set_owners(&observed.object, present.map(|(owner, _)| owner)));
        return Plan::of(keep);
    }
    if has(OwnerState::Waiting) && !observed.dependents.is_empty() {
        return delete_in_foreground(observed);
    }
    let links = observed.object.sketch.links.as_ref();
    let has_finalizer = |name| links.is_some_and(|links| links.has_finalizer(name));
    let propagation = if has_finalizer(ORPHAN_FINALIZER) {
        Propagation::Orphan
    } else if has_finalizer(FOREGROUND_FINALIZER) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    let revision = observed.object.sketch.revision;
    Plan::of([delete(&observed.object, propagation, revision)])
}

/// The owner waits for all that this object owns as well. Where one of those waits for its own
/// dependents already, the two may wait for each other: then the owner does not wait for this one.
fn delete_in_foreground(observed: &Observed) -> Plan {
    let object = &observed.object;
    if !observed.dependents.iter().any(|dependent| dependent.is_waiting) {
        return Plan::of([delete(object, Propagation::Foreground, object.sketch.revision)]);
    }
    let unblock = |owner: &OwnerReference| OwnerReference {
        block_owner_deletion: Some(false),
        ..owner.clone()
    };
    let owners: Vec<_> = object.sketch.owners().iter().map(unblock).collect();
    let mut plan = Plan::of([set_owners(object, owners.iter())]);
    plan.then([delete(object, Propagation::Foreground, None)]);
    plan
}

fn retry() -> Plan {
    Plan { recheck_after: Some(UNCERTAIN_RETRY), ..Plan::default() }
}

fn delete(object: &Object, propagation: Propagation, revision: Option<Revision>) -> Write {
    Write::Delete {
        resource: object.resource.clone(),
        key: object.key.clone(),
        options: DeleteOptions {
            grace_seconds: None,
            uid: Some(object.sketch.uid.to_string()),
            revision,
            propagation: Some(propagation),
        },
    }
}

fn set_owners<'a>(object: &Object, owners: impl Iterator<Item = &'a OwnerReference>) -> Write {
    let owners: Vec<_> = owners.collect();
    patch(object, json!({"ownerReferences": owners}))
}

fn remove_finalizer(object: &Object, name: &str) -> Write {
    let finalizers = object.sketch.finalizers().iter().filter(|finalizer| *finalizer != name);
    let finalizers: Vec<_> = finalizers.collect();
    patch(object, json!({"finalizers": finalizers}))
}

/// Whole lists are replaced, so the object must be as it was when they were read.
fn patch(object: &Object, mut metadata: Value) -> Write {
    metadata["uid"] = json!(*object.sketch.uid);
    metadata["resourceVersion"] =
        json!(object.sketch.revision.map(|revision| revision.to_string()));
    Write::Patch {
        resource: object.resource.clone(),
        key: object.key.clone(),
        subresource: None,
        patch: Patch::Merge(json!({"metadata": metadata})),
    }
}
