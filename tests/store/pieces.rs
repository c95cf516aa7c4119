//! Lists that are read piece by piece.

use crate::support::{create, delete, durable, in_memory, list_at, update};
use kinglet::api::Revision;
use kinglet::storage::{COMMIT_OPS_MAX, Entry, Listing, ReadError, Sqlite, Store as _};

const ENTRIES: usize = 2_000;

/// Makes `ENTRIES` keys with values of 4 KiB, in another order than the list has them.
async fn fill(store: &Sqlite) -> Revision {
    let names: Vec<_> = (0..ENTRIES).map(|index| format!("/k/{}", (index * 7) % ENTRIES)).collect();
    let value = "x".repeat(4_096);
    let mut revision = store.revision();
    for batch in names.chunks(COMMIT_OPS_MAX) {
        let ops = batch.iter().map(|name| create(name, &value)).collect();
        revision = durable(store, ops).await.unwrap();
    }
    revision
}

async fn rest(listing: &mut Box<dyn Listing>) -> Result<Vec<Entry>, ReadError> {
    let mut entries = Vec::new();
    while listing.remaining() > 0 {
        entries.append(&mut listing.next().await?);
    }
    Ok(entries)
}

#[tokio::test]
async fn a_long_list_shows_one_moment() {
    let store = in_memory();
    let revision = fill(&store).await;
    let mut listing = store.open("/k/").await.unwrap();
    assert_eq!((listing.revision(), listing.remaining()), (revision, ENTRIES));
    let mut entries = listing.next().await.unwrap();
    assert!(entries.len() < ENTRIES / 2 && listing.remaining() == ENTRIES - entries.len());
    let current = entries.last().unwrap().revision;
    durable(&store, vec![create("/k/new", "1")]).await.unwrap();
    for key in ["/k/999", "/k/1999", "/k/0"] {
        let found = store.get(&key.into()).await.unwrap().entry.unwrap();
        let changed = durable(&store, vec![update(key, "2", found.revision)]).await.unwrap();
        durable(&store, vec![delete(key, changed)]).await.unwrap();
    }
    entries.append(&mut rest(&mut listing).await.unwrap());
    assert_eq!(listing.next().await.unwrap(), []);
    let expected = list_at(&store, "/k/", revision).await.unwrap().entries;
    assert_eq!(entries.len(), ENTRIES);
    assert!(entries == expected && current <= revision);
}

#[tokio::test]
async fn a_moment_that_is_not_kept_is_told() {
    let store = in_memory();
    fill(&store).await;
    let mut listing = store.open("/k/").await.unwrap();
    let first = listing.next().await.unwrap();
    let key = first[0].key.as_str();
    let changed = durable(&store, vec![update(key, "2", first[0].revision)]).await.unwrap();
    store.compact(changed).await.unwrap();
    let cut = rest(&mut listing).await;
    assert!(matches!(cut, Err(ReadError::Compacted { .. })), "{cut:?}");
}

#[tokio::test]
async fn a_short_list_is_there_at_once() {
    let store = in_memory();
    for _ in 0..2 {
        let mut none = store.open("/k/").await.unwrap();
        assert_eq!((none.remaining(), none.next().await.unwrap()), (0, vec![]));
    }
    let revision = durable(&store, vec![create("/k/b", "1"), create("/k/a", "2")]).await.unwrap();
    let mut listing = store.open("/k/").await.unwrap();
    assert_eq!((listing.revision(), listing.remaining()), (revision, 2));
    let entries = listing.next().await.unwrap();
    assert_eq!(entries, list_at(&store, "/k/", revision).await.unwrap().entries);
    assert_eq!(listing.remaining(), 0);
}
