//! What a claim asks of a volume: its defaults, and what may be wrong with it.
//!
//! Follows upstream `ValidatePersistentVolumeClaimSpec` (pkg/apis/core/validation, v1.35).

use super::{podspec, resources};
use crate::api::{FieldError, FieldPath, Quantity, names};
use crate::registry::checks::{invalid, label_selector, one_of, present};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaimSpec, TypedLocalObjectReference, TypedObjectReference,
};

const ACCESS_MODES: &[&str] =
    &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const ALONE: &str = "ReadWriteOncePod";

pub(super) const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

/// Upstream `SetDefaults_PersistentVolumeClaimSpec` (pkg/apis/core/v1, v1.35).
pub(in crate::registry::kinds) fn apply_defaults(spec: &mut PersistentVolumeClaimSpec) {
    spec.volume_mode.take_if(|mode| mode.is_empty());
    spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
    if let Some(resources) = &mut spec.resources {
        podspec::round_up(resources.limits.as_mut());
        podspec::round_up(resources.requests.as_mut());
    }
}

/// What is doubtful about it (upstream `GetWarningsForPersistentVolumeClaimSpec`, pkg/api, v1.35).
pub(in crate::registry::kinds) fn warnings(
    spec: &PersistentVolumeClaimSpec,
    path: &FieldPath,
) -> Vec<String> {
    let Some(resources) = &spec.resources else { return Vec::new() };
    let path = path.child("resources");
    let amounts =
        [(&resources.requests, path.child("requests")), (&resources.limits, path.child("limits"))];
    let told = amounts
        .iter()
        .filter_map(|(amounts, path)| podspec::fraction(amounts.as_ref(), "storage", path));
    told.collect()
}

pub(in crate::registry::kinds) fn validate(
    spec: &PersistentVolumeClaimSpec,
    path: &FieldPath,
) -> Vec<FieldError> {
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    let detail = "at least 1 access mode is required";
    let mut errors = validate_modes(modes, detail, &path.child("accessModes"));
    if let Some(selector) = &spec.selector {
        errors.extend(label_selector(selector, &path.child("selector")));
    }
    errors.extend(validate_storage(spec, &path.child("resources").key("storage")));
    let class = |field: &str, class: &Option<String>| {
        let class = class.as_deref().unwrap_or_default();
        let problems = if class.is_empty() { vec![] } else { names::dns1123_subdomain(class) };
        invalid(&path.child(field), class, problems)
    };
    errors.extend(class("storageClassName", &spec.storage_class_name));
    if let Some(mode) = spec.volume_mode.as_deref() {
        errors.extend(one_of(&path.child("volumeMode"), mode, VOLUME_MODES));
    }
    errors.extend(validate_data_sources(spec, path));
    errors.extend(class("volumeAttributesClassName", &spec.volume_attributes_class_name));
    errors
}

/// `detail` is what is said where there is none.
pub(super) fn validate_modes(modes: &[String], detail: &str, path: &FieldPath) -> Vec<FieldError> {
    if modes.is_empty() {
        return vec![FieldError::required(path, detail)];
    }
    let mut errors: Vec<_> =
        modes.iter().filter_map(|mode| one_of(path, mode, ACCESS_MODES)).collect();
    let is_other = |mode: &String| mode != ALONE && ACCESS_MODES.contains(&mode.as_str());
    if modes.iter().any(|mode| mode == ALONE) && modes.iter().any(is_other) {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(path, detail));
    }
    errors
}

fn validate_data_sources(spec: &PersistentVolumeClaimSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (old_path, new_path) = (path.child("dataSource"), path.child("dataSourceRef"));
    if let Some(old) = &spec.data_source {
        errors.extend(validate_data_source(old.into(), &old_path));
    }
    let Some(new) = &spec.data_source_ref else {
        return errors;
    };
    errors.extend(validate_data_source(new.into(), &new_path));
    let namespace = new.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    if let Some(namespace) = namespace {
        let problems = names::dns1123_label(namespace);
        errors.extend(invalid(&new_path.child("namespace"), namespace, problems));
    }
    let problem = match &spec.data_source {
        None => None,
        Some(_) if namespace.is_some() => {
            Some("may not be specified when dataSourceRef.namespace is specified")
        }
        Some(old) => (DataSource::from(old) != new.into()).then_some("must match dataSourceRef"),
    };
    errors.extend(problem.map(|problem| FieldError::invalid(path, old_path.to_string(), problem)));
    errors
}

/// What both fields for the source of a claim's data say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DataSource<'a> {
    group: Option<&'a str>,
    kind: &'a str,
    name: &'a str,
}

impl<'a> From<&'a TypedLocalObjectReference> for DataSource<'a> {
    fn from(source: &'a TypedLocalObjectReference) -> Self {
        Self { group: source.api_group.as_deref(), kind: &source.kind, name: &source.name }
    }
}

impl<'a> From<&'a TypedObjectReference> for DataSource<'a> {
    fn from(source: &'a TypedObjectReference) -> Self {
        Self { group: source.api_group.as_deref(), kind: &source.kind, name: &source.name }
    }
}

fn validate_data_source(source: DataSource<'_>, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(present(&path.child("name"), Some(source.name)));
    errors.extend(present(&path.child("kind"), Some(source.kind)));
    match source.group.unwrap_or_default() {
        "" if source.kind != "PersistentVolumeClaim" => {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(FieldError::invalid(path, source.kind, detail));
        }
        "" => {}
        group => {
            let problems = names::dns1123_subdomain(group);
            errors.extend(invalid(&path.child("apiGroup"), group, problems));
        }
    }
    errors
}

fn validate_storage(spec: &PersistentVolumeClaimSpec, path: &FieldPath) -> Vec<FieldError> {
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let Some(storage) = requests.and_then(|requests| requests.get("storage")) else {
        return vec![FieldError::required(path, "")];
    };
    match storage.0.parse::<Quantity>() {
        Ok(amount) if amount <= Quantity::ZERO => {
            vec![FieldError::invalid(path, storage.0.as_str(), "must be greater than zero")]
        }
        _ => resources::validate_quantity("storage", &storage.0, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::testing::compare;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(spec: Value, expected: &[&str]) {
        let spec = serde_json::from_value(spec).unwrap();
        compare(validate(&spec, &FieldPath::new("c")), expected);
    }

    #[test]
    fn modes_and_amounts() {
        check(
            json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}),
            &[],
        );
        check(
            json!({}),
            &[
                "c.accessModes: Required value: at least 1 access mode is required",
                "c.resources[storage]: Required value",
            ],
        );
        check(
            json!({
                "accessModes": ["ReadWriteOncePod", "ReadOnlyMany", "x"],
                "resources": {"requests": {"storage": "0"}},
                "storageClassName": "A", "volumeMode": "File",
            }),
            &[
                "c.accessModes: Unsupported value: \"x\"",
                "c.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
                "c.resources[storage]: Invalid value: \"0\": must be greater than zero",
                "c.storageClassName: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
                "c.volumeMode: Unsupported value: \"File\": supported values: \"Block\", \"Filesystem\"",
            ],
        );
    }
}
