//! What a Pod and the template of a workload have in common.
//!
//! Start at [`apply_defaults`] and [`validate()`].

mod affinity;
mod containers;
mod defaults;
mod dns;
mod env;
mod handlers;
mod mounts;
mod paths;
mod projected;
mod security;
#[cfg(test)]
mod tests;
mod validate;
mod volumes;
mod warnings;

pub(in crate::registry::kinds) use affinity::validate_node_selector;
pub(super) use containers::validate_padding;
pub(in crate::registry::kinds) use defaults::{apply_defaults, apply_template_defaults, round_up};
pub(super) use paths::no_backsteps;
pub(in crate::registry::kinds) use validate::{validate, validate_template};
pub(in crate::registry::kinds) use volumes::validate_driver_name;
pub(super) use volumes::{
    validate_disjoint_fields, validate_host_path, validate_nfs, validate_required_fields,
};
pub(in crate::registry::kinds) use warnings::{
    deprecated_label, fraction, name_warning, named_workload_warnings, of_term, template_warnings,
    warnings, workload_name_warning, workload_warnings,
};
