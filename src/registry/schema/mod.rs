//! The schema table: what is true of each field of each type, written down once.
//!
//! Field checks, pruning and strategic merge are each one walker over it.

/// A type in the schema table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeRef(pub u16);
