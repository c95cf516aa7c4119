//! Images of this node's pods: when to fetch them, with whose credentials, and how long to wait
//! after a failure.
//!
//! Start at [`plan::next()`]; [`ImageFetcher`] does it.

mod fetch;
pub mod garbage;
pub mod keyring;
pub mod plan;

pub use fetch::{FetchOrder, ImageFetcher};
