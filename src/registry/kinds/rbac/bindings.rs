//! What both kinds of bindings ask of their role and their subjects, and how they are printed.

use super::GROUP;
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid, one_of, required, to_value};
use crate::registry::kind::Scope;
use crate::registry::{Column, cells};
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

const SERVICE_ACCOUNT: &str = "ServiceAccount";
const USER: &str = "User";
const SUBJECT_GROUP: &str = "Group";

pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Role", "The role that is given."),
    Column::AGE,
    Column::wide("Users", "Users that have the role."),
    Column::wide("Groups", "Groups whose members have the role."),
    Column::wide("ServiceAccounts", "Service accounts that have the role."),
];

/// Upstream `SetDefaults_RoleBinding` and `SetDefaults_Subject` (pkg/apis/rbac/v1, v1.35).
pub(super) fn apply_defaults(role: &mut RoleRef, subjects: Option<&mut Vec<Subject>>) {
    if role.api_group.is_empty() {
        GROUP.clone_into(&mut role.api_group);
    }
    for subject in subjects.into_iter().flatten() {
        subject.api_group.take_if(|group| group.is_empty());
        subject.namespace.take_if(|namespace| namespace.is_empty());
        if subject.api_group.is_none() && [USER, SUBJECT_GROUP].contains(&subject.kind.as_str()) {
            subject.api_group = Some(GROUP.to_owned());
        }
    }
}

pub(super) fn validate(
    role: &RoleRef,
    subjects: Option<&[Subject]>,
    scope: Scope,
) -> Vec<FieldError> {
    let kinds: &[&str] = match scope {
        Scope::Namespaced => &["ClusterRole", "Role"],
        Scope::Cluster => &["ClusterRole"],
    };
    let path = FieldPath::new("roleRef");
    let mut errors = Vec::new();
    errors.extend(one_of(&path.child("apiGroup"), &role.api_group, &[GROUP]));
    errors.extend(one_of(&path.child("kind"), &role.kind, kinds));
    errors.extend(required(&path.child("name"), &role.name, names::path_segment));
    let path = FieldPath::new("subjects");
    for (index, subject) in subjects.unwrap_or_default().iter().enumerate() {
        errors.extend(validate_subject(subject, scope, &path.index(index)));
    }
    errors
}

fn validate_subject(subject: &Subject, scope: Scope, path: &FieldPath) -> Vec<FieldError> {
    let name_path = path.child("name");
    let group = subject.api_group.as_deref().unwrap_or_default();
    let mut errors = Vec::new();
    if subject.name.is_empty() {
        errors.push(FieldError::required(&name_path, ""));
    }
    match subject.kind.as_str() {
        SERVICE_ACCOUNT => {
            if !subject.name.is_empty() {
                let problems = names::dns1123_subdomain(&subject.name);
                errors.extend(invalid(&name_path, &subject.name, problems));
            }
            errors.extend(one_of(&path.child("apiGroup"), group, &[""]));
            let namespace = subject.namespace.as_deref().unwrap_or_default();
            if scope == Scope::Cluster && namespace.is_empty() {
                errors.push(FieldError::required(&path.child("namespace"), ""));
            }
        }
        USER | SUBJECT_GROUP => errors.extend(one_of(&path.child("apiGroup"), group, &[GROUP])),
        kind => {
            let kinds = &[SUBJECT_GROUP, SERVICE_ACCOUNT, USER];
            errors.push(FieldError::not_supported(&path.child("kind"), kind, kinds));
        }
    }
    errors
}

/// Whoever may change the subjects of a binding must not thereby give out another role.
pub(super) fn validate_same_role(role: &RoleRef, old: &RoleRef) -> Option<FieldError> {
    let path = FieldPath::new("roleRef");
    (role != old).then(|| FieldError::invalid(&path, to_value(role), "cannot change roleRef"))
}

pub(super) fn row(
    metadata: &ObjectMeta,
    role: &RoleRef,
    subjects: Option<&[Subject]>,
    now: Timestamp,
) -> Vec<Value> {
    let of = |kind: &str, text: fn(&Subject) -> String| -> Value {
        let subjects = subjects.unwrap_or_default().iter();
        let texts: Vec<_> = subjects.filter(|subject| subject.kind == kind).map(text).collect();
        texts.join(", ").into()
    };
    let plain = |subject: &Subject| subject.name.clone();
    vec![
        cells::name(metadata),
        format!("{}/{}", role.kind, role.name).into(),
        cells::age(metadata, now),
        of(USER, plain),
        of(SUBJECT_GROUP, plain),
        of(SERVICE_ACCOUNT, |subject| match subject.namespace.as_deref() {
            None | Some("") => subject.name.clone(),
            Some(namespace) => format!("{namespace}/{}", subject.name),
        }),
    ]
}
