//! What a pod wants done in a container after it has started and before it is ended: upstream
//! pkg/kubelet/lifecycle/handlers.go (v1.35).

use super::http_get::{self, HttpGetError};
use crate::client::{EventRecorder, EventType};
use crate::runtime::{ContainerId, Runtime};
use crate::stdx::chain;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, ObjectReference};
use std::net::IpAddr;
use std::time::Duration;
use tracing::debug;

/// What hooks that are asked over HTTP are told of who asks.
const AGENT: &str = "kube-lifecycle/1.35";

/// Why a hook did not do its work.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookError {
    #[error("command exited with {exit_code}: {output}")]
    Exited { exit_code: i32, output: String },
    #[error("{0}")]
    Runtime(String),
    #[error("the container did not answer as it should")]
    Http(#[source] HttpGetError),
    #[error("it took longer than {} s", .0.as_secs())]
    Deadline(Duration),
    /// `tcpSocket` was never one, although the API has the field: pods with it are told when it
    /// would run.
    #[error("it is neither a command nor a request nor a pause")]
    Invalid,
}

/// A hook of one container, with what it takes to run it.
#[derive(Clone, Debug)]
pub(super) struct Hook {
    pub(super) handler: LifecycleHandler,
    pub(super) container: ContainerId,
    /// Whose ports have names.
    pub(super) spec: Container,
    /// The pod's first.
    pub(super) address: Option<IpAddr>,
    /// The container, for events.
    pub(super) regarding: ObjectReference,
}

impl Hook {
    /// Returns when the hook has done its work, or `within` has passed.
    pub(super) async fn run(
        &self,
        runtime: &dyn Runtime,
        events: &EventRecorder,
        within: Duration,
    ) -> Result<(), HookError> {
        if let Some(exec) = &self.handler.exec {
            let command = exec.command.clone().unwrap_or_default();
            return run_command(runtime, &self.container, command, within).await;
        }
        if let Some(action) = &self.handler.http_get {
            let asked = tokio::time::timeout(within, self.ask(action, events)).await;
            let asked = asked.map_err(|_elapsed| HookError::Deadline(within))?;
            return asked.map_err(HookError::Http);
        }
        if let Some(sleep) = &self.handler.sleep {
            let wanted = Duration::from_secs(sleep.seconds.try_into().unwrap_or(0));
            tokio::time::sleep(wanted.min(within)).await;
            return Ok(());
        }
        Err(HookError::Invalid)
    }

    /// Upstream `runHTTPHandler`: that there is an answer is enough.
    async fn ask(
        &self,
        action: &HTTPGetAction,
        events: &EventRecorder,
    ) -> Result<(), HttpGetError> {
        let get = http_get::plan(action, &self.spec, self.address, AGENT)?;
        let authority = get.authority();
        match http_get::send(get.clone()).await {
            Ok(_answer) => Ok(()),
            Err(error @ HttpGetError::NotTls { .. }) => {
                debug!(authority, error = chain(&error), "asking a hook again without TLS");
                http_get::send(get.in_plain()).await.map_err(|_again| error)?;
                let message = format!(
                    "request to HTTPS lifecycle hook {authority} got HTTP response, retry with \
                     HTTP succeeded"
                );
                let regarding = ObjectReference { field_path: None, ..self.regarding.clone() };
                events.record(regarding, EventType::Warning, "LifecycleHTTPFallback", message);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

async fn run_command(
    runtime: &dyn Runtime,
    container: &ContainerId,
    command: Vec<String>,
    within: Duration,
) -> Result<(), HookError> {
    let ended = runtime.exec(container, command, within).await;
    let ended = ended.map_err(|error| HookError::Runtime(chain(&error)))?;
    if ended.exit_code == 0 {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    Err(HookError::Exited { exit_code: ended.exit_code, output })
}
