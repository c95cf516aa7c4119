//! Ports with session affinity: the chains and sets that remember which client is at which endpoint.
//!
//! This is upstream's layout (`writeServiceToEndpointRules`, pkg/proxy/nftables/proxier.go, v1.35): a
//! set of clients for each endpoint, so that an endpoint's clients go with it and nobody else's do.
//! Each new connection of such a port looks through the sets of its endpoints.

use super::chain::{MARK, insiders_go_to, masquerade_outsiders};
use super::element::Family;
use super::model::Port;
use super::topology::Policy;
use crate::stdx::fnv1a_64;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Names of chains and sets that belong to ports with affinity begin so.
pub(super) const PREFIX: &str = "sticky-";

/// An endpoint remembers this many clients. Those beyond are served by whichever endpoint is drawn.
const CLIENTS_MAX: u32 = 65_536;

/// How much of a Service's name is in those of its chains: the kernel takes 255 bytes in all.
const NAME_BYTES_MAX: usize = 150;

/// The clients of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    family: Family,
    seconds: u32,
}

impl Seen {
    /// What nft is told to make it.
    pub(super) fn definition(self) -> String {
        let kind = match self.family {
            Family::Ipv4 => "ipv4_addr",
            Family::Ipv6 => "ipv6_addr",
        };
        let seconds = self.seconds;
        format!("type {kind}; size {CLIENTS_MAX}; flags dynamic,timeout; timeout {seconds}s;")
    }
}

/// What one port with affinity needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sticky {
    names: Names,
    /// Rules by the name of their chain.
    pub(super) chains: BTreeMap<Arc<str>, Vec<String>>,
    pub(super) sets: BTreeMap<Arc<str>, Seen>,
}

impl Sticky {
    /// Where packets to the cluster address go.
    pub(super) fn internal(&self) -> Arc<str> {
        self.names.of("internal")
    }

    /// Where packets to all other frontends go.
    pub(super) fn external(&self) -> Arc<str> {
        self.names.of("external")
    }
}

/// `None` without affinity, or without an endpoint to be at.
pub(super) fn of(port: &Port) -> Option<Sticky> {
    let seconds = port.sticky_seconds?;
    if !port.reachable.is_anywhere {
        return None;
    }
    let mut building = Building {
        port,
        seconds,
        sticky: Sticky {
            names: Names::of_port(port),
            chains: BTreeMap::new(),
            sets: BTreeMap::new(),
        },
    };
    building.entries();
    building.draw("cluster", &port.reachable.cluster);
    building.draw("local", &port.reachable.local);
    Some(building.sticky)
}

struct Building<'a> {
    port: &'a Port,
    seconds: u32,
    sticky: Sticky,
}

impl Building<'_> {
    /// The chains that decide who is masqueraded and which endpoints are to be had.
    fn entries(&mut self) {
        let policies = self.port.policies;
        let reachable = &self.port.reachable;
        let (internal, endpoints) = match policies.internal {
            Policy::Cluster => ("cluster", &reachable.cluster),
            Policy::Local => ("local", &reachable.local),
        };
        if !endpoints.is_empty() {
            let mut rules = masquerade_outsiders();
            rules.push(self.goto(internal));
            self.chain("internal", rules);
        }
        if !policies.is_external {
            return;
        }
        let marked = vec![MARK.to_owned(), self.goto("cluster")];
        if policies.external == Policy::Cluster {
            self.chain("external", marked);
            return;
        }
        let names = &self.sticky.names;
        let mut rules = insiders_go_to(&names.of("cluster"), &names.of("marked"));
        if !reachable.local.is_empty() {
            rules.push(self.goto("local"));
        }
        self.chain("external", rules);
        self.chain("marked", marked);
    }

    /// The chain that sends a client to where it is already, or to one of `endpoints` by lot.
    fn draw(&mut self, name: &str, endpoints: &[SocketAddr]) {
        if endpoints.is_empty() {
            return;
        }
        let ip = self.port.family().as_str();
        let mut rules = Vec::new();
        let mut lots = Vec::new();
        for (number, endpoint) in endpoints.iter().enumerate() {
            let (chain, seen) = self.endpoint(*endpoint);
            rules.push(format!("{ip} saddr @{seen} goto {chain}"));
            lots.push(format!("{number} : goto {chain}"));
        }
        let count = endpoints.len();
        rules.push(format!("numgen random mod {count} vmap {{ {} }}", lots.join(", ")));
        self.chain(name, rules);
    }

    /// The chain and the set of one endpoint.
    fn endpoint(&mut self, endpoint: SocketAddr) -> (Arc<str>, Arc<str>) {
        let family = self.port.family();
        let ip = family.as_str();
        let place = endpoint.ip().to_string().replace(':', ".");
        let place = format!("{place}-{}", endpoint.port());
        let seen = self.sticky.names.of(&format!("seen-{}s-{place}", self.seconds));
        let rules = vec![
            format!("update @{seen} {{ {ip} saddr }}"),
            format!("meta l4proto {} dnat {ip} to {endpoint}", self.port.protocol.as_str()),
        ];
        let chain = self.chain(&format!("at-{place}"), rules);
        self.sticky.sets.insert(Arc::clone(&seen), Seen { family, seconds: self.seconds });
        (chain, seen)
    }

    fn goto(&self, name: &str) -> String {
        format!("goto {}", self.sticky.names.of(name))
    }

    fn chain(&mut self, name: &str, rules: Vec<String>) -> Arc<str> {
        let name = self.sticky.names.of(name);
        self.sticky.chains.insert(Arc::clone(&name), rules);
        name
    }
}

/// What the chains and sets of a port are called.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Names(String);

impl Names {
    fn of_port(port: &Port) -> Self {
        let (protocol, ip) = (port.protocol.as_str(), port.family().as_str());
        let mut name = format!("{protocol}-{ip}/{}", port.name);
        // Two long names may be the same up to here.
        let hash = fnv1a_64(name.bytes());
        name.truncate(NAME_BYTES_MAX);
        Self(format!("{PREFIX}{hash:016x}/{name}"))
    }

    fn of(&self, what: &str) -> Arc<str> {
        format!("{}/{what}", self.0).into()
    }
}
