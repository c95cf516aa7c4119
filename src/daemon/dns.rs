//! The cluster's DNS on this node, with what it looks at.

use super::access::OfNode;
use super::config::{ClusterConfig, Component, DNS_INTERFACE};
use crate::apiserver::Identity;
use crate::client::{Client, EventRecorder, Reporter, key_of};
use crate::dns::{self, Config, Dns, kube_dns};
use crate::network::local_addresses;
use crate::stdx::{Entropy, Tasks, chain};
use k8s_openapi::api::core::v1::Service;
use tracing::warn;

/// Whose rights it has: the account that coredns has everywhere else.
const ACCOUNT: &str = "coredns";

/// Starts the DNS; `None` where it is not wanted, and then takes away what an earlier start has left.
pub(super) async fn start(of_node: &OfNode<'_>, tasks: &mut Tasks) -> anyhow::Result<Option<Dns>> {
    let OfNode { config, cluster, parts, clock } = *of_node;
    if !config.has(Component::Dns) || cluster.cluster_dns.is_empty() {
        if let Err(error) = local_addresses::release(DNS_INTERFACE).await {
            warn!(error = chain(&error), "the DNS that was here before has left its addresses");
        }
        return Ok(None);
    }
    let client = parts.client(Identity::service_account("kube-system", ACCOUNT));
    let settings = Config {
        node: config.name.clone(),
        domain: cluster.cluster_domain.clone(),
        addresses: cluster.cluster_dns.clone(),
        interface: DNS_INTERFACE.to_owned(),
        ranges: [&cluster.cluster_cidrs[..], &cluster.service_cidrs].concat(),
        resolv_conf: "/etc/resolv.conf".into(),
        entropy: Entropy::system(),
    };
    let sources = parts.dns_sources(&client, tasks);
    let reporter = Reporter { component: "dns".to_owned(), host: config.name.clone() };
    let recorder = EventRecorder::start(client, reporter, clock.clone(), tasks);
    let started = dns::start(settings, sources, recorder, tasks)?;
    make_service(parts.client(Identity::api_server()), cluster, tasks);
    Ok(Some(started))
}

/// The Service by which some programs find the DNS. Names work without it.
fn make_service(client: Client, cluster: &ClusterConfig, tasks: &mut Tasks) {
    let Some(service) = kube_dns(&cluster.cluster_dns, &cluster.service_cidrs) else { return };
    let shutdown = tasks.shutdown();
    tasks.spawn("kube-dns", async move {
        let found = client.get::<Service>(&key_of(&service.metadata)).await;
        if found.is_err_and(|error| error.is_not_found())
            && let Err(error) = client.create(&service).await
        {
            warn!(error = chain(&error), "there is no Service kube-system/kube-dns");
        }
        shutdown.cancelled().await;
    });
}
