//! Running further commands in a container: talked to while they run, or collected.

use super::super::session::{Control, ExecRequest, Session, SessionKeeper, SessionProcess};
use super::super::shim::{CallError, Exit, NewProcess, Process, Reach, SIGKILL, Shim};
use super::super::{ContainerId, ExecResult, RuntimeError};
use super::pipes::{NamedPipe, Outlets, Released, hold, open_input};
use super::records;
use super::tables::Container;
use super::{Engine, failed};
use crate::stdx::chain;
use oci_spec::runtime::{Process as ProcessSpec, Spec};
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

/// What a command that is collected prints beyond this is read and dropped: the kubelet's
/// `maxRespBodyLength` for what exec probes keep is far below.
const OUTPUT_BYTES_MAX: usize = 16 << 20;

/// How long a killed command may take to end.
const KILLED_WITHIN: Duration = Duration::from_secs(2);

/// What a terminal that is gone sends to those on it.
const SIGHUP: u32 = 1;

/// What writing to a pipe without a reader sends.
const SIGPIPE: u32 = 13;

const OPERATION: &str = "running a command in a container";

impl Engine {
    /// Runs a command to its end and collects what it prints.
    pub(super) async fn exec(
        self: &Arc<Self>,
        id: &ContainerId,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecResult, RuntimeError> {
        // The time begins now, but a start is not broken off: who knows what is started then.
        let deadline = tokio::time::Instant::now() + timeout;
        let request = ExecRequest { command, stdin: false, tty: false };
        let Session { mut stdout, stderr, mut process, .. } = self.open_exec(id, request).await?;
        let mut stderr = stderr.expect("there is no terminal");
        let running = async {
            let (stdout, stderr) = tokio::join!(collect(&mut stdout), collect(&mut stderr));
            Ok(ExecResult { exit_code: process.ended().await?, stdout, stderr })
        };
        match tokio::time::timeout_at(deadline, running).await {
            Ok(result) => result,
            Err(_elapsed) => {
                process.control(Control::Kill).await;
                if tokio::time::timeout(KILLED_WITHIN, process.ended()).await.is_err() {
                    tracing::warn!(container = %id, "a killed command does not end");
                }
                Err(RuntimeError::Timeout { operation: OPERATION, seconds: timeout.as_secs() })
            }
        }
    }

    /// Starts a command and connects its input and outputs.
    pub(super) async fn open_exec(
        self: &Arc<Self>,
        id: &ContainerId,
        request: ExecRequest,
    ) -> Result<Session, RuntimeError> {
        let container = self.container(id)?;
        let shim = container.sandbox.shim().filter(|_| container.is_running());
        let Some(shim) = shim else {
            let message = "it is not running".to_owned();
            return Err(RuntimeError::Refused { operation: OPERATION, message });
        };
        let spec = process_spec(&container, &request).map_err(|error| failed(OPERATION, error))?;
        let exec = uuid::Uuid::new_v4().simple().to_string();
        let exited = CancellationToken::new();
        let (outlets, released) = Outlets::new(Arc::clone(&shim), exited.clone());
        let pipes = Pipes::make(container.files.bundle(), &exec, &request, &outlets)
            .map_err(|error| failed(OPERATION, error))?;
        drop(outlets);
        let (process, keeper) = SessionProcess::new();
        let (stdin, tty) = (request.stdin, request.tty);
        let kept = Kept { container, shim, exec, stdin, tty, exited };
        let (session, names) = match kept.start(pipes, &spec, process).await {
            Ok(started) => started,
            Err(error) => {
                kept.kill().await;
                kept.forget().await;
                return Err(error.of(OPERATION));
            }
        };
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            let keeping = kept.keep(keeper, released, &names);
            if shutdown.run_until_cancelled(keeping).await.is_none() {
                kept.hang_up().await;
            }
        });
        Ok(session)
    }
}

