//! Fills in what a schema says of absent fields, on write and on what is read from the store
//! (upstream apiextensions pkg/apiserver/schema/defaulting, v1.35).

use super::node::Structural;
use super::{embedded, prune};
use serde_json::{Map, Value, json};

/// Takes away nulls where a field may not be null and has no default (upstream
/// `PruneNonNullableNullsWithoutDefaults`).
pub fn prune_nulls(value: &mut Value, schema: &Structural) {
    match value {
        Value::Object(object) => object.retain(|name, value| match schema.child(name) {
            Some(child) if value.is_null() => {
                child.is_nullable() || child.default_value().is_some()
            }
            Some(child) => {
                prune_nulls(value, child);
                true
            }
            None => true,
        }),
        Value::Array(list) => {
            if let Some(items) = schema.items() {
                list.iter_mut().for_each(|value| prune_nulls(value, items));
            }
        }
        _ => {}
    }
}

/// Sets each absent field that has a default, and those that are null and may not be (upstream
/// `Default`). Only what is there gets defaults: an absent object stays absent, unless it has one.
pub fn apply(value: &mut Value, schema: &Structural) {
    match value {
        Value::Object(object) => apply_to_object(object, schema),
        Value::Array(list) => {
            if let Some(items) = schema.items() {
                list.iter_mut().for_each(|value| apply_to_element(value, items));
            }
        }
        _ => {}
    }
}

fn apply_to_object(object: &mut Map<String, Value>, schema: &Structural) {
    for (name, property) in schema.properties() {
        let Some(default) = property.default_value() else { continue };
        let is_absent =
            object.get(name).is_none_or(|value| value.is_null() && !property.is_nullable());
        if is_absent {
            object.insert(name.to_owned(), default.clone());
        }
    }
    let additional = schema.additional_schema();
    for (name, value) in object.iter_mut() {
        match (schema.property(name), additional) {
            (Some(property), _) => apply(value, property),
            (None, Some(additional)) => apply_to_element(value, additional),
            (None, None) => {}
        }
    }
}

/// An element of a list or the value of a map.
fn apply_to_element(value: &mut Value, schema: &Structural) {
    if value.is_null() && !schema.is_nullable() {
        *value = schema.default_value().cloned().unwrap_or_default();
    }
    apply(value, schema);
}

/// The way from a resource's root to one of its parts, as lists and maps have no names there.
#[derive(Clone, Copy)]
pub(in crate::registry) enum Surrounding<'a> {
    Root,
    Child { above: &'a Surrounding<'a>, name: &'a str },
    Element { above: &'a Surrounding<'a> },
}

impl Surrounding<'_> {
    /// An object that has `focus` in this place and nothing else (upstream `SurroundingObjectFunc`).
    pub(in crate::registry) fn wrap(&self, focus: Value) -> Value {
        match self {
            Self::Root => focus,
            Self::Child { above, name } => above.wrap(json!({ *name: focus })),
            Self::Element { above } => above.wrap(Value::Array(vec![focus])),
        }
    }

    /// What an object has in this place.
    fn find<'v>(&self, object: &'v mut Value) -> Option<&'v mut Value> {
        match self {
            Self::Root => Some(object),
            Self::Child { above, name } => above.find(object)?.get_mut(*name),
            Self::Element { above } => above.find(object)?.get_mut(0),
        }
    }
}

/// Prunes the defaults of a schema (upstream `PruneDefaults`): what is written in them and not in
/// the schema is not to reach any object.
pub fn prune_defaults(schema: &mut Structural) {
    let has_defaults = has_default(schema);
    if has_defaults {
        let root = schema.clone();
        visit(schema, &root, &Surrounding::Root);
    }
}

/// Whether anything in the schema has a default.
#[must_use]
pub fn has_default(schema: &Structural) -> bool {
    schema.default_value().is_some()
        || schema.properties().any(|(_, property)| has_default(property))
        || schema.items().is_some_and(has_default)
        || schema.additional_schema().is_some_and(has_default)
}

