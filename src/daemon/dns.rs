//! The cluster's DNS on this node, with what it looks at.

use super::config::{Component, DNS_INTERFACE, ServerConfig};
use super::control_plane::ControlPlane;
use crate::apiserver::Identity;
use crate::client::{Client, EventRecorder, Reporter, key_of};
use crate::dns::{self, Config, kube_dns};
use crate::network::local_addresses;
use crate::stdx::{Clock, Entropy, Tasks, chain};
use k8s_openapi::api::core::v1::Service;
use tracing::warn;

/// Whose rights it has: the account that coredns has everywhere else.
const ACCOUNT: &str = "coredns";

/// Starts the DNS, or takes away what an earlier start has left where it is not wanted any more.
pub(super) async fn start(
    config: &ServerConfig,
    clock: &Clock,
    control_plane: &ControlPlane,
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    if !config.has(Component::Dns) || config.cluster_dns.is_empty() {
        if let Err(error) = local_addresses::release(DNS_INTERFACE).await {
            warn!(error = chain(&error), "the DNS that was here before has left its addresses");
        }
        return Ok(());
    }
    let client = control_plane.client(Identity::service_account("kube-system", ACCOUNT));
    let settings = Config {
        domain: config.cluster_domain.clone(),
        addresses: config.cluster_dns.clone(),
        interface: DNS_INTERFACE.to_owned(),
        ranges: [&config.cluster_cidrs[..], &config.service_cidrs].concat(),
        resolv_conf: "/etc/resolv.conf".into(),
        entropy: Entropy::system(),
    };
    let sources = control_plane.dns_sources(&client, tasks);
    let reporter = Reporter { component: "dns".to_owned(), host: config.node_name.clone() };
    let recorder = EventRecorder::start(client, reporter, clock.clone(), tasks);
    dns::start(settings, sources, recorder, tasks)?;
    let maker = control_plane.client(Identity::api_server());
    make_service(maker, config, tasks);
    Ok(())
}

/// The Service by which some programs find the DNS. Names work without it.
fn make_service(client: Client, config: &ServerConfig, tasks: &mut Tasks) {
    let Some(service) = kube_dns(&config.cluster_dns, &config.service_cidrs) else { return };
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
