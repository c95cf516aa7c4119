//! Ends containers: the hook first, then the signal, then the kill.

use super::job::Done;
use super::pod::PodWorker;
use super::shared::Shared;
use crate::client::EventType;
use crate::kubelet::announce::{News, container_reference, pod_reference, slot_of};
use crate::kubelet::eviction::Eviction;
use crate::kubelet::hooks::Hook;
use crate::kubelet::pod::plan::{Ending, Stop};
use crate::kubelet::shutdown::TERMINATED;
use crate::stdx::{chain, monotonic};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use std::sync::Arc;
use std::time::Duration;
use tracing::debug;

/// A kill that would come less than this earlier than the one that is under way is the same one.
const SAME_KILL: SignedDuration = SignedDuration::from_millis(500);

/// A container has this long between its signal and its kill, whatever its hook has taken.
const SIGNAL_TO_KILL_MIN: Duration = Duration::from_secs(2);

impl PodWorker {
    /// The node needs what the pod has: it ends, unless it does already.
    pub(super) fn take_eviction(&mut self, now: Timestamp) {
        let Some(eviction) = self.shared.evictions.of(self.pod.uid()) else { return };
        let Eviction { reason, message, grace, disruption } = eviction;
        if let Some((_, since)) = &self.memory.ending {
            // It ends already, for another reason, and may have to be quicker about it.
            let whole = now.duration_since(*since).saturating_add(grace);
            self.memory.grace.get_or_insert(whole);
            return;
        }
        self.memory.grace = Some(grace);
        if self.pod.is_deleted() {
            return;
        }
        self.memory.ending = Some((
            Ending::Failed { reason: reason.into(), message: message.clone(), disruption },
            now,
        ));
        // When the machine goes down, users are told of its node only.
        if reason != TERMINATED {
            let (regarding, kind) = (pod_reference(&self.pod), EventType::Warning);
            self.announcer.say(News { regarding, kind, reason, message });
        }
    }

    pub(super) fn stop(&mut self, stops: &[Stop], now: Timestamp) {
        for stop in stops {
            let kill_at = now.saturating_add(stop.grace).unwrap_or(Timestamp::MAX);
            let under_way = self.stopping.get(&stop.container).copied();
            if under_way.is_some_and(|known| known.duration_since(kill_at) < SAME_KILL) {
                continue;
            }
            if stop.replaced {
                self.memory.replaced.insert(stop.container.clone());
            }
            let failure = self.stop_failures.get(&stop.container);
            if failure.is_some_and(|failure| now < failure.retry_at) {
                continue;
            }
            // What failed is tried again without the hook, and without another word.
            let is_first = under_way.is_none() && failure.is_none();
            self.stopping.insert(stop.container.clone(), kill_at);
            if is_first {
                self.announcer.say(News {
                    regarding: self.reference(&stop.name),
                    kind: EventType::Normal,
                    reason: "Killing",
                    message: stop.message.clone(),
                });
            }
            // A shorter grace does not run the hook again.
            let hook = if is_first { self.pre_stop(stop) } else { None };
            self.begin_stop(stop, hook);
        }
    }

    fn begin_stop(&mut self, stop: &Stop, hook: Option<Hook>) {
        let shared = Arc::clone(&self.shared);
        let container = stop.container.clone();
        let grace = Duration::try_from(stop.grace).unwrap_or(Duration::ZERO);
        self.begin(Box::pin(async move {
            let left = match hook {
                Some(hook) => run_hook(&shared, hook, grace).await,
                None => grace,
            };
            let result = shared.runtime.stop_container(&container, left).await;
            Done::Stopped { container, result }
        }));
    }

    fn pre_stop(&self, stop: &Stop) -> Option<Hook> {
        let slot = slot_of(&self.pod, &stop.name)?;
        let handler = slot.of(&self.pod).lifecycle.as_ref()?.pre_stop.clone()?;
        Some(self.hook(slot, stop.container.clone(), handler))
    }

    /// The container of that name, or the pod where its spec has no such container any more.
    pub(super) fn reference(&self, name: &str) -> ObjectReference {
        match slot_of(&self.pod, name) {
            Some(slot) => container_reference(&self.pod, slot),
            None => pod_reference(&self.pod),
        }
    }
}

/// Runs the hook before a container's end. Returns how much of the grace is left.
async fn run_hook(shared: &Shared, hook: Hook, grace: Duration) -> Duration {
    let since = monotonic();
    let ran = tokio::time::timeout(grace, hook.run(&*shared.runtime, &shared.events, grace)).await;
    if let Ok(Err(error)) = ran {
        debug!(container = %hook.container, error = chain(&error), "a preStop hook failed");
        // Upstream says no more, so that no secret gets into an event.
        let message = "PreStopHook failed".to_owned();
        shared.events.record(hook.regarding, EventType::Warning, "FailedPreStopHook", message);
    }
    let left = grace.saturating_sub(monotonic().duration_since(since));
    left.max(SIGNAL_TO_KILL_MIN.min(grace))
}
