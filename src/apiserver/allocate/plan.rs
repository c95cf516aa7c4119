//! Which addresses and ports a Service can have. Pure.

use super::families::Family;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

pub(super) fn wants_node_ports(spec: &ServiceSpec) -> bool {
    match spec.type_.as_deref() {
        Some("NodePort") => true,
        Some("LoadBalancer") => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    }
}

/// The node ports of a Service: one port in several protocols has one of them.
#[derive(Debug, Default)]
pub(super) struct SharedPorts {
    /// By port: the first two of different protocols, each with its node port. One of them is of
    /// another protocol than any that is looked for.
    by_port: HashMap<i32, Vec<(Option<String>, i32)>>,
}

impl SharedPorts {
    pub(super) fn of(ports: &[ServicePort]) -> Self {
        let mut shared = Self::default();
        ports.iter().for_each(|port| shared.add(port));
        shared
    }

    pub(super) fn add(&mut self, port: &ServicePort) {
        let Some(node_port) = port.node_port.filter(|node_port| *node_port != 0) else { return };
        let known = self.by_port.entry(port.port).or_default();
        if known.len() < 2 && known.iter().all(|(protocol, _)| *protocol != port.protocol) {
            known.push((port.protocol.clone(), node_port));
        }
    }

    /// The node port that `port` has in another protocol.
    pub(super) fn find(&self, port: &ServicePort) -> Option<i32> {
        let known = self.by_port.get(&port.port)?;
        known.iter().find(|(protocol, _)| *protocol != port.protocol).map(|(_, port)| *port)
    }
}

/// A load balancer asks the nodes which of them have a pod of the Service.
pub(super) fn wants_health_check_port(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("LoadBalancer")
        && spec.external_traffic_policy.as_deref() == Some("Local")
}

/// Offsets in a range of which the upper part is drawn from first: the lower part is left to those
/// who ask for one by name (upstream `calculateRangeOffset`, KEP-3070 and KEP-3668).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Band {
    first: u64,
    upper: u64,
    /// Exclusive.
    end: u64,
}

/// The lower part has at least this many.
const LOWER_MIN: u64 = 16;

impl Band {
    /// Without the network's own address and, for IPv4, the broadcast address.
    pub(super) fn of_addresses(cidr: &IpNet) -> Self {
        let bits = u32::from(cidr.max_prefix_len() - cidr.prefix_len());
        let size = 1_u64.checked_shl(bits.min(62)).unwrap_or(u64::MAX);
        let end = if matches!(cidr, IpNet::V4(_)) { size.saturating_sub(1) } else { size };
        Self::new(1, end, (size / 16).clamp(LOWER_MIN, 256))
    }

    pub(super) fn of_ports(range: &RangeInclusive<u16>) -> Self {
        let size = u64::from(range.end().saturating_sub(*range.start())) + 1;
        Self::new(0, size, (size / 32).clamp(LOWER_MIN, 128))
    }

    fn new(first: u64, end: u64, lower: u64) -> Self {
        let upper = if lower >= end { first } else { lower.max(first) };
        Self { first, upper, end }
    }

    /// One of the upper part.
    pub(super) fn by_lot(self, lot: u128) -> Option<u64> {
        let count = self.end.checked_sub(self.upper).filter(|count| *count > 0)?;
        let drawn = u64::try_from(lot % u128::from(count)).expect("less than a u64");
        Some(self.upper + drawn)
    }

    /// All, the upper part first.
    pub(super) fn all(self) -> impl Iterator<Item = u64> {
        (self.upper..self.end).chain(self.first..self.upper)
    }
}

/// The ranges that a ServiceCIDR offers now: none while it is on its way out, or is said not to be
/// ready (upstream `isReady`).
pub(super) fn usable(range: &ServiceCIDR) -> Vec<IpNet> {
    let conditions = range.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    let is_ready = ready.is_none_or(|condition| condition.status == "True");
    if !is_ready || range.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let cidrs = range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    cidrs.filter_map(|cidr| cidr.parse().ok()).collect()
}

/// Whether the Service can have the address, and why not.
pub(super) fn check_address(ranges: &[IpNet], address: IpAddr) -> Result<(), String> {
    if ranges.iter().any(|range| is_assignable(range, address)) {
        return Ok(());
    }
    let family = Family::of_address(address);
    let own = ranges.iter().filter(|range| Family::of(range) == family);
    let own: Vec<_> = own.map(ToString::to_string).collect();
    Err(format!(
        "the provided IP ({address}) is not in the valid range. The range of valid IPs is {}",
        own.join(", ")
    ))
}

/// Whether a Service may have this address of the range.
fn is_assignable(cidr: &IpNet, address: IpAddr) -> bool {
    let is_broadcast = matches!(cidr, IpNet::V4(_)) && address == cidr.broadcast();
    cidr.contains(&address) && address != cidr.network() && !is_broadcast
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_come_from_the_upper_part_first() {
        let cidr: IpNet = "10.43.0.0/16".parse().unwrap();
        let band = Band::of_addresses(&cidr);
        assert_eq!(band, Band { first: 1, upper: 256, end: 65_535 });
        assert_eq!(band.all().count(), 65_534);
        assert!((0..100).all(|lot| band.by_lot(lot).unwrap() >= 256));
        let small = Band::of_addresses(&"10.0.0.0/29".parse().unwrap());
        assert_eq!(small.all().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn ports_come_from_the_upper_part_first() {
        assert_eq!(Band::of_ports(&(30_000..=32_767)), Band { first: 0, upper: 86, end: 2_768 });
    }

    #[test]
    fn ranges_that_are_not_ready_offer_nothing() {
        let offers = |metadata: serde_json::Value, status: serde_json::Value| {
            let spec = json!({"cidrs": ["10.96.0.0/16", "fd00::/112"]});
            let range = json!({"metadata": metadata, "spec": spec, "status": status});
            usable(&serde_json::from_value(range).unwrap()).len()
        };
        let ready = |status: &str| {
            json!({"conditions": [{"type": "Ready", "status": status, "reason": "", "message": "",
                "lastTransitionTime": "2026-11-20T12:00:00Z"}]})
        };
        assert_eq!(offers(json!({}), json!({})), 2);
        assert_eq!(offers(json!({}), ready("True")), 2);
        assert_eq!(offers(json!({}), ready("False")), 0);
        let going = json!({"deletionTimestamp": "2026-11-20T12:00:00Z"});
        assert_eq!(offers(going, ready("True")), 0);
    }

    #[test]
    fn an_address_is_in_one_of_the_ranges() {
        let ranges = ["10.43.0.0/16", "10.96.0.0/16", "fd00::/112"].map(|it| it.parse().unwrap());
        let check = |address: &str| check_address(&ranges, address.parse().unwrap());
        assert_eq!(check("10.96.0.1"), Ok(()));
        assert_eq!(check("fd00::"), Err("the provided IP (fd00::) is not in the valid range. The range of valid IPs is fd00::/112".to_owned()));
        assert!(check("10.43.0.0").unwrap_err().ends_with("10.43.0.0/16, 10.96.0.0/16"));
        assert!(check("10.43.255.255").is_err());
    }
}
