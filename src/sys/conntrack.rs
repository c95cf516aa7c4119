//! The kernel's memory of connections: which flows of UDP there are, and forgetting some of them.
//!
//! Spoken over netlink (nfnetlink_conntrack, linux/netfilter/nfnetlink_conntrack.h), so that no
//! program is needed. Everything here blocks for as long as the kernel takes.

use super::netlink::{ACKNOWLEDGE, DUMP, attributes, connect, find, message, pad, read};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;

const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_FROM_PORT: u16 = 2;
const PROTOCOL_TO_PORT: u16 = 3;

/// A flow of UDP packets that the kernel remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// What the client sends to.
    pub to: SocketAddr,
    /// Who answers: another, where the destination was translated.
    pub answered_by: SocketAddr,
    family: u8,
    /// The attributes by which the kernel knows it.
    identity: Vec<u8>,
}

impl Flow {
    /// A flow that no kernel knows: for those who decide about flows.
    #[must_use]
    pub fn new(to: SocketAddr, answered_by: SocketAddr) -> Self {
        Self { to, answered_by, family: 0, identity: Vec::new() }
    }
}

/// All flows of UDP, of both families.
///
/// # Errors
/// Where the kernel has no conntrack, or this process may not ask.
pub fn udp_flows() -> io::Result<Vec<Flow>> {
    let socket = connect(NETLINK_NETFILTER)?;
    let mut flows = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = u8::try_from(family).expect("the families have small numbers");
        socket.send(&message(GET, DUMP, of_family(family), &[]), 0)?;
        while read(&socket, |kind, [family, ..], attributes| {
            if kind == SUBSYSTEM {
                flows.extend(udp_flow(family, attributes));
            }
        })? {}
    }
    Ok(flows)
}

/// Has the kernel forget flows, so that their next packet is looked at as if it were the first.
/// Returns how many it still knew.
///
/// # Errors
/// Where the kernel refuses.
pub fn forget(flows: &[Flow]) -> io::Result<usize> {
    let socket = connect(NETLINK_NETFILTER)?;
    let mut forgotten = 0;
    for flow in flows {
        let request = message(DELETE, ACKNOWLEDGE, of_family(flow.family), &flow.identity);
        socket.send(&request, 0)?;
        match read(&socket, |_, _, _| {}) {
            Ok(_) => forgotten += 1,
            // It was over by itself.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(forgotten)
}

/// Family, version and resource: what follows the header of a message of netfilter's.
fn of_family(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

/// `None` where it is no flow of UDP.
fn udp_flow(family: u8, bytes: &[u8]) -> Option<Flow> {
    let original = Tuple(find(bytes, TUPLE_ORIGINAL)?);
    let protocol = *find(find(original.0, TUPLE_PROTOCOL)?, PROTOCOL_NUMBER)?.first()?;
    if i32::from(protocol) != libc::IPPROTO_UDP {
        return None;
    }
    let to = original.end(End::To)?;
    let answered_by = Tuple(find(bytes, TUPLE_REPLY)?).end(End::From)?;
    let mut identity = Vec::new();
    for (kind, whole) in attributes(bytes) {
        if matches!(kind, TUPLE_ORIGINAL | ID | ZONE) {
            identity.extend(whole);
            pad(&mut identity);
        }
    }
    Some(Flow { to, answered_by, family, identity })
}

#[derive(Clone, Copy)]
enum End {
    From,
    To,
}

/// Both ends of a flow in one direction.
struct Tuple<'a>(&'a [u8]);

impl Tuple<'_> {
    fn end(&self, end: End) -> Option<SocketAddr> {
        let (ipv4, ipv6, port) = match end {
            End::From => (1, 3, PROTOCOL_FROM_PORT),
            End::To => (2, 4, PROTOCOL_TO_PORT),
        };
        let addresses = find(self.0, TUPLE_ADDRESSES)?;
        let address = match (find(addresses, ipv4), find(addresses, ipv6)) {
            (Some(bytes), _) => IpAddr::from(Ipv4Addr::from(*bytes.first_chunk()?)),
            (None, Some(bytes)) => IpAddr::from(Ipv6Addr::from(*bytes.first_chunk::<16>()?)),
            (None, None) => return None,
        };
        let port = find(find(self.0, TUPLE_PROTOCOL)?, port)?;
        Some(SocketAddr::new(address, u16::from_be_bytes(*port.first_chunk()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::netlink::attribute;
    use super::*;

    fn tuple(kind: u16, protocol: u8, from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
        let addresses = [attribute(1, &from.0), attribute(2, &to.0)].concat();
        let protocol = [
            attribute(PROTOCOL_NUMBER, &[protocol]),
            attribute(PROTOCOL_FROM_PORT, &from.1.to_be_bytes()),
            attribute(PROTOCOL_TO_PORT, &to.1.to_be_bytes()),
        ];
        let nested = 0x8000;
        let inside = [
            attribute(TUPLE_ADDRESSES | nested, &addresses),
            attribute(TUPLE_PROTOCOL | nested, &protocol.concat()),
        ];
        attribute(kind | nested, &inside.concat())
    }

    #[test]
    fn a_flow_is_read_with_what_identifies_it() {
        let client = ([10, 42, 0, 9], 40_000);
        let original = tuple(TUPLE_ORIGINAL, 17, client, ([10, 43, 0, 10], 53));
        let reply = tuple(TUPLE_REPLY, 17, ([10, 42, 0, 5], 5353), client);
        let id = attribute(ID, &[0, 0, 0, 7]);
        let entry = [original.clone(), reply.clone(), id.clone()].concat();
        let flow = udp_flow(2, &entry).unwrap();
        assert_eq!(flow.to, "10.43.0.10:53".parse().unwrap());
        assert_eq!(flow.answered_by, "10.42.0.5:5353".parse().unwrap());
        assert_eq!(flow.identity, [original, id].concat());
        let tcp = tuple(TUPLE_ORIGINAL, 6, client, ([10, 43, 0, 1], 443));
        assert_eq!(udp_flow(2, &[tcp, reply].concat()), None);
    }

    #[test]
    fn bytes_that_make_no_sense_are_no_flow() {
        assert_eq!(udp_flow(2, &[]), None);
        assert_eq!(udp_flow(2, &[1, 0, 1, 0, 9]), None);
        assert_eq!(udp_flow(2, &[255, 255, 1, 0]), None);
    }
}
