//! What a pod wants done in a container after it has started and before it is ended: upstream
//! pkg/kubelet/lifecycle/handlers.go (v1.35).

use crate::runtime::{ContainerId, Runtime};
use crate::stdx::chain;
use k8s_openapi::api::core::v1::LifecycleHandler;
use std::time::Duration;

/// Why a hook did not do its work.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookError {
    #[error("command exited with {exit_code}: {output}")]
    Exited { exit_code: i32, output: String },
    #[error("{0}")]
    Runtime(String),
    #[error("{0} hooks are not supported by this kubelet")]
    Unsupported(&'static str),
}

/// Runs a hook and returns when it has done its work, or `within` has passed.
pub(super) async fn run(
    runtime: &dyn Runtime,
    container: &ContainerId,
    hook: &LifecycleHandler,
    within: Duration,
) -> Result<(), HookError> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let ended = runtime.exec(container, command, within).await;
        let ended = ended.map_err(|error| HookError::Runtime(chain(&error)))?;
        if ended.exit_code == 0 {
            return Ok(());
        }
        let output = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
        return Err(HookError::Exited { exit_code: ended.exit_code, output });
    }
    if let Some(sleep) = &hook.sleep {
        let wanted = Duration::from_secs(sleep.seconds.try_into().unwrap_or(0));
        tokio::time::sleep(wanted.min(within)).await;
        return Ok(());
    }
    match hook {
        hook if hook.http_get.is_some() => Err(HookError::Unsupported("httpGet")),
        hook if hook.tcp_socket.is_some() => Err(HookError::Unsupported("tcpSocket")),
        _ => Ok(()),
    }
}
