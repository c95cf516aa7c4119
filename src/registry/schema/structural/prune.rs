//! Takes out what a schema does not have (upstream `PruneWithOptions`, apiextensions
//! pkg/apiserver/schema/pruning/algorithm.go, v1.35).

use super::META_FIELDS;
use super::node::{Additional, Structural};
use crate::registry::schema::path::Path;
use serde_json::Value;

/// After so many unknown fields no more are named, as in upstream's strict decoder.
pub(super) const UNKNOWN_MAX: usize = 100;

/// Prunes a resource. Returns the paths of the fields that were taken out, sorted: `spec.extra`,
/// `spec.list[0].extra`.
pub fn prune(value: &mut Value, schema: &Structural) -> Vec<String> {
    prune_as(value, schema, true)
}

/// As [`prune`], of a value that is a resource or none.
pub fn prune_as(value: &mut Value, schema: &Structural, is_resource: bool) -> Vec<String> {
    let mut pruner = Pruner { unknown: Vec::new() };
    pruner.visit(value, Below { schema: Some(schema), is_resource }, &Path::Root);
    pruner.unknown.sort();
    pruner.unknown
}

/// What is known of a value. Below fields that are kept although nothing is said of them there is
/// no schema.
#[derive(Clone, Copy)]
struct Below<'s> {
    schema: Option<&'s Structural>,
    /// Whether it has `apiVersion`, `kind` and `metadata`.
    is_resource: bool,
}

impl<'s> Below<'s> {
    fn of(schema: Option<&'s Structural>) -> Self {
        Self { schema, is_resource: schema.is_some_and(Structural::is_embedded) }
    }
}

struct Pruner {
    unknown: Vec<String>,
}

impl Pruner {
    fn visit(&mut self, value: &mut Value, below: Below<'_>, path: &Path<'_>) {
        match value {
            Value::Object(object) => {
                object.retain(|name, value| self.keeps(name, value, below, path));
            }
            Value::Array(list) => {
                let keeps = below.schema.is_some_and(Structural::preserves_unknown);
                let items = below.schema.and_then(Structural::items);
                if keeps && items.is_none() {
                    return;
                }
                for (index, value) in list.iter_mut().enumerate() {
                    self.visit_element(value, items, keeps, &path.index(index));
                }
            }
            _ => {}
        }
    }

    /// Upstream's `skipPrune` goes on skipping in the elements of lists.
    fn visit_element(
        &mut self,
        value: &mut Value,
        items: Option<&Structural>,
        keeps: bool,
        path: &Path<'_>,
    ) {
        match (value, items) {
            (Value::Object(object), Some(items)) if keeps => {
                for (name, value) in object.iter_mut() {
                    let is_meta = items.is_embedded() && META_FIELDS.contains(&name.as_str());
                    if !is_meta && let Some(child) = below_of(items, name) {
                        self.visit(value, Below::of(child), &path.key(name));
                    }
                }
            }
            (Value::Array(list), Some(items)) if keeps => {
                let Some(inner) = items.items() else { return };
                for (index, value) in list.iter_mut().enumerate() {
                    self.visit_element(value, Some(inner), keeps, &path.index(index));
                }
            }
            (value, items) => self.visit(value, Below::of(items), path),
        }
    }

    fn keeps(&mut self, name: &str, value: &mut Value, below: Below<'_>, path: &Path<'_>) -> bool {
        let is_meta = META_FIELDS.contains(&name);
        if below.is_resource && is_meta {
            return true;
        }
        let keeps_unknown = below.schema.is_some_and(Structural::preserves_unknown);
        match below.schema.and_then(|schema| below_of(schema, name)) {
            Some(child) => {
                self.visit(value, Below::of(child), &path.key(name));
                true
            }
            None if keeps_unknown => true,
            None => {
                let is_root = matches!(path, Path::Root);
                if !(is_meta && is_root) && self.unknown.len() < UNKNOWN_MAX {
                    self.unknown.push(path.key(name).to_string());
                }
                false
            }
        }
    }
}

