//! The ways to pods of other nodes, kept by what the Node objects say.

use super::access::{AGENT_PREFIX, AGENTS, OfNode};
use crate::apiserver::Identity;
use crate::network::NetworkError;
use crate::network::overlay::{self, Member, OverlayConfig};
use crate::stdx::Tasks;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// Starts to keep them, where this cluster has them kept.
pub(super) fn start(of_node: &OfNode<'_>, tasks: &mut Tasks) -> Result<(), NetworkError> {
    let OfNode { config, cluster, parts, .. } = *of_node;
    let Some(backend) = cluster.overlay else { return Ok(()) };
    let (node, address) = (config.name.clone(), config.ips[0]);
    let own = format!("{AGENT_PREFIX}{node}");
    let client = parts.client(Identity::new(&own, &[AGENTS]));
    let members = watch::Sender::new(None);
    overlay::start(OverlayConfig { backend, node, address }, members.subscribe(), tasks)?;
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
        since: since.unwrap_or(Timestamp::MIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nodes_are_where_they_say() {
        let node = json!({
            "metadata": {"name": "two", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"podCIDRs": ["10.42.1.0/24", "fd42:0:0:1::/64", "odd"]},
            "status": {"addresses": [
                {"type": "ExternalIP", "address": "198.51.100.2"},
                {"type": "InternalIP", "address": "192.0.2.2"},
                {"type": "Hostname", "address": "two"},
            ]},
        });
        let member = member(&serde_json::from_value(node).unwrap());
        assert_eq!(format!("{:?}", member.addresses), "[192.0.2.2, 198.51.100.2]");
        assert_eq!(format!("{:?}", member.ranges), "[10.42.1.0/24, fd42:0:0:1::/64]");
    }
}
