//! Watches: from the present, from the past, and from one to the other.

use crate::support::{
    coalesced, create, delete, durable, in_memory, next, next_event, update, watch,
};
use kinglet::api::Revision;
use kinglet::storage::{Store as _, WatchError, WatchItem, WatchRequest};

#[tokio::test]
async fn a_watch_begins_in_the_past_and_goes_on_live() {
    let store = in_memory();
    let start = store.revision();
    let first = durable(&store, vec![create("/a", "1")]).await.unwrap();
    let second = durable(&store, vec![update("/a", "2", first)]).await.unwrap();
    durable(&store, vec![create("/other", "1")]).await.unwrap();
    let mut events = watch(&store, "/a", start).await.unwrap();
    assert_eq!(next_event(&mut events).await, format!("/a:>1@{first}"));
    assert_eq!(next_event(&mut events).await, format!("/a:1>2@{second}"));
    let third = durable(&store, vec![delete("/a", second)]).await.unwrap();
    assert_eq!(next_event(&mut events).await, format!("/a:2>@{third}"));
    let fourth = durable(&store, vec![create("/a", "3")]).await.unwrap();
    assert_eq!(next_event(&mut events).await, format!("/a:>3@{fourth}"));
    assert_eq!(events.delivered(), fourth);
    let fifth = durable(&store, vec![create("/other2", "1")]).await.unwrap();
    assert_eq!(events.delivered(), fifth);
    let mut late = watch(&store, "/a", second).await.unwrap();
    assert_eq!(next_event(&mut late).await, format!("/a:2>@{third}"));
    assert_eq!(next_event(&mut late).await, format!("/a:>3@{fourth}"));
    store.close().await.unwrap();
    assert!(matches!(next(&mut late).await, Err(WatchError::Closed)));
}

#[tokio::test]
async fn progress_reaches_watches_on_other_keys() {
    let store = in_memory();
    let after = store.revision();
    let request = WatchRequest { prefix: "/quiet/".into(), after, progress: true };
    let mut events = store.watch(request.clone()).await.unwrap();
    let mut newest = after;
    for name in ["/a", "/b", "/c"] {
        newest = durable(&store, vec![create(name, "1")]).await.unwrap();
    }
    // Merged, since nobody has listened.
    assert!(matches!(next(&mut events).await, Ok(WatchItem::Progress(at)) if at == newest));
    let mut late = store.watch(request).await.unwrap();
    assert!(matches!(next(&mut late).await, Ok(WatchItem::Progress(at)) if at == newest));
    let quiet = durable(&store, vec![create("/quiet/a", "1")]).await.unwrap();
    for watch in [&mut events, &mut late] {
        assert_eq!(next_event(watch).await, format!("/quiet/a:>1@{quiet}"));
        assert!(matches!(next(watch).await, Ok(WatchItem::Progress(at)) if at == quiet));
    }
}

#[tokio::test]
async fn progress_is_told_once_where_it_is_asked_for() {
    let store = in_memory();
    let after = store.revision();
    let mut events = watch(&store, "/quiet/", after).await.unwrap();
    let mut newest = after;
    for name in ["/a", "/b"] {
        newest = durable(&store, vec![create(name, "1")]).await.unwrap();
    }
    events.ask_progress(newest);
    assert!(matches!(next(&mut events).await, Ok(WatchItem::Progress(at)) if at == newest));
    durable(&store, vec![create("/c", "1")]).await.unwrap();
    let quiet = durable(&store, vec![create("/quiet/a", "1")]).await.unwrap();
    assert_eq!(next_event(&mut events).await, format!("/quiet/a:>1@{quiet}"));
    // Of what is still to come it is told when it is there; of what is before that as well.
    events.ask_progress(Revision(quiet.0 + 2));
    for _ in 0..2 {
        let wanted = durable(&store, vec![create(&format!("/d{newest}"), "1")]).await.unwrap();
        assert!(matches!(next(&mut events).await, Ok(WatchItem::Progress(at)) if at == wanted));
        newest = wanted;
    }
    // A watch that still reads the past tells when it is through with it.
    let mut late = watch(&store, "/quiet/", after).await.unwrap();
    late.ask_progress(newest);
    assert_eq!(next_event(&mut late).await, format!("/quiet/a:>1@{quiet}"));
    assert!(matches!(next(&mut late).await, Ok(WatchItem::Progress(at)) if at == newest));
}

