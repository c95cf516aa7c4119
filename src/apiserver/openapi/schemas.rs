//! The types of the schema table as schemas of OpenAPI, v2 and v3. Pure.
//!
//! Start at [`Catalog::add_reachable`].

use super::document::{Form, Schemas};
use crate::registry::KINDS;
use crate::registry::schema::structural::publish::LIST_METADATA;
use crate::registry::schema::{BUILT_IN, FieldView, ListKind, MapKind, PatchStrategy, Shape};
use crate::registry::schema::{Descriptions, TypeRef, TypeView, types};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::collections::{BTreeSet, HashMap};

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const FIELDS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";

/// Whose JSON is upstream's `FieldsV1`. Elsewhere an object that is kept as it is is a `RawExtension`.
const MANAGED_FIELDS: &str = "ManagedFieldsEntry";
/// What is understood in every version of every group.
const OF_ALL_VERSIONS: [&str; 2] = ["DeleteOptions", "WatchEvent"];

/// Which OpenAPI is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edition {
    /// Without defaults and alternatives, which it has no words for (upstream `PruneDefaults`).
    Second,
    Third,
}

impl Edition {
    /// A reference, with what is said of it besides. In v3 it is wrapped then: what stands beside a
    /// bare `$ref` is ignored.
    pub(super) fn reference(self, name: &str, mut besides: Map<String, Value>) -> Value {
        let (member, reference) = match self {
            Self::Second => ("$ref", json!(format!("#/definitions/{name}"))),
            Self::Third => {
                let reference = json!(format!("#/components/schemas/{name}"));
                match besides.is_empty() {
                    true => ("$ref", reference),
                    false => ("allOf", json!([{"$ref": reference}])),
                }
            }
        };
        besides.insert(member.to_owned(), reference);
        Value::Object(besides)
    }

    /// Values that have a schema of their own though they are no structs.
    fn value(self, name: &str) -> Value {
        match (name, self) {
            (QUANTITY, Self::Second) => json!({"type": "string"}),
            (QUANTITY, Self::Third) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            (INT_OR_STRING, Self::Second) => json!({"format": "int-or-string", "type": "string"}),
            (INT_OR_STRING, Self::Third) => json!({
                "format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}],
            }),
            (TIME | MICRO_TIME, _) => json!({"type": "string", "format": "date-time"}),
            _ => json!({"type": "object"}),
        }
    }
}

/// The schemas of the table in one edition, each written when it is first asked for.
#[derive(Debug)]
pub(super) struct Catalog {
    edition: Edition,
    form: Form,
    descriptions: Descriptions,
    written: HashMap<TypeRef, Bytes>,
}

impl Catalog {
    pub(super) fn new(edition: Edition, form: Form) -> Self {
        Self { edition, form, descriptions: Descriptions::read(), written: HashMap::new() }
    }

    pub(super) fn edition(&self) -> Edition {
        self.edition
    }

    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// The schema of a patch, whatever it is of.
    pub(super) fn patch(&self) -> Bytes {
        let mut schema = json!({"type": "object"});
        let of = BUILT_IN.find("", "v1", "Patch");
        if let Some(description) = of.and_then(|of| self.descriptions.of_type(of)) {
            schema["description"] = json!(description);
        }
        self.form.schema(&schema)
    }

    /// Adds the schemas of these types and of all that they are made of, by their OpenAPI names.
    pub(super) fn add_reachable(
        &mut self,
        roots: impl IntoIterator<Item = TypeRef>,
        schemas: &mut Schemas,
    ) {
        let mut waiting: Vec<TypeRef> = roots.into_iter().collect();
        while let Some(of) = waiting.pop() {
            let view = BUILT_IN.get(of);
            let name = name_of(view);
            if schemas.contains_key(&name) {
                continue;
            }
            schemas.insert(name, self.written(of));
            // The fields of free-form JSON are protobuf's.
            for field in view.fields().filter(|_| !view.is_any()) {
                let shape = innermost(field.shape());
                if let Shape::Struct(below) = shape {
                    waiting.push(below);
                } else if let Some(name) = value_name(view, shape) {
                    self.add_value(name, schemas);
                }
            }
        }
    }

