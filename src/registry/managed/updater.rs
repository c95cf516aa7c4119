//! How ownership changes with an object: the core that updates and applies share
//! (structured-merge-diff v6, merge/update.go).

use super::compare::{Comparison, compare};
use super::conflict::Conflicts;
use super::contents::contents;
use super::document::Node;
use super::entries::{Entry, Operation, Owner};
use super::merge::merge;
use super::place::{Place, fill};
use super::problems::Problems;
use super::reconcile::reconcile;
use super::remove::remove;
use super::resets::Resets;
use super::set::FieldSet;
use serde_json::Value;
use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::LazyLock;

/// The other versions of a kind.
pub trait Versions: Debug + Send + Sync {
    /// What objects of the version are. `None` where there is no such version (any more).
    fn place(&self, version: &str) -> Option<Place<'_>>;

    /// The object, which says itself of what version it is, in this one.
    ///
    /// # Errors
    /// Where it cannot be shown in it.
    fn convert(&self, object: Value, version: &str) -> Result<Value, String>;
}

/// What is written, and as what.
#[derive(Debug)]
pub struct Frame<'a> {
    pub place: Place<'a>,
    /// `apps/v1`: the version of the request.
    pub version: &'a str,
    /// What the write does not reach.
    pub resets: Resets,
    pub versions: &'a dyn Versions,
}

/// Why managers cannot be reckoned.
#[derive(Debug)]
pub enum Failure<'a> {
    Conflicts(Conflicts<'a>),
    Broken(String),
}

impl From<Problems> for Failure<'_> {
    fn from(problems: Problems) -> Self {
        Self::Broken(problems.to_string())
    }
}

