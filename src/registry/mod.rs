//! The table of resource kinds this server knows, and what is special about each.
//!
//! Start at [`Kind`], then [`KINDS`]; adding a kind is one file in `kinds/` and one line in the
//! table. Handlers, discovery, columns and field checks all iterate the table. Architecture
//! invariant: everything here is pure; what all kinds share (uid, timestamps, generation, names,
//! finalizers, the status split) is not here but in `apiserver`.

mod cells;
mod checks;
mod kind;
pub mod kinds;
pub mod metadata;
mod object;
pub mod schema;

pub use kind::{ALL, Body, BuiltIn, Column, Kind, KindFacts, QUESTION, Scope, Subresource, VERBS};
pub use kinds::KINDS;
pub use object::{Decoded, Object, Resource};

/// The kind served at `group`/`version`/`plural`.
#[must_use]
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| {
        let facts = &kind.facts;
        facts.plural == plural && facts.version == version && facts.group == group
    })
}
