//! RBAC: what roles and bindings allow.
//!
//! Start at [`Policy::decide`]. [`rules`] says what one rule allows, and whether some rules cover
//! others (nobody may give out more than they have); [`aggregate()`] fills roles that collect
//! others; [`reviews`] checks questions; [`defaults`] are the roles and bindings of every cluster. Architecture invariant:
//! everything here is pure; a policy is a snapshot that is made anew when a role or a binding
//! changes.

mod aggregate;
mod defaults;
mod policy;
mod reviews;
mod rules;

pub use aggregate::aggregate;
pub use defaults::{Defaults, defaults};
pub use policy::{Asker, Objects, Policy};
pub use reviews::{validate_local_review, validate_review, validate_self_review};
pub use rules::{Action, allows, describe_escalation, uncovered};