impl<'a> Frame<'a> {
    fn place_of(&self, version: &str) -> Option<Place<'a>> {
        if version == self.version { Some(self.place) } else { self.versions.place(version) }
    }

    /// A document of one version, in another.
    fn convert(&self, node: &Node<'a>, (from, to): (&str, &str)) -> Result<Node<'a>, Failure<'a>> {
        if from == to {
            return Ok(node.clone());
        }
        let object = node.clone().into_value();
        let converted = self.versions.convert(object, to).map_err(Failure::Broken)?;
        let mut node = Node::of(&converted).into_owned();
        if let Some(place) = self.place_of(to) {
            fill(place, &mut node);
        }
        Ok(node)
    }

    fn compare(
        &self,
        place: Place<'a>,
        old: &Node<'a>,
        new: &Node<'a>,
    ) -> Result<Comparison<'a>, Failure<'a>> {
        Ok(compare(place, old, new)?.map(|set| self.resets.filter(set)))
    }

    /// What changes from `old` to `new`, as paths of the version, where there is such a one.
    fn compare_in(
        &self,
        version: &str,
        old: &Node<'a>,
        new: &Node<'a>,
    ) -> Result<Option<Comparison<'a>>, Failure<'a>> {
        let Some(place) = self.place_of(version) else { return Ok(None) };
        let way = (self.version, version);
        let (old, new) = (self.convert(old, way)?, self.convert(new, way)?);
        self.compare(place, &old, &new).map(Some)
    }

    /// Drops what is of versions that are gone, and follows changes of the schema.
    fn refresh(&self, entries: &mut Vec<Entry<'a>>) {
        entries.retain_mut(|entry| {
            let place = self.place_of(&entry.owner.version);
            if let Some(place) = place {
                entry.fields = reconcile(place, std::mem::take(&mut entry.fields));
            }
            place.is_some()
        });
    }

    /// Takes what changes from `old` to `new` from all but the `writer`. The entries are lost where this
    /// fails.
    fn take(
        &self,
        (old, new): (&Node<'a>, &Node<'a>),
        entries: &mut Vec<Entry<'a>>,
        writer: Option<&Owner<'a>>,
        force: bool,
    ) -> Result<Comparison<'a>, Failure<'a>> {
        let own = self.compare(self.place, old, new)?;
        let mut known: Vec<(Cow<'a, str>, Option<Comparison<'a>>)> = Vec::new();
        let mut conflicts = Vec::new();
        let mut left = Vec::with_capacity(entries.len());
        for mut entry in std::mem::take(entries) {
            if writer.is_some_and(|writer| writer.is(&entry.owner)) {
                left.push(entry);
                continue;
            }
            let version = &entry.owner.version;
            if *version != self.version && known.iter().all(|(known, _)| known != version) {
                known.push((version.clone(), self.compare_in(version, old, new)?));
            }
            let other = known.iter().find(|(known, _)| known == version);
            let Some(changes) = other.map_or(Some(&own), |(_, changes)| changes.as_ref()) else {
                continue;
            };
            let conflict = entry
                .fields
                .intersection(&changes.modified)
                .union(&entry.fields.intersection(&changes.added));
            entry.fields = entry.fields.difference(&conflict).difference(&changes.removed);
            conflicts.push((entry.owner.clone(), conflict));
            left.push(entry);
        }
        if !force && let Some(conflicts) = Conflicts::of(conflicts) {
            return Err(Failure::Conflicts(conflicts));
        }
        left.retain(|entry| !entry.fields.is_empty());
        *entries = left;
        Ok(own)
    }

    /// Follows a write of `new` in the place of `live`. What changed is returned: it is the
    /// writer's.
    pub(super) fn update(
        &self,
        live: &Node<'a>,
        new: &Node<'a>,
        entries: &mut Vec<Entry<'a>>,
    ) -> Result<FieldSet<'a>, Failure<'a>> {
        self.refresh(entries);
        let changes = self.take((live, new), entries, None, true)?;
        Ok(changes.modified.union(&changes.added).difference(&UNOWNED))
    }

    /// Merges what is applied into the live object. `None`: nothing changes but owners.
    pub(super) fn apply(
        &self,
        live: &Node<'a>,
        config: &Node<'a>,
        entries: &mut Vec<Entry<'a>>,
        (owner, force): (&Owner<'a>, bool),
    ) -> Result<Option<Node<'a>>, Failure<'a>> {
        self.refresh(entries);
        let merged = merge(self.place, live, config)
            .map_err(|found| Failure::Broken(format!("failed to merge config: {found}")))?;
        let at = entries.iter().position(|entry| entry.owner.is(owner));
        let last = at.map(|at| entries.remove(at));
        let fields = self.resets.filter(contents(self.place, config));
        let time = last.as_ref().and_then(|last| last.time);
        entries.push(Entry { owner: owner.clone(), time, fields });
        let pruned = match last.filter(|last| !last.fields.is_empty()) {
            None => merged,
            Some(last) => self.prune(merged, entries, &last)?,
        };
        self.take((live, &pruned), entries, Some(owner), force)?;
        for entry in entries.iter_mut().filter(|entry| entry.owner.is(owner)) {
            entry.fields = std::mem::take(&mut entry.fields).difference(&UNOWNED);
        }
        entries.retain(|entry| !entry.fields.is_empty());
        Ok(Some(pruned).filter(|pruned| pruned != live))
    }

    /// Removes what the manager applied the last time and not this time, and nobody else owns.
    fn prune(
        &self,
        merged: Node<'a>,
        entries: &[Entry<'a>],
        last: &Entry<'a>,
    ) -> Result<Node<'a>, Failure<'a>> {
        let version = &*last.owner.version;
        let Some(place) = self.place_of(version) else { return Ok(merged) };
        let all = self.convert(&merged, (self.version, version))?;
        let last_fields = last.fields.clone().with_named_fields(place);
        let mut pruned = remove(place, &all, &last_fields);
        // What the version of the last time shows comes first: others may need it to be converted.
        let mut versions: Vec<_> = entries.iter().map(|entry| &*entry.owner.version).collect();
        versions.sort_by_key(|other| (*other != version, *other));
        versions.dedup();
        for other in versions {
            let of_version = entries.iter().filter(|entry| entry.owner.version == other);
            let owned =
                of_version.fold(FieldSet::default(), |owned, entry| owned.union(&entry.fields));
            pruned = self.add_back((&all, pruned), (version, other), owned)?;
        }
        let kept = contents(place, &pruned).with_named_fields(place);
        let gone = contents(place, &all).with_named_fields(place).difference(&kept);
        let pruned = remove(place, &all, &gone.intersection(&last_fields));
        self.convert(&pruned, (version, self.version))
    }

    /// What was pruned with what others own in the version `other`.
    fn add_back(
        &self,
        (all, pruned): (&Node<'a>, Node<'a>),
        (version, other): (&str, &str),
        owned: FieldSet<'a>,
    ) -> Result<Node<'a>, Failure<'a>> {
        let Some(place) = self.place_of(other) else { return Ok(pruned) };
        let all = self.convert(all, (version, other))?;
        let pruned = self.convert(&pruned, (version, other))?;
        let kept = contents(place, &pruned).with_named_fields(place);
        let kept = kept.union(&owned.with_named_fields(place));
        let gone = contents(place, &all).with_named_fields(place).difference(&kept);
        self.convert(&remove(place, &all, &gone), (other, version))
    }
}

/// What nobody owns (upstream `stripMeta`).
static UNOWNED: LazyLock<FieldSet<'static>> = LazyLock::new(|| {
    let of_metadata = [
        "clusterName",
        "creationTimestamp",
        "generation",
        "managedFields",
        "name",
        "namespace",
        "resourceVersion",
        "selfLink",
        "uid",
    ];
    let top = ["apiVersion", "kind", "metadata"];
    let mut set = FieldSet::default();
    for path in top.iter().map(|name| FieldSet::of_names(&[name])) {
        set = set.union(&path);
    }
    for path in of_metadata.iter().map(|name| FieldSet::of_names(&["metadata", name])) {
        set = set.union(&path);
    }
    set
});

