//! A disk without room: writes fail, reads go on, and all is well once there is room again.

use crate::child;
use crate::support::{
    at, coalesced, create, durable, everything, next_event, on_disk, update, watch,
};
use kinglet::api::Revision;
use kinglet::storage::sqlite::Sqlite;
use kinglet::storage::{CommitError, Store as _};
use std::fs;
use std::path::Path;

const VALUE_BYTES: usize = 16 * 1024;

/// More than fits, by far.
const WRITES_MAX: usize = 10_000;

async fn fill(store: &Sqlite) -> (usize, CommitError) {
    for number in 0..WRITES_MAX {
        let value = "x".repeat(VALUE_BYTES);
        let written = durable(store, vec![create(&format!("/fill/{number:05}"), &value)]).await;
        if let Err(error) = written {
            return (number, error);
        }
    }
    panic!("the disk does not fill up");
}

/// Writes until nothing goes any more; then checks what still goes.
async fn check_full(store: &Sqlite) -> usize {
    let start = durable(store, vec![create("/beat", "0")]).await.unwrap();
    let mut events = watch(store, "/beat", start).await.unwrap();
    let (written, error) = fill(store).await;
    child::say(&format!("full after {written}: {error:?}"));
    let newest = store.revision();
    let more = "x".repeat(VALUE_BYTES);
    assert!(durable(store, vec![create("/one/more", &more)]).await.is_err());
    assert_eq!(store.revision(), newest, "a failed write has no revision");
    let page = store.list(everything("/fill/")).await.unwrap();
    assert_eq!(page.entries.len(), written);
    // Heartbeats do not need the disk.
    let beat = coalesced(store, vec![update("/beat", "1", start)]).await.unwrap();
    assert_eq!(next_event(&mut events).await, format!("/beat:0>1@{beat}"));
    written
}

/// There is room again.
async fn check_recovered(store: &Sqlite, path: &Path, written: usize) {
    let value = "x".repeat(VALUE_BYTES);
    durable(store, vec![create("/one/more", &value)]).await.unwrap();
    store.compact(store.revision()).await.unwrap();
    store.close().await.unwrap();
    let store = on_disk(path);
    let entries = store.list(everything("/")).await.unwrap().entries;
    assert_eq!(entries.len(), written + 2);
    assert_eq!(entries[0].value.as_ref(), b"1");
    assert!(entries.iter().all(|entry| entry.revision > Revision(0)));
    child::say("recovered");
}

#[tokio::test]
async fn child_fills_a_small_disk() {
    let Some(disk) = child::path() else {
        return;
    };
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![0; 1_048_576]).unwrap();
    let path = disk.join("state.db");
    let store = Sqlite::open(at(&path)).unwrap();
    let written = check_full(&store).await;
    let value = "x".repeat(VALUE_BYTES);
    let error = durable(&store, vec![create("/one/more", &value)]).await.unwrap_err();
    assert!(matches!(error, CommitError::Full), "{error:?}");
    fs::remove_file(ballast).unwrap();
    check_recovered(&store, &path, written).await;
}

#[test]
fn a_full_disk_stops_writes_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=4m tmpfs "$KINGLET_TEST_STORE_CHILD" && exec "$0" "$@""#;
    let in_user_namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script];
    let as_root = ["unshare", "--mount", "sh", "-c", script];
    let child = "full::child_fills_a_small_disk";
    // Which of the two this machine allows.
    let can = |wrapper: &[&str]| child::run(wrapper, "no such test", directory.path()).is_some();
    let wrapper = [&in_user_namespace[..], &as_root].into_iter().find(|wrapper| can(wrapper));
    let wrapper = wrapper.expect("user namespaces, or root, to mount a small disk");
    let said = child::run(wrapper, child, directory.path()).expect("the child succeeds");
    assert_eq!(said.last().unwrap(), "recovered", "{said:?}");
    assert!(said[0].ends_with(": Full"), "{said:?}");
}

#[tokio::test]
async fn child_fills_files_of_limited_size() {
    let Some(path) = child::path() else {
        return;
    };
    let store = Sqlite::open(at(&path)).unwrap();
    let written = check_full(&store).await;
    let limit = rustix::process::Rlimit { current: None, maximum: None };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
    check_recovered(&store, &path, written).await;
}

#[test]
fn a_file_size_limit_stops_writes_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"trap '' XFSZ; ulimit -S -f 2000; exec "$0" "$@""#;
    let path = directory.path().join("state.db");
    let child = "full::child_fills_files_of_limited_size";
    let said = child::run(&["sh", "-c", script], child, &path).expect("the child succeeds");
    assert_eq!(said.last().unwrap(), "recovered", "{said:?}");
}
