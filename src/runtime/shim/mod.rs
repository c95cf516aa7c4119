//! Driving containerd's shims without containerd.
//!
//! Start at [`Shim`], a connection to one; [`launch`] starts one. A shim is a process of its own
//! that outlives this one and keeps the containers of a pod; it is spoken to by ttrpc on the socket
//! that it names when it starts (containerd, core/runtime/v2/README.md, v2.1). Versions 2 and 3 of
//! the task service have the same messages under two names.

mod call;
mod events;
mod handler;
pub(super) mod launch;
mod line;
mod message;

pub(super) use call::{CallError, Deadline};
pub(super) use events::EventsServer;
pub(super) use handler::{Handler, find_handler};

use crate::sys::process_watch::ProcessWatch;
use call::TaskApi;
use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp as WireTimestamp;
use containerd_shim_protos::protobuf::{Message, MessageField};
use jiff::Timestamp;
use line::{Line, Repeat};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// What cannot be refused, by its number: shims take signals as numbers.
pub(super) const SIGKILL: u32 = 9;

/// Where a shim listens, and which version of the task service it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ShimAddress {
    /// `unix:///run/containerd/s/...`
    pub(super) socket: String,
    pub(super) task_api: TaskApi,
}

/// A running shim.
#[derive(Debug)]
pub(super) struct Shim {
    line: Line,
    process: ProcessWatch,
}

/// A task to create: the first process of a container, not started yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewTask<'a> {
    pub(super) id: &'a str,
    pub(super) bundle: &'a Path,
    /// A named pipe; empty for none.
    pub(super) stdin: &'a str,
    /// Where the task's output goes: a URI.
    pub(super) stdout: &'a str,
    /// As `stdout`; not looked at with a terminal, which has one output.
    pub(super) stderr: &'a str,
    pub(super) has_terminal: bool,
    pub(super) options: Option<&'a Any>,
}

/// A further process for a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewProcess<'a> {
    pub(super) process: Process<'a>,
    /// The OCI process, as JSON.
    pub(super) spec: &'a [u8],
    pub(super) has_terminal: bool,
    /// Named pipes; empty for none.
    pub(super) stdin: &'a str,
    pub(super) stdout: &'a str,
    pub(super) stderr: &'a str,
}

/// Which process of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process<'a> {
    pub(super) task: &'a str,
    /// Empty: the first.
    pub(super) exec: &'a str,
}

impl<'a> Process<'a> {
    pub(super) fn first_of(task: &'a str) -> Self {
        Self { task, exec: "" }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    /// 128 and the number of the signal where one ended it.
    pub(super) code: i32,
    pub(super) at: Option<Timestamp>,
}

/// What a shim says about a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskState {
    Created,
    Running { pid: u32 },
    Stopped(Exit),
}

/// Which processes of a task a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    One,
    All,
}

impl Shim {
    /// Connects to the shim at `address`.
    pub(super) async fn connect(address: &ShimAddress) -> Result<Self, CallError> {
        let line = Line::open(address).await?;
        let request = api::ConnectRequest::new();
        let answer: api::ConnectResponse =
            line.connection().call("Connect", &request, Deadline::Short).await?;
        let process = ProcessWatch::open(answer.shim_pid).map_err(CallError::lost)?;
        Ok(Self { line, process })
    }

    /// Asks something that may be asked twice.
    async fn ask<Answer: Message>(
        &self,
        method: &str,
        request: &impl Message,
        deadline: Deadline,
    ) -> Result<Answer, CallError> {
        self.line.call((method, request), deadline, Repeat::Harmless, &self.process).await
    }

    /// Has something done that is not to be done twice.
    async fn order<Answer: Message>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<Answer, CallError> {
        self.line.call((method, request), Deadline::Long, Repeat::Never, &self.process).await
    }

    /// Returns when the shim's process has ended.
    pub(super) async fn ended(&self) {
        self.process.ended().await;
    }

    /// Returns when the shim has answered something, whatever it says, or has ended.
    pub(super) async fn answered(&self) {
        let request = api::ConnectRequest::new();
        loop {
            let answer: Result<api::ConnectResponse, _> =
                self.ask("Connect", &request, Deadline::Short).await;
            // One that is slow, or stopped, answers another time.
            if !matches!(answer, Err(CallError::Timeout(_))) || !self.is_running() {
                return;
            }
        }
    }

    /// Whether the shim's process has not ended yet.
    pub(super) fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Ends the shim's process at once.
    pub(super) fn kill(&self) -> io::Result<()> {
        self.process.kill()
    }

    /// Returns the process id of the task.
    pub(super) async fn create(&self, task: NewTask<'_>) -> Result<u32, CallError> {
        let mut request = api::CreateTaskRequest::new();
        request.id = task.id.to_owned();
        request.bundle = task.bundle.to_string_lossy().into_owned();
        request.terminal = task.has_terminal;
        request.stdin = task.stdin.to_owned();
        request.stdout = task.stdout.to_owned();
        if !task.has_terminal {
            request.stderr = task.stderr.to_owned();
        }
        request.options = task.options.cloned().map_or_else(MessageField::none, MessageField::some);
        let answer: api::CreateTaskResponse = self.order("Create", &request).await?;
        Ok(answer.pid)
    }

