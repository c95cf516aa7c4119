//! Conditions of definitions, as pure functions: whether their schemas are structural and their groups
//! theirs, and that they go. Which names they get is decided where names are.
//!
//! Follows upstream's apiextensions controllers (pkg/controller/{nonstructuralschema,apiapproval,
//! finalizer}, v1.35). A decision is a condition without its time; [`set`] writes it down.

use super::CLEANUP_FINALIZER;
use super::approval::{Approval, approval, is_protected};
use super::conversion::authorities_problem;
use super::default_values::aggregate;
use crate::api::{FieldError, FieldPath};
use crate::registry::schema::structural::{Structural, validate_structure};
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;

pub const ESTABLISHED: &str = "Established";
pub const NAMES_ACCEPTED: &str = "NamesAccepted";
pub const TERMINATING: &str = "Terminating";
pub const NON_STRUCTURAL: &str = "NonStructuralSchema";
pub const APPROVAL: &str = "KubernetesAPIApprovalPolicyConformant";

type Condition = CustomResourceDefinitionCondition;

/// A condition without its time.
pub fn condition(kind: &str, status: &str, reason: &str, message: impl Into<String>) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.into()),
        ..Condition::default()
    }
}

/// The condition `kind` of a definition.
#[must_use]
pub fn find<'d>(definition: &'d CustomResourceDefinition, kind: &str) -> Option<&'d Condition> {
    let conditions = definition.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().find(|condition| condition.type_ == kind)
}

#[must_use]
pub fn is_true(definition: &CustomResourceDefinition, kind: &str) -> bool {
    find(definition, kind).is_some_and(|condition| condition.status == "True")
}

/// Writes a condition of a definition down: see [`put`].
pub fn set(definition: &mut CustomResourceDefinition, wanted: Condition, now: Timestamp) {
    let status = definition.status.get_or_insert_default();
    put(status.conditions.get_or_insert_default(), wanted, now);
}

/// Writes a condition down (upstream `SetCRDCondition`): since `now` where its status is new.
pub fn put(conditions: &mut Vec<Condition>, wanted: Condition, now: Timestamp) {
    let stamped = |since| Condition { last_transition_time: since, ..wanted.clone() };
    match conditions.iter_mut().find(|condition| condition.type_ == wanted.type_) {
        None => conditions.push(stamped(Some(Time(now)))),
        Some(found) => {
            let since = found.last_transition_time.take();
            let is_same = found.status == wanted.status;
            *found = stamped(since.filter(|_| is_same).or(Some(Time(now))));
        }
    }
}

/// What is not structural; `None`: everything is, and the condition goes.
#[must_use]
pub fn non_structural(definition: &CustomResourceDefinition) -> Option<Condition> {
    let path = FieldPath::new("spec");
    let mut errors = Vec::new();
    if definition.spec.preserve_unknown_fields.unwrap_or_default() {
        let path = path.child("preserveUnknownFields");
        errors.push(FieldError::invalid(&path, true, "must be false"));
    }
    for (index, version) in definition.spec.versions.iter().enumerate() {
        let schema = version.schema.as_ref();
        let Some(props) = schema.and_then(|it| it.open_api_v3_schema.as_ref()) else { continue };
        let path = path.child("versions").index(index).child("schema").child("openAPIV3Schema");
        match Structural::new(props) {
            Ok(schema) => errors.extend(validate_structure(&path, &schema)),
            Err(error) => {
                let name = &version.name;
                let message =
                    format!("failed to check validation schema for version {name}: {error}");
                return Some(condition(NON_STRUCTURAL, "Unknown", "StructuralError", message));
            }
        }
    }
    (!errors.is_empty())
        .then(|| condition(NON_STRUCTURAL, "True", "Violations", aggregate(&errors)))
}

/// Whether a definition in a group of the Kubernetes community is approved; `None`: it is in
/// another group.
#[must_use]
pub fn approved(group: &str, annotations: Option<&BTreeMap<String, String>>) -> Option<Condition> {
    if !is_protected(group) {
        return None;
    }
    let (state, why) = approval(annotations);
    let (status, reason) = match state {
        Approval::Invalid => ("False", "InvalidAnnotation"),
        Approval::Missing => ("False", "MissingAnnotation"),
        Approval::Approved => ("True", "ApprovedAnnotation"),
        Approval::Bypassed => ("False", "UnapprovedAnnotation"),
    };
    Some(condition(APPROVAL, status, reason, why))
}

/// Whether nobody can be believed by this bundle of authorities; by none, those of this machine are
/// (upstream `ValidateCABundle`, apiserver pkg/util/webhook/validation.go).
#[must_use]
pub fn is_bad_bundle(bundle: &[u8]) -> bool {
    !bundle.is_empty() && authorities_problem(bundle).is_some()
}

/// Somebody has asked to delete a definition: its objects are to go first (upstream `REST.Delete`,
/// pkg/registry/customresourcedefinition/etcd.go).
pub(super) fn begin_deletion(definition: &mut CustomResourceDefinition) {
    let finalizers = definition.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|name| name == CLEANUP_FINALIZER) {
        finalizers.push(CLEANUP_FINALIZER.to_owned());
    }
    let message =
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    let pending = condition(TERMINATING, "True", "InstanceDeletionPending", message);
    // What is deleted says since when.
    let since = definition.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    set(definition, pending, since.unwrap_or_default());
}

/// Whether the objects of a definition are gone, or there can be none.
#[must_use]
pub fn is_cleaned_up(definition: &CustomResourceDefinition) -> bool {
    find(definition, TERMINATING).is_some_and(|condition| condition.status == "False")
}