#[tokio::test]
async fn coalesced_changes_reach_watches_at_once() {
    let store = in_memory();
    let created = durable(&store, vec![create("/lease", "0")]).await.unwrap();
    let mut live = watch(&store, "/", created).await.unwrap();
    let first = coalesced(&store, vec![update("/lease", "1", created)]).await.unwrap();
    let second = coalesced(&store, vec![update("/lease", "2", first)]).await.unwrap();
    assert_eq!(next_event(&mut live).await, format!("/lease:0>1@{first}"));
    assert_eq!(next_event(&mut live).await, format!("/lease:1>2@{second}"));
    for flushed in [false, true] {
        if flushed {
            durable(&store, vec![create("/other", "1")]).await.unwrap();
        }
        let mut late = watch(&store, "/lease", created).await.unwrap();
        assert_eq!(next_event(&mut late).await, format!("/lease:0>2@{second}"));
        let mut lost = watch(&store, "/lease", first).await.unwrap();
        let error = next(&mut lost).await;
        assert!(matches!(error, Err(WatchError::Compacted { oldest, .. }) if oldest == second));
        let mut newest = watch(&store, "/lease", second).await.unwrap();
        let third = coalesced(&store, vec![update("/lease", "2", second)]).await;
        if flushed {
            assert_eq!(next_event(&mut newest).await, format!("/lease:2>2@{}", third.unwrap()));
        } else {
            assert!(third.is_ok());
            return;
        }
    }
}

#[tokio::test]
async fn history_that_is_compacted_cannot_be_watched() {
    let store = in_memory();
    let first = durable(&store, vec![create("/a", "1")]).await.unwrap();
    let second = durable(&store, vec![update("/a", "2", first)]).await.unwrap();
    let third = durable(&store, vec![update("/a", "3", second)]).await.unwrap();
    store.compact(second).await.unwrap();
    let gone = watch(&store, "/", first).await;
    assert!(matches!(gone, Err(WatchError::Compacted { oldest, .. }) if oldest == second));
    let mut kept = watch(&store, "/", second).await.unwrap();
    assert_eq!(next_event(&mut kept).await, format!("/a:2>3@{third}"));
    assert!(matches!(watch(&store, "/", Revision(0)).await, Err(WatchError::Compacted { .. })));
}

#[tokio::test]
async fn a_burst_is_no_reason_to_lose_a_watch() {
    let store = in_memory();
    let start = store.revision();
    let mut events = watch(&store, "/", start).await.unwrap();
    let mut expected = Vec::new();
    for batch in 0..20 {
        let names: Vec<_> = (0..100).map(|index| format!("/{batch:02}/{index:03}")).collect();
        let ops = names.iter().map(|name| create(name, "1")).collect();
        let revision = durable(&store, ops).await.unwrap();
        expected.extend(names.iter().map(|name| format!("{name}:>1@{revision}")));
    }
    for expected in expected {
        assert_eq!(next_event(&mut events).await, expected);
    }
    assert_eq!(events.delivered(), store.revision());
}

#[tokio::test]
async fn a_slow_watch_of_heartbeats_is_told_that_some_are_forgotten() {
    let store = in_memory();
    let mut newest = durable(&store, vec![create("/lease", "0")]).await.unwrap();
    let mut slow = watch(&store, "/", newest).await.unwrap();
    for number in 1..1_200 {
        let beat = update("/lease", &number.to_string(), newest);
        newest = coalesced(&store, vec![beat]).await.unwrap();
    }
    let mut seen = 0;
    let error = loop {
        match next(&mut slow).await {
            Ok(WatchItem::Event(event)) => {
                assert_eq!(event.previous.as_deref(), Some(seen.to_string().as_bytes()));
                seen += 1;
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, WatchError::Compacted { oldest, .. } if oldest == newest), "{error:?}");
    assert_eq!(seen, 1_024);
}
