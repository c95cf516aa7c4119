//! What is wrong with a definition (upstream `ValidateCustomResourceDefinition` and
//! `ValidateCustomResourceDefinitionUpdate`, apiextensions
//! pkg/apis/apiextensions/validation/validation.go, v1.35).

use super::schema::{Look, walk};
use super::spec::{Said, Spec};
use super::tolerance::Tolerance;
use super::{approval, conversion, names, schema, versions};
use crate::api::names as texts;
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{ERRORS_OF_WHOLE_MAX, immutable, repeated, to_value};
use crate::registry::schema::structural::{PatternBudget, Structural};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps,
};
use std::collections::BTreeSet;

const SCOPES: &[&str] = &["Cluster", "Namespaced"];

pub(super) fn validate(definition: &CustomResourceDefinition) -> Vec<FieldError> {
    let mut errors: Vec<_> = validate_name(definition).into_iter().collect();
    errors.extend(validate_spec(definition, &Tolerance::of_new()));
    errors.extend(validate_rest(definition, None));
    errors
}

pub(super) fn validate_update(
    new: &CustomResourceDefinition,
    old: &CustomResourceDefinition,
) -> Vec<FieldError> {
    let tolerance = Tolerance::of_update(new, old);
    let mut errors = validate_spec(new, &tolerance);
    let (spec, before, path) = (&new.spec, &old.spec, FieldPath::new("spec"));
    let unchanged = |name: &str, new: &str, old: &str| {
        let path = name.split('.').fold(path.clone(), |path, name| path.child(name));
        immutable(&path, new.into(), &old.into())
    };
    if !tolerance.other_names {
        errors.extend(unchanged("scope", &spec.scope, &before.scope));
        errors.extend(unchanged("names.kind", &spec.names.kind, &before.names.kind));
    }
    errors.extend(unchanged("group", &spec.group, &before.group));
    errors.extend(unchanged("names.plural", &spec.names.plural, &before.names.plural));
    errors.extend(validate_rest(new, Some(old)));
    errors
}

/// Upstream `ValidateCustomResourceDefinitionStatus`.
pub(super) fn validate_status(definition: &CustomResourceDefinition) -> Vec<FieldError> {
    let accepted = definition.status.as_ref().and_then(|status| status.accepted_names.as_ref());
    let path = FieldPath::new("status").child("acceptedNames");
    accepted.map(|accepted| names::validate(accepted, &path)).unwrap_or_default()
}

/// What is not of the specification.
fn validate_rest(
    new: &CustomResourceDefinition,
    old: Option<&CustomResourceDefinition>,
) -> Vec<FieldError> {
    let mut errors = validate_status(new);
    errors.extend(validate_stored_versions(new));
    errors.extend(approval::validate(new, old));
    let kept = |definition: &CustomResourceDefinition| {
        definition.spec.preserve_unknown_fields.unwrap_or_default()
    };
    if kept(new) && !old.is_some_and(kept) {
        let path = FieldPath::new("spec").child("preserveUnknownFields");
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid(&path, true, detail));
    }
    errors
}

fn validate_name(definition: &CustomResourceDefinition) -> Option<FieldError> {
    let name = definition.metadata.name.as_deref().unwrap_or_default();
    let required = format!("{}.{}", definition.spec.names.plural, definition.spec.group);
    let detail = "must be spec.names.plural+\".\"+spec.group";
    let path = FieldPath::new("metadata").child("name");
    (name != required).then(|| FieldError::invalid(&path, name, detail))
}

