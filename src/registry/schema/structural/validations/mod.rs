//! Rules in CEL (`x-kubernetes-validations`): what objects of a defined kind must be like, beyond
//! what their schema says of each field.
//!
//! Start at [`Rules::of`], which compiles all rules of a schema once, and [`Rules::check`], which
//! holds them against an object. [`declare()`] says what expressions may expect of a value,
//! [`compile()`] makes one schema's rules programs; the validation of definitions uses both.
//!
//! Follows upstream's apiextensions pkg/apiserver/schema/cel (v1.35). Expressions that were written
//! to an older version of upstream need no environment of their own: nothing was added to the
//! libraries in v1.35, and nothing was ever taken away. Rules nested in `allOf` are not looked
//! at, because a schema that has any is not structural.
//!
//! Architecture invariant: pure. Evaluation ends within [`BUDGET`], whatever rules and object.

mod check;
mod compile;
mod declare;
mod rules;
#[cfg(test)]
mod tests;

pub use check::{Before, Finding, Subject};
pub use compile::{Compiled, CompiledRule, compile};
pub use declare::{REQUEST_BYTES_MAX, declare};
pub use rules::Rules;

/// What all rules of one request may cost together (upstream `RuntimeCELCostBudget`).
pub const BUDGET: u64 = 10_000_000;

const SELF: &str = "self";
const OLD_SELF: &str = "oldSelf";
