//! The end of a pod: its last status, then whatever it has on this node, then its object.
//!
//! The order is what makes it safe to be interrupted anywhere: what containers came to is reported
//! before the runtime forgets them, and the object goes last, so that a restart finds it and goes on.

use super::job::Done;
use super::pod::{Failure, Next, PodWorker};
use super::shared::Shared;
use crate::client::{ClientError, DeleteOptions};
use crate::kubelet::pod::PodFacts;
use crate::kubelet::pod::plan::{Ending, PodPlan};
use crate::runtime::{SandboxId, SandboxState, SandboxStatus};
use crate::stdx::{chain, fault};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::{debug, warn};

/// What has been done already. A restart begins anew, and finds that nothing is left to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EndProgress {
    /// Off the network, and its volumes are gone.
    is_closed: bool,
    /// Its last status is made.
    is_told: bool,
    /// Nothing of it is left on this node.
    is_cleared: bool,
    deletion: Deletion,
}

/// How far the deletion of the object is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Deletion {
    #[default]
    NotAsked,
    UnderWay,
    Done,
}

/// Why what a pod has on this node cannot be taken away yet.
pub(super) type EndError = Box<dyn std::error::Error + Send + Sync>;

impl PodWorker {
    /// Nothing of the pod runs any more.
    pub(super) async fn end(&mut self, facts: &PodFacts, plan: &PodPlan, now: Timestamp) -> Next {
        if let Some(failure) = &self.end_failure
            && now < failure.retry_at
        {
            self.write_report(now);
            return self.wait_for_end();
        }
        if !self.end.is_told {
            // Also for a pod that is gone: `last()` is what tells what was lost from what is here.
            self.report(facts, plan, now);
            self.end.is_told = true;
        }
        self.write_report(now);
        match self.close_and_clear(facts, plan).await {
            Ok(()) => self.end_failure = None,
            Err(error) => {
                warn!(pod = %self.pod, error = chain(&*error), "cannot clean up after a pod yet");
                self.end_failure = Some(Failure::after(self.end_failure.as_ref(), now));
                return self.wait_for_end();
            }
        }
        let is_known = self.uid_in_api().is_none_or(|_| self.reporter.is_done(&self.pod));
        if self.gone || is_known {
            self.shared.shutdown.ended(self.pod.uid());
        }
        if self.gone && self.end.is_cleared {
            return Next::Leave;
        }
        let waits = self.deletion_failure.as_ref().is_some_and(|failure| now < failure.retry_at);
        if self.end.is_cleared && self.end.deletion == Deletion::NotAsked && !waits {
            self.delete_object();
        }
        self.wait_for_end()
    }

    fn wait_for_end(&self) -> Next {
        let failure = self.end_failure.as_ref().map(|failure| failure.retry_at);
        let deletion = self.deletion_failure.as_ref().map(|failure| failure.retry_at);
        // One that is under way ends by itself.
        let deletion = deletion.filter(|_| self.end.deletion == Deletion::NotAsked);
        Next::Wait([failure, deletion, self.reporter.retry_at()].into_iter().flatten().min())
    }

    async fn close_and_clear(&mut self, facts: &PodFacts, plan: &PodPlan) -> Result<(), EndError> {
        if !self.end.is_closed {
            self.shared.ledger.release(self.pod.uid());
            self.shared.evictions.forget(self.pod.uid());
            close(&self.shared, facts.sandboxes()).await?;
            self.shared.volumes.forget(self.pod.uid());
            let (volumes, uid) = (self.shared.config.volumes.clone(), self.pod.uid().to_owned());
            tokio::task::spawn_blocking(move || volumes.tear_down(&uid)).await??;
            self.attached = None;
            self.volumes = None;
            self.shared.references.forget(self.pod.uid());
            self.end.is_closed = true;
        }
        let deleted = plan.ending == Some(Ending::Deleted);
        if !deleted || self.end.is_cleared || !(self.gone || self.reporter.is_done(&self.pod)) {
            return Ok(());
        }
        let sandboxes = facts.sandboxes().iter().map(|sandbox| sandbox.id.clone()).collect();
        clear(&self.shared, self.pod.uid(), sandboxes).await?;
        fault::point("pod: cleared");
        self.end.is_cleared = true;
        Ok(())
    }

    fn delete_object(&mut self) {
        if self.gone {
            return;
        }
        self.end.deletion = Deletion::UnderWay;
        let options = DeleteOptions {
            grace_seconds: Some(0),
            uid: Some(self.pod.uid().to_owned()),
            ..DeleteOptions::default()
        };
        let (shared, key) = (Arc::clone(&self.shared), self.key());
        self.begin(Box::pin(async move {
            Done::Deleted(shared.client.delete::<Pod>(&key, &options).await)
        }));
    }

    pub(super) fn take_deletion(&mut self, result: Result<(), ClientError>, now: Timestamp) {
        (self.end.deletion, self.deletion_failure) = match result {
            Ok(()) => (Deletion::Done, None),
            Err(error) if error.is_not_found() || error.is_conflict() => (Deletion::Done, None),
            Err(error) => {
                debug!(pod = %self.pod, error = chain(&error), "cannot delete a pod's object yet");
                let failure = Failure::after(self.deletion_failure.as_ref(), now);
                (Deletion::NotAsked, Some(failure))
            }
        };
    }
}

/// Ends what is left in the sandboxes and takes them off the network.
pub(super) async fn close(shared: &Shared, sandboxes: &[SandboxStatus]) -> Result<(), EndError> {
    for sandbox in sandboxes {
        if sandbox.state == SandboxState::Ready {
            shared.runtime.stop_sandbox(&sandbox.id).await?;
        }
        fault::point("pod: sandbox stopped");
        shared.network.detach(&sandbox.id.0).await?;
    }
    Ok(())
}

/// Removes all there is of a pod on this node.
pub(super) async fn clear(
    shared: &Shared,
    uid: &str,
    sandboxes: Vec<SandboxId>,
) -> Result<(), EndError> {
    for sandbox in sandboxes {
        shared.runtime.remove_sandbox(&sandbox).await?;
    }
    let volumes = shared.config.volumes.clone();
    let (logs_dir, uid) = (shared.config.logs_dir.clone(), uid.to_owned());
    // The pod's own directory goes last: as long as it is there, an interrupted removal goes on.
    tokio::task::spawn_blocking(move || {
        fault::point("pod: sandboxes removed");
        remove_logs(&logs_dir, &uid)?;
        fault::point("pod: logs removed");
        volumes.remove_pod(&uid)
    })
    .await??;
    Ok(())
}

/// Where the logs of a pod are: upstream `BuildPodLogsDirectory`.
pub(super) fn pod_logs_dir(logs_dir: &Path, pod: &crate::runtime::PodIdentity) -> PathBuf {
    logs_dir.join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid))
}

/// By the uid alone: of a pod that is gone nobody knows more.
fn remove_logs(logs_dir: &Path, uid: &str) -> io::Result<()> {
    let suffix = format!("_{uid}");
    let entries = match fs::read_dir(logs_dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !uid.is_empty() && entry.file_name().to_string_lossy().ends_with(&suffix) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
