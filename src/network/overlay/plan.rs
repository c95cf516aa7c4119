//! What the kernel is to know of other nodes, and what is to be done about what it knows: pure.
//!
//! The way packets take is flannel's (pkg/backend/vxlan and hostgw), so that what users know of it
//! holds: each node's end of the tunnel has the first address of its range, of which nothing else is
//! made, and a fixed hardware address; one entry each says on which node that is, which hardware
//! address an end has, and that the range is behind it. Nothing is ever flooded or learned. With
//! WireGuard (pkg/backend/wireguard), other nodes are [`peers`] of this one's device.

use super::peers;
use crate::stdx::fnv1a_32;
use crate::sys::wireguard::PublicKey;
use ipnet::IpNet;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// How packets get to pods of other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Inside UDP: works wherever nodes reach each other.
    Vxlan,
    /// As they are, by routes: for nodes on one wire.
    HostGateway,
    /// Inside UDP too, and nobody on the way can read or change them.
    WireGuard,
}

/// A node of the cluster, as far as packets to its pods go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    /// The ranges of its pods.
    pub ranges: Vec<IpNet>,
    /// Where other nodes reach it, the best first.
    pub addresses: Vec<IpAddr>,
    /// By what WireGuard knows it.
    pub key: Option<PublicKey>,
    /// The older of two has the range that both claim.
    pub since: Timestamp,
}

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mac(pub [u8; 6]);

/// One entry in a table of the kernel. Those that others rest on come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Entry {
    /// The end with this hardware address is on the node at this address.
    Forward { end: Mac, node: IpAddr },
    /// The end with this address has this hardware address.
    Neighbour { address: IpAddr, end: Mac },
    /// The range is behind this address: of an end, or of a node.
    Route { range: IpNet, via: IpAddr },
    /// The range is behind the device, which knows more.
    Through { range: IpNet },
}

/// What is to be done, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Remove(Entry),
    Add(Entry),
}

/// Why there is no way to a node's pods, or not to all of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Problem {
    /// It has no address of the family in which nodes reach each other here.
    NoAddress { node: String },
    /// Another has the range, or a part of it.
    Claimed { node: String, range: IpNet, owner: String },
    /// It is on no network of this node, and its pods cannot be reached without a tunnel.
    NotOnWire { node: String, address: IpAddr },
    /// It does not say by what WireGuard knows it.
    NoKey { node: String },
    /// Another has the key: one machine's disk is a copy of the other's.
    SameKey { node: String, owner: String },
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress { node } => write!(
                formatter,
                "pods of node {node} cannot be reached: it has no address of the family that nodes \
                 reach each other by"
            ),
            Self::Claimed { node, range, owner } => write!(
                formatter,
                "pods of node {node} in {range} cannot be reached: the range is that of node {owner}"
            ),
            Self::NotOnWire { node, address } => write!(
                formatter,
                "pods of node {node} cannot be reached: {address} is on no network of this node, \
                 which host-gw takes; vxlan and wireguard-native do not"
            ),
            Self::NoKey { node } => write!(
                formatter,
                "pods of node {node} cannot be reached: it does not say yet which key of WireGuard it \
                 has"
            ),
            Self::SameKey { node, owner } => write!(
                formatter,
                "pods of node {node} cannot be reached: it has the key of node {owner}; remove \
                 agent/wireguard.key in its data directory and start it again"
            ),
        }
    }
}

/// What this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Own {
    pub name: String,
    /// By which other nodes are reached: its family counts.
    pub address: IpAddr,
    /// The networks that this node is on.
    pub networks: Vec<IpNet>,
    /// By what WireGuard knows it.
    pub key: Option<PublicKey>,
    /// All pods of the cluster.
    pub cluster_cidrs: Vec<IpNet>,
}

/// What the kernel is to have, and what stands in the way of more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Desired {
    pub entries: BTreeSet<Entry>,
    pub peers: BTreeMap<PublicKey, peers::Wanted>,
    pub problems: BTreeSet<Problem>,
}

/// The address of the end of the tunnel on the node with this range.
#[must_use]
pub(super) fn end_address(range: &IpNet) -> IpAddr {
    range.network()
}

/// The hardware address of the end on the node with these ranges: made of the first one, which no
/// other node has, so that nobody has to be told it.
#[must_use]
pub(super) fn end_mac(ranges: &[IpNet]) -> Mac {
    // Locally administered; other than those of flannel and of bridges.
    let tail = match ranges.first().map(end_address) {
        Some(IpAddr::V4(address)) => address.octets(),
        // Mixed, as any part of it may be what tells ranges of one cluster apart.
        Some(IpAddr::V6(address)) => fnv1a_32(address.octets()).to_be_bytes(),
        None => [0; 4],
    };
    Mac([0x0a, 0x6b, tail[0], tail[1], tail[2], tail[3]])
}

