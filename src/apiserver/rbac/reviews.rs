//! What may be wrong with a question about who may do what.
//!
//! Follows upstream pkg/apis/authorization/validation (v1.35).

use crate::api::{FieldError, FieldPath, names};
use crate::stdx::json;
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, NonResourceAttributes, ResourceAttributes, SelfSubjectAccessReview,
    SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;

const BOTH: &str = "may not specified at the same time as requirements";

#[must_use]
pub fn validate_review(review: &SubjectAccessReview) -> Vec<FieldError> {
    let mut errors = validate_spec(&review.spec);
    errors.extend(validate_metadata(&review.metadata, "must be empty"));
    errors
}

#[must_use]
pub fn validate_self_review(review: &SelfSubjectAccessReview) -> Vec<FieldError> {
    let spec = &review.spec;
    let mut errors =
        validate_what(spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref());
    errors.extend(validate_resource(spec.resource_attributes.as_ref()));
    errors.extend(validate_metadata(&review.metadata, "must be empty"));
    errors
}

/// A local review is about its own namespace only.
#[must_use]
pub fn validate_local_review(review: &LocalSubjectAccessReview) -> Vec<FieldError> {
    let mut errors = validate_spec(&review.spec);
    let metadata = ObjectMeta { namespace: None, ..review.metadata.clone() };
    errors.extend(validate_metadata(&metadata, "must be empty except for namespace"));
    let own = review.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(resource) = &review.spec.resource_attributes {
        let namespace = resource.namespace.as_deref().unwrap_or_default();
        if namespace != own {
            let path = FieldPath::new("spec.resourceAttributes.namespace");
            errors.push(FieldError::invalid(&path, namespace, "must match metadata.namespace"));
        }
    }
    if let Some(other) = &review.spec.non_resource_attributes {
        let path = FieldPath::new("spec.nonResourceAttributes");
        let detail = "disallowed on this kind of request";
        errors.push(FieldError::invalid(&path, to_value(other), detail));
    }
    errors
}

fn to_value(value: &impl Serialize) -> Value {
    json::to_value(value)
}

fn validate_spec(spec: &SubjectAccessReviewSpec) -> Vec<FieldError> {
    let mut errors =
        validate_what(spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref());
    let has_user = spec.user.as_ref().is_some_and(|user| !user.is_empty());
    let has_group = spec.groups.as_ref().is_some_and(|groups| !groups.is_empty());
    if !has_user && !has_group {
        let path = FieldPath::new("spec").child("user");
        let detail = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&path, "", detail));
    }
    errors.extend(validate_resource(spec.resource_attributes.as_ref()));
    errors
}

fn validate_what(
    resource: Option<&ResourceAttributes>,
    other: Option<&NonResourceAttributes>,
) -> Vec<FieldError> {
    let path = FieldPath::new("spec");
    match (resource, other) {
        (Some(_), Some(other)) => {
            let detail = "cannot be specified in combination with resourceAttributes";
            let path = path.child("nonResourceAttributes");
            vec![FieldError::invalid(&path, to_value(other), detail)]
        }
        (None, None) => {
            let detail =
                "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            vec![FieldError::invalid(&path.child("resourceAttributes"), Value::Null, detail)]
        }
        _ => Vec::new(),
    }
}

fn validate_metadata(metadata: &ObjectMeta, detail: &str) -> Option<FieldError> {
    let metadata = ObjectMeta { managed_fields: None, ..metadata.clone() };
    (metadata != ObjectMeta::default())
        .then(|| FieldError::invalid(&FieldPath::new("metadata"), to_value(&metadata), detail))
}

fn validate_resource(resource: Option<&ResourceAttributes>) -> Vec<FieldError> {
    let Some(resource) = resource else {
        return Vec::new();
    };
    let path = FieldPath::new("spec.resourceAttributes");
    let mut errors = Vec::new();
    if let Some(selector) = &resource.field_selector {
        let path = path.child("fieldSelector");
        let requirements = selector.requirements.as_deref().unwrap_or_default();
        errors.extend(validate_form(selector.raw_selector.as_deref(), requirements.len(), &path));
        for (index, requirement) in requirements.iter().enumerate() {
            let path = path.child("requirements").index(index);
            if requirement.key.is_empty() {
                errors.push(FieldError::required(&path.child("key"), "must be specified"));
            }
            let values = requirement.values.as_deref().unwrap_or_default();
            errors.extend(validate_values(&requirement.operator, values, &path));
        }
    }
    if let Some(selector) = &resource.label_selector {
        let path = path.child("labelSelector");
        let requirements = selector.requirements.as_deref().unwrap_or_default();
        errors.extend(validate_form(selector.raw_selector.as_deref(), requirements.len(), &path));
        for (index, requirement) in requirements.iter().enumerate() {
            let path = path.child("requirements").index(index);
            let values = requirement.values.as_deref().unwrap_or_default();
            errors.extend(validate_values(&requirement.operator, values, &path));
            let mut check = |path: &FieldPath, text: &str, rule: names::Rule| {
                let problems = rule(text).into_iter();
                errors.extend(problems.map(|problem| FieldError::invalid(path, text, problem)));
            };
            check(&path.child("key"), &requirement.key, names::qualified_name);
            for (index, value) in values.iter().enumerate() {
                check(&path.child("values").index(index), value, names::label_value);
            }
        }
    }
    errors
}

