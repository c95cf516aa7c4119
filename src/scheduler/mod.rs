//! Decides which node each pod goes to.
//!
//! Start at [`plan`], the decision; [`Scheduler::start`] feeds it. Changes of pods and nodes go
//! straight from the caches into the queue and the snapshot; one task takes pods off the queue,
//! several a pass, and binds them side by side. Architecture invariant: the decision sees only the
//! snapshot, and a decided placement counts in it at once.

mod outcome;
mod plan;
mod plugins;
mod queue;
mod resources;
mod snapshot;

pub use outcome::reporter;

use crate::api::{ObjectKey, pod};
use crate::client::{Cache, Change, Client, ClientError, EventRecorder};
use crate::stdx::{Tasks, chain, monotonic};
use k8s_openapi::api::core::v1::{Node, Pod};
use plan::{Placement, place};
use queue::Queue;
use snapshot::{PodFacts, Snapshot};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The name that pods say when they want this scheduler, and the default of `spec.schedulerName`.
const SCHEDULER_NAME: &str = "default-scheduler";

/// This many bindings and reports are under way at once; further pods wait in the queue.
const WRITES_MAX: usize = 64;

/// What the scheduler needs from outside.
#[derive(Debug)]
pub struct Config {
    pub client: Client,
    /// All pods of the cluster.
    pub pods: Arc<Cache<Pod>>,
    pub nodes: Arc<Cache<Node>>,
    pub recorder: EventRecorder,
}

/// The running scheduler.
#[derive(Debug)]
pub struct Scheduler {
    state: Mutex<State>,
    /// Told when the queue may have something to do.
    changed: Notify,
    client: Client,
    recorder: EventRecorder,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    snapshot: Snapshot,
    /// Counts decisions, so that equal nodes take turns.
    decisions: usize,
}

/// A pod with what was decided for it.
#[derive(Debug)]
struct Decision {
    pod: Arc<PodFacts>,
    placement: Placement,
}

impl Scheduler {
    /// Starts scheduling.
    pub fn start(config: Config, tasks: &mut Tasks) {
        let scheduler = Arc::new(Self {
            state: Mutex::default(),
            changed: Notify::new(),
            client: config.client,
            recorder: config.recorder,
        });
        let shutdown = tasks.shutdown();
        let running = Arc::clone(&scheduler);
        let (pods, nodes) = (Arc::clone(&config.pods), Arc::clone(&config.nodes));
        tasks.spawn("scheduler", async move {
            // Before all nodes and pods are known, a full node would look empty.
            let synced = async { tokio::join!(pods.synced(), nodes.synced()) };
            if shutdown.run_until_cancelled(synced).await.is_some() {
                running.run(shutdown).await;
            }
        });
        let listening = Arc::clone(&scheduler);
        config.pods.on_change(move |change| listening.note_pod(change));
        config.nodes.on_change(move |change| scheduler.note_node(change));
    }

    async fn run(&self, shutdown: CancellationToken) {
        let mut writes = JoinSet::new();
        loop {
            for decision in self.decide(WRITES_MAX - writes.len()) {
                let write = outcome::write(self.client.clone(), self.recorder.clone(), decision);
                writes.spawn(write);
            }
            let wake = self.lock().queue.next_wake(monotonic());
            let wake = wake.filter(|_| writes.len() < WRITES_MAX);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.changed.notified() => {}
                () = sleep_until(wake) => {}
                Some(written) = writes.join_next() => match written {
                    Ok((decision, result)) => self.settle(&decision, result),
                    Err(error) => warn!(%error, "a binding did not finish"),
                },
            }
        }
    }

    /// One pass: places up to `max` pods against one snapshot, each counted before the next.
    fn decide(&self, max: usize) -> Vec<Decision> {
        let now = monotonic();
        let mut decisions = Vec::new();
        let mut state = self.lock();
        while decisions.len() < max {
            let Some(pod) = state.queue.take(now) else { break };
            state.decisions = state.decisions.wrapping_add(1);
            let placement = place(&pod, &state.snapshot, state.decisions);
            match &placement {
                Placement::Node(node) => state.snapshot.assume(Arc::clone(&pod), node),
                // It waits from now on, so that a change during the report is not missed.
                Placement::Nowhere { .. } => state.queue.unschedulable(&pod.uid, now),
            }
            decisions.push(Decision { pod, placement });
        }
        decisions
    }

    fn settle(&self, decision: &Decision, result: Result<(), ClientError>) {
        let Err(error) = result else { return };
        let pod = &decision.pod;
        if let Placement::Node(node) = &decision.placement {
            let mut state = self.lock();
            state.snapshot.forget(&pod.uid);
            if error.is_not_found() {
                state.queue.remove(&pod.uid);
                return;
            }
            state.queue.failed(&pod.uid, monotonic());
            drop(state);
            warn!(pod = %pod.key, node, error = chain(&error), "binding failed; will retry");
        } else if !error.is_not_found() {
            warn!(pod = %pod.key, error = chain(&error), "reporting an unschedulable pod failed");
        }
    }

    fn note_pod(&self, change: &Change<Pod>) {
        let mut state = self.lock();
        let uid = |pod: &Arc<Pod>| pod.metadata.uid.clone().unwrap_or_default();
        let (old, new) = (change.old.as_ref().map(uid), change.new.as_ref().map(uid));
        if old.is_some() && old != new {
            state.gone(old.as_deref().unwrap_or_default());
        }
        if let Some(pod) = &change.new {
            state.heard_of(&change.key, pod);
        }
        self.changed.notify_one();
    }

    fn note_node(&self, change: &Change<Node>) {
        let mut state = self.lock();
        state.snapshot.set_node(&change.key.name, change.new.clone());
        // Heartbeats change nothing that a placement depends on.
        if change.new.is_some() && may_make_room(change) {
            state.queue.cluster_changed();
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panics under this lock")
    }
}

impl State {
    fn heard_of(&mut self, key: &ObjectKey, pod: &Arc<Pod>) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        match pod::node_name(pod) {
            _ if pod::is_terminal(pod) => self.gone(uid),
            Some(node) => {
                let facts = Arc::new(PodFacts::new(key.clone(), Arc::clone(pod)));
                self.snapshot.assume(facts, node);
                self.queue.remove(uid);
            }
            None if is_ours(pod) => {
                self.queue.set(Arc::new(PodFacts::new(key.clone(), Arc::clone(pod))));
            }
            None => self.queue.remove(uid),
        }
    }

    fn gone(&mut self, uid: &str) {
        self.queue.remove(uid);
        if self.snapshot.is_placed(uid) {
            self.snapshot.forget(uid);
            self.queue.cluster_changed();
        }
    }
}

fn may_make_room(change: &Change<Node>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let allocatable =
        |node: &Arc<Node>| node.status.as_ref().and_then(|status| status.allocatable.clone());
    old.spec != new.spec
        || old.metadata.labels != new.metadata.labels
        || allocatable(old) != allocatable(new)
}

/// Whether the pod waits for this scheduler.
fn is_ours(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let name = spec.scheduler_name.as_deref().unwrap_or(SCHEDULER_NAME);
    let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    name == SCHEDULER_NAME && !gated && pod.metadata.deletion_timestamp.is_none()
}

async fn sleep_until(wake: Option<std::time::Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
