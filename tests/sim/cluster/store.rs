//! A store that has no threads, no disk and no chance of its own: a log, and what follows from it.
//! Every commit is shown to an [`Audit`](super::audit::Audit) before anybody else hears of it.

use super::audit::Audit;
use futures_util::future::BoxFuture;
use kinglet::api::Revision;
use kinglet::storage::{
    Commit, CommitError, Entry, Event, Key, ListRequest, Lookup, Op, Page, ReadError, Store, Watch,
    WatchError, WatchItem, WatchRequest,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// See the module.
pub(crate) struct Memory {
    state: Arc<Mutex<State>>,
    newest: watch::Sender<Revision>,
    ended: CancellationToken,
}

struct State {
    entries: BTreeMap<Key, Entry>,
    log: Vec<Arc<Event>>,
    revision: Revision,
    /// What is at or before this is not kept for watches.
    floor: Revision,
    audit: Audit,
}

impl State {
    fn conflict(&self, op: &Op) -> Option<CommitError> {
        let current = self.entries.get(op.key());
        match op {
            Op::Create { key, .. } => {
                current.is_some().then(|| CommitError::Exists { key: key.clone() })
            }
            Op::Update { key, expected, .. }
            | Op::Delete { key, expected }
            | Op::Require { key, expected } => (current.map(|entry| entry.revision)
                != Some(*expected))
            .then(|| CommitError::Conflict { key: key.clone(), current: current.cloned() }),
        }
    }

    fn apply(&mut self, op: &Op) -> Option<Event> {
        let (key, revision) = (op.key().clone(), self.revision);
        let previous = self.entries.get(&key).map(|entry| entry.value.clone());
        match op {
            Op::Require { .. } => return None,
            Op::Delete { .. } => drop(self.entries.remove(&key)),
            Op::Create { value, .. } | Op::Update { value, .. } => {
                let entry = Entry { key: key.clone(), value: value.clone(), revision };
                self.entries.insert(key.clone(), entry);
            }
        }
        Some(Event { key, revision, value: op.value().cloned(), previous })
    }
}

impl Memory {
    pub(crate) fn new() -> Arc<Self> {
        let revision = Revision(1);
        let state = State {
            entries: BTreeMap::new(),
            log: Vec::new(),
            revision,
            floor: Revision(0),
            audit: Audit::default(),
        };
        let newest = watch::Sender::new(revision);
        let ended = CancellationToken::new();
        Arc::new(Self { state: Arc::new(Mutex::new(state)), newest, ended })
    }

    /// What is stored, and what was found wrong with it.
    pub(crate) fn audit<R>(&self, look: impl FnOnce(&mut Audit) -> R) -> R {
        look(&mut self.lock().audit)
    }

    /// Every watch that is not up to date has to list again.
    pub(crate) fn forget_history(&self) {
        let mut state = self.lock();
        state.floor = state.revision;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn page(&self, request: &ListRequest) -> Page {
        let state = self.lock();
        let after = |key: &Key| request.after.as_ref().is_none_or(|after| key > after);
        let wanted = state.entries.range(Key::from(request.prefix.as_str())..);
        let wanted = wanted.take_while(|(key, _)| key.as_str().starts_with(&request.prefix));
        let mut entries: Vec<Entry> =
            wanted.filter(|(key, _)| after(key)).map(|(_, entry)| entry.clone()).collect();
        let limit = request.limit.map_or(usize::MAX, usize::from);
        let remaining = u64::try_from(entries.len().saturating_sub(limit)).unwrap();
        entries.truncate(limit);
        Page { entries, revision: state.revision, remaining }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Memory")
    }
}

impl Store for Memory {
    fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    fn revision(&self) -> Revision {
        self.lock().revision
    }

    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Lookup, ReadError>> {
        let state = self.lock();
        let found = Lookup { entry: state.entries.get(key).cloned(), revision: state.revision };
        Box::pin(std::future::ready(Ok(found)))
    }

    fn list(&self, request: ListRequest) -> BoxFuture<'_, Result<Page, ReadError>> {
        let newest = self.revision();
        // No history of lists is kept: a page after the first is of another revision, or gone.
        let answer = match request.at {
            Some(at) if at < newest => Err(ReadError::Compacted { requested: at, oldest: newest }),
            Some(at) if at > newest => Err(ReadError::Future { requested: at, newest }),
            _ => Ok(self.page(&request)),
        };
        Box::pin(std::future::ready(answer))
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Revision, CommitError>> {
        let mut state = self.lock();
        if let Some(problem) = commit.ops.iter().find_map(|op| state.conflict(op)) {
            return Box::pin(std::future::ready(Err(problem)));
        }
        state.revision = Revision(state.revision.0 + 1);
        let events: Vec<Event> = commit.ops.iter().filter_map(|op| state.apply(op)).collect();
        state.audit.take(&events);
        state.log.extend(events.into_iter().map(Arc::new));
        let revision = state.revision;
        drop(state);
        self.newest.send_replace(revision);
        Box::pin(std::future::ready(Ok(revision)))
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Box<dyn Watch>, WatchError>> {
        let state = self.lock();
        if request.after < state.floor {
            let (requested, oldest) = (request.after, state.floor);
            return Box::pin(std::future::ready(Err(WatchError::Compacted { requested, oldest })));
        }
        let read = state.log.partition_point(|event| event.revision <= request.after);
        let told = request.after;
        let newest = self.newest.subscribe();
        let state = Arc::clone(&self.state);
        let watch = Reader { state, newest, read, told, asked: None, request };
        Box::pin(std::future::ready(Ok(Box::new(watch) as Box<dyn Watch>)))
    }

    fn compact(&self, through: Revision) -> BoxFuture<'_, Result<(), CommitError>> {
        let mut state = self.lock();
        state.floor = state.floor.max(through);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A watch: a place in the log.
struct Reader {
    state: Arc<Mutex<State>>,
    newest: watch::Receiver<Revision>,
    read: usize,
    told: Revision,
    asked: Option<Revision>,
    request: WatchRequest,
}

impl Reader {
    fn take(&mut self) -> Option<WatchItem> {
        let state = self.state.lock().unwrap();
        while let Some(event) = state.log.get(self.read) {
            self.read += 1;
            if event.key.as_str().starts_with(&self.request.prefix) {
                return Some(WatchItem::Event(Arc::clone(event)));
            }
        }
        let has_news = state.revision > self.told;
        self.told = state.revision;
        let wanted = self.request.progress || self.asked.is_some();
        self.asked.take_if(|asked| *asked <= state.revision);
        (has_news && wanted).then_some(WatchItem::Progress(state.revision))
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Reader").field(&self.request).finish()
    }
}

impl Watch for Reader {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchItem, WatchError>> {
        Box::pin(async move {
            loop {
                self.newest.mark_unchanged();
                if let Some(item) = self.take() {
                    return Ok(item);
                }
                if self.newest.changed().await.is_err() {
                    return Err(WatchError::Closed);
                }
            }
        })
    }

    fn delivered(&self) -> Revision {
        let state = self.state.lock().unwrap();
        match state.log.get(self.read) {
            Some(next) => Revision(next.revision.0 - 1),
            None => state.revision,
        }
    }

    fn ask_progress(&mut self, through: Revision) {
        self.asked = self.asked.max(Some(through));
    }
}
