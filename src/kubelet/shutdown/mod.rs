//! Ends the pods of a node whose machine goes down: upstream pkg/kubelet/nodeshutdown (v1.35).
//!
//! Start at [`run`]; who ends when is decided in [`plan`]. Each worker ends its pod as it does one
//! that is evicted; here it is only said who has to go, and waited.

pub mod plan;

use super::eviction::Eviction;
use super::node::TELL_SHUTDOWN_WITHIN;
use super::worker::Shared;
use crate::api::pod::is_terminal;
use crate::client::{EventType, object_reference};
use crate::stdx::monotonic;
use k8s_openapi::api::core::v1::Pod;
use plan::{Group, ShutdownGrace, groups};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{info, warn};

/// The reason of pods that were ended because their machine went down, and what they say.
pub(super) const TERMINATED: &str = "Terminated";
const TERMINATED_MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";

/// After the last pods had their time, what they came to is told to the API within this.
const TELL_WITHIN: Duration = Duration::from_secs(5);

/// Whether the node's pods are being ended.
#[derive(Debug, Default)]
pub(super) struct Shutdown {
    is_under_way: watch::Sender<bool>,
    /// The uids of pods that are waited for.
    awaited: watch::Sender<BTreeSet<String>>,
}

impl Shutdown {
    pub(super) fn is_under_way(&self) -> bool {
        *self.is_under_way.borrow()
    }

    /// Nothing of the pod runs any more, and the API knows.
    pub(super) fn ended(&self, uid: &str) {
        self.awaited.send_if_modified(|awaited| awaited.remove(uid));
    }

    /// Waits until all of these have ended, or until then.
    async fn all_ended(&self, uids: &BTreeSet<String>, deadline: Instant) -> bool {
        let mut awaited = self.awaited.subscribe();
        let none = awaited.wait_for(|awaited| awaited.is_disjoint(uids));
        tokio::time::timeout_at(deadline.into(), none).await.is_ok()
    }
}

/// The longest that [`run`] takes.
pub(super) fn within(grace: &ShutdownGrace) -> Duration {
    TELL_SHUTDOWN_WITHIN + grace.whole() + TELL_WITHIN
}

/// Ends all pods, those that matter least first. The node says that it is not ready, and takes no
/// pod any more.
pub(super) async fn run(shared: &Shared) {
    shared.shutdown.is_under_way.send_replace(true);
    if let Some(node) = shared.keeper.node() {
        let message = "Shutdown manager detected shutdown event".to_owned();
        let regarding = object_reference(&*node);
        shared.events.record(regarding, EventType::Normal, "NodeShutdown", message);
    }
    // Before the first pod ends, so that those that take its place go elsewhere.
    shared.keeper.begin_shutdown().await;
    let mut pods = shared.all_pods();
    pods.retain(|pod| !is_terminal(pod));
    let grace = &shared.config.shutdown_grace;
    for group in groups(grace, pods.iter().map(|pod| uid_and_priority(pod))) {
        end(shared, group).await;
    }
    let late = shared.shutdown.awaited.borrow().clone();
    if !shared.shutdown.all_ended(&late, monotonic() + TELL_WITHIN).await {
        let left = shared.shutdown.awaited.borrow().len();
        warn!("{left} pods have not ended in time and end with the machine");
    }
}

async fn end(shared: &Shared, group: Group) {
    let deadline = monotonic() + group.grace.unsigned_abs();
    let (count, seconds) = (group.pods.len(), group.grace.as_secs());
    info!("the machine goes down: ending {count} pods within {seconds} s");
    let uids: BTreeSet<_> = group.pods.into_iter().collect();
    shared.shutdown.awaited.send_modify(|awaited| awaited.extend(uids.iter().cloned()));
    for uid in &uids {
        let eviction = Eviction {
            reason: TERMINATED,
            message: TERMINATED_MESSAGE.to_owned(),
            grace: group.grace,
            disruption: Some(TERMINATED_MESSAGE.to_owned()),
        };
        shared.evictions.order(uid, eviction);
        shared.bell.ring(uid);
    }
    shared.shutdown.all_ended(&uids, deadline).await;
}

fn uid_and_priority(pod: &Pod) -> (String, i32) {
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority);
    (pod.metadata.uid.clone().unwrap_or_default(), priority.unwrap_or_default())
}
