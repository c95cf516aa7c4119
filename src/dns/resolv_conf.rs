//! Which servers the node itself asks. Pure.

use nix::net::if_::if_nametoindex;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// The servers of a resolv.conf(5), but for those at `own` addresses, which would ask themselves.
pub(super) fn servers(text: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let server = words.next().and_then(server);
        let is_new = |server: &SocketAddr| !own.contains(&server.ip()) && !servers.contains(server);
        if let Some(server) = server.filter(is_new) {
            servers.push(server);
        }
    }
    servers
}

/// An address, with a port if it is not the usual one: `192.0.2.1`, `[2001:db8::1]:5353`,
/// `fe80::1%eth0`.
pub(super) fn server(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address);
    }
    if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Some(SocketAddr::new(address, super::serve::PORT));
    }
    let (address, interface) = text.split_once('%')?;
    let scope = interface.parse().ok().or_else(|| if_nametoindex(interface).ok())?;
    Some(SocketAddrV6::new(address.parse().ok()?, super::serve::PORT, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_those_of_the_file() {
        let own = ["10.43.0.10".parse().unwrap()];
        let text = "# nameserver 192.0.2.9\nsearch lan\nnameserver 192.0.2.1\n\
                    nameserver 10.43.0.10\nnameserver fe80::1%7\nnameserver 192.0.2.1\nnameserver\n\
                    nameserver nonsense\n  nameserver 127.0.0.53\n";
        let servers: Vec<_> = servers(text, &own).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[fe80::1%7]:53", "127.0.0.53:53"]);
        assert_eq!(server("[2001:db8::1]:5353").unwrap().to_string(), "[2001:db8::1]:5353");
        assert_eq!(server("[2001:db8::1]").unwrap().to_string(), "[2001:db8::1]:53");
        assert_eq!(server("192.0.2.1:5353").unwrap().port(), 5353);
        assert_eq!(server("example.org"), None);
    }
}