/// Upstream `ValidateCustomResourceDefinitionStoredVersions`.
fn validate_stored_versions(definition: &CustomResourceDefinition) -> Vec<FieldError> {
    let path = FieldPath::new("status").child("storedVersions");
    let stored = definition.status.as_ref().and_then(|status| status.stored_versions.as_deref());
    let stored = stored.unwrap_or_default();
    if stored.is_empty() {
        let detail = "must have at least one stored version";
        return vec![FieldError::invalid(&path, to_value(&stored), detail)];
    }
    let mut errors = Vec::new();
    let all = &definition.spec.versions;
    let stored_names: BTreeSet<_> = stored.iter().collect();
    let names: BTreeSet<_> = all.iter().map(|version| &version.name).collect();
    for version in all.iter().filter(|version| version.storage) {
        if !stored_names.contains(&version.name) && errors.len() < ERRORS_OF_WHOLE_MAX {
            let detail = format!("must have the storage version {}", version.name);
            errors.push(FieldError::invalid(&path, to_value(&stored), detail));
        }
    }
    for (index, name) in stored.iter().enumerate() {
        if !names.contains(name) {
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid(&path.index(index), name.as_str(), detail));
        }
    }
    errors
}

/// Upstream `validateCustomResourceDefinitionSpec`.
fn validate_spec(definition: &CustomResourceDefinition, tolerance: &Tolerance) -> Vec<FieldError> {
    let spec = Spec::of(definition);
    let path = FieldPath::new("spec");
    let of_group = validate_group(&definition.spec.group, &path.child("group"));
    let mut errors: Vec<_> = of_group.into_iter().collect();
    errors.extend(validate_scope(&definition.spec.scope, &path.child("scope")));
    errors.extend(validate_presence(&spec, tolerance, &path));
    if spec.keeps_unknown() && has_defaults(&spec) {
        let detail = "must be false in order to use defaults in the schema";
        errors.push(FieldError::invalid(&path.child("preserveUnknownFields"), true, detail));
    }
    let is_structural = !tolerance.unstructured
        || !spec.keeps_unknown()
        || has_defaults(&spec)
        || has_extensions(&spec);
    let any_status =
        spec.all.has_status() || spec.versions.iter().any(|(_, said)| said.has_status());
    let first = definition.spec.versions.first().map(|version| version.name.as_str());
    let look = Look {
        has_status: any_status,
        is_structural,
        is_unchanged: first.is_some_and(|name| tolerance.unchanged_schemas.contains(name)),
        tolerance,
        patterns: &PatternBudget::default(),
    };
    errors.extend(validate_versions(&spec, look, &path));
    errors.extend(names::required(&definition.spec.names, &path.child("names")));
    errors.extend(names::validate(&definition.spec.names, &path.child("names")));
    if let Some(props) = spec.all.props() {
        errors.extend(schema::validate(props, look, &path.child("validation")));
    }
    errors.extend(versions::validate_said(&spec.all, &path));
    errors.extend(validate_selectable(&spec.all, tolerance, ("", &path)));
    let Some(conversion) = &definition.spec.conversion else { return errors };
    let path = path.child("conversion");
    if conversion.strategy != "None" && spec.keeps_unknown() {
        let detail = "must be None if spec.preserveUnknownFields is true";
        let strategy = conversion.strategy.as_str();
        errors.push(FieldError::invalid(&path.child("strategy"), strategy, detail));
    }
    errors.extend(conversion::validate(conversion, tolerance, &path));
    errors
}

fn validate_group(group: &str, path: &FieldPath) -> Option<FieldError> {
    let problems = texts::dns1123_subdomain(group);
    if group.is_empty() {
        Some(FieldError::required(path, ""))
    } else if !problems.is_empty() {
        Some(FieldError::invalid(path, group, problems.join(",")))
    } else {
        let detail = "should be a domain with at least one dot";
        (!group.contains('.')).then(|| FieldError::invalid(path, group, detail))
    }
}

fn validate_scope(scope: &str, path: &FieldPath) -> Option<FieldError> {
    match scope {
        "" => Some(FieldError::required(path, "")),
        other if SCOPES.contains(&other) => None,
        other => Some(FieldError::not_supported(path, other, SCOPES)),
    }
}

