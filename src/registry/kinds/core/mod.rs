//! The kinds of the core group.

mod config_map;
mod namespace;
mod pod;
pub(super) mod podspec;
mod secret;
