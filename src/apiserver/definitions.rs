//! The kinds that are served: those of the table, and those of CustomResourceDefinitions.
//!
//! Start at [`Definitions::rows`]. A definition is compiled when somebody asks for something that is
//! not of the table, after it was written. Who wrote it has no answer before that is known here
//! ([`Memory`]), and while it is being written, it is read for each such request: whoever has read
//! that a kind is established, or heard it, can ask for it at once.

use super::errors;
use super::guarded::Memory;
use crate::api::{Revision, Status};
use crate::registry::Rows;
use crate::registry::custom::Definition;
use crate::registry::kinds::apiextensions::conditions;
use crate::stdx::chain;
use crate::storage::{Entry, Key, ListRequest, Store};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use std::collections::BTreeSet;
use std::collections::btree_map::{self, BTreeMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use tracing::error;

const PREFIX: &str = "/apiextensions.k8s.io/customresourcedefinitions/";

/// See the module.
#[derive(Debug)]
pub(super) struct Definitions {
    rows: RwLock<Arc<Rows>>,
    stale: Mutex<Stale>,
    /// Whether `rows` show everything that was written, so that nobody has to wait.
    is_current: AtomicBool,
    /// The definitions that `rows` show. Whoever brings the rows up to date has it.
    known: tokio::sync::Mutex<BTreeMap<Key, Known>>,
}

/// What has to be read again.
#[derive(Debug, Default)]
struct Stale {
    /// How often something was added here: what is read after that is as new as it.
    additions: u64,
    /// Everything has to be read again, since this addition.
    everything: Option<u64>,
    /// Those that have to be read again, and since which addition.
    definitions: BTreeMap<Key, u64>,
    /// How many are writing each definition. It may be stored at any time, and is unread till they end.
    being_written: BTreeMap<Key, usize>,
}

enum Unread {
    Everything,
    Definitions(BTreeSet<Key>),
}

impl Stale {
    fn is_nothing(&self) -> bool {
        self.everything.is_none() && self.definitions.is_empty() && self.being_written.is_empty()
    }

    fn add(&mut self, key: &Key) {
        self.additions += 1;
        self.definitions.insert(key.clone(), self.additions);
    }

    fn add_everything(&mut self) {
        self.additions += 1;
        self.everything = Some(self.additions);
    }

    fn unread(&self) -> Unread {
        if self.everything.is_some() {
            return Unread::Everything;
        }
        let keys = self.definitions.keys().chain(self.being_written.keys());
        Unread::Definitions(keys.cloned().collect())
    }

    /// All that had been added by then has been read.
    fn is_read(&mut self, additions: u64) {
        self.everything = self.everything.filter(|added| *added > additions);
        self.definitions.retain(|_, added| *added > additions);
    }

    fn end_writing(&mut self, key: &Key) {
        if let btree_map::Entry::Occupied(mut writers) = self.being_written.entry(key.clone()) {
            *writers.get_mut() -= 1;
            if *writers.get() == 0 {
                writers.remove();
            }
        }
    }
}

/// A definition as the rows show it.
#[derive(Debug)]
struct Known {
    revision: Revision,
    /// The group and plural that it serves. None where it is not established.
    resource: Option<(String, String)>,
}

impl Default for Definitions {
    fn default() -> Self {
        Self {
            rows: RwLock::default(),
            stale: Mutex::new(Stale { everything: Some(0), ..Stale::default() }),
            is_current: AtomicBool::new(false),
            known: tokio::sync::Mutex::default(),
        }
    }
}

impl Memory for Definitions {
    fn prefixes(&self) -> &'static [&'static str] {
        &[PREFIX]
    }

    fn writing(&self, key: &Key) {
        self.change(|stale| *stale.being_written.entry(key.clone()).or_default() += 1);
    }

    fn written(&self, key: &Key) {
        self.change(|stale| {
            stale.add(key);
            stale.end_writing(key);
        });
    }

    fn forget(&self, key: &Key) {
        self.change(|stale| stale.add(key));
    }

    fn forget_all(&self) {
        self.change(Stale::add_everything);
    }
}

