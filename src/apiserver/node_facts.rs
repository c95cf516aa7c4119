//! One fact of each Node, which is needed with every request of some kind: followed, not read.
//!
//! Start at [`NodeFacts::followed`].

use super::follow::Follower;
use crate::stdx::chain;
use crate::storage::{Entry, Event, Key};
use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use tokio::sync::watch;
use tracing::error;

const NODES: &str = "/core/nodes/";

/// The fact, from a Node as it is stored. `None`: the Node does not say.
type ReadFact<T> = fn(&[u8]) -> Result<Option<T>, serde_json::Error>;

/// See the module.
#[derive(Debug)]
pub(super) struct NodeFacts<T> {
    read: ReadFact<T>,
    /// By the name of the node; only of those that say it.
    known: RwLock<HashMap<String, T>>,
    /// Told when what is known is other than before.
    changed: watch::Sender<()>,
}

impl<T> NodeFacts<T> {
    /// Knows nothing yet.
    pub(super) fn new(read: ReadFact<T>) -> Self {
        Self { read, known: RwLock::default(), changed: watch::Sender::new(()) }
    }
}

impl<T: PartialEq + Send + Sync + 'static> NodeFacts<T> {
    /// With what keeps it knowing.
    pub(super) fn followed(read: ReadFact<T>) -> (Arc<Self>, Follower) {
        let facts = Arc::new(Self::new(read));
        let (on_list, on_event) = (Arc::clone(&facts), Arc::clone(&facts));
        let follower = Follower::of_objects(
            NODES,
            move |entries: Vec<Entry>| on_list.begin(&entries),
            move |event: &Event| on_event.take(&event.key, event.value.as_deref()),
        );
        (facts, follower)
    }

    /// Hears of every change from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What is made of the fact of this node.
    pub(super) fn with<R>(&self, node: &str, of: impl FnOnce(Option<&T>) -> R) -> R {
        of(self.known.read().expect("no panics under this lock").get(node))
    }

    pub(super) fn begin(&self, entries: &[Entry]) {
        self.known.write().expect("no panics under this lock").clear();
        entries.iter().for_each(|entry| self.take(&entry.key, Some(&entry.value)));
    }

    pub(super) fn take(&self, key: &Key, value: Option<&[u8]>) {
        let name = key.as_str().strip_prefix(NODES).unwrap_or_default();
        let told = value.map(self.read).transpose().unwrap_or_else(|error| {
            error!(error = chain(&error), ?key, "a node is unreadable");
            None
        });
        let mut known = self.known.write().expect("no panics under this lock");
        let told = told.flatten();
        if known.get(name) == told.as_ref() {
            return;
        }
        match told {
            Some(told) => drop(known.insert(name.to_owned(), told)),
            None => drop(known.remove(name)),
        }
        drop(known);
        self.changed.send_replace(());
    }
}
