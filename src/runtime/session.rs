//! Talking to a process in a container while it runs: one that was started for it, or the
//! container's own.

use super::RuntimeError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

/// So many wishes wait for whoever keeps the process; who has more waits with them.
const CONTROLS_MAX: usize = 8;

/// A process to start in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecRequest {
    pub command: Vec<String>,
    pub stdin: bool,
    pub tty: bool,
}

/// Where a process reads from.
pub type Input = Box<dyn AsyncWrite + Send + Unpin>;

/// What a process writes. It ends when the process has, or something it left behind goes on
/// holding it and is quiet.
pub type Output = Box<dyn AsyncRead + Send + Unpin>;

/// What a process is to have done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    Resize {
        width: u16,
        height: u16,
    },
    /// There is no more input; what was written is read first.
    CloseInput,
    Kill,
}

/// A process, for who talks to it. Whoever drops this is gone for the process: see
/// [`Runtime::open_exec`](super::Runtime::open_exec).
pub struct Session {
    /// Dropped before [`Control::CloseInput`].
    pub stdin: Option<Input>,
    pub stdout: Output,
    /// `None` with a terminal, which has one output.
    pub stderr: Option<Output>,
    pub process: SessionProcess,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").field("process", &self.process).finish_non_exhaustive()
    }
}

/// The process of a [`Session`].
#[derive(Debug)]
pub struct SessionProcess {
    controls: mpsc::Sender<Control>,
    ending: oneshot::Receiver<Result<i32, RuntimeError>>,
}

/// Asks for things to be done to a process.
#[derive(Clone, Debug)]
pub struct Controls(mpsc::Sender<Control>);

impl Controls {
    /// As [`SessionProcess::control`].
    pub async fn send(&self, control: Control) {
        // Who keeps the process lets go of it when it has ended.
        self.0.send(control).await.ok();
    }
}

/// Who keeps a process for its [`Session`].
#[derive(Debug)]
pub struct SessionKeeper {
    /// Ends when nobody talks to the process any more.
    pub controls: mpsc::Receiver<Control>,
    ending: oneshot::Sender<Result<i32, RuntimeError>>,
}

impl SessionProcess {
    /// A process and who keeps it.
    #[must_use]
    pub fn new() -> (Self, SessionKeeper) {
        let (controls, wishes) = mpsc::channel(CONTROLS_MAX);
        let (ended, ending) = oneshot::channel();
        (Self { controls, ending }, SessionKeeper { controls: wishes, ending: ended })
    }

    /// Asks for something to be done. Nothing comes of it where the process has ended.
    pub async fn control(&self, control: Control) {
        self.controls().send(control).await;
    }

    /// A further way to ask. Whoever has one still talks to the process.
    #[must_use]
    pub fn controls(&self) -> Controls {
        Controls(self.controls.clone())
    }

    /// Returns when the process has ended, with its exit code. To be asked once.
    ///
    /// # Errors
    /// Where nobody knows any more what became of it.
    pub async fn ended(&mut self) -> Result<i32, RuntimeError> {
        let lost = |_gone| RuntimeError::Refused {
            operation: "waiting for a command to end",
            message: "the runtime was closed".to_owned(),
        };
        (&mut self.ending).await.unwrap_or_else(|gone| Err(lost(gone)))
    }
}

impl SessionKeeper {
    /// Tells how the process has ended.
    pub fn end(self, ending: Result<i32, RuntimeError>) {
        // Who talked to it may be gone.
        self.ending.send(ending).ok();
    }
}
