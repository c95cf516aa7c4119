//! The kinds of the core group.

mod config_map;
mod namespace;
mod pod;
mod podspec;
mod secret;
