//! The ways to pods of other nodes, kept by what the Node objects say.

use super::access::OfNode;
use super::config::Layout;
use crate::api::node::{AGENT_PREFIX, AGENTS, wireguard_key_of_node};
use crate::apiserver::Identity;
use crate::network::NetworkError;
use crate::network::overlay::{self, Backend, Means, Member, OverlayConfig};
use crate::pki::WireGuardKey;
use crate::stdx::{Tasks, blocking};
use crate::sys::wireguard::Control;
use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// What the backend of the cluster takes of this node, looked for before anything rests on it. `None`:
/// somebody else sees to it.
pub(super) async fn prepare(
    backend: Option<Backend>,
    layout: &Layout,
) -> anyhow::Result<Option<Means>> {
    Ok(match backend {
        None => None,
        Some(Backend::Vxlan) => Some(Means::Vxlan),
        Some(Backend::HostGateway) => Some(Means::HostGateway),
        Some(Backend::WireGuard) => {
            blocking(Control::open).await.context(
                "nodes of this cluster reach each other by WireGuard (--flannel-backend of the \
                 server; the others are vxlan, host-gw and none)",
            )?;
            Some(Means::WireGuard(WireGuardKey::open(&layout.wireguard_key())?))
        }
    })
}

/// Starts to keep them.
pub(super) fn start(
    of_node: &OfNode<'_>,
    means: Means,
    tasks: &mut Tasks,
) -> Result<(), NetworkError> {
    let OfNode { config, cluster, parts, .. } = *of_node;
    let (node, address) = (config.name.clone(), config.ips[0]);
    let cluster_cidrs = cluster.cluster_cidrs.clone();
    let own = format!("{AGENT_PREFIX}{node}");
    let client = parts.client(Identity::new(&own, &[AGENTS]));
    let members = watch::Sender::new(None);
    let own = OverlayConfig { means, node, address, cluster_cidrs };
    overlay::start(own, members.subscribe(), tasks)?;
    let nodes = parts.shared(&client, tasks, |caches| &caches.nodes);
    let shutdown = tasks.shutdown();
    tasks.spawn("nodes", async move {
        let follow = async {
            nodes.synced().await;
            let (of_changes, changed) = (watch::Sender::new(()), Arc::clone(&nodes));
            let mut changes = of_changes.subscribe();
            changed.on_change(move |change| {
                // Most of what nodes say of themselves is about something else.
                if change.old.as_deref().map(member) != change.new.as_deref().map(member) {
                    of_changes.send_replace(());
                }
            });
            loop {
                let known = nodes.list().iter().map(|node| member(node)).collect();
                members.send_replace(Some(known));
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        shutdown.run_until_cancelled(follow).await;
    });
    Ok(())
}

/// What of a node matters to packets.
fn member(node: &Node) -> Member {
    let (spec, status) = (node.spec.as_ref(), node.status.as_ref());
    let ranges = spec.and_then(|spec| spec.pod_cidrs.as_ref()).into_iter().flatten();
    let addresses = status.and_then(|status| status.addresses.as_ref()).into_iter().flatten();
    let addresses: Vec<_> = addresses.collect();
    let of_type = |kind: &'static str| {
        let addresses = addresses.iter().filter(move |address| address.type_ == kind);
        addresses.filter_map(|address| address.address.parse::<IpAddr>().ok())
    };
    let since = node.metadata.creation_timestamp.as_ref().map(|time| time.0);
    Member {
        name: node.metadata.name.clone().unwrap_or_default(),
        ranges: ranges.filter_map(|range| range.parse().ok()).collect(),
        addresses: of_type("InternalIP").chain(of_type("ExternalIP")).collect(),
        key: wireguard_key_of_node(node).and_then(|key| key.parse().ok()),
        since: since.unwrap_or(Timestamp::MIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::wireguard::PublicKey;
    use serde_json::json;

    #[test]
    fn nodes_are_where_they_say() {
        let node = json!({
            "metadata": {
                "name": "two",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {
                    "kinglet.dev/wireguard-key": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
                },
            },
            "spec": {"podCIDRs": ["10.42.1.0/24", "fd42:0:0:1::/64", "odd"]},
            "status": {"addresses": [
                {"type": "ExternalIP", "address": "198.51.100.2"},
                {"type": "InternalIP", "address": "192.0.2.2"},
                {"type": "Hostname", "address": "two"},
            ]},
        });
        let member = member(&serde_json::from_value(node).unwrap());
        assert_eq!(format!("{:?}", member.addresses), "[192.0.2.2, 198.51.100.2]");
        assert_eq!(member.key, Some(PublicKey([1; 32])));
        assert_eq!(format!("{:?}", member.ranges), "[10.42.1.0/24, fd42:0:0:1::/64]");
    }
}
