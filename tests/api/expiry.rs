//! Events go when they have had their time.

use super::support::{Api, config, eventually, store};
use jiff::{SignedDuration, Timestamp};
use kinglet::apiserver::Config;
use kinglet::stdx::{Clock, Tasks};
use kinglet::storage::{Sqlite, Store as _};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const EVENTS: &str = "/api/v1/namespaces/default/events";
const TTL: Duration = Duration::from_secs(3600);
const LOOKS_MAX: usize = 500;

/// An API server at a time of the test's choice, on a store that outlives it.
struct Fixture {
    api: Api,
    now: Arc<Mutex<Timestamp>>,
    tasks: Tasks,
}

impl Fixture {
    async fn start(store: Arc<Sqlite>, now: Timestamp) -> Self {
        let now = Arc::new(Mutex::new(now));
        let told = Arc::clone(&now);
        let clock = Clock::from_fn(move || *told.lock().unwrap());
        let config = Config { clock, event_ttl: TTL, ..config() };
        let api = Api::on(store, config).await;
        let mut tasks = Tasks::default();
        api.server.keep(&mut tasks);
        Self { api, now, tasks }
    }

    async fn report(&self, name: &str) {
        let event = json!({
            "metadata": {"name": name},
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
            "reason": "Tested", "type": "Normal",
        });
        self.api.post(EVENTS, &event).await.ok();
    }

    fn pass(&self, minutes: i64) {
        *self.now.lock().unwrap() += SignedDuration::from_mins(minutes);
    }

    async fn left(&self) -> Vec<String> {
        let list = self.api.get(EVENTS).await.ok();
        let names = list["items"].as_array().unwrap().iter();
        names.map(|event| event["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Whoever sleeps for as long as an Event lives has slept enough.
    async fn wake_sleepers() {
        tokio::time::pause();
        tokio::time::advance(TTL).await;
        tokio::time::resume();
    }

    /// Counts its looks: the time that others wait by leaps here.
    async fn eventually_left(&self, expected: &[&str]) {
        let mut left = Vec::new();
        for _ in 0..LOOKS_MAX {
            Self::wake_sleepers().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            left = self.left().await;
            if left == expected {
                return;
            }
        }
        panic!("{left:?} are left, not {expected:?}");
    }
}

#[tokio::test]
async fn an_event_goes_when_it_has_had_its_time() {
    let fixture = Fixture::start(store(), Timestamp::now()).await;
    fixture.report("a").await;
    fixture.pass(30);
    fixture.report("b").await;
    let path = format!("{EVENTS}?watch=true&resourceVersion={}", fixture.api.store.revision());
    let mut watch = fixture.api.watch(&path).await;
    fixture.pass(29);
    Fixture::wake_sleepers().await;
    assert_eq!(fixture.left().await, ["a", "b"]);
    fixture.pass(2);
    fixture.eventually_left(&["b"]).await;
    assert_eq!(watch.short().await, "DELETED a");
    fixture.pass(30);
    fixture.eventually_left(&[]).await;
    assert_eq!(watch.short().await, "DELETED b");
    // Another one after a time without any.
    fixture.report("c").await;
    fixture.pass(61);
    fixture.eventually_left(&[]).await;
}

#[tokio::test]
async fn what_is_reported_anew_begins_anew() {
    let fixture = Fixture::start(store(), Timestamp::now()).await;
    fixture.report("a").await;
    fixture.report("b").await;
    fixture.pass(30);
    let last = fixture.now.lock().unwrap().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let again = json!({"count": 2, "lastTimestamp": last});
    fixture.api.patch(&format!("{EVENTS}/b"), "merge", &again).await.ok();
    fixture.pass(31);
    fixture.eventually_left(&["b"]).await;
}

#[tokio::test]
async fn events_that_became_due_while_nobody_looked_go_at_the_start() {
    let store = store();
    let begun = Timestamp::now();
    let first = Fixture::start(Arc::clone(&store), begun).await;
    for number in 0..230 {
        first.report(&format!("e{number}")).await;
    }
    first.pass(40);
    first.report("late").await;
    first.tasks.stop(Duration::from_secs(5)).await.unwrap();

    let before = store.revision();
    let second = Fixture::start(Arc::clone(&store), begun + SignedDuration::from_mins(70)).await;
    eventually("the old ones are gone", async || (second.left().await == ["late"]).then_some(()))
        .await;
    assert_eq!(store.revision().0 - before.0, 3, "they go in batches");
    let after = store.revision();
    for _ in 0..3 {
        Fixture::wake_sleepers().await;
        assert_eq!(second.left().await, ["late"]);
    }
    assert_eq!(store.revision(), after, "nothing is written while nothing is due");
}
