//! Asks containers whether they have started, live and are ready.
//!
//! Start at [`plan`], which says what is asked, and [`Probing::run`], which asks until the answer
//! changes. Each probe is one future with one timer, which its pod's worker owns: it goes when the
//! container or the pod does. Deliberately absent: a record of results. What the API says of a
//! container is where a new worker, or a new process, begins.

mod ask;
mod grpc;
pub(super) mod plan;
pub(super) mod step;

pub(super) use ask::Question;

use super::pod::{ProbeKind, ProbeResult};
use super::tally::{ProbeName, ProbeOutcome, Tally};
use crate::client::{EventRecorder, EventType};
use crate::runtime::Runtime;
use crate::stdx::monotonic;
use k8s_openapi::api::core::v1::ObjectReference;
use plan::Schedule;
use std::time::Duration;
use step::{Answer, Row};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// What probes are told of who asks.
const AGENT: &str = "kube-probe/1.35";

/// So many questions of this node are open at once; others wait for their turn, and their time
/// begins then.
pub(super) const QUESTIONS_AT_ONCE_MAX: usize = 64;

/// A question that cannot be asked is tried this often: upstream `maxProbeRetries`.
const TRIES_MAX: u32 = 3;

/// A probe that is being asked.
#[derive(Clone, Debug)]
pub(super) struct Probing {
    pub(super) kind: ProbeKind,
    pub(super) schedule: Schedule,
    pub(super) question: Question,
    /// The container, for events.
    pub(super) regarding: ObjectReference,
    /// What counts now.
    pub(super) result: ProbeResult,
    pub(super) row: Row,
    pub(super) next_at: Instant,
}

/// What probes work with.
#[derive(Debug)]
pub(super) struct Means<'a> {
    pub(super) runtime: &'a dyn Runtime,
    pub(super) events: &'a EventRecorder,
    pub(super) turns: &'a Semaphore,
    pub(super) tally: &'a Tally,
}

impl Probing {
    /// Asks again and again. Returns when what counts has changed.
    pub(super) async fn run(&mut self, means: Means<'_>) {
        loop {
            tokio::time::sleep_until(self.next_at).await;
            self.next_at = next_after(self.next_at, self.schedule.period);
            let answer = {
                let turn = means.turns.acquire().await;
                let _turn = turn.expect("the semaphore is never closed");
                let began = monotonic();
                let answer = self.ask(means.runtime).await;
                means.tally.note_probe(self.name(), outcome(&answer), began.elapsed());
                answer
            };
            self.tell(&answer, means.events);
            let (row, result) = self.row.step(&answer, &self.schedule);
            self.row = row;
            if let Some(result) = result.filter(|result| *result != self.result) {
                self.result = result;
                return;
            }
        }
    }

    fn name(&self) -> ProbeName {
        let regarding = &self.regarding;
        ProbeName {
            kind: self.kind,
            container: self.question.spec.name.clone(),
            pod: regarding.name.clone().unwrap_or_default(),
            namespace: regarding.namespace.clone().unwrap_or_default(),
            uid: regarding.uid.clone().unwrap_or_default(),
        }
    }

    async fn ask(&self, runtime: &dyn Runtime) -> Answer {
        let mut answer = self.question.ask(runtime).await;
        for _again in 1..TRIES_MAX {
            if !matches!(answer, Answer::Errored(_)) {
                break;
            }
            answer = self.question.ask(runtime).await;
        }
        answer
    }

    fn tell(&self, answer: &Answer, events: &EventRecorder) {
        let kind = self.kind;
        let (reason, message) = match answer {
            Answer::Passed => return,
            Answer::Warned(why) => ("ProbeWarning", format!("{kind:?} probe warning: {why}")),
            Answer::Failed(why) => ("Unhealthy", format!("{kind:?} probe failed: {why}")),
            Answer::Errored(why) => {
                let message =
                    format!("{kind:?} probe errored and resulted in unknown state: {why}");
                ("Unhealthy", message)
            }
        };
        events.record(self.regarding.clone(), EventType::Warning, reason, message);
    }
}

/// As upstream counts it (`prober.probe`).
fn outcome(answer: &Answer) -> ProbeOutcome {
    match answer {
        Answer::Passed | Answer::Warned(_) => ProbeOutcome::Successful,
        Answer::Failed(_) => ProbeOutcome::Failed,
        Answer::Errored(_) => ProbeOutcome::Unknown,
    }
}

/// Questions that were not asked in time are not made up for.
fn next_after(due: Instant, period: Duration) -> Instant {
    let now = Instant::now();
    let next = due + period;
    if next > now { next } else { now + period }
}
