//! What was there before: finds the old value of each part of a new object, through the keys of
//! lists of type map (upstream `CorrelatedObject`, apiserver pkg/cel/common/equality.go, v1.35).

use super::super::node::{ListType, Structural, Type};
use serde_json::Value;
use std::collections::HashMap;

/// A value, what it was before, and its schema.
#[derive(Clone, Copy, Debug)]
pub struct Correlated<'a> {
    pub new: &'a Value,
    pub old: &'a Value,
    pub schema: &'a Structural,
}

impl<'a> Correlated<'a> {
    /// The property `name`, where it was there before and the schema knows it.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<Self> {
        let (Value::Object(new), Value::Object(old)) = (self.new, self.old) else { return None };
        let schema = self.schema.child(name)?;
        Some(Self { new: new.get(name)?, old: old.get(name)?, schema })
    }

    /// The element `index`, where the list has keys and one with the same was there before.
    #[must_use]
    pub fn index(&self, index: usize) -> Option<Self> {
        let Value::Array(new) = self.new else { return None };
        let new = new.get(index)?;
        let old = self.elements().find(new)?;
        Some(Self { new, old, schema: self.schema.items()? })
    }

    /// The old elements of a list, by their keys.
    pub(in super::super) fn elements(&self) -> Elements<'a> {
        let Value::Array(old) = self.old else { return Elements::default() };
        Elements::of(self.schema, old)
    }

    /// Whether nothing has changed: elements of lists with keys may have changed places.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        match (self.new, self.old) {
            (Value::Array(new), Value::Array(old)) => {
                if new.len() != old.len() {
                    return false;
                }
                if !has_keys(self.schema) {
                    return new == old;
                }
                let elements = self.elements();
                let Some(items) = self.schema.items() else { return new == old };
                new.iter().all(|new| {
                    let old = elements.find(new);
                    old.is_some_and(|old| Self { new, old, schema: items }.is_unchanged())
                })
            }
            (Value::Object(new), Value::Object(old)) => {
                new.len() == old.len()
                    && new.keys().all(|name| self.key(name).is_some_and(|it| it.is_unchanged()))
            }
            (new, old) => new == old,
        }
    }
}

fn has_keys(schema: &Structural) -> bool {
    schema.kind() == Type::Array
        && schema.list_type() == ListType::Map
        && !schema.list_keys().is_empty()
}

/// The elements of a list by their keys; the first of those with the same.
#[derive(Debug, Default)]
pub(in super::super) struct Elements<'a> {
    keys: &'a [Box<str>],
    by_key: HashMap<String, &'a Value>,
}

impl<'a> Elements<'a> {
    pub(in super::super) fn of(schema: &'a Structural, list: &'a [Value]) -> Self {
        if !has_keys(schema) {
            return Self::default();
        }
        let keys = schema.list_keys();
        let mut by_key = HashMap::with_capacity(list.len());
        for element in list {
            if let Some(key) = key_of(element, keys) {
                by_key.entry(key).or_insert(element);
            }
        }
        Self { keys, by_key }
    }

    /// The one with the keys of `element`.
    pub(in super::super) fn find(&self, element: &Value) -> Option<&'a Value> {
        self.by_key.get(&key_of(element, self.keys)?).copied()
    }
}

/// `None`: a key is missing, or no scalar.
fn key_of(element: &Value, keys: &[Box<str>]) -> Option<String> {
    let mut key = String::new();
    for name in keys {
        let value = element.get(&**name)?;
        if !(value.is_string() || value.is_number() || value.is_boolean()) {
            return None;
        }
        key.push_str(&value.to_string());
        key.push('\0');
    }
    (!keys.is_empty()).then_some(key)
}
