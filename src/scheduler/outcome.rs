//! Writes down what was decided: a binding, or why there is none and what is done about it.

use super::SCHEDULER_NAME;
use super::message::Told;
use super::pod::PodFacts;
use super::preempt::{PREEMPTED_REASON, Preemption};
use super::state::{Action, Outcome, Task, Written};
use crate::api::pod::condition;
use crate::api::volume::{BOUND_BY_CONTROLLER, SELECTED_NODE, is_bound_to};
use crate::api::{ObjectKey, Revision};
use crate::client::{
    Client, ClientError, DeleteOptions, EventRecorder, EventType, Patch, key_of, object_reference,
    revision_of,
};
use crate::stdx::chain;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use serde_json::{Value, json};
use tracing::warn;

/// How things are written.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) recorder: EventRecorder,
}

/// How events name their reporter.
#[must_use]
pub fn reporter() -> crate::client::Reporter {
    crate::client::Reporter { component: SCHEDULER_NAME.to_owned(), host: String::new() }
}

impl Writer {
    /// Carries an action out and gives it back with how it went.
    pub(super) async fn carry_out(self, action: Action) -> (Action, Outcome) {
        let result = self.write(&action).await;
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) if error.is_not_found() && is_about_pod(&action.task) => Outcome::Gone,
            Err(error) => {
                let pod = &action.pod.key;
                warn!(%pod, error = chain(&error), "a write for a pod failed");
                Outcome::Failed(chain(&error).to_string())
            }
        };
        (action, outcome)
    }

    async fn write(&self, action: &Action) -> Result<Outcome, ClientError> {
        let pod = &action.pod;
        match &action.task {
            Task::Bind { node } => self.bind(pod, node).await?,
            Task::PrepareVolumes { node, bindings, provisions } => {
                let mut written = Written::default();
                for (volume, claim) in bindings {
                    written.volumes.push(self.promise(volume, claim).await?);
                }
                for claim in provisions {
                    written.claims.push(self.select_node(claim, node).await?);
                }
                return Ok(Outcome::Prepared(written));
            }
            Task::Report(told) => self.report(pod, told).await?,
            Task::Preempt(told, preemption) => {
                self.report(pod, told).await?;
                self.preempt(pod, preemption).await?;
            }
        }
        Ok(Outcome::Done)
    }

    async fn bind(&self, pod: &PodFacts, node: &str) -> Result<(), ClientError> {
        let (namespace, name) = (pod.namespace(), &pod.key.name);
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/binding");
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        self.client.post::<Value, Value>(&path, &binding).await?;
        let message = format!("Successfully assigned {} to {node}", pod.key);
        self.record(&pod.pod, EventType::Normal, "Scheduled", message);
        Ok(())
    }

    fn record(&self, pod: &Pod, kind: EventType, reason: &str, message: String) {
        self.recorder.record(object_reference(pod), kind, reason, message);
    }

    /// Gives the volume to the claim; the volume controller does the rest (upstream
    /// `GetBindVolumeToClaim`).
    async fn promise(
        &self,
        volume: &PersistentVolume,
        claim: &PersistentVolumeClaim,
    ) -> Result<(String, Revision), ClientError> {
        let mut metadata = json!({"resourceVersion": volume.metadata.resource_version});
        if !is_bound_to(volume, claim) {
            metadata["annotations"] = json!({BOUND_BY_CONTROLLER: "yes"});
        }
        let patch = json!({
            "metadata": metadata,
            "spec": {"claimRef": object_reference(claim)},
        });
        let key = key_of(&volume.metadata);
        let written: PersistentVolume = self.client.patch(&key, &Patch::Merge(patch), None).await?;
        Ok((key.name, revision_of(&written.metadata).unwrap_or_default()))
    }

    /// Asks the provisioner for a volume that this node can reach.
    async fn select_node(
        &self,
        claim: &PersistentVolumeClaim,
        node: &str,
    ) -> Result<(ObjectKey, Revision), ClientError> {
        let patch = json!({"metadata": {
            "resourceVersion": claim.metadata.resource_version,
            "annotations": {SELECTED_NODE: node},
        }});
        let key = key_of(&claim.metadata);
        let written: PersistentVolumeClaim =
            self.client.patch(&key, &Patch::Merge(patch), None).await?;
        Ok((key, revision_of(&written.metadata).unwrap_or_default()))
    }

    /// Says on the pod and in an event why nothing fits, and says it again only when it changes.
    async fn report(&self, pod: &PodFacts, told: &Told) -> Result<(), ClientError> {
        self.record(&pod.pod, EventType::Warning, "FailedScheduling", told.message.clone());
        let said = condition(&pod.pod, "PodScheduled");
        let is_said = said.is_some_and(|said| {
            said.status == "False"
                && said.reason.as_deref() == Some(told.reason)
                && said.message.as_deref() == Some(&told.message)
        });
        let nominated = pod.nominated_node().unwrap_or_default();
        if is_said && told.nomination.as_deref().unwrap_or(nominated) == nominated {
            return Ok(());
        }
        let mut status = json!({"conditions": [condition_of(&pod.pod, json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": told.reason,
            "message": told.message,
        }))]});
        if let Some(node) = &told.nomination {
            status["nominatedNodeName"] = if node.is_empty() { Value::Null } else { json!(node) };
        }
        self.patch_status(pod, status).await
    }

    async fn patch_status(&self, pod: &PodFacts, status: Value) -> Result<(), ClientError> {
        let patch = json!({"metadata": {"uid": pod.uid}, "status": status});
        self.client.patch::<Pod>(&pod.key, &Patch::Strategic(patch), Some("status")).await?;
        Ok(())
    }

    /// Stops the victims. The first that cannot be stopped ends it: the pod is tried again, and they
    /// may be others then.
    async fn preempt(&self, pod: &PodFacts, preemption: &Preemption) -> Result<(), ClientError> {
        for displaced in &preemption.displaced {
            gone_is_fine(self.patch_status(displaced, json!({"nominatedNodeName": null})).await)?;
        }
        for victim in &preemption.victims {
            gone_is_fine(self.stop(victim, pod).await)?;
            let message = format!("Preempted by pod {} on node {}", pod.uid, preemption.node);
            self.record(&victim.pod, EventType::Normal, "Preempted", message);
        }
        Ok(())
    }

    /// Upstream `PreemptPod` (pkg/scheduler/framework/preemption, v1.35).
    async fn stop(&self, victim: &PodFacts, preemptor: &PodFacts) -> Result<(), ClientError> {
        let scheduler = preemptor.pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
        let scheduler = scheduler.unwrap_or(SCHEDULER_NAME);
        let condition = condition_of(
            &victim.pod,
            json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": PREEMPTED_REASON,
                "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
            }),
        );
        self.patch_status(victim, json!({"conditions": [condition]})).await?;
        let options = DeleteOptions { uid: Some(victim.uid.clone()), ..DeleteOptions::default() };
        self.client.delete::<Pod>(&victim.key, &options).await
    }
}

fn gone_is_fine(result: Result<(), ClientError>) -> Result<(), ClientError> {
    result.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
}

/// With the generation of the pod for which it was found.
fn condition_of(pod: &Pod, mut condition: Value) -> Value {
    if let Some(generation) = pod.metadata.generation {
        condition["observedGeneration"] = json!(generation);
    }
    condition
}

/// Whether what a write did not find was the pod.
fn is_about_pod(task: &Task) -> bool {
    match task {
        Task::Bind { .. } | Task::Report(_) | Task::Preempt(..) => true,
        Task::PrepareVolumes { .. } => false,
    }
}
