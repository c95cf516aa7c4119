//! Gathers what the runtime knows of a pod.

use super::pod::PodWorker;
use crate::kubelet::last_words::LastWords;
use crate::kubelet::pod::{ContainerFacts, PodFacts};
use crate::runtime::{ContainerState, ContainerStatus, RuntimeError};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use std::collections::BTreeSet;
use std::path::PathBuf;

impl PodWorker {
    pub(super) async fn observe(&mut self, now: Timestamp) -> Result<PodFacts, RuntimeError> {
        let found = self.shared.runtime.pod(self.pod.uid()).await?;
        let mut containers = Vec::with_capacity(found.containers.len());
        for status in found.containers {
            let termination_message = self.last_words_of(&status).await;
            containers.push(ContainerFacts { status, termination_message, lost: false });
        }
        let here: BTreeSet<_> = containers.iter().map(|it| it.status.id.clone()).collect();
        self.last_words.retain(|id, _| here.contains(id));
        self.probes.retain(|id| here.contains(id));
        self.stop_failures.retain(|id, _| here.contains(id));
        self.memory.replaced.retain(|id| here.contains(id));
        let facts = PodFacts::new(found.sandboxes, containers);
        Ok(facts.with_lost(&self.pod, self.reporter.last(), now))
    }

    /// Read once: after its end a container says no more.
    async fn last_words_of(&mut self, status: &ContainerStatus) -> String {
        let ContainerState::Exited { exit_code, started_at, .. } = status.state else {
            return String::new();
        };
        if let Some(known) = self.last_words.get(&status.id) {
            return known.clone();
        }
        let spec = self.pod.all_containers().find(|container| container.name == status.name);
        let falls_back = |spec: &Container| {
            spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError")
        };
        let words = LastWords {
            file: Some(self.termination_message_path(&status.name, status.attempt)),
            log: status.log_path.clone(),
            // What never started has no log.
            falls_back: exit_code != 0 && started_at.is_some() && spec.is_some_and(falls_back),
        };
        let read = tokio::task::spawn_blocking(move || words.read()).await;
        let words = read.unwrap_or_default();
        self.last_words.insert(status.id.clone(), words.clone());
        words
    }

    /// Where on the node a container leaves its last words.
    pub(super) fn termination_message_path(&self, container: &str, attempt: u32) -> PathBuf {
        let pod = self.shared.config.volumes.pod_dir(self.pod.uid());
        pod.join("containers").join(container).join(attempt.to_string())
    }
}
