//! The proxy of this node, for Services.

use super::access::OfNode;
use super::config::{Component, SERVICES_INTERFACE};
use crate::network::local_addresses;
use crate::proxy::{self, Proxy};
use crate::stdx::{Tasks, chain};
use tracing::warn;

/// Has this node send to endpoints what is sent to Services, unless somebody else sees to that.
pub(super) async fn start(of_node: &OfNode<'_>, tasks: &mut Tasks) -> Option<Proxy> {
    let OfNode { config, cluster, parts, clock } = *of_node;
    if !config.has(Component::Proxy) {
        // Where there is no nft there are no rules either.
        if let Err(error) = proxy::remove().await {
            warn!(error = chain(&error), "the rules of Services were not taken away");
        }
        if let Err(error) = local_addresses::release(SERVICES_INTERFACE).await {
            warn!(error = chain(&error), "the routes to Services were not taken away");
        }
        return None;
    }
    let settings = proxy::Config {
        node_name: config.name.clone(),
        node_ips: config.ips.clone(),
        cluster_cidrs: cluster.cluster_cidrs.clone(),
        service_cidrs: cluster.service_cidrs.clone(),
        interface: SERVICES_INTERFACE.to_owned(),
    };
    Some(proxy::start(settings, parts.proxy_parts(&config.name, clock, tasks), tasks))
}
