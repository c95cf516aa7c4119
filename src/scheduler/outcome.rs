//! Writes down what was decided: a binding, or why there is none.

use super::plan::Placement;
use super::snapshot::PodFacts;
use super::{Decision, SCHEDULER_NAME};
use crate::client::{Client, ClientError, EventRecorder, EventType, Patch, object_reference};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// Carries a decision out and gives it back with the result.
pub(super) async fn write(
    client: Client,
    recorder: EventRecorder,
    decision: Decision,
) -> (Decision, Result<(), ClientError>) {
    let pod = &decision.pod;
    let result = match &decision.placement {
        Placement::Node(node) => bind(&client, &recorder, pod, node).await,
        Placement::Nowhere { message, .. } => report(&client, &recorder, pod, message).await,
    };
    (decision, result)
}

async fn bind(
    client: &Client,
    recorder: &EventRecorder,
    pod: &PodFacts,
    node: &str,
) -> Result<(), ClientError> {
    let namespace = pod.key.namespace.as_deref().unwrap_or_default();
    let name = &pod.key.name;
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/binding");
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name, "namespace": namespace, "uid": pod.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    client.post::<Value, Value>(&path, &binding).await?;
    let message = format!("Successfully assigned {} to {node}", pod.key);
    recorder.record(object_reference(&*pod.pod), EventType::Normal, "Scheduled", message);
    Ok(())
}

/// Says on the pod and in an event why nothing fits, and says it again only when it changes.
async fn report(
    client: &Client,
    recorder: &EventRecorder,
    pod: &PodFacts,
    message: &str,
) -> Result<(), ClientError> {
    let regarding = object_reference(&*pod.pod);
    recorder.record(regarding, EventType::Warning, "FailedScheduling", message.to_owned());
    let status = pod.pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let said = conditions.into_iter().find(|condition| condition.type_ == "PodScheduled");
    if said.is_some_and(|condition| condition.message.as_deref() == Some(message)) {
        return Ok(());
    }
    let status = json!({
        "metadata": {"uid": pod.uid},
        "status": {"conditions": [{
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
        }]},
    });
    client.patch::<Pod>(&pod.key, &Patch::Strategic(status), Some("status")).await?;
    Ok(())
}

/// How events name their reporter.
#[must_use]
pub fn reporter() -> crate::client::Reporter {
    crate::client::Reporter { component: SCHEDULER_NAME.to_owned(), host: String::new() }
}
