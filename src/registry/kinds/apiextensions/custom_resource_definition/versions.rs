//! What a version says beside its schema: deprecation, subresources, columns, selectable fields
//! (upstream `validateCustomResourceDefinitionVersion` and what it calls, apiextensions
//! pkg/apis/apiextensions/validation/validation.go, v1.35).

use super::spec::Said;
use crate::api::{FieldError, FieldPath};
use crate::registry::schema::structural::{Structural, Type, find_field};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinitionVersion,
    CustomResourceSubresourceScale, SelectableField,
};
use std::collections::BTreeSet;

/// More selectable fields than this are refused.
pub(super) const SELECTABLE_MAX: usize = 8;
const DEPRECATION_BYTES_MAX: usize = 256;

const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] =
    &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

/// Upstream `validateDeprecationWarning`.
pub(super) fn validate_deprecation(
    version: &CustomResourceDefinitionVersion,
    path: &FieldPath,
) -> Vec<FieldError> {
    let Some(warning) = &version.deprecation_warning else { return Vec::new() };
    let wrong = |detail: String| {
        FieldError::invalid(&path.child("deprecationWarning"), warning.as_str(), detail)
    };
    if !version.deprecated.unwrap_or_default() {
        return vec![wrong("can only be set for deprecated versions".to_owned())];
    }
    let mut errors = Vec::new();
    if warning.len() > DEPRECATION_BYTES_MAX {
        errors.push(wrong("must be <= 256 characters long".to_owned()));
    }
    if warning.is_empty() {
        errors.push(wrong("must not be an empty string".to_owned()));
    }
    // Of spaces Go takes only the plain one for printable.
    let is_odd = |c: char| c.is_control() || (c.is_whitespace() && c != ' ');
    if let Some((at, _)) = warning.char_indices().find(|(_, letter)| is_odd(*letter)) {
        errors.push(wrong(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        )));
    }
    errors
}

/// Subresources and columns.
pub(super) fn validate_said(said: &Said<'_>, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let scale = said.subresources.and_then(|subresources| subresources.scale.as_ref());
    if let Some(scale) = scale {
        errors.extend(validate_scale(scale, &path.child("subresources")));
    }
    let columns = path.child("additionalPrinterColumns");
    for (index, column) in said.columns.iter().enumerate() {
        errors.extend(validate_column(column, &columns.index(index)));
    }
    errors
}

/// Upstream `ValidateCustomResourceDefinitionSubresources`.
fn validate_scale(scale: &CustomResourceSubresourceScale, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, text, beginning, wanted) in [
        ("scale.specReplicasPath", &scale.spec_replicas_path, ".spec.", ".spec"),
        ("scale.statusReplicasPath", &scale.status_replicas_path, ".status.", ".status"),
    ] {
        let path = path.child(name);
        if text.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if let Some(error) = simple_path(&path, text) {
            errors.push(error);
        } else if !text.starts_with(beginning) {
            let detail = format!("should be a json path under {wanted}");
            errors.push(FieldError::invalid(&path, text.as_str(), detail));
        }
    }
    let selector = scale.label_selector_path.as_deref().filter(|text| !text.is_empty());
    if let Some(text) = selector {
        let path = path.child("scale.labelSelectorPath");
        if let Some(error) = simple_path(&path, text) {
            errors.push(error);
        } else if !text.starts_with(".spec.") && !text.starts_with(".status.") {
            let detail = "should be a json path under either .spec or .status";
            errors.push(FieldError::invalid(&path, text, detail));
        }
    }
    errors
}

/// Upstream `validateSimpleJSONPath`.
fn simple_path(path: &FieldPath, text: &str) -> Option<FieldError> {
    let detail = "must be a simple json path starting with .";
    (!text.starts_with('.')).then(|| FieldError::invalid(path, text, detail))
}

/// Upstream `ValidateCustomResourceColumnDefinition`.
fn validate_column(column: &CustomResourceColumnDefinition, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if column.name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    let types = format!("must be one of {}", COLUMN_TYPES.join(","));
    if column.type_.is_empty() {
        errors.push(FieldError::required(&path.child("type"), types));
    } else if !COLUMN_TYPES.contains(&column.type_.as_str()) {
        errors.push(FieldError::invalid(&path.child("type"), column.type_.as_str(), types));
    }
    let format = column.format.as_deref().unwrap_or_default();
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let detail = format!("must be one of {}", COLUMN_FORMATS.join(","));
        errors.push(FieldError::invalid(&path.child("format"), format, detail));
    }
    let json_path = path.child("JSONPath");
    if column.json_path.is_empty() {
        errors.push(FieldError::required(&json_path, ""));
    } else {
        errors.extend(simple_path(&json_path, &column.json_path));
    }
    errors
}

/// Upstream `ValidateCustomResourceSelectableFields`.
pub(super) fn validate_selectable(
    fields: &[SelectableField],
    schema: &Structural,
    may_be_many: bool,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut unique = BTreeSet::new();
    for (index, field) in fields.iter().enumerate() {
        let (path, text) = (path.index(index).child("jsonPath"), field.json_path.as_str());
        if text.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        let found = match find_field(text, schema, false) {
            Ok(found) => found,
            Err(problem) => {
                let detail = format!("is an invalid path: {problem}");
                errors.push(FieldError::invalid(&path, text, detail));
                continue;
            }
        };
        if found.root == "metadata" {
            let detail = "must not point to fields in metadata";
            errors.push(FieldError::invalid(&path, text, detail));
        }
        let is_scalar = |schema: &Structural| {
            matches!(schema.kind(), Type::String | Type::Boolean | Type::Integer)
        };
        if !found.schema.is_some_and(is_scalar) {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(FieldError::invalid(&path, text, detail));
        }
        if !unique.insert(found.path) {
            errors.push(FieldError::duplicate(&path, text));
        }
    }
    if unique.len() > SELECTABLE_MAX && !may_be_many {
        errors.push(FieldError::too_many(path, unique.len(), SELECTABLE_MAX));
    }
    errors
}
