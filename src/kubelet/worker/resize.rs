//! Gives containers that run other limits, where their pod asks for it and there is room.

use super::pod::{Failure, Next, PodWorker};
use crate::api::pod::{is_terminal, requests};
use crate::client::EventType;
use crate::kubelet::announce::{News, pod_reference};
use crate::kubelet::container::resources::{pod_cgroup, pod_resources};
use crate::kubelet::pod::plan::PodPlan;
use crate::kubelet::pod::{Allocation, BoundPod, Denied, Resize};
use crate::stdx::chain;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use serde_json::{Value, json};
use std::sync::Arc;
use tracing::warn;

/// How far a pod's resize is.
#[derive(Debug, Default)]
pub(super) struct Resizing {
    /// What the pod has; `None` before the first look.
    allocation: Option<Allocation>,
    /// Why it has no more.
    pub(super) denied: Option<Denied>,
    pub(super) failure: Option<Failure>,
    /// Why what it was granted could not be given.
    pub(super) error: Option<String>,
}

impl PodWorker {
    /// The pod as it is granted: what it asks for, where that is so or there is room, and what it
    /// had before otherwise.
    pub(super) fn granted(&mut self, object: Arc<Pod>) -> Option<BoundPod> {
        let uid = self.pod.uid();
        let mut allocation =
            self.resizing.allocation.take().unwrap_or_else(|| Allocation::infer(&object));
        let is_over = object.metadata.deletion_timestamp.is_some() || is_terminal(&object);
        self.resizing.denied = None;
        if self.admission.is_done() && allocation.differs_from(&object) && !is_over {
            let (known, allocatable) = (self.shared.all_pods(), self.shared.node().allocatable);
            match self.shared.ledger.ask(uid, requests(&spec(&object)), &known, &allocatable) {
                Ok(()) => allocation = Allocation::of(&object),
                Err(denied) => self.resizing.denied = Some(denied),
            }
        }
        let granted = BoundPod::read(allocation.applied_to(&object));
        self.resizing.allocation = Some(allocation);
        self.tell_of_denial();
        granted
    }

    fn tell_of_denial(&mut self) {
        let Some(Denied { reason, message }) = self.resizing.denied.clone() else { return };
        let event = if reason == "Deferred" { "ResizeDeferred" } else { "ResizeInfeasible" };
        self.warn_once(event, format!("Pod resize {reason}: {message}"), "");
    }

    /// Gives containers what the plan says. `None` where there is nothing to give, or it has to
    /// wait.
    pub(super) async fn resize(&mut self, plan: &PodPlan, now: Timestamp) -> Option<Next> {
        if plan.resize.is_empty() {
            (self.resizing.failure, self.resizing.error) = (None, None);
            return None;
        }
        if self.resizing.failure.as_ref().is_some_and(|failure| now < failure.retry_at) {
            return None;
        }
        match self.try_resize(&plan.resize).await {
            Ok(()) => Some(Next::LookAgain),
            Err(message) => {
                warn!(pod = %self.pod, error = message, "cannot resize a pod; will retry");
                self.resizing.failure = Some(Failure::after(self.resizing.failure.as_ref(), now));
                self.resizing.error = Some(message);
                None
            }
        }
    }

    /// What shrinks, then the pod, then what grows: at no time do the containers together have
    /// more than their pod.
    async fn try_resize(&self, resizes: &[Resize]) -> Result<(), String> {
        let runtime = &self.shared.runtime;
        for resize in resizes {
            self.check_usage(resize).await?;
        }
        for (resize, least) in resizes.iter().filter_map(|it| Some((it, it.shrink.clone()?))) {
            let shrunk = runtime.update_container(&resize.container, least).await;
            shrunk.map_err(|error| chain(&error))?;
        }
        let cgroup = pod_cgroup(&self.shared.config.cgroup_root, &self.pod);
        let limited = runtime.limit_cgroup(&cgroup, pod_resources(&self.pod)).await;
        limited.map_err(|error| chain(&error))?;
        for resize in resizes.iter().filter(|it| it.shrink.as_ref() != Some(&it.then)) {
            let grown = runtime.update_container(&resize.container, resize.then.clone()).await;
            grown.map_err(|error| chain(&error))?;
        }
        Ok(())
    }

    /// A container that uses more than it is to have would be killed for it. Upstream
    /// `validateMemoryResizeAction`.
    async fn check_usage(&self, resize: &Resize) -> Result<(), String> {
        let limit = resize.shrink.as_ref().and_then(|least| least.memory_limit_bytes);
        let limit = limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
        let (Some(limit), Ok(usage)) = (limit, self.shared.runtime.usage(&resize.container).await)
        else {
            return Ok(());
        };
        if usage.memory_bytes <= limit {
            return Ok(());
        }
        Err(format!(
            "attempting to set container {:?} memory limit ({limit}) below current usage ({})",
            resize.name, usage.memory_bytes
        ))
    }

    /// The condition has just gone: all containers have what the pod was granted.
    pub(super) fn tell_of_resize(&self, before: &PodStatus, after: &PodStatus) {
        let is_under_way = |status: &PodStatus| {
            status.conditions.iter().flatten().any(|it| it.type_ == "PodResizeInProgress")
        };
        if !is_under_way(before) || is_under_way(after) || self.memory.ending.is_some() {
            return;
        }
        let containers = |list: &[k8s_openapi::api::core::v1::Container]| -> Vec<Value> {
            list.iter().map(|it| json!({ "name": it.name, "resources": it.resources })).collect()
        };
        let mut summary = json!({ "containers": containers(self.pod.containers()) });
        let init = containers(self.pod.init_containers());
        if !init.is_empty() {
            summary["initContainers"] = Value::Array(init);
        }
        self.announcer.say(News {
            regarding: pod_reference(&self.pod),
            kind: EventType::Normal,
            reason: "ResizeCompleted",
            message: format!("Pod resize completed: {summary}"),
        });
    }
}

fn spec(pod: &Pod) -> PodSpec {
    pod.spec.clone().unwrap_or_default()
}
