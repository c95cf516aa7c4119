//! Killed in the middle of writes, again and again: nothing acknowledged is lost, no revision comes
//! twice, and the history has no gap.

use crate::child::{self, Doomed};
use crate::support::{
    at, coalesced, create, delete, durable, everything, list_at, next, on_disk, update, watch,
};
use kinglet::api::Revision;
use kinglet::storage::sqlite::Sqlite;
use kinglet::storage::{
    Event, Key, ReadError, Store as _, Watch, WatchError, WatchItem, WatchRequest,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::task::JoinSet;

const ROUNDS: u64 = 20;
const WRITERS: usize = 4;

/// What the child reports of each write, once it is acknowledged: `durable 17 /log/2/5`,
/// `counter 18 /count/2 5`, `coalesced 19`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_writes_until_it_is_killed() {
    let Some(path) = child::path() else {
        return;
    };
    let store = Arc::new(Sqlite::open(at(&path)).unwrap());
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write_forever(Arc::clone(&store), writer));
    }
    writers.join_all().await;
}

async fn write_forever(store: Arc<Sqlite>, writer: usize) {
    let began = store.revision();
    let counter = format!("/count/{writer}");
    let lease = format!("/lease/{writer}");
    let mut count = read_or_create(&store, &counter).await;
    let mut beat = read_or_create(&store, &lease).await;
    for number in 0.. {
        let log = format!("/log/{writer}/{began}/{number}");
        let logged = durable(&store, vec![create(&log, "entry")]).await.unwrap();
        child::say(&format!("durable {logged} {log}"));
        let value = (count.1 + 1).to_string();
        let revision = durable(&store, vec![update(&counter, &value, count.0)]).await.unwrap();
        count = (revision, count.1 + 1);
        child::say(&format!("counter {revision} {counter} {value}"));
        for _ in 0..3 {
            let value = (beat.1 + 1).to_string();
            let revision = coalesced(&store, vec![update(&lease, &value, beat.0)]).await.unwrap();
            beat = (revision, beat.1 + 1);
            child::say(&format!("coalesced {revision}"));
        }
        if number % 3 == 2 {
            let revision = durable(&store, vec![delete(&log, logged)]).await.unwrap();
            child::say(&format!("deleted {revision} {log}"));
        }
        if writer == 0 && number % 20 == 19 {
            // A sweep can be cut off, too.
            child::say(&format!("compacting {began}"));
            store.compact(began).await.unwrap();
        }
    }
}

async fn read_or_create(store: &Sqlite, key: &str) -> (Revision, u64) {
    match store.get(&Key::from(key)).await.unwrap().entry {
        Some(entry) => {
            (entry.revision, std::str::from_utf8(&entry.value).unwrap().parse().unwrap())
        }
        None => (durable(store, vec![create(key, "0")]).await.unwrap(), 0),
    }
}

/// What the children have reported so far.
#[derive(Default)]
struct Reported {
    newest: Revision,
    newest_durable: Revision,
    compacted: Revision,
    logged: BTreeMap<String, Revision>,
    deleted: Vec<String>,
    counters: BTreeMap<String, u64>,
    /// Durable changes of the last children, which a watch has to show.
    recent: Vec<(Revision, String)>,
}

