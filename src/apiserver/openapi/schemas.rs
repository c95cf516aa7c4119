//! The types of the schema table as schemas of OpenAPI, v2 and v3. Pure.
//!
//! Start at [`Edition::reachable`].

use crate::registry::schema::{BUILT_IN, FieldView, ListKind, MapKind, PatchStrategy, Shape};
use crate::registry::schema::{TypeRef, TypeView};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

/// Which OpenAPI is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edition {
    /// Without defaults and alternatives, which it has no words for (upstream `PruneDefaults`).
    Second,
    Third,
}

impl Edition {
    /// The schemas of these types and of all that they are made of, by their OpenAPI names.
    pub(super) fn reachable(self, roots: impl IntoIterator<Item = TypeRef>) -> Map<String, Value> {
        let mut schemas = BTreeMap::new();
        let mut waiting: Vec<TypeRef> = roots.into_iter().collect();
        while let Some(of) = waiting.pop() {
            let view = BUILT_IN.get(of);
            let name = name_of(view);
            if schemas.contains_key(&name) {
                continue;
            }
            schemas.insert(name, self.schema_of(view));
            for field in view.fields() {
                self.follow(field.shape(), &mut waiting, &mut schemas);
            }
        }
        schemas.into_iter().collect()
    }

    fn follow(
        self,
        shape: Shape,
        waiting: &mut Vec<TypeRef>,
        schemas: &mut BTreeMap<String, Value>,
    ) {
        match shape {
            Shape::Struct(of) => waiting.push(of),
            Shape::List(element) | Shape::Map(element) => {
                self.follow(BUILT_IN.element(element), waiting, schemas);
            }
            other => {
                if let Some(name) = name_of_scalar(other) {
                    schemas.entry(name.to_owned()).or_insert_with(|| self.scalar(other));
                }
            }
        }
    }

    /// Values that have a schema of their own though they are no structs.
    fn scalar(self, shape: Shape) -> Value {
        match (shape, self) {
            (Shape::Quantity, Self::Second) => json!({"type": "string"}),
            (Shape::Quantity, Self::Third) => {
                json!({"oneOf": [{"type": "string"}, {"type": "number"}]})
            }
            (Shape::IntOrString, Self::Second) => {
                json!({"format": "int-or-string", "type": "string"})
            }
            (Shape::IntOrString, Self::Third) => json!({
                "format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}],
            }),
            (Shape::Time | Shape::MicroTime, _) => json!({"type": "string", "format": "date-time"}),
            _ => json!({"type": "object"}),
        }
    }

