//! The kinds that are served: those of the table, and those of CustomResourceDefinitions.
//!
//! Start at [`Definitions::rows`]. A definition is compiled when somebody asks for something that is
//! not of the table, after it was written. Who wrote it has no answer before that is known here
//! ([`Memory`]): what was created can be asked for at once, and what was changed is as it is now.

use super::errors;
use super::guarded::Memory;
use crate::api::Status;
use crate::registry::Rows;
use crate::registry::custom::Definition;
use crate::registry::kinds::apiextensions::conditions;
use crate::stdx::chain;
use crate::storage::{Entry, Key, ListRequest, Store};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
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
    /// Which group and plural each definition serves. Whoever brings the rows up to date has it.
    known: tokio::sync::Mutex<BTreeMap<Key, (String, String)>>,
}

/// What has to be read again.
#[derive(Debug)]
enum Stale {
    Everything,
    Definitions(BTreeSet<Key>),
}

impl Stale {
    const NOTHING: Self = Self::Definitions(BTreeSet::new());

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Definitions(keys) if keys.is_empty())
    }
}

impl Default for Definitions {
    fn default() -> Self {
        Self {
            rows: RwLock::default(),
            stale: Mutex::new(Stale::Everything),
            is_current: AtomicBool::new(false),
            known: tokio::sync::Mutex::default(),
        }
    }
}

impl Memory for Definitions {
    fn prefixes(&self) -> &'static [&'static str] {
        &[PREFIX]
    }

    fn forget(&self, key: &Key) {
        let mut stale = self.stale.lock().expect("no panics under this lock");
        if let Stale::Definitions(keys) = &mut *stale {
            keys.insert(key.clone());
        }
        self.is_current.store(false, Ordering::Release);
    }

    fn forget_all(&self) {
        let mut stale = self.stale.lock().expect("no panics under this lock");
        *stale = Stale::Everything;
        self.is_current.store(false, Ordering::Release);
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
        Ok(Arc::clone(&self.rows.read().expect("no panics under this lock")))
    }

    async fn refresh(&self, store: &dyn Store) -> Result<(), Status> {
        let mut known = self.known.lock().await;
        let stale = self.take_stale();
        if stale.is_nothing() {
            return Ok(());
        }
        let read = match &stale {
            Stale::Everything => read_all(store).await,
            Stale::Definitions(keys) => read_some(store, keys).await,
        };
        let read = match read {
            Ok(read) => read,
            Err(status) => {
                self.put_back(stale);
                return Err(status);
            }
        };
        let mut rows = match stale {
            Stale::Everything => {
                known.clear();
                Rows::default()
            }
            Stale::Definitions(_) => {
                Rows::clone(&self.rows.read().expect("no panics under this lock"))
            }
        };
        for (key, entry) in read {
            if let Some((group, plural)) = known.remove(&key) {
                rows.remove((&group, &plural));
            }
            if let Some((group, plural)) = entry.and_then(|entry| serve(&mut rows, &entry)) {
                known.insert(key, (group, plural));
            }
        }
        *self.rows.write().expect("no panics under this lock") = Arc::new(rows);
        let stale = self.stale.lock().expect("no panics under this lock");
        self.is_current.store(stale.is_nothing(), Ordering::Release);
        Ok(())
    }

    fn take_stale(&self) -> Stale {
        let mut stale = self.stale.lock().expect("no panics under this lock");
        mem::replace(&mut *stale, Stale::NOTHING)
    }

    fn put_back(&self, unread: Stale) {
        let mut stale = self.stale.lock().expect("no panics under this lock");
        match (&mut *stale, unread) {
            (Stale::Definitions(keys), Stale::Definitions(unread)) => keys.extend(unread),
            (stale, Stale::Everything) => *stale = Stale::Everything,
            (Stale::Everything, _) => {}
        }
    }
}

type Read = Vec<(Key, Option<Entry>)>;

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
