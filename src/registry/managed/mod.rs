//! Who manages which fields of an object, and server-side apply.
//!
//! Start at [`after_write`], which every create, update and patch goes through, and at [`apply()`].
//! Underneath are sets of fields ([`FieldSet`]), documents ([`Node`]), what the schema says of a
//! place in them ([`Place`]), and the walks over both: [`compare()`], [`contents()`], [`merge()`],
//! [`remove()`]. [`Frame`] puts them together.
//!
//! Follows structured-merge-diff v6 and apimachinery pkg/util/managedfields as in Kubernetes v1.35.
//! Architecture invariant: pure, and nothing here knows a kind by name.

mod apply;
mod compare;
mod conflict;
mod contents;
mod document;
mod element;
mod entries;
mod fields_v1;
mod items;
mod last_applied;
mod merge;
mod place;
mod problems;
mod reconcile;
mod remove;
mod resets;
mod scale;
mod set;
mod stored;
#[cfg(test)]
mod tests;
mod updater;
mod validate;
mod write;

pub use apply::{Application, Applied, Refused, apply, subject};
pub use compare::{Comparison, compare};
pub use conflict::{Conflict, Conflicts};
pub use contents::contents;
pub use document::Node;
pub use element::Element;
pub use entries::{Entry, Operation, Owner, canonical, same_but_times};
pub use merge::merge;
pub use place::{Custom, Place};
pub use remove::remove;
pub use resets::{Paths, Resets};
pub use scale::{SCALE_VERSION, Scaled, of_scale, of_workload};
pub use set::FieldSet;
pub use stored::{Split, join, split};
pub use updater::{Frame, Versions};
pub use write::{Known, Writer, after_write};