/// So many owners who updated an object have entries of their own; the oldest beyond are counted
/// together (upstream `DefaultMaxUpdateManagers`).
const UPDATERS_MAX: usize = 10;

/// Who the oldest updaters become.
const ANCIENT: &str = "ancient-changes";

/// Keeps the number of updaters within its limit (upstream `capManagersManager`).
pub(super) fn cap_updaters(entries: &mut Vec<Entry<'_>>) {
    let is_updater = |entry: &&Entry<'_>| entry.owner.operation == Operation::Update;
    let mut count = entries.iter().filter(is_updater).count();
    if count <= UPDATERS_MAX {
        return;
    }
    let seconds = |entry: &Entry<'_>| entry.time.map_or(0, jiff::Timestamp::as_second);
    let (mut updaters, mut rest): (Vec<_>, Vec<_>) =
        std::mem::take(entries).into_iter().partition(|entry| is_updater(&entry));
    updaters.sort_by_cached_key(|entry| (seconds(entry), entry.owner.identifier()));
    // The first of each version has an entry of its own until a second one joins it.
    let mut buckets: Vec<Entry<'_>> = Vec::new();
    for entry in updaters {
        let bucket = buckets.iter_mut().find(|one| one.owner.version == entry.owner.version);
        match bucket {
            Some(bucket) if count > UPDATERS_MAX => {
                bucket.owner.manager = Cow::Borrowed(ANCIENT);
                bucket.owner.subresource = Cow::Borrowed("");
                bucket.fields = std::mem::take(&mut bucket.fields).union(&entry.fields);
                bucket.time = entry.time;
                count -= 1;
            }
            None if count > UPDATERS_MAX => buckets.push(entry),
            _ => rest.push(entry),
        }
    }
    for bucket in buckets {
        add(&mut rest, bucket);
    }
    *entries = rest;
}

/// Adds an entry to the one that its owner has already, if any.
pub(super) fn add<'a>(entries: &mut Vec<Entry<'a>>, entry: Entry<'a>) {
    match entries.iter_mut().find(|other| other.owner.is(&entry.owner)) {
        None => entries.push(entry),
        Some(other) => {
            other.fields = std::mem::take(&mut other.fields).union(&entry.fields);
            other.time = entry.time;
            other.owner = entry.owner;
        }
    }
}
