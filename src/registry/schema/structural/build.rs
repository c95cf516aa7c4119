//! Makes the tree of a definition's `openAPIV3Schema` (upstream `NewStructural`, apiextensions
//! pkg/apiserver/schema/convert.go, v1.35).

use super::formats;
use super::node::{Additional, Checks, Extras, ListType, MapType, Marks, Rule, Structural, Type};
use super::pattern::Pattern;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// A schema with more parts than this is refused. A definition of the largest size that is stored
/// (1.5 MiB) and nothing but properties has about 50,000.
pub const NODES_MAX: usize = 65_536;

/// A schema nested deeper than this is refused. JSON of the depth that is read
/// ([`super::super::DOCUMENT_DEPTH_MAX`]) nests no deeper.
pub const DEPTH_MAX: usize = 64;

/// Why there is no tree of a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotStructural {
    #[error("OpenAPIV3Schema '{0}' is not supported")]
    Unsupported(&'static str),
    #[error("OpenAPIV3Schema 'items' must be a schema, but is an array")]
    ItemsAreArray,
    #[error("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined")]
    PreservesNothing,
    #[error("the schema has more than {NODES_MAX} parts")]
    TooLarge,
    #[error("the schema is nested more than {DEPTH_MAX} levels deep")]
    TooDeep,
}

impl Structural {
    /// The tree of `schema`.
    ///
    /// # Errors
    /// If the schema says what trees cannot, or is beyond a limit.
    pub fn new(schema: &JSONSchemaProps) -> Result<Self, NotStructural> {
        Builder::default().node(schema, 0)
    }
}

#[derive(Default)]
struct Builder {
    nodes: usize,
    /// Definitions repeat their patterns.
    patterns: HashMap<String, Arc<Pattern>>,
}

impl Builder {
    fn node(&mut self, from: &JSONSchemaProps, depth: usize) -> Result<Structural, NotStructural> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(NotStructural::TooLarge);
        }
        if depth > DEPTH_MAX {
            return Err(NotStructural::TooDeep);
        }
        refuse_unsupported(from)?;
        let items = match &from.items {
            None => None,
            Some(JSONSchemaPropsOrArray::Schemas(schemas)) if schemas.is_empty() => None,
            Some(JSONSchemaPropsOrArray::Schemas(_)) => return Err(NotStructural::ItemsAreArray),
            Some(JSONSchemaPropsOrArray::Schema(schema)) => {
                Some(Box::new(self.node(schema, depth + 1)?))
            }
        };
        let mut properties =
            Vec::with_capacity(from.properties.as_ref().map_or(0, |all| all.len()));
        for (name, schema) in from.properties.iter().flatten() {
            properties.push((name.as_str().into(), self.node(schema, depth + 1)?));
        }
        let additional = match &from.additional_properties {
            None => Additional::Unsaid,
            Some(JSONSchemaPropsOrBool::Bool(allowed)) => Additional::Allowed(*allowed),
            Some(JSONSchemaPropsOrBool::Schema(schema)) => {
                Additional::Schema(Box::new(self.node(schema, depth + 1)?))
            }
        };
        let name = from.type_.as_deref().unwrap_or_default();
        Ok(Structural {
            kind: Type::parse(name),
            list: list_type(from.x_kubernetes_list_type.as_deref()),
            map: map_type(from.x_kubernetes_map_type.as_deref()),
            marks: marks(from)?,
            properties: properties.into(),
            items,
            additional,
            checks: self.checks(from, depth)?,
            extras: extras(from),
        })
    }

    fn checks(
        &mut self,
        from: &JSONSchemaProps,
        depth: usize,
    ) -> Result<Option<Box<Checks>>, NotStructural> {
        let not = match &from.not {
            None => None,
            Some(schema) => Some(Box::new(self.node(schema, depth + 1)?)),
        };
        let checks = Checks {
            format: from.format.as_deref().filter(|name| formats::is_known(name)).map(Into::into),
            maximum: from.maximum,
            minimum: from.minimum,
            is_maximum_exclusive: from.exclusive_maximum.unwrap_or_default(),
            is_minimum_exclusive: from.exclusive_minimum.unwrap_or_default(),
            is_unique: from.unique_items.unwrap_or_default(),
            multiple_of: from.multiple_of,
            max_length: from.max_length,
            min_length: from.min_length,
            max_items: from.max_items,
            min_items: from.min_items,
            max_properties: from.max_properties,
            min_properties: from.min_properties,
            pattern: self.pattern(from.pattern.as_deref().unwrap_or_default()),
            one_of_values: from.enum_.iter().flatten().map(|JSON(value)| value.clone()).collect(),
            required: from.required.iter().flatten().map(|name| name.as_str().into()).collect(),
            all_of: self.nested(from.all_of.as_deref(), depth)?,
            any_of: self.nested(from.any_of.as_deref(), depth)?,
            one_of: self.nested(from.one_of.as_deref(), depth)?,
            not,
        };
        Ok((checks != Checks::default()).then(|| Box::new(checks)))
    }

    fn nested(
        &mut self,
        from: Option<&[JSONSchemaProps]>,
        depth: usize,
    ) -> Result<Box<[Structural]>, NotStructural> {
        from.into_iter().flatten().map(|schema| self.node(schema, depth + 1)).collect()
    }

    fn pattern(&mut self, source: &str) -> Option<Arc<Pattern>> {
        if source.is_empty() {
            return None;
        }
        if let Some(known) = self.patterns.get(source) {
            return Some(Arc::clone(known));
        }
        let pattern = Arc::new(Pattern::new(source));
        self.patterns.insert(source.to_owned(), Arc::clone(&pattern));
        Some(pattern)
    }
}

