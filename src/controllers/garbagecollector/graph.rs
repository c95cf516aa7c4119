//! Who owns whom: only objects that have owners, or that wait for those they own, are kept.
//!
//! The graph may lag behind the store and decides nothing: it says which objects are worth a look.

use crate::api::ObjectKey;
use crate::controllers::kinds::{KindIndex, Kinds};
use crate::controllers::metadata::{Deletion, Item, Links, News, Sketch};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// This many owners are remembered to exist, so that not every pod of a set asks for the set. At the
/// limit all are forgotten, and asked for again when they matter.
const CONFIRMED_OWNERS_MAX: usize = 4_096;

type Uid = Arc<str>;

/// An object in the graph.
#[derive(Debug)]
struct Node {
    item: Item,
    owners: Vec<Owner>,
    deletion: Deletion,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    uid: Uid,
    kind: OwnerKind,
    /// The owner's foreground deletion waits for this object.
    is_blocking: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum OwnerKind {
    Known(KindIndex),
    /// There was no such kind when the object was seen. A definition may add it.
    Unknown(Box<Reference>),
}

/// What a reference says of an owner's kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reference {
    api_version: String,
    kind: String,
}

impl OwnerKind {
    fn of(owner: &OwnerReference, kinds: &Kinds) -> Self {
        kinds.of_owner(owner).map_or_else(
            || {
                let (api_version, kind) = (owner.api_version.clone(), owner.kind.clone());
                Self::Unknown(Box::new(Reference { api_version, kind }))
            },
            Self::Known,
        )
    }

    fn is(&self, kind: KindIndex, kinds: &Kinds) -> bool {
        match self {
            Self::Known(known) => *known == kind,
            Self::Unknown(reference) => {
                kinds.of_type(&reference.api_version, &reference.kind) == Some(kind)
            }
        }
    }
}

/// An object that another owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dependent {
    pub(super) is_blocking: bool,
    pub(super) is_waiting: bool,
}

#[derive(Debug)]
pub(super) struct Graph {
    kinds: Kinds,
    nodes: BTreeMap<Uid, Node>,
    dependents: BTreeMap<Uid, BTreeSet<Uid>>,
    confirmed: BTreeSet<Uid>,
    /// Counts the objects that went away, so that what was confirmed meanwhile is not believed.
    deletions: u64,
}

impl Graph {
    pub(super) fn new(kinds: Kinds) -> Self {
        Self {
            kinds,
            nodes: BTreeMap::new(),
            dependents: BTreeMap::new(),
            confirmed: BTreeSet::new(),
            deletions: 0,
        }
    }

    /// Takes note; says which objects are worth a look now.
    pub(super) fn note(&mut self, kind: KindIndex, news: &News<'_>) -> Vec<Item> {
        match news {
            News::Applied(object) => self.apply(kind, object),
            News::Deleted(object) => self.remove(&object.uid),
            News::Listed(objects) => self.replace(kind, objects),
        }
    }

    fn apply(&mut self, kind: KindIndex, object: &Sketch) -> Vec<Item> {
        let before = self.nodes.remove(&object.uid);
        let old_owners = before.map(|node| node.owners).unwrap_or_default();
        let node = object.links.as_ref().and_then(|links| self.node(kind, object, links));
        let new_owners = node.as_ref().map(|node| node.owners.clone()).unwrap_or_default();
        for owner in &old_owners {
            self.unlink(&owner.uid, &object.uid);
        }
        for owner in &new_owners {
            let dependents = self.dependents.entry(Arc::clone(&owner.uid)).or_default();
            dependents.insert(Arc::clone(&object.uid));
        }
        let mut worth = self.unblocked(&old_owners, &new_owners);
        let Some(node) = node else { return worth };
        match node.deletion {
            Deletion::Foreground => {
                // Those that it owns are to be deleted now, and it waits for them.
                self.confirmed.remove(&object.uid);
                worth.push(node.item.clone());
                worth.extend(self.dependents_of(&object.uid).map(|node| node.item.clone()));
            }
            Deletion::Orphan => worth.push(node.item.clone()),
            Deletion::Ordinary => {}
            Deletion::No => {
                if node.owners.iter().any(|owner| self.is_doubtful(owner)) {
                    worth.push(node.item.clone());
                }
            }
        }
        self.nodes.insert(Arc::clone(&object.uid), node);
        worth
    }

