//! The controllers: one folder each, one loop for all (see `control`).
//!
//! Start at [`start`]; the reference to copy is [`replicaset`]. A controller is three things: which
//! changes make it look at which key (`mod.rs`), what it looks at (`observe`, there as well) and what
//! it decides (`plan.rs`, pure). Controllers never import each other.

mod availability;
pub mod deployment;
pub mod nodeipam;
mod ownership;
pub mod replicaset;

use crate::client::Cache;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use std::sync::Arc;

/// What the controllers look at: one cache per kind, shared by all of them.
#[derive(Clone, Debug)]
pub struct Caches {
    pub nodes: Arc<Cache<Node>>,
    pub pods: Arc<Cache<Pod>>,
    pub deployments: Arc<Cache<Deployment>>,
    pub replica_sets: Arc<Cache<ReplicaSet>>,
}
