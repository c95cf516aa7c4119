//! The kinds of the `flowcontrol.apiserver.k8s.io` group: which requests may wait for which, and
//! what every cluster has of them.

mod flow_schema;
mod priority_level_configuration;
mod well_known;

pub use well_known::{Required, WellKnown, well_known};
