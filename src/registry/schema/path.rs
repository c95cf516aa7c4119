//! Where a walker is in a document, kept on the stack and written out only when it is needed.

use super::TypeRef;
use crate::api::field::shown_name;
use std::fmt;

/// A step from the value above to this one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path<'a> {
    Root,
    /// The field `name` of the struct `owner`.
    Field {
        above: &'a Path<'a>,
        owner: TypeRef,
        name: &'a str,
    },
    Key {
        above: &'a Path<'a>,
        key: &'a str,
    },
    Index {
        above: &'a Path<'a>,
        index: usize,
    },
}

impl<'a> Path<'a> {
    pub(super) fn field(&'a self, owner: TypeRef, name: &'a str) -> Self {
        Self::Field { above: self, owner, name }
    }

    pub(super) fn key(&'a self, key: &'a str) -> Self {
        Self::Key { above: self, key }
    }

    pub(super) fn index(&'a self, index: usize) -> Self {
        Self::Index { above: self, index }
    }

    /// The innermost struct field on the way here, and its struct.
    pub(super) fn innermost_field(&self) -> Option<TypeRef> {
        match self {
            Self::Root => None,
            Self::Field { owner, .. } => Some(*owner),
            Self::Key { above, .. } | Self::Index { above, .. } => above.innermost_field(),
        }
    }

    /// The names of the struct fields on the way here, without map keys and list indices: how Go
    /// names a field it cannot decode into.
    pub(super) fn field_names(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Key { above, .. } | Self::Index { above, .. } => above.field_names(),
            Self::Field { above, name, .. } => {
                let mut names = above.field_names();
                if !names.is_empty() {
                    names.push('.');
                }
                names.push_str(name);
                names
            }
        }
    }
}

/// `spec.containers[0].name`, as upstream's strict decoder writes it.
impl fmt::Display for Path<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Index { above, index } => write!(formatter, "{above}[{index}]"),
            Self::Field { above: Self::Root, name, .. }
            | Self::Key { above: Self::Root, key: name } => formatter.write_str(&shown_name(name)),
            Self::Field { above, name, .. } | Self::Key { above, key: name } => {
                write!(formatter, "{above}.{}", shown_name(name))
            }
        }
    }
}
