//! Keeps the cgroups above those of pods as the node's pods want them.
//!
//! Start at [`keep`]. What they are given is decided in [`super::container::classes`]. Upstream looks
//! every minute; here it is looked whenever a pod of the node changes, and written what differs.

use super::container::classes::{NodeShare, class_cgroups};
use crate::client::Cache;
use crate::runtime::{LinuxResources, Runtime, RuntimeError};
use crate::stdx::{Backoff, chain};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tracing::warn;

/// What passes before what the kernel refused is tried again.
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// What it takes to keep the cgroups.
#[derive(Debug)]
pub(super) struct Classes {
    pub(super) runtime: Arc<dyn Runtime>,
    /// The pods of this node.
    pub(super) pods: Arc<Cache<Pod>>,
    /// All cgroups are below it; empty: the root.
    pub(super) root: String,
    pub(super) node: NodeShare,
}

/// Keeps the cgroups for as long as it is asked to.
pub(super) async fn keep(classes: Classes) {
    // Before it is known which pods there are, those that run have what they were given.
    classes.pods.synced().await;
    let changed = Arc::new(Notify::new());
    let notify = Arc::clone(&changed);
    classes.pods.on_change(move |_change| notify.notify_one());
    let mut given = BTreeMap::new();
    let mut failures = 0;
    loop {
        match classes.give(&mut given).await {
            Ok(()) => {
                failures = 0;
                changed.notified().await;
            }
            Err(error) => {
                failures += 1;
                warn!(error = chain(&error), "the cgroups of pods' classes are not as they should");
                tokio::time::sleep(RETRY.delay(failures)).await;
            }
        }
    }
}

impl Classes {
    /// Writes what differs from `given`, those above first.
    async fn give(&self, given: &mut BTreeMap<String, LinuxResources>) -> Result<(), RuntimeError> {
        let pods = self.pods.list();
        let wanted = class_cgroups(&self.root, self.node, pods.iter().map(|pod| &**pod));
        for (cgroup, resources) in wanted {
            if given.get(&cgroup) != Some(&resources) {
                self.runtime.limit_cgroup(&cgroup, resources.clone()).await?;
                given.insert(cgroup, resources);
            }
        }
        Ok(())
    }
}
