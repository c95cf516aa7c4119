//! Who wants what of the kernel, and what of that the kernel does not have yet.
//!
//! Start at [`Ledger::set`] and [`Ledger::pending`]. An element that several Services want differently,
//! as an external address that two of them claim, is the first one's by name: always the same, in
//! whichever order they came. Architecture invariant: what is pending says what the kernel has, so that
//! a change that is undone before it was applied costs nothing.

use super::chain::needed_for;
use super::element::{Key, Value};
use super::listing::Listing;
use super::render::Wanted;
use super::sticky::{self, Seen};
use crate::api::ObjectKey;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// On whose behalf: a Service, or the node where it is no Service's.
pub(super) type Owner = Arc<ObjectKey>;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    elements: HashMap<Key, Claim>,
    services: BTreeMap<Owner, Held>,
    /// Elements that the kernel has otherwise.
    pending: BTreeMap<Key, Pending<Value>>,
    /// Chains of ports with affinity, likewise.
    chains: BTreeMap<Arc<str>, Pending<Vec<String>>>,
    sets: BTreeMap<Arc<str>, Pending<Seen>>,
}

/// What one owner wants.
#[derive(Debug, Default)]
struct Held {
    keys: Box<[Key]>,
    chains: BTreeMap<Arc<str>, Vec<String>>,
    sets: BTreeMap<Arc<str>, Seen>,
}

/// Who wants an element.
#[derive(Debug)]
enum Claim {
    One(Owner, Value),
    Several(BTreeMap<Owner, Value>),
}

/// What the kernel has, and who was the last to want something else.
#[derive(Clone, Debug)]
struct Pending<T> {
    before: Option<T>,
    by: Owner,
}

/// One thing that is to be made, changed or taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change<N, T> {
    pub(super) name: N,
    pub(super) before: Option<T>,
    pub(super) after: Option<T>,
    pub(super) by: Owner,
}

/// What the kernel lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) elements: Vec<Change<Key, Value>>,
    pub(super) chains: Vec<Change<Arc<str>, Vec<String>>>,
    pub(super) sets: Vec<Change<Arc<str>, Seen>>,
    /// Only after looking at the kernel.
    pub(super) strays: Strays,
}

/// What the kernel has and nobody wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Strays {
    /// By set and text.
    pub(super) elements: Vec<(String, String)>,
    pub(super) chains: Vec<String>,
    pub(super) sets: Vec<String>,
}

impl Strays {
    fn is_empty(&self) -> bool {
        self.elements.is_empty() && self.chains.is_empty() && self.sets.is_empty()
    }
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.elements.is_empty()
            && self.chains.is_empty()
            && self.sets.is_empty()
            && self.strays.is_empty()
    }

    pub(super) fn owners(&self) -> BTreeSet<Owner> {
        let elements = self.elements.iter().map(|change| &change.by);
        let chains = self.chains.iter().map(|change| &change.by);
        let sets = self.sets.iter().map(|change| &change.by);
        elements.chain(chains).chain(sets).cloned().collect()
    }

    /// What of it is on behalf of some, and what is on behalf of the others.
    pub(super) fn split(self, is_first: impl Fn(&Owner) -> bool) -> (Self, Self) {
        let (first, second) = self.elements.into_iter().partition(|change| is_first(&change.by));
        let (chains, other_chains) =
            self.chains.into_iter().partition(|change| is_first(&change.by));
        let (sets, other_sets) = self.sets.into_iter().partition(|change| is_first(&change.by));
        (
            Self { elements: first, chains, sets, strays: self.strays },
            Self {
                elements: second,
                chains: other_chains,
                sets: other_sets,
                strays: Strays::default(),
            },
        )
    }
}

