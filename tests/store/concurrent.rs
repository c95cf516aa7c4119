//! Readers and watches beside writers: each read is one moment of the history.

use crate::support::{create, durable, everything, in_memory};
use bytes::Bytes;
use kinglet::api::Revision;
use kinglet::storage::sqlite::Sqlite;
use kinglet::storage::{
    Commit, CommitError, Durability, Event, Key, Lookup, Op, Page, Store as _, WatchError,
    WatchItem, WatchRequest,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinSet;

const KEYS: usize = 8;
const WRITERS: usize = 6;
const WRITES_EACH: usize = 300;

type Contents = BTreeMap<Key, (Bytes, Revision)>;

fn key(number: usize) -> Key {
    Key::from(format!("/k/{}", number % KEYS))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_read_is_one_moment_of_the_history() {
    let store = Arc::new(in_memory());
    let ops = (0..KEYS).map(|number| create(key(number).as_str(), "first")).collect();
    let start = durable(&store, ops).await.unwrap();
    let beginning = contents(&store.list(everything("/k/")).await.unwrap());
    let mut history = JoinSet::new();
    history.spawn(follow(Arc::clone(&store), start));
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for _ in 0..3 {
        readers.spawn(read(Arc::clone(&store), Arc::clone(&stop)));
    }
    let mut joiners = JoinSet::new();
    joiners.spawn(join_again(Arc::clone(&store), Arc::clone(&stop)));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(Arc::clone(&store), writer));
    }
    writers.join_all().await;
    stop.store(true, Ordering::Relaxed);
    let end = durable(&store, vec![create("/end", "")]).await.unwrap();
    let events = history.join_all().await.remove(0);
    assert_eq!(events.last().unwrap().revision, end);
    let moments = moments(beginning, start, &events);
    let mut checked = 0;
    for (pages, lookups) in readers.join_all().await {
        for page in pages {
            assert_eq!(contents(&page), moment(&moments, page.revision), "{}", page.revision);
            checked += 1;
        }
        for (key, lookup) in lookups {
            let entry = lookup.entry.map(|entry| (entry.value, entry.revision));
            let expected = moment(&moments, lookup.revision);
            assert_eq!(entry.as_ref(), expected.get(&key), "{key:?} at {}", lookup.revision);
        }
    }
    assert!(checked > 10, "{checked} lists are not enough to tell");
    for (began, seen, through) in joiners.join_all().await.into_iter().flatten() {
        let mut copy = moment(&moments, began);
        seen.iter().for_each(|event| apply(&mut copy, event));
        assert_eq!(copy, moment(&moments, through), "a watch after {began}");
    }
}

/// Writes as clients do: reads, and tries again after a conflict. Every third writer coalesces.
async fn write(store: Arc<Sqlite>, writer: usize) {
    let durability =
        if writer.is_multiple_of(3) { Durability::Durable } else { Durability::Coalesced };
    for number in 0..WRITES_EACH {
        let key = key(number * 7 + writer);
        let value = Bytes::from(format!("{writer}/{number}"));
        let lookup = store.get(&key).await.unwrap();
        let op = match lookup.entry {
            None => Op::Create { key, value },
            Some(entry) if number % 50 == 49 => Op::Delete { key, expected: entry.revision },
            Some(entry) => Op::Update { key, value, expected: entry.revision },
        };
        match store.commit(Commit { ops: vec![op], durability }).await {
            Ok(_) | Err(CommitError::Conflict { .. } | CommitError::Exists { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

async fn read(store: Arc<Sqlite>, stop: Arc<AtomicBool>) -> (Vec<Page>, Vec<(Key, Lookup)>) {
    let (mut pages, mut lookups) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        pages.push(store.list(everything("/k/")).await.unwrap());
        let key = key(pages.len());
        let lookup = store.get(&key).await.unwrap();
        lookups.push((key, lookup));
    }
    (pages, lookups)
}

/// Everything after `after`, through the key that is written last.
async fn follow(store: Arc<Sqlite>, after: Revision) -> Vec<Arc<Event>> {
    let request = WatchRequest { prefix: "/".into(), after, progress: false };
    let mut watch = store.watch(request).await.unwrap();
    let mut events = Vec::new();
    while events.last().is_none_or(|event: &Arc<Event>| event.key.as_str() != "/end") {
        match watch.next().await.unwrap() {
            WatchItem::Event(event) => events.push(event),
            WatchItem::Progress(revision) => panic!("unasked progress through {revision}"),
        }
    }
    events
}

/// A watch: after which revision it began, what it showed, and through which revision that was all.
type Joined = (Revision, Vec<Arc<Event>>, Revision);

/// Begins watch after watch a little in the past, and follows each for a while.
async fn join_again(store: Arc<Sqlite>, stop: Arc<AtomicBool>) -> Vec<Joined> {
    let mut joined = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = store.list(everything("/k/")).await.unwrap().revision;
        tokio::task::yield_now().await;
        let request = WatchRequest { prefix: "/k/".into(), after: began, progress: true };
        let mut watch = store.watch(request).await.unwrap();
        let mut seen = Vec::new();
        loop {
            match watch.next().await {
                Ok(WatchItem::Event(event)) => seen.push(event),
                Ok(WatchItem::Progress(through)) => {
                    if seen.len() >= 20 || stop.load(Ordering::Relaxed) {
                        joined.push((began, seen, through));
                        break;
                    }
                }
                Err(WatchError::Compacted { .. }) => break,
                Err(other) => panic!("{other:?}"),
            }
        }
    }
    joined
}

fn contents(page: &Page) -> Contents {
    let entries = page.entries.iter();
    entries.map(|entry| (entry.key.clone(), (entry.value.clone(), entry.revision))).collect()
}

fn apply(contents: &mut Contents, event: &Event) {
    let previous = contents.remove(&event.key).map(|(value, _)| value);
    assert_eq!(previous, event.previous, "{event:?}");
    if let Some(value) = &event.value {
        contents.insert(event.key.clone(), (value.clone(), event.revision));
    }
}

/// What the store had after each revision.
fn moments(
    mut contents: Contents,
    start: Revision,
    events: &[Arc<Event>],
) -> BTreeMap<Revision, Contents> {
    let mut moments = BTreeMap::from([(start, contents.clone())]);
    for event in events.iter().filter(|event| event.key.as_str() != "/end") {
        apply(&mut contents, event);
        moments.insert(event.revision, contents.clone());
    }
    moments
}

fn moment(moments: &BTreeMap<Revision, Contents>, at: Revision) -> Contents {
    moments.range(..=at).next_back().unwrap().1.clone()
}
