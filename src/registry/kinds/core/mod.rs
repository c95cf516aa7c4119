//! The kinds of the core group.

pub(super) mod addresses;
pub(super) mod claim_spec;
mod component_status;
mod config_map;
mod endpoints;
mod event;
mod limit_range;
mod namespace;
mod node;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_template;
pub(super) mod podspec;
mod replication_controller;
mod resource_quota;
pub(super) mod resources;
mod secret;
mod service;
mod service_account;
pub(super) mod taints;
mod volume_cells;

pub(super) use persistent_volume::validate_inline as validate_inline_volume;
pub use service::service_address_errors;