    /// The object as a node; `None` where nothing about it matters.
    fn node(&self, kind: KindIndex, object: &Sketch, links: &Links) -> Option<Node> {
        let deletion = object.deletion();
        if links.owners.is_empty() && !matches!(deletion, Deletion::Foreground | Deletion::Orphan) {
            return None;
        }
        let key = ObjectKey {
            namespace: object.namespace.as_deref().map(ToOwned::to_owned),
            name: links.name.clone(),
        };
        let plural = Arc::from(&*self.kinds.get(kind).resource.plural);
        let owners = links.owners.iter().map(|owner| Owner {
            uid: Arc::from(owner.uid.as_str()),
            kind: OwnerKind::of(owner, &self.kinds),
            is_blocking: owner.block_owner_deletion == Some(true),
        });
        let item = Item { kind, plural, key, uid: Arc::clone(&object.uid) };
        Some(Node { item, owners: owners.collect(), deletion })
    }

    /// Whether the owner may not be there, or waits for what it owns to go.
    fn is_doubtful(&self, owner: &Owner) -> bool {
        !self.confirmed.contains(&owner.uid)
            || self.nodes.get(&owner.uid).is_some_and(|node| node.deletion == Deletion::Foreground)
    }

    /// The owners that wait for what they own, and had `before` something to wait for that they do
    /// not have to wait for any more.
    fn unblocked(&self, before: &[Owner], now: &[Owner]) -> Vec<Item> {
        let gone = before.iter().filter(|owner| {
            owner.is_blocking && !now.iter().any(|now| now.uid == owner.uid && now.is_blocking)
        });
        let waiting = gone.filter_map(|owner| self.nodes.get(&owner.uid));
        let waiting = waiting.filter(|owner| owner.deletion == Deletion::Foreground);
        waiting.map(|owner| owner.item.clone()).collect()
    }

    fn remove(&mut self, uid: &Uid) -> Vec<Item> {
        self.deletions += 1;
        self.confirmed.remove(uid);
        let mut worth: Vec<Item> = self.dependents_of(uid).map(|node| node.item.clone()).collect();
        if let Some(node) = self.nodes.remove(uid) {
            for owner in &node.owners {
                self.unlink(&owner.uid, uid);
            }
            worth.extend(self.unblocked(&node.owners, &[]));
        }
        worth
    }

    /// These are all the objects of the kind: others are gone, and so are owners that are not here.
    fn replace(&mut self, kind: KindIndex, objects: &[Sketch]) -> Vec<Item> {
        let there: BTreeSet<&str> = objects.iter().map(|object| &*object.uid).collect();
        let is_gone = |node: &&Node| node.item.kind == kind && !there.contains(&*node.item.uid);
        let gone: Vec<Uid> =
            self.nodes.values().filter(is_gone).map(|node| Arc::clone(&node.item.uid)).collect();
        let mut worth: Vec<Item> = gone.iter().flat_map(|uid| self.remove(uid)).collect();
        let has_lost_owner = |node: &&Node| {
            let mut owners = node.owners.iter();
            owners.any(|owner| owner.kind.is(kind, &self.kinds) && !there.contains(&*owner.uid))
        };
        worth.extend(self.nodes.values().filter(has_lost_owner).map(|node| node.item.clone()));
        self.confirmed.retain(|uid| there.contains(&**uid));
        self.deletions += 1;
        for object in objects {
            worth.extend(self.apply(kind, object));
        }
        worth
    }

    fn unlink(&mut self, owner: &Uid, dependent: &Uid) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    fn dependents_of(&self, uid: &str) -> impl Iterator<Item = &Node> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| self.nodes.get(uid))
    }

    /// What the object with this uid owns.
    pub(super) fn dependents(&self, uid: &str) -> Vec<Dependent> {
        let dependents = self.dependents_of(uid).map(|node| {
            let mut owners = node.owners.iter();
            Dependent {
                is_blocking: owners.any(|owner| &*owner.uid == uid && owner.is_blocking),
                is_waiting: node.deletion == Deletion::Foreground,
            }
        });
        dependents.collect()
    }

    /// Whether the object is in the graph and something about it may not be as it should.
    pub(super) fn is_worth_a_look(&self, uid: &str) -> bool {
        self.nodes.get(uid).is_some_and(|node| {
            node.deletion != Deletion::No || node.owners.iter().any(|owner| self.is_doubtful(owner))
        })
    }

    /// Remembers that an owner is there and stays. `deletions` is what [`Graph::deletions`] said
    /// before it was asked for.
    pub(super) fn confirm(&mut self, owner: &str, deletions: u64) {
        if deletions != self.deletions {
            return;
        }
        if self.confirmed.len() >= CONFIRMED_OWNERS_MAX {
            self.confirmed.clear();
        }
        self.confirmed.insert(Arc::from(owner));
    }

    pub(super) fn is_confirmed(&self, owner: &str) -> bool {
        self.confirmed.contains(owner)
    }

    pub(super) fn deletions(&self) -> u64 {
        self.deletions
    }
}
