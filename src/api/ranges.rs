//! Addresses of a range by their number.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address so far from the first one, which is the network's own; the API server has the one at
/// 1 of the range of Services, and the DNS that at 10. Where the range ends before, it is none of
/// the range.
#[must_use]
pub fn address_at(range: &IpNet, offset: u64) -> IpAddr {
    match range.network() {
        IpAddr::V4(first) => {
            let offset = u32::try_from(offset).unwrap_or(u32::MAX);
            IpAddr::V4(Ipv4Addr::from_bits(first.to_bits().saturating_add(offset)))
        }
        IpAddr::V6(first) => {
            let bits = first.to_bits().saturating_add(u128::from(offset));
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_counted_from_the_networks_own() {
        for (range, offset, expected) in [
            ("10.43.0.0/16", 1, "10.43.0.1"),
            ("10.43.0.0/16", 256, "10.43.1.0"),
            ("fd43::/112", 1, "fd43::1"),
            ("fd43::/112", 10, "fd43::a"),
        ] {
            assert_eq!(address_at(&range.parse().unwrap(), offset).to_string(), expected);
        }
    }
}
