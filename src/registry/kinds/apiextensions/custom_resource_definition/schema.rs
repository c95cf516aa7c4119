//! Schemas of definitions (upstream `validateCustomResourceDefinitionValidation` and
//! `ValidateCustomResourceDefinitionOpenAPISchema`, apiextensions
//! pkg/apis/apiextensions/validation/validation.go, v1.35).

use super::default_values;
use super::rule_costs::{Scope, Step};
use super::rules::{self, Compiler, RULES_BYTES_MAX};
use super::tolerance::Tolerance;
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{ERRORS_OF_WHOLE_MAX, repeated, to_value};
use crate::registry::schema::structural::{PatternBudget, Structural, validate_structure_within};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;
use std::collections::BTreeSet;

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
const META_FIELDS: [&str; 3] = ["metadata", "kind", "apiVersion"];

/// What a schema says at its root where the status is a subresource, by upstream's names.
const AT_ROOT: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations]";

/// How a schema is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look<'a> {
    pub(super) has_status: bool,
    /// Whether it has to be structural.
    pub(super) is_structural: bool,
    /// Whether it was accepted as it is before.
    pub(super) is_unchanged: bool,
    pub(super) tolerance: &'a Tolerance,
    /// What the patterns of all versions together may still take.
    pub(super) patterns: &'a PatternBudget,
}

pub(super) fn validate(
    props: &JSONSchemaProps,
    look: Look<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if look.has_status {
        errors.extend(validate_root(props, path));
    }
    let at = path.child("openAPIV3Schema");
    if props.nullable.unwrap_or_default() {
        let detail = "nullable cannot be true at the root";
        errors.push(FieldError::forbidden(&path.child("openAPIV3Schema.nullable"), detail));
    }
    let mut not_structural = None;
    let mut sound = None;
    if look.is_structural {
        match Structural::new(props) {
            Err(error) => {
                not_structural = Some(FieldError::invalid(&at, "", error.to_string()));
            }
            Ok(schema) => {
                let requires_pruned = !look.tolerance.unpruned_defaults;
                let mut found = validate_structure_within(look.patterns, &at, &schema);
                if found.is_empty() && rules::bytes(&schema) > RULES_BYTES_MAX {
                    let detail = format!(
                        "x-kubernetes-validations of the schema must not have more than {RULES_BYTES_MAX} bytes of expressions together"
                    );
                    found.push(FieldError::forbidden(&at, detail));
                }
                if found.is_empty() {
                    found = default_values::validate(&schema, requires_pruned, &at);
                }
                if found.is_empty() {
                    sound = Some(schema);
                }
                errors.extend(found);
            }
        }
    }
    let compiler = Compiler::new(look.is_unchanged);
    let mut walker = Walker { tolerance: look.tolerance, errors: Vec::new(), compiler };
    // Rules are compiled of schemas that are right otherwise, and hold for these.
    let scope = sound.as_ref().filter(|schema| schema.has_rules()).map(Scope::of_root);
    let standing = Standing { is_root: true, scope: scope.as_ref(), ..Standing::default() };
    walker.visit(props, standing, &at);
    errors.extend(walker.errors);
    errors.extend(walker.compiler.errors);
    if errors.is_empty() {
        errors.extend(not_structural);
    }
    errors.extend(walker.compiler.total.errors(&at));
    errors
}

/// The status is checked by itself, so nothing may be said of both together.
fn validate_root(props: &JSONSchemaProps, path: &FieldPath) -> Option<FieldError> {
    let kind = props.type_.as_deref().unwrap_or_default();
    let is_odd = props.id.is_some()
        || props.schema.is_some()
        || props.ref_path.is_some()
        || props.default.is_some()
        || props.nullable.unwrap_or_default()
        || props.enum_.is_some()
        || props.max_properties.is_some()
        || props.min_properties.is_some()
        || props.all_of.is_some()
        || props.one_of.is_some()
        || props.any_of.is_some()
        || props.not.is_some()
        || props.additional_properties.is_some()
        || props.pattern_properties.is_some()
        || props.dependencies.is_some()
        || props.additional_items.is_some()
        || props.definitions.is_some()
        || props.x_kubernetes_embedded_resource.unwrap_or_default()
        || props.x_kubernetes_int_or_string.unwrap_or_default()
        || props.x_kubernetes_list_map_keys.is_some()
        || props.x_kubernetes_list_type.is_some()
        || props.x_kubernetes_map_type.is_some();
    if !kind.is_empty() && kind != "object" {
        let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        return Some(FieldError::invalid(&path.child("openAPIV3Schema.type"), kind, detail));
    }
    is_odd.then(|| {
        let detail = format!(
            "only {AT_ROOT} fields are allowed at the root of the schema if the status subresource is enabled"
        );
        FieldError::invalid(&path.child("openAPIV3Schema"), to_value(props), detail)
    })
}