impl Reported {
    fn hear(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let revision: Revision = words[1].parse().unwrap();
        self.newest = self.newest.max(revision);
        match words[0] {
            "durable" => drop(self.logged.insert(words[2].to_owned(), revision)),
            "deleted" => self.deleted.push(words[2].to_owned()),
            "counter" => {
                let value = words[3].parse().unwrap();
                self.counters.insert(words[2].to_owned(), value);
            }
            "coalesced" => return,
            "compacting" => {
                self.compacted = revision;
                return;
            }
            other => panic!("{other}"),
        }
        self.newest_durable = self.newest_durable.max(revision);
        self.recent.push((revision, words[2].to_owned()));
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_however_often_it_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    on_disk(&path).close().await.unwrap();
    let mut reported = Reported::default();
    for round in 0..ROUNDS {
        let before = reported.newest.max(Revision(1));
        // Some children find what a killed one has left, others what was closed in good order.
        for child in 0..=round % 3 {
            kill_while_writing(&path, round + child, &mut reported);
        }
        let store = on_disk(&path);
        assert!(store.revision() > reported.newest, "a revision could be used again");
        check_contents(&store, &reported).await;
        check_history(&store, before.max(reported.compacted), &reported).await;
        check_lost_revisions(&store, &reported).await;
        let next = durable(&store, vec![create(&format!("/round/{round}"), "")]).await.unwrap();
        store.close().await.unwrap();
        reported.newest = next;
        reported.recent.clear();
    }
}

fn kill_while_writing(path: &Path, round: u64, reported: &mut Reported) {
    let mut child = Doomed::start("crash::child_writes_until_it_is_killed", path);
    // Somewhere else in every round, and in the first ones near the beginning.
    for _ in 0..(round * round * 7 % 400) + 1 {
        let line = child.hear().expect("the child goes on until it is killed");
        reported.hear(&line);
    }
    for line in child.kill() {
        reported.hear(&line);
    }
}

async fn check_contents(store: &Sqlite, reported: &Reported) {
    let page = store.list(everything("/")).await.unwrap();
    let found: BTreeMap<_, _> =
        page.entries.iter().map(|entry| (entry.key.as_str(), entry)).collect();
    for (key, revision) in &reported.logged {
        match found.get(key.as_str()) {
            Some(entry) => assert_eq!(entry.revision, *revision),
            // The deletion may have happened without having been acknowledged.
            None => assert_eq!(key.rsplit('/').next().unwrap().parse::<u64>().unwrap() % 3, 2),
        }
    }
    for key in &reported.deleted {
        assert!(!found.contains_key(key.as_str()), "{key} is back");
    }
    for (key, value) in &reported.counters {
        let found: u64 = std::str::from_utf8(&found[key.as_str()].value).unwrap().parse().unwrap();
        assert!(found == *value || found == value + 1, "{key} is {found}, was {value}");
    }
}

/// A watch from before the last child shows all that was acknowledged, and leads to the present.
async fn check_history(store: &Sqlite, before: Revision, reported: &Reported) {
    let mut contents = BTreeMap::new();
    for entry in list_at(store, "/", before).await.unwrap().entries {
        contents.insert(entry.key, entry.value);
    }
    let request = WatchRequest { prefix: "/".into(), after: before, progress: true };
    let events = all_events(store.watch(request).await.unwrap(), store.revision()).await;
    assert!(events.is_sorted_by_key(|event| event.revision));
    for event in &events {
        let previous = contents.remove(&event.key);
        assert_eq!(previous, event.previous, "{event:?}");
        if let Some(value) = &event.value {
            contents.insert(event.key.clone(), value.clone());
        }
    }
    let now = store.list(everything("/")).await.unwrap().entries;
    let now: BTreeMap<_, _> = now.into_iter().map(|entry| (entry.key, entry.value)).collect();
    assert_eq!(contents, now);
    for (revision, key) in reported.recent.iter().filter(|(revision, _)| *revision > before) {
        let shown = |event: &&Arc<Event>| event.revision == *revision && event.key.as_str() == key;
        assert!(events.iter().any(|event| shown(&event)), "{key}@{revision} is missing");
    }
}

async fn all_events(mut watch: Box<dyn Watch>, through: Revision) -> Vec<Arc<Event>> {
    let mut events = Vec::new();
    loop {
        match next(&mut watch).await {
            Ok(WatchItem::Event(event)) => events.push(event),
            Ok(WatchItem::Progress(revision)) if revision >= through => return events,
            other => panic!("{other:?}"),
        }
    }
}

/// What was announced and did not reach the disk is not silently another history now.
async fn check_lost_revisions(store: &Sqlite, reported: &Reported) {
    let newest_row = store.list(everything("/")).await.unwrap();
    let newest_row = newest_row.entries.iter().map(|entry| entry.revision).max().unwrap();
    if reported.newest <= newest_row.max(reported.newest_durable) {
        return;
    }
    let gone = list_at(store, "/", reported.newest).await;
    assert!(matches!(gone, Err(ReadError::Compacted { .. })), "{gone:?}");
    let gone = watch(store, "/", reported.newest).await;
    assert!(matches!(gone, Err(WatchError::Compacted { .. })), "{gone:?}");
}
