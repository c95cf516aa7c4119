//! Which flows of UDP go where nobody serves any more: pure.
//!
//! A client of UDP that goes on sending keeps the endpoint that its first packet was sent to, for as
//! long as the kernel remembers the flow, also when that endpoint is gone, or when there was none at
//! first. Upstream: `CleanStaleEntries` (pkg/proxy/conntrack/cleanup.go, v1.35).

use super::element::{Frontend, Place};
use super::model::Port;
use crate::network::Protocol;
use crate::sys::conntrack::Flow;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

/// A port of UDP, as far as its flows are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UdpPort {
    frontends: Vec<Frontend>,
    serving: BTreeSet<SocketAddr>,
}

/// The ports of a Service that have flows to forget.
pub(super) fn udp_ports(ports: &[Port]) -> Vec<UdpPort> {
    let udp = ports.iter().filter(|port| port.protocol == Protocol::Udp);
    let udp_port = |port: &Port| {
        let mut frontends = port.external_frontends();
        frontends.push(port.at(port.cluster_address));
        UdpPort { frontends, serving: port.serving.clone() }
    };
    udp.map(udp_port).collect()
}

/// Whether there may be flows that go elsewhere than they should since a Service has changed.
pub(super) fn leaves_flows(before: &[UdpPort], after: &[UdpPort]) -> bool {
    after.iter().any(|port| {
        let was_there = |known: &&UdpPort| {
            port.frontends.iter().all(|frontend| known.frontends.contains(frontend))
        };
        let is_as_good =
            |known: &UdpPort| !known.serving.is_empty() && known.serving.is_subset(&port.serving);
        // Where nobody serves a flow may as well stay.
        !port.serving.is_empty() && !before.iter().find(was_there).is_some_and(is_as_good)
    })
}

/// The flows to these ports that are answered by nobody who serves them. What the policies say is not
/// looked at: a flow that is there may go on, as a connection of TCP would.
pub(super) fn stale<'a>(
    flows: Vec<Flow>,
    ports: impl IntoIterator<Item = &'a UdpPort>,
) -> Vec<Flow> {
    let mut at_address: HashMap<SocketAddr, &BTreeSet<SocketAddr>> = HashMap::new();
    let mut at_node: HashMap<(bool, u16), &BTreeSet<SocketAddr>> = HashMap::new();
    for port in ports.into_iter().filter(|port| !port.serving.is_empty()) {
        for frontend in &port.frontends {
            match frontend.place {
                Place::Address(address) => {
                    at_address.insert(SocketAddr::new(address, frontend.port), &port.serving);
                }
                Place::Node(_) => {
                    let is_ipv4 = port.serving.iter().any(SocketAddr::is_ipv4);
                    at_node.insert((is_ipv4, frontend.port), &port.serving);
                }
            }
        }
    }
    let is_stale = |flow: &Flow| {
        let node_port = (flow.to.is_ipv4(), flow.to.port());
        let serving = at_address.get(&flow.to).or_else(|| at_node.get(&node_port));
        serving.is_some_and(|serving| !serving.contains(&flow.answered_by))
    };
    flows.into_iter().filter(is_stale).collect()
}

#[cfg(test)]
mod tests {
    use super::super::element::Family;
    use super::*;

    fn port(serving: &[&str]) -> UdpPort {
        let address = Place::Address("10.43.0.10".parse().unwrap());
        let frontend = |place, port| Frontend { place, protocol: Protocol::Udp, port };
        UdpPort {
            frontends: vec![frontend(address, 53), frontend(Place::Node(Family::Ipv4), 30053)],
            serving: serving.iter().map(|address| address.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn flows_that_nobody_serves_are_stale() {
        let check = |serving: &[&str], to: &str, answered_by: &str, expected: bool| {
            let flow = Flow::new(to.parse().unwrap(), answered_by.parse().unwrap());
            let found = stale(vec![flow], &[port(serving)]);
            assert_eq!(!found.is_empty(), expected, "{serving:?}: {to} {answered_by}");
        };
        let serving = ["10.42.0.5:53"];
        check(&serving, "10.43.0.10:53", "10.42.0.5:53", false);
        check(&serving, "10.43.0.10:53", "10.42.0.6:53", true);
        // From before there was an endpoint.
        check(&serving, "10.43.0.10:53", "10.43.0.10:53", true);
        check(&serving, "192.0.2.1:30053", "10.42.0.6:53", true);
        check(&serving, "[2001:db8::1]:30053", "[fd42::6]:53", false);
        check(&serving, "10.43.0.11:53", "10.42.0.6:53", false);
        check(&[], "10.43.0.10:53", "10.42.0.6:53", false);
    }

    #[test]
    fn only_some_changes_leave_flows() {
        let check = |before: Option<&UdpPort>, after: Option<&UdpPort>, expected: bool| {
            let list = |port: Option<&UdpPort>| port.cloned().into_iter().collect::<Vec<_>>();
            let (before, after) = (list(before), list(after));
            assert_eq!(leaves_flows(&before, &after), expected, "{before:?} {after:?}");
        };
        let (one, two) = (port(&["10.42.0.5:53"]), port(&["10.42.0.5:53", "10.42.0.6:53"]));
        let none = port(&[]);
        check(None, Some(&one), true);
        check(Some(&none), Some(&one), true);
        check(Some(&one), Some(&two), false);
        check(Some(&two), Some(&one), true);
        check(Some(&one), Some(&one), false);
        check(Some(&one), Some(&none), false);
        check(Some(&one), None, false);
        let mut moved = one.clone();
        moved.frontends[0].place = Place::Address("10.43.0.11".parse().unwrap());
        check(Some(&one), Some(&moved), true);
    }
}
