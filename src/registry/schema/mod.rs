//! The schema table: what is true of each field of each type, written down once.
//!
//! `facts.txt` holds the facts, one line a field, for every built-in type of Kubernetes 1.35; it
//! says itself what its lines mean. `build.rs` makes the [`Table`] of it ([`BUILT_IN`]), which
//! [`types`] names the roots of: one constant a kind. For another version of Kubernetes, `facts.py`
//! beside it writes the facts anew from upstream's published documents, and the difference is
//! reviewed; a test compares the table with these documents where they are at hand.
//!
//! Everything else here is a walker over the table, and new ones start the same way, from
//! [`Table::get`]. A write goes through [`decode()`], then [`check()`], which prunes; with
//! [`StrictProblems`] in between where the client asked for field validation. A patch goes through
//! [`decode()`], one of [`patch`], then [`check()`]. What comes and goes as protobuf is translated
//! from and to JSON by [`protobuf`]. What upstream says of types and fields is beside the table, in
//! [`Descriptions`].
//!
//! Architecture invariant: pure, and nothing here knows a kind by name.

mod check;
mod decode;
mod defaults;
mod descriptions;
mod formats;
mod memory;
pub mod patch;
mod path;
pub mod protobuf;
#[cfg(test)]
mod reference_tests;
mod restore;
mod scalar;
mod strict;
pub mod structural;
mod table;
pub mod types;
mod yaml;

pub use check::{Checked, Mistyped, check, check_in};
pub use decode::{
    DOCUMENT_BYTES_MAX, DOCUMENT_DEPTH_MAX, DOCUMENT_OBJECTS_MAX, DOCUMENT_VALUES_MAX,
};
pub use decode::{DecodeError, Decoded, Format, decode};
pub use defaults::{apply_defaults, apply_defaults_in};
pub use descriptions::Descriptions;
pub use memory::OBJECT_BYTES_MAX;
pub use restore::unrestorable;
pub use strict::StrictProblems;
pub use table::{BUILT_IN, ElementRef, FieldView, ListKind, MapKind};
pub use table::{PatchStrategy, Shape, Table, TypeRef, TypeView};

/// Go's zero time. Its clients write null where they have it, also in fields that are required, such
/// as a condition's `lastTransitionTime`, and take either for the same. Upstream shows null again.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";
/// The same in seconds from 1970.
pub(super) const ZERO_TIME_SECONDS: i64 = -62_135_596_800;
