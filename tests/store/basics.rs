//! Creating, updating, deleting, reading and listing.

use crate::support::{
    coalesced, create, delete, durable, everything, in_memory, limit, list_at, on_disk, show,
    show_page, update,
};
use kinglet::api::Revision;
use kinglet::storage::{CommitError, Key, ListRequest, ReadError, Store as _};

#[tokio::test]
async fn expectations_are_kept() {
    let store = in_memory();
    let first = durable(&store, vec![create("/a", "1")]).await.unwrap();
    let exists = durable(&store, vec![create("/a", "2")]).await;
    assert!(matches!(exists, Err(CommitError::Exists { .. })), "{exists:?}");
    let second = durable(&store, vec![update("/a", "2", first)]).await.unwrap();
    assert!(second > first);
    match durable(&store, vec![update("/a", "3", first)]).await {
        Err(CommitError::Conflict { current: Some(current), .. }) => {
            assert_eq!((current.value.as_ref(), current.revision), (&b"2"[..], second));
        }
        other => panic!("{other:?}"),
    }
    durable(&store, vec![delete("/a", second)]).await.unwrap();
    match durable(&store, vec![update("/a", "3", second)]).await {
        Err(CommitError::Conflict { current: None, .. }) => {}
        other => panic!("{other:?}"),
    }
    let again = durable(&store, vec![create("/a", "4")]).await.unwrap();
    assert_eq!(show(&store, "/a").await, format!("4@{again}"));
    assert_eq!(store.revision(), again);
}

#[tokio::test]
async fn a_commit_happens_whole_or_not_at_all() {
    let store = in_memory();
    let first = durable(&store, vec![create("/a", "1"), create("/b", "1")]).await.unwrap();
    let failed = durable(&store, vec![create("/c", "1"), update("/b", "2", Revision(0))]).await;
    assert!(matches!(failed, Err(CommitError::Conflict { .. })));
    assert_eq!(show(&store, "/c").await, "none");
    let page = store.list(everything("/")).await.unwrap();
    assert_eq!(show_page(&page), format!("/a=1@{first} /b=1@{first}"));
    let nothing = durable(&store, vec![]).await.unwrap();
    assert_eq!(nothing, first);
}

#[tokio::test]
async fn pages_follow_each_other_at_one_revision() {
    let store = in_memory();
    let mut at = Revision(0);
    for name in ["a", "b", "c", "d", "e"] {
        at = durable(&store, vec![create(&format!("/p/{name}"), name)]).await.unwrap();
    }
    durable(&store, vec![create("/q/x", "x")]).await.unwrap();
    let first = store.list(ListRequest { limit: limit(2), ..everything("/p/") }).await.unwrap();
    assert_eq!((first.entries.len(), first.remaining), (2, 3));
    let b = first.entries[1].revision;
    durable(&store, vec![delete("/p/c", Revision(b.0 + 1))]).await.unwrap();
    durable(&store, vec![update("/p/d", "new", Revision(b.0 + 2))]).await.unwrap();
    durable(&store, vec![create("/p/cc", "new")]).await.unwrap();
    let after = first.entries.last().map(|entry| entry.key.clone());
    let request = ListRequest { after, limit: limit(2), at: Some(at), ..everything("/p/") };
    let second = store.list(request.clone()).await.unwrap();
    let expected = format!("/p/c=c@{} /p/d=d@{}", b.0 + 1, b.0 + 2);
    assert_eq!((show_page(&second), second.remaining, second.revision), (expected, 1, at));
    let now = store.list(ListRequest { at: None, ..request }).await.unwrap();
    assert_eq!((now.entries[0].key.as_str(), now.remaining), ("/p/cc", 1));
    let all = store.list(everything("")).await.unwrap();
    assert_eq!(all.entries.len(), 6);
}

#[tokio::test]
async fn coalesced_values_are_read_at_once_and_survive_a_good_shutdown() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db/state.db");
    let store = on_disk(&path);
    let created = durable(&store, vec![create("/lease", "0")]).await.unwrap();
    let first = coalesced(&store, vec![update("/lease", "1", created)]).await.unwrap();
    let second = coalesced(&store, vec![update("/lease", "2", first)]).await.unwrap();
    assert_eq!(show(&store, "/lease").await, format!("2@{second}"));
    let page = store.list(everything("/")).await.unwrap();
    assert_eq!(show_page(&page), format!("/lease=2@{second}"));
    let past = list_at(&store, "/", created).await.unwrap();
    assert_eq!(show_page(&past), format!("/lease=0@{created}"));
    let forgotten = list_at(&store, "/", first).await;
    assert!(matches!(forgotten, Err(ReadError::Compacted { oldest, .. }) if oldest == second));
    store.close().await.unwrap();
    let store = on_disk(&path);
    assert_eq!(store.revision(), second);
    assert_eq!(show(&store, "/lease").await, format!("2@{second}"));
    let past = list_at(&store, "/", created).await.unwrap();
    assert_eq!(show_page(&past), format!("/lease=0@{created}"));
    assert!(matches!(list_at(&store, "/", first).await, Err(ReadError::Compacted { .. })));
}

#[tokio::test]
async fn revisions_out_of_reach_are_named() {
    let store = in_memory();
    let first = durable(&store, vec![create("/a", "1")]).await.unwrap();
    let second = durable(&store, vec![update("/a", "2", first)]).await.unwrap();
    let third = durable(&store, vec![delete("/a", second)]).await.unwrap();
    let future = list_at(&store, "/", Revision(third.0 + 1)).await;
    assert!(matches!(future, Err(ReadError::Future { newest, .. }) if newest == third));
    store.compact(second).await.unwrap();
    let gone = list_at(&store, "/", first).await;
    assert!(matches!(gone, Err(ReadError::Compacted { oldest, .. }) if oldest == second));
    assert_eq!(list_at(&store, "/", second).await.unwrap().entries.len(), 1);
    store.compact(third).await.unwrap();
    assert_eq!(list_at(&store, "/", third).await.unwrap().entries.len(), 0);
    let again = durable(&store, vec![create("/a", "3")]).await.unwrap();
    assert_eq!(show(&store, "/a").await, format!("3@{again}"));
}

#[tokio::test]
async fn a_closed_store_refuses_everything() {
    let store = in_memory();
    store.close().await.unwrap();
    store.close().await.unwrap();
    assert!(store.get(&Key::from("/a")).await.is_err());
    assert!(store.list(everything("/")).await.is_err());
    assert!(durable(&store, vec![create("/a", "1")]).await.is_err());
    assert!(store.compact(Revision(1)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_stopped_waits_for_the_store() {
    let store = in_memory();
    let moment = std::time::Duration::from_millis(1);
    for number in 0..100 {
        let write = durable(&store, vec![create(&format!("/{number}"), "")]);
        tokio::time::timeout(moment, write).await.expect("no time passes").unwrap();
        let read = store.list(everything("/"));
        let page = tokio::time::timeout(moment, read).await.expect("no time passes").unwrap();
        assert_eq!(page.entries.len(), number + 1);
    }
}
