//! What the sets and maps of the table hold: each element as a value, and as nft writes and prints it.
//!
//! Start at [`Key`]. Architecture invariant: two different keys never have the same set and text, so
//! that what the kernel lists can be compared with what is wanted as text.

use super::chain::Chain;
use crate::network::Protocol;
pub(super) use crate::sys::nft::Family;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Where packets for a Service arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Place {
    /// At this address, whoever has it.
    Address(IpAddr),
    /// At every address of this node.
    Node(Family),
}

impl Place {
    pub(super) fn family(self) -> Family {
        match self {
            Self::Address(address) => Family::of(address),
            Self::Node(family) => family,
        }
    }
}

/// One way into a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Frontend {
    pub(super) place: Place,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
}

impl fmt::Display for Frontend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Place::Address(address) = self.place {
            write!(formatter, "{address} . ")?;
        }
        write!(formatter, "{} . {}", self.protocol.as_str(), self.port)
    }
}

/// An element of one of the table's sets or maps. See [`base`](super::base) for what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Key {
    /// Where the packets of a frontend go on.
    Service(Frontend),
    /// The endpoint of that number of a frontend.
    Endpoint(Frontend, u32),
    /// A frontend that has no endpoint for some or for all.
    Refused(Frontend),
    ClusterAddress(IpAddr),
    /// An endpoint that may reach itself through a Service.
    Hairpin(IpAddr),
    /// A frontend that only some may use.
    Firewalled(Frontend),
    /// Who may.
    Source(Frontend, IpNet),
    Pods(IpNet),
    ServiceRange(IpNet),
}

/// What an element of a map leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// It is an element of a set.
    Present,
    Goto(Chain),
    Drop,
    Endpoint(SocketAddr),
}

impl Key {
    /// The name of the set or map.
    pub(super) fn set(&self) -> &'static str {
        let by_family = |ipv4, ipv6, family| match family {
            Family::Ipv4 => ipv4,
            Family::Ipv6 => ipv6,
        };
        let at_address = |frontend: &Frontend| matches!(frontend.place, Place::Address(_));
        match self {
            Self::Service(at) if at_address(at) => {
                by_family("services-ip", "services-ip6", at.place.family())
            }
            Self::Service(at) => by_family("node-ports-ip", "node-ports-ip6", at.place.family()),
            Self::Endpoint(at, _) => endpoints(*at),
            Self::Refused(at) if at_address(at) => {
                by_family("refused-ip", "refused-ip6", at.place.family())
            }
            Self::Refused(at) => {
                by_family("refused-node-ports-ip", "refused-node-ports-ip6", at.place.family())
            }
            Self::ClusterAddress(address) => {
                by_family("cluster-addresses-ip", "cluster-addresses-ip6", Family::of(*address))
            }
            Self::Hairpin(address) => by_family("hairpin-ip", "hairpin-ip6", Family::of(*address)),
            Self::Firewalled(at) => by_family("firewalled-ip", "firewalled-ip6", at.place.family()),
            Self::Source(at, _) => by_family("sources-ip", "sources-ip6", at.place.family()),
            Self::Pods(range) => by_family("pods-ip", "pods-ip6", Family::of(range.addr())),
            Self::ServiceRange(range) => {
                by_family("service-ranges-ip", "service-ranges-ip6", Family::of(range.addr()))
            }
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(frontend) | Self::Refused(frontend) | Self::Firewalled(frontend) => {
                frontend.fmt(formatter)
            }
            // The protocol is in the name of the map.
            Self::Endpoint(Frontend { place: Place::Address(address), port, .. }, number) => {
                write!(formatter, "{address} . {port} . {number}")
            }
            Self::Endpoint(Frontend { port, .. }, number) => write!(formatter, "{port} . {number}"),
            Self::ClusterAddress(address) => address.fmt(formatter),
            Self::Hairpin(address) => write!(formatter, "{address} . {address}"),
            Self::Source(frontend, range) => write!(formatter, "{frontend} . {}", Range(*range)),
            Self::Pods(range) | Self::ServiceRange(range) => Range(*range).fmt(formatter),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => Ok(()),
            Self::Goto(chain) => write!(formatter, "goto {chain}"),
            Self::Drop => formatter.write_str("drop"),
            Self::Endpoint(to) => write!(formatter, "{} . {}", to.ip(), to.port()),
        }
    }
}

/// The map with the endpoints of a frontend.
fn endpoints(at: Frontend) -> &'static str {
    let is_node = matches!(at.place, Place::Node(_));
    match (is_node, at.protocol, at.place.family()) {
        (false, Protocol::Tcp, Family::Ipv4) => "endpoints-tcp-ip",
        (false, Protocol::Tcp, Family::Ipv6) => "endpoints-tcp-ip6",
        (false, Protocol::Udp, Family::Ipv4) => "endpoints-udp-ip",
        (false, Protocol::Udp, Family::Ipv6) => "endpoints-udp-ip6",
        (false, Protocol::Sctp, Family::Ipv4) => "endpoints-sctp-ip",
        (false, Protocol::Sctp, Family::Ipv6) => "endpoints-sctp-ip6",
        (true, Protocol::Tcp, Family::Ipv4) => "node-port-endpoints-tcp-ip",
        (true, Protocol::Tcp, Family::Ipv6) => "node-port-endpoints-tcp-ip6",
        (true, Protocol::Udp, Family::Ipv4) => "node-port-endpoints-udp-ip",
        (true, Protocol::Udp, Family::Ipv6) => "node-port-endpoints-udp-ip6",
        (true, Protocol::Sctp, Family::Ipv4) => "node-port-endpoints-sctp-ip",
        (true, Protocol::Sctp, Family::Ipv6) => "node-port-endpoints-sctp-ip6",
    }
}

/// A range as nft prints it: one address is no range.
struct Range(IpNet);

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            self.0.addr().fmt(formatter)
        } else {
            self.0.trunc().fmt(formatter)
        }
    }
}
