//! The process of a server or an agent, from its start to its end.

use super::agent::Agent;
use crate::stdx::TasksError;
use crate::sys::going_down::machine_is_going_down;
use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

/// More threads than this only cost memory: what takes time here is the disk and the kernel.
const WORKER_THREADS_MAX: usize = 4;

/// What a process is.
pub(super) trait Role: Sized {
    /// Waits until a part ends although nobody asked it to.
    async fn first_failure(&mut self) -> TasksError;

    /// The part that runs pods, where there is one.
    fn agent(&self) -> Option<&Agent>;

    /// Stops everything. Containers run on.
    async fn stop(self) -> anyhow::Result<()>;
}

/// Why a process ends.
#[derive(Debug)]
enum End {
    Failure(TasksError),
    Terminated,
    Interrupted,
    PowerFailure,
}

/// Runs what `start` starts until SIGTERM or SIGINT: then containers run on, unless the machine goes
/// down and pods are to be ended before it does. SIGPWR says that it goes down, for init systems that
/// cannot be asked.
///
/// # Errors
/// Where it cannot start, or a part of it ends although nobody asked it to.
pub(super) fn run<R: Role>(start: impl Future<Output = anyhow::Result<R>>) -> anyhow::Result<()> {
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
        let mut role = tokio::select! {
            role = start => role?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = power_failure.recv() => return Ok(()),
        };
        let end = tokio::select! {
            failure = role.first_failure() => End::Failure(failure),
            _ = terminate.recv() => End::Terminated,
            _ = interrupt.recv() => End::Interrupted,
            _ = power_failure.recv() => End::PowerFailure,
        };
        tokio::select! {
            () = end_pods_before_machine(&role, &end) => {}
            // Somebody does not want to wait for that.
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let stopped = role.stop().await;
        match end {
            End::Failure(failure) => Err(failure.into()),
            End::Terminated | End::Interrupted | End::PowerFailure => stopped,
        }
    })
}

/// Ends all pods where the machine goes down after this and they are to be ended in order.
async fn end_pods_before_machine(role: &impl Role, end: &End) {
    let Some(agent) = role.agent().filter(|agent| agent.ends_pods_on_shutdown()) else {
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
