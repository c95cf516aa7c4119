//! The kinds of the `apiextensions.k8s.io` group.

mod custom_resource_definition;

pub use custom_resource_definition::CLEANUP_FINALIZER;
pub use custom_resource_definition::conditions;
