//! The schema table: what is true of each field of each type, written down once.
//!
//! Field checks, pruning and strategic merge are each one walker over it. [`types`] names the
//! roots: one constant a kind.

mod table;
pub mod types;

pub use table::{BUILT_IN, ElementRef, FieldView, ListKind, MapKind};
pub use table::{PatchStrategy, Shape, Table, TypeRef, TypeView};
