//! The kinds there are: those that are built in, and those that definitions add and take away.

use crate::client::ResourceType;
use crate::registry::KindFacts;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::sync::{Arc, RwLock, RwLockReadGuard};

/// A kind of objects that can be owned, own, or be in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindEntry {
    pub resource: ResourceType,
    pub is_namespaced: bool,
}

impl KindEntry {
    #[must_use]
    pub fn of(facts: &KindFacts) -> Self {
        let resource = ResourceType {
            group: facts.group.clone(),
            version: facts.version.clone(),
            kind: facts.kind.clone(),
            plural: facts.plural.clone(),
        };
        Self { resource, is_namespaced: facts.is_namespaced() }
    }
}

/// A place in [`Kinds`], which a kind keeps when it goes and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KindIndex(usize);

#[derive(Debug)]
struct Slot {
    entry: Arc<KindEntry>,
    is_served: bool,
}

/// All kinds there are now; clones see the same. Places are never given away anew: whoever holds
/// one can ask for what was there.
#[derive(Clone, Debug)]
pub(super) struct Kinds(Arc<RwLock<Vec<Slot>>>);

impl Kinds {
    pub(super) fn new(kinds: impl IntoIterator<Item = KindEntry>) -> Self {
        let slots = kinds.into_iter().map(|entry| Slot { entry: Arc::new(entry), is_served: true });
        Self(Arc::new(RwLock::new(slots.collect())))
    }

    fn slots(&self) -> RwLockReadGuard<'_, Vec<Slot>> {
        self.0.read().expect("no panics under this lock")
    }

    pub(super) fn get(&self, index: KindIndex) -> Arc<KindEntry> {
        Arc::clone(&self.slots()[index.0].entry)
    }

    pub(super) fn all(&self) -> Vec<(KindIndex, Arc<KindEntry>)> {
        let slots = self.slots();
        let served = slots.iter().enumerate().filter(|(_, slot)| slot.is_served);
        served.map(|(index, slot)| (KindIndex(index), Arc::clone(&slot.entry))).collect()
    }

    /// Those that live in namespaces.
    pub(super) fn namespaced(&self) -> Vec<Arc<KindEntry>> {
        let all = self.all().into_iter().map(|(_, entry)| entry);
        all.filter(|entry| entry.is_namespaced).collect()
    }

    fn position(&self, is_meant: impl Fn(&ResourceType) -> bool) -> Option<KindIndex> {
        let slots = self.slots();
        let mut slots = slots.iter();
        slots.position(|slot| slot.is_served && is_meant(&slot.entry.resource)).map(KindIndex)
    }

    /// The kind of this name in a group, whatever its version.
    pub(super) fn find(&self, group: &str, kind: &str) -> Option<Arc<KindEntry>> {
        let index = self.position(|resource| resource.kind == kind && resource.group == group);
        index.map(|index| self.get(index))
    }

    /// The kind that an owner reference means: whatever version it was written with.
    pub(super) fn of_owner(&self, owner: &OwnerReference) -> Option<KindIndex> {
        self.of_type(&owner.api_version, &owner.kind)
    }

    /// As [`of_owner`](Self::of_owner), of what the reference says.
    pub(super) fn of_type(&self, api_version: &str, kind: &str) -> Option<KindIndex> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.position(|resource| resource.kind == kind && resource.group == group)
    }

    pub(super) fn of_resource(&self, of: &ResourceType) -> Option<KindIndex> {
        self.position(|resource| resource == of)
    }

    /// Adds a kind, or takes this for what it is now.
    pub(super) fn add(&self, entry: KindEntry) -> KindIndex {
        let mut slots = self.0.write().expect("no panics under this lock");
        let place = slots.iter().position(|slot| {
            let known = &slot.entry.resource;
            known.group == entry.resource.group && known.plural == entry.resource.plural
        });
        let slot = Slot { entry: Arc::new(entry), is_served: true };
        match place {
            Some(place) => slots[place] = slot,
            None => slots.push(slot),
        }
        KindIndex(place.unwrap_or(slots.len() - 1))
    }

    pub(super) fn remove(&self, index: KindIndex) {
        self.0.write().expect("no panics under this lock")[index.0].is_served = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(plural: &'static str, version: &'static str) -> KindEntry {
        let resource = ResourceType {
            group: "example.com".into(),
            version: version.into(),
            kind: "Kite".into(),
            plural: plural.into(),
        };
        KindEntry { resource, is_namespaced: true }
    }

    #[test]
    fn a_kind_keeps_its_place() {
        let kinds = Kinds::new([entry("a", "v1")]);
        let place = kinds.add(entry("b", "v1"));
        kinds.remove(place);
        assert_eq!(kinds.all().len(), 1);
        assert_eq!(*kinds.get(place), entry("b", "v1"), "what was there can be asked for");
        assert_ne!(kinds.add(entry("c", "v1")), place);
        assert_eq!(kinds.add(entry("b", "v2")), place);
        assert_eq!(*kinds.get(place), entry("b", "v2"));
    }
}
