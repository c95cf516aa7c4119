//! The loop shared by all API controllers: queue, observe, plan, execute, look again.
//!
//! Start at [`Controller`] and [`run`]. A controller says which keys to look at (by adding them to its
//! [`Queue`]), what there is to see ([`Controller::observe`]) and what to do about it
//! ([`Controller::plan`], pure); everything else is here and exists once.
//!
//! Architecture invariants: this is the only place where a plan meets the client. After a write the
//! key rests until the caches have seen the write's revision, so that no plan is made from what the
//! controller itself has outdated. A conflict means "look again" and is not worth a word.

mod controller;
mod driver;
mod execute;
mod queue;
mod schedule;
#[cfg(test)]
mod tests;
mod write;

pub use controller::{Attempt, Controller, Plan};
pub use driver::run;
pub use execute::{ClientExecutor, Execute, WriteError, Written};
pub use queue::Queue;
pub use write::{Detail, Failure, Planned, Report, Verb, Write};
