//! NetworkPolicy: which connections pods of this node may have, in nftables.
//!
//! Start at [`plan`](plan::plan), which decides what the kernel is to have, and
//! [`render`], which says it in rules; `keeper` watches and applies, and [`PolicedNetwork`] lets no
//! pod begin before its rules are there. Each node judges for its own pods, by the addresses of all
//! pods of the cluster.
//!
//! Architecture invariants: nothing passes that a policy forbids, neither in a pod's first moments
//! nor on connections that are older than the policy; without policies there are no rules and nobody
//! is watched; rules stay when kinglet ends, and a new process replaces them in one transaction.

mod keeper;
mod known;
mod model;
mod network;
mod plan;
mod policy;
mod ranges;
mod render;
#[cfg(test)]
mod tests;
mod view;

pub use network::PolicedNetwork;

use crate::client::Client;
use crate::network::PodNetwork;
use crate::stdx::Tasks;
use crate::sys::nft::{self, Batch};
use crate::sys::process::ProcessError;
use keeper::Keeper;
use std::sync::Arc;

/// The service account of `kube-system` that policies are enforced as on a server.
pub const ACCOUNT: &str = "network-policy";

/// Begins to enforce policies for the pods of `network`. `client` has to be one that may list and
/// watch pods, namespaces and network policies of the cluster.
pub fn start(network: Arc<dyn PodNetwork>, client: Client, tasks: &mut Tasks) -> PolicedNetwork {
    let keeper = Arc::new(Keeper::new());
    let policed = PolicedNetwork::new(network, Arc::clone(&keeper), client.clone());
    let shutdown = tasks.shutdown();
    tasks.spawn("network-policies", async move {
        shutdown.run_until_cancelled(keeper.keep(client)).await;
    });
    policed
}

/// Takes all rules away, whether there are some or not.
///
/// # Errors
/// Where nft is missing or refuses.
pub async fn remove() -> Result<(), ProcessError> {
    let mut batch = Batch::new(render::TABLE);
    batch.delete_table();
    nft::apply(&batch).await
}
