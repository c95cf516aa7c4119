//! The cluster's DNS, on every node: names of Services, endpoints and pods from what the API server
//! shows, all others from the servers that the node itself asks.
//!
//! Start at [`start`]; the decision about a name of the cluster is [`cluster`], that about any name
//! [`routes`].
//!
//! Architecture invariants: everything that is said of the cluster is said from the index, which
//! changes with the caches, so that an answer is as new as they are; nothing here writes to the API
//! or to a disk; while the API server is away, what was known last is answered. Deliberately absent:
//! zone transfers, wildcards in names of the cluster (specification 1.1 has none), signatures of its
//! own.

mod cache;
#[cfg(test)]
mod cache_tests;
mod cluster;
mod corefile;
mod follow;
mod guests;
mod hosts;
mod index;
mod kube_dns;
mod message;
#[cfg(test)]
mod message_tests;
mod metrics;
mod names;
mod resolv_conf;
mod resolver;
#[cfg(test)]
mod resolver_tests;
mod routes;
mod serve;
#[cfg(test)]
mod storm_tests;
mod upstream;
mod zone_text;

pub use follow::{CUSTOM, Sources};
pub use kube_dns::kube_dns;

use self::cluster::Zone;
use self::resolver::Resolver;
use self::serve::{Place, Told};
use crate::client::EventRecorder;
use crate::stdx::{Entropy, Tasks};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::ObjectReference;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// What the DNS of a node has to be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this node.
    pub node: String,
    /// `cluster.local`
    pub domain: String,
    /// Where it answers; these become addresses of this node.
    pub addresses: Vec<IpAddr>,
    /// The interface that they are on, which is this DNS' own. 15 bytes at most.
    pub interface: String,
    /// The addresses of pods and of Services.
    pub ranges: Vec<IpNet>,
    /// Where the servers stand that other names are asked of.
    pub resolv_conf: PathBuf,
    pub entropy: Entropy,
}

/// The domain is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{domain:?} is no domain")]
pub struct BadDomain {
    pub domain: String,
}

/// A DNS that answers. Its tasks belong to whoever started it.
#[derive(Clone, Debug)]
pub struct Dns(Arc<Resolver>);

impl Dns {
    /// What it has counted, in the text format of Prometheus.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.0.metrics.render(self.0.cached())
    }
}

/// Starts to answer. Where it cannot yet, it says so and goes on trying: nothing else has to wait.
///
/// # Errors
/// Where the domain is none.
pub fn start(
    config: Config,
    sources: Sources,
    recorder: EventRecorder,
    tasks: &mut Tasks,
) -> Result<Dns, BadDomain> {
    let Config { node, domain, addresses, interface, ranges, resolv_conf, entropy } = config;
    let zone = Zone::new(&domain, addresses.clone(), ranges).ok_or(BadDomain { domain })?;
    let resolver = Arc::new(Resolver::new(zone, entropy, tasks.shutdown()));
    follow::follow_cluster(&resolver, &sources);
    let told = Told { recorder: recorder.clone(), node: node_reference(node) };
    let (own, shutdown) = (Arc::clone(&resolver), tasks.shutdown());
    tasks.spawn("dns sources", async move {
        let whole = follow::wait_until_whole(&own, &sources);
        let routes = follow::follow_routes(&own, &resolv_conf, &sources, &recorder);
        let both = async { tokio::join!(whole, routes) };
        shutdown.run_until_cancelled(both).await;
    });
    let (own, shutdown) = (Arc::clone(&resolver), tasks.shutdown());
    tasks.spawn("dns", async move {
        let place = Place { interface, addresses };
        shutdown.run_until_cancelled(serve::serve(&place, &told, &own)).await;
    });
    Ok(Dns(resolver))
}

/// A Node in Events; its uid is its name there, as kubelets have it.
fn node_reference(name: String) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        uid: Some(name.clone()),
        name: Some(name),
        ..ObjectReference::default()
    }
}
