//! Tokens that have been verified, remembered as long as nothing they rest on changes.
//!
//! A token is forgotten when the account, the Secret, the pod or the node that it speaks of is
//! written or deleted, before the writer has its answer ([`guarded`](super::super::guarded));
//! writes of others, or those whose writer has gone meanwhile, are heard of by a watch. So nothing is
//! read from the store while nothing changes, and a deletion counts at once.

use super::super::guarded::Memory;
use super::super::identity::Identity;
use crate::storage::Key;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// With more tokens than this, all are forgotten and verified anew when they are next shown. A token
/// takes about a kilobyte.
const TOKENS_MAX: usize = 4_096;

/// What tokens rest on.
const PREFIXES: &[&str] =
    &["/core/serviceaccounts/", "/core/secrets/", "/core/pods/", "/core/nodes/"];

/// A token's SHA-256.
pub(super) type Hash = [u8; 32];

/// What is known of a token that was verified.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) identity: Arc<Identity>,
    /// Whom it is meant for.
    pub(super) audiences: Vec<String>,
    pub(super) from: Timestamp,
    /// From then on it has to be verified again.
    pub(super) until: Timestamp,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    known: HashMap<Hash, (Arc<Verified>, Arc<[Key]>)>,
    by_key: HashMap<Key, Vec<Hash>>,
    /// What is being verified by whom.
    underway: HashMap<u64, Arc<[Key]>>,
    next: u64,
}

/// A verification under way. If one of its keys changes meanwhile, its result is not remembered.
pub(super) struct Ticket<'a> {
    cache: &'a Cache,
    number: u64,
    keys: Arc<[Key]>,
}

impl Cache {
    pub(super) fn get(&self, hash: &Hash, now: Timestamp) -> Option<Arc<Verified>> {
        let state = self.0.lock().expect("no panics under this lock");
        let (verified, _) = state.known.get(hash)?;
        (verified.from <= now && now < verified.until).then(|| Arc::clone(verified))
    }

    /// To be called before anything at `keys` is read.
    pub(super) fn begin(&self, keys: Vec<Key>) -> Ticket<'_> {
        let keys: Arc<[Key]> = keys.into();
        let mut state = self.0.lock().expect("no panics under this lock");
        state.next += 1;
        let number = state.next;
        state.underway.insert(number, Arc::clone(&keys));
        Ticket { cache: self, number, keys }
    }
}

impl Memory for Cache {
    fn prefixes(&self) -> &'static [&'static str] {
        PREFIXES
    }

    fn forget(&self, key: &Key) {
        let mut state = self.0.lock().expect("no panics under this lock");
        state.underway.retain(|_, keys| !keys.contains(key));
        for hash in state.by_key.remove(key).unwrap_or_default() {
            state.remove(&hash);
        }
    }

    fn forget_all(&self) {
        *self.0.lock().expect("no panics under this lock") = State::default();
    }
}

impl State {
    fn remove(&mut self, hash: &Hash) {
        let Some((_, keys)) = self.known.remove(hash) else { return };
        for key in keys.iter() {
            if let Some(hashes) = self.by_key.get_mut(key) {
                hashes.retain(|other| other != hash);
                if hashes.is_empty() {
                    self.by_key.remove(key);
                }
            }
        }
    }
}

impl Ticket<'_> {
    /// Remembers what was found out, unless something it rests on has changed.
    pub(super) fn finish(self, hash: Hash, verified: Arc<Verified>) {
        let mut state = self.cache.0.lock().expect("no panics under this lock");
        if state.underway.remove(&self.number).is_none() {
            return;
        }
        if state.known.len() >= TOKENS_MAX {
            state.known.clear();
            state.by_key.clear();
        }
        state.remove(&hash);
        for key in self.keys.iter() {
            state.by_key.entry(key.clone()).or_default().push(hash);
        }
        state.known.insert(hash, (verified, Arc::clone(&self.keys)));
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.cache.0.lock().expect("no panics under this lock");
        state.underway.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn verified() -> Arc<Verified> {
        let identity = Arc::new(Identity::new("a", &[]));
        Arc::new(Verified { identity, audiences: vec![], from: moment(10), until: moment(20) })
    }

    fn keys(names: &[&str]) -> Vec<Key> {
        names.iter().map(|name| Key::from(*name)).collect()
    }

    #[test]
    fn a_token_is_remembered_for_its_time() {
        let cache = Cache::default();
        cache.begin(keys(&["x"])).finish([1; 32], verified());
        for (second, is_known) in [(9, false), (10, true), (19, true), (20, false)] {
            assert_eq!(cache.get(&[1; 32], moment(second)).is_some(), is_known, "{second}");
        }
        assert!(cache.get(&[2; 32], moment(15)).is_none());
    }

    #[test]
    fn a_change_of_anything_it_rests_on_forgets_it() {
        let cache = Cache::default();
        for key in ["x", "y"] {
            cache.begin(keys(&["x", "y"])).finish([1; 32], verified());
            cache.begin(keys(&["z"])).finish([2; 32], verified());
            cache.forget(&Key::from(key));
            assert!(cache.get(&[1; 32], moment(15)).is_none(), "{key}");
            assert!(cache.get(&[2; 32], moment(15)).is_some(), "{key}");
        }
        assert_eq!(cache.0.lock().unwrap().by_key.len(), 1);
    }

    #[test]
    fn a_change_during_the_verification_keeps_it_from_being_remembered() {
        let cache = Cache::default();
        let ticket = cache.begin(keys(&["x"]));
        let other = cache.begin(keys(&["y"]));
        cache.forget(&Key::from("x"));
        ticket.finish([1; 32], verified());
        other.finish([2; 32], verified());
        assert!(cache.get(&[1; 32], moment(15)).is_none());
        assert!(cache.get(&[2; 32], moment(15)).is_some());
        assert!(cache.0.lock().unwrap().underway.is_empty());
    }

    #[test]
    fn there_is_a_limit() {
        let cache = Cache::default();
        for number in 0..=TOKENS_MAX {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_le_bytes());
            cache.begin(keys(&["x"])).finish(hash, verified());
        }
        assert_eq!(cache.0.lock().unwrap().known.len(), 1);
    }
}
