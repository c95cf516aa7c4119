//! Checks of file paths and file modes in a pod spec.

use crate::api::{FieldError, FieldPath};

/// Relative, and never upwards (upstream `validateLocalDescendingPath`, pkg/apis/core/validation,
/// v1.35).
pub(super) fn descending(value: &str, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if value.starts_with('/') {
        errors.push(FieldError::invalid(path, value, "must be a relative path"));
    }
    errors.extend(no_backsteps(value, path));
    errors
}

/// As [`descending`], and not beginning with what the kubelet keeps for itself (upstream
/// `ValidateLocalNonReservedPath`).
pub(super) fn not_reserved(value: &str, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = descending(value, path);
    if value.starts_with("..") && !value.starts_with("../") {
        errors.push(FieldError::invalid(path, value, "must not start with '..'"));
    }
    errors
}

pub(super) fn has_backsteps(value: &str) -> bool {
    value.split('/').any(|part| part == "..")
}

pub(in crate::registry::kinds::core) fn no_backsteps(
    value: &str,
    path: &FieldPath,
) -> Option<FieldError> {
    has_backsteps(value).then(|| FieldError::invalid(path, value, "must not contain '..'"))
}

pub(super) fn file_mode(mode: Option<i32>, path: &FieldPath) -> Option<FieldError> {
    let mode = mode?;
    let detail = "must be a number between 0 and 0777 (octal), both inclusive";
    (!(0..=0o777).contains(&mode)).then(|| FieldError::invalid(path, mode, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_where_they_begin() {
        let path = FieldPath::new("p");
        for (value, problems) in [
            ("a/b", 0),
            ("a..b", 0),
            ("...", 1),
            ("..data", 1),
            ("../a", 1),
            ("a/../b", 1),
            ("/a", 1),
            ("/../a", 2),
        ] {
            assert_eq!(not_reserved(value, &path).len(), problems, "{value}");
        }
        assert!(file_mode(Some(0o777), &path).is_none());
        assert!(file_mode(Some(0o1000), &path).is_some());
        assert!(file_mode(Some(-1), &path).is_some());
    }
}
