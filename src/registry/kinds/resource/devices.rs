//! One device of a slice: what it is like, and how much there is of it.
//!
//! Follows upstream `validateDevice` (pkg/apis/resource/validation, v1.35).

use super::{validate_label, validate_qualified};
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::to_value;
use k8s_openapi::api::resource::v1::{Device, DeviceAttribute, ResourceSliceSpec};

const ATTRIBUTES_AND_CAPACITIES_MAX: usize = 32;
const VALUE_BYTES_MAX: usize = 64;
/// The longest name with its domain; longer ones are shown cut.
const NAME_BYTES_SHOWN: usize = 63 + 1 + 32;

/// Takes away what belongs to features that are off.
pub(super) fn drop_disabled(spec: &mut ResourceSliceSpec) {
    spec.shared_counters = None;
    spec.per_device_node_selection = None;
    for device in spec.devices.iter_mut().flatten() {
        device.taints = None;
        device.consumes_counters = None;
        device.node_name = None;
        device.node_selector = None;
        device.all_nodes = None;
        device.binding_conditions = None;
        device.binding_failure_conditions = None;
        device.binds_to_node = None;
        device.allow_multiple_allocations = None;
        for capacity in device.capacity.iter_mut().flatten().map(|(_, capacity)| capacity) {
            capacity.request_policy = None;
        }
    }
}

pub(super) fn validate(device: &Device, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = validate_label(&device.name, &path.child("name"));
    let attributes = device.attributes.clone().unwrap_or_default();
    let capacity = device.capacity.clone().unwrap_or_default();
    let count = attributes.len() + capacity.len();
    if count > ATTRIBUTES_AND_CAPACITIES_MAX {
        let detail = format!(
            "the total number of attributes and capacities must not exceed \
             {ATTRIBUTES_AND_CAPACITIES_MAX}"
        );
        errors.push(FieldError::invalid(path, count, detail));
    }
    for (name, attribute) in &attributes {
        let path = path.child("attributes").key(&shortened(name));
        errors.extend(validate_qualified(name, &path));
        errors.extend(validate_attribute(attribute, &path));
    }
    for name in capacity.keys() {
        let path = path.child("capacity").key(&shortened(name));
        errors.extend(validate_qualified(name, &path));
    }
    errors
}

/// Upstream `truncateIfTooLong`, in characters.
fn shortened(name: &str) -> String {
    let count = name.chars().count();
    if count <= NAME_BYTES_SHOWN {
        return name.to_owned();
    }
    let rest = NAME_BYTES_SHOWN - "...".len();
    let (begin, end) = (rest.div_ceil(2), rest / 2);
    let first: String = name.chars().take(begin).collect();
    let last: String = name.chars().skip(count - end).collect();
    format!("{first}...{last}")
}

/// Upstream `validateDeviceAttribute`: one value of one type.
fn validate_attribute(attribute: &DeviceAttribute, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let DeviceAttribute { bool, int, string, version } = attribute;
    if string.as_ref().is_some_and(|text| text.len() > VALUE_BYTES_MAX) {
        errors.push(FieldError::too_long(&path.child("string"), VALUE_BYTES_MAX));
    }
    if let Some(text) = version {
        let path = path.child("version");
        if !is_semantic_version(text) {
            let detail = "must be a string compatible with semver.org spec 2.0.0";
            errors.push(FieldError::invalid(&path, text.as_str(), detail));
        }
        if text.len() > VALUE_BYTES_MAX {
            errors.push(FieldError::too_long(&path, VALUE_BYTES_MAX));
        }
    }
    let values = [bool.is_some(), int.is_some(), string.is_some(), version.is_some()];
    let detail = "exactly one value must be specified";
    match values.into_iter().filter(|is_there| *is_there).count() {
        0 => errors.push(FieldError::required(path, detail)),
        1 => {}
        _ => errors.push(FieldError::invalid(path, to_value(attribute), detail)),
    }
    errors
}

/// `1.2.3-alpha.1+build.7`.
fn is_semantic_version(text: &str) -> bool {
    let (rest, build) = match text.split_once('+') {
        Some((rest, build)) => (rest, Some(build)),
        None => (text, None),
    };
    let (core, stage) = match rest.split_once('-') {
        Some((core, stage)) => (core, Some(stage)),
        None => (rest, None),
    };
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = |part: &str| is_digits(part) && (part == "0" || !part.starts_with('0'));
    let is_word = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let are_numbers = core.split('.').all(|part| !part.is_empty() && is_number(part));
    let are_stages = |stage: &str| {
        stage.split('.').all(|part| is_word(part) && (!is_digits(part) || is_number(part)))
    };
    core.split('.').count() == 3
        && are_numbers
        && stage.is_none_or(are_stages)
        && build.is_none_or(|build| build.split('.').all(is_word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::testing::compare;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(device: Value, expected: &[&str]) {
        let device: Device = serde_json::from_value(device).unwrap();
        compare(validate(&device, &FieldPath::new("d")), expected);
    }

    #[test]
    fn attributes_have_names_and_one_value() {
        check(
            json!({"name": "a", "attributes": {
                "model": {"string": "x"}, "d.io/cores": {"int": 4}, "fast": {"bool": true},
                "d.io/firmware": {"version": "1.0.0-rc.1+7"},
            }, "capacity": {"d.io/memory": {"value": "1Gi"}}}),
            &[],
        );
        check(
            json!({"name": "a", "attributes": {
                "9": {"bool": true}, "D/": {}, "long": {"string": "x".repeat(65)},
                "two": {"int": 1, "bool": true}, "version": {"version": "1.0"},
            }, "capacity": {"/x": {"value": "1"}}}),
            &[
                "d.attributes[9]: Invalid value: \"9\": a valid C identifier",
                "d.attributes[D/]: Required value: the name must not be empty",
                "d.attributes[D/]: Required value: exactly one value must be specified",
                "d.attributes[long].string: Too long: may not be more than 64 bytes",
                "d.attributes[two]: Invalid value: {\"bool\":true,\"int\":1}: exactly one value must be specified",
                "d.attributes[version].version: Invalid value: \"1.0\": must be a string compatible with semver.org spec 2.0.0",
                "d.capacity[/x]: Required value: the domain must not be empty",
            ],
        );
        let many: serde_json::Map<_, _> =
            (0..33).map(|n| (format!("a{n}"), json!({"int": n}))).collect();
        check(
            json!({"name": "a", "attributes": many}),
            &[
                "d: Invalid value: 33: the total number of attributes and capacities must not exceed 32",
            ],
        );
        let long = "x".repeat(97);
        check(
            json!({"name": "a", "attributes": {long: {"int": 1}}}),
            &[&format!("d.attributes[{}...{}]: Too long", "x".repeat(47), "x".repeat(46))],
        );
    }

    #[test]
    fn versions_are_semantic() {
        for text in ["0.0.0", "1.20.3", "1.0.0-a.b-c.1", "1.0.0+01", "1.0.0-0a+x.y", "1.0.0--"] {
            assert!(is_semantic_version(text), "{text}");
        }
        for text in ["", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "a.b.c"] {
            assert!(!is_semantic_version(text), "{text}");
        }
    }
}
