//! The kinds of the `resource.k8s.io` group: devices, who asks for them and who has them. What the
//! kinds share is here.
//!
//! Follows upstream pkg/apis/resource/validation and pkg/registry/resource (v1.35). Fields behind
//! features that are off by default there (partitionable devices, device taints, binding
//! conditions, consumable capacity, extended resources) are dropped as there, and so need no rules.

mod claim;
mod configuration;
mod device_class;
mod devices;
mod resource_claim;
mod resource_claim_template;
mod resource_slice;
mod selectors;
mod status;

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::invalid;
use serde_json::Value;
use std::collections::BTreeSet;

/// Requests of a claim, and results of its allocation.
const REQUESTS_MAX: usize = 32;
/// Configurations of a class or a claim.
const CONFIGURATIONS_MAX: usize = 32;
const POOL_BYTES_MAX: usize = 253;
/// The name of an attribute without its domain.
const IDENTIFIER_BYTES_MAX: usize = 32;

/// Each element, and then whether there are too many (upstream `validateSlice`).
fn validate_each<T>(
    elements: &[T],
    max: usize,
    path: &FieldPath,
    check: impl Fn(&T, &FieldPath) -> Vec<FieldError>,
) -> Vec<FieldError> {
    let each = elements.iter().enumerate();
    let mut errors: Vec<_> =
        each.flat_map(|(index, element)| check(element, &path.index(index))).collect();
    if elements.len() > max {
        errors.push(FieldError::too_many(path, elements.len(), max));
    }
    errors
}

/// That elements differ in what `key` shows of them, at `field` (the rest of upstream
/// `validateSet`).
fn validate_distinct<T>(
    elements: &[T],
    (field, path): (&str, &FieldPath),
    key: impl Fn(&T) -> String,
) -> Vec<FieldError> {
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    for (index, element) in elements.iter().enumerate() {
        let key = key(element);
        let path = path.index(index);
        let path = if field.is_empty() { path } else { path.child(field) };
        if seen.contains(&key) {
            errors.push(FieldError::duplicate(&path, key));
        } else {
            seen.insert(key);
        }
    }
    errors
}

/// Upstream `validatePoolName`.
fn validate_pool(name: &str, path: &FieldPath) -> Vec<FieldError> {
    if name.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let mut errors = Vec::new();
    if name.len() > POOL_BYTES_MAX {
        errors.push(FieldError::too_long(path, POOL_BYTES_MAX));
    }
    for part in name.split('/') {
        errors.extend(invalid(path, part, names::dns1123_subdomain(part)));
    }
    errors
}

/// The name of a device, a request or a set of counters.
fn validate_label(name: &str, path: &FieldPath) -> Vec<FieldError> {
    invalid(path, name, names::dns1123_label(name))
}

/// Upstream `validateQualifiedName`: an identifier, with a domain or without.
fn validate_qualified(name: &str, path: &FieldPath) -> Vec<FieldError> {
    let parts: Vec<_> = name.split('/').collect();
    match parts[..] {
        [""] => vec![FieldError::required(path, "name required")],
        [name] => validate_identifier(name, path),
        [domain, name] => {
            let mut errors = match domain {
                "" => vec![FieldError::required(path, "the domain must not be empty")],
                domain => super::core::podspec::validate_driver_name(domain, path),
            };
            errors.extend(match name {
                "" => vec![FieldError::required(path, "the name must not be empty")],
                name => validate_identifier(name, path),
            });
            errors
        }
        // Upstream does not look at these either.
        _ => Vec::new(),
    }
}

/// Upstream `validateFullyQualifiedName`.
fn validate_fully_qualified(name: &str, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = validate_qualified(name, path);
    if !name.is_empty() && !name.contains('/') {
        errors.push(FieldError::invalid(path, name, "must include a domain"));
    }
    errors
}

/// Upstream `validateCIdentifier`.
fn validate_identifier(name: &str, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if name.len() > IDENTIFIER_BYTES_MAX {
        errors.push(FieldError::too_long(path, IDENTIFIER_BYTES_MAX));
    }
    errors.extend(invalid(path, name, names::c_identifier(name)));
    errors
}

/// The error of one of two, or of neither.
fn one_of_two(path: &FieldPath, count: usize, what: &str) -> Option<FieldError> {
    match count {
        0 => Some(FieldError::required(path, format!("exactly one of {what} is required"))),
        1 => None,
        _ => {
            let detail = format!("exactly one of {what} is required, but multiple fields are set");
            Some(FieldError::invalid(path, Value::Null, detail))
        }
    }
}
