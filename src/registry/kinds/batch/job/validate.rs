//! What may be wrong with the spec of a Job, also of one that a CronJob will make.
//!
//! Follows upstream `validateJobSpec` (pkg/apis/batch/validation, v1.35).

use super::policy;
use super::{FAILED, INDEXED, NON_INDEXED, TERMINATING_OR_FAILED};
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{domain_path, not_negative, one_of, to_value};
use crate::registry::kinds::core::podspec;
use k8s_openapi::api::batch::v1::JobSpec;

/// Indexed Jobs that run more pods at once are refused: it bounds `status.completedIndexes`.
const PARALLELISM_MAX: i32 = 100_000;
/// Indexed Jobs that tolerate more failed indexes are refused: it bounds `status.failedIndexes`.
const FAILED_INDEXES_MAX: i32 = 100_000;
/// Above this many completions, a back-off limit per index comes with the two limits below.
const COMPLETIONS_MANY: i32 = 100_000;
const PARALLELISM_OF_MANY_MAX: i32 = 10_000;
const FAILED_INDEXES_OF_MANY_MAX: i32 = 10_000;
const MANAGED_BY_BYTES_MAX: usize = 63;

pub(in crate::registry::kinds::batch) fn validate(
    spec: &JobSpec,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = validate_counts(spec, path);
    if let Some(manager) = spec.managed_by.as_deref() {
        errors.extend(validate_manager(manager, &path.child("managedBy")));
    }
    errors.extend(validate_mode(spec, path));
    if let Some(rules) = &spec.pod_failure_policy {
        errors.extend(policy::validate_failure(rules, spec, &path.child("podFailurePolicy")));
    }
    errors.extend(validate_success_policy(spec, &path.child("successPolicy")));
    errors.extend(validate_replacement(spec, &path.child("podReplacementPolicy")));
    errors.extend(podspec::validate_template(&spec.template, &path.child("template")));
    errors.extend(validate_restarts(
        spec,
        &path.child("template").child("spec").child("restartPolicy"),
    ));
    errors
}

fn validate_counts(spec: &JobSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors: Vec<_> = [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.map(i64::from)),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from)),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ]
    .into_iter()
    .filter_map(|(field, value)| not_negative(&path.child(field), value))
    .collect();
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        let path = path.child("backoffLimitPerIndex");
        errors.push(FieldError::required(&path, "when maxFailedIndexes is specified"));
    }
    errors
}

/// `example.com/manager`.
fn validate_manager(manager: &str, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = domain_path(path, manager);
    if manager.len() > MANAGED_BY_BYTES_MAX {
        errors.push(FieldError::too_long(path, MANAGED_BY_BYTES_MAX));
    }
    errors
}

fn validate_mode(spec: &JobSpec, path: &FieldPath) -> Vec<FieldError> {
    let mode = spec.completion_mode.as_deref().unwrap_or(NON_INDEXED);
    let mut errors: Vec<_> =
        one_of(&path.child("completionMode"), mode, &[NON_INDEXED, INDEXED]).into_iter().collect();
    if mode == INDEXED {
        errors.extend(validate_indexed(spec, path));
    }
    if mode == NON_INDEXED {
        for (field, value) in [
            ("backoffLimitPerIndex", spec.backoff_limit_per_index),
            ("maxFailedIndexes", spec.max_failed_indexes),
        ] {
            errors.extend(value.map(|value| {
                FieldError::invalid(&path.child(field), value, "requires indexed completion mode")
            }));
        }
    }
    errors
}

fn validate_indexed(spec: &JobSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let Some(completions) = spec.completions else {
        let detail = "when completion mode is Indexed";
        errors.push(FieldError::required(&path.child("completions"), detail));
        return errors;
    };
    let parallelism_path = path.child("parallelism");
    let failed_path = path.child("maxFailedIndexes");
    let detail = "must be less than or equal to 100000 when completion mode is Indexed";
    errors.extend(above(&parallelism_path, spec.parallelism, PARALLELISM_MAX, detail));
    let detail = "must be less than or equal to completions";
    errors.extend(above(&failed_path, spec.max_failed_indexes, completions, detail));
    let detail = "must be less than or equal to 100000";
    errors.extend(above(&failed_path, spec.max_failed_indexes, FAILED_INDEXES_MAX, detail));
    if completions <= COMPLETIONS_MANY || spec.backoff_limit_per_index.is_none() {
        return errors;
    }
    if spec.max_failed_indexes.is_none() {
        let detail = "must be specified when completions is above 100000";
        errors.push(FieldError::required(&failed_path, detail));
    }
    let detail = "must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index";
    let most = PARALLELISM_OF_MANY_MAX;
    errors.extend(above(&parallelism_path, spec.parallelism, most, detail));
    let most = FAILED_INDEXES_OF_MANY_MAX;
    errors.extend(above(&failed_path, spec.max_failed_indexes, most, detail));
    errors
}

fn above(path: &FieldPath, value: Option<i32>, most: i32, detail: &str) -> Option<FieldError> {
    let value = value.filter(|value| *value > most)?;
    Some(FieldError::invalid(path, value, detail))
}

