//! Other nodes as peers of this one's WireGuard device, and what is to be done about those that the
//! kernel has: pure.
//!
//! One device for both families of pods, on one port. A peer moves by itself: where something of it
//! has come from last, the kernel sends to. So it is told where a peer is when the peer is new, and
//! when its Node says another address than before, and a node behind address translation is reached by
//! what it opens.

use super::plan::{Desired, Entry, Member, Own, Problem, by_age};
use crate::sys::wireguard::{Peer, PublicKey};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

/// Where devices listen, as flannel's and `wg-quick`'s do.
pub(super) const PORT: u16 = 51_820;

/// Address translation on the way keeps the way open for as long. k3s has the same.
const KEEPALIVE_SECONDS: u16 = 25;

/// A peer as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub endpoint: SocketAddr,
    pub ranges: BTreeSet<IpNet>,
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Remove(PublicKey),
    Set(PublicKey, Peer),
}

/// Whose each key is: of several that say they have it, the oldest's, but this node's in any case.
pub(super) fn owners<'a>(own: &'a Own, members: &'a [Member]) -> BTreeMap<PublicKey, &'a str> {
    let mut owners: BTreeMap<_, _> = own.key.map(|key| (key, &*own.name)).into_iter().collect();
    for member in by_age(members).into_iter().filter(|member| member.name != own.name) {
        if let Some(key) = member.key {
            owners.entry(key).or_insert(&member.name);
        }
    }
    owners
}

/// Has a node's pods reached through the device. What is for pods never leaves in any other way, also
/// while nobody knows where it should go: the device refuses it then.
pub(super) fn add(
    own: &Own,
    (member, owners): (&Member, &BTreeMap<PublicKey, &str>),
    ranges: &[IpNet],
    desired: &mut Desired,
) {
    let all = own.cluster_cidrs.iter().chain(ranges);
    desired.entries.extend(all.map(|range| Entry::Through { range: *range }));
    let node = member.name.clone();
    let Some(key) = member.key else {
        desired.problems.insert(Problem::NoKey { node });
        return;
    };
    if let Some(owner) = owners.get(&key).filter(|owner| **owner != node) {
        desired.problems.insert(Problem::SameKey { node, owner: (*owner).to_owned() });
        return;
    }
    let of_family = member.addresses.iter().find(|it| it.is_ipv4() == own.address.is_ipv4());
    let Some(address) = of_family.or(member.addresses.first()) else {
        desired.problems.insert(Problem::NoAddress { node });
        return;
    };
    let endpoint = SocketAddr::new(*address, PORT);
    desired.peers.insert(key, Wanted { endpoint, ranges: ranges.iter().copied().collect() });
}

