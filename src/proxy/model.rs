//! What of a Service and its slices the rules depend on: a [`Port`] for each port and family.
//!
//! Upstream: `newBaseServiceInfo` (pkg/proxy/serviceport.go), `ShouldSkipService` and
//! `GetClusterIPByFamily` (pkg/proxy/util/utils.go), v1.35.

use super::element::{Family, Frontend, Place};
use super::endpoints::{self, Endpoint, Wanted};
use super::topology::{Here, Policies, Policy, Reachable, reachable};
use crate::network::Protocol;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Says that somebody else sees to a Service.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Says that a slice belongs to a headless Service; a Service with it is to be taken for one.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Says of which Service a slice is.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// How long a client stays with its endpoint where nobody has said so (upstream's
/// `DefaultClientIPServiceAffinitySeconds`).
const STICKY_SECONDS_DEFAULT: u32 = 10_800;

/// More endpoints of one port are left out: numbers of endpoints have this much room.
pub(super) const ENDPOINTS_MAX: usize = 65_535;

/// This node, as far as Services are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeView {
    pub(super) name: String,
    pub(super) zone: Option<String>,
    pub(super) addresses: Vec<IpAddr>,
}

/// One port of a Service, in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    /// `namespace/service/port`, where a port without a name has none.
    pub(super) name: String,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    pub(super) cluster_address: IpAddr,
    pub(super) node_port: Option<u16>,
    pub(super) external_addresses: Vec<IpAddr>,
    /// Addresses of load balancers that hand packets on as they are.
    pub(super) balanced_addresses: Vec<IpAddr>,
    /// Who may send to these; everybody where it is empty.
    pub(super) sources: Vec<IpNet>,
    /// A client's connections go to one endpoint, until none has come for this long.
    pub(super) sticky_seconds: Option<u32>,
    pub(super) policies: Policies,
    pub(super) reachable: Reachable,
    /// Those that connections which are there already may keep, whatever the policies say.
    pub(super) serving: BTreeSet<SocketAddr>,
}

impl Port {
    pub(super) fn family(&self) -> Family {
        Family::of(self.cluster_address)
    }

    pub(super) fn at(&self, address: IpAddr) -> Frontend {
        Frontend { place: Place::Address(address), protocol: self.protocol, port: self.port }
    }

    /// Every way in but the cluster address.
    pub(super) fn external_frontends(&self) -> Vec<Frontend> {
        let addresses = self.external_addresses.iter().chain(&self.balanced_addresses);
        let mut frontends: Vec<_> = addresses.map(|address| self.at(*address)).collect();
        let place = Place::Node(self.family());
        let at_node = |port| Frontend { place, protocol: self.protocol, port };
        frontends.extend(self.node_port.map(at_node));
        frontends
    }
}

/// A load balancer asks here whether this node has endpoints of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HealthCheck {
    pub(super) node_port: u16,
    /// Ready pods on this node, each once however many ports it has.
    pub(super) local_endpoints: usize,
}

/// The Service that a slice belongs to, unless it is not for us.
pub(super) fn service_of(slice: &EndpointSlice) -> Option<&str> {
    let labels = slice.metadata.labels.as_ref()?;
    labels.get(SERVICE_NAME).map(String::as_str).filter(|name| is_ours(labels) && !name.is_empty())
}

/// Upstream's proxies watch neither Services nor slices with one of these (cmd/kube-proxy/app/server.go,
/// `Run`, v1.35).
fn is_ours(labels: &BTreeMap<String, String>) -> bool {
    !labels.contains_key(PROXY_NAME) && !labels.contains_key(HEADLESS)
}

/// The ports of a Service. None where it needs no rules.
pub(super) fn ports(
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    node: &NodeView,
) -> Vec<Port> {
    let Some(spec) = spec_to_serve(service) else { return Vec::new() };
    let mut ports = Vec::new();
    for address in cluster_addresses(spec) {
        let terms = Terms::of(service, spec, Family::of(address), node);
        for port in spec.ports.as_deref().unwrap_or_default() {
            ports.extend(one_port(&terms, address, port, (slices, node)));
        }
    }
    ports
}

/// Where and how a load balancer asks for the Service, if it does.
pub(super) fn health_check(
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    node: &str,
) -> Option<HealthCheck> {
    let spec = spec_to_serve(service)?;
    let is_wanted = spec.type_.as_deref() == Some("LoadBalancer")
        && policy(spec.external_traffic_policy.as_deref()) == Policy::Local;
    let node_port = u16::try_from(spec.health_check_node_port?).ok().filter(|port| *port != 0)?;
    let mut local = BTreeSet::new();
    for family in cluster_addresses(spec).into_iter().map(Family::of) {
        for port in spec.ports.as_deref().unwrap_or_default() {
            let Some(protocol) = protocol_of(port) else { continue };
            let name = port.name.as_deref().unwrap_or_default();
            let wanted = Wanted { port: name, protocol, family, node };
            let endpoints = endpoints::of_port(slices.iter().map(Arc::as_ref), &wanted);
            let ready = endpoints.iter().filter(|endpoint| endpoint.is_ready && endpoint.is_local);
            local.extend(ready.map(|endpoint| endpoint.address.ip()));
        }
    }
    is_wanted.then_some(HealthCheck { node_port, local_endpoints: local.len() })
}

/// The specification of a Service that has an address of its own.
fn spec_to_serve(service: &Service) -> Option<&ServiceSpec> {
    let labels = service.metadata.labels.as_ref();
    let spec = service.spec.as_ref().filter(|_| labels.is_none_or(is_ours))?;
    let has_address =
        spec.cluster_ip.as_deref().is_some_and(|address| !matches!(address, "" | "None"));
    (has_address && spec.type_.as_deref() != Some("ExternalName")).then_some(spec)
}