    fn add_value(&self, name: &str, schemas: &mut Schemas) {
        if !schemas.contains_key(name) {
            let mut schema = self.edition.value(name);
            if let Some(description) = self.descriptions.of_value(name) {
                schema["description"] = json!(description);
            }
            schemas.insert(name.to_owned(), self.form.schema(&schema));
        }
    }

    fn written(&mut self, of: TypeRef) -> Bytes {
        if let Some(schema) = self.written.get(&of) {
            return schema.clone();
        }
        let schema = self.form.schema(&self.schema_of(of));
        self.written.insert(of, schema.clone());
        schema
    }

    fn schema_of(&self, of: TypeRef) -> Value {
        let view = BUILT_IN.get(of);
        let mut schema = Map::new();
        let mut set = |name: &str, value: Value| schema.insert(name.to_owned(), value);
        if let Some(description) = self.said_of_type(of, view) {
            set("description", json!(description));
        }
        if view.is_any() {
            return Value::Object(schema);
        }
        set("type", json!("object"));
        let property = |(nth, field): (usize, FieldView<'_>)| {
            (field.name().to_owned(), self.property((of, nth), view, field))
        };
        let properties: Map<String, Value> = view.fields().enumerate().map(property).collect();
        if !properties.is_empty() {
            set("properties", Value::Object(properties));
        }
        let required: Vec<_> =
            view.fields().filter(FieldView::is_required).map(|field| field.name()).collect();
        if !required.is_empty() {
            set("required", json!(required));
        }
        if view.is_atomic() {
            set("x-kubernetes-map-type", json!("atomic"));
        }
        if let Some((discriminator, fields)) = view.union() {
            let fields: Map<String, Value> =
                fields.map(|(field, value)| (field.to_owned(), json!(value))).collect();
            let union = json!({"discriminator": discriminator, "fields-to-discriminateBy": fields});
            set("x-kubernetes-unions", json!([union]));
        }
        if view.is_kind() {
            set("x-kubernetes-group-version-kind", versions_of(view));
        }
        Value::Object(schema)
    }

    /// What is said of a type. k8s-openapi has no words on lists; these are ours.
    fn said_of_type(&self, of: TypeRef, view: TypeView<'_>) -> Option<String> {
        let said = self.descriptions.of_type(of).map(str::to_owned);
        said.or_else(|| {
            let item = listed_by(view)?;
            Some(format!("{} is a list of {item}.", view.name()))
        })
    }

    fn said_of_field(&self, (of, nth): (TypeRef, usize), view: TypeView<'_>) -> Option<String> {
        if let Some(said) = self.descriptions.of_field(of, nth) {
            return Some(said.to_owned());
        }
        let item = listed_by(view)?;
        match view.fields().nth(nth)?.name() {
            "items" => Some(format!("The objects of the list, each of kind {item}.")),
            "metadata" => Some(LIST_METADATA.to_owned()),
            // The same is said of them everywhere.
            name => {
                let nth = BUILT_IN.get(types::POD).fields().position(|it| it.name() == name)?;
                self.descriptions.of_field(types::POD, nth).map(str::to_owned)
            }
        }
    }

    fn property(&self, place: (TypeRef, usize), view: TypeView<'_>, field: FieldView<'_>) -> Value {
        let mut facts = extensions(field);
        if let Some(description) = self.said_of_field(place, view) {
            facts.insert("description".to_owned(), json!(description));
        }
        if self.edition == Edition::Third
            && let Some(default) = default_of(field)
        {
            facts.insert("default".to_owned(), default);
        }
        let values: Vec<_> = field.enum_values().collect();
        if !values.is_empty() && field.shape() == Shape::String {
            facts.insert("enum".to_owned(), json!(values));
        }
        self.shape_schema(view, field.shape(), facts)
    }

