//! Taints of nodes, and the tolerations that pods have of them.
//!
//! Follows upstream `validateNodeTaints` and `ValidateTolerations` (pkg/apis/core/validation,
//! v1.35).

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid, one_of, to_value};
use k8s_openapi::api::core::v1::{Taint, Toleration};
use std::collections::BTreeSet;

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(in crate::registry::kinds) fn validate_taints(
    taints: &[Taint],
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, taint) in taints.iter().enumerate() {
        let path = path.index(index);
        errors.extend(invalid(&path.child("key"), &taint.key, names::qualified_name(&taint.key)));
        let value = taint.value.as_deref().unwrap_or_default();
        let problems = names::label_value(value);
        if !problems.is_empty() {
            let detail = problems.join(";");
            errors.push(FieldError::invalid(&path.child("value"), value, detail));
        }
        let effect_path = path.child("effect");
        if taint.effect.is_empty() {
            errors.push(FieldError::required(&effect_path, ""));
        } else {
            errors.extend(one_of(&effect_path, &taint.effect, EFFECTS));
        }
        if !seen.insert((&taint.key, &taint.effect)) {
            let detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(FieldError { detail, ..FieldError::duplicate(&path, to_value(taint)) });
        }
    }
    errors
}

pub(in crate::registry::kinds) fn validate_tolerations(
    tolerations: &[Toleration],
    path: &FieldPath,
) -> Vec<FieldError> {
    let each = tolerations.iter().enumerate();
    each.flat_map(|(index, toleration)| validate_toleration(toleration, &path.index(index)))
        .collect()
}

fn validate_toleration(toleration: &Toleration, path: &FieldPath) -> Vec<FieldError> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (key, operator) = (text(&toleration.key), text(&toleration.operator));
    let (value, effect) = (text(&toleration.value), text(&toleration.effect));
    let (operator_path, effect_path) = (path.child("operator"), path.child("effect"));
    let mut errors = Vec::new();
    if !key.is_empty() {
        errors.extend(invalid(&path.child("key"), &key, names::qualified_name(&key)));
    } else if operator != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(FieldError::invalid(&operator_path, operator.as_str(), detail));
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(FieldError::invalid(&effect_path, effect.as_str(), detail));
    }
    match operator.as_str() {
        "" | "Equal" => {
            let problems = names::label_value(&value);
            if !problems.is_empty() {
                let detail = problems.join(";");
                errors.push(FieldError::invalid(&operator_path, value, detail));
            }
        }
        "Exists" if value.is_empty() => {}
        "Exists" => {
            let detail = "value must be empty when `operator` is 'Exists'";
            errors.push(FieldError::invalid(&operator_path, value, detail));
        }
        other => {
            errors.push(FieldError::not_supported(&operator_path, other, &["Equal", "Exists"]));
        }
    }
    if !effect.is_empty() {
        errors.extend(one_of(&effect_path, &effect, EFFECTS));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn compare(errors: &[FieldError], expected: &[&str]) {
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), expected.len(), "{texts:#?}");
        for (text, expected) in texts.iter().zip(expected) {
            assert!(text.starts_with(expected), "{text}");
        }
    }

    #[track_caller]
    fn check_taints(taints: Value, expected: &[&str]) {
        let taints: Vec<Taint> = serde_json::from_value(taints).unwrap();
        compare(&validate_taints(&taints, &FieldPath::new("t")), expected);
    }

    #[track_caller]
    fn check(toleration: Value, expected: &[&str]) {
        let tolerations = [serde_json::from_value(toleration).unwrap()];
        compare(&validate_tolerations(&tolerations, &FieldPath::new("t")), expected);
    }

    #[test]
    fn taints() {
        check_taints(
            json!([{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoExecute"}]),
            &[],
        );
        check_taints(
            json!([{"key": "a", "effect": ""}, {"key": "-", "value": "-", "effect": "Maybe"}]),
            &[
                "t[0].effect: Required value",
                "t[1].key: Invalid value: \"-\": name part must consist of",
                "t[1].value: Invalid value: \"-\": a valid label must be",
                "t[1].effect: Unsupported value: \"Maybe\": supported values: \"NoExecute\", \"NoSchedule\", \"PreferNoSchedule\"",
            ],
        );
        let taint = json!({"key": "a", "effect": "NoSchedule"});
        check_taints(
            json!([taint, taint]),
            &[
                "t[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}: taints must be unique by key and effect pair",
            ],
        );
    }

    #[test]
    fn tolerations() {
        check(json!({"operator": "Exists"}), &[]);
        check(
            json!({"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 5}),
            &[],
        );
        check(
            json!({}),
            &["t[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty"],
        );
        check(
            json!({"key": "a", "tolerationSeconds": 5, "effect": "NoSchedule"}),
            &[
                "t[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set",
            ],
        );
        check(
            json!({"key": "a", "operator": "Exists", "value": "b"}),
            &[
                "t[0].operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'",
            ],
        );
        check(
            json!({"key": "a", "operator": "In", "effect": "x"}),
            &[
                "t[0].operator: Unsupported value: \"In\": supported values: \"Equal\", \"Exists\"",
                "t[0].effect: Unsupported value: \"x\": supported values: \"NoExecute\"",
            ],
        );
    }
}
