//! By which addresses of nodes others reach what is served on all of them.

use crate::api::node::ready_status;
use k8s_openapi::api::core::v1::Node;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// Upstream `LabelNodeExcludeBalancers`.
const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Upstream `ToBeDeletedTaint` of the cluster autoscaler.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// Whether clients outside are to be sent to this node: it works, it stays, and its users have not
/// taken it out.
pub(super) fn serves_outside(node: &Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let labels = node.metadata.labels.as_ref();
    ready_status(node) == Some("True")
        && node.metadata.deletion_timestamp.is_none()
        && labels.is_none_or(|labels| !labels.contains_key(EXCLUDE_LABEL))
        && !taints.any(|taint| taint.key == TO_BE_DELETED)
}

/// The addresses of these nodes that clients are told: those that are known outside, where one of
/// the nodes has any.
pub(super) fn published(nodes: &[Arc<Node>]) -> BTreeSet<IpAddr> {
    let outside: BTreeSet<_> = nodes.iter().flat_map(|node| external(node)).collect();
    if !outside.is_empty() {
        return outside;
    }
    nodes.iter().flat_map(|node| internal(node)).collect()
}

pub(super) fn external(node: &Node) -> BTreeSet<IpAddr> {
    of_type(node, "ExternalIP")
}

pub(super) fn internal(node: &Node) -> BTreeSet<IpAddr> {
    of_type(node, "InternalIP")
}

fn of_type(node: &Node, kind: &str) -> BTreeSet<IpAddr> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let of_kind = addresses.filter(|address| address.type_ == kind);
    of_kind.filter_map(|address| address.address.parse().ok()).collect()
}
