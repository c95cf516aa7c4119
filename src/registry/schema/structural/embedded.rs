//! Resources within resources: their `apiVersion`, `kind` and `metadata` are what they are in any
//! object (upstream apiextensions pkg/apiserver/schema/objectmeta, v1.35).

use super::node::Structural;
use super::place::Place;
use super::prune::UNKNOWN_MAX;
use crate::api::field::ERRORS_MAX;
use crate::api::{FieldError, FieldPath, names};
use crate::registry::kind::Scope;
use crate::registry::metadata;
use crate::registry::schema::table::{BUILT_IN, Shape, TypeRef};
use crate::registry::schema::{check, types};
use crate::stdx::json;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

/// A name for metadata that has none, so that nothing is said of that.
const ANY_NAME: &str = "fakename";

/// Whether a schema has resources within it.
#[must_use]
pub fn is_within(schema: &Structural) -> bool {
    schema.is_embedded()
        || schema.properties().any(|(_, property)| is_within(property))
        || schema.items().is_some_and(is_within)
        || schema.additional_schema().is_some_and(is_within)
}

/// Takes out of embedded metadata what no metadata has. Returns the paths of what was taken out.
///
/// # Errors
/// At the first value that metadata cannot have.
pub fn coerce(value: &mut Value, schema: &Structural) -> Result<Vec<String>, FieldError> {
    coerce_at(&FieldPath::default(), value, schema, schema.is_embedded())
}

/// As [`coerce`], of a value at `path`, which is a resource itself if `is_resource`.
pub(in crate::registry) fn coerce_at(
    path: &FieldPath,
    value: &mut Value,
    schema: &Structural,
    is_resource: bool,
) -> Result<Vec<String>, FieldError> {
    let mut coercer = Coercer { drops_malformed: false, unknown: Vec::new() };
    coercer.visit(value, (schema, is_resource), Place::Root(path))?;
    coercer.unknown.sort();
    Ok(coercer.unknown)
}

/// As [`coerce`], of a whole resource; takes out what cannot be as well.
pub fn coerce_leniently(value: &mut Value, schema: &Structural) {
    let mut coercer = Coercer { drops_malformed: true, unknown: Vec::new() };
    let path = FieldPath::default();
    let done = coercer.visit(value, (schema, true), Place::Root(&path));
    done.expect("what is malformed is dropped");
}

struct Coercer {
    drops_malformed: bool,
    unknown: Vec<String>,
}