/// What is known of the property `name`: nothing at all, that it may be, or its schema.
#[expect(clippy::option_option, reason = "a property that may be there without a schema")]
fn below_of<'s>(schema: &'s Structural, name: &str) -> Option<Option<&'s Structural>> {
    match (schema.property(name), schema.additional()) {
        (Some(property), _) => Some(Some(property)),
        (None, Additional::Unsaid) => None,
        (None, Additional::Allowed(_)) => Some(None),
        (None, Additional::Schema(schema)) => Some(Some(schema)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(schema: Value, mut value: Value, left: Value, unknown: &[&str]) {
        let schema = Structural::new(&serde_json::from_value(schema).unwrap()).unwrap();
        assert_eq!(prune(&mut value, &schema), unknown);
        assert_eq!(value, left);
        assert!(prune(&mut value, &schema).is_empty(), "pruning is idempotent");
    }

    #[test]
    fn fields_that_the_schema_does_not_have_are_taken_out() {
        check(
            json!({"properties": {"spec": {"properties": {
                "a": {"type": "string"},
                "list": {"type": "array", "items": {"properties": {"b": {}}}},
                "map": {"additionalProperties": {"properties": {"c": {}}}},
            }}}}),
            json!({
                "apiVersion": "x/v1", "kind": "K", "metadata": {"name": "n", "odd": 1},
                "spec": {
                    "a": "1", "z": 1,
                    "list": [{"b": 1, "y": 2}, 3],
                    "map": {"k": {"c": 1, "d": 2}},
                },
                "status": {},
            }),
            json!({
                "apiVersion": "x/v1", "kind": "K", "metadata": {"name": "n", "odd": 1},
                "spec": {"a": "1", "list": [{"b": 1}, 3], "map": {"k": {"c": 1}}},
            }),
            &["spec.list[0].y", "spec.map.k.d", "spec.z", "status"],
        );
    }

    #[test]
    fn what_is_to_be_kept_is_kept_and_pruned_below_where_a_schema_begins() {
        check(
            json!({"properties": {"spec": {
                "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"known": {"properties": {"a": {}}}},
            }}}),
            json!({"spec": {"any": {"x": 1}, "known": {"a": 1, "b": 2}}}),
            json!({"spec": {"any": {"x": 1}, "known": {"a": 1}}}),
            &["spec.known.b"],
        );
        check(
            json!({"properties": {"list": {
                "x-kubernetes-preserve-unknown-fields": true,
                "items": {"properties": {"a": {"properties": {"b": {}}}}},
            }}}),
            json!({"list": [{"a": {"b": 1, "c": 2}, "z": 1}]}),
            json!({"list": [{"a": {"b": 1}, "z": 1}]}),
            &["list[0].a.c"],
        );
    }

    #[test]
    fn additional_properties_without_a_schema_are_kept_and_empty() {
        check(
            json!({"properties": {"map": {"additionalProperties": true}}}),
            json!({"map": {"a": 1, "b": {"c": 1}, "d": [{"e": 1}]}}),
            json!({"map": {"a": 1, "b": {}, "d": [{}]}}),
            &["map.b.c", "map.d[0].e"],
        );
    }

    #[test]
    fn embedded_resources_keep_what_all_resources_have() {
        check(
            json!({"properties": {"template": {
                "type": "object", "x-kubernetes-embedded-resource": true,
                "properties": {"spec": {"x-kubernetes-preserve-unknown-fields": true}},
            }}}),
            json!({"template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"a": 1}, "spec": {"x": 1}, "y": 1}}),
            json!({"template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"a": 1}, "spec": {"x": 1}}}),
            &["template.y"],
        );
        check(
            json!({"properties": {"spec": {}}}),
            json!({"spec": {"kind": "x"}}),
            json!({"spec": {}}),
            &["spec.kind"],
        );
    }
}