/// Reads to the end. What is over the limit is dropped, so that the command does not wait.
async fn collect(output: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut read = Vec::new();
    loop {
        let length_before = read.len();
        // A pipe of this process's own breaks in no other way than by ending.
        if output.read_buf(&mut read).await.unwrap_or(0) == 0 {
            read.truncate(OUTPUT_BYTES_MAX);
            return read;
        }
        if length_before >= OUTPUT_BYTES_MAX {
            read.truncate(length_before);
        }
    }
}

/// The container's own process with another command.
fn process_spec(container: &Container, request: &ExecRequest) -> io::Result<Vec<u8>> {
    let spec: Option<Spec> = records::read(&container.files.spec())?;
    let process = spec.and_then(|spec| spec.process().clone());
    let mut process = process.ok_or(io::ErrorKind::NotFound)?;
    process.set_args(Some(request.command.clone()));
    process.set_terminal(Some(request.tty));
    if request.tty {
        name_terminal(&mut process);
    }
    Ok(serde_json::to_vec(&process)?)
}

/// What programs on a terminal look at to know what it can.
fn name_terminal(process: &mut ProcessSpec) {
    let mut environment = process.env().clone().unwrap_or_default();
    if !environment.iter().any(|variable| variable.starts_with("TERM=")) {
        environment.push("TERM=xterm".to_owned());
    }
    process.set_env(Some(environment));
}

/// The pipes of a command, with our ends of them.
struct Pipes {
    names: Names,
    stdout: super::pipes::PipeOutput,
    stderr: Option<super::pipes::PipeOutput>,
    /// Keep the outputs from ending before the shim has opened them.
    held: Vec<pipe::Sender>,
}

/// The pipes of a command by their names, which go with this.
struct Names {
    stdin: Option<NamedPipe>,
    stdout: NamedPipe,
    stderr: Option<NamedPipe>,
}

impl Pipes {
    fn make(
        bundle: &Path,
        exec: &str,
        request: &ExecRequest,
        outlets: &Outlets,
    ) -> io::Result<Self> {
        let make = |end: &str| NamedPipe::make(bundle.join(format!("{exec}-{end}")));
        let names = Names {
            stdin: request.stdin.then(|| make("in")).transpose()?,
            stdout: make("out")?,
            stderr: (!request.tty).then(|| make("err")).transpose()?,
        };
        let stdout = outlets.open(names.stdout.path())?;
        let stderr = names.stderr.as_ref().map(|name| outlets.open(name.path())).transpose()?;
        let outputs = [Some(&names.stdout), names.stderr.as_ref()];
        let held = outputs.into_iter().flatten().map(|name| hold(name.path()));
        let held = held.collect::<io::Result<_>>()?;
        Ok(Self { names, stdout, stderr, held })
    }
}

/// A command that runs in a container, for who keeps it.
struct Kept {
    container: Arc<Container>,
    shim: Arc<Shim>,
    exec: String,
    stdin: bool,
    tty: bool,
    exited: CancellationToken,
}

