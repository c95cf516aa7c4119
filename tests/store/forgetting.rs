//! Compaction: by request, by age and by size; and what idleness costs.

use crate::support::{
    at, coalesced, create, delete, durable, everything, list_at, on_disk, update,
};
use kinglet::api::Revision;
use kinglet::storage::sqlite::{Config, History, Sqlite};
use kinglet::storage::{ReadError, Store as _, WatchError, WatchItem, WatchRequest};
use std::fs;
use std::path::Path;
use std::time::Duration;

fn rows(path: &Path, table: &str) -> i64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    let sql = format!("SELECT count(*) FROM {table}");
    connection.query_row(&sql, [], |row| row.get(0)).unwrap()
}

async fn update_often(store: &Sqlite, key: &str, times: usize) -> Revision {
    let mut revision = durable(store, vec![create(key, "")]).await.unwrap();
    for number in 0..times {
        let value = format!("{number} {}", "x".repeat(1_000));
        revision = durable(store, vec![update(key, &value, revision)]).await.unwrap();
    }
    revision
}

#[tokio::test]
async fn compaction_removes_rows_and_shrinks_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let store = on_disk(&path);
    for batch in 0..40 {
        let names: Vec<_> = (0..100).map(|number| format!("/k/{batch}/{number}")).collect();
        let value = "x".repeat(2_000);
        let ops = names.iter().map(|name| create(name, &value)).collect();
        let revision = durable(&store, ops).await.unwrap();
        let ops = names.iter().map(|name| delete(name, revision)).collect();
        durable(&store, ops).await.unwrap();
    }
    let revision = update_often(&store, "/kept", 10).await;
    store.compact(revision).await.unwrap();
    store.close().await.unwrap();
    assert_eq!((rows(&path, "log"), rows(&path, "current")), (1, 1));
    let bytes = fs::metadata(&path).unwrap().len();
    assert!(bytes < 2 * 1_048_576, "{bytes} bytes are left of one key");
}

#[tokio::test]
async fn what_is_old_cannot_be_read_and_goes_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let history = History { age: Duration::ZERO, sweep_rows_min: 100, ..History::DEFAULT };
    let store = Sqlite::open(Config { path: Some(path.clone()), history }).unwrap();
    let start = store.revision();
    let revision = update_often(&store, "/k", 500).await;
    assert_eq!(list_at(&store, "/", revision).await.unwrap().entries.len(), 1);
    let old = list_at(&store, "/", start).await;
    assert!(matches!(old, Err(ReadError::Compacted { .. })), "{old:?}");
    store.close().await.unwrap();
    assert!(rows(&path, "log") < 250, "{} rows are left", rows(&path, "log"));
}

#[tokio::test]
async fn much_history_goes_however_young_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let history = History { rows_max: 320, sweep_rows_min: 50, ..History::DEFAULT };
    let store = Sqlite::open(Config { path: Some(path.clone()), history }).unwrap();
    let revision = update_often(&store, "/k", 1_000).await;
    let kept = Revision(revision.0 - 300);
    assert_eq!(list_at(&store, "/", kept).await.unwrap().entries.len(), 1);
    store.close().await.unwrap();
    assert!(rows(&path, "log") < 500, "{} rows are left", rows(&path, "log"));
}

#[tokio::test]
async fn heartbeats_do_not_touch_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let store = on_disk(&path);
    let mut revision = durable(&store, vec![create("/lease", "")]).await.unwrap();
    let state = || {
        let files = fs::read_dir(directory.path()).unwrap().map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            (entry.file_name(), metadata.len(), metadata.modified().unwrap())
        });
        let mut files: Vec<_> = files.collect();
        files.sort();
        files
    };
    let before = state();
    for number in 0..500 {
        let beat = update("/lease", &number.to_string(), revision);
        revision = coalesced(&store, vec![beat]).await.unwrap();
    }
    assert_eq!(state(), before);
    assert_eq!(store.list(everything("/")).await.unwrap().revision, revision);
    store.close().await.unwrap();
    let store = Sqlite::open(at(&path)).unwrap();
    let entry = store.list(everything("/")).await.unwrap().entries.remove(0);
    assert_eq!((entry.value.as_ref(), entry.revision), (&b"499"[..], revision));
}

#[tokio::test]
async fn many_waiting_heartbeats_are_written_after_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let store = on_disk(&path);
    let names: Vec<_> = (0..100).map(|number| format!("/k/{number}")).collect();
    let ops = names.iter().map(|name| create(name, "")).collect();
    let mut revision = durable(&store, ops).await.unwrap();
    let value = "x".repeat(15_000);
    for _ in 0..5 {
        let ops = names.iter().map(|name| update(name, &value, revision)).collect();
        revision = coalesced(&store, ops).await.unwrap();
    }
    let wal = fs::metadata(directory.path().join("state.db-wal")).unwrap().len();
    assert!(wal > 1_048_576, "{wal} bytes");
    let entries = store.list(everything("/k/")).await.unwrap().entries;
    assert!(entries.iter().all(|entry| entry.revision == revision));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_is_too_far_behind_is_cut_off() {
    let store = crate::support::in_memory();
    let mut revision = durable(&store, vec![create("/lease", "")]).await.unwrap();
    let request = |after| WatchRequest { prefix: "/".into(), after, progress: false };
    let mut slow = store.watch(request(revision)).await.unwrap();
    for _ in 0..70_000 {
        revision = coalesced(&store, vec![update("/lease", "", revision)]).await.unwrap();
    }
    let mut seen = 0;
    let error = loop {
        match slow.next().await {
            Ok(WatchItem::Event(_)) => seen += 1,
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, WatchError::Lagging { .. }), "{error:?} after {seen}");
    assert!(seen > 1_000);
    assert!(matches!(slow.next().await, Err(WatchError::Closed)));
}
