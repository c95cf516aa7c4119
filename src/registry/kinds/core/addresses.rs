//! Addresses and ports of endpoints, as Endpoints, EndpointSlices and Services have them.

use crate::api::{FieldError, FieldPath};
use crate::registry::checks::parse_ip;
use std::net::IpAddr;

pub(in crate::registry::kinds) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// Addresses that no endpoint can have (upstream `ValidateEndpointIP`, pkg/apis/core/validation,
/// v1.35).
pub(in crate::registry::kinds) fn validate_endpoint_ip(
    address: &str,
    path: &FieldPath,
) -> Vec<FieldError> {
    let Some(ip) = parse_ip(address) else {
        return vec![FieldError::invalid(path, address, "must be a valid IP address")];
    };
    let ip = ip.to_canonical();
    let unspecified = format!("may not be unspecified ({address})");
    [
        (ip.is_unspecified(), unspecified.as_str()),
        (ip.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (is_link_local(ip), "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (
            is_link_local_multicast(ip),
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
    ]
    .into_iter()
    .filter(|(is_wrong, _)| *is_wrong)
    .map(|(_, detail)| FieldError::invalid(path, address, detail))
    .collect()
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn is_link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_machine_or_one_link_are_no_endpoints() {
        for (address, words) in [
            ("10.0.0.1", ""),
            ("fd00::1", ""),
            ("224.0.1.1", ""),
            ("x", "must be a valid IP address"),
            ("0.0.0.0", "may not be unspecified (0.0.0.0)"),
            ("::", "may not be unspecified (::)"),
            ("127.0.0.1", "loopback range"),
            ("::1", "loopback range"),
            ("169.254.1.1", "link-local range"),
            ("fe80::1", "link-local range"),
            ("224.0.0.1", "link-local multicast range"),
            ("ff02::1", "link-local multicast range"),
        ] {
            let errors = validate_endpoint_ip(address, &FieldPath::new("ip"));
            assert_eq!(errors.is_empty(), words.is_empty(), "{address}");
            assert!(errors.iter().all(|error| error.detail.contains(words)), "{address}");
        }
    }
}