    /// The schema of a value of this shape in `view`, with what is said of it besides.
    fn shape_schema(&self, view: TypeView<'_>, shape: Shape, facts: Map<String, Value>) -> Value {
        if let Some(name) = value_name(view, shape) {
            return self.edition.reference(name, facts);
        }
        let mut own = match shape {
            Shape::String => json!({"type": "string"}),
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 => json!({"type": "integer", "format": "int64"}),
            Shape::Double => json!({"type": "number", "format": "double"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Struct(of) => {
                return self.edition.reference(&name_of(BUILT_IN.get(of)), facts);
            }
            Shape::List(of) => {
                json!({"type": "array", "items": self.element(view, BUILT_IN.element(of))})
            }
            Shape::Map(of) => {
                let values = self.element(view, BUILT_IN.element(of));
                json!({"type": "object", "additionalProperties": values})
            }
            // Any JSON; and the named ones, which were dealt with above.
            _ => json!({}),
        };
        own.as_object_mut().expect("schemas are objects").extend(facts);
        own
    }

    /// The schema of what is in a list or a map: what is no pointer in Go is zero by default, but
    /// for types that are written as something else.
    fn element(&self, view: TypeView<'_>, shape: Shape) -> Value {
        let is_free = matches!(shape, Shape::Struct(of) if BUILT_IN.get(of).is_any());
        let default = zero(shape).filter(|_| self.edition == Edition::Third && !is_free);
        let facts = default.map(|zero| ("default".to_owned(), zero));
        self.shape_schema(view, shape, facts.into_iter().collect())
    }
}

/// The type of a kind, and its OpenAPI name.
pub(super) fn find_kind(group: &str, version: &str, kind: &str) -> Option<(TypeRef, String)> {
    let of = BUILT_IN.find(group, version, kind)?;
    let view = BUILT_IN.get(of);
    view.is_kind().then(|| (of, name_of(view)))
}

/// `io.k8s.api.core.v1.Pod`.
pub(super) fn name_of(view: TypeView<'_>) -> String {
    format!("{}.{}", view.package(), view.name())
}

/// What stands in lists and maps, or the shape itself.
fn innermost(shape: Shape) -> Shape {
    match shape {
        Shape::List(of) | Shape::Map(of) => innermost(BUILT_IN.element(of)),
        shape => shape,
    }
}

/// The kind that `view` is a list of.
fn listed_by(view: TypeView<'_>) -> Option<&str> {
    let name = view.name().strip_suffix("List")?;
    view.field("items").filter(|_| view.is_kind()).map(|_| name)
}

/// The OpenAPI name of the value that a shape is within `view`, where it has one.
fn value_name(view: TypeView<'_>, shape: Shape) -> Option<&'static str> {
    match shape {
        Shape::Quantity => Some(QUANTITY),
        Shape::IntOrString => Some(INT_OR_STRING),
        Shape::Time => Some(TIME),
        Shape::MicroTime => Some(MICRO_TIME),
        Shape::Object if view.name() == MANAGED_FIELDS => Some(FIELDS),
        Shape::Object => Some(RAW_EXTENSION),
        _ => None,
    }
}

/// `x-kubernetes-group-version-kind`.
fn versions_of(view: TypeView<'_>) -> Value {
    let kind = view.name();
    let entry =
        |(group, version): (&str, &str)| json!({"group": group, "version": version, "kind": kind});
    let own = (view.group(), view.version());
    if !OF_ALL_VERSIONS.contains(&view.name()) {
        return json!([entry(own)]);
    }
    let all = KINDS.iter().map(|kind| (&*kind.facts.group, &*kind.facts.version));
    let all: BTreeSet<_> = all.chain([own]).collect();
    Value::Array(all.into_iter().map(entry).collect())
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
    use crate::registry::Kind;

    /// These and all that they are made of, as a document of the edition has them.
    fn reachable(edition: Edition, roots: impl IntoIterator<Item = TypeRef>) -> Value {
        let mut schemas = Schemas::new();
        Catalog::new(edition, Form::Json).add_reachable(roots, &mut schemas);
        let parse = |(name, schema): (String, Bytes)| {
            (name, serde_json::from_slice::<Value>(&schema).unwrap())
        };
        Value::Object(schemas.into_iter().map(parse).collect())
    }

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
            let schemas = reachable(edition, KINDS.iter().filter_map(Kind::built_in_schema));
            let mut found = Vec::new();
            references(&schemas, &mut found);
            assert!(!found.is_empty());
            for reference in found {
                let name = reference.strip_prefix(place).unwrap();
                assert!(schemas[name].is_object(), "{name}");
            }
        }
    }

    fn field(schemas: &Value, of: &str, name: &str) -> Value {
        let mut field = schemas[of]["properties"][name].clone();
        let said = field.as_object_mut().unwrap().remove("description");
        assert!(said.is_some_and(|said| said.is_string()), "{of} {name} is described");
        field
    }

    #[test]
    fn fields_are_described_as_upstream_describes_them() {
        let schemas = reachable(Edition::Third, [types::DEPLOYMENT]);
        let environment = "#/components/schemas/io.k8s.api.core.v1.EnvVar";
        assert_eq!(
            field(&schemas, "io.k8s.api.core.v1.Container", "env"),
            json!({
                "items": {"allOf": [{"$ref": environment}], "default": {}},
                "type": "array", "x-kubernetes-list-map-keys": ["name"],
                "x-kubernetes-list-type": "map", "x-kubernetes-patch-merge-key": "name",
                "x-kubernetes-patch-strategy": "merge",
            })
        );
        assert_eq!(
            field(&schemas, "io.k8s.api.apps.v1.DeploymentSpec", "strategy"),
            json!({
                "allOf": [{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"}],
                "default": {}, "x-kubernetes-patch-strategy": "retainKeys",
            })
        );
        assert_eq!(
            field(&schemas, "io.k8s.api.apps.v1.DeploymentSpec", "replicas"),
            json!({"type": "integer", "format": "int32"})
        );
        let limits = field(&schemas, "io.k8s.api.core.v1.ResourceRequirements", "limits");
        assert_eq!(
            limits["additionalProperties"],
            json!({"$ref": format!("#/components/schemas/{QUANTITY}")}),
            "nothing is said of it but what it is"
        );
        assert_eq!(
            schemas["io.k8s.api.core.v1.SeccompProfile"]["x-kubernetes-unions"],
            json!([{"discriminator": "type",
                "fields-to-discriminateBy": {"localhostProfile": "LocalhostProfile"}}])
        );
    }

    #[test]
    fn lists_are_described_too() {
        let list = BUILT_IN.find("apps", "v1", "DeploymentList").unwrap();
        let schemas = reachable(Edition::Third, [list]);
        let list = &schemas["io.k8s.api.apps.v1.DeploymentList"];
        assert_eq!(list["description"], "DeploymentList is a list of Deployment.");
        for name in ["apiVersion", "items", "kind", "metadata"] {
            assert!(list["properties"][name]["description"].is_string(), "{name}");
        }
    }

    #[test]
    fn the_second_edition_has_no_defaults_and_no_wrapping() {
        let schemas = reachable(Edition::Second, [types::DEPLOYMENT]);
        assert_eq!(
            field(&schemas, "io.k8s.api.apps.v1.DeploymentSpec", "strategy"),
            json!({
                "$ref": "#/definitions/io.k8s.api.apps.v1.DeploymentStrategy",
                "x-kubernetes-patch-strategy": "retainKeys",
            })
        );
        let value = &schemas[INT_OR_STRING];
        assert_eq!((&value["format"], &value["type"]), (&json!("int-or-string"), &json!("string")));
        assert!(!schemas.to_string().contains("\"default\":{}"));
    }
}
