//! Types that are declared outside expressions: of the fields of a custom resource, of a built-in
//! kind, of the variables of an admission policy.
//!
//! They say what the checker may expect, how large a value can be (upstream `DeclType`, apiserver
//! pkg/cel/types.go, v1.35), and how a JSON document is to be read where an expression asks
//! for a part of it.

use super::types::Type;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What a value can be, and how large.
#[derive(Clone, Debug)]
pub struct Declared {
    pub shape: Shape,
    /// Code points, items or entries at most; nothing is said of other types (upstream
    /// `MaxElements`).
    pub max_elements: u64,
    /// The fewest bytes that it takes in JSON (upstream `MinSerializedSize`).
    pub min_serialized: u64,
    /// Whether null is a value of it.
    pub is_nullable: bool,
}

#[derive(Clone, Debug)]
pub enum Shape {
    /// Anything that JSON has.
    Any,
    IntOrString,
    /// Data that is kept and not looked at; no expression can name it.
    Opaque,
    Bool,
    Int,
    Uint,
    Double,
    String,
    /// Base64.
    Bytes,
    /// RFC 3339.
    Timestamp,
    /// A day.
    Date,
    Duration,
    /// A quantity of a resource, as its library has it.
    Quantity,
    List(Arc<Declared>, ListKind),
    /// Keys are strings.
    Map(Arc<Declared>),
    Object(Object),
    /// A value that is no JSON: an authorizer and what is asked of it.
    Native(Type),
}

/// Which of two lists are equal, and what their sum is (`x-kubernetes-list-type`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    #[default]
    Atomic,
    Set,
    /// With the keys.
    Map(Arc<[String]>),
}

/// Looks up the fields of an object type. A schema can be behind it that is not copied.
pub trait Fields: Send + Sync + fmt::Debug {
    /// The field of a name, as expressions write it (see [`super::escape()`]).
    fn field(&self, name: &str) -> Option<Arc<Declared>>;

    /// The field of a name, as JSON has it.
    fn property(&self, name: &str) -> Option<Arc<Declared>> {
        self.field(&super::escape(name)?)
    }
}

/// A type with fields. Two are the same if their names are.
#[derive(Clone, Debug)]
pub struct Object {
    name: Arc<str>,
    fields: Arc<dyn Fields>,
}

impl Object {
    #[must_use]
    pub fn new(name: &str, fields: Arc<dyn Fields>) -> Self {
        Self { name: name.into(), fields }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn fields(&self) -> &dyn Fields {
        &*self.fields
    }
}

/// The keys of JSON objects.
impl Fields for BTreeMap<String, Arc<Declared>> {
    fn field(&self, name: &str) -> Option<Arc<Declared>> {
        self.property(&super::unescape_name(name)?)
    }

    fn property(&self, name: &str) -> Option<Arc<Declared>> {
        self.get(name).cloned()
    }
}

impl Declared {
    /// Something of a size that does not matter.
    #[must_use]
    pub fn of(shape: Shape) -> Self {
        Self { shape, max_elements: 0, min_serialized: 1, is_nullable: false }
    }

    /// Its type for the checker.
    #[must_use]
    pub fn to_type(&self) -> Type {
        match &self.shape {
            Shape::Any | Shape::IntOrString | Shape::Opaque => Type::Dyn,
            Shape::Bool => Type::Bool,
            Shape::Int => Type::Int,
            Shape::Uint => Type::Uint,
            Shape::Double => Type::Double,
            Shape::String => Type::String,
            Shape::Bytes => Type::Bytes,
            Shape::Timestamp | Shape::Date => Type::Timestamp,
            Shape::Duration => Type::Duration,
            Shape::Quantity => Type::Named("kubernetes.Quantity"),
            Shape::List(items, _) => Type::list(items.to_type()),
            Shape::Map(values) => Type::map(Type::String, values.to_type()),
            Shape::Object(object) => Type::Object(object.clone()),
            Shape::Native(ty) => ty.clone(),
        }
    }

    /// The declaration at a path below this one (upstream `sizeEstimator.EstimateSize`).
    #[must_use]
    pub fn at(self: &Arc<Self>, path: &[String]) -> Option<Arc<Self>> {
        let mut here = Arc::clone(self);
        for name in path {
            here = match (&here.shape, name.as_str()) {
                (Shape::List(items, _), "@items") => Arc::clone(items),
                (Shape::Map(values), "@values") => Arc::clone(values),
                (Shape::List(items, _), "@values") => Arc::clone(items),
                (Shape::Map(values), "@items") => Arc::clone(values),
                (Shape::Map(_), "@keys") => Arc::new(Self::of(Shape::String)),
                (Shape::Object(object), name) => object.fields().field(name)?,
                // Whatever it is called: `device.attributes['a'].b`.
                (Shape::Map(values), _) if matches!(values.shape, Shape::Any) => Arc::clone(values),
                _ => return None,
            };
        }
        Some(here)
    }
}
