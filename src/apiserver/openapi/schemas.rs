//! The types of the schema table as OpenAPI v3 schemas. Pure.

use crate::registry::schema::{BUILT_IN, FieldView, ListKind, MapKind, PatchStrategy, Shape};
use crate::registry::schema::{TypeRef, TypeView};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

/// The schemas of these types and of all that they are made of, by their OpenAPI names.
pub(super) fn reachable(roots: impl IntoIterator<Item = TypeRef>) -> Map<String, Value> {
    let mut schemas = BTreeMap::new();
    let mut waiting: Vec<TypeRef> = roots.into_iter().collect();
    while let Some(of) = waiting.pop() {
        let view = BUILT_IN.get(of);
        let name = name_of(view);
        if schemas.contains_key(&name) {
            continue;
        }
        schemas.insert(name, schema_of(view));
        for field in view.fields() {
            follow(field.shape(), &mut waiting, &mut schemas);
        }
    }
    schemas.into_iter().collect()
}

/// `io.k8s.api.core.v1.Pod`.
fn name_of(view: TypeView<'_>) -> String {
    format!("{}.{}", view.package(), view.name())
}

fn follow(shape: Shape, waiting: &mut Vec<TypeRef>, schemas: &mut BTreeMap<String, Value>) {
    match shape {
        Shape::Struct(of) => waiting.push(of),
        Shape::List(element) | Shape::Map(element) => {
            follow(BUILT_IN.element(element), waiting, schemas);
        }
        other => {
            if let Some((name, schema)) = named_scalar(other) {
                schemas.entry(name.to_owned()).or_insert(schema);
            }
        }
    }
}

/// Values that have a schema of their own though they are no structs.
fn named_scalar(shape: Shape) -> Option<(&'static str, Value)> {
    match shape {
        Shape::Quantity => {
            Some((QUANTITY, json!({"oneOf": [{"type": "string"}, {"type": "number"}]})))
        }
        Shape::IntOrString => Some((
            INT_OR_STRING,
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        )),
        Shape::Time => Some((TIME, json!({"type": "string", "format": "date-time"}))),
        Shape::MicroTime => Some((MICRO_TIME, json!({"type": "string", "format": "date-time"}))),
        Shape::Object => Some((RAW_EXTENSION, json!({"type": "object"}))),
        _ => None,
    }
}

fn schema_of(view: TypeView<'_>) -> Value {
    let mut schema = Map::new();
    if view.is_any() {
        return Value::Object(schema);
    }
    schema.insert("type".to_owned(), json!("object"));
    let properties: Map<String, Value> =
        view.fields().map(|field| (field.name().to_owned(), property(field))).collect();
    if !properties.is_empty() {
        schema.insert("properties".to_owned(), Value::Object(properties));
    }
    let required: Vec<_> =
        view.fields().filter(FieldView::is_required).map(|field| field.name()).collect();
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    if view.is_atomic() {
        schema.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
    }
    if view.is_kind() {
        let kind = json!([{"group": view.group(), "version": view.version(), "kind": view.name()}]);
        schema.insert("x-kubernetes-group-version-kind".to_owned(), kind);
    }
    Value::Object(schema)
}

fn property(field: FieldView<'_>) -> Value {
    let mut schema = shape_schema(field.shape());
    let facts = schema.as_object_mut().expect("schemas are objects");
    let mut set = |name: &str, value: Value| facts.insert(name.to_owned(), value);
    if let Some(default) = field.default_json() {
        let default = serde_json::from_str(default).expect("checked when the table was made");
        set("default", default);
    } else if field.is_zero_by_default()
        && let Some(zero) = zero(field.shape())
    {
        set("default", zero);
    }
    let values: Vec<_> = field.enum_values().collect();
    if !values.is_empty() && field.shape() == Shape::String {
        set("enum", json!(values));
    }
    if let Some(kind) = field.list_kind() {
        let kind = match kind {
            ListKind::Atomic => "atomic",
            ListKind::Set => "set",
            ListKind::Map => "map",
        };
        set("x-kubernetes-list-type", json!(kind));
    }
    let keys: Vec<_> = field.list_keys().collect();
    if !keys.is_empty() {
        set("x-kubernetes-list-map-keys", json!(keys));
    }
    if let Some(kind) = field.map_kind() {
        let kind = match kind {
            MapKind::Atomic => "atomic",
            MapKind::Granular => "granular",
        };
        set("x-kubernetes-map-type", json!(kind));
    }
    let strategies = strategies(field);
    if !strategies.is_empty() {
        set("x-kubernetes-patch-strategy", json!(strategies));
    }
    if !field.merge_key().is_empty() {
        set("x-kubernetes-patch-merge-key", json!(field.merge_key()));
    }
    schema
}