/// What makes `found` what is wanted. `told` is where peers were said to be before.
#[must_use]
pub(super) fn changes(
    wanted: &BTreeMap<PublicKey, Wanted>,
    found: &BTreeMap<PublicKey, Peer>,
    told: &BTreeMap<PublicKey, SocketAddr>,
) -> Vec<Change> {
    let gone = found.keys().filter(|key| !wanted.contains_key(key));
    let mut changes: Vec<_> = gone.copied().map(Change::Remove).collect();
    for (key, wanted) in wanted {
        let there = found.get(key);
        let is_known = there.is_some_and(|there| {
            let is_as_told = told.get(key) == Some(&wanted.endpoint) && there.endpoint.is_some();
            is_as_told || there.endpoint == Some(wanted.endpoint)
        });
        let peer = Peer {
            endpoint: (!is_known).then_some(wanted.endpoint),
            ranges: wanted.ranges.clone(),
            keepalive_seconds: KEEPALIVE_SECONDS,
        };
        let has_rest = there.is_some_and(|there| {
            there.ranges == peer.ranges && there.keepalive_seconds == KEEPALIVE_SECONDS
        });
        if !is_known || !has_rest {
            changes.push(Change::Set(*key, peer));
        }
    }
    changes
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remove(key) => write!(formatter, "peer {key} goes"),
            Self::Set(key, peer) => {
                write!(formatter, "peer {key}")?;
                if let Some(endpoint) = peer.endpoint {
                    write!(formatter, " at {endpoint}")?;
                }
                peer.ranges.iter().try_for_each(|range| write!(formatter, " {range}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Backend, desired};
    use super::*;
    use jiff::Timestamp;

    fn key(number: u8) -> PublicKey {
        PublicKey([number; 32])
    }

    fn member(name: &str, number: u8, ranges: &[&str], addresses: &[&str]) -> Member {
        Member {
            name: name.to_owned(),
            ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            key: Some(key(number)),
            since: Timestamp::from_second(1_800_000_000).unwrap(),
        }
    }

    fn two() -> Member {
        let addresses = ["fd00:2::2", "192.0.2.2"];
        member("two", 2, &["10.42.1.0/24", "fd42:0:0:1::/64"], &addresses)
    }

    fn desired_by(address: &str, members: &[Member]) -> Desired {
        let own = Own {
            name: "one".to_owned(),
            address: address.parse().unwrap(),
            networks: Vec::new(),
            key: Some(key(1)),
            cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap(), "fd42::/56".parse().unwrap()],
        };
        desired(Backend::WireGuard, &own, members)
    }

    /// Peers, with the first byte of their keys, routes and problems.
    #[track_caller]
    fn check(members: &[Member], expected: &[&str]) {
        let desired = desired_by("192.0.2.1", members);
        let peers = desired.peers.iter().map(|(key, wanted)| {
            let ranges: Vec<_> = wanted.ranges.iter().map(IpNet::to_string).collect();
            format!("{} at {}: {}", key.0[0], wanted.endpoint, ranges.join(" "))
        });
        let routes = desired.entries.iter().map(Entry::to_string);
        let problems = desired.problems.iter().map(Problem::to_string);
        assert_eq!(peers.chain(routes).chain(problems).collect::<Vec<_>>(), expected);
    }

    const ROUTES: [&str; 4] = [
        "10.42.0.0/16 through the device",
        "10.42.1.0/24 through the device",
        "fd42::/56 through the device",
        "fd42:0:0:1::/64 through the device",
    ];

    #[test]
    fn other_nodes_are_peers_that_have_their_pods() {
        let one = member("one", 1, &["10.42.0.0/24"], &["192.0.2.1"]);
        let peer = "2 at 192.0.2.2:51820: 10.42.1.0/24 fd42:0:0:1::/64";
        check(&[one.clone(), two()], &[&[peer], &ROUTES[..]].concat());
        check(&[one], &[]);
        check(&[member("new", 9, &[], &["192.0.2.9"])], &[]);
        let over_v6 = desired_by("fd00:2::1", &[two()]);
        assert_eq!(over_v6.peers[&key(2)].endpoint, "[fd00:2::2]:51820".parse().unwrap());
        // One address is better than none: the other side may be heard by it.
        let far = desired_by("192.0.2.1", &[member("far", 2, &["10.42.1.0/24"], &["fd00:2::2"])]);
        assert_eq!(far.peers[&key(2)].endpoint, "[fd00:2::2]:51820".parse().unwrap());
    }

    #[test]
    fn nothing_leaves_in_the_clear_where_a_peer_is_not_known() {
        let silent = Member { key: None, ..two() };
        let told = "pods of node two cannot be reached: it does not say yet which key of WireGuard it \
                    has";
        check(&[silent], &[&ROUTES[..], &[told]].concat());
        let nowhere = Member { addresses: Vec::new(), ..two() };
        let told = "pods of node two cannot be reached: it has no address of the family that nodes \
                    reach each other by";
        check(&[nowhere], &[&ROUTES[..], &[told]].concat());
    }

    #[test]
    fn a_key_has_one_owner() {
        let of = |owner: &str| {
            format!(
                "pods of node two cannot be reached: it has the key of node {owner}; remove \
                 agent/wireguard.key in its data directory and start it again"
            )
        };
        check(&[Member { key: Some(key(1)), ..two() }], &[&ROUTES[..], &[&*of("one")]].concat());
        let mut old = member("zero", 2, &["10.42.1.0/25"], &["192.0.2.3"]);
        old.since = Timestamp::from_second(1_700_000_000).unwrap();
        let young = Member { ranges: vec!["10.42.2.0/24".parse().unwrap()], ..two() };
        let expected = [
            "2 at 192.0.2.3:51820: 10.42.1.0/25",
            ROUTES[0],
            "10.42.1.0/25 through the device",
            "10.42.2.0/24 through the device",
            ROUTES[2],
            &of("zero"),
        ];
        check(&[young, old], &expected);
    }

    fn wanted(endpoint: &str, ranges: &[&str]) -> Wanted {
        let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
        Wanted { endpoint: endpoint.parse().unwrap(), ranges }
    }

    /// What the kernel has after somebody was told of such peers.
    fn found(endpoint: Option<&str>, ranges: &[&str]) -> Peer {
        Peer {
            endpoint: endpoint.map(|endpoint| endpoint.parse().unwrap()),
            ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
            keepalive_seconds: KEEPALIVE_SECONDS,
        }
    }

    #[test]
    fn peers_are_told_of_where_they_differ() {
        const HOME: &str = "192.0.2.2:51820";
        const AWAY: &str = "198.51.100.7:40000";
        const RANGE: &[&str] = &["10.42.1.0/24"];
        let check = |there: Option<Peer>, told: Option<&str>, expected: Option<&str>| {
            let wanted = BTreeMap::from([(key(2), wanted(HOME, RANGE))]);
            let found = there.into_iter().map(|peer| (key(2), peer)).collect();
            let told = told.into_iter().map(|told| (key(2), told.parse().unwrap())).collect();
            let changes: Vec<_> =
                changes(&wanted, &found, &told).iter().map(Change::to_string).collect();
            let of_two = |what: &str| format!("peer {}{what}", key(2));
            assert_eq!(changes, expected.map(of_two).into_iter().collect::<Vec<_>>());
        };
        let with_endpoint = Some(" at 192.0.2.2:51820 10.42.1.0/24");
        check(None, None, with_endpoint);
        check(None, Some(HOME), with_endpoint);
        check(Some(found(Some(HOME), RANGE)), None, None);
        check(Some(found(Some(HOME), &[])), None, Some(" 10.42.1.0/24"));
        // It has moved by itself, and that holds until its Node says something new.
        check(Some(found(Some(AWAY), RANGE)), Some(HOME), None);
        check(Some(found(Some(AWAY), &[])), Some(HOME), Some(" 10.42.1.0/24"));
        check(Some(found(Some(AWAY), RANGE)), Some("192.0.2.9:51820"), with_endpoint);
        check(Some(found(Some(AWAY), RANGE)), None, with_endpoint);
        check(Some(found(None, RANGE)), Some(HOME), with_endpoint);
        let mute = Peer { keepalive_seconds: 0, ..found(Some(HOME), RANGE) };
        check(Some(mute), None, Some(" 10.42.1.0/24"));
    }

    #[test]
    fn peers_that_nobody_wants_go_first() {
        let there = found(Some("192.0.2.2:51820"), &["10.42.1.0/24"]);
        let found = BTreeMap::from([(key(2), there)]);
        let wanted = BTreeMap::from([(key(1), wanted("192.0.2.2:51820", &["10.42.1.0/24"]))]);
        let changes = changes(&wanted, &found, &BTreeMap::new());
        assert!(matches!(changes[..], [Change::Remove(gone), Change::Set(new, _)]
            if gone == key(2) && new == key(1)));
    }
}
