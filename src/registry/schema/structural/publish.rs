//! What OpenAPI documents say of a schema (upstream `buildKubeNative`, apiextensions
//! pkg/controller/openapi/builder/builder.go, and `ToStructuralOpenAPIV2`,
//! pkg/controller/openapi/v2/conversion.go, v1.35).
//!
//! Made of the definition's own schema, as JSON: descriptions are kept nowhere else.

use crate::stdx::json;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde_json::{Map, Value, json};

const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const PRESERVES: &str = "x-kubernetes-preserve-unknown-fields";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

// In our own words, but for the beginnings, which upstream's conformance tests look for.
const API_VERSION: &str = "APIVersion defines in which version of its kind's schema an object is written. The server shows an object in every version that it serves.";
const KIND: &str = "Kind says what an object is. Whoever writes to a path that takes one kind alone may leave it out; it never changes.";
const METADATA: &str =
    "Standard object's metadata: its name, labels, annotations, and what the server keeps of it.";
/// What is said of the metadata of lists.
pub const LIST_METADATA: &str =
    "Standard list metadata: as of when the list is, and where it goes on.";
const EMBEDDED_API_VERSION: &str =
    "APIVersion defines in which version of its kind's schema the embedded object is written.";
const EMBEDDED_KIND: &str = "Kind says what the embedded object is.";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// Which document a schema is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    V2,
    V3,
}

impl Document {
    /// A reference to the schema `name`.
    #[must_use]
    pub fn reference(self, name: &str) -> String {
        match self {
            Self::V2 => format!("#/definitions/{name}"),
            Self::V3 => format!("#/components/schemas/{name}"),
        }
    }
}

/// Whose schema it is.
#[derive(Clone, Copy, Debug)]
pub struct Published<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub list_kind: &'a str,
    pub plural: &'a str,
    /// The paths of its selectable fields: `.spec.color`.
    pub selectable_fields: &'a [String],
    /// Whether its objects keep what its schema does not know (`preserveUnknownFields`).
    pub keeps_unknown: bool,
}

impl Published<'_> {
    /// `com.example.v1.Widget`: the name of a kind's schema in documents.
    #[must_use]
    pub fn name_of(&self, kind: &str) -> String {
        let mut parts: Vec<_> = self.group.split('.').collect();
        parts.reverse();
        format!("{}.{}.{kind}", parts.join("."), self.version)
    }

    fn kind_extension(&self, kind: &str) -> Value {
        json!([{"group": self.group, "version": self.version, "kind": kind}])
    }

    fn add_extensions(&self, schema: &mut Map<String, Value>, kind: &str) {
        schema.insert("x-kubernetes-group-version-kind".to_owned(), self.kind_extension(kind));
        if !self.selectable_fields.is_empty() {
            let field = |path: &String| json!({"fieldPath": path.trim_start_matches('.')});
            let fields: Vec<_> = self.selectable_fields.iter().map(field).collect();
            schema.insert("x-kubernetes-selectable-fields".to_owned(), fields.into());
        }
    }
}

/// The schema of the kind, in a document. `schema` is `None` where there is none, or it is not
/// structural.
#[must_use]
pub fn object_schema(
    of: &Published<'_>,
    schema: Option<&JSONSchemaProps>,
    document: Document,
) -> Value {
    let bare = || Map::from_iter([("type".to_owned(), json!("object"))]);
    let mut published = match schema.map(to_object) {
        None => bare(),
        // With properties, old clients would refuse all others.
        Some(schema)
            if document == Document::V2 && (of.keeps_unknown || is_true(&schema, PRESERVES)) =>
        {
            bare()
        }
        Some(mut schema) => {
            let mut walker = Walker { document };
            walker.visit(&mut schema, false);
            let properties = properties_of(&mut schema);
            let metadata = meta_reference(document, OBJECT_META, METADATA);
            properties.insert("metadata".to_owned(), metadata);
            insert_type(properties, API_VERSION, KIND);
            schema
        }
    };
    of.add_extensions(&mut published, of.kind);
    Value::Object(published)
}

/// The schema of lists of the kind, in a document.
#[must_use]
pub fn list_schema(of: &Published<'_>, document: Document) -> Value {
    let mut schema = json!({
        "description": format!("{} is a list of {}", of.list_kind, of.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "items": {
                "description": format!("The {} of the list.", of.plural),
                "type": "array",
                "items": {"$ref": document.reference(&of.name_of(of.kind))},
            },
            "metadata": meta_reference(document, LIST_META, LIST_METADATA),
        },
    });
    if let Value::Object(schema) = &mut schema {
        insert_type(properties_of(schema), API_VERSION, KIND);
        of.add_extensions(schema, of.list_kind);
    }
    schema
}

