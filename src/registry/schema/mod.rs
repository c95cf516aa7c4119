//! The schema table: what is true of each field of each type, written down once.
//!
//! Field checks, pruning and strategic merge are each one walker over it. [`types`] names the
//! roots: one constant a kind.

pub mod types;

/// A type in the schema table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeRef(pub u16);
