//! Pods that have something on this node and that the API has no more: removed while this was not
//! running, or left half removed by a crash.

use super::end::{EndError, clear, close};
use super::shared::Shared;
use crate::stdx::{Backoff, chain};
use futures_util::future::try_join_all;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// Nobody knows any more how long the pod wanted (upstream `SyncTerminatingRuntimePod`: as short).
const GRACE: Duration = Duration::from_secs(2);

const RETRY: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// The uids of pods that are here and not in the API.
pub(super) async fn find(shared: &Shared) -> Result<BTreeSet<String>, EndError> {
    let mut here: BTreeSet<String> = BTreeSet::new();
    here.extend(shared.runtime.sandboxes().await?.into_iter().map(|sandbox| sandbox.pod.uid));
    let volumes = shared.config.volumes.clone();
    here.extend(tokio::task::spawn_blocking(move || volumes.pods()).await??);
    for pod in shared.all_pods() {
        here.remove(pod.metadata.uid.as_deref().unwrap_or_default());
    }
    Ok(here)
}

/// Removes a pod from this node, however often that takes.
pub(super) async fn remove(shared: Arc<Shared>, uid: String) {
    info!(pod_uid = uid, "removing a pod that the API does not have");
    let mut failures = 0;
    while let Err(error) = try_remove(&shared, &uid).await {
        failures += 1;
        warn!(pod_uid = uid, error = chain(&*error), "cannot remove a pod yet");
        tokio::time::sleep(RETRY.delay(failures)).await;
    }
}

async fn try_remove(shared: &Shared, uid: &str) -> Result<(), EndError> {
    let found = shared.runtime.pod(uid).await?;
    let stops = found.containers.iter().map(|it| shared.runtime.stop_container(&it.id, GRACE));
    try_join_all(stops).await?;
    close(shared, &found.sandboxes).await?;
    clear(shared, uid, found.sandboxes.into_iter().map(|sandbox| sandbox.id).collect()).await
}
