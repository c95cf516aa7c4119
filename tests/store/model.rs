//! The store against a small model of it, under random operations.

use crate::support::{at, list_at};
use bytes::Bytes;
use kinglet::api::Revision;
use kinglet::storage::sqlite::Sqlite;
use kinglet::storage::{
    Commit, CommitError, Durability, Event, Key, ListRequest, Op, ReadError, Store as _, Watch,
    WatchError, WatchItem, WatchRequest,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

/// Everything that ever happened, and nothing else.
#[derive(Debug, Default)]
struct Model {
    log: Vec<Change>,
    floor: Revision,
}

#[derive(Clone, Debug)]
struct Change {
    key: Key,
    revision: Revision,
    value: Option<Bytes>,
    coalesced: bool,
}

type Contents = BTreeMap<Key, (Bytes, Revision)>;

impl Model {
    fn at(&self, at: Revision, prefix: &str) -> Contents {
        let mut contents = Contents::new();
        for change in self.log.iter().filter(|change| change.revision <= at) {
            match &change.value {
                Some(value) => {
                    contents.insert(change.key.clone(), (value.clone(), change.revision))
                }
                None => contents.remove(&change.key),
            };
        }
        contents.retain(|key, _| key.as_str().starts_with(prefix));
        contents
    }

    /// Whether a change may be skipped: the next one of its key is coalesced as it is itself.
    fn may_be_forgotten(&self, index: usize) -> bool {
        let change = &self.log[index];
        let next = self.log[index + 1..].iter().find(|next| next.key == change.key);
        change.coalesced && next.is_some_and(|next| next.coalesced)
    }

    /// Whether the store may say that it does not know this revision any more.
    fn may_be_compacted(&self, at: Revision, prefix: &str) -> bool {
        let newest = |key: &Key| {
            let of_key = |change: &Change| change.key == *key && change.revision <= at;
            self.log.iter().rposition(of_key)
        };
        at < self.floor
            || self
                .at(at, prefix)
                .keys()
                .filter_map(newest)
                .any(|index| self.may_be_forgotten(index))
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Each operation with whether its expectation is right.
    Commit(Vec<(usize, Kind, bool)>, Durability),
    Read {
        back: u64,
        prefix: usize,
        limit: usize,
    },
    Compact {
        back: u64,
    },
    Watch {
        back: u64,
        prefix: usize,
    },
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Create,
    Update,
    Delete,
    Require,
}

const KEYS: [&str; 6] = ["/a/1", "/a/2", "/a/3", "/ab/1", "/b/1", "/b/2"];
const PREFIXES: [&str; 5] = ["", "/a", "/a/", "/b/", "/a/1"];

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        2 => Just(Kind::Create),
        4 => Just(Kind::Update),
        1 => Just(Kind::Delete),
        1 => Just(Kind::Require),
    ];
    let ops = prop::collection::vec((0..KEYS.len(), kind, prop::bool::weighted(0.9)), 1..4);
    let update = (0..KEYS.len()).prop_map(|key| vec![(key, Kind::Update, true)]);
    let back = prop_oneof![Just(0_u64), 0..6_u64, 0..40_u64];
    prop_oneof![
        6 => ops.clone().prop_map(|ops| Step::Commit(ops, Durability::Durable)),
        1 => ops.prop_map(|ops| Step::Commit(ops, Durability::Coalesced)),
        6 => update.prop_map(|ops| Step::Commit(ops, Durability::Coalesced)),
        4 => (back.clone(), 0..PREFIXES.len(), 0..8_usize)
            .prop_map(|(back, prefix, limit)| Step::Read { back, prefix, limit }),
        1 => back.clone().prop_map(|back| Step::Compact { back }),
        3 => (back, 0..PREFIXES.len()).prop_map(|(back, prefix)| Step::Watch { back, prefix }),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn the_store_does_as_the_model(steps in prop::collection::vec(step(), 1..80)) {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(&directory.path().join("state.db"), steps));
    }
}

struct World {
    store: Sqlite,
    model: Model,
    watches: Vec<Follower>,
}

