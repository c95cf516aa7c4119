//! The chains that packets for Services go through: one for each number of endpoints, not for each
//! Service, so that Services come and go without a chain.
//!
//! Start at [`Chain`]. A name says all that its rules say, so a chain that is there is right.

use super::element::{Family, Place, Value};
use crate::network::Protocol;
use std::fmt;
use std::sync::Arc;

/// The endpoints of a frontend that are for policy Local are numbered from here.
pub(super) const LOCAL_FROM: u32 = 1 << 16;

/// Where the elements of a map send packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chain {
    /// Says no at once.
    Reject,
    Counted(Counted),
    /// Belongs to one port with session affinity.
    Sticky(Arc<str>),
}

/// A chain for all frontends with as many endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Counted {
    pub(super) keys: Keys,
    pub(super) way: Way,
}

/// By what the endpoints of a frontend are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Keys {
    AddressAndPort,
    NodePort,
}

impl Keys {
    pub(super) fn of(place: Place) -> Self {
        match place {
            Place::Address(_) => Self::AddressAndPort,
            Place::Node(_) => Self::NodePort,
        }
    }
}

/// What is decided before an endpoint is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Nothing any more.
    Draw { count: u32 },
    /// Nothing any more, among the endpoints for policy Local.
    DrawLocal { count: u32 },
    /// Who is no pod of this cluster has no way back but through this node.
    Internal { count: u32 },
    /// The endpoint may be on another node, so it answers to this one.
    External { count: u32 },
    /// Policy Local. Pods and this node itself are not from outside: they have all endpoints.
    ExternalLocal { count: u32, local: u32 },
}

impl From<Counted> for Chain {
    fn from(counted: Counted) -> Self {
        Self::Counted(counted)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reject => formatter.write_str("rejection"),
            Self::Counted(counted) => counted.fmt(formatter),
            Self::Sticky(name) => formatter.write_str(name),
        }
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.keys == Keys::NodePort {
            formatter.write_str("node-port-")?;
        }
        match self.way {
            Way::Draw { count } => write!(formatter, "to-{count}"),
            Way::DrawLocal { count } => write!(formatter, "to-local-{count}"),
            Way::Internal { count } => write!(formatter, "internal-{count}"),
            Way::External { count } => write!(formatter, "external-{count}"),
            Way::ExternalLocal { count, local } => {
                write!(formatter, "external-{count}-local-{local}")
            }
        }
    }
}

impl Counted {
    fn beside(self, way: Way) -> Self {
        Self { keys: self.keys, way }
    }

    /// The chains that the rules of this one lead to.
    pub(super) fn leads_to(self) -> Vec<Self> {
        match self.way {
            Way::Draw { .. } | Way::DrawLocal { .. } => Vec::new(),
            Way::Internal { count } | Way::External { count } => {
                vec![self.beside(Way::Draw { count })]
            }
            Way::ExternalLocal { count, local } => {
                let mut ways = vec![Way::Draw { count }, Way::External { count }];
                if local > 0 {
                    ways.push(Way::DrawLocal { count: local });
                }
                ways.into_iter().map(|way| self.beside(way)).collect()
            }
        }
    }

    pub(super) fn rules(self) -> Vec<String> {
        match self.way {
            Way::Draw { count } => self.draw(count, ""),
            Way::DrawLocal { count } => self.draw(count, &format!(" offset {LOCAL_FROM}")),
            Way::Internal { count } => {
                let mut rules = masquerade_outsiders();
                rules.push(format!("goto {}", self.beside(Way::Draw { count })));
                rules
            }
            Way::External { count } => {
                vec![MARK.to_owned(), format!("goto {}", self.beside(Way::Draw { count }))]
            }
            Way::ExternalLocal { count, local } => {
                let everywhere = self.beside(Way::Draw { count }).to_string();
                let marked = self.beside(Way::External { count }).to_string();
                let mut rules = insiders_go_to(&everywhere, &marked);
                if local > 0 {
                    rules.push(format!("goto {}", self.beside(Way::DrawLocal { count: local })));
                }
                rules
            }
        }
    }

    /// Sends the packet to an endpoint by lot. Each protocol has maps of its own: nft knows the type of
    /// a map without a named type only by a packet's fields, and takes the protocol from there.
    fn draw(self, count: u32, offset: &str) -> Vec<String> {
        let mut rules = Vec::new();
        for ip in Family::ALL.map(Family::as_str) {
            for protocol in Protocol::ALL.map(Protocol::as_str) {
                let (address, map) = match self.keys {
                    Keys::AddressAndPort => (format!("{ip} daddr . "), "endpoints"),
                    Keys::NodePort => (String::new(), "node-port-endpoints"),
                };
                rules.push(format!(
                    "dnat {ip} to {address}{protocol} dport . numgen random mod {count}{offset} map \
                     @{map}-{protocol}-{ip}"
                ));
            }
        }
        rules
    }
}

/// Has the packet leave with the node's address.
pub(super) const MARK: &str = "jump mark-masquerade";

/// Clients outside of the cluster that send to cluster addresses through this node.
pub(super) fn masquerade_outsiders() -> Vec<String> {
    let rule = |family: Family| {
        let ip = family.as_str();
        format!("{ip} saddr != @pods-{ip} {MARK}")
    };
    Family::ALL.map(rule).into()
}

/// What policy Local does not hold for: pods, which could as well use the cluster address, and this
/// node, whose answers have to come back to it.
pub(super) fn insiders_go_to(everywhere: &str, marked: &str) -> Vec<String> {
    let pods = |family: Family| {
        let ip = family.as_str();
        format!("{ip} saddr @pods-{ip} goto {everywhere}")
    };
    let mut rules: Vec<_> = Family::ALL.map(pods).into();
    rules.push(format!("fib saddr type local goto {marked}"));
    rules
}

/// The counted chains that a value leads to, each after those that it leads to itself.
pub(super) fn needed_for(value: &Value) -> Vec<Counted> {
    let Value::Goto(Chain::Counted(counted)) = value else { return Vec::new() };
    let mut needed = vec![*counted];
    let mut at = 0;
    while let Some(next) = needed.get(at) {
        let further = next.leads_to();
        needed.extend(further);
        at += 1;
    }
    needed.reverse();
    needed
}
