//! What plugins want to see, and how it is read.

use super::super::server::Server;
use super::super::verbs::Call;
use super::super::{errors, keys};
use super::remembered::Answer;
use crate::api::status::Status;
use crate::api::{ObjectKey, Revision};
use crate::registry::{self, Kind, Object};
use crate::storage::{Entry, Key, ListRequest, Op, WatchItem, WatchRequest};
use std::time::Duration;

/// How long an object is waited for that somebody makes at about the same time (upstream's service
/// account plugin looks ten times within one to two seconds).
const AWAITED_TIME_MAX: Duration = Duration::from_millis(1_500);

/// Objects that a plugin wants to see. All are of a `v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Want {
    group: &'static str,
    plural: &'static str,
    which: Which,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    One(ObjectKey),
    /// One that the decision rests on: nothing is stored if it changes before that.
    Ground(ObjectKey),
    /// One that will be there soon if it is not.
    Awaited(ObjectKey),
    All,
    In(String),
}

impl Want {
    pub(super) fn one(group: &'static str, plural: &'static str, key: ObjectKey) -> Self {
        Self { group, plural, which: Which::One(key) }
    }

    /// One that the decision rests on: nothing is stored if it changes before that.
    pub(super) fn ground(group: &'static str, plural: &'static str, key: ObjectKey) -> Self {
        Self { group, plural, which: Which::Ground(key) }
    }

    /// One that somebody makes at about the same time: it is waited for a little.
    pub(super) fn awaited(group: &'static str, plural: &'static str, key: ObjectKey) -> Self {
        Self { group, plural, which: Which::Awaited(key) }
    }

    pub(super) fn all(group: &'static str, plural: &'static str) -> Self {
        Self { group, plural, which: Which::All }
    }

    /// All in a namespace.
    pub(super) fn all_in(group: &'static str, plural: &'static str, namespace: &str) -> Self {
        Self { group, plural, which: Which::In(namespace.to_owned()) }
    }
}

/// Everything that was wanted so far.
#[derive(Debug, Default)]
pub(super) struct Gathered(Vec<(Want, Answer)>);

/// An object as it was read.
#[derive(Debug)]
pub(super) struct Fact {
    pub(super) key: Key,
    pub(super) revision: Revision,
    pub(super) object: Box<dyn Object>,
}

impl Gathered {
    /// Reads what was not read yet.
    pub(super) async fn gather(&mut self, call: &Call<'_>, wants: &[Want]) -> Result<(), Status> {
        for want in wants {
            if self.0.iter().all(|(known, _)| known != want) {
                self.0.push((want.clone(), read(call.server, want).await?));
            }
        }
        Ok(())
    }

    /// What there is of what is wanted.
    pub(super) fn facts(&self, wants: &[Want]) -> Facts<'_> {
        let wanted = self.0.iter().filter(|(want, _)| wants.contains(want));
        Facts(wanted.flat_map(|(_, facts)| facts.iter()).collect())
    }

    /// What keeps the grounds as they are.
    pub(super) fn grounds(&self) -> Vec<Op> {
        let grounds = self.0.iter().filter(|(want, _)| matches!(want.which, Which::Ground(_)));
        let require = |fact: &Fact| Op::Require { key: fact.key.clone(), expected: fact.revision };
        grounds.flat_map(|(_, facts)| facts.iter()).map(require).collect()
    }
}

/// The objects that a plugin wanted, as far as they exist.
#[derive(Debug, Default)]
pub(super) struct Facts<'a>(Vec<&'a Fact>);

impl<'a> Facts<'a> {
    pub(super) fn all<T: 'static>(&self) -> impl Iterator<Item = &'a T> {
        self.0.iter().filter_map(|fact| fact.object.as_any().downcast_ref())
    }
}

/// What there is of what is wanted.
pub(super) async fn read(server: &Server, want: &Want) -> Result<Answer, Status> {
    let Some(kind) = registry::find(want.group, "v1", want.plural) else {
        return Ok(Answer::from([]));
    };
    let (question, awaited) = match &want.which {
        Which::One(key) | Which::Ground(key) => (keys::of(kind, key).as_str().to_owned(), None),
        Which::Awaited(key) => (keys::of(kind, key).as_str().to_owned(), Some(key)),
        Which::All => (keys::prefix(kind, None), None),
        Which::In(namespace) => (keys::prefix(kind, Some(namespace)), None),
    };
    let look = read_at(server, kind, question.clone());
    let answer = server.remembered.recall(question, look).await?;
    match awaited.filter(|_| answer.is_empty()) {
        None => Ok(answer),
        Some(key) => decode(kind, wait(server, kind, key).await?.into_iter().collect()),
    }
}

/// Reads a key, or everything below a prefix, which ends with a slash.
async fn read_at(server: &Server, kind: &Kind, question: String) -> Result<Vec<Fact>, Status> {
    let entries = if question.ends_with('/') {
        list(server, question).await?
    } else {
        let lookup = server.store.get(&Key::from(question)).await;
        lookup.map_err(|error| errors::of_read(&error))?.entry.into_iter().collect()
    };
    decode(kind, entries)
}

fn decode<F: FromIterator<Fact>>(kind: &Kind, entries: Vec<Entry>) -> Result<F, Status> {
    let fact = |entry: Entry| {
        let object = kind.decode_stored(&entry.value).map_err(Status::internal)?;
        Ok(Fact { key: entry.key, revision: entry.revision, object })
    };
    entries.into_iter().map(fact).collect()
}

async fn list(server: &Server, prefix: String) -> Result<Vec<Entry>, Status> {
    let request = ListRequest { prefix, after: None, limit: None, at: None };
    let page = server.store.list(request).await.map_err(|error| errors::of_read(&error))?;
    Ok(page.entries)
}

/// Waits until the object is there, but not for long.
async fn wait(server: &Server, kind: &Kind, key: &ObjectKey) -> Result<Option<Entry>, Status> {
    let storage_key = keys::of(kind, key);
    let deadline = tokio::time::timeout(AWAITED_TIME_MAX, appears(server, &storage_key));
    match deadline.await {
        Ok(appeared) => appeared?,
        Err(_late) => return Ok(None),
    }
    server.find(kind, key).await
}

async fn appears(server: &Server, key: &Key) -> Result<(), Status> {
    let prefix = key.as_str().to_owned();
    let request = WatchRequest { prefix, after: server.store.revision(), progress: false };
    let watch = server.store.watch(request).await;
    let mut watch = watch.map_err(|error| errors::of_watch(&error))?;
    // It may have come before the watch began.
    let lookup = server.store.get(key).await.map_err(|error| errors::of_read(&error))?;
    if lookup.entry.is_some() {
        return Ok(());
    }
    loop {
        let item = watch.next().await.map_err(|error| errors::of_watch(&error))?;
        if matches!(item, WatchItem::Event(event) if event.key == *key && event.value.is_some()) {
            return Ok(());
        }
    }
}