    fn schema_of(self, view: TypeView<'_>) -> Value {
        let mut schema = Map::new();
        if view.is_any() {
            return Value::Object(schema);
        }
        schema.insert("type".to_owned(), json!("object"));
        let properties: Map<String, Value> =
            view.fields().map(|field| (field.name().to_owned(), self.property(field))).collect();
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
            let kind =
                json!([{"group": view.group(), "version": view.version(), "kind": view.name()}]);
            schema.insert("x-kubernetes-group-version-kind".to_owned(), kind);
        }
        Value::Object(schema)
    }

    fn property(self, field: FieldView<'_>) -> Value {
        let mut schema = self.shape_schema(field.shape());
        let facts = schema.as_object_mut().expect("schemas are objects");
        if self == Self::Third
            && let Some(default) = default_of(field)
        {
            facts.insert("default".to_owned(), default);
        }
        let values: Vec<_> = field.enum_values().collect();
        if !values.is_empty() && field.shape() == Shape::String {
            facts.insert("enum".to_owned(), json!(values));
        }
        facts.extend(extensions(field));
        schema
    }

    fn shape_schema(self, shape: Shape) -> Value {
        if let Some(name) = name_of_scalar(shape) {
            return self.reference(name);
        }
        match shape {
            Shape::String => json!({"type": "string"}),
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 => json!({"type": "integer", "format": "int64"}),
            Shape::Double => json!({"type": "number", "format": "double"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Struct(of) => self.reference(&name_of(BUILT_IN.get(of))),
            Shape::List(element) => {
                json!({"type": "array", "items": self.shape_schema(BUILT_IN.element(element))})
            }
            Shape::Map(element) => json!({
                "type": "object",
                "additionalProperties": self.shape_schema(BUILT_IN.element(element)),
            }),
            // Any JSON; and the named ones, which were dealt with above.
            _ => json!({}),
        }
    }

    /// Wrapped in v3, which ignores what stands beside a bare `$ref`.
    fn reference(self, name: &str) -> Value {
        match self {
            Self::Second => json!({"$ref": format!("#/definitions/{name}")}),
            Self::Third => json!({"allOf": [{"$ref": format!("#/components/schemas/{name}")}]}),
        }
    }
}

/// The type of a kind, and its OpenAPI name.
pub(super) fn find_kind(group: &str, version: &str, kind: &str) -> Option<(TypeRef, String)> {
    let mut types = BUILT_IN.types();
    let found = types.find(|(_, view)| {
        view.is_kind() && (view.group(), view.version(), view.name()) == (group, version, kind)
    });
    found.map(|(of, view)| (of, name_of(view)))
}

/// `io.k8s.api.core.v1.Pod`.
fn name_of(view: TypeView<'_>) -> String {
    format!("{}.{}", view.package(), view.name())
}

fn name_of_scalar(shape: Shape) -> Option<&'static str> {
    match shape {
        Shape::Quantity => Some(QUANTITY),
        Shape::IntOrString => Some(INT_OR_STRING),
        Shape::Time => Some(TIME),
        Shape::MicroTime => Some(MICRO_TIME),
        Shape::Object => Some(RAW_EXTENSION),
        _ => None,
    }
}

fn default_of(field: FieldView<'_>) -> Option<Value> {
    match field.default_json() {
        Some(default) => {
            Some(serde_json::from_str(default).expect("checked when the table was made"))
        }
        None if field.is_zero_by_default() => zero(field.shape()),
        None => None,
    }
}

/// How lists and maps are merged.
fn extensions(field: FieldView<'_>) -> Map<String, Value> {
    let mut facts = Map::new();
    let mut set = |name: &str, value: Value| facts.insert(name.to_owned(), value);
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
    facts
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
    use crate::registry::schema::types;
    use crate::registry::{KINDS, Kind};

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
        for (edition, place) in
            [(Edition::Second, "#/definitions/"), (Edition::Third, "#/components/schemas/")]
        {
            let schemas = edition.reachable(KINDS.iter().filter_map(Kind::built_in_schema));
            let mut found = Vec::new();
            references(&Value::Object(schemas.clone()), &mut found);
            assert!(!found.is_empty());
            for reference in found {
                let name = reference.strip_prefix(place).unwrap();
                assert!(schemas.contains_key(name), "{name}");
            }
        }
    }

    #[test]
    fn fields_are_described_as_upstream_describes_them() {
        let schemas = Edition::Third.reachable([types::DEPLOYMENT]);
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

    #[test]
    fn the_second_edition_has_no_defaults_and_no_wrapping() {
        let schemas = Edition::Second.reachable([types::DEPLOYMENT]);
        let field = |of: &str, name: &str| schemas[of]["properties"][name].clone();
        assert_eq!(
            field("io.k8s.api.apps.v1.DeploymentSpec", "strategy"),
            json!({
                "$ref": "#/definitions/io.k8s.api.apps.v1.DeploymentStrategy",
                "x-kubernetes-patch-strategy": "retainKeys",
            })
        );
        assert_eq!(schemas[INT_OR_STRING], json!({"format": "int-or-string", "type": "string"}));
        assert!(!Value::Object(schemas).to_string().contains("\"default\":"));
    }
}
