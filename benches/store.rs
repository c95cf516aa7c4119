//! How fast the embedded store is. Prints figures; checks nothing.
//!
//! `cargo bench --bench store [DIRECTORY]`: the directory decides which disk is measured.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed run")]
#![expect(clippy::print_stdout, reason = "figures go to stdout")]

use kinglet::api::Revision;
use kinglet::stdx::monotonic;
use kinglet::storage::sqlite::{Config, Sqlite};
use kinglet::storage::{
    Commit, Durability, Key, ListRequest, Op, Store as _, WatchItem, WatchRequest,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// About the size of a small ConfigMap.
const VALUE_BYTES: usize = 1_024;

fn main() {
    let argument = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let parent = argument.map_or_else(std::env::temp_dir, Into::into);
    let directory = tempfile::tempdir_in(parent).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(run(&directory.path().join("state.db")));
}

async fn run(path: &Path) {
    let store = open(path);
    creates(&store, "small").await;
    lists(&store).await;
    gets(&store).await;
    heartbeats(&store).await;
    fan_out(&store).await;
    fill(&store, 100_000).await;
    memory("after 100,000 more");
    reopen(store, path).await;
    let store = open(path);
    creates(&store, "large").await;
    lists(&store).await;
    gets(&store).await;
    memory("at the end");
    store.close().await.unwrap();
}

fn open(path: &Path) -> Arc<Sqlite> {
    Arc::new(Sqlite::open(Config::file(path)).unwrap())
}

fn create(key: String) -> Op {
    Op::Create { key: Key::from(key), value: vec![b'x'; VALUE_BYTES].into() }
}

async fn commit(store: &Sqlite, ops: Vec<Op>, durability: Durability) -> Revision {
    store.commit(Commit { ops, durability }).await.unwrap()
}

async fn creates(store: &Arc<Sqlite>, label: &str) {
    for (writers, each) in [(1, 1_000), (8, 500), (64, 200)] {
        let start = monotonic();
        let mut tasks = JoinSet::new();
        for writer in 0..writers {
            let (store, label) = (Arc::clone(store), label.to_owned());
            tasks.spawn(async move {
                for index in 0..each {
                    let key = format!("/core/secrets/{label}-{writers}/{writer:02}-{index:05}");
                    commit(&store, vec![create(key)], Durability::Durable).await;
                }
            });
        }
        tasks.join_all().await;
        let rate = f64::from(writers * each) / start.elapsed().as_secs_f64();
        println!("{label} store, durable creates, {writers:2} writers: {rate:8.0}/s");
    }
}

async fn fill(store: &Sqlite, count: usize) {
    let start = monotonic();
    for batch in (0..count).step_by(100) {
        let key = |index| format!("/core/configmaps/big/{:08x}", scatter(batch + index));
        let ops = (0..100).map(|index| create(key(index))).collect();
        commit(store, ops, Durability::Durable).await;
    }
    println!("{count} creates in commits of 100: {:?}", start.elapsed());
}

/// Keys in no order.
fn scatter(index: usize) -> u32 {
    u32::try_from(index).unwrap().wrapping_mul(2_654_435_761)
}

async fn lists(store: &Sqlite) {
    let probe = ListRequest { prefix: "/lists/".into(), after: None, limit: None, at: None };
    if store.list(probe.clone()).await.unwrap().entries.is_empty() {
        for batch in 0..100_usize {
            let key = |index| format!("/lists/{:08x}", scatter(batch * 100 + index));
            let ops = (0..100).map(|index| create(key(index))).collect();
            commit(store, ops, Durability::Durable).await;
        }
    }
    let limited = ListRequest { limit: 500.try_into().ok(), ..probe.clone() };
    for (name, request) in [("10,000 entries", probe), ("500 of 10,000", limited)] {
        let times = repeat(20, async || {
            store.list(request.clone()).await.unwrap();
        });
        println!("list of {name}: {}", times.await);
    }
}

async fn gets(store: &Arc<Sqlite>) {
    let all = ListRequest { prefix: "/lists/".into(), after: None, limit: None, at: None };
    let entries = store.list(all).await.unwrap().entries;
    let mut keys = entries.iter().map(|entry| entry.key.clone()).cycle().step_by(37);
    let times = repeat(5_000, async || {
        store.get(&keys.next().unwrap()).await.unwrap();
    });
    println!("get: {}", times.await);
    let start = monotonic();
    let mut tasks = JoinSet::new();
    for reader in 0..32 {
        let store = Arc::clone(store);
        let keys: Vec<_> = entries.iter().skip(reader).step_by(32).cloned().collect();
        tasks.spawn(async move {
            for entry in keys {
                store.get(&entry.key).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let rate = entries.len() as f64 / start.elapsed().as_secs_f64();
    println!("get, 32 readers: {rate:.0}/s");
}

async fn heartbeats(store: &Sqlite) {
    let key = Key::from("/heartbeat");
    let mut expected = commit(store, vec![create("/heartbeat".into())], Durability::Durable).await;
    let times = repeat(5_000, async || {
        let value = vec![b'x'; VALUE_BYTES].into();
        let op = Op::Update { key: key.clone(), value, expected };
        expected = commit(store, vec![op], Durability::Coalesced).await;
    });
    println!("coalesced update: {}", times.await);
}

async fn fan_out(store: &Arc<Sqlite>) {
    for prefix in ["/watched/", "/elsewhere/"] {
        let mut tasks = JoinSet::new();
        let after = store.revision();
        for _ in 0..1_000 {
            let request = WatchRequest { prefix: prefix.into(), after, progress: false };
            let mut watch = store.watch(request).await.unwrap();
            tasks.spawn(async move {
                while let Ok(WatchItem::Event(event)) = watch.next().await {
                    if event.key.as_str() == "/watched/last" {
                        return;
                    }
                }
            });
        }
        let name = prefix.trim_matches('/');
        let mut index = 0;
        let times = repeat(100, async || {
            index += 1;
            let key = format!("/watched/{name}-{index}");
            commit(store, vec![create(key)], Durability::Durable).await;
        });
        println!("create with 1,000 watches {name}: {}", times.await);
        if prefix == "/watched/" {
            let start = monotonic();
            commit(store, vec![create("/watched/last".into())], Durability::Durable).await;
            tasks.join_all().await;
            println!("create to the last of 1,000 watches: {:?}", start.elapsed());
        }
    }
}

async fn reopen(store: Arc<Sqlite>, path: &Path) {
    let start = monotonic();
    store.close().await.unwrap();
    println!("close: {:?}", start.elapsed());
    drop(store);
    let megabytes = std::fs::metadata(path).unwrap().len() / 1_048_576;
    let start = monotonic();
    let store = open(path);
    println!("open of {megabytes} MiB: {:?}", start.elapsed());
    store.close().await.unwrap();
}

async fn repeat(times: usize, mut each: impl AsyncFnMut()) -> String {
    let mut samples = Vec::with_capacity(times);
    for _ in 0..times {
        let start = monotonic();
        each().await;
        samples.push(start.elapsed());
    }
    samples.sort_unstable();
    let show = |sample: Duration| format!("{sample:.1?}");
    let (median, worst) = (samples[times / 2], samples[times * 99 / 100]);
    format!("p50 {}, p99 {}", show(median), show(worst))
}

fn memory(when: &str) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    println!("{when}: {resident}");
}
