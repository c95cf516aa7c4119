//! Where a walker is in a resource, kept on the stack and written out only for an error.

use crate::api::FieldPath;

#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// Of the whole, somewhere in another document maybe.
    Root(&'a FieldPath),
    Child {
        above: &'a Place<'a>,
        name: &'a str,
    },
    /// The value of a key: a property that the schema does not list.
    Key {
        above: &'a Place<'a>,
        key: &'a str,
    },
    Index {
        above: &'a Place<'a>,
        index: usize,
    },
}

impl<'a> Place<'a> {
    pub(super) fn child(&'a self, name: &'a str) -> Self {
        Self::Child { above: self, name }
    }

    pub(super) fn key(&'a self, key: &'a str) -> Self {
        Self::Key { above: self, key }
    }

    pub(super) fn index(&'a self, index: usize) -> Self {
        Self::Index { above: self, index }
    }

    pub(super) fn path(&self) -> FieldPath {
        match self {
            Self::Root(path) => (*path).clone(),
            Self::Child { above, name } => above.path().child(name),
            Self::Key { above, key } => above.path().key(key),
            Self::Index { above, index } => above.path().index(*index),
        }
    }
}