impl Kept {
    fn process(&self) -> Process<'_> {
        Process { task: &self.container.id.0, exec: &self.exec }
    }

    async fn start(
        &self,
        pipes: Pipes,
        spec: &[u8],
        process: SessionProcess,
    ) -> Result<(Session, Names), CallError> {
        let Pipes { names, stdout, stderr, held } = pipes;
        let text = |name: Option<&NamedPipe>| {
            name.map(|name| name.path().to_string_lossy().into_owned()).unwrap_or_default()
        };
        let new = NewProcess {
            process: self.process(),
            spec,
            has_terminal: self.tty,
            stdin: &text(names.stdin.as_ref()),
            stdout: &text(Some(&names.stdout)),
            stderr: &text(names.stderr.as_ref()),
        };
        let turn = self.container.sandbox.exec_start().await;
        self.shim.exec(new).await?;
        self.shim.start(self.process()).await?;
        drop(turn);
        let stdin = match &names.stdin {
            Some(name) => Some(open_input(name.path()).await.map_err(CallError::lost)?),
            None => None,
        };
        // The shim has the other ends open by now; when it closes them, that was all.
        drop(held);
        let session = Session {
            stdin: stdin.map(|stdin| Box::new(stdin) as _),
            stdout: Box::new(stdout),
            stderr: stderr.map(|stderr| Box::new(stderr) as _),
            process,
        };
        Ok((session, names))
    }

    /// Does what is wished until the command has ended and its outputs are read.
    async fn keep(&self, mut keeper: SessionKeeper, mut released: Released, names: &Names) {
        let ended = {
            let waiting = self.shim.wait(self.process());
            tokio::pin!(waiting);
            loop {
                tokio::select! {
                    ended = &mut waiting => break ended,
                    wish = keeper.controls.recv() => match wish {
                        Some(control) => self.apply(control).await,
                        None => {
                            self.hang_up().await;
                            break self.run_out(waiting, names).await;
                        }
                    }
                }
            }
        };
        self.exited.cancel();
        keeper.end(ended.map(|exit| exit.code).map_err(|error| error.of(OPERATION)));
        // The shim closes the outputs of what it forgets, also where they are not read yet.
        while released.recv().await.is_some() {}
        self.forget().await;
    }

    /// Nobody talks to the command any more: with a terminal, the terminal is gone; otherwise there
    /// is no more input, as containerd has it (CRI `execInternal`, v2.1).
    async fn hang_up(&self) {
        let told = match (self.tty, self.stdin) {
            (true, _) => self.shim.signal(self.process(), SIGHUP, Reach::One).await,
            (false, true) => self.shim.close_input(self.process()).await,
            (false, false) => Ok(()),
        };
        if let Err(error) = told {
            let container = &self.container.id;
            tracing::debug!(%container, error = chain(&error), "a command was not hung up");
        }
    }

    /// Waits for a command whose outputs nobody reads. It goes on in silence, and when it writes to
    /// a pipe it is told as any writer is whose reader is gone; so that none waits for ever for
    /// room in a pipe.
    async fn run_out(
        &self,
        waiting: impl Future<Output = Result<Exit, CallError>>,
        names: &Names,
    ) -> Result<Exit, CallError> {
        let draining = async {
            let second = async {
                if let Some(name) = &names.stderr {
                    self.drain(name).await;
                }
            };
            tokio::join!(self.drain(&names.stdout), second);
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            ended = waiting => ended,
            never = draining => match never {},
        }
    }

    async fn drain(&self, name: &NamedPipe) {
        let Ok(mut output) = pipe::OpenOptions::new().open_receiver(name.path()) else {
            return;
        };
        let mut buffer = vec![0; 4 << 10];
        let mut is_told = self.tty;
        while let Ok(1..) = output.read(&mut buffer).await {
            if !std::mem::replace(&mut is_told, true)
                && let Err(error) = self.shim.signal(self.process(), SIGPIPE, Reach::One).await
            {
                let container = &self.container.id;
                tracing::debug!(%container, error = chain(&error), "a command was not told");
            }
        }
    }

    /// Ends what may have been started.
    async fn kill(&self) {
        let (process, container) = (self.process(), &self.container.id);
        if let Err(error) = self.shim.signal(process, SIGKILL, Reach::One).await {
            tracing::debug!(%container, error = chain(&error), "nothing to kill");
        }
        // A shim forgets a process only after it has ended.
        if tokio::time::timeout(KILLED_WITHIN, self.shim.wait(process)).await.is_err() {
            tracing::warn!(%container, "a killed command does not end");
        }
    }

    async fn forget(&self) {
        if let Err(error) = self.shim.delete(self.process()).await {
            let container = &self.container.id;
            tracing::debug!(%container, error = chain(&error), "a shim keeps an ended process");
        }
    }

    async fn apply(&self, control: Control) {
        let process = self.process();
        let done = match control {
            Control::Resize { width, height } => self.shim.resize(process, width, height).await,
            Control::CloseInput => self.shim.close_input(process).await,
            Control::Kill => self.shim.signal(process, SIGKILL, Reach::One).await,
        };
        if let Err(error) = done {
            let container = &self.container.id;
            tracing::debug!(%container, error = chain(&error), "a command did not take {control:?}");
        }
    }
}
