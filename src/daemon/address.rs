//! The address of this node, where nobody names one.

use super::config::{BRIDGE, DNS_INTERFACE};
use nix::ifaddrs::getifaddrs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};

/// An address that is nobody's (RFC 5737): it stands for "away from here".
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

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
    way_to(SocketAddr::from((ELSEWHERE, 9)))
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

fn first_address() -> Option<IpAddr> {
    let addresses = getifaddrs().ok()?;
    let own = [BRIDGE, DNS_INTERFACE];
    let addresses = addresses.filter(|it| !own.contains(&it.interface_name.as_str()));
    let mut addresses = addresses
        .filter_map(|it| it.address)
        .filter_map(|address| address.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip));
    addresses.find(|address| !address.is_loopback()).map(IpAddr::V4)
}
