//! Places of the structural schemas of custom resources
//! (kube-openapi pkg/schemaconv/openapi.go, on what apiextensions' builder makes of a schema).

use super::{Contents, ListForm, MapForm, Member, Place, Scalar, any_kind, declared};
use crate::registry::managed::document::Node;
use crate::registry::schema::BUILT_IN;
use crate::registry::schema::structural::{Additional, ListType, MapType, Structural, Type};

/// A place of a structural schema.
#[derive(Clone, Copy, Debug)]
pub struct Custom<'s> {
    pub(super) schema: &'s Structural,
    /// Whether this is an object with `apiVersion`, `kind` and `metadata`.
    is_resource: bool,
    /// Whether this or anything around it keeps fields that are not listed.
    preserves_unknown: bool,
}

/// A string of a format: it is told apart as what it is.
const PLAIN_FORMATS: [&str; 2] = ["", "byte"];

impl<'s> Custom<'s> {
    /// The whole object of a version.
    pub(super) fn root(schema: &'s Structural) -> Self {
        Self { schema, is_resource: true, preserves_unknown: schema.preserves_unknown() }
    }

    fn inner(self, schema: &'s Structural) -> Place<'s> {
        Place::Custom(Self {
            schema,
            is_resource: schema.is_embedded(),
            preserves_unknown: self.preserves_unknown || schema.preserves_unknown(),
        })
    }

    pub(super) fn scalar(self) -> Option<Scalar> {
        match self.schema.kind() {
            Type::Object | Type::Array => None,
            Type::Integer | Type::Number => Some(Scalar::Numeric),
            Type::Boolean => Some(Scalar::Boolean),
            Type::String => {
                let checks = self.schema.checks();
                let format = checks.and_then(|checks| checks.format.as_deref()).unwrap_or_default();
                let is_plain = PLAIN_FORMATS.contains(&format);
                Some(if is_plain { Scalar::String } else { Scalar::Untyped })
            }
            Type::Any | Type::Unknown => Some(Scalar::Untyped),
        }
    }

    pub(super) fn map(self) -> Option<MapForm<'s>> {
        let is_map = matches!(self.schema.kind(), Type::Any | Type::Object);
        let is_atomic = self.schema.map_type() == MapType::Atomic;
        is_map.then_some(MapForm { is_atomic, contents: Contents::Custom(self) })
    }