    /// Adds a process to a task, not started yet.
    pub(super) async fn exec(&self, new: NewProcess<'_>) -> Result<(), CallError> {
        let mut spec = Any::new();
        spec.type_url = "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned();
        spec.value = new.spec.to_vec();
        let mut request = api::ExecProcessRequest::new();
        request.id = new.process.task.to_owned();
        request.exec_id = new.process.exec.to_owned();
        request.terminal = new.has_terminal;
        request.stdin = new.stdin.to_owned();
        request.stdout = new.stdout.to_owned();
        request.stderr = new.stderr.to_owned();
        request.spec = MessageField::some(spec);
        let _answer: api::Empty = self.order("Exec", &request).await?;
        Ok(())
    }

    /// Gives a task other limits: the `LinuxResources` of the OCI specification, as JSON.
    pub(super) async fn update(&self, task: &str, resources: Vec<u8>) -> Result<(), CallError> {
        let mut any = Any::new();
        any.type_url =
            "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".to_owned();
        any.value = resources;
        let mut request = api::UpdateTaskRequest::new();
        request.id = task.to_owned();
        request.resources = MessageField::some(any);
        let _answer: api::Empty = self.ask("Update", &request, Deadline::Long).await?;
        Ok(())
    }

    /// Returns the process id.
    pub(super) async fn start(&self, process: Process<'_>) -> Result<u32, CallError> {
        let mut request = api::StartRequest::new();
        request.id = process.task.to_owned();
        request.exec_id = process.exec.to_owned();
        let answer: api::StartResponse = self.order("Start", &request).await?;
        Ok(answer.pid)
    }

    /// Returns when the process has ended, however long that takes.
    pub(super) async fn wait(&self, process: Process<'_>) -> Result<Exit, CallError> {
        let mut request = api::WaitRequest::new();
        request.id = process.task.to_owned();
        request.exec_id = process.exec.to_owned();
        let answer: api::WaitResponse = self.ask("Wait", &request, Deadline::None).await?;
        Ok(exit(answer.exit_status, answer.exited_at.as_ref()))
    }

    pub(super) async fn state(&self, task: &str) -> Result<TaskState, CallError> {
        let mut request = api::StateRequest::new();
        request.id = task.to_owned();
        let answer: api::StateResponse = self.ask("State", &request, Deadline::Short).await?;
        Ok(match answer.status.enum_value_or_default() {
            api::Status::CREATED => TaskState::Created,
            api::Status::STOPPED => {
                TaskState::Stopped(exit(answer.exit_status, answer.exited_at.as_ref()))
            }
            api::Status::UNKNOWN
            | api::Status::RUNNING
            | api::Status::PAUSED
            | api::Status::PAUSING => TaskState::Running { pid: answer.pid },
        })
    }

    /// Sends a signal. A process that has ended is no error.
    pub(super) async fn signal(
        &self,
        process: Process<'_>,
        signal: u32,
        reach: Reach,
    ) -> Result<(), CallError> {
        let mut request = api::KillRequest::new();
        request.id = process.task.to_owned();
        request.exec_id = process.exec.to_owned();
        request.signal = signal;
        request.all = reach == Reach::All;
        let answer: Result<api::Empty, _> = self.ask("Kill", &request, Deadline::Short).await;
        ignore_not_found(answer.map(drop))
    }

    /// Tells a process with a terminal how large that is. One that has ended is no error.
    pub(super) async fn resize(
        &self,
        process: Process<'_>,
        width: u16,
        height: u16,
    ) -> Result<(), CallError> {
        let mut request = api::ResizePtyRequest::new();
        request.id = process.task.to_owned();
        request.exec_id = process.exec.to_owned();
        request.width = width.into();
        request.height = height.into();
        let answer: Result<api::Empty, _> = self.ask("ResizePty", &request, Deadline::Short).await;
        ignore_not_found(answer.map(drop))
    }

    /// Ends a process's input after what has been written to it. One that has ended is no error.
    pub(super) async fn close_input(&self, process: Process<'_>) -> Result<(), CallError> {
        let mut request = api::CloseIORequest::new();
        request.id = process.task.to_owned();
        request.exec_id = process.exec.to_owned();
        request.stdin = true;
        let answer: Result<api::Empty, _> = self.ask("CloseIO", &request, Deadline::Short).await;
        ignore_not_found(answer.map(drop))
    }

    /// Forgets an ended process; with the first one, its task. What is gone is no error.
    pub(super) async fn delete(&self, process: Process<'_>) -> Result<(), CallError> {
        let mut request = api::DeleteRequest::new();
        request.id = process.task.to_owned();
        request.exec_id = process.exec.to_owned();
        let answer: Result<api::DeleteResponse, _> =
            self.ask("Delete", &request, Deadline::Long).await;
        ignore_not_found(answer.map(drop))
    }

    /// Asks a shim without tasks to end.
    pub(super) async fn shut_down(&self) -> Result<(), CallError> {
        let request = api::ShutdownRequest::new();
        let answer: Result<api::Empty, _> =
            self.line.connection().call("Shutdown", &request, Deadline::Short).await;
        match answer {
            // It may end before it has answered.
            Ok(_) | Err(CallError::Lost(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn ignore_not_found(answer: Result<(), CallError>) -> Result<(), CallError> {
    match answer {
        Err(CallError::NotFound) => Ok(()),
        answer => answer,
    }
}

fn exit(status: u32, at: Option<&WireTimestamp>) -> Exit {
    let at =
        at.filter(|at| at.seconds > 0).and_then(|at| Timestamp::new(at.seconds, at.nanos).ok());
    Exit { code: status.cast_signed(), at }
}
