//! The pod network of a node: bridge, veth pairs, addresses, routes and masquerade.
//!
//! Start at [`PodNetwork`]; [`BridgeNetwork`] is the one that talks to the kernel. Architecture
//! invariants: never two pods on one address, also after a crash; pods of one node reach each other
//! through the node's IP stack and not across the bridge (docs/decisions/0002), so that address
//! translation and policies see every packet.

mod bandwidth;
mod bridge;
mod cni;
mod link;
pub mod local_addresses;
mod losses;
mod operations;
pub mod overlay;
mod passing;
mod plan;
pub mod range_routes;
mod records;
mod render;
#[cfg(test)]
mod render_tests;
mod shaping;

pub use bandwidth::{BadBandwidth, Bandwidth};
pub use bridge::{BridgeConfig, BridgeNetwork};
pub use cni::{CniConfig, CniNetwork};

use crate::api::ObjectKey;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// One pod's place on the network, by its sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The id of the sandbox: one attachment each.
    pub sandbox: String,
    pub pod: ObjectKey,
    /// The pinned network namespace.
    pub namespace: PathBuf,
    pub host_ports: Vec<HostPort>,
    /// What network policies look at, as it was when the pod came.
    pub traits: PodTraits,
    pub bandwidth: Bandwidth,
}

/// What network policies look at of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodTraits {
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub ports: Vec<NamedPort>,
}

/// A port of a pod that others may know by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedPort {
    pub name: String,
    pub protocol: Protocol,
    pub number: u16,
}

/// A sandbox that is on the network, with the addresses it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub sandbox: String,
    pub pod: ObjectKey,
    pub traits: PodTraits,
    pub addresses: Vec<IpAddr>,
}

/// A port of the node that leads to a port of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    pub protocol: Protocol,
    /// `None`: every address of the node.
    pub host_address: Option<IpAddr>,
    pub host_port: u16,
    pub container_port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// As nftables and `/etc/services` call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The protocol of that name, in upper or lower case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.as_str().eq_ignore_ascii_case(name))
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum NetworkError {
    /// The node has no podCIDR yet.
    #[error("the pod network is not configured yet: the node has no podCIDR")]
    NotConfigured,
    #[error("the CNI plugins are not configured: no configuration in {directory} can be used")]
    NoPlugins { directory: String },
    #[error("no address is free in {range}")]
    Exhausted { range: IpNet },
    #[error("host port {port} is taken by pod {pod}")]
    HostPortTaken { port: u16, pod: ObjectKey },
    #[error("the pod's bandwidth is not valid")]
    Bandwidth(#[from] BadBandwidth),
    #[error("{operation} failed")]
    Failed {
        operation: String,
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
}

/// Wraps a cause with what was being done.
fn failed<E>(operation: impl Into<String>) -> impl FnOnce(E) -> NetworkError
where
    E: std::error::Error + Send + Sync + 'static,
{
    let operation = operation.into();
    move |source| NetworkError::Failed { operation, source: Arc::new(source) }
}

/// Gives pods their addresses. One implementation talks to the kernel, another is a fake for tests.
pub trait PodNetwork: Send + Sync + fmt::Debug {
    /// Sets the ranges that pods of this node get their addresses from and makes the bridge.
    /// Called again after a restart, with the same ranges.
    fn configure(&self, pod_cidrs: Vec<IpNet>) -> BoxFuture<'_, Result<(), NetworkError>>;

    /// Puts a sandbox on the network and returns its addresses, the primary one first. A sandbox
    /// that is attached already keeps what it has.
    fn attach(&self, attachment: Attachment) -> BoxFuture<'_, Result<Vec<IpAddr>, NetworkError>>;

    /// Takes a sandbox off the network and frees its addresses. Succeeds where it is off already.
    fn detach(&self, sandbox: &str) -> BoxFuture<'_, Result<(), NetworkError>>;

    /// Everything that is attached, also by an earlier process.
    fn attached(&self) -> Vec<Attached>;

    /// Frees what belongs to none of `sandboxes`: after a crash.
    fn retain(&self, sandboxes: Vec<String>) -> BoxFuture<'_, Result<(), NetworkError>>;
}
