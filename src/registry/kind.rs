//! One row of the table of kinds.

use super::object::{Object, Resource, decode};
use super::schema::TypeRef;
use serde_json::Value;
use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespaced,
}

/// The constant facts of a kind: enough for routing, discovery and storage keys.
///
/// The texts are `Cow`s because the rows of custom resources are made at run time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindFacts {
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub plural: Cow<'static, str>,
    pub singular: Cow<'static, str>,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub scope: Scope,
    pub has_status: bool,
}

impl KindFacts {
    /// `v1`, `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone().into_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    #[must_use]
    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }
}

/// One column of a `Table`, as `kubectl get` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: Cow<'static, str>,
    /// OpenAPI type of the cells: `string`, `integer`, ...
    pub kind: Cow<'static, str>,
    /// `name` for the column that holds the object's name.
    pub format: Cow<'static, str>,
    pub description: Cow<'static, str>,
    /// Columns above zero are printed with `-o wide` only.
    pub priority: i32,
}

/// A kind of objects with its behaviour, its type erased.
#[derive(Clone, Debug)]
pub struct Kind {
    pub facts: KindFacts,
    /// The kind's root in the schema table.
    pub schema: TypeRef,
    pub columns: Cow<'static, [Column]>,
    /// See [`Resource::CREATES_ON_UPDATE`].
    pub creates_on_update: bool,
    /// See [`Resource::UPDATES_UNCONDITIONALLY`].
    pub updates_unconditionally: bool,
    /// See [`Resource::RETURNS_DELETED`].
    pub returns_deleted: bool,
    /// Reads an object of this kind. The value has been checked and pruned by its schema before.
    pub decode: fn(Value) -> Result<Box<dyn Object>, serde_json::Error>,
    /// As `decode`, from what [`Object::encode`] wrote.
    pub decode_stored: fn(&[u8]) -> Result<Box<dyn Object>, serde_json::Error>,
}

impl Kind {
    /// The row of a built-in kind.
    #[must_use]
    pub const fn of<T: Resource>() -> Self {
        Self {
            facts: T::FACTS,
            schema: T::SCHEMA,
            columns: Cow::Borrowed(T::COLUMNS),
            creates_on_update: T::CREATES_ON_UPDATE,
            updates_unconditionally: T::UPDATES_UNCONDITIONALLY,
            returns_deleted: T::RETURNS_DELETED,
            decode: decode::<T>,
            decode_stored: super::object::decode_stored::<T>,
        }
    }
}
