//! How the runtime learns that a container has ended, and what it does then.
//!
//! The shim's `Wait` is the truth. Its events are not used: a shim drops those it cannot deliver.

use super::super::shim::{CallError, Exit, Process, Shim, launch};
use super::super::{ContainerState, RuntimeEvent};
use super::records::{self, StartedRecord};
use super::tables::Container;
use super::{Engine, failed};
use crate::stdx::{blocking, chain, fault};
use jiff::Timestamp;
use std::sync::Arc;

/// What is said of a container whose end nobody saw: containerd's `unknownExitCode`.
const UNKNOWN_EXIT_CODE: i32 = 255;

/// 128 and SIGKILL: how a container ends whose shim is gone.
const KILLED_EXIT_CODE: i32 = 137;

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) code: i32,
    pub(super) at: Option<Timestamp>,
    /// Empty where the code says it all.
    pub(super) message: String,
}

impl Ending {
    pub(super) fn seen(exit: Exit) -> Self {
        Self { code: exit.code, at: exit.at, message: String::new() }
    }

    pub(super) fn unknown(message: &str) -> Self {
        Self { code: UNKNOWN_EXIT_CODE, at: None, message: message.to_owned() }
    }
}

impl Engine {
    /// Waits for the container's end in a task of its own.
    pub(super) fn supervise(self: &Arc<Self>, container: &Arc<Container>, shim: Arc<Shim>) {
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        self.tasks.spawn(async move {
            let exit = tokio::select! {
                () = engine.shutdown.cancelled() => return,
                // Whoever watches the sandbox takes care of its containers.
                () = shim.ended() => return,
                exit = shim.wait(Process::first_of(&container.id.0)) => exit,
            };
            match exit {
                Ok(exit) => engine.end(&container, Some(&shim), Ending::seen(exit)).await,
                Err(CallError::NotFound) => {
                    let ending = Ending::unknown("the shim has forgotten the container");
                    engine.end(&container, Some(&shim), ending).await;
                }
                Err(error) => {
                    // A shim that cannot be asked any more is as good as dead; its end is noticed.
                    let container = &container.id;
                    tracing::warn!(%container, error = chain(&error), "a shim fails to answer");
                    if let Err(error) = shim.kill() {
                        tracing::warn!(%container, %error, "a shim cannot be killed");
                    }
                }
            }
        });
    }

    /// Takes note of a container's end, once: on disk, then in the shim, then to everyone.
    pub(super) async fn end(
        &self,
        container: &Arc<Container>,
        shim: Option<&Shim>,
        ending: Ending,
    ) {
        if !container.begin_ending() {
            return;
        }
        let started: Option<StartedRecord> =
            records::read(&container.files.started()).unwrap_or_default();
        let state = ContainerState::Exited {
            exit_code: ending.code,
            oom_killed: self.cgroups.oom_kills(&container.cgroup) > 0,
            started_at: started.map(|record| record.started_at),
            finished_at: ending.at.unwrap_or_else(|| self.config.clock.now()),
            message: ending.message,
        };
        let (path, recorded) = (container.files.exit(), state.clone());
        let written = blocking(move || records::write(&path, &recorded)).await;
        if let Err(error) = written {
            // It is known until this process ends; the next one asks the shim, or does not know.
            let error = chain(&failed("recording a container's end", error));
            tracing::warn!(container = %container.id, error, "a container's end is not on disk");
        }
        fault::point("container: end recorded");
        if let Some(shim) = shim {
            // The shim waits here until the logger has written everything.
            if let Err(error) = shim.delete(Process::first_of(&container.id.0)).await {
                tracing::warn!(container = %container.id, error = chain(&error), "a shim keeps an ended task");
            }
        }
        container.state.send_replace(state);
        let pod = container.sandbox.record.config.pod.clone();
        self.events.send(RuntimeEvent::ContainerExited { pod, container: container.id.clone() });
    }

    /// Ends a container whose shim is gone.
    pub(super) async fn lose_container(&self, container: &Arc<Container>) {
        let (cgroups, cgroup) = (self.cgroups.clone(), container.cgroup.clone());
        if let Err(error) = blocking(move || cgroups.kill(&cgroup)).await {
            tracing::warn!(container = %container.id, %error, "a container without a shim runs on");
        }
        if let Ok(handler) = self.handler(&container.sandbox.record.config) {
            let (node, bundle) = (self.layout.node(), container.files.bundle());
            let deleted = launch::delete(&handler, node, bundle, &container.id.0).await;
            if let Err(error) = deleted {
                tracing::debug!(container = %container.id, error = chain(&error), "the OCI runtime's state stays");
            }
        }
        let message = "the shim of its sandbox ended unexpectedly".to_owned();
        let ending = Ending { code: KILLED_EXIT_CODE, at: None, message };
        self.end(container, None, ending).await;
    }
}