/// Where a schema is within the resource's.
#[derive(Clone, Copy, Debug, Default)]
struct Standing<'a> {
    is_root: bool,
    is_in_metadata: bool,
    /// Why there may be no defaults.
    no_defaults: Option<&'a str>,
    /// The outermost list above that does not say which of its elements was which before.
    no_old: Option<&'a FieldPath>,
    /// What its rules may speak of; `None` where they are not compiled.
    scope: Option<&'a Scope<'a>>,
}

struct Walker<'a> {
    tolerance: &'a Tolerance,
    errors: Vec<FieldError>,
    compiler: Compiler,
}

impl Walker<'_> {
    fn visit(&mut self, props: &JSONSchemaProps, standing: Standing<'_>, path: &FieldPath) {
        let known = self.errors.len();
        self.standard(props, standing, path);
        let below = Standing { is_root: false, ..standing };
        if props.unique_items.unwrap_or_default() {
            let detail =
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.errors.push(FieldError::forbidden(&path.child("uniqueItems"), detail));
        }
        self.additional(props, below, path);
        for (name, property) in props.properties.iter().flatten() {
            let is_of_all = META_FIELDS.contains(&name.as_str());
            let is_resource =
                standing.is_root || props.x_kubernetes_embedded_resource.unwrap_or_default();
            let reason = format!("in top-level {name}");
            let scope = standing.scope.and_then(|scope| scope.below(Step::Property(name)));
            let mut below = Standing { scope: scope.as_ref(), ..below };
            if is_resource && is_of_all {
                below.is_in_metadata = true;
                if standing.is_root {
                    below.no_defaults = Some(&reason);
                }
            }
            self.visit(property, below, &path.child("properties").key(name));
        }
        self.nested(props, below, path);
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &props.items {
            let has_keys = props.x_kubernetes_list_type.as_deref() == Some("map");
            let no_old = below.no_old.or((!has_keys).then_some(path));
            let scope = standing.scope.and_then(|scope| scope.below(Step::Items));
            let below = Standing { no_old, scope: scope.as_ref(), ..below };
            self.visit(items, below, &path.child("items"));
        }
        self.extensions(props, path);
        self.errors.extend(validate_list_type(props, self.tolerance, path));
        if !self.tolerance.odd_map_keys {
            self.errors.extend(validate_list_items(props, path));
        }
        self.errors.extend(rules::validate(props, path));
        // What is wrong with an expression because its schema is wrong helps nobody.
        if let Some(scope) = standing.scope.filter(|_| self.errors.len() == known) {
            self.compiler.compile(props, scope, standing.no_old, path);
        }
    }

    /// Rules in schemas that are nested in this way are not structural.
    fn nested(&mut self, props: &JSONSchemaProps, below: Standing<'_>, path: &FieldPath) {
        let below = Standing { scope: None, ..below };
        if let Some(not) = &props.not {
            self.visit(not, below, &path.child("not"));
        }
        for (name, nested) in
            [("allOf", &props.all_of), ("oneOf", &props.one_of), ("anyOf", &props.any_of)]
        {
            for (index, nested) in nested.iter().flatten().enumerate() {
                self.visit(nested, below, &path.child(name).index(index));
            }
        }
    }

    fn additional(&mut self, props: &JSONSchemaProps, below: Standing<'_>, path: &FieldPath) {
        let path = path.child("additionalProperties");
        let has_properties = props.properties.as_ref().is_some_and(|all| !all.is_empty());
        let Some(additional) = &props.additional_properties else { return };
        if has_properties && *additional != JSONSchemaPropsOrBool::Bool(true) {
            let detail = "additionalProperties and properties are mutual exclusive";
            self.errors.push(FieldError::forbidden(&path, detail));
        }
        if let JSONSchemaPropsOrBool::Schema(schema) = additional {
            let scope = below.scope.and_then(|scope| scope.below(Step::Additional));
            let mut below = Standing { scope: scope.as_ref(), ..below };
            if below.is_in_metadata {
                below.no_defaults = Some("inside additionalProperties applying to object metadata");
            }
            self.visit(schema, below, &path);
        }
    }

    /// Upstream `specStandardValidatorV3`.
    fn standard(&mut self, props: &JSONSchemaProps, standing: Standing<'_>, path: &FieldPath) {
        let kind = props.type_.as_deref().unwrap_or_default();
        if !self.tolerance.unknown_types && has_unknown_type(props) {
            self.errors.push(FieldError::not_supported(&path.child("type"), kind, TYPES));
        }
        let mut forbid = |name: &str, detail: String| {
            self.errors.push(FieldError::forbidden(&path.child(name), detail));
        };
        let has_default = props.default.as_ref().is_some_and(|default| default.0 != Value::Null);
        if let Some(reason) = standing.no_defaults.filter(|_| has_default) {
            forbid("default", format!("must not be set {reason}"));
        }
        let is_some_text = |text: &Option<String>| text.as_ref().is_some_and(|it| !it.is_empty());
        for (name, is_set) in [
            ("id", is_some_text(&props.id)),
            ("additionalItems", props.additional_items.is_some()),
            (
                "patternProperties",
                props.pattern_properties.as_ref().is_some_and(|all| !all.is_empty()),
            ),
            ("definitions", props.definitions.as_ref().is_some_and(|all| !all.is_empty())),
            ("dependencies", props.dependencies.is_some()),
            ("$ref", props.ref_path.is_some()),
        ] {
            if is_set {
                forbid(name, format!("{name} is not supported"));
            }
        }
        if kind == "null" {
            let detail = "type cannot be set to null, use nullable as an alternative";
            forbid("type", detail.to_owned());
        }
        if matches!(&props.items, Some(JSONSchemaPropsOrArray::Schemas(all)) if !all.is_empty()) {
            forbid("items", "items must be a schema object and not an array".to_owned());
        }
        if standing.is_in_metadata && props.x_kubernetes_embedded_resource.unwrap_or_default() {
            let detail = "must not be used inside of resource meta";
            forbid("x-kubernetes-embedded-resource", detail.to_owned());
        }
    }

    fn extensions(&mut self, props: &JSONSchemaProps, path: &FieldPath) {
        if props.x_kubernetes_preserve_unknown_fields == Some(false) {
            let path = path.child("x-kubernetes-preserve-unknown-fields");
            self.errors.push(FieldError::invalid(&path, false, "must be true or undefined"));
        }
        if let Some(map_type) = props.x_kubernetes_map_type.as_deref() {
            self.errors.extend(must_be(props, "object", "x-kubernetes-map-type", path));
            let allowed = ["atomic", "granular"];
            if !allowed.contains(&map_type) {
                let path = path.child("x-kubernetes-map-type");
                self.errors.push(FieldError::not_supported(&path, map_type, &allowed));
            }
        }
    }
}

