//! The process of a server or an agent, from its start to its end.

use super::agent::Agent;
use super::reports::Reports;
use crate::client::Client;
use crate::stdx::chain;
use crate::sys::going_down::machine_is_going_down;
use crate::sys::service_manager::ServiceManager;
use anyhow::Context as _;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;

/// More threads than this only cost memory: what takes time here is the disk and the kernel.
const WORKER_THREADS_MAX: usize = 4;

/// After its pods have ended, a process ends within this: see `STOP_DEADLINE` of its parts.
const END_WITHIN: Duration = Duration::from_secs(20);

/// What a process is.
pub(super) trait Role: Sized {
    /// Waits until a part ends although nobody asked it to.
    async fn first_failure(&mut self) -> anyhow::Error;

    /// The part that runs pods, where there is one.
    fn agent(&self) -> Option<&Agent>;

    /// A way to the API server of this process, where there is one.
    fn api(&self) -> Option<Client>;

    /// Stops everything. Containers run on.
    async fn stop(self) -> anyhow::Result<()>;
}

/// Why a process ends.
#[derive(Debug)]
enum End {
    Failure(anyhow::Error),
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
        tell_what_ending_needs(&role);
        let reports = Reports::start(&role);
        let end = tokio::select! {
            failure = role.first_failure() => End::Failure(failure),
            _ = terminate.recv() => End::Terminated,
            _ = interrupt.recv() => End::Interrupted,
            _ = power_failure.recv() => End::PowerFailure,
        };
        reports.tell_stopping();
        tokio::select! {
            () = end_pods_before_machine(&role, &end) => {}
            // Somebody does not want to wait for that.
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        reports.end().await;
        let stopped = role.stop().await;
        match end {
            End::Failure(failure) => Err(failure),
            End::Terminated | End::Interrupted | End::PowerFailure => stopped,
        }
    })
}

/// The part that ends pods before the machine goes down, where that is asked for, and how long the
/// whole process takes to end then.
fn who_ends_pods(role: &impl Role) -> Option<(&Agent, Duration)> {
    let agent = role.agent().filter(|agent| agent.ends_pods_on_shutdown())?;
    Some((agent, agent.ends_pods_within() + END_WITHIN))
}

/// systemd ends whoever takes longer than its unit says, and cannot be asked for more by every unit.
fn tell_what_ending_needs(role: &impl Role) {
    let Some((_, time)) = who_ends_pods(role) else { return };
    if matches!(ServiceManager::of_this_process(), Ok(ServiceManager::Deaf)) {
        let seconds = time.as_secs();
        warn!(
            "the unit of kinglet has no NotifyAccess=main: with it, or with a TimeoutStopSec of more \
             than {seconds} s, pods get the time of --shutdown-grace-period"
        );
    }
}

/// Ends all pods where the machine goes down after this and they are to be ended in order.
async fn end_pods_before_machine(role: &impl Role, end: &End) {
    let Some((agent, time)) = who_ends_pods(role) else { return };
    let is_going_down = match end {
        End::PowerFailure => true,
        End::Terminated => machine_is_going_down().await,
        End::Interrupted | End::Failure(_) => false,
    };
    if !is_going_down {
        return;
    }
    let asked = ServiceManager::of_this_process().and_then(|it| it.ask_for_time(time));
    if let Err(error) = asked {
        warn!(error = chain(&error), "cannot ask systemd for the time that pods have to end");
    }
    agent.end_pods().await;
}
