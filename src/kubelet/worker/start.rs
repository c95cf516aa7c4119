//! Carries a plan out: sandbox, containers, and what nobody needs any more.

use super::configure::{Problem, Ready};
use super::job::Done;
use super::pod::{Failure, Next, PodWorker};
use crate::api::pod::is_sidecar;
use crate::client::EventType;
use crate::kubelet::announce::container_reference;
use crate::kubelet::container::references::References;
use crate::kubelet::hooks::Hook;
use crate::kubelet::images::plan::{Next as NextForImage, next as next_for_image};
use crate::kubelet::pod::plan::{PodPlan, SandboxPlan, Slot, Start, Waiting};
use crate::kubelet::pod::{PodFacts, ProbeKind, ProbeResult, Restarts};
use crate::runtime::{ContainerConfig, ContainerId, RuntimeError, SandboxId};
use crate::stdx::{chain, fault};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::LifecycleHandler;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, warn};

/// A hook after a container's start has this long; upstream lets it take for ever.
const POST_START_WITHIN: Duration = Duration::from_secs(600);

/// What came of trying to start a container.
enum Outcome {
    Started {
        /// Its hook is under way.
        is_hooked: bool,
    },
    /// Something has to happen first, or a time has to come.
    NotYet(Option<Timestamp>),
}

impl PodWorker {
    /// Does what the plan says, as far as it can be done now.
    pub(super) async fn advance(
        &mut self,
        facts: &PodFacts,
        plan: &PodPlan,
        now: Timestamp,
    ) -> Next {
        self.waiting = plan.backing_off.clone();
        self.tell_of_back_off(facts, plan);
        self.tidy(facts, plan).await;
        if plan.ending.is_some() {
            return Next::Wait(None);
        }
        if let Some(next) = self.resize(plan, now).await {
            return next;
        }
        self.look_for_tokens(now).await;
        self.look_for_claims(now);
        let references = self.references(now);
        self.look_for_images(plan, &references, now).await;
        if self.volumes_ready(&references, now).await.is_none() {
            let retry_at = self.volume_failure.as_ref().map(|failure| failure.retry_at);
            return Next::Wait(retry_at);
        }
        if let SandboxPlan::Create { attempt } = plan.sandbox {
            return self.make_sandbox(facts, attempt, &references, now).await;
        }
        if let Some(wait) = self.ensure_attached(facts, now).await {
            return wait;
        }
        self.start_all(facts, plan, &references, now).await
    }

    /// A sandbox that an earlier process made is on the network already: this asks for its place.
    async fn ensure_attached(&mut self, facts: &PodFacts, now: Timestamp) -> Option<Next> {
        let sandbox = facts.ready_sandbox()?.clone();
        if self.is_attached(facts) {
            return None;
        }
        if !self.shared.is_network_open() {
            return Some(Next::Wait(None));
        }
        match self.attach(&sandbox).await {
            Ok(()) => None,
            Err(error) => {
                warn!(pod = %self.pod, error = chain(&error), "cannot attach a pod to the network");
                let failure = Failure::after(self.sandbox_failure.as_ref(), now);
                let retry_at = failure.retry_at;
                self.sandbox_failure = Some(failure);
                Some(Next::Wait(Some(retry_at)))
            }
        }
    }

    async fn start_all(
        &mut self,
        facts: &PodFacts,
        plan: &PodPlan,
        references: &References,
        now: Timestamp,
    ) -> Next {
        let Some(sandbox) = facts.ready_sandbox().map(|sandbox| sandbox.id.clone()) else {
            return Next::Wait(None);
        };
        // The next container starts when the hook of the one before has done its work.
        let is_hooked = |id: &ContainerId| facts.running().any(|it| it.status.id == *id);
        if self.post_start.as_ref().is_some_and(is_hooked) {
            return Next::Wait(None);
        }
        let mut any_started = false;
        let mut until: Option<Timestamp> = None;
        for start in &plan.start {
            match self.start(&sandbox, start, references, now).await {
                Outcome::Started { is_hooked } => {
                    self.remember_start(facts, start, now);
                    any_started = true;
                    if is_hooked {
                        break;
                    }
                }
                Outcome::NotYet(at) => {
                    until = [until, at].into_iter().flatten().min();
                    let container = start.slot.of(&self.pod);
                    if matches!(start.slot, Slot::Init(_)) && !is_sidecar(container) {
                        break;
                    }
                }
            }
        }
        if any_started && until.is_none() {
            self.forget_image_volumes();
        }
        if any_started { Next::LookAgain } else { Next::Wait(until) }
    }

    fn remember_start(&mut self, facts: &PodFacts, start: &Start, now: Timestamp) {
        let container = start.slot.of(&self.pod);
        let name = container.name.clone();
        let ended = facts.latest(&name).and_then(|latest| latest.finished_at());
        if let Some(finished_at) = ended {
            let image = container.image.as_deref().unwrap_or_default();
            let known = self.memory.restarts.get(&name);
            let restarts = Restarts::after_restart(known, image, finished_at, now);
            self.memory.restarts.insert(name.clone(), restarts);
        }
        self.images.remove(&name);
    }