impl Ledger {
    /// Makes this all that `owner` wants; nothing where it is gone.
    pub(super) fn set(&mut self, owner: &Owner, wanted: Wanted) {
        let held = self.services.remove(owner).unwrap_or_default();
        let mut before: HashMap<Key, Option<Value>> = HashMap::new();
        for key in held.keys {
            before.entry(key).or_insert_with(|| self.value(&key).cloned());
            self.disclaim(&key, owner);
        }
        let mut keys = BTreeSet::new();
        for (key, value) in wanted.elements {
            before.entry(key).or_insert_with(|| self.value(&key).cloned());
            keys.insert(key);
            self.claim(key, owner, value);
        }
        for (key, before) in before {
            let is_same = self.value(&key) == before.as_ref();
            note(&mut self.pending, key, before, is_same, owner);
        }
        let mut chains = BTreeMap::new();
        let mut sets = BTreeMap::new();
        for sticky in wanted.sticky {
            chains.extend(sticky.chains);
            sets.extend(sticky.sets);
        }
        note_all(&mut self.chains, held.chains, &chains, owner);
        note_all(&mut self.sets, held.sets, &sets, owner);
        if !keys.is_empty() {
            let keys = keys.into_iter().collect();
            self.services.insert(Arc::clone(owner), Held { keys, chains, sets });
        }
    }

    /// What the kernel lacks, as far as this is known.
    pub(super) fn pending(&mut self) -> Changes {
        // What is wanted as it is there needs no remembering.
        let elements = &self.elements;
        self.pending.retain(|key, pending| {
            elements.get(key).map(|claim| claim.winner().1) != pending.before.as_ref()
        });
        let mut changes = Changes::default();
        for (key, pending) in &self.pending {
            changes.elements.extend(change(*key, pending, self.value(key).cloned()));
        }
        for (name, pending) in &self.chains {
            changes.chains.extend(change(Arc::clone(name), pending, self.chain(name, pending)));
        }
        for (name, pending) in &self.sets {
            changes.sets.extend(change(Arc::clone(name), pending, self.seen(name, pending)));
        }
        changes
    }

    /// The kernel has these now.
    pub(super) fn settled(&mut self, changes: &Changes) {
        for change in &changes.elements {
            self.pending.remove(&change.name);
        }
        for change in &changes.chains {
            self.chains.remove(&change.name);
        }
        for change in &changes.sets {
            self.sets.remove(&change.name);
        }
    }

    /// Believes what the kernel says it has instead of what it was told: everything else is pending,
    /// and what nobody wants is returned.
    pub(super) fn found(&mut self, listing: &Listing) -> Strays {
        self.found_elements(listing);
        self.chains.clear();
        self.sets.clear();
        for (owner, held) in &self.services {
            for name in held.chains.keys() {
                // What is in them is not compared: they are few, and written anew.
                let pending = Pending { before: None, by: Arc::clone(owner) };
                self.chains.insert(Arc::clone(name), pending);
            }
            for name in held.sets.keys() {
                if !listing.sets.contains(&**name) {
                    let pending = Pending { before: None, by: Arc::clone(owner) };
                    self.sets.insert(Arc::clone(name), pending);
                }
            }
        }
        self.strays(listing)
    }

    fn found_elements(&mut self, listing: &Listing) {
        let mut pending = BTreeMap::new();
        for (key, claim) in &self.elements {
            let (owner, value) = claim.winner();
            let there = listing.value(key.set(), &key.to_string());
            if there == Some(value.to_string().as_str()) {
                continue;
            }
            // Whatever it is, it is taken away by its key.
            let before = there.map(|_| Value::Present);
            pending.insert(*key, Pending { before, by: Arc::clone(owner) });
        }
        self.pending = pending;
    }

    fn strays(&self, listing: &Listing) -> Strays {
        let mut wanted: HashMap<&str, HashSet<String>> = HashMap::new();
        for key in self.elements.keys() {
            wanted.entry(key.set()).or_default().insert(key.to_string());
        }
        let is_wanted =
            |set: &str, text: &str| wanted.get(set).is_some_and(|texts| texts.contains(text));
        let mut strays = Strays::default();
        for (set, elements) in &listing.elements {
            let texts = elements.keys().filter(|text| !is_wanted(set, text));
            strays.elements.extend(texts.map(|text| (set.clone(), text.clone())));
        }
        let names = self.names();
        let is_stray = |name: &&String| !names.contains(&***name);
        strays.chains = listing.changing_chains().filter(is_stray).cloned().collect();
        let sticky_sets = listing.sets.iter().filter(|name| name.starts_with(sticky::PREFIX));
        strays.sets = sticky_sets.filter(is_stray).cloned().collect();
        strays
    }

