//! Services that have to be looked at again: each once, in the order in which they changed.

use crate::api::ObjectKey;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Dirty {
    names: Mutex<Names>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Names {
    order: VecDeque<Arc<ObjectKey>>,
    waiting: BTreeSet<Arc<ObjectKey>>,
}

impl Dirty {
    pub(super) fn add(&self, name: ObjectKey) {
        {
            let mut names = self.lock();
            let name = Arc::new(name);
            if !names.waiting.insert(Arc::clone(&name)) {
                return;
            }
            names.order.push_back(name);
        }
        self.changed.notify_one();
    }

    /// The first of them, `max` at most.
    pub(super) fn take(&self, max: usize) -> Vec<Arc<ObjectKey>> {
        let mut names = self.lock();
        let count = names.order.len().min(max);
        let taken: Vec<_> = names.order.drain(..count).collect();
        for name in &taken {
            names.waiting.remove(name);
        }
        taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().order.is_empty()
    }

    /// Waits until there is one to take.
    pub(super) async fn wait(&self) {
        while self.is_empty() {
            self.changed.notified().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Names> {
        self.names.lock().expect("no panics under this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(taken: &[Arc<ObjectKey>]) -> Vec<&str> {
        taken.iter().map(|key| key.name.as_str()).collect()
    }

    #[tokio::test]
    async fn each_waits_once_and_in_order() {
        let dirty = Dirty::default();
        for name in ["b", "a", "b", "c"] {
            dirty.add(ObjectKey::namespaced("default", name));
        }
        dirty.wait().await;
        assert_eq!(names(&dirty.take(2)), ["b", "a"]);
        dirty.add(ObjectKey::namespaced("default", "b"));
        assert_eq!(names(&dirty.take(10)), ["c", "b"]);
        assert!(dirty.take(10).is_empty());
    }
}
