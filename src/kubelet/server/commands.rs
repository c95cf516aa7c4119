//! Commands in containers, and containers' own processes, for who talks to them.

use super::{Query, Refusal, has_container, plain};
use crate::kubelet::worker::Shared;
use crate::runtime::{
    ContainerId, ContainerState, Control, Controls, ExecRequest, Input, Output, RuntimeError,
    Session,
};
use crate::stdx::chain;
use crate::stdx::http::Response;
use crate::streaming::command::{self, Outcome, Sizes, Streams, Wanted};
use crate::streaming::{Receiver, Refused, Sender};
use http::{HeaderMap, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;
use std::time::Duration;

/// How long `/run` waits for a command: the kubelet's `runtimeRequestTimeout`.
const RUN_WITHIN: Duration = Duration::from_secs(120);

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self::new(refused.code, refused.text)
    }
}

pub(super) async fn exec(
    shared: &Shared,
    headers: &HeaderMap,
    (pod, container): (&Pod, &str),
    query: &Query,
) -> Result<Response, Refusal> {
    let wanted = wanted(query).check()?;
    let command: Vec<_> = query.all("command").map(str::to_owned).collect();
    let id = running(shared, pod, container).await?;
    let runtime = Arc::clone(&shared.runtime);
    let request = ExecRequest { command, stdin: wanted.stdin, tty: wanted.tty };
    answered(command::answer(headers, wanted, move |streams| async move {
        match runtime.open_exec(&id, request).await {
            Ok(session) => talk(session, streams, "error executing command in container").await,
            Err(error) => failed("error executing command in container", &error),
        }
    }))
}

pub(super) async fn attach(
    shared: &Shared,
    headers: &HeaderMap,
    (pod, container): (&Pod, &str),
    query: &Query,
) -> Result<Response, Refusal> {
    let wanted = wanted(query).check()?;
    let id = running(shared, pod, container).await?;
    let runtime = Arc::clone(&shared.runtime);
    answered(command::answer(headers, wanted, move |streams| async move {
        match runtime.attach(&id, wanted.stdin).await {
            Ok(session) => talk(session, streams, "error attaching to container").await,
            Err(error) => failed("error attaching to container", &error),
        }
    }))
}

/// Runs a command and says what it printed (upstream `getRun`).
pub(super) async fn run(
    shared: &Shared,
    pod: &Pod,
    container: &str,
    query: &Query,
) -> Result<Response, Refusal> {
    let command = query.get("cmd").unwrap_or_default();
    let command = command.split(' ').map(str::to_owned).collect();
    let id = running(shared, pod, container).await?;
    let ended = shared.runtime.exec(&id, command, RUN_WITHIN).await;
    let ended = ended.map_err(|error| Refusal::internal(chain(&error)))?;
    Ok(plain(StatusCode::OK, [ended.stdout, ended.stderr].concat()))
}

/// A refusal in the words and headers of the protocol.
fn answered(answer: Result<Response, Refused>) -> Result<Response, Refusal> {
    Ok(answer.unwrap_or_else(|refused| refused.answer()))
}

fn wanted(query: &Query) -> Wanted {
    Wanted {
        stdin: query.is_set("input"),
        stdout: query.is_set("output"),
        stderr: query.is_set("error"),
        tty: query.is_set("tty"),
    }
}

/// The running container of that name.
async fn running(shared: &Shared, pod: &Pod, name: &str) -> Result<ContainerId, Refusal> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let not_found =
        || Refusal::new(StatusCode::NOT_FOUND, format!("container not found ({name:?})"));
    if !has_container(pod, name) {
        return Err(not_found());
    }
    let found = shared.runtime.pod(uid).await;
    let found = found.map_err(|error| Refusal::internal(chain(&error)))?;
    let mut named = found.containers.into_iter().filter(|container| container.name == name);
    let is_running = |state: &ContainerState| matches!(state, ContainerState::Running { .. });
    named.find(|container| is_running(&container.state)).map(|it| it.id).ok_or_else(not_found)
}

fn failed(what: &str, error: &RuntimeError) -> Outcome {
    Outcome::Failed(format!("{what}: {}", chain(error)))
}

/// Carries everything between a client and a process until the process has ended and its outputs
/// are sent.
async fn talk(session: Session, streams: Streams, what: &str) -> Outcome {
    let Session { stdin, stdout, stderr, mut process } = session;
    let (controls, sizes) = (process.controls(), streams.sizes);
    let ending = async {
        let outputs = async {
            tokio::join!(send(Some(stdout), streams.stdout), send(stderr, streams.stderr));
        };
        tokio::pin!(outputs);
        tokio::select! {
            () = &mut outputs => {}
            ended = process.ended() => {
                // With the runtime gone nothing will be said any more, which the client is told.
                if ended.is_ok() {
                    outputs.await;
                }
                return ended;
            }
        }
        process.ended().await
    };
    let asking = async {
        tokio::join!(feed(stdin, streams.stdin, &controls), resize(sizes, &controls));
        std::future::pending::<std::convert::Infallible>().await
    };
    let ended = tokio::select! {
        ended = ending => ended,
        never = asking => match never {},
    };
    match ended {
        Ok(0) => Outcome::Succeeded,
        Ok(code) => Outcome::Exited(code),
        Err(error) => failed(what, &error),
    }
}

/// Sends an output to its end. One that nobody wants is read all the same: the process must not
/// wait for room.
async fn send(output: Option<Output>, to: Option<Sender>) {
    let Some(mut output) = output else {
        return;
    };
    if let Some(mut to) = to
        && to.copy_from(&mut output).await.is_ok()
    {
        to.finish().await;
        return;
    }
    // A pipe that breaks has ended.
    tokio::io::copy(&mut output, &mut tokio::io::sink()).await.ok();
}

/// Gives a process what the client writes, and then the end of it.
async fn feed(stdin: Option<Input>, from: Option<Receiver>, controls: &Controls) {
    if let (Some(mut stdin), Some(mut from)) = (stdin, from) {
        // A process may end, or close its input, without reading all of it.
        from.copy_to(&mut stdin).await.ok();
        drop(stdin);
        controls.send(Control::CloseInput).await;
    }
}

async fn resize(sizes: Option<Sizes>, controls: &Controls) {
    let Some(mut sizes) = sizes else {
        return;
    };
    while let Some(size) = sizes.next().await {
        let (width, height) = (size.width, size.height);
        controls.send(Control::Resize { width, height }).await;
    }
}
