//! The part of the object model that is not generated: keys, revisions, names, selectors,
//! quantities, and the ways to say no.
//!
//! Architecture invariant: plain data and pure functions. No I/O, no async, no clock.

pub mod cron;
pub mod duration;
pub mod field;
pub mod fields;
pub mod host_port;
pub mod ingress;
mod key;
pub mod labels;
mod maturity;
pub mod names;
pub mod node;
pub mod node_selector;
pub mod owner;
pub mod pod;
mod quantity;
pub mod quota;
pub mod ranges;
pub mod status;
pub mod volume;

pub use field::{FieldError, FieldPath};
pub use key::{ObjectKey, Revision};
pub use maturity::Maturity;
pub use quantity::{BadQuantity, Quantity};
pub use status::{Reason, Status};