    pub(super) fn list(self) -> Option<ListForm<'s>> {
        if !matches!(self.schema.kind(), Type::Any | Type::Array) {
            return None;
        }
        let element = self.schema.items().map_or(Place::Untyped, |items| self.inner(items));
        let items = match self.schema.list_type() {
            ListType::Unsaid | ListType::Atomic => super::Items::Atomic,
            ListType::Set => super::Items::Set,
            ListType::Map => super::Items::Keyed(super::Keys::Custom(self.schema)),
        };
        Some(ListForm { element, items })
    }

    /// Whether objects may hold anything, and nothing is said of any of their fields.
    pub(super) fn is_free(self) -> bool {
        !self.is_resource
            && self.schema.properties().len() == 0
            && matches!(self.schema.additional(), Additional::Unsaid | Additional::Allowed(true))
    }

    pub(super) fn member(self, name: &str) -> Member<'s> {
        if self.is_resource && matches!(name, "apiVersion" | "kind" | "metadata") {
            return declared(&BUILT_IN, any_kind(), name);
        }
        if let Some(property) = self.schema.property(name) {
            return Member::Declared(self.inner(property));
        }
        match self.schema.additional() {
            Additional::Schema(schema) => Member::Other(self.inner(schema)),
            Additional::Allowed(true) => Member::Other(Place::Deduced),
            Additional::Unsaid if self.preserves_unknown || self.is_free() => {
                Member::Other(Place::Deduced)
            }
            Additional::Unsaid | Additional::Allowed(false) => Member::Unknown,
        }
    }

    pub(super) fn default_of(self, name: &str) -> Option<Node<'s>> {
        self.schema.property(name)?.default_value().map(Node::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::managed::validate::validate;
    use crate::registry::managed::{FieldSet, compare, contents};
    use serde_json::{Value, json};

    fn schema() -> Structural {
        let schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "color": {"type": "string"},
                "size": {"x-kubernetes-int-or-string": true},
                "tags": {"type": "array", "x-kubernetes-list-type": "set",
                    "items": {"type": "string"}},
                "tails": {"type": "array", "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name", "side"],
                    "items": {"type": "object", "properties": {
                        "name": {"type": "string"},
                        "side": {"type": "string", "default": "left"},
                        "length": {"type": "integer"}}}},
                "parts": {"type": "array", "items": {"type": "string"}},
                "place": {"type": "object", "x-kubernetes-map-type": "atomic",
                    "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "raw": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {"known": {"type": "array", "x-kubernetes-list-type": "set",
                        "items": {"type": "integer"}}}},
                "template": {"type": "object", "x-kubernetes-embedded-resource": true,
                    "x-kubernetes-preserve-unknown-fields": true},
            }},
        }});
        Structural::new(&serde_json::from_value(schema).unwrap()).unwrap()
    }

    fn paths(set: &FieldSet<'_>) -> Vec<String> {
        set.paths()
    }

    #[track_caller]
    fn check(spec: Value, expected: &[&str]) {
        let schema = schema();
        let object = json!({"spec": spec});
        let place = Place::Custom(Custom::root(&schema));
        assert_eq!(paths(&contents(place, &Node::of(&object))), expected);
    }

    #[test]
    fn fields_are_owned_as_the_schema_says() {
        check(json!({"color": "red", "size": 1}), &[".spec.color", ".spec.size"]);
        check(json!({"size": "1"}), &[".spec.size"]);
        check(json!({"tags": ["b", "a"]}), &[".spec.tags[=\"a\"]", ".spec.tags[=\"b\"]"]);
        check(
            json!({"tails": [{"name": "a", "length": 1}]}),
            &[
                ".spec.tails[name=\"a\",side=\"left\"]",
                ".spec.tails[name=\"a\",side=\"left\"].length",
                ".spec.tails[name=\"a\",side=\"left\"].name",
            ],
        );
        check(json!({"parts": ["a"]}), &[".spec.parts"]);
        check(json!({"place": {"x": 1}}), &[".spec.place"]);
        check(json!({"labels": {"a": "b"}}), &[".spec.labels.a"]);
        check(
            json!({"raw": {"known": [1], "other": {"a": [1]}}}),
            &[".spec.raw.other", ".spec.raw.known[=1]", ".spec.raw.other.a"],
        );
        check(
            json!({"template": {"kind": "Pod", "metadata": {"finalizers": ["f"]}, "spec": {"a": 1}}}),
            &[
                ".spec.template.kind",
                ".spec.template.spec",
                ".spec.template.metadata.finalizers[=\"f\"]",
                ".spec.template.spec.a",
            ],
        );
    }

    #[test]
    fn what_is_not_of_the_schema_is_refused() {
        let schema = schema();
        let place = Place::Custom(Custom::root(&schema));
        let object = json!({"spec": {"colour": "red"}});
        let problems = validate(place, &Node::of(&object)).unwrap_err();
        assert_eq!(problems.to_string(), ".spec.colour: field not declared in schema");
    }

    #[test]
    fn elements_are_compared_by_their_keys() {
        let schema = schema();
        let place = Place::Custom(Custom::root(&schema));
        let old = json!({"spec": {"tails": [{"name": "a", "length": 1}, {"name": "b"}]}});
        let new = json!({"spec": {"tails": [{"name": "b"}, {"name": "a", "length": 2}]}});
        let changes = compare(place, &Node::of(&old), &Node::of(&new)).unwrap();
        assert_eq!(paths(&changes.added), [""; 0]);
        assert_eq!(paths(&changes.removed), [""; 0]);
        assert_eq!(paths(&changes.modified), [".spec.tails[name=\"a\",side=\"left\"].length"]);
    }
}
