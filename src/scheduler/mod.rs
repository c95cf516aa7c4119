//! Decides which node each pod goes to.
//!
//! Start at [`plan`], the decision, and at [`state`], what leads to it; [`Scheduler::start`] feeds it.
//! Changes go straight from the caches into the queue and the snapshot; one task takes pods off the
//! queue, several a pass, and writes what was decided side by side. Architecture invariants: the
//! decision sees only the snapshot, a decided placement counts in it at once, and a pod that fits
//! nowhere waits for an event that may help it.

mod cycle;
mod event;
mod feed;
mod journal;
mod known;
mod message;
mod node;
mod outcome;
mod plan;
mod plugins;
mod pod;
mod preempt;
mod queue;
mod ranking;
mod resources;
#[cfg(test)]
mod simulation;
mod snapshot;
mod state;
mod storage;
mod workloads;

#[cfg(test)]
mod tests;

pub use feed::{Caches, own};
pub use outcome::reporter;

use crate::client::{Client, EventRecorder};
use crate::stdx::{Tasks, monotonic};
use outcome::Writer;
use state::State;
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
    pub caches: Caches,
    pub recorder: EventRecorder,
}

/// The running scheduler.
#[derive(Debug)]
pub struct Scheduler {
    state: Mutex<State>,
    /// Told when there may be something to do.
    changed: Notify,
    writer: Writer,
}

impl Scheduler {
    /// Starts scheduling.
    pub fn start(config: Config, tasks: &mut Tasks) {
        let Config { client, caches, recorder } = config;
        let scheduler = Arc::new(Self {
            state: Mutex::default(),
            changed: Notify::new(),
            writer: Writer { client, recorder },
        });
        let shutdown = tasks.shutdown();
        let (running, all) = (Arc::clone(&scheduler), caches.clone());
        tasks.spawn("scheduler", async move {
            // Before all nodes and pods are known, a full node would look empty.
            if shutdown.run_until_cancelled(all.synced()).await.is_some() {
                running.run(shutdown).await;
            }
        });
        feed::listen(&caches, &scheduler);
    }

    async fn run(&self, shutdown: CancellationToken) {
        let mut writes = JoinSet::new();
        loop {
            let (actions, wake) = {
                let (mut state, now) = (self.lock(), monotonic());
                (state.next_actions(WRITES_MAX - writes.len(), now), state.next_wake(now))
            };
            for action in actions {
                writes.spawn(self.writer.clone().carry_out(action));
            }
            let wake = wake.filter(|_| writes.len() < WRITES_MAX);
            // In this order, so that what is played again goes the same way.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.changed.notified() => {}
                () = sleep_until(wake) => {}
                Some(written) = writes.join_next() => match written {
                    Ok((action, outcome)) => {
                        let mut state = self.lock();
                        state.settle(&action, outcome, monotonic());
                        // Those that ended meanwhile are settled in one go.
                        while let Some(Ok((action, outcome))) = writes.try_join_next() {
                            state.settle(&action, outcome, monotonic());
                        }
                    }
                    Err(error) => warn!(%error, "a write did not finish"),
                },
            }
        }
    }

    /// Takes a change in.
    fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panics under this lock")
    }
}

async fn sleep_until(wake: Option<std::time::Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
