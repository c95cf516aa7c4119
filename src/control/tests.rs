//! The loop with a recorder instead of an API server, under paused time.

use super::*;
use crate::api::{Reason, Revision, Status};
use crate::client::{ClientError, EventType, ResourceType, Seen};
use crate::stdx::Clock;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Pod};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Everything that happens, in order.
type Log = Arc<Mutex<Vec<String>>>;

/// Plays the plans it is given, key by key.
struct Player {
    plans: Mutex<BTreeMap<&'static str, VecDeque<Plan>>>,
    log: Log,
    cache: Arc<FakeCache>,
}

impl Controller for Player {
    const NAME: &'static str = "player";
    type Key = &'static str;
    type Observed = Plan;

    async fn observe(&self, key: &&'static str, attempt: Attempt) -> Option<Plan> {
        let failure = attempt.failure.map(|failure| format!(" after {}", failure.message));
        let line = format!("look {key}{}", failure.unwrap_or_default());
        self.log.lock().unwrap().push(line);
        self.plans.lock().unwrap().get_mut(key)?.pop_front()
    }

    fn plan(observed: &Plan) -> Plan {
        observed.clone()
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![(ResourceType::of::<Pod>(), Arc::clone(&self.cache) as Arc<dyn Seen>)]
    }
}

struct FakeCache(watch::Sender<u64>);

impl Seen for FakeCache {
    fn synced(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn wait_seen(&self, revision: Revision) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.0.subscribe().wait_for(|seen| *seen >= revision.0).await.unwrap();
        })
    }
}

/// Answers every write after 10 ms, as its name says.
struct Recorder {
    log: Log,
}

impl Execute for Recorder {
    async fn execute(&self, write: &Write) -> Result<Written, WriteError> {
        let name = write.key().unwrap().name.clone();
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.log.lock().unwrap().push(format!("write {name}"));
        match name.as_str() {
            "conflict" => Err(WriteError::Conflict),
            "terminating" => Err(WriteError::NamespaceTerminating),
            "failure" => {
                let status = Status::new(Reason::InternalError, "it is broken");
                Err(ClientError::Status(Box::new(status)).into())
            }
            _ => Ok(Written { revision: Some(Revision(7)), name }),
        }
    }

    fn report(&self, regarding: &ObjectReference, report: &Report, message: String) {
        let name = regarding.name.as_deref().unwrap();
        let warning = if report.kind == EventType::Warning { "!" } else { "" };
        let line = format!("tell {name}: {}{warning} {message}", report.reason);
        self.log.lock().unwrap().push(line);
    }
}

fn delete_pod(name: &str) -> Planned {
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.to_owned());
    Planned {
        write: Write::delete(&pod),
        succeeded: Some(Report::normal("Done", "deleted ").with(Detail::Name)),
        failed: Some(Report::warning("Failed", "cannot delete: ").with(Detail::Error)),
    }
}

fn silent(planned: Planned) -> Planned {
    planned.write.into()
}

fn plan(steps: Vec<Vec<Planned>>) -> Plan {
    let regarding = ObjectReference { name: Some("it".to_owned()), ..ObjectReference::default() };
    Plan { steps, regarding, ..Plan::default() }
}

/// The loop over these plans. `seen` is what the cache of pods has seen.
struct Run {
    log: Log,
    queue: Queue<&'static str>,
    cache: Arc<FakeCache>,
    shutdown: CancellationToken,
    loop_: tokio::task::JoinHandle<()>,
}

