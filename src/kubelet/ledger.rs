//! What the pods of this node have been granted, all together, so that two that ask for more at
//! once do not get the same twice.

use super::pod::{Denied, fits};
use crate::api::pod::Amounts;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

/// See the module.
pub(super) struct Ledger {
    entries: Mutex<Entries>,
    /// Has a pod looked at, by its uid.
    ring: Arc<dyn Fn(&str) + Send + Sync>,
}

#[derive(Debug, Default)]
struct Entries {
    granted: BTreeMap<String, Amounts>,
    /// Pods that have to wait until others need less.
    deferred: BTreeSet<String>,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Ledger").field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl Ledger {
    pub(super) fn new(ring: Arc<dyn Fn(&str) + Send + Sync>) -> Self {
        Self { entries: Mutex::default(), ring }
    }

    /// Notes what a pod has.
    pub(super) fn note(&self, uid: &str, requests: Amounts) {
        let mut entries = self.entries.lock().expect("no panics under this lock");
        entries.granted.insert(uid.to_owned(), requests);
    }

    /// Grants a pod what it asks for in the place of what it has, where there is room.
    pub(super) fn ask(
        &self,
        uid: &str,
        requests: Amounts,
        allocatable: &Amounts,
    ) -> Result<(), Denied> {
        let freed = {
            let mut entries = self.entries.lock().expect("no panics under this lock");
            let mut others = Amounts::new();
            for (_, granted) in entries.granted.iter().filter(|(other, _)| *other != uid) {
                for (name, amount) in granted {
                    *others.entry(name.clone()).or_default() += *amount;
                }
            }
            if let Err(denied) = fits(&requests, &others, allocatable) {
                if denied.reason == "Deferred" {
                    entries.deferred.insert(uid.to_owned());
                }
                return Err(denied);
            }
            entries.granted.insert(uid.to_owned(), requests);
            entries.deferred.remove(uid);
            std::mem::take(&mut entries.deferred)
        };
        self.ring_all(&freed);
        Ok(())
    }

    /// The pod needs nothing any more.
    pub(super) fn release(&self, uid: &str) {
        let freed = {
            let mut entries = self.entries.lock().expect("no panics under this lock");
            entries.deferred.remove(uid);
            match entries.granted.remove(uid) {
                Some(_) => std::mem::take(&mut entries.deferred),
                None => return,
            }
        };
        self.ring_all(&freed);
    }

    fn ring_all(&self, uids: &BTreeSet<String>) {
        uids.iter().for_each(|uid| (self.ring)(uid));
    }
}