async fn run(path: &Path, steps: Vec<Step>) {
    let store = Sqlite::open(at(path)).unwrap();
    let mut world = World { store, model: Model::default(), watches: Vec::new() };
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Commit(ops, durability) => world.commit(number, &ops, durability).await,
            Step::Read { back, prefix, limit } => world.read(back, PREFIXES[prefix], limit).await,
            Step::Compact { back } => {
                let through = world.back(back);
                world.store.compact(through).await.unwrap();
                world.model.floor = world.model.floor.max(through);
            }
            Step::Watch { back, prefix } => world.watch(back, PREFIXES[prefix]).await,
            Step::Reopen => {
                world.follow().await;
                world.watches.clear();
                world.store.close().await.unwrap();
                let revision = world.store.revision();
                world.store = Sqlite::open(at(path)).unwrap();
                assert_eq!(world.store.revision(), revision);
            }
        }
        if number % 5 == 0 {
            world.follow().await;
        }
    }
    world.follow().await;
}

impl World {
    fn back(&self, back: u64) -> Revision {
        Revision(self.store.revision().0.saturating_sub(back).max(1))
    }

    async fn commit(&mut self, number: usize, ops: &[(usize, Kind, bool)], durability: Durability) {
        let mut ops = ops.to_vec();
        ops.sort_by_key(|(key, ..)| *key);
        ops.dedup_by_key(|(key, ..)| *key);
        let now = self.model.at(self.store.revision(), "");
        let value = || Bytes::from(format!("value {number}"));
        let ops: Vec<_> = ops
            .into_iter()
            .map(|(key, kind, right)| {
                let key = Key::from(KEYS[key]);
                let current = now.get(&key).map_or(Revision(0), |(_, revision)| *revision);
                let expected = Revision(current.0 + u64::from(!right));
                match kind {
                    Kind::Create => Op::Create { key, value: value() },
                    Kind::Update => Op::Update { key, value: value(), expected },
                    Kind::Delete => Op::Delete { key, expected },
                    Kind::Require => Op::Require { key, expected },
                }
            })
            .collect();
        let refused = ops.iter().find(|op| match op {
            Op::Create { key, .. } => now.contains_key(key),
            Op::Update { key, expected, .. }
            | Op::Delete { key, expected }
            | Op::Require { key, expected } => {
                now.get(key).is_none_or(|(_, revision)| revision != expected)
            }
        });
        let before = self.store.revision();
        let result = self.store.commit(Commit { ops: ops.clone(), durability }).await;
        match (result, refused) {
            (Ok(revision), None) => {
                let changes = ops.iter().any(|op| !matches!(op, Op::Require { .. }));
                assert_eq!(revision > before, changes);
                self.record(&ops, revision, durability);
            }
            (Err(CommitError::Exists { key }), Some(Op::Create { key: refused, .. })) => {
                assert_eq!(key, *refused);
            }
            (Err(CommitError::Conflict { key, current }), Some(refused)) => {
                assert_eq!(key, *refused.key());
                let current = current.map(|entry| (entry.value, entry.revision));
                assert_eq!(current.as_ref(), now.get(&key));
            }
            other => panic!("{other:?}"),
        }
    }

    fn record(&mut self, ops: &[Op], revision: Revision, durability: Durability) {
        let changes = ops.iter().filter(|op| !matches!(op, Op::Require { .. }));
        let updates = changes.clone().all(|op| matches!(op, Op::Update { .. }));
        let coalesced = durability == Durability::Coalesced && updates;
        self.model.log.extend(changes.map(|op| Change {
            key: op.key().clone(),
            revision,
            value: op.value().cloned(),
            coalesced,
        }));
    }