fn to_object(schema: &JSONSchemaProps) -> Map<String, Value> {
    match json::to_value(schema) {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

fn is_true(schema: &Map<String, Value>, name: &str) -> bool {
    schema.get(name) == Some(&Value::Bool(true))
}

fn properties_of(schema: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    if !properties.is_object() {
        *properties = json!({});
    }
    properties.as_object_mut().expect("an object was put there")
}

/// A reference with a description: of v3 documents siblings of `$ref` say nothing.
fn meta_reference(document: Document, name: &str, description: &str) -> Value {
    let reference = document.reference(name);
    match document {
        Document::V2 => json!({"description": description, "$ref": reference}),
        Document::V3 => json!({"description": description, "allOf": [{"$ref": reference}]}),
    }
}

fn insert_type(properties: &mut Map<String, Value>, api_version: &str, kind: &str) {
    for (name, description) in [("apiVersion", api_version), ("kind", kind)] {
        let property = json!({"description": description, "type": "string"});
        properties.insert(name.to_owned(), property);
    }
}

struct Walker {
    document: Document,
}

impl Walker {
    /// `is_nested`: within `allOf` and its like.
    fn visit(&mut self, schema: &mut Map<String, Value>, is_nested: bool) {
        write_whole_numbers(schema);
        // Structural schemas have no place for these.
        for name in ["example", "externalDocs"] {
            schema.remove(name);
        }
        if !is_nested && is_true(schema, INT_OR_STRING) {
            unfold_int_or_string(schema);
        }
        if self.document == Document::V2 && !is_nested {
            self.simplify(schema);
        }
        for name in ["items", "not", "additionalProperties"] {
            if let Some(Value::Object(below)) = schema.get_mut(name) {
                self.visit(below, is_nested || name == "not");
            }
        }
        for name in ["allOf", "anyOf", "oneOf"] {
            if let Some(Value::Array(list)) = schema.get_mut(name) {
                for below in list.iter_mut().filter_map(Value::as_object_mut) {
                    self.visit(below, true);
                }
            }
        }
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            for below in properties.values_mut().filter_map(Value::as_object_mut) {
                self.visit(below, is_nested);
            }
        }
        let keeps_bare = self.document == Document::V2 && is_true(schema, PRESERVES);
        if !is_nested && is_true(schema, EMBEDDED) && !keeps_bare {
            self.embed(schema);
        }
    }

    /// What version 2 of OpenAPI has no word for is left out, so that nothing is refused by clients
    /// that the server takes.
    fn simplify(&mut self, schema: &mut Map<String, Value>) {
        for name in ["allOf", "oneOf", "anyOf", "not"] {
            schema.remove(name);
        }
        if schema.remove("nullable") == Some(Value::Bool(true)) {
            for name in ["type", "items", "properties"] {
                schema.remove(name);
            }
        }
        let preserves = is_true(schema, PRESERVES);
        if preserves {
            schema.remove("items");
            schema.remove("properties");
        }
        let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
        let is_odd_array = kind == "array" && !schema.contains_key("items");
        if is_odd_array || (preserves && kind == "object") {
            schema.remove("type");
        }
        self.require_no_nullable(schema);
    }

    fn require_no_nullable(&self, schema: &mut Map<String, Value>) {
        let is_nullable = |schema: &Value| schema.get("nullable") == Some(&Value::Bool(true));
        let properties = schema.get("properties").and_then(Value::as_object);
        let nullable: Vec<String> = properties
            .into_iter()
            .flatten()
            .filter(|(_, property)| is_nullable(property))
            .map(|(name, _)| name.clone())
            .collect();
        let all = schema.get("additionalProperties").is_some_and(is_nullable);
        let Some(Value::Array(required)) = schema.get_mut("required") else { return };
        required.retain(|name| {
            !all && !name.as_str().is_some_and(|name| nullable.iter().any(|other| other == name))
        });
        if required.is_empty() {
            schema.remove("required");
        }
    }

    /// Upstream `addEmbeddedProperties`.
    fn embed(&mut self, schema: &mut Map<String, Value>) {
        let properties = properties_of(schema);
        insert_type(properties, EMBEDDED_API_VERSION, EMBEDDED_KIND);
        let metadata = meta_reference(self.document, OBJECT_META, METADATA);
        properties.insert("metadata".to_owned(), metadata);
        let required = schema.entry("required").or_insert_with(|| json!([]));
        if let Value::Array(required) = required {
            for name in ["kind", "apiVersion"] {
                if !required.iter().any(|other| other == name) {
                    required.push(name.into());
                }
            }
        }
    }
}

/// Upstream `Unfold`: says in JSON schema what an int-or-string is.
fn unfold_int_or_string(schema: &mut Map<String, Value>) {
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let first = schema.get("allOf").and_then(|all| all.get(0)).and_then(|first| first.get("anyOf"));
    if schema.get("anyOf") == Some(&either) || first == Some(&either) {
        return;
    }
    if !schema.contains_key("anyOf") {
        schema.insert("anyOf".to_owned(), either);
        return;
    }
    let all = schema.entry("allOf").or_insert_with(|| json!([]));
    if let Value::Array(all) = all {
        all.insert(0, json!({ "anyOf": either }));
    }
}

/// Limits that are whole are written so, as Go does.
fn write_whole_numbers(schema: &mut Map<String, Value>) {
    for name in ["maximum", "minimum", "multipleOf"] {
        let Some(limit) = schema.get_mut(name) else { continue };
        if let Some(number) = limit.as_f64().filter(|number| number.fract() == 0.0) {
            #[expect(clippy::cast_possible_truncation, reason = "checked to be in range")]
            if number.abs() < 1e15 {
                *limit = Value::from(number as i64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: Published<'_> = Published {
        group: "example.com",
        version: "v1",
        kind: "Widget",
        list_kind: "WidgetList",
        plural: "widgets",
        selectable_fields: &[],
        keeps_unknown: false,
    };

    fn publish(schema: Value, document: Document) -> Value {
        let schema = serde_json::from_value(schema).unwrap();
        let published = object_schema(&OF, Some(&schema), document);
        assert_eq!(published["properties"]["kind"]["description"], KIND);
        assert_eq!(
            published["x-kubernetes-group-version-kind"],
            json!([{"group": "example.com", "version": "v1", "kind": "Widget"}])
        );
        published["properties"]["spec"].clone()
    }

    fn schema() -> Value {
        json!({"type": "object", "properties": {"spec": {
            "type": "object",
            "description": "What is wanted.",
            "required": ["a", "size"],
            "properties": {
                "a": {"type": "string", "nullable": true},
                "size": {"type": "integer", "maximum": 5, "default": 1},
                "port": {"x-kubernetes-int-or-string": true},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"x": {"type": "string"}}},
                "template": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
            },
            "oneOf": [{"required": ["a"]}],
            "x-kubernetes-validations": [{"rule": "true"}],
        }}})
    }

    #[test]
    fn the_third_version_has_everything() {
        let spec = publish(schema(), Document::V3);
        assert_eq!(spec["description"], "What is wanted.");
        assert_eq!(spec["oneOf"], json!([{"required": ["a"]}]));
        assert_eq!(spec["x-kubernetes-validations"], json!([{"rule": "true"}]));
        let properties = &spec["properties"];
        assert_eq!(properties["a"], json!({"type": "string", "nullable": true}));
        assert_eq!(properties["size"].to_string(), r#"{"default":1,"maximum":5,"type":"integer"}"#);
        assert_eq!(properties["port"]["anyOf"], json!([{"type": "integer"}, {"type": "string"}]));
        let template = &properties["template"];
        assert_eq!(template["required"], json!(["kind", "apiVersion"]));
        assert_eq!(
            template["properties"]["metadata"]["allOf"][0]["$ref"],
            "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
        );
    }

    #[test]
    fn the_second_version_has_what_it_has_words_for() {
        let spec = publish(schema(), Document::V2);
        assert_eq!(spec.get("oneOf"), None);
        assert_eq!(spec["required"], json!(["size"]));
        let properties = &spec["properties"];
        assert_eq!(properties["a"], json!({}));
        assert_eq!(properties["port"], json!({"x-kubernetes-int-or-string": true}));
        assert_eq!(properties["free"], json!({"x-kubernetes-preserve-unknown-fields": true}));
        assert_eq!(
            properties["template"]["properties"]["metadata"]["$ref"],
            "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
        );
    }

    #[test]
    fn what_keeps_everything_is_a_bare_object_in_the_second_version() {
        let of = Published { keeps_unknown: true, ..OF };
        let props = serde_json::from_value(schema()).unwrap();
        let second = object_schema(&of, Some(&props), Document::V2);
        assert_eq!((&second["type"], second.get("properties")), (&json!("object"), None));
        assert_eq!(second["x-kubernetes-group-version-kind"][0]["kind"], "Widget");
        let third = object_schema(&of, Some(&props), Document::V3);
        assert!(third["properties"]["spec"].is_object(), "which says that more is possible");
    }

    #[test]
    fn without_a_schema_it_is_an_object() {
        assert_eq!(
            object_schema(&OF, None, Document::V3),
            json!({
                "type": "object",
                "x-kubernetes-group-version-kind": [{"group": "example.com", "version": "v1", "kind": "Widget"}],
            })
        );
        assert_eq!(OF.name_of("Widget"), "com.example.v1.Widget");
    }

    #[test]
    fn lists_are_lists_of_the_kind() {
        let list = list_schema(&OF, Document::V3);
        let items = &list["properties"]["items"]["items"];
        assert_eq!(items["$ref"], "#/components/schemas/com.example.v1.Widget");
        assert_eq!(list["description"], "WidgetList is a list of Widget");
        assert_eq!(list["required"], json!(["items"]));
    }
}