/// Upstream `validateUnsupportedFields`.
fn refuse_unsupported(from: &JSONSchemaProps) -> Result<(), NotStructural> {
    let is_said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let found = [
        ("id", is_said(&from.id)),
        ("schema", is_said(&from.schema)),
        ("$ref", is_said(&from.ref_path)),
        ("patternProperties", from.pattern_properties.as_ref().is_some_and(|all| !all.is_empty())),
        ("dependencies", from.dependencies.as_ref().is_some_and(|all| !all.is_empty())),
        ("additionalItems", from.additional_items.is_some()),
        ("definitions", from.definitions.as_ref().is_some_and(|all| !all.is_empty())),
    ];
    match found.into_iter().find(|(_, is_found)| *is_found) {
        Some((name, _)) => Err(NotStructural::Unsupported(name)),
        None => Ok(()),
    }
}

fn marks(from: &JSONSchemaProps) -> Result<Marks, NotStructural> {
    if from.x_kubernetes_preserve_unknown_fields == Some(false) {
        return Err(NotStructural::PreservesNothing);
    }
    let is_said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    Ok(Marks {
        is_nullable: from.nullable.unwrap_or_default(),
        preserves_unknown: from.x_kubernetes_preserve_unknown_fields.unwrap_or_default(),
        is_embedded: from.x_kubernetes_embedded_resource.unwrap_or_default(),
        is_int_or_string: from.x_kubernetes_int_or_string.unwrap_or_default(),
        has_title: is_said(&from.title),
        has_description: is_said(&from.description),
        has_list_type: from.x_kubernetes_list_type.is_some(),
        has_map_type: from.x_kubernetes_map_type.is_some(),
    })
}

fn extras(from: &JSONSchemaProps) -> Option<Box<Extras>> {
    let name = from.type_.as_deref().unwrap_or_default();
    let keys = from.x_kubernetes_list_map_keys.iter().flatten();
    let extras = Extras {
        default: from
            .default
            .as_ref()
            .map(|JSON(value)| value.clone())
            .filter(|it| *it != Value::Null),
        list_keys: keys.map(|key| key.as_str().into()).collect(),
        rules: from.x_kubernetes_validations.iter().flatten().map(rule).collect(),
        unknown_type: (Type::parse(name) == Type::Unknown).then(|| name.into()),
    };
    (extras != Extras::default()).then(|| Box::new(extras))
}

fn rule(from: &ValidationRule) -> Rule {
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
    Rule {
        rule: from.rule.as_str().into(),
        message: text(&from.message),
        message_expression: text(&from.message_expression),
        reason: text(&from.reason),
        field_path: text(&from.field_path),
        optional_old_self: from.optional_old_self,
    }
}

fn list_type(name: Option<&str>) -> ListType {
    match name {
        Some("atomic") => ListType::Atomic,
        Some("set") => ListType::Set,
        Some("map") => ListType::Map,
        _ => ListType::Unsaid,
    }
}

fn map_type(name: Option<&str>) -> MapType {
    match name {
        Some("atomic") => MapType::Atomic,
        Some("granular") => MapType::Granular,
        _ => MapType::Unsaid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn build(schema: Value) -> Result<Structural, NotStructural> {
        Structural::new(&serde_json::from_value(schema).unwrap())
    }

    #[test]
    fn accessors_see_what_the_schema_says() {
        let schema = build(json!({"type": "object", "properties": {
            "ports": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name", "protocol"],
                "items": {"type": "object", "properties": {
                    "name": {"type": "string"},
                    "protocol": {"type": "string", "default": "TCP"},
                }},
            },
            "labels": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "x-kubernetes-map-type": "atomic",
            },
        }}))
        .unwrap();
        let ports = schema.property("ports").unwrap();
        assert_eq!(ports.list_type(), ListType::Map);
        assert_eq!(ports.list_keys().len(), 2);
        assert_eq!(ports.list_key_default("protocol"), Some(&json!("TCP")));
        assert_eq!(ports.list_key_default("name"), None);
        let labels = schema.property("labels").unwrap();
        assert_eq!(labels.map_type(), MapType::Atomic);
        assert_eq!(labels.child("any").unwrap().kind(), Type::String);
        assert_eq!(schema.child("other"), None);
    }

    #[test]
    fn what_is_no_structural_schema_is_refused_in_upstreams_words() {
        for (schema, expected) in [
            (json!({"$ref": "x"}), "OpenAPIV3Schema '$ref' is not supported"),
            (json!({"id": "x"}), "OpenAPIV3Schema 'id' is not supported"),
            (
                json!({"properties": {"a": {"patternProperties": {"x": {}}}}}),
                "OpenAPIV3Schema 'patternProperties' is not supported",
            ),
            (
                json!({"items": [{"type": "string"}]}),
                "OpenAPIV3Schema 'items' must be a schema, but is an array",
            ),
        ] {
            assert_eq!(build(schema.clone()).unwrap_err().to_string(), expected, "{schema}");
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nest = |depth: usize| {
            (0..depth).fold(json!({"type": "string"}), |inner, _| json!({"items": inner}))
        };
        assert!(build(nest(DEPTH_MAX)).is_ok());
        assert_eq!(build(nest(DEPTH_MAX + 1)).unwrap_err(), NotStructural::TooDeep);
        let wide = |count: usize| {
            let properties: serde_json::Map<_, _> =
                (0..count).map(|number| (format!("p{number}"), json!({}))).collect();
            json!({"properties": properties})
        };
        assert!(build(wide(NODES_MAX - 1)).is_ok());
        assert_eq!(build(wide(NODES_MAX)).unwrap_err(), NotStructural::TooLarge);
    }

    #[test]
    fn nodes_are_small() {
        assert!(size_of::<Structural>() <= 72, "{}", size_of::<Structural>());
    }
}
