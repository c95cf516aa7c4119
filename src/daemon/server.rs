//! `kinglet server`, from an empty disk to a ready node and back.

use super::agent::Agent;
use super::config::{Component, ServerConfig};
use super::control_plane::ControlPlane;
use crate::stdx::{Clock, TasksError, monotonic};
use crate::sys::going_down::machine_is_going_down;
use anyhow::Context as _;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

/// More threads than this only cost memory: what takes time here is the disk and the kernel.
const WORKER_THREADS_MAX: usize = 4;

/// How long each part may take to end; then it is given up.
pub(super) const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// A running server.
#[derive(Debug)]
pub struct Server {
    control_plane: ControlPlane,
    agent: Option<Agent>,
}

/// Why a server ends.
#[derive(Debug)]
enum End {
    Failure(TasksError),
    Terminated,
    Interrupted,
    PowerFailure,
}

/// Runs a server until SIGTERM or SIGINT: then containers run on, unless the machine goes down and
/// pods are to be ended before it does. SIGPWR says that it goes down, for init systems that cannot
/// be asked.
///
/// # Errors
/// Where it cannot start, or a part of it ends although nobody asked it to.
pub fn run_server(config: ServerConfig) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.min(WORKER_THREADS_MAX))
        .enable_all()
        .build()
        .context("failed to start threads")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut power_failure = signal(SignalKind::from_raw(libc::SIGPWR))?;
        let mut server = tokio::select! {
            server = Server::start(config) => server?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = power_failure.recv() => return Ok(()),
        };
        let end = tokio::select! {
            failure = server.first_failure() => End::Failure(failure),
            _ = terminate.recv() => End::Terminated,
            _ = interrupt.recv() => End::Interrupted,
            _ = power_failure.recv() => End::PowerFailure,
        };
        tokio::select! {
            () = server.end_pods_before_machine(&end) => {}
            // Somebody does not want to wait for that.
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let stopped = server.stop().await;
        match end {
            End::Failure(failure) => Err(failure.into()),
            End::Terminated | End::Interrupted | End::PowerFailure => stopped,
        }
    })
}

impl Server {
    /// Starts everything. Returns when the API answers and the node is about to register.
    ///
    /// # Errors
    /// By part: what it could not do, and what helps.
    pub async fn start(config: ServerConfig) -> anyhow::Result<Self> {
        let began = monotonic();
        let clock = Clock::system();
        let control_plane = ControlPlane::start(&config, &clock).await?;
        let address = config.listen_address();
        let milliseconds = began.elapsed().as_millis();
        info!("the API server answers at https://{address} after {milliseconds} ms");
        let agent = match config.has(Component::Agent) {
            true => Some(Agent::start(&config, &clock, &control_plane).await?),
            false => None,
        };
        Ok(Self { control_plane, agent })
    }

    /// Waits until a part ends although nobody asked it to.
    pub async fn first_failure(&mut self) -> TasksError {
        let agent = async {
            match &mut self.agent {
                Some(agent) => agent.first_failure().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            failure = agent => failure,
            failure = self.control_plane.first_failure() => failure,
        }
    }

    /// Ends all pods where the machine goes down after this and they are to be ended in order.
    async fn end_pods_before_machine(&self, end: &End) {
        let Some(agent) = self.agent.as_ref().filter(|agent| agent.ends_pods_on_shutdown()) else {
            return;
        };
        let is_going_down = match end {
            End::PowerFailure => true,
            End::Terminated => machine_is_going_down().await,
            End::Interrupted | End::Failure(_) => false,
        };
        if is_going_down {
            agent.end_pods().await;
        }
    }

    /// Stops everything, the store last. Containers run on.
    ///
    /// # Errors
    /// Where a part did not end in time or the store could not be closed.
    pub async fn stop(self) -> anyhow::Result<()> {
        let agent = match self.agent {
            Some(agent) => agent.stop().await,
            None => Ok(()),
        };
        // A part that is late must not keep the store from being closed in order.
        let control_plane = self.control_plane.stop().await;
        agent.and(control_plane)
    }
}