    /// Names of all chains and sets that are there for what somebody wants.
    fn names(&self) -> HashSet<Cow<'_, str>> {
        let mut names = HashSet::new();
        for held in self.services.values() {
            let sticky = held.chains.keys().chain(held.sets.keys());
            names.extend(sticky.map(|name| Cow::Borrowed(&**name)));
        }
        for value in self.elements.values().map(|claim| claim.winner().1) {
            for counted in needed_for(value) {
                names.insert(Cow::Owned(counted.to_string()));
            }
        }
        names
    }

    fn value(&self, key: &Key) -> Option<&Value> {
        self.elements.get(key).map(|claim| claim.winner().1)
    }

    fn chain(&self, name: &str, pending: &Pending<Vec<String>>) -> Option<Vec<String>> {
        self.services.get(&pending.by)?.chains.get(name).cloned()
    }

    fn seen(&self, name: &str, pending: &Pending<Seen>) -> Option<Seen> {
        self.services.get(&pending.by)?.sets.get(name).copied()
    }

    fn claim(&mut self, key: Key, owner: &Owner, value: Value) {
        let Some(claim) = self.elements.get_mut(&key) else {
            self.elements.insert(key, Claim::One(Arc::clone(owner), value));
            return;
        };
        match claim {
            Claim::One(other, its) if other == owner => *its = value,
            Claim::One(other, its) => {
                let both = [(Arc::clone(other), its.clone()), (Arc::clone(owner), value)];
                *claim = Claim::Several(BTreeMap::from(both));
            }
            Claim::Several(claims) => {
                claims.insert(Arc::clone(owner), value);
            }
        }
    }

    fn disclaim(&mut self, key: &Key, owner: &Owner) {
        match self.elements.get_mut(key) {
            Some(Claim::One(other, _)) if other == owner => {
                self.elements.remove(key);
            }
            Some(Claim::Several(claims)) => {
                claims.remove(owner);
                if claims.is_empty() {
                    self.elements.remove(key);
                }
            }
            Some(Claim::One(..)) | None => {}
        }
    }
}

impl Claim {
    fn winner(&self) -> (&Owner, &Value) {
        match self {
            Self::One(owner, value) => (owner, value),
            Self::Several(claims) => {
                claims.first_key_value().expect("claims that nobody has are removed")
            }
        }
    }
}

/// Remembers what the kernel has of something that has become different, or forgets it where it is
/// wanted again as the kernel has it.
fn note<N: Ord, T>(
    pending: &mut BTreeMap<N, Pending<T>>,
    name: N,
    before: Option<T>,
    is_same: bool,
    owner: &Owner,
) {
    if is_same {
        return;
    }
    match pending.get_mut(&name) {
        Some(known) => known.by = Arc::clone(owner),
        None => {
            pending.insert(name, Pending { before, by: Arc::clone(owner) });
        }
    }
}

fn note_all<T: PartialEq>(
    pending: &mut BTreeMap<Arc<str>, Pending<T>>,
    before: BTreeMap<Arc<str>, T>,
    after: &BTreeMap<Arc<str>, T>,
    owner: &Owner,
) {
    for name in after.keys().filter(|name| !before.contains_key(*name)) {
        note(pending, Arc::clone(name), None, false, owner);
    }
    for (name, before) in before {
        let is_same = after.get(&name) == Some(&before);
        note(pending, name, Some(before), is_same, owner);
    }
}

/// `None` where it is as it was before.
fn change<N, T: Clone + PartialEq>(
    name: N,
    pending: &Pending<T>,
    after: Option<T>,
) -> Option<Change<N, T>> {
    let Pending { before, by } = pending.clone();
    (before != after).then_some(Change { name, before, after, by })
}
