//! What the scheduler looks at: the controllers' caches where they have one, so that each object is
//! in memory once.

use crate::client::Client;
use crate::controllers::Caches;
use crate::scheduler::{self, own};
use crate::stdx::Tasks;
use std::sync::Arc;

/// `shared` is absent where the controllers run elsewhere.
pub(super) fn scheduler_caches(
    shared: Option<&Caches>,
    client: &Client,
    tasks: &mut Tasks,
) -> scheduler::Caches {
    let Some(shared) = shared else { return scheduler::Caches::start(client, tasks) };
    scheduler::Caches {
        pods: Arc::clone(&shared.pods),
        nodes: Arc::clone(&shared.nodes),
        namespaces: Arc::clone(&shared.namespaces),
        replica_sets: Arc::clone(&shared.replica_sets),
        stateful_sets: Arc::clone(&shared.stateful_sets),
        claims: Arc::clone(&shared.persistent_volume_claims),
        volumes: Arc::clone(&shared.persistent_volumes),
        classes: Arc::clone(&shared.storage_classes),
        services: Arc::clone(&shared.services),
        replication_controllers: own(client, tasks),
        budgets: own(client, tasks),
        csi_nodes: own(client, tasks),
        csi_drivers: own(client, tasks),
        capacities: own(client, tasks),
        attachments: own(client, tasks),
    }
}