/// What the kernel is to have so that pods of all other nodes are reached.
#[must_use]
pub(super) fn desired(backend: Backend, own: &Own, members: &[Member]) -> Desired {
    let mut desired = Desired::default();
    let owners = owners(members);
    let keys = peers::owners(own, members);
    for member in members.iter().filter(|member| member.name != own.name) {
        let mut ranges = Vec::new();
        for range in &member.ranges {
            match owners.iter().find(|(owned, _)| overlap(owned, range)).map(|(_, name)| *name) {
                Some(owner) if owner != member.name => {
                    let (node, owner) = (member.name.clone(), owner.to_owned());
                    desired.problems.insert(Problem::Claimed { node, range: *range, owner });
                }
                _ => ranges.push(*range),
            }
        }
        if ranges.is_empty() {
            continue;
        }
        match backend {
            Backend::Vxlan => through_tunnel(own, member, &ranges, &mut desired),
            Backend::HostGateway => over_wire(own, member, &ranges, &mut desired),
            Backend::WireGuard => peers::add(own, (member, &keys), &ranges, &mut desired),
        }
    }
    desired
}

/// Who has each range: of several that claim it, or a part of it, the oldest.
fn owners(members: &[Member]) -> BTreeMap<IpNet, &str> {
    let mut owners: BTreeMap<IpNet, &str> = BTreeMap::new();
    for member in by_age(members) {
        for range in &member.ranges {
            if !owners.keys().any(|owned| overlap(owned, range)) {
                owners.insert(*range, &member.name);
            }
        }
    }
    owners
}

