//! The schema table: what is true of each field of each type, written down once.
//!
//! Field checks, pruning and strategic merge are each one walker over it. [`types`] names the
//! roots: one constant a kind.

mod check;
mod decode;
mod formats;
pub mod patch;
mod path;
mod scalar;
mod strict;
mod table;
pub mod types;
mod yaml;

pub use check::{Checked, Mistyped, check, check_in};
pub use decode::{DOCUMENT_BYTES_MAX, DOCUMENT_DEPTH_MAX, DecodeError, Decoded, Format, decode};
pub use strict::StrictProblems;
pub use table::{BUILT_IN, ElementRef, FieldView, ListKind, MapKind};
pub use table::{PatchStrategy, Shape, Table, TypeRef, TypeView};