impl Definitions {
    /// Every row that is served now.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(super) async fn rows(&self, store: &dyn Store) -> Result<Arc<Rows>, Status> {
        if !self.is_current.load(Ordering::Acquire) {
            self.refresh(store).await?;
        }
        Ok(self.latest())
    }

    /// The rows as somebody has last seen them.
    pub(super) fn latest(&self) -> Arc<Rows> {
        Arc::clone(&self.rows.read().expect("no panics under this lock"))
    }

    async fn refresh(&self, store: &dyn Store) -> Result<(), Status> {
        let mut known = self.known.lock().await;
        let (unread, additions) = self.change(|stale| (stale.unread(), stale.additions));
        let read = match &unread {
            Unread::Everything => read_all(store).await?,
            Unread::Definitions(keys) => read_some(store, keys).await?,
        };
        let mut rows = match unread {
            Unread::Everything => {
                known.clear();
                Rows::default()
            }
            Unread::Definitions(_) => {
                Rows::clone(&self.rows.read().expect("no panics under this lock"))
            }
        };
        for (key, entry) in read {
            show(&mut rows, &mut known, key, entry.as_ref());
        }
        *self.rows.write().expect("no panics under this lock") = Arc::new(rows);
        self.change(|stale| stale.is_read(additions));
        Ok(())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Stale) -> T) -> T {
        let mut stale = self.stale.lock().expect("no panics under this lock");
        let changed = change(&mut stale);
        self.is_current.store(stale.is_nothing(), Ordering::Release);
        changed
    }
}

type Read = Vec<(Key, Option<Entry>)>;

/// Where the definition of this name is stored.
pub(super) fn key(name: &str) -> Key {
    Key::from(format!("{PREFIX}{name}"))
}

/// The name of the definition that is stored there.
pub(super) fn name(key: &Key) -> &str {
    key.as_str().strip_prefix(PREFIX).unwrap_or_default()
}

/// All definitions as they are stored.
///
/// # Errors
/// Where the store cannot be read.
pub(super) async fn entries(store: &dyn Store) -> Result<Vec<Entry>, Status> {
    let request = ListRequest { prefix: PREFIX.to_owned(), after: None, limit: None, at: None };
    let page = store.list(request).await.map_err(|error| errors::of_read(&error))?;
    Ok(page.entries)
}

async fn read_all(store: &dyn Store) -> Result<Read, Status> {
    let entries = entries(store).await?.into_iter();
    Ok(entries.map(|entry| (entry.key.clone(), Some(entry))).collect())
}

async fn read_some(store: &dyn Store, keys: &BTreeSet<Key>) -> Result<Read, Status> {
    let mut read = Vec::new();
    for key in keys {
        let lookup = store.get(key).await.map_err(|error| errors::of_read(&error))?;
        read.push((key.clone(), lookup.entry));
    }
    Ok(read)
}

/// Makes `rows` show a definition as it is stored, or that there is none.
fn show(rows: &mut Rows, known: &mut BTreeMap<Key, Known>, key: Key, entry: Option<&Entry>) {
    let shown = known.get(&key);
    if shown.map(|shown| shown.revision) == entry.map(|entry| entry.revision) {
        return;
    }
    if let Some((group, plural)) = known.remove(&key).and_then(|shown| shown.resource) {
        rows.remove((&group, &plural));
    }
    if let Some(entry) = entry {
        let resource = serve(rows, entry);
        known.insert(key, Known { revision: entry.revision, resource });
    }
}

/// Adds the rows of a definition, where it is established. Says of which group and plural they are.
fn serve(rows: &mut Rows, entry: &Entry) -> Option<(String, String)> {
    let compiled = match serde_json::from_slice::<CustomResourceDefinition>(&entry.value) {
        Ok(definition) if !conditions::is_true(&definition, conditions::ESTABLISHED) => {
            return None;
        }
        Ok(definition) => Definition::compile(&definition).map_err(|error| chain(&error)),
        Err(error) => Err(chain(&error)),
    };
    match compiled {
        Ok(definition) => {
            let (group, plural) = definition.resource();
            rows.set((group, plural), definition.rows());
            Some((group.to_owned(), plural.to_owned()))
        }
        Err(why) => {
            error!(definition = entry.key.as_str(), why, "a definition cannot be served");
            None
        }
    }
}
