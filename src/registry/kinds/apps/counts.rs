//! The counts in the status of a workload.

use crate::api::{FieldError, FieldPath};
use crate::registry::checks::not_negative;

/// A field of the status and its value.
type Count<'a> = (&'a str, Option<i64>);

/// No count is negative.
pub(in crate::registry::kinds) fn validate_counts(counts: &[Count<'_>]) -> Vec<FieldError> {
    let path = FieldPath::new("status");
    counts.iter().filter_map(|(field, value)| not_negative(&path.child(field), *value)).collect()
}

/// As [`validate_counts`], for those who count replicas: none of the `bounded` is greater than all
/// of them, and no more are available than ready, which `beyond_ready` says where it is not so.
pub(in crate::registry::kinds) fn validate_replica_counts(
    counts: &[Count<'_>],
    bounded: &[&str],
    beyond_ready: &str,
) -> Vec<FieldError> {
    let count = |name: &str| {
        let found = counts.iter().find(|(field, _)| *field == name);
        found.and_then(|(_, value)| *value)
    };
    let at_most = |field: &str, most: &str, detail: &str| {
        let most = count(most).unwrap_or_default();
        let value = count(field).filter(|value| *value > most)?;
        Some(FieldError::invalid(&FieldPath::new("status").child(field), value, detail))
    };
    let of_replicas = "cannot be greater than status.replicas";
    let mut errors = validate_counts(counts);
    errors.extend(bounded.iter().filter_map(|field| at_most(field, "replicas", of_replicas)));
    errors.extend(at_most("availableReplicas", "readyReplicas", beyond_ready));
    errors
}