/// One of each family at most.
fn cluster_addresses(spec: &ServiceSpec) -> Vec<IpAddr> {
    let all = spec.cluster_ips.as_deref().filter(|addresses| !addresses.is_empty());
    let all: Vec<_> =
        all.map_or_else(|| spec.cluster_ip.iter().collect(), |all| all.iter().collect());
    let mut addresses: Vec<IpAddr> = parse_all(all);
    let mut families = BTreeSet::new();
    addresses.retain(|address| families.insert(Family::of(*address)));
    addresses
}

/// What all ports of a Service have in common, in one family.
struct Terms {
    name: String,
    external_addresses: Vec<IpAddr>,
    balanced_addresses: Vec<IpAddr>,
    sources: Vec<IpNet>,
    sticky_seconds: Option<u32>,
    internal: Policy,
    external: Policy,
}

impl Terms {
    fn of(service: &Service, spec: &ServiceSpec, family: Family, node: &NodeView) -> Self {
        let in_family = |address: &IpAddr| Family::of(*address) == family;
        let external_addresses: Vec<IpAddr> = parse_all(spec.external_ips.iter().flatten());
        let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let balanced = status.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
        let handed_on =
            balanced.iter().filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
        let balanced: Vec<IpAddr> = parse_all(handed_on.filter_map(|ingress| ingress.ip.as_ref()));
        let balanced_addresses: Vec<_> = balanced.into_iter().filter(in_family).collect();
        Self {
            name: format!(
                "{}/{}",
                service.metadata.namespace.as_deref().unwrap_or_default(),
                service.metadata.name.as_deref().unwrap_or_default()
            ),
            external_addresses: external_addresses.into_iter().filter(in_family).collect(),
            sources: sources(spec, family, node, &balanced_addresses),
            balanced_addresses,
            sticky_seconds: sticky_seconds(spec),
            internal: policy(spec.internal_traffic_policy.as_deref()),
            external: policy(spec.external_traffic_policy.as_deref()),
        }
    }
}

fn one_port(
    terms: &Terms,
    cluster_address: IpAddr,
    port: &ServicePort,
    (slices, node): (&[Arc<EndpointSlice>], &NodeView),
) -> Option<Port> {
    let protocol = protocol_of(port)?;
    let number = u16::try_from(port.port).ok()?;
    let name = port.name.as_deref().unwrap_or_default();
    let family = Family::of(cluster_address);
    let wanted = Wanted { port: name, protocol, family, node: &node.name };
    let mut endpoints = endpoints::of_port(slices.iter().map(Arc::as_ref), &wanted);
    endpoints.truncate(ENDPOINTS_MAX);
    let node_port = port.node_port.and_then(|port| u16::try_from(port).ok());
    let node_port = node_port.filter(|port| *port != 0);
    let policies = Policies {
        internal: terms.internal,
        external: terms.external,
        is_external: node_port.is_some()
            || !terms.external_addresses.is_empty()
            || !terms.balanced_addresses.is_empty(),
    };
    let here = Here { node: &node.name, zone: node.zone.as_deref() };
    Some(Port {
        name: format!("{}/{name}", terms.name),
        protocol,
        port: number,
        cluster_address,
        node_port,
        external_addresses: terms.external_addresses.clone(),
        balanced_addresses: terms.balanced_addresses.clone(),
        sources: terms.sources.clone(),
        sticky_seconds: terms.sticky_seconds,
        policies,
        reachable: reachable(&endpoints, policies, here),
        serving: endpoints.iter().filter(is_serving).map(|endpoint| endpoint.address).collect(),
    })
}

fn is_serving(endpoint: &&Endpoint) -> bool {
    endpoint.is_serving
}

fn protocol_of(port: &ServicePort) -> Option<Protocol> {
    port.protocol.as_deref().map_or(Some(Protocol::Tcp), Protocol::parse)
}

fn policy(text: Option<&str>) -> Policy {
    if text == Some("Local") { Policy::Local } else { Policy::Cluster }
}

/// Who may send to the addresses of load balancers; empty where everybody may. The node's own packets
/// to such an address come from that address, where the node has it.
fn sources(
    spec: &ServiceSpec,
    family: Family,
    node: &NodeView,
    balanced_addresses: &[IpAddr],
) -> Vec<IpNet> {
    let ranges = spec.load_balancer_source_ranges.iter().flatten();
    let ranges: Vec<IpNet> = parse_all(ranges);
    let ranges: Vec<_> =
        ranges.into_iter().filter(|range| Family::of(range.addr()) == family).collect();
    if ranges.iter().any(|range| range.prefix_len() == 0) {
        return Vec::new();
    }
    let mut sources = ranges.clone();
    if node.addresses.iter().any(|own| ranges.iter().any(|range| range.contains(own))) {
        sources.extend(balanced_addresses.iter().copied().map(IpNet::from));
    }
    // The kernel takes no ranges that overlap in part, and none twice.
    IpNet::aggregate(&sources)
}

fn sticky_seconds(spec: &ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|config| config.timeout_seconds);
    Some(seconds.and_then(|seconds| seconds.try_into().ok()).unwrap_or(STICKY_SECONDS_DEFAULT))
}

/// What cannot be read is left out, once per value: validation lets nothing of that kind in, but
/// older objects may have it.
fn parse_all<'a, T: std::str::FromStr + PartialEq>(
    texts: impl IntoIterator<Item = &'a String>,
) -> Vec<T> {
    let mut parsed = Vec::new();
    for value in texts.into_iter().filter_map(|text| text.trim().parse().ok()) {
        if !parsed.contains(&value) {
            parsed.push(value);
        }
    }
    parsed
}