/// `merge`, `merge,retainKeys`, `retainKeys`, `replace` or nothing.
fn strategies(field: FieldView<'_>) -> String {
    let strategy = match field.patch_strategy() {
        PatchStrategy::None => None,
        PatchStrategy::Merge => Some("merge"),
        PatchStrategy::Replace => Some("replace"),
    };
    let retained = field.retains_keys().then_some("retainKeys");
    strategy.into_iter().chain(retained).collect::<Vec<_>>().join(",")
}

fn shape_schema(shape: Shape) -> Value {
    if let Some((name, _)) = named_scalar(shape) {
        return reference(name);
    }
    match shape {
        Shape::String => json!({"type": "string"}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Int32 => json!({"type": "integer", "format": "int32"}),
        Shape::Int64 => json!({"type": "integer", "format": "int64"}),
        Shape::Double => json!({"type": "number", "format": "double"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Struct(of) => reference(&name_of(BUILT_IN.get(of))),
        Shape::List(element) => {
            json!({"type": "array", "items": shape_schema(BUILT_IN.element(element))})
        }
        Shape::Map(element) => json!({
            "type": "object",
            "additionalProperties": shape_schema(BUILT_IN.element(element)),
        }),
        // Any JSON; and the named ones, which were dealt with above.
        _ => json!({}),
    }
}

/// Wrapped, because OpenAPI ignores what stands beside a bare `$ref`.
fn reference(name: &str) -> Value {
    json!({"allOf": [{"$ref": format!("#/components/schemas/{name}")}]})
}

fn zero(shape: Shape) -> Option<Value> {
    match shape {
        Shape::String => Some(json!("")),
        Shape::Bool => Some(json!(false)),
        Shape::Int32 | Shape::Int64 | Shape::Double => Some(json!(0)),
        Shape::Struct(_) => Some(json!({})),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::KINDS;
    use crate::registry::schema::types;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    match value {
                        Value::String(text) if name == "$ref" => found.push(text.clone()),
                        value => references(value, found),
                    }
                }
            }
            Value::Array(elements) => elements.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let schemas = reachable(KINDS.iter().map(|kind| kind.schema));
        let mut found = Vec::new();
        references(&Value::Object(schemas.clone()), &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let name = reference.strip_prefix("#/components/schemas/").unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
    }

    #[test]
    fn fields_are_described_as_upstream_describes_them() {
        let schemas = reachable([types::DEPLOYMENT]);
        let field = |of: &str, name: &str| schemas[of]["properties"][name].clone();
        assert_eq!(
            field("io.k8s.api.core.v1.Container", "env"),
            json!({
                "items": {"allOf": [{"$ref": "#/components/schemas/io.k8s.api.core.v1.EnvVar"}]},
                "type": "array", "x-kubernetes-list-map-keys": ["name"],
                "x-kubernetes-list-type": "map", "x-kubernetes-patch-merge-key": "name",
                "x-kubernetes-patch-strategy": "merge",
            })
        );
        assert_eq!(
            field("io.k8s.api.apps.v1.DeploymentSpec", "strategy"),
            json!({
                "allOf": [{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"}],
                "default": {}, "x-kubernetes-patch-strategy": "retainKeys",
            })
        );
        assert_eq!(
            field("io.k8s.api.apps.v1.DeploymentSpec", "replicas"),
            json!({"type": "integer", "format": "int32"})
        );
    }
}
