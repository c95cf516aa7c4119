//! The kinds of the core group.

pub(super) mod addresses;
pub(super) mod claim_spec;
mod config_map;
mod endpoints;
mod event;
mod namespace;
mod node;
mod pod;
pub(super) mod podspec;
pub(super) mod resources;
mod secret;
mod service;
mod service_account;
pub(super) mod taints;
