//! The address of this node, where nobody names one.

use super::config::{BRIDGE, DNS_INTERFACE, SERVICES_INTERFACE};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};

/// Addresses that are nobody's (RFC 5737, RFC 3849): they stand for "away from here".
const ELSEWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// The address that packets leave this host with, or else its first one, or else loopback.
#[must_use]
pub fn default_address() -> IpAddr {
    way_out().or_else(first_address).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The address that packets to a server leave this host with: `https://edge.example:6443`.
#[must_use]
pub fn address_towards(server: &str) -> Option<IpAddr> {
    let server: http::Uri = server.parse().ok()?;
    let host = server.host()?.trim_start_matches('[').trim_end_matches(']');
    let mut addresses = (host, server.port_u16().unwrap_or(443)).to_socket_addrs().ok()?;
    addresses.find_map(way_to)
}

fn way_out() -> Option<IpAddr> {
    ELSEWHERE.into_iter().find_map(|there| way_to(SocketAddr::new(there, 9)))
}

/// Asks the kernel for a route. Connecting a UDP socket sends nothing.
fn way_to(there: SocketAddr) -> Option<IpAddr> {
    let any = match there {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(there).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// The first of IPv4, or else the first of IPv6 that is good beyond one wire.
fn first_address() -> Option<IpAddr> {
    let addresses = getifaddrs().ok()?;
    let own = [BRIDGE, DNS_INTERFACE, SERVICES_INTERFACE];
    let addresses = addresses.filter(|it| !own.contains(&it.interface_name.as_str()));
    let addresses = addresses.filter_map(|it| ip_of(&it.address?));
    let usable: Vec<_> = addresses.filter(|address| !address.is_loopback()).collect();
    let is_wider = |address: &&IpAddr| matches!(address, IpAddr::V6(address) if !address.is_unicast_link_local());
    usable
        .iter()
        .find(|address| address.is_ipv4())
        .or_else(|| usable.iter().find(is_wider))
        .copied()
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}
