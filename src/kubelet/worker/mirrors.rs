//! What stands in the API for static pods.

use super::job::Done;
use super::pod::PodWorker;
use super::shared::Shared;
use crate::client::{ClientError, DeleteOptions, key_of, revision_of};
use crate::kubelet::static_pods::{StaticPods, mirrored};
use crate::stdx::{Backoff, chain};
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;
use std::time::Duration;
use tracing::debug;

const RETRY: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// So often it is tried to remove a mirror; the next look at all begins anew.
const TRIES_MAX: u32 = 5;

/// After a write the cache shows it within this time, or the next look does without.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// Removes a mirror whose static pod is gone.
pub(super) async fn remove(shared: Arc<Shared>, mirror: Arc<Pod>) {
    for failures in 1..=TRIES_MAX {
        match delete(&shared, &mirror).await {
            Ok(()) => return,
            Err(error) => {
                let pod = key_of(&mirror.metadata);
                debug!(%pod, error = chain(&error), "cannot remove the mirror of a static pod yet");
                tokio::time::sleep(RETRY.delay(failures)).await;
            }
        }
    }
}

async fn delete(shared: &Shared, mirror: &Pod) -> Result<(), ClientError> {
    let options = DeleteOptions {
        grace_seconds: Some(0),
        uid: mirror.metadata.uid.clone(),
        ..DeleteOptions::default()
    };
    match shared.client.delete::<Pod>(&key_of(&mirror.metadata), &options).await {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        outcome => outcome,
    }
}

impl PodWorker {
    /// Has the API show a static pod: a mirror that somebody deletes goes, and comes again.
    pub(super) fn begin_mirror(&mut self) {
        let shared = Arc::clone(&self.shared);
        let Some(object) = shared.statics.get(self.pod.uid()) else { return };
        let Some(node) = shared.keeper.node() else {
            // It is rung when the node has registered.
            return;
        };
        self.reporter.begin();
        let key = self.key();
        self.begin(Box::pin(async move {
            if let Some(old) = shared.pods.get(&key).filter(|old| mirrored(old).is_some()) {
                // Of an older file, or on its way out.
                if let Err(error) = delete(&shared, &old).await {
                    return Done::Reported { hash: 0, result: Err(error) };
                }
            }
            let created = shared.client.create(&StaticPods::mirror(&object, &node)).await;
            let result = match created {
                Ok(mirror) => {
                    if let Some(revision) = revision_of(&mirror.metadata) {
                        let seen = shared.pods.wait_seen(revision);
                        // Late is no harm: it is found to exist then.
                        tokio::time::timeout(SEEN_WITHIN, seen).await.ok();
                    }
                    Ok(())
                }
                Err(error) => Err(error),
            };
            Done::Reported { hash: 0, result }
        }));
    }
}
