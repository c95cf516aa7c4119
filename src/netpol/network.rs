//! A pod network whose pods are judged from their first packet on.

use super::keeper::Keeper;
use crate::client::{Client, Selection, revision_of};
use crate::network::{Attached, Attachment, NetworkError, PodNetwork};
use crate::stdx::chain;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::debug;

/// An attachment whose rules are not there by then fails; the kubelet tries again.
const RULES_DEADLINE: Duration = Duration::from_secs(10);

/// A pod network that lets pods begin when the kernel has their rules. See the module.
#[derive(Debug)]
pub struct PolicedNetwork {
    network: Arc<dyn PodNetwork>,
    keeper: Arc<Keeper>,
    client: Client,
}

/// Why rules are not there in time.
#[derive(Debug, thiserror::Error)]
#[error("the kernel does not have them after {} seconds", RULES_DEADLINE.as_secs())]
struct Late;

impl PolicedNetwork {
    pub(super) fn new(network: Arc<dyn PodNetwork>, keeper: Arc<Keeper>, client: Client) -> Self {
        for attached in network.attached() {
            keeper.update(|known| known.attach(attached));
        }
        Self { network, keeper, client }
    }

    async fn attach_and_wait(&self, attachment: Attachment) -> Result<Vec<IpAddr>, NetworkError> {
        let pod = attachment.pod.clone();
        let mut attached = Attached {
            sandbox: attachment.sandbox.clone(),
            pod: attachment.pod.clone(),
            traits: attachment.traits.clone(),
            addresses: Vec::new(),
        };
        attached.addresses = self.network.attach(attachment).await?;
        let addresses = attached.addresses.clone();
        let rules = async {
            self.see_policies(pod.namespace.as_deref().unwrap_or_default()).await;
            let change = self.keeper.update(|known| known.attach(attached));
            self.keeper.applied(change).await;
        };
        match tokio::time::timeout(RULES_DEADLINE, rules).await {
            Ok(()) => Ok(addresses),
            Err(_) => Err(NetworkError::Failed {
                operation: format!("waiting for the network policies of pod {pod}"),
                source: Arc::new(Late),
            }),
        }
    }

    /// Waits until every policy is known that the namespace has now. The watch of them may be behind
    /// the one that brought the pod. Where the API server does not answer, what is known has to do.
    async fn see_policies(&self, namespace: &str) {
        let listed = self.client.list::<NetworkPolicy>(&Selection::namespace(namespace)).await;
        let policies = match listed {
            Ok(listed) => listed.items,
            Err(error) => {
                debug!(error = chain(&error), "going on with the network policies that are known");
                return;
            }
        };
        let newest = policies.iter().filter_map(|policy| revision_of(&policy.metadata)).max();
        let newest = newest.unwrap_or_default();
        self.keeper.wait_known(|known| known.has_policies_through(newest)).await;
    }
}

impl PodNetwork for PolicedNetwork {
    fn configure(&self, pod_cidrs: Vec<IpNet>) -> BoxFuture<'_, Result<(), NetworkError>> {
        async move {
            self.network.configure(pod_cidrs.clone()).await?;
            self.keeper.update(|known| known.set_ranges(pod_cidrs));
            Ok(())
        }
        .boxed()
    }

    fn attach(&self, attachment: Attachment) -> BoxFuture<'_, Result<Vec<IpAddr>, NetworkError>> {
        self.attach_and_wait(attachment).boxed()
    }

    fn detach(&self, sandbox: &str) -> BoxFuture<'_, Result<(), NetworkError>> {
        // Before its address can be another's.
        self.keeper.update(|known| known.keep_attached(|other| other != sandbox));
        self.network.detach(sandbox)
    }

    fn attached(&self) -> Vec<Attached> {
        self.network.attached()
    }

    fn retain(&self, sandboxes: Vec<String>) -> BoxFuture<'_, Result<(), NetworkError>> {
        let is_kept = |sandbox: &str| sandboxes.iter().any(|kept| kept == sandbox);
        self.keeper.update(|known| known.keep_attached(is_kept));
        self.network.retain(sandboxes)
    }
}
