//! RBAC: what roles and bindings allow.
//!
//! Start at [`Policy::decide`]. [`rules`] says what one rule allows, and whether some rules cover
//! others (nobody may give out more than they have); [`aggregate()`] fills roles that collect
//! others; [`reviews`] checks questions; [`defaults()`] are the roles and bindings of every cluster. Architecture invariant:
//! everything here is pure but [`live`], which keeps the policy of a running server, and
//! [`escalation`], which asks for it.

mod aggregate;
mod defaults;
mod escalation;
mod live;
mod policy;
mod reconcile;
mod reviews;
mod rules;

pub use aggregate::aggregate;
pub use defaults::{Defaults, defaults};
pub(super) use escalation::check_escalation;
pub(super) use live::LivePolicy;
pub use policy::{Asker, Grant, Place, Policy, Verdict};
pub use reconcile::{Change, Reconcile};
pub use reviews::{validate_local_review, validate_review, validate_self_review};
pub use rules::{Action, allows, describe_escalation, everything, uncovered};
