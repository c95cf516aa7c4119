//! Keeps the records of addresses and node ports as the Services say: once when the server starts, and
//! then whenever somebody changes or deletes an IPAddress.
//!
//! Start at [`keep_allocations`], then [`plan()`].

mod plan;

use self::plan::{Found, Mend, plan};
use super::super::errors;
use super::super::keys;
use super::super::server::Server;
use super::taking::{MANAGED_BY, MANAGER, NODE_PORTS, Owner, Record, addresses};
use crate::api::{Revision, Status};
use crate::registry;
use crate::stdx::chain;
use crate::storage::{
    Commit, CommitError, Durability, Entry, Event, Key, ListRequest, Op, WatchError, WatchItem,
    WatchRequest,
};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::IPAddress;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// Objects that are read at once.
const PAGE_ENTRIES: NonZeroUsize = NonZeroUsize::new(500).expect("not zero");

/// After a look that failed, or when the history of changes is lost, it is looked again only after
/// this long.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// See the module. Goes on for as long as it is let run.
pub(in super::super) async fn keep_allocations(server: Arc<Server>) {
    loop {
        let after = server.store.revision();
        if let Err(status) = mend_all(&server).await {
            warn!(error = status.message, "addresses and ports of Services cannot be looked at");
        } else {
            follow(&server, after).await;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Looks at each IPAddress that is written or deleted, until not all of them are heard of.
async fn follow(server: &Server, after: Revision) {
    let request = WatchRequest { prefix: keys::prefix(addresses(), None), after, progress: false };
    let lost = async {
        let mut watch = server.store.watch(request).await?;
        loop {
            if let WatchItem::Event(event) = watch.next().await? {
                look_at(server, &event).await;
            }
        }
    };
    let Err::<Infallible, WatchError>(error) = lost.await;
    info!(error = chain(&error), "IPAddresses are looked at anew");
}

async fn look_at(server: &Server, event: &Event) {
    let Some(record) = record_at(&event.key) else { return };
    let owner =
        |value: &bytes::Bytes| Owner::of_address(&serde_json::from_slice::<IPAddress>(value).ok()?);
    let versions = [&event.previous, &event.value].into_iter().flatten();
    let mut owners: Vec<Owner> = versions.filter_map(owner).collect();
    owners.dedup();
    let looked = async {
        let mut claims = Vec::new();
        for owner in owners {
            if shows(server, &owner, record).await? {
                claims.push((record, owner));
            }
        }
        let lookup = server.store.get(&event.key).await;
        let entry = lookup.map_err(|error| errors::of_read(&error))?.entry;
        let found = entry.and_then(|entry| found_address(&entry)).map(|found| (record, found));
        carry_out(server, plan(&claims, &found.into_iter().collect())).await
    };
    if let Err(status) = looked.await {
        warn!(key = ?event.key, error = status.message, "an IPAddress cannot be looked at");
    }
}

/// Whether the Service is there and shows what the record is about.
async fn shows(server: &Server, owner: &Owner, record: Record) -> Result<bool, Status> {
    let services = registry::find("", "v1", "services").expect("Services are built in");
    let entry = server.find(services, &owner.key()).await?;
    let service = entry.and_then(|entry| serde_json::from_slice::<Service>(&entry.value).ok());
    Ok(service.is_some_and(|service| Record::of(&service).contains(&record)))
}

/// Looks at all Services and all records.
async fn mend_all(server: &Server) -> Result<(), Status> {
    let mut found = BTreeMap::new();
    each(server, keys::prefix(addresses(), None), |entry| {
        found.extend(record_at(&entry.key).zip(found_address(entry)));
    })
    .await?;
    each(server, NODE_PORTS.to_owned(), |entry| found.extend(found_port(entry))).await?;
    let services = registry::find("", "v1", "services").expect("Services are built in");
    let mut claims = Vec::new();
    each(server, keys::prefix(services, None), |entry| {
        if let Ok(service) = serde_json::from_slice::<Service>(&entry.value) {
            let owner = Owner::of(&service);
            claims.extend(Record::of(&service).into_iter().map(|record| (record, owner.clone())));
        }
    })
    .await?;
    carry_out(server, plan(&claims, &found)).await
}

/// Shows everything below `prefix`, page by page.
async fn each(server: &Server, prefix: String, mut show: impl FnMut(&Entry)) -> Result<(), Status> {
    let mut after = None;
    loop {
        let request =
            ListRequest { prefix: prefix.clone(), after, limit: Some(PAGE_ENTRIES), at: None };
        let page = server.store.list(request).await.map_err(|error| errors::of_read(&error))?;
        page.entries.iter().for_each(&mut show);
        if page.remaining == 0 {
            return Ok(());
        }
        after = page.entries.last().map(|entry| entry.key.clone());
    }
}

fn record_at(key: &Key) -> Option<Record> {
    keys::object_key(addresses(), key).name.parse().ok().map(Record::Address)
}

fn found_address(entry: &Entry) -> Option<Found> {
    let address: IPAddress = serde_json::from_slice(&entry.value).ok()?;
    let labels = address.metadata.labels.as_ref();
    let manager = labels.and_then(|labels| labels.get(MANAGED_BY));
    Some(Found {
        owner: Owner::of_address(&address),
        is_own: manager.is_some_and(|manager| manager == MANAGER),
        revision: entry.revision,
    })
}

fn found_port(entry: &Entry) -> Option<(Record, Found)> {
    #[derive(Deserialize)]
    struct Value {
        service: String,
    }
    let port = entry.key.as_str().strip_prefix(NODE_PORTS)?.parse().ok()?;
    let value: Option<Value> = serde_json::from_slice(&entry.value).ok();
    let owner = value.as_ref().and_then(|value| value.service.split_once('/'));
    let owner = owner.map(|(namespace, name)| Owner::named(namespace, name));
    Some((Record::NodePort(port), Found { owner, is_own: true, revision: entry.revision }))
}

async fn carry_out(server: &Server, mends: Vec<Mend>) -> Result<(), Status> {
    for mend in mends {
        let op = match mend {
            Mend::Give { record, owner, replaces } => {
                info!(?record, service = %owner.key(), "what the Service has is written down anew");
                let (key, value) = (record.key(), owner.value(server, record));
                match replaces {
                    Some(expected) => Op::Update { key, value, expected },
                    None => Op::Create { key, value },
                }
            }
            Mend::Remove { record, revision } => {
                info!(?record, "no Service has it: it is free");
                Op::Delete { key: record.key(), expected: revision }
            }
            Mend::Contested { record, owner, other } => {
                let (owner, other) = (owner.key(), other.key());
                warn!(?record, %owner, %other, "two Services have the same; recreate one of them");
                continue;
            }
        };
        let commit = Commit { ops: vec![op], durability: Durability::Durable };
        match server.store.commit(commit).await {
            // Where it has changed meanwhile, that change is looked at.
            Ok(_) | Err(CommitError::Exists { .. } | CommitError::Conflict { .. }) => {}
            Err(error) => return Err(errors::of_commit(&error)),
        }
    }
    Ok(())
}
