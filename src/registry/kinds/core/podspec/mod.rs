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

pub(super) use containers::validate_padding;
pub(in crate::registry::kinds) use defaults::{apply_defaults, apply_template_defaults, round_up};
pub(in crate::registry::kinds) use validate::{validate, validate_template};
