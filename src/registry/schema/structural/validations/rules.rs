//! All rules of a schema, compiled, in a tree of the schemas that have any (upstream `Validator`,
//! apiextensions pkg/apiserver/schema/cel/validation.go, v1.35).

use super::super::node::Structural;
use super::compile::{Compiled, compile};
use super::declare::{declare, is_accessible};
use crate::cel::{Declared, Shape};
use std::sync::Arc;

/// The rules of a schema and of what is in it. They are held against objects together with the
/// schema that they were made of.
#[derive(Debug)]
pub struct Rules {
    pub(super) root: Node,
}

/// The rules of one schema, and those below.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// In the order of the schema's.
    pub(super) rules: Box<[Compiled]>,
    /// What its values are. `None` where it has no rules, or its values cannot be named.
    pub(super) declared: Option<Arc<Declared>>,
    /// Whether a rule compares with what was there before.
    pub(super) uses_old_self: bool,
    pub(super) items: Option<Box<Node>>,
    pub(super) additional: Option<Box<Node>>,
    /// Sorted by name.
    pub(super) properties: Box<[(Box<str>, Node)]>,
}

impl Node {
    pub(super) fn property(&self, name: &str) -> Option<&Self> {
        let found = self.properties.binary_search_by(|(other, _)| (**other).cmp(name));
        found.ok().map(|at| &self.properties[at].1)
    }
}

impl Rules {
    /// Compiles the rules of a schema; `None` where there are none. A rule that cannot be compiled
    /// is told with every object.
    #[must_use]
    pub fn of(schema: &Structural, is_resource: bool) -> Option<Self> {
        if !schema.has_rules() {
            return None;
        }
        let values = match is_accessible(schema) {
            true => Values::NotDeclared,
            false => Values::Inaccessible,
        };
        let root = node((schema, is_resource), values)?;
        Some(Self { root })
    }
}

/// What is known of the values of a schema. Only schemas with rules, and what is below these,
/// are declared.
enum Values {
    NotDeclared,
    Declared(Arc<Declared>),
    Inaccessible,
}

impl Values {
    fn items(&self) -> Self {
        match self {
            Self::NotDeclared => Self::NotDeclared,
            Self::Declared(declared) => match &declared.shape {
                Shape::List(items, _) | Shape::Map(items) => Self::Declared(Arc::clone(items)),
                _ => Self::Inaccessible,
            },
            Self::Inaccessible => Self::Inaccessible,
        }
    }

    /// Fields that cannot be named are left out altogether.
    fn property(&self, name: &str, schema: &Structural) -> Option<Self> {
        match self {
            Self::NotDeclared => is_accessible(schema).then_some(Self::NotDeclared),
            Self::Declared(declared) => match &declared.shape {
                Shape::Object(object) => object.fields().property(name).map(Self::Declared),
                _ => None,
            },
            Self::Inaccessible => None,
        }
    }
}

fn node((schema, is_resource): (&Structural, bool), mut values: Values) -> Option<Node> {
    if !schema.has_rules() {
        return None;
    }
    if !schema.rules().is_empty() && matches!(values, Values::NotDeclared) {
        values = declare(schema, is_resource).map_or(Values::Inaccessible, Values::Declared);
    }
    let below = |schema: &Structural, values: Values| node((schema, schema.is_embedded()), values);
    let properties = schema.properties().filter_map(|(name, property)| {
        let values = values.property(name, property)?;
        Some((name.into(), below(property, values)?))
    });
    let properties = properties.collect();
    let items = schema.items().and_then(|items| below(items, values.items()));
    let additional =
        schema.additional_schema().and_then(|additional| below(additional, values.items()));
    let declared = match values {
        Values::Declared(declared) if !schema.rules().is_empty() => Some(declared),
        _ => None,
    };
    let rules = declared.as_ref().map(|declared| compile(schema, declared)).unwrap_or_default();
    let is_transition = |rule: &Compiled| matches!(rule, Compiled::Rule(it) if it.uses_old_self);
    Some(Node {
        uses_old_self: rules.iter().any(is_transition),
        rules,
        declared,
        items: items.map(Box::new),
        additional: additional.map(Box::new),
        properties,
    })
}
