//! Short ways to say what the tests are about.

use kinglet::api::Revision;
use kinglet::storage::sqlite::{Config, Sqlite};
use kinglet::storage::{
    Commit, CommitError, Durability, Entry, Event, Key, ListRequest, Op, Page, ReadError, Store,
    Watch, WatchError, WatchItem, WatchRequest,
};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long anything may take that is bound to happen.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn in_memory() -> Sqlite {
    Sqlite::open(Config::in_memory()).unwrap()
}

pub(crate) fn on_disk(path: &Path) -> Sqlite {
    Sqlite::open(at(path)).unwrap()
}

pub(crate) fn at(path: &Path) -> Config {
    Config::file(path)
}

pub(crate) fn create(key: &str, value: &str) -> Op {
    Op::Create { key: Key::from(key), value: value.to_owned().into() }
}

pub(crate) fn update(key: &str, value: &str, expected: Revision) -> Op {
    Op::Update { key: Key::from(key), value: value.to_owned().into(), expected }
}

pub(crate) fn delete(key: &str, expected: Revision) -> Op {
    Op::Delete { key: Key::from(key), expected }
}

pub(crate) async fn durable(store: &Sqlite, ops: Vec<Op>) -> Result<Revision, CommitError> {
    store.commit(Commit { ops, durability: Durability::Durable }).await
}

pub(crate) async fn coalesced(store: &Sqlite, ops: Vec<Op>) -> Result<Revision, CommitError> {
    store.commit(Commit { ops, durability: Durability::Coalesced }).await
}

/// The value and revision of a key, as `value@revision`, or `none`.
pub(crate) async fn show(store: &Sqlite, key: &str) -> String {
    let lookup = store.get(&Key::from(key)).await.unwrap();
    lookup.entry.map_or("none".into(), |entry| show_entry(&entry))
}

pub(crate) fn show_entry(entry: &Entry) -> String {
    format!("{}@{}", text(&entry.value), entry.revision)
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

pub(crate) fn everything(prefix: &str) -> ListRequest {
    ListRequest { prefix: prefix.to_owned(), after: None, limit: None, at: None }
}

pub(crate) async fn list_at(store: &Sqlite, prefix: &str, at: Revision) -> Result<Page, ReadError> {
    store.list(ListRequest { at: Some(at), ..everything(prefix) }).await
}

pub(crate) fn limit(limit: usize) -> Option<NonZeroUsize> {
    NonZeroUsize::new(limit)
}

/// The entries of a page as `key=value@revision`, one after the other.
pub(crate) fn show_page(page: &Page) -> String {
    let entries = page.entries.iter();
    let shown: Vec<_> =
        entries.map(|entry| format!("{}={}", entry.key.as_str(), show_entry(entry))).collect();
    shown.join(" ")
}

pub(crate) async fn watch(
    store: &Sqlite,
    prefix: &str,
    after: Revision,
) -> Result<Box<dyn Watch>, WatchError> {
    store.watch(WatchRequest { prefix: prefix.to_owned(), after, progress: false }).await
}

pub(crate) async fn next(watch: &mut Box<dyn Watch>) -> Result<WatchItem, WatchError> {
    tokio::time::timeout(DEADLINE, watch.next()).await.expect("the watch says something in time")
}

/// The next event as `key:previous>value@revision`.
pub(crate) async fn next_event(watch: &mut Box<dyn Watch>) -> String {
    match next(watch).await {
        Ok(WatchItem::Event(event)) => show_event(&event),
        other => panic!("no event but {other:?}"),
    }
}

pub(crate) fn show_event(event: &Arc<Event>) -> String {
    let show = |value: &Option<bytes::Bytes>| value.as_deref().map_or("", text).to_owned();
    let (previous, value) = (show(&event.previous), show(&event.value));
    format!("{}:{previous}>{value}@{}", event.key.as_str(), event.revision)
}
