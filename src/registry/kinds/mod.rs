//! One file per kind, and the table that lists them.

mod apps;
mod core;
#[cfg(test)]
mod testing;

use super::Kind;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};

/// Every built-in kind, by group and then by plural. The order is the order in discovery
/// documents.
pub static KINDS: &[Kind] = &[
    Kind::of::<ConfigMap>(),
    Kind::of::<Namespace>(),
    Kind::of::<Pod>(),
    Kind::of::<Secret>(),
    Kind::of::<ControllerRevision>(),
    Kind::of::<Deployment>(),
    Kind::of::<ReplicaSet>(),
];
