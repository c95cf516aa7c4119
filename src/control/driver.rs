//! The whole loop of a controller, in one task.

use super::controller::{Attempt, Controller, Plan};
use super::execute::{Execute, WriteError, Written};
use super::queue::Queue;
use super::schedule::Outcome;
use super::write::{Detail, Failure, Planned, Report};
use crate::api::Revision;
use crate::client::{ResourceType, Seen};
use crate::stdx::{Clock, chain};
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{self, FuturesUnordered};
use futures_util::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::ObjectReference;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// This many writes of one step are under way at once. The store commits in groups, so that more
/// would gain little.
const WRITES_AT_ONCE_MAX: usize = 32;

/// The newest revision that was written, kind by kind.
type WrittenThrough = BTreeMap<ResourceType, Revision>;

/// How a pass over a key ended, and what it wrote before.
#[derive(Debug)]
struct Pass {
    end: End,
    written: WrittenThrough,
}

#[derive(Debug)]
enum End {
    Done { recheck_after: Option<Duration> },
    Conflict,
    Failed(Failure),
}

/// Runs `controller` until `shutdown`, once its caches are filled: several keys side by side, never
/// two passes over one.
pub async fn run<C, X>(
    controller: C,
    queue: Queue<C::Key>,
    executor: X,
    clock: Clock,
    shutdown: CancellationToken,
) where
    C: Controller,
    X: Execute,
{
    let caches = controller.caches();
    let synced = join_all(caches.iter().map(|(_, cache)| cache.synced()));
    if shutdown.run_until_cancelled(synced).await.is_none() {
        return;
    }
    // Of one type for all controllers with the same keys.
    let mut passes: FuturesUnordered<BoxFuture<'_, (C::Key, Pass)>> = FuturesUnordered::new();
    let mut rests: FuturesUnordered<BoxFuture<'_, (C::Key, Outcome)>> = FuturesUnordered::new();
    let mut settings = clock.settings();
    loop {
        // What was begun is finished first, and what is played again goes the same way.
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = settings.next() => queue.hurry(),
            Some((key, outcome)) = rests.next() => queue.finish(&key, outcome),
            Some((key, pass)) = passes.next() => rests.push(rest(&caches, key, pass).boxed()),
            (key, failure) = queue.next(), if passes.len() < C::PASSES_AT_ONCE_MAX => {
                let attempt = Attempt { now: clock.now(), failure };
                passes.push(pass_over(&controller, &executor, key, attempt).boxed());
            }
        }
    }
}

async fn pass_over<C, X>(
    controller: &C,
    executor: &X,
    key: C::Key,
    attempt: Attempt,
) -> (C::Key, Pass)
where
    C: Controller,
    X: Execute,
{
    let pass = match controller.observe(&key, attempt).await {
        Some(observed) => execute(executor, C::plan(&observed)).await,
        None => Pass { end: End::Done { recheck_after: None }, written: BTreeMap::new() },
    };
    match &pass.end {
        End::Failed(Failure { message, .. }) => {
            warn!(controller = C::NAME, %key, error = message, "a write failed; will try again");
        }
        End::Conflict => debug!(controller = C::NAME, %key, "an object has changed; looking again"),
        End::Done { .. } => {}
    }
    (key, pass)
}

/// Lets the key rest until the caches have seen what was written.
async fn rest<Key>(
    caches: &[(ResourceType, Arc<dyn Seen>)],
    key: Key,
    pass: Pass,
) -> (Key, Outcome) {
    let waits = caches.iter().filter_map(|(resource, cache)| {
        pass.written.get(resource).map(|revision| cache.wait_seen(*revision))
    });
    join_all(waits).await;
    let outcome = match pass.end {
        End::Failed(failure) => Outcome::Failed(failure),
        End::Conflict => Outcome::Conflict,
        End::Done { .. } if !pass.written.is_empty() => Outcome::Wrote,
        End::Done { recheck_after } => Outcome::Settled { recheck_after },
    };
    (key, outcome)
}

async fn execute<X: Execute>(executor: &X, plan: Plan) -> Pass {
    let mut written = BTreeMap::new();
    for step in plan.steps {
        let end = execute_step(executor, &plan.regarding, step, &mut written).await;
        if let Some(end) = end {
            return Pass { end, written };
        }
    }
    for report in &plan.reports {
        tell(executor, &plan.regarding, report, "");
    }
    Pass { end: End::Done { recheck_after: plan.recheck_after }, written }
}

/// Makes the writes of a step; says how the pass ends where it ends here. A failure is more telling
/// than a conflict beside it.
async fn execute_step<X: Execute>(
    executor: &X,
    regarding: &ObjectReference,
    step: Vec<Planned>,
    written: &mut WrittenThrough,
) -> Option<End> {
    let mut end = None;
    let writes = step.into_iter().map(|planned| async move {
        let result = executor.execute(&planned.write).await;
        (planned, result)
    });
    let mut results = stream::iter(writes).buffer_unordered(WRITES_AT_ONCE_MAX);
    while let Some((planned, result)) = results.next().await {
        match result {
            Ok(Written { revision, name }) => {
                let through = written.entry(planned.write.resource().clone()).or_default();
                *through = (*through).max(revision.unwrap_or_default());
                if let Some(report) = &planned.succeeded {
                    tell(executor, regarding, report, &name);
                }
            }
            Err(WriteError::Conflict) => end = end.or(Some(End::Conflict)),
            Err(WriteError::NamespaceTerminating) => {
                end = end.or(Some(End::Done { recheck_after: None }));
            }
            Err(error @ (WriteError::Failed(_) | WriteError::OnNode(_))) => {
                let message = chain(&error);
                if let Some(report) = &planned.failed {
                    tell(executor, regarding, report, &message);
                }
                let (resource, verb) = (planned.write.resource().clone(), planned.write.verb());
                end = Some(End::Failed(Failure { resource, verb, message }));
            }
        }
    }
    end
}

fn tell<X: Execute>(executor: &X, regarding: &ObjectReference, report: &Report, detail: &str) {
    let message = match report.detail {
        Detail::Nothing => report.message.clone(),
        Detail::Name | Detail::Error => format!("{}{detail}", report.message),
    };
    executor.report(regarding, report, message);
}