fn visit(schema: &mut Structural, root: &Structural, place: &Surrounding<'_>) {
    if let Some(extras) = &mut schema.extras
        && let Some(default) = extras.default.take()
    {
        let mut object = place.wrap(default);
        embedded::coerce_leniently(&mut object, root);
        prune(&mut object, root);
        extras.default = place.find(&mut object).map(Value::take);
    }
    if let super::node::Additional::Schema(additional) = &mut schema.additional {
        visit(additional, root, &Surrounding::Child { above: place, name: "*" });
    }
    if let Some(items) = &mut schema.items {
        visit(items, root, &Surrounding::Element { above: place });
    }
    for (name, property) in &mut schema.properties {
        let name: &str = name;
        visit(property, root, &Surrounding::Child { above: place, name });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(schema: Value) -> Structural {
        Structural::new(&serde_json::from_value(schema).unwrap()).unwrap()
    }

    #[track_caller]
    fn check(schema: Value, mut value: Value, expected: Value) {
        let schema = build(schema);
        apply(&mut value, &schema);
        assert_eq!(value, expected);
        apply(&mut value, &schema);
        assert_eq!(value, expected, "defaulting is idempotent");
    }

    #[test]
    fn absent_fields_get_their_defaults_and_objects_that_are_absent_stay_so() {
        let spec = json!({"properties": {"spec": {"properties": {
            "replicas": {"default": 1},
            "mode": {"default": "fast", "nullable": true},
            "strategy": {"properties": {"kind": {"default": "Rolling"}}},
            "limits": {"default": {}, "properties": {"cpu": {"default": "1"}}},
        }}}});
        check(spec.clone(), json!({}), json!({}));
        check(
            spec.clone(),
            json!({"spec": {}}),
            json!({"spec": {"replicas": 1, "mode": "fast", "limits": {"cpu": "1"}}}),
        );
        check(
            spec,
            json!({"spec": {"replicas": null, "mode": null, "strategy": {}}}),
            json!({"spec": {
                "replicas": 1, "mode": null, "strategy": {"kind": "Rolling"}, "limits": {"cpu": "1"},
            }}),
        );
    }

    #[test]
    fn elements_that_may_not_be_null_get_the_default() {
        let element = json!({"default": "A"});
        check(json!({"items": element}), json!([null, 1]), json!(["A", 1]));
        check(
            json!({"additionalProperties": {"default": "A", "nullable": true}}),
            json!({"a": null}),
            json!({"a": null}),
        );
        check(
            json!({"additionalProperties": {"properties": {"p": {"default": 1}}}}),
            json!({"a": {}}),
            json!({"a": {"p": 1}}),
        );
    }

    #[test]
    fn nulls_go_where_they_may_not_be() {
        let schema = build(json!({
            "properties": {
                "plain": {"type": "string"},
                "nullable": {"type": "string", "nullable": true},
                "defaulted": {"type": "string", "default": "x"},
                "list": {"items": {"properties": {"inner": {}}}},
            },
        }));
        let mut value = json!({
            "plain": null, "nullable": null, "defaulted": null, "unknown": null,
            "list": [null, {"inner": null}],
        });
        prune_nulls(&mut value, &schema);
        assert_eq!(
            value,
            json!({"nullable": null, "defaulted": null, "unknown": null, "list": [null, {}]})
        );
    }

    #[test]
    fn defaults_are_pruned_by_the_schema_around_them() {
        let mut schema = build(json!({"properties": {"spec": {
            "type": "object", "default": {"a": 1, "b": 2}, "properties": {
                "a": {"type": "integer"},
                "list": {"type": "array", "items": {"default": {"x": 1, "y": 1}, "properties": {"x": {}}}},
            },
        }}}));
        prune_defaults(&mut schema);
        let spec = schema.property("spec").unwrap();
        assert_eq!(spec.default_value(), Some(&json!({"a": 1})));
        let list = spec.property("list").unwrap();
        assert_eq!(list.items().unwrap().default_value(), Some(&json!({"x": 1})));
    }
}
