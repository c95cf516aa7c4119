//! The table of resource kinds this server knows, and what is special about each.
//!
//! Start at [`Kind`], then [`KINDS`]; adding a kind is one file in `kinds/` and one line in the
//! table. Handlers, discovery, columns and field checks all iterate the table. Architecture
//! invariant: everything here is pure; what all kinds share (uid, timestamps, generation, names,
//! finalizers, the status split) is not here but in `apiserver`.

mod cells;
mod checks;
pub mod custom;
mod kind;
pub mod kinds;
pub mod managed;
pub mod metadata;
mod object;
mod row;
mod scale;
pub mod schema;
mod version;

pub use kind::{
    ALL, Body, BuiltIn, Column, Kind, KindFacts, QUESTION, READ_ONLY, Scope, Subresource, VERBS,
};
pub use kinds::{
    KINDS, Priority, Required, WellKnown, priority, service_address_errors, well_known,
};
use object::halves;
pub use object::{Creator, Decoded, Halves, Object, Resource};
pub use row::{KindRef, Rows};
pub use scale::{SCALE_COLUMNS, scale_row};
pub use version::{Version, View};

/// The kinds that are stored: each once, however many versions of it are served.
pub fn stored_kinds() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(|kind| kind.view.is_none() && kind.facts.is_stored())
}

/// The kind of the table that is served at `group`/`version`/`plural`.
#[must_use]
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| {
        let facts = &kind.facts;
        facts.plural == plural && facts.version == version && facts.group == group
    })
}
