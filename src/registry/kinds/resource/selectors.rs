//! Which devices will do: expressions in CEL, and taints that are tolerated.
//!
//! Follows upstream `validateSelectorSlice` and `validateDeviceToleration`
//! (pkg/apis/resource/validation, v1.35).

use super::validate_each;
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid, one_of};
use k8s_openapi::api::resource::v1::{DeviceSelector, DeviceToleration};

const SELECTORS_MAX: usize = 32;
/// A longer expression is refused.
const EXPRESSION_BYTES_MAX: usize = 10 * 1024;
const EFFECTS: &[&str] = &["NoExecute", "NoSchedule"];

pub(super) fn validate_selectors(
    selectors: Option<&[DeviceSelector]>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let selectors = selectors.unwrap_or_default();
    validate_each(selectors, SELECTORS_MAX, path, |selector, path| match &selector.cel {
        None => vec![FieldError::required(&path.child("cel"), "")],
        Some(cel) => {
            let path = path.child("cel").child("expression");
            if cel.expression.len() > EXPRESSION_BYTES_MAX {
                return vec![FieldError::too_long(&path, EXPRESSION_BYTES_MAX)];
            }
            validate_expression(&cel.expression, &path)
        }
    })
}

/// What is wrong with an expression about a device.
///
/// This is the one place where expressions of this group are judged beyond their length: until they
/// are compiled here, any text but none passes.
fn validate_expression(expression: &str, path: &FieldPath) -> Vec<FieldError> {
    let is_blank = expression.trim().is_empty();
    let detail = "compilation failed: there is no expression";
    is_blank.then(|| FieldError::invalid(path, expression, detail)).into_iter().collect()
}

pub(super) fn validate_tolerations(
    tolerations: Option<&[DeviceToleration]>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let each = tolerations.unwrap_or_default().iter().enumerate();
    each.flat_map(|(index, toleration)| validate_toleration(toleration, &path.index(index)))
        .collect()
}

fn validate_toleration(toleration: &DeviceToleration, path: &FieldPath) -> Vec<FieldError> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (key, value, effect) =
        (text(&toleration.key), text(&toleration.value), text(&toleration.effect));
    let mut errors = Vec::new();
    if !key.is_empty() {
        errors.extend(invalid(&path.child("key"), &key, names::qualified_name(&key)));
    }
    let value_path = path.child("value");
    match toleration.operator.as_deref().unwrap_or_default() {
        "Exists" if !value.is_empty() => {
            let detail = "must be empty for operator `Exists`";
            errors.push(FieldError::invalid(&value_path, value, detail));
        }
        "Exists" => {}
        "Equal" => errors.extend(invalid(&value_path, &value, names::label_value(&value))),
        "" => errors.push(FieldError::required(&path.child("operator"), "")),
        other => {
            let operators = &["Equal", "Exists"];
            errors.push(FieldError::not_supported(&path.child("operator"), other, operators));
        }
    }
    if !effect.is_empty() {
        errors.extend(one_of(&path.child("effect"), &effect, EFFECTS));
    }
    errors
}
