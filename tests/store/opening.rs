//! What may be opened, and what is refused.

use crate::child::{self, Doomed};
use crate::support::{at, create, durable, everything, on_disk};
use kinglet::stdx::chain;
use kinglet::storage::sqlite::{OpenError, Sqlite};
use kinglet::storage::{ReadError, Store as _};
use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// A store with some content, closed in good order.
async fn filled(directory: &Path) -> PathBuf {
    let path = directory.join("state.db");
    let store = on_disk(&path);
    for batch in 0..4 {
        let value = "value ".repeat(100);
        let ops = (0..100).map(|number| create(&format!("/k/{batch}/{number}"), &value));
        durable(&store, ops.collect()).await.unwrap();
    }
    store.close().await.unwrap();
    path
}

/// Opening fails, says what to do and about which file, and leaves the file alone.
fn check_refused(path: &Path, expected: &str) -> OpenError {
    let before = fs::read(path).unwrap();
    let error = Sqlite::open(at(path)).unwrap_err();
    let text = chain(&error);
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    assert!(text.contains(expected), "{text}");
    assert!(before == fs::read(path).unwrap(), "the file has been changed");
    error
}

#[tokio::test]
async fn child_holds_the_store_until_it_is_killed() {
    if let Some(path) = child::path() {
        let _store = on_disk(&path);
        child::say("open");
        std::future::pending::<()>().await;
    }
}

#[tokio::test]
async fn a_second_process_is_kept_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(directory.path()).await;
    let mut child = Doomed::start("opening::child_holds_the_store_until_it_is_killed", &path);
    assert_eq!(child.hear().unwrap(), "open");
    let error = check_refused(&path, "in use by another process");
    assert!(matches!(error, OpenError::InUse { .. }));
    child.kill();
    let store = on_disk(&path);
    assert_eq!(store.list(everything("/")).await.unwrap().entries.len(), 400);
}

#[tokio::test]
async fn the_files_are_for_their_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/db/state.db");
    let store = on_disk(&path);
    durable(&store, vec![create("/secret", "")]).await.unwrap();
    let mut names = Vec::new();
    for entry in fs::read_dir(path.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{entry:?}");
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["state.db", "state.db-shm", "state.db-wal", "state.db.lock"]);
}

#[tokio::test]
async fn damaged_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(directory.path()).await;
    let whole = fs::read(&path).unwrap();
    let damage = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let error = check_refused(&path, "restore it from a backup");
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    };
    damage(&|bytes| bytes.truncate(bytes.len() / 2));
    damage(&|bytes| bytes.truncate(50));
    damage(&|bytes| bytes[..16].fill(b'x'));
    damage(&|bytes| bytes[..4096].fill(0));
    damage(&|bytes| *bytes = b"not a database at all\\n".repeat(1_000));
    for page in 1..whole.len() / 4096 {
        // Free pages, and the inside of values, do not tell.
        if [2, 5, 10, 13].contains(&whole[page * 4096]) {
            damage(&|bytes| {
                bytes[page * 4096..][..4096].iter_mut().for_each(|byte| *byte = !*byte);
            });
        }
    }
    fs::write(&path, &whole).unwrap();
    let store = on_disk(&path);
    assert_eq!(store.list(everything("/")).await.unwrap().entries.len(), 400);
}

/// Every page but the first few is overwritten while the store is open, and reading says so.
#[tokio::test]
async fn damage_that_happens_later_names_the_file() {
    for damage in [|_byte: u8| 0xff_u8, |byte: u8| if byte == b'v' { b'w' } else { byte }] {
        let directory = tempfile::tempdir().unwrap();
        let path = filled(directory.path()).await;
        let store = on_disk(&path);
        let file = fs::OpenOptions::new().write(true).read(true).open(&path).unwrap();
        let pages = file.metadata().unwrap().len() / 4096;
        for page in 8..pages {
            let mut bytes = [0; 4096];
            file.read_exact_at(&mut bytes, page * 4096).unwrap();
            file.write_all_at(&bytes.map(damage), page * 4096).unwrap();
        }
        match store.list(everything("/")).await {
            Err(ReadError::Unavailable(source)) => {
                let text = chain(&*source);
                assert!(text.contains(path.to_str().unwrap()), "{text}");
                assert!(text.contains("is damaged"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn files_of_others_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE kine (id INTEGER PRIMARY KEY)").unwrap();
    drop(other);
    let error = check_refused(&path, "a database of another program");
    assert!(matches!(error, OpenError::Foreign { .. }));
}

#[tokio::test]
async fn files_of_a_newer_version_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(directory.path()).await;
    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    let error = check_refused(&path, "written by a newer version (format 99");
    assert!(matches!(error, OpenError::Newer { found: 99, .. }));
}

#[tokio::test]
async fn a_directory_in_the_way_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    fs::create_dir(&path).unwrap();
    let error = Sqlite::open(at(&path)).unwrap_err();
    assert!(chain(&error).contains(path.to_str().unwrap()), "{}", chain(&error));
    fs::write(directory.path().join("file"), "").unwrap();
    let error = Sqlite::open(at(&directory.path().join("file/state.db"))).unwrap_err();
    assert!(chain(&error).contains("file"), "{}", chain(&error));
}
