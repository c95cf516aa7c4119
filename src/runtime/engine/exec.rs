//! Running a command in a container and collecting what it prints.

use super::super::shim::{CallError, Exit, NewProcess, Process, Reach, SIGKILL, Shim};
use super::super::{ContainerId, ExecResult, RuntimeError};
use super::records;
use super::tables::Container;
use super::{Engine, failed};
use crate::stdx::chain;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use oci_spec::runtime::Spec;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

/// What a command prints beyond this is read and dropped: the kubelet's `maxRespBodyLength` for
/// what exec probes keep is far below.
const OUTPUT_BYTES_MAX: usize = 16 << 20;

/// How long to read on after the command has ended, where something it started holds its output.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

impl Engine {
    pub(super) async fn exec(
        &self,
        id: &ContainerId,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecResult, RuntimeError> {
        const OPERATION: &str = "running a command in a container";
        let container = self.container(id)?;
        let shim = container.sandbox.shim().filter(|_| container.is_running());
        let Some(shim) = shim else {
            let message = "it is not running".to_owned();
            return Err(RuntimeError::Refused { operation: OPERATION, message });
        };
        let spec = process_spec(&container, command).map_err(|error| failed(OPERATION, error))?;
        let exec_id = uuid::Uuid::new_v4().simple().to_string();
        let process = Process { task: &id.0, exec: &exec_id };
        let outputs = Outputs::make(container.files.bundle(), &exec_id)
            .map_err(|error| failed(OPERATION, error))?;
        let result = run(&shim, process, &spec, outputs, timeout).await;
        let result = match result {
            Ok(Some(result)) => Ok(result),
            Ok(None) => {
                Err(RuntimeError::Timeout { operation: OPERATION, seconds: timeout.as_secs() })
            }
            Err(error) => Err(error.of(OPERATION)),
        };
        if result.is_err() {
            end_process(&shim, process).await;
        }
        if let Err(error) = shim.delete(process).await {
            tracing::debug!(container = %id, error = chain(&error), "a shim keeps an ended process");
        }
        result
    }
}

async fn end_process(shim: &Arc<Shim>, process: Process<'_>) {
    let killed = shim.signal(process, SIGKILL, Reach::One).await;
    if let Err(error) = killed {
        tracing::debug!(container = process.task, error = chain(&error), "nothing to kill");
    }
    // A shim forgets a process only after it has ended.
    if let Err(_elapsed) = tokio::time::timeout(Duration::from_secs(2), shim.wait(process)).await {
        tracing::warn!(container = process.task, "a killed command does not end");
    }
}

/// The container's own process with another command.
fn process_spec(container: &Container, command: Vec<String>) -> io::Result<Vec<u8>> {
    let spec: Option<Spec> = records::read(&container.files.spec())?;
    let process = spec.and_then(|spec| spec.process().clone());
    let mut process = process.ok_or(io::ErrorKind::NotFound)?;
    process.set_args(Some(command));
    process.set_terminal(Some(false));
    Ok(serde_json::to_vec(&process)?)
}

/// `None` where the command did not end in time. The time begins now, but a start is not broken
/// off: who knows what is started then.
async fn run(
    shim: &Shim,
    process: Process<'_>,
    spec: &[u8],
    mut outputs: Outputs,
    timeout: Duration,
) -> Result<Option<ExecResult>, CallError> {
    let deadline = tokio::time::Instant::now() + timeout;
    let stdout = outputs.stdout.path.to_string_lossy();
    let stderr = outputs.stderr.path.to_string_lossy();
    shim.exec(NewProcess { process, spec, stdout: &stdout, stderr: &stderr }).await?;
    shim.start(process).await?;
    // The shim has the other ends open by now; when it closes them, that was all.
    outputs.stdout.let_end();
    outputs.stderr.let_end();
    let exit = match tokio::time::timeout_at(deadline, outputs.follow(shim, process)).await {
        Ok(exit) => exit?,
        Err(_elapsed) => return Ok(None),
    };
    let (stdout, stderr) = (outputs.stdout.take_read(), outputs.stderr.take_read());
    Ok(Some(ExecResult { exit_code: exit.code, stdout, stderr }))
}

/// The named pipes that a shim writes a command's output to.
struct Outputs {
    stdout: Output,
    stderr: Output,
}

impl Outputs {
    fn make(bundle: &Path, exec_id: &str) -> io::Result<Self> {
        Ok(Self {
            stdout: Output::make(bundle.join(format!("{exec_id}-out")))?,
            stderr: Output::make(bundle.join(format!("{exec_id}-err")))?,
        })
    }

    /// Reads until the process has ended and closed its outputs.
    async fn follow(&mut self, shim: &Shim, process: Process<'_>) -> Result<Exit, CallError> {
        let reading = async {
            tokio::join!(self.stdout.read_to_end(), self.stderr.read_to_end());
        };
        let waiting = shim.wait(process);
        tokio::pin!(reading, waiting);
        let mut is_read = false;
        let exit = loop {
            tokio::select! {
                exit = &mut waiting => break exit?,
                () = &mut reading, if !is_read => is_read = true,
            }
        };
        if !is_read && tokio::time::timeout(OUTPUT_GRACE, reading).await.is_err() {
            tracing::debug!(container = process.task, "something keeps a command's output open");
        }
        Ok(exit)
    }
}

struct Output {
    path: PathBuf,
    receiver: pipe::Receiver,
    /// Keeps the pipe from ending before the shim has opened it.
    sender: Option<pipe::Sender>,
    read: Vec<u8>,
}

impl Output {
    fn make(path: PathBuf) -> io::Result<Self> {
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let opened = pipe::OpenOptions::new().open_receiver(&path).and_then(|receiver| {
            let sender = pipe::OpenOptions::new().open_sender(&path)?;
            Ok((receiver, sender))
        });
        let (receiver, sender) = match opened {
            Ok(ends) => ends,
            Err(error) => {
                fs::remove_file(&path)?;
                return Err(error);
            }
        };
        Ok(Self { path, receiver, sender: Some(sender), read: Vec::new() })
    }

    fn let_end(&mut self) {
        self.sender = None;
    }

    /// Reads until the pipe ends. What is over the limit is dropped, so that the command does not
    /// wait for a reader.
    async fn read_to_end(&mut self) {
        loop {
            let length_before = self.read.len();
            // A pipe of this process's own breaks in no other way than by ending.
            let count = self.receiver.read_buf(&mut self.read).await.unwrap_or(0);
            if count == 0 {
                return;
            }
            if length_before >= OUTPUT_BYTES_MAX {
                self.read.truncate(length_before);
            }
        }
    }

    fn take_read(&mut self) -> Vec<u8> {
        let mut read = std::mem::take(&mut self.read);
        read.truncate(OUTPUT_BYTES_MAX);
        read
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // It is in the bundle, which goes with its container.
        fs::remove_file(&self.path).ok();
    }
}