/// The oldest first.
pub(super) fn by_age(members: &[Member]) -> Vec<&Member> {
    let mut by_age: Vec<_> = members.iter().collect();
    by_age.sort_by(|a, b| (a.since, &a.name).cmp(&(b.since, &b.name)));
    by_age
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

fn through_tunnel(own: &Own, member: &Member, ranges: &[IpNet], desired: &mut Desired) {
    let is_reachable = |address: &&IpAddr| address.is_ipv4() == own.address.is_ipv4();
    let Some(node) = member.addresses.iter().find(is_reachable) else {
        desired.problems.insert(Problem::NoAddress { node: member.name.clone() });
        return;
    };
    let end = end_mac(&member.ranges);
    desired.entries.insert(Entry::Forward { end, node: *node });
    for range in ranges {
        let address = end_address(range);
        desired.entries.insert(Entry::Neighbour { address, end });
        desired.entries.insert(Entry::Route { range: *range, via: address });
    }
}

fn over_wire(own: &Own, member: &Member, ranges: &[IpNet], desired: &mut Desired) {
    for range in ranges {
        let of_family = |address: &&IpAddr| address.is_ipv4() == range.addr().is_ipv4();
        let on_wire = |address: &&IpAddr| own.networks.iter().any(|net| net.contains(*address));
        let node = member.name.clone();
        match member.addresses.iter().filter(of_family).find(on_wire) {
            Some(via) => {
                desired.entries.insert(Entry::Route { range: *range, via: *via });
            }
            None => {
                desired.problems.insert(match member.addresses.iter().find(of_family) {
                    Some(address) => Problem::NotOnWire { node, address: *address },
                    None => Problem::NoAddress { node },
                });
            }
        }
    }
}

/// What makes `found` what is wanted. What is in the way goes first; what others rest on comes
/// before them, and goes after them.
#[must_use]
pub(super) fn changes(wanted: &BTreeSet<Entry>, found: &BTreeSet<Entry>) -> Vec<Change> {
    let gone = found.iter().rev().filter(|entry| !wanted.contains(entry));
    let gone = gone.copied().map(Change::Remove);
    gone.chain(wanted.difference(found).copied().map(Change::Add)).collect()
}

impl fmt::Display for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward { end, node } => write!(formatter, "{end} on {node}"),
            Self::Neighbour { address, end } => write!(formatter, "{address} is {end}"),
            Self::Route { range, via } => write!(formatter, "{range} via {via}"),
            Self::Through { range } => write!(formatter, "{range} through the device"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, ranges: &[&str], addresses: &[&str]) -> Member {
        Member {
            name: name.to_owned(),
            ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            key: None,
            since: Timestamp::from_second(1_800_000_000).unwrap(),
        }
    }

    fn own(address: &str) -> Own {
        Own {
            name: "one".to_owned(),
            address: address.parse().unwrap(),
            networks: vec!["192.0.2.0/24".parse().unwrap(), "fd00:2::/64".parse().unwrap()],
            key: None,
            cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
        }
    }

    fn shown(desired: &Desired) -> Vec<String> {
        let entries = desired.entries.iter().map(Entry::to_string);
        entries.chain(desired.problems.iter().map(Problem::to_string)).collect()
    }

    #[track_caller]
    fn check(backend: Backend, members: &[Member], expected: &[&str]) {
        assert_eq!(shown(&desired(backend, &own("192.0.2.1"), members)), expected);
    }

    #[test]
    fn pods_of_other_nodes_are_behind_their_ends() {
        let one = member("one", &["10.42.0.0/24"], &["192.0.2.1"]);
        let two = member("two", &["10.42.1.0/24", "fd42:0:0:1::/64"], &["192.0.2.2"]);
        check(
            Backend::Vxlan,
            &[one.clone(), two.clone()],
            &[
                "0a:6b:0a:2a:01:00 on 192.0.2.2",
                "10.42.1.0 is 0a:6b:0a:2a:01:00",
                "fd42:0:0:1:: is 0a:6b:0a:2a:01:00",
                "10.42.1.0/24 via 10.42.1.0",
                "fd42:0:0:1::/64 via fd42:0:0:1::",
            ],
        );
        check(Backend::Vxlan, &[one], &[]);
        check(Backend::Vxlan, &[member("new", &[], &["192.0.2.9"])], &[]);
    }

    #[test]
    fn nodes_are_reached_in_the_family_of_this_one() {
        let two = member("two", &["10.42.1.0/24"], &["fd00:2::2", "192.0.2.2", "192.0.2.3"]);
        let over_v6 = desired(Backend::Vxlan, &own("fd00:2::1"), std::slice::from_ref(&two));
        assert_eq!(shown(&over_v6)[0], "0a:6b:0a:2a:01:00 on fd00:2::2");
        let over_v4 = desired(Backend::Vxlan, &own("192.0.2.1"), &[two]);
        assert_eq!(shown(&over_v4)[0], "0a:6b:0a:2a:01:00 on 192.0.2.2");
        check(
            Backend::Vxlan,
            &[member("two", &["10.42.1.0/24"], &["fd00:2::2"])],
            &[
                "pods of node two cannot be reached: it has no address of the family that nodes reach \
               each other by",
            ],
        );
    }

    #[test]
    fn a_range_has_one_owner() {
        let mut young = member("a", &["10.42.1.0/24", "10.42.7.0/24"], &["192.0.2.3"]);
        young.since = Timestamp::from_second(1_800_000_001).unwrap();
        let old = member("b", &["10.42.1.0/25"], &["192.0.2.4"]);
        let shown = shown(&desired(Backend::Vxlan, &own("192.0.2.1"), &[young, old]));
        let routes: Vec<_> = shown.iter().filter(|line| line.contains(" via ")).collect();
        assert_eq!(routes, ["10.42.1.0/25 via 10.42.1.0", "10.42.7.0/24 via 10.42.7.0"]);
        assert_eq!(
            shown.last().unwrap(),
            "pods of node a in 10.42.1.0/24 cannot be reached: the range is that of node b"
        );
        // Nobody takes this node's own pods away.
        let mut thief = member("thief", &["10.42.0.0/16"], &["192.0.2.5"]);
        thief.since = Timestamp::from_second(1_800_000_001).unwrap();
        let one = member("one", &["10.42.0.0/24"], &["192.0.2.1"]);
        assert!(desired(Backend::Vxlan, &own("192.0.2.1"), &[one, thief]).entries.is_empty());
    }

    #[test]
    fn without_a_tunnel_nodes_are_on_one_wire() {
        let two = member("two", &["10.42.1.0/24", "fd42:0:0:1::/64"], &["192.0.2.2", "fd00:2::2"]);
        let far = member("far", &["10.42.2.0/24"], &["198.51.100.2"]);
        check(
            Backend::HostGateway,
            &[two, far],
            &[
                "10.42.1.0/24 via 192.0.2.2",
                "fd42:0:0:1::/64 via fd00:2::2",
                "pods of node far cannot be reached: 198.51.100.2 is on no network of this node, \
                 which host-gw takes; vxlan and wireguard-native do not",
            ],
        );
    }

    #[test]
    fn ends_are_told_apart() {
        let mac = |range: &str| end_mac(&[range.parse().unwrap()]);
        assert_eq!(mac("10.42.1.0/24").to_string(), "0a:6b:0a:2a:01:00");
        assert_ne!(mac("fd42:0:0:1::/64"), mac("fd42:0:0:2::/64"));
    }

    #[test]
    fn what_is_in_the_way_goes_first() {
        let entries =
            |members: &[Member]| desired(Backend::Vxlan, &own("192.0.2.1"), members).entries;
        let before = entries(&[member("two", &["10.42.1.0/24"], &["192.0.2.2"])]);
        let moved = entries(&[member("two", &["10.42.1.0/24"], &["192.0.2.3"])]);
        let shown: Vec<_> = changes(&moved, &before)
            .iter()
            .map(|change| match change {
                Change::Remove(entry) => format!("- {entry}"),
                Change::Add(entry) => format!("+ {entry}"),
            })
            .collect();
        assert_eq!(shown, ["- 0a:6b:0a:2a:01:00 on 192.0.2.2", "+ 0a:6b:0a:2a:01:00 on 192.0.2.3"]);
        assert_eq!(changes(&before, &before), []);
        let kinds: Vec<_> = changes(&BTreeSet::new(), &before)
            .iter()
            .map(|change| matches!(change, Change::Remove(Entry::Route { .. })))
            .collect();
        assert_eq!(kinds, [true, false, false], "routes go before what they rest on");
    }
}
