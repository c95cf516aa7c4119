//! Copies of a store that is in use, and what becomes of one that goes on from a copy.

use crate::support::{
    at, coalesced, create, delete, durable, everything, list_at, on_disk, show, text, update, watch,
};
use kinglet::api::Revision;
use kinglet::stdx::{blocking, chain};
use kinglet::storage::sqlite::{self, Halt, Sqlite};
use kinglet::storage::{Key, ReadError, Store as _, WatchError};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinSet;

const COPIES: usize = 12;
const WRITERS: usize = 4;

/// Makes a copy and checks it through.
async fn copy(from: &Path, to: &Path) -> sqlite::Facts {
    let (from, to) = (from.to_owned(), to.to_owned());
    blocking(move || {
        let facts = sqlite::copy(&from, &to, &Halt::default()).unwrap();
        assert_eq!(sqlite::verify(&to, &Halt::default()).unwrap(), facts);
        facts
    })
    .await
}

/// Changes a counter and a copy of it in one commit, so that a state that never was shows.
async fn count(store: Arc<Sqlite>, writer: usize, working: Arc<AtomicBool>) {
    let (left, right) = (format!("/left/{writer}"), format!("/right/{writer}"));
    let mut newest = durable(&store, vec![create(&left, "0"), create(&right, "0")]).await.unwrap();
    let mut number = 0_u64;
    while working.load(Ordering::Relaxed) {
        number += 1;
        let value = number.to_string();
        let ops = vec![update(&left, &value, newest), update(&right, &value, newest)];
        newest = durable(&store, ops).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_a_state_that_was_and_has_all_that_was_acknowledged_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let store = Arc::new(on_disk(&path));
    let working = Arc::new(AtomicBool::new(true));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(count(Arc::clone(&store), writer, Arc::clone(&working)));
    }
    let mut copies = BTreeMap::new();
    for number in 0..COPIES {
        let mark = format!("/mark/{number}");
        let marked = durable(&store, vec![create(&mark, "")]).await.unwrap();
        let copy_path = directory.path().join(format!("copy-{number}"));
        let facts = copy(&path, &copy_path).await;
        assert!(marked <= facts.revision && facts.revision <= store.revision());
        copies.insert(number, (copy_path, facts));
    }
    working.store(false, Ordering::Relaxed);
    writers.join_all().await;
    for (number, (copy_path, facts)) in copies {
        let there = list_at(&store, "/", facts.revision).await.unwrap();
        let copied = on_disk(&copy_path);
        let here = copied.list(everything("/")).await.unwrap();
        assert_eq!(here.entries, there.entries, "copy {number}");
        assert_eq!(facts.keys, here.entries.len() as u64);
        assert!(copied.revision() >= facts.reserved);
        for entry in &here.entries {
            let key = entry.key.as_str();
            if let Some(writer) = key.strip_prefix("/left/") {
                let other = show(&copied, &format!("/right/{writer}")).await;
                assert!(other.starts_with(&format!("{}@", text(&entry.value))), "{key}: {other}");
            }
        }
        copied.close().await.unwrap();
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_copy_is_for_its_owner_only_and_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let (path, to) = (directory.path().join("state.db"), directory.path().join("copy"));
    let store = on_disk(&path);
    durable(&store, vec![create("/secret", "")]).await.unwrap();
    let facts = copy(&path, &to).await;
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!((facts.schema, facts.keys), (sqlite::SCHEMA, 1));
    for suffix in ["-wal", "-shm", "-journal"] {
        assert!(!directory.path().join(format!("copy{suffix}")).exists(), "{suffix}");
    }
    // Nothing that is there is overwritten.
    let refused = sqlite::copy(&path, &to, &Halt::default()).unwrap_err();
    assert!(chain(&refused).contains("create"), "{refused}");
    store.close().await.unwrap();
}

/// A copy of what a killed process has left has what is in the write-ahead log, and leaves it there.
#[tokio::test]
async fn a_store_that_nobody_uses_is_copied_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let store = on_disk(&path);
    durable(&store, vec![create("/a", "1")]).await.unwrap();
    let beside = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
    let killed = directory.path().join("killed/state.db");
    fs::create_dir(killed.parent().unwrap()).unwrap();
    for suffix in ["", "-wal"] {
        fs::copy(beside(suffix), format!("{}{suffix}", killed.display())).unwrap();
    }
    store.close().await.unwrap();
    let wal = PathBuf::from(format!("{}-wal", killed.display()));
    let before = (fs::read(&killed).unwrap(), fs::read(&wal).unwrap());
    let facts = copy(&killed, &directory.path().join("copy")).await;
    assert_eq!(facts.keys, 1);
    assert!(before == (fs::read(&killed).unwrap(), fs::read(&wal).unwrap()));
    let store = on_disk(&killed);
    assert!(show(&store, "/a").await.starts_with("1@"));
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_is_no_sound_store_is_not_copied() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let to = directory.path().join("copy");
    let missing = sqlite::copy(&path, &to, &Halt::default()).unwrap_err();
    assert!(chain(&missing).contains(path.to_str().unwrap()), "{missing}");
    assert!(!path.exists() && !to.exists());
    let store = on_disk(&path);
    let mut known = Revision(0);
    for number in 0..200 {
        let ops = vec![create(&format!("/k/{number}"), &"marked ".repeat(50))];
        known = durable(&store, ops).await.unwrap();
    }
    store.close().await.unwrap();
    let bytes = fs::read(&path).unwrap();
    let place = bytes.windows(7).rposition(|part| part == b"marked ").unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"M", place as u64).unwrap();
    let facts = sqlite::copy(&path, &to, &Halt::default()).unwrap();
    assert_eq!(facts.revision, known);
    let damaged = sqlite::verify(&to, &Halt::default()).unwrap_err();
    assert!(chain(&damaged).contains("is not as it was written"), "{damaged}");
    let halt = Halt::default();
    halt.ask();
    sqlite::copy(&path, &directory.path().join("other"), &halt).unwrap_err();
}