fn validate_success_policy(spec: &JobSpec, path: &FieldPath) -> Vec<FieldError> {
    let Some(rules) = &spec.success_policy else {
        return Vec::new();
    };
    if spec.completion_mode.as_deref() != Some(INDEXED) {
        let detail = "requires indexed completion mode";
        return vec![FieldError::invalid(path, to_value(rules), detail)];
    }
    policy::validate_success(rules, spec.completions.unwrap_or_default(), path)
}

/// With a failure policy, a pod is replaced only when it has failed for good.
fn validate_replacement(spec: &JobSpec, path: &FieldPath) -> Option<FieldError> {
    let policy = spec.pod_replacement_policy.as_deref()?;
    match spec.pod_failure_policy {
        Some(_) => one_of(path, policy, &[FAILED]),
        None => one_of(path, policy, &[FAILED, TERMINATING_OR_FAILED]),
    }
}

fn validate_restarts(spec: &JobSpec, path: &FieldPath) -> Option<FieldError> {
    let pod = spec.template.spec.as_ref();
    let policy = pod.and_then(|pod| pod.restart_policy.as_deref()).unwrap_or_default();
    match policy {
        "" | "Always" => Some(FieldError::required(path, "valid values: \"OnFailure\", \"Never\"")),
        "OnFailure" if spec.pod_failure_policy.is_some() => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            Some(FieldError::invalid(path, policy, detail))
        }
        _ => one_of(path, policy, &["OnFailure", "Never"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::testing::compare;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(changes: Value, expected: &[&str]) {
        let mut spec = json!({"template": {"spec": {
            "restartPolicy": "Never", "dnsPolicy": "Default", "terminationGracePeriodSeconds": 30,
            "containers": [{
                "name": "c", "image": "i", "imagePullPolicy": "Always",
                "terminationMessagePolicy": "File",
            }],
        }}});
        json_patch::merge(&mut spec, &changes);
        let spec = serde_json::from_value(spec).unwrap();
        compare(validate(&spec, &FieldPath::new("s")), expected);
    }

    #[test]
    fn counts_are_not_negative() {
        check(json!({}), &[]);
        check(
            json!({"parallelism": -1, "completions": -1, "activeDeadlineSeconds": -1, "backoffLimit": -1, "ttlSecondsAfterFinished": -1}),
            &[
                "s.parallelism: Invalid value: -1",
                "s.completions: Invalid value: -1",
                "s.activeDeadlineSeconds: Invalid value: -1",
                "s.backoffLimit: Invalid value: -1",
                "s.ttlSecondsAfterFinished: Invalid value: -1",
            ],
        );
    }

    #[test]
    fn indexes_are_for_indexed_jobs() {
        check(
            json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 2, "successPolicy": {"rules": []}}),
            &[
                "s.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
                "s.maxFailedIndexes: Invalid value: 2: requires indexed completion mode",
                "s.successPolicy: Invalid value: {\"rules\":[]}: requires indexed completion mode",
            ],
        );
        check(
            json!({"completionMode": "Indexed"}),
            &["s.completions: Required value: when completion mode is Indexed"],
        );
        check(
            json!({"completionMode": "Sorted"}),
            &["s.completionMode: Unsupported value: \"Sorted\""],
        );
        let indexed = json!({"completionMode": "Indexed", "completions": 5, "maxFailedIndexes": 6});
        check(
            indexed,
            &[
                "s.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
                "s.maxFailedIndexes: Invalid value: 6: must be less than or equal to completions",
            ],
        );
    }

    #[test]
    fn many_completions_have_tighter_limits() {
        check(
            json!({"completionMode": "Indexed", "completions": 100_001, "parallelism": 10_001, "backoffLimitPerIndex": 1}),
            &[
                "s.maxFailedIndexes: Required value: must be specified when completions is above 100000",
                "s.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above 100000",
            ],
        );
        check(
            json!({"completionMode": "Indexed", "completions": 100_001, "parallelism": 100_001}),
            &[
                "s.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
            ],
        );
    }

    #[test]
    fn pods_end() {
        let with = |policy: &str| json!({"template": {"spec": {"restartPolicy": policy}}});
        let path = "s.template.spec.restartPolicy";
        check(
            with("Always"),
            &[&format!("{path}: Required value: valid values: \"OnFailure\", \"Never\"")],
        );
        let mut on_failure = with("OnFailure");
        check(on_failure.clone(), &[]);
        on_failure["podFailurePolicy"] = json!({"rules": []});
        on_failure["podReplacementPolicy"] = json!("TerminatingOrFailed");
        check(
            on_failure,
            &[
                "s.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\"",
                &format!("{path}: Invalid value: \"OnFailure\": only \"Never\" is supported"),
            ],
        );
    }

    #[test]
    fn managers_have_a_domain() {
        check(json!({"managedBy": "example.com/jobs"}), &[]);
        check(
            json!({"managedBy": "jobs"}),
            &["s.managedBy: Invalid value: \"jobs\": must be a domain-prefixed path"],
        );
        check(
            json!({"managedBy": "A/b c"}),
            &[
                "s.managedBy: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
                "s.managedBy: Invalid value: \"b c\": Invalid path (regex used for validation is",
            ],
        );
        let long = format!("example.com/{}", "a".repeat(60));
        check(
            json!({"managedBy": long}),
            &["s.managedBy: Too long: may not be more than 63 bytes"],
        );
    }
}
