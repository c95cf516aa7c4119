//! Events for users: what a component did to an object, or could not do.
//!
//! Start at [`EventRecorder::record`]. Events are the least important of all writes: recording one
//! never waits, and under pressure they are dropped, not what causes them.

mod correlate;

pub use correlate::{EventType, Reporter};

use super::{Client, ClientError, Patch};
use crate::stdx::{Backoff, Clock, Tasks, chain};
use correlate::{Correlator, Decision, Occurrence};
use k8s_openapi::api::core::v1::ObjectReference;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// This many occurrences wait to be written (upstream's `maxQueuedEvents`). Those beyond are
/// dropped.
const QUEUED_MAX: usize = 1_000;

/// An event is given up after this many tries, [`BACKOFF`] apart.
const TRIES_MAX: u32 = 5;
const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(10) };

/// Records events of one component. Clones share one queue and one task.
#[derive(Clone, Debug)]
pub struct EventRecorder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: mpsc::Sender<Occurrence>,
    clock: Clock,
    is_dropping: AtomicBool,
}

impl EventRecorder {
    #[must_use]
    pub fn start(client: Client, reporter: Reporter, clock: Clock, tasks: &mut Tasks) -> Self {
        let (queue, occurrences) = mpsc::channel(QUEUED_MAX);
        let shutdown = tasks.shutdown();
        tasks.spawn("events", async move {
            shutdown.run_until_cancelled(write_all(client, reporter, occurrences)).await;
            // Recorders may outlive their task; without this it would end when the last is dropped.
            shutdown.cancelled().await;
        });
        Self(Arc::new(Shared { queue, clock, is_dropping: AtomicBool::new(false) }))
    }

    /// Says that something happened to the object `regarding`. Returns at once.
    pub fn record(
        &self,
        regarding: ObjectReference,
        kind: EventType,
        reason: &str,
        message: String,
    ) {
        let at = self.0.clock.now();
        let occurrence = Occurrence { regarding, kind, reason: reason.to_owned(), message, at };
        let is_dropped = match self.0.queue.try_send(occurrence) {
            Ok(()) => false,
            Err(mpsc::error::TrySendError::Full(_)) => true,
            // The component is shutting down.
            Err(mpsc::error::TrySendError::Closed(_)) => return,
        };
        if !self.0.is_dropping.swap(is_dropped, Ordering::Relaxed) && is_dropped {
            warn!(
                "{QUEUED_MAX} events wait to be written; dropping those that come until there is room"
            );
        }
    }
}

async fn write_all(
    client: Client,
    reporter: Reporter,
    mut occurrences: mpsc::Receiver<Occurrence>,
) {
    let mut correlator = Correlator::new(reporter);
    while let Some(occurrence) = occurrences.recv().await {
        if let Err(error) = write(&client, correlator.decide(&occurrence)).await {
            // A namespace that is being deleted takes no events, for one.
            debug!(error = chain(&error), reason = occurrence.reason, "an event was not written");
        }
    }
}

async fn write(client: &Client, mut decision: Decision) -> Result<(), ClientError> {
    let mut failures = 0;
    loop {
        let attempted = match &decision {
            Decision::LeaveOut => return Ok(()),
            Decision::Create(event) => client.create(&**event).await,
            Decision::CountUp { key, patch, .. } => {
                client.patch(key, &Patch::Merge(patch.clone()), None).await
            }
        };
        match (attempted, decision) {
            (Ok(_), _) => return Ok(()),
            // Events do not live long.
            (Err(error), Decision::CountUp { event, .. }) if error.is_not_found() => {
                decision = Decision::Create(event);
            }
            (Err(error), tried) if error.is_transient() && failures + 1 < TRIES_MAX => {
                failures += 1;
                decision = tried;
                tokio::time::sleep(BACKOFF.delay(failures)).await;
            }
            (Err(error), _) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::http::{HttpService, Request, Response};
    use futures_util::future::BoxFuture;
    use jiff::Timestamp;
    use std::io;

    /// Never answers.
    #[derive(Debug)]
    struct Silence;

    impl HttpService for Silence {
        fn call(&self, _request: Request) -> BoxFuture<'static, io::Result<Response>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn recording_never_waits_and_drops_what_is_too_much() {
        let mut tasks = Tasks::default();
        let client = Client::new(Arc::new(Silence), "test");
        let reporter = Reporter { component: "tester".to_owned(), host: String::new() };
        let clock = Clock::from_fn(|| Timestamp::UNIX_EPOCH);
        let recorder = EventRecorder::start(client, reporter, clock, &mut tasks);
        for number in 0..3 * QUEUED_MAX {
            let regarding = ObjectReference::default();
            recorder.record(regarding, EventType::Normal, "Tested", number.to_string());
        }
        assert_eq!(recorder.0.queue.capacity(), 0);
        assert!(recorder.0.is_dropping.load(Ordering::Relaxed));
        tasks.stop(Duration::from_secs(1)).await.unwrap();
        // The component is gone; whoever still holds a recorder is not disturbed.
        recorder.record(ObjectReference::default(), EventType::Normal, "Tested", String::new());
    }
}
