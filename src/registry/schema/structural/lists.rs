//! Lists whose elements must differ (upstream `ValidateListSetsAndMaps`, apiextensions
//! pkg/apiserver/schema/listtype/validation.go, v1.35).

use super::node::{ListType, Structural};
use crate::api::field::ERRORS_MAX;
use crate::api::{FieldError, FieldPath};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// What is wrong with the lists of a resource.
#[must_use]
pub fn validate(value: &Value, schema: &Structural) -> Vec<FieldError> {
    let mut errors = Vec::new();
    visit(&FieldPath::default(), schema, value, &mut errors);
    errors
}

fn visit(path: &FieldPath, schema: &Structural, value: &Value, errors: &mut Vec<FieldError>) {
    if errors.len() >= ERRORS_MAX {
        return;
    }
    match value {
        Value::Object(object) => {
            let additional = schema.additional_schema();
            for (name, value) in object {
                if let Some(additional) = additional {
                    descend(|| path.key(name), additional, value, errors);
                }
                if let Some(property) = schema.property(name) {
                    descend(|| path.child(name), property, value, errors);
                }
            }
        }
        Value::Array(list) => {
            match schema.list_type() {
                ListType::Set => {
                    errors.extend(repeated(list.iter()).into_iter().map(|index| {
                        FieldError::duplicate(&path.index(index), list[index].clone())
                    }))
                }
                ListType::Map => errors.extend(validate_map(path, schema, list)),
                ListType::Atomic | ListType::Unsaid => {}
            }
            if let Some(items) = schema.items() {
                for (index, value) in list.iter().enumerate() {
                    descend(|| path.index(index), items, value, errors);
                }
            }
        }
        _ => {}
    }
}

/// Paths are made for what has parts alone.
fn descend(
    path: impl FnOnce() -> FieldPath,
    schema: &Structural,
    value: &Value,
    errors: &mut Vec<FieldError>,
) {
    if value.is_object() || value.is_array() {
        visit(&path(), schema, value, errors);
    }
}

fn validate_map(path: &FieldPath, schema: &Structural, list: &[Value]) -> Vec<FieldError> {
    let is_odd = |value: &&Value| !value.is_null() && !value.is_object();
    if let Some((index, odd)) = list.iter().enumerate().find(|(_, value)| is_odd(value)) {
        let detail = "must be an object for an array of list-type map";
        return vec![FieldError::invalid(&path.index(index), odd.clone(), detail)];
    }
    let keys: Vec<_> = list.iter().map(|element| key_of(schema, element)).collect();
    let repeated = repeated(keys.iter());
    repeated
        .into_iter()
        .map(|index| FieldError::duplicate(&path.index(index), keys[index].clone()))
        .collect()
}

/// The key fields of an element that it has.
fn key_of(schema: &Structural, element: &Value) -> Value {
    let present = |name: &str| element.get(name).map(|value| (name.to_owned(), value.clone()));
    let keys: Map<_, _> = schema.list_keys().iter().filter_map(|name| present(name)).collect();
    Value::Object(keys)
}

/// The places of values that were there before: each value once, at its second place.
fn repeated<'v>(values: impl Iterator<Item = &'v Value>) -> Vec<usize> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut second = Vec::new();
    for (index, value) in values.enumerate() {
        let times = seen.entry(value.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            second.push(index);
        }
        if second.len() >= ERRORS_MAX {
            break;
        }
    }
    second
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(schema: Value, value: Value, expected: &[&str]) {
        let schema = Structural::new(&serde_json::from_value(schema).unwrap()).unwrap();
        let errors = validate(&value, &schema);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn sets_have_each_value_once() {
        let schema = json!({"properties": {"set": {"x-kubernetes-list-type": "set", "items": {}}}});
        check(schema.clone(), json!({"set": [1, "1", 1.5, [1], [2]]}), &[]);
        check(
            schema,
            json!({"set": ["a", "b", "a", "a", {"x": 1}, {"x": 1}]}),
            &["set[2]: Duplicate value: \"a\"", "set[5]: Duplicate value: {\"x\":1}"],
        );
    }

    #[test]
    fn maps_have_each_key_once() {
        let map = |keys: Value| {
            json!({"properties": {"spec": {"properties": {"list": {
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": keys,
                "items": {"properties": {"set": {"x-kubernetes-list-type": "set"}}},
            }}}}})
        };
        let list = |list: Value| json!({"spec": {"list": list}});
        check(map(json!(["a"])), list(json!([{"a": 1}, {"a": 2}, {}])), &[]);
        check(
            map(json!(["a"])),
            list(json!([{"a": 1}, {"a": 1, "b": 2}, {}, null, {"set": [1, 1]}])),
            &[
                "spec.list[1]: Duplicate value: {\"a\":1}",
                "spec.list[3]: Duplicate value: {}",
                "spec.list[4].set[1]: Duplicate value: 1",
            ],
        );
        check(
            map(json!(["a", "b"])),
            list(json!([{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"b": 1, "a": 1}])),
            &["spec.list[2]: Duplicate value: {\"a\":1,\"b\":1}"],
        );
        check(
            map(json!(["a"])),
            list(json!([1])),
            &["spec.list[0]: Invalid value: 1: must be an object for an array of list-type map"],
        );
    }

    #[test]
    fn lists_in_maps_are_found() {
        check(
            json!({"additionalProperties": {"x-kubernetes-list-type": "set"}}),
            json!({"k": [1, 1]}),
            &["[k][1]: Duplicate value: 1"],
        );
    }
}
