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
mod exposition;
mod follow;
mod followed;
mod health;
mod kernel;
mod ledger;
#[cfg(test)]
mod ledger_tests;
mod listing;
mod model;
#[cfg(test)]
mod model_tests;
mod ranges;
mod render;
#[cfg(test)]
mod render_tests;
mod script;
mod slices;
mod sticky;
mod tally;
mod topology;

use crate::client::{Cache, EventRecorder};
use crate::stdx::{Clock, Tasks};
use crate::sys::nft_text;
use crate::sys::process::ProcessError;
use element::Family;
use follow::Follower;
use followed::Followed;
use health::{NodeHealth, Progress, serve_status};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use std::net::IpAddr;
use std::sync::Arc;
use tally::Tally;

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
    /// Addresses that Services can have, besides those of ServiceCIDRs.
    pub service_cidrs: Vec<IpNet>,
    /// The interface that these lead to, for this node's own packets. 15 bytes at most.
    pub interface: String,
}

/// What a proxy works with.
#[derive(Clone, Debug)]
pub struct Parts {
    pub services: Arc<Cache<Service>>,
    pub endpoint_slices: Arc<Cache<EndpointSlice>>,
    /// This node, at least.
    pub nodes: Arc<Cache<Node>>,
    pub service_cidrs: Arc<Cache<ServiceCIDR>>,
    pub recorder: EventRecorder,
    pub clock: Clock,
}

/// A proxy that works. Its tasks belong to whoever started it.
#[derive(Clone, Debug)]
pub struct Proxy {
    progress: Arc<Progress>,
    tally: Arc<Tally>,
    /// What this node serves.
    families: Vec<Family>,
}

impl Proxy {
    /// What it has counted, in the text format of Prometheus.
    #[must_use]
    pub fn metrics(&self) -> String {
        exposition::render(&self.tally.counts(), self.progress.state(), &self.families)
    }
}

/// Keeps the rules of Services until the tasks are stopped. The rules stay then: pods go on.
pub fn start(config: Config, parts: Parts, tasks: &mut Tasks) -> Proxy {
    let families = families(&config.cluster_cidrs);
    let proxy = Proxy { progress: Arc::default(), tally: Arc::default(), families };
    let health = NodeHealth {
        node_name: config.node_name.clone(),
        nodes: Arc::clone(&parts.nodes),
        families: proxy.families.iter().map(|family| exposition::name(*family)).collect(),
        progress: Arc::clone(&proxy.progress),
        tally: Arc::clone(&proxy.tally),
        clock: parts.clock.clone(),
    };
    let followed = Followed::start(&config, parts, &proxy);
    let shutdown = tasks.shutdown();
    tasks.spawn("service-proxy", async move {
        shutdown.run_until_cancelled(Follower::new(config, followed).run()).await;
    });
    let shutdown = tasks.shutdown();
    tasks.spawn("proxy-health", async move {
        shutdown.run_until_cancelled(health.serve()).await;
    });
    let shutdown = tasks.shutdown();
    let told = proxy.clone();
    tasks.spawn("proxy-status", async move {
        shutdown.run_until_cancelled(serve_status(told)).await;
    });
    proxy
}

/// Those that pods have, the first of them first.
fn families(ranges: &[IpNet]) -> Vec<Family> {
    let mut families = Vec::new();
    for family in ranges.iter().map(|range| Family::of(range.addr())) {
        if !families.contains(&family) {
            families.push(family);
        }
    }
    families
}

/// Takes all rules of Services away. Succeeds where there are none.
///
/// # Errors
/// Where nft is missing or refuses.
pub async fn remove() -> Result<(), ProcessError> {
    nft_text::run(script::removal()).await
}