    /// Reads a prefix, page by page, at a revision in the past, and at the newest.
    async fn read(&self, back: u64, prefix: &str, limit: usize) {
        let at = self.back(back);
        match list_at(&self.store, prefix, at).await {
            Ok(page) => {
                assert!(at >= self.model.floor);
                assert_eq!(page.revision, at);
            }
            Err(ReadError::Compacted { .. }) => {
                assert!(self.model.may_be_compacted(at, prefix));
                return;
            }
            Err(other) => panic!("{other:?}"),
        }
        let newest = self.store.revision();
        for (at, shown) in [(Some(at), at), (None, newest)] {
            let expected = self.model.at(shown, prefix);
            let mut found = Contents::new();
            let mut after = None;
            loop {
                let request = ListRequest {
                    prefix: prefix.to_owned(),
                    after,
                    limit: limit.try_into().ok(),
                    at,
                };
                let page = self.store.list(request).await.unwrap();
                assert_eq!(page.revision, shown);
                after = page.entries.last().map(|entry| entry.key.clone());
                let entries = page.entries.into_iter();
                found.extend(entries.map(|it| (it.key, (it.value, it.revision))));
                assert_eq!(expected.len() - found.len(), usize::try_from(page.remaining).unwrap());
                if page.remaining == 0 {
                    break;
                }
            }
            assert_eq!(found, expected);
        }
        let key = Key::from(KEYS[limit % KEYS.len()]);
        let entry = self.store.get(&key).await.unwrap().entry;
        let contents = self.model.at(newest, "");
        assert_eq!(entry.map(|it| (it.value, it.revision)).as_ref(), contents.get(&key));
    }

    async fn watch(&mut self, back: u64, prefix: &'static str) {
        let after = self.back(back);
        let request = WatchRequest { prefix: prefix.to_owned(), after, progress: true };
        match self.store.watch(request).await {
            Ok(watch) => self.watches.push(Follower {
                watch,
                prefix,
                began: after,
                seen: after,
                contents: self.model.at(after, prefix),
            }),
            Err(WatchError::Compacted { .. }) => assert!(after < self.model.floor),
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Lets every watch run to the newest revision and compares what it has shown.
    async fn follow(&mut self) {
        let newest = self.store.revision();
        let mut followers = std::mem::take(&mut self.watches);
        for mut follower in followers.drain(..) {
            if follower.follow(&self.model, newest).await {
                self.watches.push(follower);
            }
        }
    }
}

/// Somebody who keeps a copy by watching.
struct Follower {
    watch: Box<dyn Watch>,
    prefix: &'static str,
    began: Revision,
    seen: Revision,
    contents: Contents,
}

impl Follower {
    /// Returns whether the watch goes on.
    async fn follow(&mut self, model: &Model, newest: Revision) -> bool {
        let mut events = Vec::new();
        let from = self.seen;
        while self.seen < newest {
            match self.watch.next().await {
                Ok(WatchItem::Event(event)) => events.push(event),
                Ok(WatchItem::Progress(revision)) => self.seen = revision,
                Err(WatchError::Compacted { .. }) => {
                    let forgotten = model.may_be_compacted(self.began, self.prefix);
                    assert!(from == self.began && forgotten);
                    return false;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(self.watch.delivered(), newest);
        events.iter().for_each(|event| self.apply(event));
        assert_eq!(self.contents, model.at(newest, self.prefix));
        self.check_complete(model, from, newest, &events);
        true
    }

    fn apply(&mut self, event: &Event) {
        let previous = self.contents.remove(&event.key).map(|(value, _)| value);
        assert_eq!(previous, event.previous, "{event:?}");
        if let Some(value) = &event.value {
            self.contents.insert(event.key.clone(), (value.clone(), event.revision));
        }
    }

    /// Every change has come once and in order, but for those that may be forgotten.
    fn check_complete(
        &self,
        model: &Model,
        from: Revision,
        newest: Revision,
        events: &[std::sync::Arc<Event>],
    ) {
        let mut events = events.iter().peekable();
        for (index, change) in model.log.iter().enumerate() {
            let wanted = from < change.revision
                && change.revision <= newest
                && change.key.as_str().starts_with(self.prefix);
            let same = |event: &&std::sync::Arc<Event>| {
                event.revision == change.revision && event.key == change.key
            };
            if wanted && events.next_if(same).is_none() {
                assert!(model.may_be_forgotten(index), "{change:?} is missing");
            }
        }
        assert_eq!(events.next(), None);
    }
}
