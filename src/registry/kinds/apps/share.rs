//! How many pods at once: a number, or a percentage of those wanted.
//!
//! Follows upstream pkg/apis/apps/validation (v1.35).

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{not_negative, to_value};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Upstream `ValidatePositiveIntOrPercent`.
pub(in crate::registry::kinds) fn validate_share(
    share: &IntOrString,
    path: &FieldPath,
) -> Vec<FieldError> {
    match share {
        IntOrString::Int(number) => not_negative(path, Some(*number)).into_iter().collect(),
        IntOrString::String(text) => {
            let problems = names::percent(text).into_iter();
            problems.map(|problem| FieldError::invalid(path, text.as_str(), problem)).collect()
        }
    }
}

/// Upstream `IsNotMoreThan100Percent`.
pub(in crate::registry::kinds) fn validate_whole(
    share: &IntOrString,
    path: &FieldPath,
) -> Option<FieldError> {
    let is_more = matches!(share, IntOrString::String(_)) && number(share) > 100;
    is_more.then(|| FieldError::invalid(path, to_value(share), "must not be greater than 100%"))
}

/// The number, also of a percentage; what is neither counts as zero (upstream
/// `getIntOrPercentValue`).
pub(super) fn number(share: &IntOrString) -> i64 {
    match share {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(text) => text.trim_end_matches('%').parse().unwrap_or_default(),
    }
}