/// The error of an extension of another type.
fn must_be(
    props: &JSONSchemaProps,
    wanted: &str,
    extension: &str,
    path: &FieldPath,
) -> Option<FieldError> {
    let (path, detail) =
        (path.child("type"), format!("must be {wanted} if {extension} is specified"));
    match props.type_.as_deref().unwrap_or_default() {
        kind if kind == wanted => None,
        "" => Some(FieldError::required(&path, detail)),
        kind => Some(FieldError::invalid(&path, kind, detail)),
    }
}

pub(super) fn has_unknown_type(props: &JSONSchemaProps) -> bool {
    let kind = props.type_.as_deref().unwrap_or_default();
    !kind.is_empty() && !TYPES.contains(&kind)
}

/// The schema of the elements, where it is one.
fn items_of(props: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &props.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items),
        _ => None,
    }
}

/// What is odd about the elements of a set, which are compared as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Odd {
    No,
    Lists,
    Objects,
}

pub(super) fn set_items(props: &JSONSchemaProps) -> Odd {
    let is_set = props.x_kubernetes_list_type.as_deref() == Some("set");
    let Some(items) = items_of(props).filter(|_| is_set) else { return Odd::No };
    match items.type_.as_deref() {
        Some("array")
            if items.x_kubernetes_list_type.as_deref().is_some_and(|it| it != "atomic") =>
        {
            Odd::Lists
        }
        Some("object") if items.x_kubernetes_map_type.as_deref() != Some("atomic") => Odd::Objects,
        _ => Odd::No,
    }
}

/// `x-kubernetes-list-type` and the keys that it asks for.
fn validate_list_type(
    props: &JSONSchemaProps,
    tolerance: &Tolerance,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let keys = props.x_kubernetes_list_map_keys.as_deref().unwrap_or_default();
    let (type_path, keys_path) =
        (path.child("x-kubernetes-list-type"), path.child("x-kubernetes-list-map-keys"));
    let list_type = props.x_kubernetes_list_type.as_deref();
    if let Some(list_type) = list_type {
        let wrong_type = must_be(props, "array", "x-kubernetes-list-type", path);
        if wrong_type.is_none() && !tolerance.odd_sets {
            let inner = items_of(props).and_then(|items| items.x_kubernetes_list_type.clone());
            let odd = match set_items(props) {
                Odd::No => None,
                Odd::Lists => Some("x-kubernetes-list-type"),
                Odd::Objects => Some("x-kubernetes-map-type"),
            };
            errors.extend(odd.map(|name| {
                let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
                let path = path.child("items").child(name);
                FieldError::invalid(&path, inner.map_or(Value::Null, Value::from), detail)
            }));
        }
        errors.extend(wrong_type);
        let allowed = ["atomic", "set", "map"];
        if !allowed.contains(&list_type) {
            let mut error = FieldError::not_supported(&type_path, list_type, &allowed);
            "supported values: \"atomic\", \"set\", \"map\"".clone_into(&mut error.detail);
            errors.push(error);
        }
    }
    if !keys.is_empty() && list_type != Some("map") {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match list_type {
            None => FieldError::required(&type_path, detail),
            Some(other) => FieldError::invalid(&type_path, other, detail),
        });
    }
    if list_type == Some("map") {
        if keys.is_empty() {
            let detail = "must not be empty if x-kubernetes-list-type is map";
            errors.push(FieldError::required(&keys_path, detail));
        }
        errors.extend(validate_map_items(props, keys, path));
    }
    errors
}

