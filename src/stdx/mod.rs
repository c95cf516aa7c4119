//! What could be in std: clock, chance, backoff, tasks, atomic files, error chains, the HTTP seam.
//!
//! Architecture invariant: nothing here knows Kubernetes, and nothing here imports another module
//! of this crate.

mod atomic_file;
mod backoff;
mod blocking;
mod clock;
mod entropy;
mod error;
pub mod exposition;
pub mod fault;
mod fnv;
#[cfg(test)]
mod golden;
mod hex;
pub mod http;
pub mod json;
mod quote;
mod tasks;
mod wanted;

pub use atomic_file::{replace_file, write_atomically};
pub use backoff::Backoff;
pub use blocking::blocking;
pub use clock::{Clock, Settings, monotonic};
pub use entropy::Entropy;
pub use error::chain;
pub use fnv::{fnv1a_32, fnv1a_64};
#[cfg(test)]
pub(crate) use golden::check_golden;
pub use hex::hex;
pub use quote::quoted;
pub use tasks::{Tasks, TasksError};
pub use wanted::Wanted;
