//! What a Job makes of how its pods end: pod failure policy and success policy.
//!
//! Follows upstream `validatePodFailurePolicy` and `validateSuccessPolicy`
//! (pkg/apis/batch/validation, v1.35).

use super::indexes;
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid, not_negative, one_of, repeated, to_value};
use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule, SuccessPolicy, SuccessPolicyRule,
};

const FAIL_INDEX: &str = "FailIndex";
const ACTIONS: &[&str] = &["Count", FAIL_INDEX, "FailJob", "Ignore"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];

/// Policies with more rules are refused.
const RULES_MAX: usize = 20;
/// Rules with more exit codes are refused.
const EXIT_CODES_MAX: usize = 255;
/// Rules with more patterns of conditions are refused.
const PATTERNS_MAX: usize = 20;
/// Longer lists of indexes are refused.
const SUCCEEDED_INDEXES_BYTES_MAX: usize = 64 * 1_024;

pub(super) fn validate_failure(
    policy: &PodFailurePolicy,
    spec: &JobSpec,
    path: &FieldPath,
) -> Vec<FieldError> {
    let path = path.child("rules");
    let mut errors = Vec::new();
    if policy.rules.len() > RULES_MAX {
        errors.push(FieldError::too_many(&path, policy.rules.len(), RULES_MAX));
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        errors.extend(validate_failure_rule(rule, spec, &path.index(index)));
    }
    errors
}

fn validate_failure_rule(
    rule: &PodFailurePolicyRule,
    spec: &JobSpec,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let action_path = path.child("action");
    errors.extend(chosen(&action_path, &rule.action, ACTIONS));
    if rule.action == FAIL_INDEX && spec.backoff_limit_per_index.is_none() {
        let detail = "requires the backoffLimitPerIndex to be set";
        errors.push(FieldError::invalid(&action_path, FAIL_INDEX, detail));
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    if let Some(codes) = &rule.on_exit_codes {
        errors.extend(validate_exit_codes(codes, spec, &path.child("onExitCodes")));
    }
    errors.extend(validate_patterns(patterns, &path.child("onPodConditions")));
    let detail = match (rule.on_exit_codes.is_some(), !patterns.is_empty()) {
        (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return errors,
    };
    errors.push(FieldError::invalid_unprinted(path, detail));
    errors
}

/// The error of a choice that was not made, or made badly.
fn chosen(path: &FieldPath, value: &str, allowed: &[&str]) -> Option<FieldError> {
    if value.is_empty() {
        let quoted: Vec<_> = allowed.iter().map(|value| format!("{value:?}")).collect();
        let detail = format!("valid values: [{}]", quoted.join(" "));
        return Some(FieldError::required(path, detail));
    }
    one_of(path, value, allowed)
}

fn validate_exit_codes(
    codes: &PodFailurePolicyOnExitCodesRequirement,
    spec: &JobSpec,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors: Vec<_> =
        chosen(&path.child("operator"), &codes.operator, OPERATORS).into_iter().collect();
    if let Some(name) = codes.container_name.as_deref().filter(|name| !has_container(spec, name)) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(&path.child("containerName"), name, detail));
    }
    let path = path.child("values");
    let values = codes.values.as_slice();
    if values.is_empty() {
        errors.push(FieldError::invalid(
            &path,
            to_value(&values),
            "at least one value is required",
        ));
    } else if values.len() > EXIT_CODES_MAX {
        errors.push(FieldError::too_many(&path, values.len(), EXIT_CODES_MAX));
    }
    let is_repeated = repeated(values);
    for (index, value) in values.iter().enumerate() {
        let path = path.index(index);
        if codes.operator == "In" && *value == 0 {
            errors.push(FieldError::invalid(&path, 0, "must not be 0 for the In operator"));
        }
        if is_repeated[index] {
            errors.push(FieldError::duplicate(&path, *value));
        }
    }
    if !values.is_sorted() {
        errors.push(FieldError::invalid(&path, to_value(&values), "must be ordered"));
    }
    errors
}

fn has_container(spec: &JobSpec, name: &str) -> bool {
    let Some(pod) = &spec.template.spec else {
        return false;
    };
    let mut containers = pod.containers.iter().chain(pod.init_containers.iter().flatten());
    containers.any(|container| container.name == name)
}

fn validate_patterns(
    patterns: &[PodFailurePolicyOnPodConditionsPattern],
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if patterns.len() > PATTERNS_MAX {
        errors.push(FieldError::too_many(path, patterns.len(), PATTERNS_MAX));
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let path = path.index(index);
        let (kind, status) = (&pattern.type_, pattern.status.as_deref().unwrap_or_default());
        errors.extend(invalid(&path.child("type"), kind, names::qualified_name(kind)));
        errors.extend(chosen(&path.child("status"), status, STATUSES));
    }
    errors
}

/// The Job is Indexed.
pub(super) fn validate_success(
    policy: &SuccessPolicy,
    completions: i32,
    path: &FieldPath,
) -> Vec<FieldError> {
    let path = path.child("rules");
    let mut errors = Vec::new();
    if policy.rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&path, detail));
    } else if policy.rules.len() > RULES_MAX {
        errors.push(FieldError::too_many(&path, policy.rules.len(), RULES_MAX));
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        errors.extend(validate_success_rule(rule, completions, &path.index(index)));
    }
    errors
}

