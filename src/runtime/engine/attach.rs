//! Talking to a container's own process.
//!
//! Its outputs are told by its logger to whoever asks ([`logger::followers`](super::super::logger)),
//! its input is a named pipe that the shim holds: both are there for as long as the container,
//! whatever becomes of this process.

use super::super::logger::{FrameHead, Stream, connect};
use super::super::session::{Control, Session, SessionKeeper, SessionProcess};
use super::super::shim::{Process, Shim};
use super::super::{ContainerId, RuntimeError};
use super::pipes::open_input;
use super::tables::Container;
use super::{Engine, failed};
use crate::stdx::{blocking, chain};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::UnixStream;

/// So much output waits for whoever is attached; then the logger keeps what comes.
const OUTPUT_BYTES: usize = 64 << 10;

const OPERATION: &str = "attaching to a container";

impl Engine {
    pub(super) async fn attach(
        self: &Arc<Self>,
        id: &ContainerId,
        stdin: bool,
    ) -> Result<Session, RuntimeError> {
        let container = self.container(id)?;
        let shim = container.sandbox.shim().filter(|_| container.is_running());
        let Some(shim) = shim else {
            let message = "it is not running".to_owned();
            return Err(RuntimeError::Refused { operation: OPERATION, message });
        };
        let config = &container.record.config;
        let stdin = match stdin && config.stdin {
            true => Some(open_input(&container.files.stdin()).await),
            false => None,
        };
        let stdin = stdin.transpose().map_err(|error| failed(OPERATION, error))?;
        let bundle = container.files.bundle().to_owned();
        let source = blocking(move || connect(&bundle))
            .await
            .and_then(UnixStream::from_std)
            .map_err(|error| failed(OPERATION, error))?;
        let (stdout, to_stdout) = tokio::io::duplex(OUTPUT_BYTES);
        let (stderr, to_stderr) = tokio::io::duplex(OUTPUT_BYTES);
        let (process, keeper) = SessionProcess::new();
        let stderr = (!config.tty).then(|| Box::new(stderr) as _);
        let has_stdin = stdin.is_some();
        let stdin = stdin.map(|stdin| Box::new(stdin) as _);
        let attached = Attached { container, shim, has_stdin };
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            let telling = tell(source, to_stdout, to_stderr);
            shutdown.run_until_cancelled(attached.keep(keeper, telling)).await;
        });
        Ok(Session { stdin, stdout: Box::new(stdout), stderr, process })
    }
}

/// Somebody who talks to a container.
struct Attached {
    container: Arc<Container>,
    shim: Arc<Shim>,
    has_stdin: bool,
}

impl Attached {
    /// Does what is wished until the container's outputs end or nobody is attached any more.
    async fn keep(self, mut keeper: SessionKeeper, telling: impl Future<Output = ()>) {
        tokio::pin!(telling);
        loop {
            tokio::select! {
                () = &mut telling => break,
                wish = keeper.controls.recv() => match wish {
                    Some(Control::Resize { width, height }) => self.resize(width, height).await,
                    Some(Control::CloseInput) | None if self.closes_stdin() => {
                        self.close_stdin().await;
                        if wish.is_none() {
                            break;
                        }
                    }
                    // Who has no more to say is not attached any more (containerd, CRI `Attach`).
                    Some(Control::CloseInput) | None => break,
                    // Nobody ends a container by attaching to it.
                    Some(Control::Kill) => {}
                }
            }
        }
        keeper.end(Ok(0));
    }

    /// Whether the first who is attached is also the last who writes to the container.
    fn closes_stdin(&self) -> bool {
        let config = &self.container.record.config;
        self.has_stdin && config.stdin_once && !config.tty
    }

    fn process(&self) -> Process<'_> {
        Process::first_of(&self.container.id.0)
    }

    async fn close_stdin(&self) {
        if let Err(error) = self.shim.close_input(self.process()).await {
            let container = &self.container.id;
            tracing::warn!(%container, error = chain(&error), "a container's input stays open");
        }
    }

    async fn resize(&self, width: u16, height: u16) {
        if let Err(error) = self.shim.resize(self.process(), width, height).await {
            let container = &self.container.id;
            tracing::debug!(%container, error = chain(&error), "a terminal was not resized");
        }
    }
}

/// Gives the logger's frames to the streams that they are for, to the end.
async fn tell(mut source: UnixStream, mut stdout: DuplexStream, mut stderr: DuplexStream) {
    let telling = async {
        let mut payload = Vec::new();
        loop {
            let mut head = [0; FrameHead::BYTES];
            source.read_exact(&mut head).await?;
            let head = FrameHead::decode(head)?;
            payload.resize(head.length, 0);
            source.read_exact(&mut payload).await?;
            let told = match head.stream {
                Stream::Stdout => stdout.write_all(&payload).await,
                Stream::Stderr => stderr.write_all(&payload).await,
            };
            // Somebody may want one output and not the other.
            told.ok();
        }
    };
    let ended: io::Result<()> = telling.await;
    // The end of the logger is the end of the container.
    drop(ended);
}
