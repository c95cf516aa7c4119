//! Groups of the Kubernetes community are for APIs that it has approved (upstream
//! `GetAPIApprovalState`, apiextensions pkg/apihelpers/helpers.go, and `validateAPIApproval`, v1.35).

use crate::api::{FieldError, FieldPath};
use crate::registry::schema::structural::is_valid_format;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use std::collections::BTreeMap;

const ANNOTATION: &str = "api-approved.kubernetes.io";
const MORE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Approval {
    Invalid,
    Approved,
    Bypassed,
    Missing,
}

/// Whether APIs of the group need approval.
pub(super) fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|domain| {
        group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

type Annotations = BTreeMap<String, String>;

fn annotation(annotations: Option<&Annotations>) -> &str {
    annotations.and_then(|all| all.get(ANNOTATION)).map(String::as_str).unwrap_or_default()
}

/// Whether a definition is approved, and why that is so.
pub(super) fn approval(annotations: Option<&Annotations>) -> (Approval, String) {
    let text = annotation(annotations);
    let has_host = text.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/')
    });
    if text.is_empty() {
        let why = format!("protected groups must have approval annotation {ANNOTATION:?}, {MORE}");
        (Approval::Missing, why)
    } else if text.starts_with("unapproved") {
        (Approval::Bypassed, format!("not approved: {text:?}"))
    } else if has_host && is_valid_format("uri", text) {
        (Approval::Approved, format!("approved in {text}"))
    } else {
        let why = format!(
            "protected groups must have approval annotation {ANNOTATION:?} with either a URL or a reason starting with \"unapproved\", {MORE}"
        );
        (Approval::Invalid, why)
    }
}

/// What has not changed is not judged again.
pub(super) fn validate(
    definition: &CustomResourceDefinition,
    old: Option<&CustomResourceDefinition>,
) -> Option<FieldError> {
    if !is_protected(&definition.spec.group) {
        return None;
    }
    let annotations = definition.metadata.annotations.as_ref();
    let (state, why) = approval(annotations);
    if old.is_some_and(|old| approval(old.metadata.annotations.as_ref()).0 == state) {
        return None;
    }
    let path = FieldPath::new("metadata").child("annotations").key(ANNOTATION);
    match state {
        Approval::Approved | Approval::Bypassed => None,
        Approval::Missing => Some(FieldError::required(&path, why)),
        Approval::Invalid => Some(FieldError::invalid(&path, annotation(annotations), why)),
    }
}