fn validate_success_rule(
    rule: &SuccessPolicyRule,
    completions: i32,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(FieldError::required(path, detail));
    }
    let mut named = None;
    if let Some(text) = rule.succeeded_indexes.as_deref() {
        let path = path.child("succeededIndexes");
        if text.len() > SUCCEEDED_INDEXES_BYTES_MAX {
            errors.push(FieldError::too_long(&path, SUCCEEDED_INDEXES_BYTES_MAX));
        }
        named = Some(indexes::count(text, completions).unwrap_or_else(|error| {
            let detail = format!("error parsing succeededIndexes: {error}");
            errors.push(FieldError::invalid(&path, text, detail));
            0
        }));
    }
    let Some(count) = rule.succeeded_count else {
        return errors;
    };
    let path = path.child("succeededCount");
    errors.extend(not_negative(&path, Some(count)));
    for (most, what) in [
        (Some(i64::from(completions)), "the number of specified completions"),
        (named, "the number of indexes in the specified succeededIndexes field"),
    ] {
        if let Some(most) = most.filter(|most| i64::from(count) > *most) {
            let detail = format!("must be less than or equal to {most} ({what})");
            errors.push(FieldError::invalid(&path, count, detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::testing::compare;
    use serde_json::{Value, json};

    fn spec() -> JobSpec {
        serde_json::from_value(json!({
            "template": {"spec": {
                "containers": [{"name": "c"}], "initContainers": [{"name": "i"}],
            }},
        }))
        .unwrap()
    }

    #[track_caller]
    fn check_failure(rule: Value, expected: &[&str]) {
        let policy = serde_json::from_value(json!({"rules": [rule]})).unwrap();
        compare(validate_failure(&policy, &spec(), &FieldPath::new("p")), expected);
    }

    #[track_caller]
    fn check_success(rules: Value, expected: &[&str]) {
        let policy = serde_json::from_value(json!({"rules": rules})).unwrap();
        compare(validate_success(&policy, 5, &FieldPath::new("p")), expected);
    }

    #[test]
    fn failures_are_told_apart_by_code_or_condition() {
        let codes = json!({"operator": "In", "values": [1, 2], "containerName": "i"});
        check_failure(json!({"action": "FailJob", "onExitCodes": codes}), &[]);
        check_failure(
            json!({"action": "", "onExitCodes": codes, "onPodConditions": [{"type": "A", "status": "True"}]}),
            &[
                "p.rules[0].action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
                "p.rules[0]: Invalid value: specifying both OnExitCodes and OnPodConditions is not supported",
            ],
        );
        check_failure(
            json!({"action": "FailIndex"}),
            &[
                "p.rules[0].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
                "p.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
            ],
        );
        check_failure(
            json!({"action": "Retry", "onPodConditions": [{"type": "", "status": "Yes"}, {"type": "A", "status": ""}]}),
            &[
                "p.rules[0].action: Unsupported value: \"Retry\": supported values: \"Count\", \"FailIndex\", \"FailJob\", \"Ignore\"",
                "p.rules[0].onPodConditions[0].type: Invalid value: \"\": name part must be non-empty",
                "p.rules[0].onPodConditions[0].type: Invalid value: \"\": name part must consist of",
                "p.rules[0].onPodConditions[0].status: Unsupported value: \"Yes\"",
                "p.rules[0].onPodConditions[1].status: Required value: valid values: [\"False\" \"True\" \"Unknown\"]",
            ],
        );
    }

    #[test]
    fn exit_codes_are_ordered_and_no_success() {
        check_failure(
            json!({"action": "Count", "onExitCodes": {"operator": "In", "values": [2, 0, 2], "containerName": "x"}}),
            &[
                "p.rules[0].onExitCodes.containerName: Invalid value: \"x\": must be one of the container",
                "p.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
                "p.rules[0].onExitCodes.values[2]: Duplicate value: 2",
                "p.rules[0].onExitCodes.values: Invalid value: [2,0,2]: must be ordered",
            ],
        );
        check_failure(
            json!({"action": "Count", "onExitCodes": {"operator": "Like", "values": []}}),
            &[
                "p.rules[0].onExitCodes.operator: Unsupported value: \"Like\"",
                "p.rules[0].onExitCodes.values: Invalid value: []: at least one value is required",
            ],
        );
    }

    #[test]
    fn success_needs_indexes_that_there_are() {
        check_success(json!([{"succeededIndexes": "0-2", "succeededCount": 3}]), &[]);
        check_success(
            json!([]),
            &["p.rules: Required value: at least one rules must be specified"],
        );
        check_success(
            json!([{}, {"succeededIndexes": "7"}, {"succeededIndexes": "0,1", "succeededCount": 6}, {"succeededCount": -1}]),
            &[
                "p.rules[0]: Required value: at least one of succeededCount or succeededIndexes",
                "p.rules[1].succeededIndexes: Invalid value: \"7\": error parsing succeededIndexes: too large index: \"7\"",
                "p.rules[2].succeededCount: Invalid value: 6: must be less than or equal to 5 (the number of specified completions)",
                "p.rules[2].succeededCount: Invalid value: 6: must be less than or equal to 2 (the number of indexes",
                "p.rules[3].succeededCount: Invalid value: -1: must be greater",
            ],
        );
    }
}
