//! Which families, addresses and ports a Service can have. Pure.

use crate::api::{FieldError, FieldPath};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// A version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(cidr: &IpNet) -> Self {
        match cidr {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// The families that a cluster with these ranges has, the first one first.
pub(super) fn offered(cidrs: &[IpNet]) -> Vec<Family> {
    let mut families = Vec::new();
    for family in cidrs.iter().map(Family::of) {
        if !families.contains(&family) {
            families.push(family);
        }
    }
    families
}

/// The families that a Service gets (upstream `initIPFamilyFields`).
pub(super) fn families(spec: &ServiceSpec, offered: &[Family]) -> Result<Vec<Family>, FieldError> {
    let path = FieldPath::new("spec");
    let mut families = Vec::new();
    for (index, name) in spec.ip_families.iter().flatten().enumerate() {
        let path = path.child("ipFamilies").index(index);
        let family = match name.as_str() {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            other => return Err(FieldError::not_supported(&path, other, &["IPv4", "IPv6"])),
        };
        if !offered.contains(&family) {
            let why = "not configured on this cluster";
            return Err(FieldError::invalid(&path, name.as_str(), why));
        }
        families.push(family);
    }
    let addresses = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let asked = addresses.filter_map(|text| text.parse::<IpAddr>().ok());
    if families.is_empty() {
        for family in asked.map(|address| Family::of(&IpNet::from(address))) {
            if !families.contains(&family) {
                families.push(family);
            }
        }
    }
    if families.is_empty() {
        families.extend(offered.first());
    }
    let others = offered.iter().filter(|family| !families.contains(family));
    let others: Vec<_> = others.copied().collect();
    match spec.ip_family_policy.as_deref() {
        Some("PreferDualStack") => families.extend(others),
        Some("RequireDualStack") if offered.len() < 2 => {
            let why = "this cluster is not configured for dual-stack services";
            let path = path.child("ipFamilyPolicy");
            return Err(FieldError::invalid(&path, "RequireDualStack", why));
        }
        Some("RequireDualStack") => families.extend(others),
        _ => {}
    }
    Ok(families)
}

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

/// Whether a Service may have this address of the range.
pub(super) fn is_assignable(cidr: &IpNet, address: IpAddr) -> bool {
    let is_broadcast = matches!(cidr, IpNet::V4(_)) && address == cidr.broadcast();
    cidr.contains(&address) && address != cidr.network() && !is_broadcast
}

pub(super) fn address_at(cidr: &IpNet, offset: u64) -> IpAddr {
    match cidr.network() {
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
    fn addresses_come_from_the_upper_part_first() {
        let cidr: IpNet = "10.43.0.0/16".parse().unwrap();
        let band = Band::of_addresses(&cidr);
        assert_eq!(band, Band { first: 1, upper: 256, end: 65_535 });
        assert_eq!(address_at(&cidr, 256).to_string(), "10.43.1.0");
        assert_eq!(band.all().count(), 65_534);
        assert!((0..100).all(|lot| band.by_lot(lot).unwrap() >= 256));
        let small = Band::of_addresses(&"10.0.0.0/29".parse().unwrap());
        assert_eq!(small.all().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn ports_come_from_the_upper_part_first() {
        assert_eq!(Band::of_ports(&(30_000..=32_767)), Band { first: 0, upper: 86, end: 2_768 });
    }

    fn check(policy: Option<&str>, asked: &[&str], cidrs: &[&str], expected: &str) {
        let cidrs: Vec<IpNet> = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        let spec = ServiceSpec {
            ip_family_policy: policy.map(str::to_owned),
            ip_families: Some(asked.iter().map(ToString::to_string).collect()),
            ..ServiceSpec::default()
        };
        let result = match families(&spec, &offered(&cidrs)) {
            Ok(families) => {
                families.iter().map(|family| family.name()).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.path.to_string(),
        };
        assert_eq!(result, expected, "{policy:?} {asked:?} {cidrs:?}");
    }

    #[test]
    fn families_follow_the_policy() {
        let (v4, v6) = ("10.43.0.0/16", "fd00::/112");
        check(None, &[], &[v4, v6], "IPv4");
        check(None, &[], &[v6, v4], "IPv6");
        check(Some("PreferDualStack"), &[], &[v4, v6], "IPv4 IPv6");
        check(Some("PreferDualStack"), &[], &[v4], "IPv4");
        check(Some("RequireDualStack"), &["IPv6"], &[v4, v6], "IPv6 IPv4");
        check(Some("RequireDualStack"), &[], &[v4], "spec.ipFamilyPolicy");
        check(None, &["IPv6"], &[v4], "spec.ipFamilies[0]");
    }
}
