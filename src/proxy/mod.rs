//! Services on this node: what is sent to a Service goes to one of its endpoints.
//!
//! Start at [`model::ports`], which says what of a Service the rules depend on, and at
//! [`render::wanted`], which makes elements of it. Architecture invariants: a Service is elements of
//! sets and maps that are always there (`base`), and none of the chains is its own, but with session
//! affinity: so what a packet and what a change costs does not grow with the number of Services;
//! nothing is taken out of the kernel before everything that is to be there is known, so that a new
//! process takes over what an earlier one has left.

mod base;
mod chain;
mod conntrack;
mod dirty;
mod element;
mod endpoints;
mod follow;
mod health;
mod kernel;
mod ledger;
#[cfg(test)]
mod ledger_tests;
mod listing;
mod model;
#[cfg(test)]
mod model_tests;
mod render;
#[cfg(test)]
mod render_tests;
mod script;
mod slices;
mod sticky;
mod topology;

use crate::client::{Cache, EventRecorder};
use crate::stdx::Tasks;
use crate::sys::nft_text;
use crate::sys::process::ProcessError;
use follow::{Followed, Follower};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::net::IpAddr;
use std::sync::Arc;

/// Who this is to the API server.
pub const IDENTITY: &str = "system:kube-proxy";

/// Who this is in events.
pub const COMPONENT: &str = "kube-proxy";

/// What a proxy is told.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    pub node_ips: Vec<IpAddr>,
    /// All pods of the cluster.
    pub cluster_cidrs: Vec<IpNet>,
    /// All addresses that Services can have.
    pub service_cidrs: Vec<IpNet>,
}

/// What a proxy works with.
#[derive(Clone, Debug)]
pub struct Parts {
    pub services: Arc<Cache<Service>>,
    pub endpoint_slices: Arc<Cache<EndpointSlice>>,
    /// This node, at least.
    pub nodes: Arc<Cache<Node>>,
    pub recorder: EventRecorder,
}

/// Keeps the rules of Services until the tasks are stopped. The rules stay then: pods go on.
pub fn start(config: Config, parts: Parts, tasks: &mut Tasks) {
    let followed = Followed::start(&config, parts);
    let shutdown = tasks.shutdown();
    tasks.spawn("service-proxy", async move {
        shutdown.run_until_cancelled(Follower::new(config, followed).run()).await;
    });
}

/// Takes all rules of Services away. Succeeds where there are none.
///
/// # Errors
/// Where nft is missing or refuses.
pub async fn remove() -> Result<(), ProcessError> {
    nft_text::run(script::removal()).await
}