/// The elements of a list of type map.
fn validate_map_items(
    props: &JSONSchemaProps,
    keys: &[String],
    path: &FieldPath,
) -> Vec<FieldError> {
    let items_path = path.child("items");
    let items = match &props.items {
        None => {
            let detail = "must have a schema if x-kubernetes-list-type is map";
            return vec![FieldError::required(&items_path, detail)];
        }
        Some(JSONSchemaPropsOrArray::Schemas(schemas)) => {
            let detail = "must only have a single schema if x-kubernetes-list-type is map";
            return vec![FieldError::invalid(&items_path, to_value(schemas), detail)];
        }
        Some(JSONSchemaPropsOrArray::Schema(items)) => items,
    };
    let kind = items.type_.as_deref().unwrap_or_default();
    if kind != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        return vec![FieldError::invalid(&items_path.child("type"), kind, detail)];
    }
    let mut errors = Vec::new();
    let keys_path = path.child("x-kubernetes-list-map-keys");
    let is_repeated = repeated(keys);
    for (index, key) in keys.iter().enumerate() {
        if errors.len() >= ERRORS_OF_WHOLE_MAX {
            break;
        }
        match items.properties.as_ref().and_then(|all| all.get(key)) {
            Some(property) if matches!(property.type_.as_deref(), Some("array" | "object")) => {
                let path = items_path.child("properties").key(key).child("type");
                let detail =
                    "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(FieldError::invalid(&path, kind, detail));
            }
            Some(_) => {}
            None => {
                let detail = "entries must all be names of item properties";
                errors.push(FieldError::invalid(&keys_path, to_value(&keys), detail));
            }
        }
        if is_repeated[index] {
            let detail = "must not contain duplicate entries";
            errors.push(FieldError::invalid(&keys_path, to_value(&keys), detail));
        }
    }
    errors
}

/// Upstream `validateMapListKeysMapSet`: elements that have to differ are there, and so are keys.
pub(super) fn validate_list_items(props: &JSONSchemaProps, path: &FieldPath) -> Vec<FieldError> {
    let list_type = props.x_kubernetes_list_type.as_deref().unwrap_or_default();
    let Some(items) = items_of(props).filter(|_| matches!(list_type, "set" | "map")) else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    let items_path = path.child("items");
    if items.nullable.unwrap_or_default() {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(FieldError::forbidden(&items_path.child("nullable"), detail));
    }
    if list_type != "map" {
        return errors;
    }
    let required: BTreeSet<_> = items.required.iter().flatten().collect();
    for key in props.x_kubernetes_list_map_keys.iter().flatten() {
        let Some(property) = items.properties.as_ref().and_then(|all| all.get(key)) else {
            continue;
        };
        let path = items_path.child("properties").key(key);
        let is_required = required.contains(key);
        if !is_required && property.default.is_none() {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(&path.child("default"), detail));
        }
        if property.nullable.unwrap_or_default() {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(&path.child("nullable"), detail));
        }
    }
    errors
}

/// Shows each part of a schema (upstream `SchemaHas`).
pub(super) fn walk(props: &JSONSchemaProps, see: &mut dyn FnMut(&JSONSchemaProps)) {
    see(props);
    match &props.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => walk(items, see),
        Some(JSONSchemaPropsOrArray::Schemas(all)) => all.iter().for_each(|it| walk(it, see)),
        None => {}
    }
    for nested in [&props.all_of, &props.any_of, &props.one_of].into_iter().flatten().flatten() {
        walk(nested, see);
    }
    if let Some(not) = &props.not {
        walk(not, see);
    }
    for map in [&props.properties, &props.pattern_properties, &props.definitions] {
        map.iter().flatten().for_each(|(_, below)| walk(below, see));
    }
    for either in [&props.additional_properties, &props.additional_items].into_iter().flatten() {
        if let JSONSchemaPropsOrBool::Schema(below) = either {
            walk(below, see);
        }
    }
}
