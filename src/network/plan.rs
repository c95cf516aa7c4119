//! Decisions about addresses and names: pure.

use super::Attachment;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

/// The kernel's limit for the name of an interface, in bytes.
const INTERFACE_NAME_BYTES_MAX: usize = 15;

/// The bridge's own address: the first of the range.
pub(super) fn gateway(range: &IpNet) -> IpAddr {
    hosts(range).next().unwrap_or_else(|| range.addr())
}

/// The hardware address of whoever has `address` on the bridge: two bytes that no maker has, and its
/// IPv4 address. The kernel would make one up for each interface of a pod and lend the bridge that of
/// a port, another one as ports come and go: after a change everybody would go on sending to the old
/// one for a while.
pub(super) fn hardware_address(address: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let bytes = address.octets();
            [bytes[6], bytes[7], bytes[14], bytes[15]]
        }
    };
    [0x0a, 0x58, a, b, c, d]
}

/// The address of IPv6 that belongs to a hardware address (RFC 4291, appendix A), and with which its
/// owner asks for neighbours.
pub(super) fn link_local_address([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    let pair = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

/// A way out of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DefaultRoute {
    pub(super) interface: u32,
    /// The lowest is taken.
    pub(super) metric: u32,
    pub(super) is_ipv4: bool,
}

/// What fits through the ways out of the node that are taken, one for each family. `None` where
/// there is no way out.
pub(super) fn uplink_mtu(routes: &[DefaultRoute], mtus: &BTreeMap<u32, u32>) -> Option<u32> {
    let taken = [true, false].map(|is_ipv4| {
        let of_family = routes.iter().filter(|route| route.is_ipv4 == is_ipv4);
        of_family.min_by_key(|route| route.metric)
    });
    taken.into_iter().flatten().filter_map(|route| mtus.get(&route.interface).copied()).min()
}

/// Every address of the range that can be somebody's. The crate counts an IPv6 network's own
/// address as a host, which routers understand as "any router here".
fn hosts(range: &IpNet) -> impl Iterator<Item = IpAddr> + use<> {
    let network = range.network();
    range.hosts().filter(move |address| *address != network)
}

/// The next free address after `last`, going round, so that an address rests before it is given
/// out again and its old owner's connections and caches die in peace.
pub(super) fn pick_address(
    range: &IpNet,
    used: &BTreeSet<IpAddr>,
    last: Option<IpAddr>,
) -> Option<IpAddr> {
    let gateway = gateway(range);
    let free = |address: &IpAddr| *address != gateway && !used.contains(address);
    let after_last = |address: &IpAddr| last.is_none_or(|last| *address > last);
    hosts(range).filter(after_last).find(free).or_else(|| hosts(range).find(free))
}

/// The node's end of a sandbox's veth pair.
pub(super) fn host_interface(sandbox: &str) -> String {
    let mut name = format!("veth{sandbox}");
    name.truncate(INTERFACE_NAME_BYTES_MAX);
    name
}

/// The first host port of `wanted` that another attachment has already.
pub(super) fn host_port_taken<'a>(
    wanted: &Attachment,
    attached: impl Iterator<Item = &'a Attachment>,
) -> Option<(&'a Attachment, u16)> {
    let others = attached.filter(|other| other.sandbox != wanted.sandbox);
    for other in others {
        for port in &other.host_ports {
            let same = |mine: &&super::HostPort| {
                mine.protocol == port.protocol
                    && mine.host_port == port.host_port
                    && (mine.host_address.is_none()
                        || port.host_address.is_none()
                        || mine.host_address == port.host_address)
            };
            if wanted.host_ports.iter().find(same).is_some() {
                return Some((other, port.host_port));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ObjectKey;
    use crate::network::{Bandwidth, HostPort, PodTraits, Protocol};

    #[track_caller]
    fn check(range: &str, used: &[&str], last: Option<&str>, expected: &str) {
        let used = used.iter().map(|address| address.parse().unwrap()).collect();
        let last = last.map(|address| address.parse().unwrap());
        let picked = pick_address(&range.parse().unwrap(), &used, last);
        assert_eq!(picked.map_or("none".to_owned(), |address| address.to_string()), expected);
    }

    #[test]
    fn addresses_go_round() {
        check("10.42.0.0/24", &[], None, "10.42.0.2");
        check("10.42.0.0/24", &["10.42.0.2"], None, "10.42.0.3");
        check("10.42.0.0/24", &["10.42.0.3"], Some("10.42.0.3"), "10.42.0.4");
        check("10.42.0.0/24", &[], Some("10.42.0.254"), "10.42.0.2");
        check("10.42.0.0/30", &["10.42.0.2"], Some("10.42.0.2"), "none");
        check("fd00::/120", &["fd00::2"], None, "fd00::3");
    }

    #[test]
    fn the_bridge_has_the_first_address() {
        assert_eq!(gateway(&"10.42.3.0/24".parse().unwrap()).to_string(), "10.42.3.1");
    }

    #[test]
    fn hardware_addresses_come_with_addresses() {
        let address = |address: &str| hardware_address(address.parse().unwrap());
        assert_eq!(address("10.42.0.1"), [0x0a, 0x58, 10, 42, 0, 1]);
        assert_eq!(address("fd00:0:0:7::1"), [0x0a, 0x58, 0, 7, 0, 1]);
    }

    #[test]
    fn hardware_addresses_have_addresses_of_ipv6() {
        let address = link_local_address([0x0a, 0x58, 10, 42, 0, 1]);
        assert_eq!(address.to_string(), "fe80::858:aff:fe2a:1");
    }

    #[test]
    fn the_mtu_is_that_of_the_ways_out_that_are_taken() {
        let route = |interface, metric, is_ipv4| DefaultRoute { interface, metric, is_ipv4 };
        let mtus = [(1, 1500), (2, 1400), (3, 9000)].into();
        for (routes, expected) in [
            (vec![], None),
            (vec![route(3, 0, true)], Some(9000)),
            (vec![route(1, 100, true), route(2, 600, true)], Some(1500)),
            (vec![route(3, 0, true), route(2, 1024, false)], Some(1400)),
            (vec![route(2, 1024, false)], Some(1400)),
            (vec![route(9, 0, true)], None),
        ] {
            assert_eq!(uplink_mtu(&routes, &mtus), expected, "{routes:?}");
        }
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        assert_eq!(host_interface("0123456789abcdef0123"), "veth0123456789a");
    }

    #[test]
    fn a_host_port_has_one_owner() {
        let port = |address: Option<&str>, host_port| HostPort {
            protocol: Protocol::Tcp,
            host_address: address.map(|address| address.parse().unwrap()),
            host_port,
            container_port: 80,
        };
        let attachment = |sandbox: &str, port| Attachment {
            sandbox: sandbox.to_owned(),
            pod: ObjectKey::namespaced("default", sandbox),
            namespace: "/run/netns/x".into(),
            host_ports: vec![port],
            traits: PodTraits::default(),
            bandwidth: Bandwidth::default(),
        };
        for (mine, theirs, taken) in [
            (port(None, 80), port(None, 80), true),
            (port(None, 80), port(None, 81), false),
            (port(Some("192.0.2.1"), 80), port(None, 80), true),
            (port(Some("192.0.2.1"), 80), port(Some("192.0.2.2"), 80), false),
        ] {
            let wanted = attachment("a", mine);
            let other = attachment("b", theirs);
            assert_eq!(host_port_taken(&wanted, [&other].into_iter()).is_some(), taken);
            assert!(host_port_taken(&wanted, [&wanted].into_iter()).is_none());
        }
    }
}