impl Run {
    fn start(plans: impl IntoIterator<Item = (&'static str, Vec<Plan>)>, seen: u64) -> Self {
        let (log, queue, shutdown) = (Log::default(), Queue::new(), CancellationToken::new());
        let cache = Arc::new(FakeCache(watch::Sender::new(seen)));
        let plans: BTreeMap<_, VecDeque<_>> =
            plans.into_iter().map(|(key, plans)| (key, plans.into())).collect();
        plans.keys().for_each(|key| queue.add(key));
        let player =
            Player { plans: Mutex::new(plans), log: Arc::clone(&log), cache: Arc::clone(&cache) };
        let recorder = Recorder { log: Arc::clone(&log) };
        let clock = Clock::from_fn(|| Timestamp::UNIX_EPOCH);
        #[expect(clippy::disallowed_methods, reason = "the handle owns the task")]
        let loop_ = tokio::spawn(run(player, queue.clone(), recorder, clock, shutdown.clone()));
        Self { log, queue, cache, shutdown, loop_ }
    }

    /// What has happened since the last call, after time enough for everything that will.
    async fn log(&self) -> Vec<String> {
        tokio::time::sleep(Duration::from_secs(100)).await;
        std::mem::take(&mut self.log.lock().unwrap())
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.loop_.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn steps_follow_each_other_and_their_writes_go_side_by_side() {
    let first = (0..50).map(|number| silent(delete_pod(&format!("a{number}"))));
    let start = tokio::time::Instant::now();
    let run = Run::start([("k", vec![plan(vec![first.collect(), vec![delete_pod("b")]])])], 7);
    let log = run.log().await;
    assert_eq!(log.len(), 1 + 50 + 2 + 1, "{log:?}");
    assert_eq!(log[51..], ["write b", "tell it: Done deleted b", "look k"]);
    assert!(start.elapsed() < Duration::from_secs(101));
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_rests_until_the_caches_have_seen_what_it_wrote() {
    let run = Run::start([("k", vec![plan(vec![vec![silent(delete_pod("a"))]])])], 6);
    assert_eq!(run.log().await, ["look k", "write a"]);
    run.queue.add(&"k");
    assert_eq!(run.log().await, [""; 0]);
    run.cache.0.send_replace(7);
    assert_eq!(run.log().await, ["look k"]);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn writes_to_kinds_without_a_cache_are_not_waited_for() {
    let mut map = ConfigMap::default();
    map.metadata.name = Some("a".to_owned());
    let run = Run::start([("k", vec![Plan::of([Write::delete(&map)])])], 0);
    assert_eq!(run.log().await, ["look k", "write a", "look k"]);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_ends_the_pass_and_is_known_to_the_next() {
    let failing = || plan(vec![vec![delete_pod("failure")], vec![delete_pod("never")]]);
    let run = Run::start([("k", vec![failing(), plan(vec![])])], 7);
    assert_eq!(
        run.log().await,
        [
            "look k",
            "write failure",
            "tell it: Failed! cannot delete: it is broken",
            "look k after it is broken",
        ]
    );
    run.queue.add(&"k");
    assert_eq!(run.log().await, ["look k"]);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_looked_at_again_without_a_word() {
    let conflicting = plan(vec![vec![delete_pod("conflict")], vec![delete_pod("never")]]);
    let run = Run::start([("k", vec![conflicting, plan(vec![])])], 7);
    assert_eq!(run.log().await, ["look k", "write conflict", "look k"]);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn in_a_namespace_that_goes_away_nothing_is_tried_again() {
    let run = Run::start([("k", vec![plan(vec![vec![delete_pod("terminating")]])])], 7);
    assert_eq!(run.log().await, ["look k", "write terminating"]);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_key_is_never_looked_at_twice_at_once_and_several_keys_are() {
    let slow = || plan(vec![vec![silent(delete_pod("a"))]; 3]);
    let run = Run::start([("k", vec![slow(), plan(vec![])]), ("l", vec![slow(), plan(vec![])])], 7);
    tokio::time::sleep(Duration::from_millis(15)).await;
    run.queue.add(&"k");
    let log = run.log().await;
    assert_eq!(log[..2], ["look k", "look l"]);
    assert_eq!(log.iter().filter(|line| *line == "look k").count(), 2, "{log:?}");
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_recheck_comes_when_it_is_due() {
    let recheck = Plan { recheck_after: Some(Duration::from_secs(150)), ..plan(vec![]) };
    let run = Run::start([("k", vec![recheck, plan(vec![])])], 7);
    assert_eq!(run.log().await, ["look k"]);
    assert_eq!(run.log().await, ["look k"]);
    assert_eq!(run.log().await, [""; 0]);
    run.stop().await;
}