    /// Starts a container whose image is there.
    async fn start(
        &mut self,
        sandbox: &SandboxId,
        start: &Start,
        references: &References,
        now: Timestamp,
    ) -> Outcome {
        let spec = start.slot.of(&self.pod).clone();
        if let Some(failure) = self.start_failures.get(&spec.name)
            && now < failure.retry_at
        {
            self.waiting.extend(failure.waiting.clone().map(|it| (spec.name.clone(), it)));
            return Outcome::NotYet(Some(failure.retry_at));
        }
        let reference = spec.image.as_deref().unwrap_or_default();
        let image = match next_for_image(self.images.get(&spec.name), reference, now) {
            NextForImage::Use(image) => image,
            other => return self.wait_for_image(start.slot, other),
        };
        let images = match self.image_volumes(&spec, now) {
            Ok(volumes) => Ready { image, volumes },
            Err(other) => return self.wait_for_image(start.slot, other),
        };
        let config = match self.configure(start, &images, references).await {
            Ok(config) => config,
            Err(Problem::Pending) => return Outcome::NotYet(None),
            Err(Problem::Missing(message)) => {
                self.tell_of_failure(start.slot, &message);
                let waiting = Waiting { reason: "CreateContainerConfigError", message };
                self.waiting.insert(spec.name, waiting);
                return Outcome::NotYet(None);
            }
            Err(Problem::Failed(message)) => {
                let reason = "CreateContainerConfigError";
                return self.try_again(start.slot, Waiting { reason, message }, now);
            }
        };
        match self.make_and_start(sandbox, start.slot, config).await {
            Ok(is_hooked) => {
                self.start_failures.remove(&spec.name);
                Outcome::Started { is_hooked }
            }
            Err((reason, error)) => {
                // It may be the image that is gone or damaged: it is looked for again.
                self.images.remove(&spec.name);
                let waiting = Waiting { reason, message: chain(&error) };
                self.try_again(start.slot, waiting, now)
            }
        }
    }

    /// Something failed on this node: it is said, and tried again after a while.
    fn try_again(&mut self, slot: Slot, waiting: Waiting, now: Timestamp) -> Outcome {
        self.tell_of_failure(slot, &waiting.message);
        let name = slot.of(&self.pod).name.clone();
        self.waiting.insert(name.clone(), waiting.clone());
        let known = self.start_failures.get(&name);
        let failure = Failure { waiting: Some(waiting), ..Failure::after(known, now) };
        let retry_at = failure.retry_at;
        self.start_failures.insert(name, failure);
        Outcome::NotYet(Some(retry_at))
    }

    /// An image is not there yet.
    fn wait_for_image(&mut self, slot: Slot, next: NextForImage) -> Outcome {
        let NextForImage::Wait { waiting, until } = next else {
            return Outcome::NotYet(None);
        };
        self.tell_of_image(slot, &waiting);
        self.waiting.insert(slot.of(&self.pod).name.clone(), waiting);
        Outcome::NotYet(until)
    }

    /// Makes and starts. Whether a hook is under way after that; the word is the reason that the
    /// container's status shows on failure.
    async fn make_and_start(
        &mut self,
        sandbox: &SandboxId,
        slot: Slot,
        config: ContainerConfig,
    ) -> Result<bool, (&'static str, RuntimeError)> {
        let shared = Arc::clone(&self.shared);
        let turn = shared.starts.acquire().await.expect("the semaphore is never closed");
        let made = shared.runtime.create_container(sandbox, config).await;
        let id = made.map_err(|error| ("CreateContainerError", error))?;
        self.tell_of_container(slot, "Created", "Container created");
        let started = shared.runtime.start_container(&id).await;
        drop(turn);
        started.map_err(|error| ("RunContainerError", error))?;
        fault::point("pod: container started");
        self.tell_of_container(slot, "Started", "Container started");
        Ok(self.begin_post_start(slot, id))
    }

    /// Begins the hook, where there is one. It runs beside the looks, so that the pod can be ended
    /// meanwhile.
    fn begin_post_start(&mut self, slot: Slot, container: ContainerId) -> bool {
        let spec = slot.of(&self.pod);
        let name = spec.name.clone();
        let lifecycle = spec.lifecycle.as_ref();
        let Some(handler) = lifecycle.and_then(|lifecycle| lifecycle.post_start.clone()) else {
            return false;
        };
        self.probes.record(container.clone(), ProbeKind::PostStart, ProbeResult::Waiting);
        self.post_start = Some(container.clone());
        let hook = self.hook(slot, container.clone(), handler);
        let shared = Arc::clone(&self.shared);
        self.begin(Box::pin(async move {
            let result = hook.run(&*shared.runtime, &shared.events, POST_START_WITHIN).await;
            if let Err(error) = &result {
                debug!(%container, error = chain(error), "a postStart hook failed");
                // Upstream says no more, so that no secret gets into an event.
                let message = "PostStartHook failed".to_owned();
                let reason = "FailedPostStartHook";
                shared.events.record(hook.regarding, EventType::Warning, reason, message);
            }
            let failure = result.err().map(|error| chain(&error));
            Done::Hooked { container, name, failure }
        }));
        true
    }

    /// Without its hook a container counts as started no more than without its first process:
    /// upstream `startContainer` ends it (pkg/kubelet/kuberuntime/kuberuntime_container.go, v1.35).
    pub(super) fn take_post_start(
        &mut self,
        container: ContainerId,
        name: String,
        failure: Option<String>,
        now: Timestamp,
    ) {
        if self.post_start.as_ref() == Some(&container) {
            self.post_start = None;
        }
        let result = if failure.is_some() { ProbeResult::Failed } else { ProbeResult::Passed };
        self.probes.record(container, ProbeKind::PostStart, result);
        if let Some(message) = failure {
            let waiting = Some(Waiting { reason: "PostStartHookError", message });
            let known = self.start_failures.get(&name);
            let failure = Failure { waiting, ..Failure::after(known, now) };
            self.start_failures.insert(name, failure);
        }
    }

    pub(super) fn hook(
        &self,
        slot: Slot,
        container: ContainerId,
        handler: LifecycleHandler,
    ) -> Hook {
        Hook {
            handler,
            container,
            spec: slot.of(&self.pod).clone(),
            address: self.addresses().first().copied(),
            regarding: container_reference(&self.pod, slot),
        }
    }
}
