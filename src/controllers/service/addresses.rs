//! By which addresses of which nodes a Service is reached from outside. As k3s's servicelb decides
//! it (pkg/cloudprovider/servicelb.go), but that a node that cannot serve is told from its
//! conditions and the ports that are taken there, not from pods.

use super::super::node_addresses::{external, internal, published, serves_outside};
use super::super::service_pods::selects;
use crate::api::ObjectKey;
use crate::client::key_of;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Service};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Where a node has this label, only nodes have Services from outside where it is `true`.
const ENABLE_LABEL: &str = "svccontroller.k3s.cattle.io/enablelb";
/// A Service with this label is on those nodes alone that have it with the same value.
const POOL_LABEL: &str = "svccontroller.k3s.cattle.io/lbpool";
/// A port of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    pub port: u16,
}

/// Where a Service can be, and what keeps it from being elsewhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Placement {
    pub(super) nodes: Vec<Arc<Node>>,
    /// Ports that another has on a node: which, and who.
    pub(super) taken: BTreeMap<HostPort, String>,
}

/// Whether a Service is to be reached from outside by these means: without a class, whoever serves
/// the cluster serves it (upstream `wantsLoadBalancer`).
pub(super) fn is_balanced(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.is_none()
    })
}

/// Whether only nodes count that have a pod of the Service.
pub(super) fn is_local(service: &Service) -> bool {
    let policy = service.spec.as_ref().and_then(|spec| spec.external_traffic_policy.as_deref());
    policy == Some("Local")
}

/// What of a node makes a difference here.
pub(super) fn view(node: &Node) -> impl PartialEq + use<> {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let label = |name: &str| labels.get(name).cloned();
    let labels = [ENABLE_LABEL, POOL_LABEL].map(label);
    (labels, serves_outside(node), external(node), internal(node))
}

/// Where `service` is. A port of a node is for one Service: of `all` the older ones come first.
pub(super) fn place(
    service: &Service,
    all: &[Arc<Service>],
    nodes: &[Arc<Node>],
    reserved: &[HostPort],
) -> Placement {
    let mut placement = Placement::default();
    let own = ports(service);
    let own_rank = rank(service);
    let older: Vec<_> = all.iter().filter(|other| rank(other) < own_rank).collect();
    for node in chosen(service, nodes) {
        let taken = taken_on(node, &older, nodes, reserved);
        let in_the_way: Vec<_> =
            own.iter().filter_map(|port| Some((port.clone(), taken.get(port)?.clone()))).collect();
        if in_the_way.is_empty() {
            placement.nodes.push(Arc::clone(node));
        }
        placement.taken.extend(in_the_way);
    }
    placement
}

/// The ports of a node that are not to be had, and whose they are. Of two older Services with one
/// port the younger does not have it either, and takes none of its others.
fn taken_on(
    node: &Arc<Node>,
    older: &[&Arc<Service>],
    nodes: &[Arc<Node>],
    reserved: &[HostPort],
) -> BTreeMap<HostPort, String> {
    let mut taken: BTreeMap<_, _> =
        reserved.iter().map(|port| (port.clone(), "the node itself".to_owned())).collect();
    let mut older = older.to_vec();
    older.sort_by_key(|service| rank(service));
    for service in older {
        let is_there = chosen(service, nodes).any(|other| Arc::ptr_eq(other, node));
        let ports = ports(service);
        if is_there && !ports.iter().any(|port| taken.contains_key(port)) {
            let owner = format!("Service {}", key_of(&service.metadata));
            taken.extend(ports.into_iter().map(|port| (port, owner.clone())));
        }
    }
    taken
}

/// The nodes that may have the Service, if its ports are free there.
fn chosen<'a>(
    service: &Service,
    nodes: &'a [Arc<Node>],
) -> impl Iterator<Item = &'a Arc<Node>> + use<'a> {
    let has_label = |node: &Arc<Node>, name: &str| {
        node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(name))
    };
    let mut wanted = BTreeMap::new();
    if nodes.iter().any(|node| has_label(node, ENABLE_LABEL)) {
        wanted.insert(ENABLE_LABEL.to_owned(), "true".to_owned());
        let pool = service.metadata.labels.as_ref().and_then(|labels| labels.get(POOL_LABEL));
        wanted.extend(pool.map(|pool| (POOL_LABEL.to_owned(), pool.clone())));
    }
    nodes.iter().filter(move |node| serves_outside(node) && selects(&wanted, &node.metadata))
}

/// Who comes first.
fn rank(service: &Service) -> (Option<Timestamp>, ObjectKey) {
    let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (created, key_of(&service.metadata))
}

fn ports(service: &Service) -> Vec<HostPort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let ports = ports.filter_map(|port| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        Some(HostPort { protocol, port: u16::try_from(port.port).ok()? })
    });
    ports.collect()
}

/// The addresses of these nodes that are of the Service's families, in the order of those.
pub(super) fn addresses_of(service: &Service, nodes: &[Arc<Node>]) -> Vec<IpAddr> {
    let addresses = published(nodes);
    let families = service.spec.iter().flat_map(|spec| spec.ip_families.iter().flatten());
    let of_family = |family: &String| {
        let is_ipv4 = family == "IPv4";
        addresses.iter().filter(move |address| address.is_ipv4() == is_ipv4).copied()
    };
    families.flat_map(of_family).collect()
}
