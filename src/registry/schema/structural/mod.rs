//! Structural schemas: what a CustomResourceDefinition says of its objects, and what follows.
//!
//! Start at [`Structural`], which [`Structural::new`] makes of a version's `openAPIV3Schema`. A
//! write of a custom resource goes through [`defaults::prune_nulls`] and [`defaults::apply`],
//! [`prune()`], [`embedded::coerce`], and then [`validate()`] (or [`validate_update`], which
//! tolerates what was wrong before), [`embedded::validate`], [`lists::validate`] and the rules of [`validations`]. What is
//! published of a schema is made by [`publish`] of the definition itself, because descriptions
//! are not kept here.
//!
//! Follows upstream's `apiextensions-apiserver/pkg/apiserver/{schema,validation}` and the
//! validator of kube-openapi (`pkg/validation`), v1.35: same results, same paths, same words.
//!
//! Architecture invariant: pure. Trees are bounded in depth and size when they are made
//! ([`NODES_MAX`], [`DEPTH_MAX`]), so walkers may recurse over them.

mod build;
pub mod defaults;
pub mod embedded;
mod field_path;
mod formats;
pub mod lists;
mod node;
mod pattern;
mod place;
mod prune;
pub mod publish;
mod rules;
mod validate;
pub mod validations;

pub use build::{DEPTH_MAX, NODES_MAX, NotStructural};
pub use field_path::{FoundField, find_field};
pub use formats::{
    is_known as is_known_format, is_valid as is_valid_format, known as known_formats,
};
pub use node::{Additional, Checks, ListType, MapType, Rule, Structural, Type};
pub use pattern::{BadPattern, Pattern};
pub use prune::{prune, prune_as};
pub use rules::{PatternBudget, validate_structure, validate_structure_within};
pub use validate::{
    correlate::Correlated, nowhere, validate, validate_part, validate_update, validate_update_at,
};

/// The fields that every object has, whatever its schema says.
const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];
