//! What a Pod and the template of a workload have in common.
//!
//! Start at [`apply_defaults`] and [`validate`].

mod defaults;
mod validate;

pub(in crate::registry::kinds) use defaults::{apply_defaults, apply_template_defaults, round_up};
pub(in crate::registry::kinds) use validate::{validate, validate_template};
