//! The names of a defined kind (upstream `ValidateCustomResourceDefinitionNames`, apiextensions
//! pkg/apis/apiextensions/validation/validation.go, v1.35).

use crate::api::{FieldError, FieldPath, names};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionNames;

/// The error of a text that is no label; what is wrong with it is told at once.
pub(super) fn label(path: &FieldPath, text: &str) -> Option<FieldError> {
    let problems = names::dns1035_label(text).join(",");
    (!problems.is_empty()).then(|| FieldError::invalid(path, text, problems))
}

pub(super) fn validate(names: &CustomResourceDefinitionNames, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let singular = names.singular.as_deref().unwrap_or_default();
    let list_kind = names.list_kind.as_deref().unwrap_or_default();
    for (name, text) in [("plural", names.plural.as_str()), ("singular", singular)] {
        if !text.is_empty() {
            errors.extend(label(&path.child(name), text));
        }
    }
    for (name, text) in [("kind", names.kind.as_str()), ("listKind", list_kind)] {
        if !text.is_empty() {
            errors.extend(kind(&path.child(name), text));
        }
    }
    let each = |name: &str, texts: &Option<Vec<String>>| -> Vec<FieldError> {
        let path = path.child(name);
        let texts = texts.iter().flatten().enumerate();
        texts.filter_map(|(index, text)| label(&path.index(index), text)).collect()
    };
    errors.extend(each("shortNames", &names.short_names));
    if !names.kind.is_empty() && names.kind == list_kind {
        let detail = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(&path.child("listKind"), list_kind, detail));
    }
    errors.extend(each("categories", &names.categories));
    errors
}

fn kind(path: &FieldPath, text: &str) -> Option<FieldError> {
    let problems = names::dns1035_label(&text.to_lowercase()).join(",");
    let detail = format!("may have mixed case, but should otherwise match: {problems}");
    (!problems.is_empty()).then(|| FieldError::invalid(path, text, detail))
}

/// Names that must be there.
pub(super) fn required(names: &CustomResourceDefinitionNames, path: &FieldPath) -> Vec<FieldError> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    [
        ("plural", names.plural.clone()),
        ("singular", text(&names.singular)),
        ("kind", names.kind.clone()),
        ("listKind", text(&names.list_kind)),
    ]
    .into_iter()
    .filter(|(_, text)| text.is_empty())
    .map(|(name, _)| FieldError::required(&path.child(name), ""))
    .collect()
}