#[derive(Clone, Debug)]
enum Step {
    Create,
    Delete,
    Beat,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Create),
        2 => Just(Step::Delete),
        4 => Just(Step::Beat),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..20)
}

/// Does something to a store; every revision that it gives out is added to `known`.
async fn work(path: &Path, steps: &[Step], known: &mut Vec<Revision>) -> Sqlite {
    let mut store = Sqlite::open(at(path)).unwrap();
    for step in steps {
        let keys = store.list(everything("/k/")).await.unwrap().entries;
        let revision = match (step, keys.first()) {
            (Step::Delete, Some(entry)) => {
                durable(&store, vec![delete(entry.key.as_str(), entry.revision)]).await.unwrap()
            }
            (Step::Beat, Some(entry)) => {
                let ops = vec![update(entry.key.as_str(), "beat", entry.revision)];
                coalesced(&store, ops).await.unwrap()
            }
            (Step::Reopen, _) => {
                store.close().await.unwrap();
                store = Sqlite::open(at(path)).unwrap();
                store.revision()
            }
            _ => {
                let key = format!("/k/{}", store.revision());
                durable(&store, vec![create(&key, "")]).await.unwrap()
            }
        };
        known.push(revision);
    }
    store
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_revision_of_a_lost_store_comes_again(
        before in steps(),
        lost in steps(),
        after in steps(),
        gap in 100_u64..1_000_000,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(check_going_on(&before, &lost, &after, gap));
    }
}

async fn check_going_on(before: &[Step], lost: &[Step], after: &[Step], gap: u64) {
    let directory = tempfile::tempdir().unwrap();
    let (path, to) = (directory.path().join("state.db"), directory.path().join("copy"));
    let mut known = vec![Revision(0)];
    let store = work(&path, before, &mut known).await;
    let facts = copy(&path, &to).await;
    let saved = list_at(&store, "/", facts.revision).await;
    store.close().await.unwrap();
    let newest_saved = *known.last().unwrap();
    let store = work(&path, lost, &mut known).await;
    store.close().await.unwrap();
    assert!(newest_saved <= facts.reserved, "{newest_saved} of {facts:?}");
    let newest = *known.iter().max().unwrap();
    let last = Revision(facts.reserved.0 + gap);
    assert!(newest < last);
    sqlite::go_on_after(&to, last).unwrap();
    let store = on_disk(&to);
    // Some revisions of coalesced changes cannot be listed in the lost store either.
    if let Ok(saved) = saved {
        assert_eq!(store.list(everything("/")).await.unwrap().entries, saved.entries);
    }
    for revision in known.iter().filter(|revision| revision.0 > 0) {
        let gone = list_at(&store, "/", *revision).await;
        assert!(matches!(gone, Err(ReadError::Compacted { .. })), "{revision}: {gone:?}");
        let gone = watch(&store, "/", *revision).await.map(drop);
        assert!(matches!(gone, Err(WatchError::Compacted { .. })), "{revision}: {gone:?}");
    }
    store.close().await.unwrap();
    let mut new = vec![last];
    let store = work(&to, after, &mut new).await;
    assert!(new[1..].iter().all(|revision| *revision >= last), "{new:?} after {last}");
    let watched = watch(&store, "/", store.revision()).await.map(drop);
    assert!(watched.is_ok(), "{watched:?}");
    store.get(&Key::from("/k/1")).await.unwrap();
    store.close().await.unwrap();
}
