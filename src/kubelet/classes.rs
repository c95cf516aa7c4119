//! Keeps the cgroups above those of pods as the node's pods want them.
//!
//! Start at [`keep`]. What they are given is decided in [`super::container::classes`]. Upstream looks
//! every minute; here it is looked whenever a pod of the node changes, and written what differs.

use super::container::classes::class_cgroups;
use super::worker::Shared;
use crate::runtime::{LinuxResources, RuntimeError};
use crate::stdx::{Backoff, chain};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// What passes before what the kernel refused is tried again.
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// Keeps the cgroups for as long as it is asked to.
pub(super) async fn keep(shared: Arc<Shared>) {
    // Before it is known which pods there are, those that run have what they were given.
    shared.pods.synced().await;
    let mut changes = shared.pods_changed();
    let mut given = BTreeMap::new();
    let mut failures = 0;
    loop {
        match give(&shared, &mut given).await {
            Ok(()) => {
                failures = 0;
                // The sender lives as long as `shared`, so that waiting does not fail.
                changes.changed().await.ok();
            }
            Err(error) => {
                failures += 1;
                warn!(error = chain(&error), "the cgroups of pods' classes are not as they should");
                tokio::time::sleep(RETRY.delay(failures)).await;
            }
        }
    }
}

/// Writes what differs from `given`, those above first.
async fn give(
    shared: &Shared,
    given: &mut BTreeMap<String, LinuxResources>,
) -> Result<(), RuntimeError> {
    let pods = shared.all_pods();
    let root = &shared.config.cgroup_root;
    let share = shared.share.without(&shared.config.node.reserved);
    for (cgroup, resources) in class_cgroups(root, share, pods.iter().map(|pod| &**pod)) {
        if given.get(&cgroup) != Some(&resources) {
            shared.runtime.limit_cgroup(&cgroup, resources.clone()).await?;
            given.insert(cgroup, resources);
        }
    }
    Ok(())
}