impl Coercer {
    fn visit(
        &mut self,
        value: &mut Value,
        (schema, is_resource): (&Structural, bool),
        place: Place<'_>,
    ) -> Result<(), FieldError> {
        match value {
            Value::Object(object) => {
                if is_resource {
                    self.type_of(object, place)?;
                    self.metadata_of(object, place)?;
                }
                for (name, value) in object.iter_mut() {
                    if let Some(property) = schema.property(name) {
                        let place = place.child(name);
                        self.visit(value, (property, property.is_embedded()), place)?;
                    } else if let Some(additional) = schema.additional_schema() {
                        let place = place.key(name);
                        self.visit(value, (additional, additional.is_embedded()), place)?;
                    }
                }
            }
            Value::Array(list) => {
                let Some(items) = schema.items() else { return Ok(()) };
                for (index, value) in list.iter_mut().enumerate() {
                    self.visit(value, (items, items.is_embedded()), place.index(index))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn type_of(&self, object: &mut Map<String, Value>, place: Place<'_>) -> Result<(), FieldError> {
        for name in ["apiVersion", "kind"] {
            let Some(odd) = object.get(name).filter(|value| !value.is_string()) else { continue };
            if !self.drops_malformed {
                let path = place.path().child(name);
                return Err(FieldError::invalid(&path, odd.clone(), "must be a string"));
            }
            object.remove(name);
        }
        Ok(())
    }

    fn metadata_of(
        &mut self,
        object: &mut Map<String, Value>,
        place: Place<'_>,
    ) -> Result<(), FieldError> {
        let Some(found) = object.get("metadata") else { return Ok(()) };
        let mut metadata = found.clone();
        let coerced = if self.drops_malformed {
            Coerced { unknown: Vec::new(), problem: None, value: drop_malformed(&mut metadata) }
        } else {
            coerce_metadata(metadata)
        };
        if let Some(problem) = coerced.problem {
            let path = place.path().child("metadata");
            return Err(FieldError::invalid(&path, found.clone(), problem));
        }
        if !coerced.unknown.is_empty() && self.unknown.len() < UNKNOWN_MAX {
            let prefix = place.path().child("metadata");
            self.unknown.extend(coerced.unknown.iter().map(|name| format!("{prefix}.{name}")));
        }
        object.insert("metadata".to_owned(), coerced.value);
        Ok(())
    }
}

/// Metadata as it may be, and what was not so.
#[derive(Debug)]
pub(in crate::registry) struct Coerced {
    pub(in crate::registry) value: Value,
    /// Fields that were taken out: `labels2`.
    pub(in crate::registry) unknown: Vec<String>,
    /// Why this is no metadata at all.
    pub(in crate::registry) problem: Option<String>,
}

/// Metadata as Go's decoder takes it and writes it again.
pub(in crate::registry) fn coerce_metadata(mut value: Value) -> Coerced {
    let Some(of) = object_meta() else { unreachable!("every kind has metadata") };
    let checked = check(of, &mut value);
    let bare = |text: &String| {
        text.trim_start_matches("unknown field \"").trim_end_matches('"').to_owned()
    };
    let unknown = checked.unknown.iter().map(bare).collect();
    let problem = checked.mistyped.into_iter().next().map(|problem| problem.message);
    if let Value::Object(metadata) = &mut value {
        metadata.retain(|_, value| !is_empty(value));
    }
    Coerced { value, unknown, problem }
}

/// Each field by itself, as upstream's `DropMalformedFields`.
fn drop_malformed(metadata: &mut Value) -> Value {
    let Value::Object(fields) = metadata else { return metadata.take() };
    let mut good = Map::new();
    for (name, value) in std::mem::take(fields) {
        let coerced = coerce_metadata(Value::Object(Map::from_iter([(name, value)])));
        if let (None, Value::Object(field)) = (coerced.problem, coerced.value) {
            good.extend(field);
        }
    }
    Value::Object(good)
}

/// What Go leaves out (`omitempty`).
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The type of all metadata.
fn object_meta() -> Option<TypeRef> {
    match BUILT_IN.get(types::POD).field("metadata")?.shape() {
        Shape::Struct(of) => Some(of),
        _ => None,
    }
}

/// What is wrong with the resources within a resource.
#[must_use]
pub fn validate(value: &Value, schema: &Structural) -> Vec<FieldError> {
    validate_at(&FieldPath::default(), value, schema, schema.is_embedded())
}

/// As [`validate`], of a value at `path`, which is a resource itself if `is_resource`.
pub(in crate::registry) fn validate_at(
    path: &FieldPath,
    value: &Value,
    schema: &Structural,
    is_resource: bool,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    visit(value, (schema, is_resource), Place::Root(path), &mut errors);
    errors
}

fn visit(
    value: &Value,
    (schema, is_resource): (&Structural, bool),
    place: Place<'_>,
    errors: &mut Vec<FieldError>,
) {
    if errors.len() >= ERRORS_MAX {
        return;
    }
    match value {
        Value::Object(object) => {
            if is_resource {
                errors.extend(validate_resource(object, &place.path()));
            }
            for (name, value) in object {
                if let Some(property) = schema.property(name) {
                    visit(value, (property, property.is_embedded()), place.child(name), errors);
                } else if let Some(additional) = schema.additional_schema() {
                    visit(value, (additional, additional.is_embedded()), place.key(name), errors);
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = schema.items() else { return };
            for (index, value) in list.iter().enumerate() {
                visit(value, (items, items.is_embedded()), place.index(index), errors);
            }
        }
        _ => {}
    }
}

/// Upstream `validateEmbeddedResource`.
fn validate_resource(object: &Map<String, Value>, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, rule) in [("apiVersion", api_version as fn(&str) -> Option<String>), ("kind", kind)]
    {
        let path = path.child(name);
        match object.get(name) {
            None => errors.push(FieldError::required(&path, "")),
            Some(Value::String(text)) if text.is_empty() => {
                errors.push(FieldError::invalid(&path, "", "must not be empty"));
            }
            Some(Value::String(text)) => {
                let problem = rule(text);
                errors.extend(problem.map(|it| FieldError::invalid(&path, text.as_str(), it)));
            }
            Some(odd) => errors.push(FieldError::invalid(&path, odd.clone(), "must be a string")),
        }
    }
    if let Some(found) = object.get("metadata") {
        errors.extend(validate_metadata(found, &path.child("metadata")));
    }
    errors
}

fn api_version(text: &str) -> Option<String> {
    let parts = text.matches('/').count();
    (parts > 1).then(|| format!("unexpected GroupVersion string: {text}"))
}

fn kind(text: &str) -> Option<String> {
    let problems = names::dns1035_label(&text.to_lowercase());
    let problems = problems.join(",");
    (!problems.is_empty())
        .then(|| format!("may have mixed case, but should otherwise match: {problems}"))
}

fn validate_metadata(found: &Value, path: &FieldPath) -> Vec<FieldError> {
    let coerced = coerce_metadata(found.clone());
    let typed = || json::from_value::<ObjectMeta>(&coerced.value).map_err(|it| it.to_string());
    let typed = coerced.problem.map_or_else(typed, Err);
    let mut metadata = match typed {
        Ok(metadata) => metadata,
        Err(problem) => return vec![FieldError::invalid(path, found.clone(), problem)],
    };
    if metadata.name.as_deref().unwrap_or_default().is_empty() {
        metadata.name = Some(ANY_NAME.to_owned());
    }
    let is_namespaced = metadata.namespace.as_ref().is_some_and(|name| !name.is_empty());
    let scope = if is_namespaced { Scope::Namespaced } else { Scope::Cluster };
    let rules = metadata::Rules { scope, name: names::path_segment };
    metadata::validate_at(&metadata, rules, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Structural {
        let schema = json!({"properties": {
            "template": {
                "type": "object", "x-kubernetes-embedded-resource": true,
                "x-kubernetes-preserve-unknown-fields": true,
            },
            "list": {"items": {"type": "object", "x-kubernetes-embedded-resource": true}},
            "map": {"additionalProperties": {"type": "object", "x-kubernetes-embedded-resource": true}},
        }});
        Structural::new(&serde_json::from_value(schema).unwrap()).unwrap()
    }

    #[test]
    fn unknown_metadata_goes_and_is_named() {
        let mut value = json!({
            "metadata": {"odd": 1},
            "template": {"metadata": {"name": "a", "odd": 1, "labels": {}, "creationTimestamp": null}},
            "list": [{"metadata": {"odd": 1}}],
            "map": {"k": {"metadata": {"odd": 1}}},
        });
        let unknown = coerce(&mut value, &schema()).unwrap();
        assert_eq!(
            unknown,
            ["list[0].metadata.odd", "map[k].metadata.odd", "template.metadata.odd"]
        );
        assert_eq!(
            value,
            json!({
                "metadata": {"odd": 1},
                "template": {"metadata": {"name": "a"}},
                "list": [{"metadata": {}}],
                "map": {"k": {"metadata": {}}},
            })
        );
    }

    #[test]
    fn what_cannot_be_metadata_is_refused_or_dropped() {
        let odd = json!({"template": {"kind": 1, "metadata": {"name": 2, "namespace": "n"}}});
        let refused = |mut value: Value| coerce(&mut value, &schema()).unwrap_err().to_string();
        assert_eq!(refused(odd.clone()), "template.kind: Invalid value: 1: must be a string");
        assert_eq!(
            refused(json!({"template": {"metadata": {"name": 2}}})),
            "template.metadata: Invalid value: {\"name\":2}: json: cannot unmarshal number into Go \
             struct field ObjectMeta.name of type string"
        );
        let mut value = odd;
        coerce_leniently(&mut value, &schema());
        assert_eq!(value, json!({"template": {"metadata": {"namespace": "n"}}}));
    }

    #[track_caller]
    fn check(template: Value, expected: &[&str]) {
        let errors = validate(&json!({ "template": template }), &schema());
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), expected.len(), "{texts:#?}");
        for (text, expected) in texts.iter().zip(expected) {
            assert!(text.starts_with(expected), "{text}\nshould start with\n{expected}");
        }
    }

    #[test]
    fn resources_within_are_resources() {
        check(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": "b"}}}), &[]);
        check(json!({}), &["template.apiVersion: Required value", "template.kind: Required value"]);
        check(
            json!({"apiVersion": "a/b/c", "kind": "no kind", "metadata": {"name": "a/b"}}),
            &[
                "template.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                "template.kind: Invalid value: \"no kind\": may have mixed case, but should otherwise match: a DNS-1035",
                "template.metadata.name: Invalid value: \"a/b\": may not contain '/'",
            ],
        );
        check(
            json!({"apiVersion": "", "kind": 1, "metadata": 2}),
            &[
                "template.apiVersion: Invalid value: \"\": must not be empty",
                "template.kind: Invalid value: 1: must be a string",
                "template.metadata: Invalid value: 2: json: cannot unmarshal number into Go value of type v1.ObjectMeta",
            ],
        );
    }
}
