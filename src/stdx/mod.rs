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
pub mod fault;
pub mod http;
mod tasks;

pub use atomic_file::{replace_file, write_atomically};
pub use backoff::Backoff;
pub use blocking::blocking;
pub use clock::{Clock, Settings, monotonic};
pub use entropy::Entropy;
pub use error::chain;
pub use tasks::{Tasks, TasksError};