/// Every version has a schema.
fn validate_presence(spec: &Spec<'_>, tolerance: &Tolerance, path: &FieldPath) -> Vec<FieldError> {
    if spec.all.props().is_some() {
        return Vec::new();
    }
    let path = path.child("versions");
    let missing = spec.versions.iter().enumerate().filter(|(_, (_, said))| said.props().is_none());
    let error = |index: usize, detail: &str| {
        let path = path.index(index).child("schema").child("openAPIV3Schema");
        FieldError::required(&path, detail)
    };
    if !tolerance.no_schema {
        return missing.map(|(index, _)| error(index, "")).collect();
    }
    let is_pruned =
        |version: &CustomResourceDefinitionVersion| version.served && !spec.keeps_unknown();
    missing
        .filter(|(_, (version, _))| is_pruned(version))
        .map(|(index, _)| error(index, "because otherwise all fields are pruned"))
        .collect()
}

fn validate_versions(spec: &Spec<'_>, look: Look<'_>, path: &FieldPath) -> Vec<FieldError> {
    let tolerance = look.tolerance;
    let mut errors = Vec::new();
    let each = path.child("versions");
    for (index, (version, said)) in spec.versions.iter().enumerate() {
        let path = each.index(index);
        errors.extend(names::label(&path.child("name"), &version.name));
        errors.extend(versions::validate_deprecation(version, &path));
        let look = Look {
            has_status: said.has_status() || spec.all.has_status(),
            is_unchanged: tolerance.unchanged_schemas.contains(&version.name),
            ..look
        };
        if let Some(props) = said.props() {
            errors.extend(schema::validate(props, look, &path.child("schema")));
        }
        errors.extend(versions::validate_said(said, &path));
        errors.extend(validate_selectable(said, tolerance, (&version.name, &path)));
    }
    let all = &spec.spec.versions;
    if repeated(all.iter().map(|version| &version.name)).contains(&true) {
        let detail = "must contain unique version names";
        errors.push(FieldError::invalid(&each, to_value(all), detail));
    }
    if all.iter().filter(|version| version.storage).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(&each, to_value(all), detail));
    }
    errors
}

/// Of a version, or of all of them where its name is empty.
fn validate_selectable(
    said: &Said<'_>,
    tolerance: &Tolerance,
    (name, path): (&str, &FieldPath),
) -> Vec<FieldError> {
    if said.selectable.is_empty() {
        return Vec::new();
    }
    let at = path.child("selectableFields");
    let Some(props) = said.props() else {
        let detail = match name {
            "" => "may only be set when validations.schema is included",
            _ => "may only be set when `version.schema.openAPIV3Schema` is not included",
        };
        return vec![FieldError::invalid(&at, "", detail)];
    };
    match Structural::new(props) {
        Err(error) => {
            let path = path.child("schema.openAPIV3Schema");
            vec![FieldError::invalid(&path, "", error.to_string())]
        }
        Ok(schema) => {
            let may_be_many = tolerance.many_selectable.contains(name);
            versions::validate_selectable(said.selectable, &schema, may_be_many, &at)
        }
    }
}

fn has_any(spec: &Spec<'_>, is_so: fn(&JSONSchemaProps) -> bool) -> bool {
    spec.schemas().any(|props| {
        let mut found = false;
        walk(props, &mut |props| found |= is_so(props));
        found
    })
}

fn has_defaults(spec: &Spec<'_>) -> bool {
    has_any(spec, |props| props.default.is_some())
}

fn has_extensions(spec: &Spec<'_>) -> bool {
    has_any(spec, |props| {
        props.x_kubernetes_embedded_resource.unwrap_or_default()
            || props.x_kubernetes_preserve_unknown_fields.is_some()
            || props.x_kubernetes_int_or_string.unwrap_or_default()
            || props.x_kubernetes_list_map_keys.is_some()
            || props.x_kubernetes_list_type.is_some()
            || props.x_kubernetes_validations.is_some()
    })
}