/// A selector is given as text or as requirements.
fn validate_form(raw: Option<&str>, requirements: usize, path: &FieldPath) -> Option<FieldError> {
    match (raw.unwrap_or_default(), requirements) {
        ("", 0) => {
            let detail =
                format!("when {path} is specified, requirements or rawSelector is required");
            Some(FieldError::required(&path.child("requirements"), detail))
        }
        ("", _) | (_, 0) => None,
        (raw, _) => Some(FieldError::invalid(&path.child("rawSelector"), raw, BOTH)),
    }
}

/// Operators that are not known here may be known to who answers.
fn validate_values(operator: &str, values: &[String], path: &FieldPath) -> Option<FieldError> {
    let path = path.child("values");
    match (operator, values) {
        ("In" | "NotIn", []) => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            Some(FieldError::required(&path, detail))
        }
        ("Exists" | "DoesNotExist", [_, ..]) => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            Some(FieldError::forbidden(&path, detail))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[track_caller]
    fn compare(errors: &[FieldError], expected: &[&str]) {
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_question_is_about_somebody_and_one_thing() {
        let check = |review: Value, expected: &[&str]| {
            compare(&validate_review(&from_value(review).unwrap()), expected);
        };
        let pods = json!({"verb": "get", "resource": "pods"});
        check(json!({"spec": {"user": "a", "resourceAttributes": pods}}), &[]);
        check(json!({"spec": {"groups": ["a"], "nonResourceAttributes": {"path": "/"}}}), &[]);
        check(
            json!({"metadata": {"name": "a"}, "spec": {}}),
            &[
                "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
                "spec.user: Invalid value: \"\": at least one of user or group must be specified",
                "metadata: Invalid value: {\"name\":\"a\"}: must be empty",
            ],
        );
        check(
            json!({"spec": {"user": "a", "resourceAttributes": pods, "nonResourceAttributes": {"path": "/"}}}),
            &[
                "spec.nonResourceAttributes: Invalid value: {\"path\":\"/\"}: cannot be specified in combination with resourceAttributes",
            ],
        );
    }

    #[test]
    fn a_local_question_stays_in_its_namespace() {
        let check = |review: Value, expected: &[&str]| {
            compare(&validate_local_review(&from_value(review).unwrap()), expected);
        };
        let review = |namespace: &str| {
            json!({
                "metadata": {"namespace": "dev"},
                "spec": {"user": "a", "resourceAttributes": {"namespace": namespace}},
            })
        };
        check(review("dev"), &[]);
        check(
            review("ops"),
            &[
                "spec.resourceAttributes.namespace: Invalid value: \"ops\": must match metadata.namespace",
            ],
        );
        check(
            json!({"metadata": {"namespace": "dev"}, "spec": {"user": "a", "nonResourceAttributes": {}}}),
            &["spec.nonResourceAttributes: Invalid value: {}: disallowed on this kind of request"],
        );
    }

    #[test]
    fn selectors() {
        let check = |attributes: Value, expected: &[&str]| {
            let review = json!({"spec": {"resourceAttributes": attributes}});
            compare(&validate_self_review(&from_value(review).unwrap()), expected);
        };
        check(json!({"fieldSelector": {"rawSelector": "a=b"}}), &[]);
        check(
            json!({
                "fieldSelector": {"requirements": [
                    {"key": "", "operator": "In"}, {"key": "a", "operator": "Like", "values": ["b"]},
                ]},
                "labelSelector": {"rawSelector": "a", "requirements": [
                    {"key": "a", "operator": "Exists", "values": ["b"]},
                ]},
            }),
            &[
                "spec.resourceAttributes.fieldSelector.requirements[0].key: Required value: must be specified",
                "spec.resourceAttributes.fieldSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "spec.resourceAttributes.labelSelector.rawSelector: Invalid value: \"a\": may not specified at the same time as requirements",
                "spec.resourceAttributes.labelSelector.requirements[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ],
        );
        check(
            json!({"labelSelector": {}}),
            &[
                "spec.resourceAttributes.labelSelector.requirements: Required value: when spec.resourceAttributes.labelSelector is specified, requirements or rawSelector is required",
            ],
        );
    }
}
