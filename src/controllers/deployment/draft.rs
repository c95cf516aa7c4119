//! A Deployment's ReplicaSets while a decision about them is being made: as they are, and as they
//! shall be.

use super::bounds::Bounds;
use super::revision::{revision, size_annotations};
use super::template::is_same;
use crate::control::{Planned, Report, Write};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetStatus};
use std::sync::Arc;

/// A set, and what becomes of it.
#[derive(Clone, Debug)]
pub(super) struct Set {
    before: Arc<ReplicaSet>,
    after: Arc<ReplicaSet>,
}

impl Set {
    pub(super) fn new(set: Arc<ReplicaSet>) -> Self {
        Self { before: Arc::clone(&set), after: set }
    }

    /// The set as it shall be.
    pub(super) fn get(&self) -> &ReplicaSet {
        &self.after
    }

    pub(super) fn name(&self) -> &str {
        self.after.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn replicas(&self) -> i32 {
        replicas(&self.after)
    }

    /// What the set has reported, of whatever it was when it reported.
    pub(super) fn reported(&self) -> ReplicaSetStatus {
        self.after.status.clone().unwrap_or_default()
    }

    /// The pods that are available, as reported.
    pub(super) fn available(&self) -> i32 {
        let status = self.after.status.as_ref();
        status.and_then(|status| status.available_replicas).unwrap_or_default()
    }

    /// The available pods that can be counted on. Pods that are not available go first when a set
    /// shrinks. A set that has not acknowledged its size may have been smaller for a moment, and
    /// have lost pods that it still reports: none of them counts.
    pub(super) fn lasting(&self) -> i32 {
        if self.is_acknowledged() { self.available().min(self.replicas()) } else { 0 }
    }

    /// Whether the set's report is about the size that it is to have.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.reported().observed_generation >= self.after.metadata.generation
    }

    pub(super) fn change(&mut self) -> &mut ReplicaSet {
        Arc::make_mut(&mut self.after)
    }

    /// Sets the size, and notes how large the Deployment is.
    pub(super) fn scale(&mut self, replicas: i32, bounds: Bounds) {
        let annotations = self.after.metadata.annotations.as_ref();
        let has = |(name, value): &(&str, String)| {
            annotations.and_then(|all| all.get(*name)) == Some(value)
        };
        if self.replicas() == replicas && size_annotations(bounds).iter().all(has) {
            return;
        }
        let set = self.change();
        set.spec.get_or_insert_default().replicas = Some(replicas);
        let annotations = set.metadata.annotations.get_or_insert_default();
        for (name, value) in size_annotations(bounds) {
            annotations.insert(name.to_owned(), value);
        }
    }

    /// As `scale`, and nothing at all where the size is right.
    pub(super) fn resize(&mut self, replicas: i32, bounds: Bounds) {
        if self.replicas() != replicas {
            self.scale(replicas, bounds);
        }
    }

    fn write(&self) -> Option<Planned> {
        if Arc::ptr_eq(&self.before, &self.after) || self.before == self.after {
            return None;
        }
        let (old, new) = (replicas(&self.before), self.replicas());
        let succeeded = (old != new).then(|| scaled(self.name(), old, new));
        Some(Planned { succeeded, ..Write::update(&*self.after).into() })
    }
}

/// What users are told when a set's size changes; tools look for these words.
pub(super) fn scaled(name: &str, old: i32, new: i32) -> Report {
    let direction = if old < new { "up" } else { "down" };
    let message = format!("Scaled {direction} replica set {name} from {old} to {new}");
    Report::normal("ScalingReplicaSet", message)
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// All sets of a Deployment.
#[derive(Clone, Debug)]
pub(super) struct Sets {
    /// The set with the Deployment's template. Where there are several, the oldest: upstream
    /// `FindNewReplicaSet`.
    pub(super) new: Option<Set>,
    /// All others, the oldest first.
    pub(super) old: Vec<Set>,
}

impl Sets {
    pub(super) fn of(deployment: &Deployment, sets: Vec<Arc<ReplicaSet>>) -> Self {
        let mut sets: Vec<_> = sets.into_iter().map(Set::new).collect();
        sets.sort_by_key(age_order);
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        let new = sets
            .iter()
            .position(|set| template.is_some_and(|template| is_same(set.get(), template)));
        Self { new: new.map(|index| sets.remove(index)), old: sets }
    }

    /// The old ones, oldest first, and then the new one.
    pub(super) fn all(&self) -> impl Iterator<Item = &Set> {
        self.old.iter().chain(&self.new)
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Set> {
        self.old.iter_mut().chain(&mut self.new)
    }

    /// The pods that all sets together are to have.
    pub(super) fn replicas(&self) -> i32 {
        self.all().map(Set::replicas).sum()
    }

    pub(super) fn available(&self) -> i32 {
        self.all().map(Set::available).sum()
    }

    pub(super) fn lasting(&self) -> i32 {
        self.all().map(Set::lasting).sum()
    }

    pub(super) fn writes(&self) -> Vec<Planned> {
        self.all().filter_map(Set::write).collect()
    }
}

/// The older first, the name where they are of one age: upstream `ReplicaSetsByCreationTimestamp`.
pub(super) fn age_order(set: &Set) -> impl Ord + use<> {
    let metadata = &set.get().metadata;
    let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
    (created, set.name().to_owned())
}

/// The lower revision first: upstream `ReplicaSetsByRevision`.
pub(super) fn revision_order(set: &Set) -> impl Ord + use<> {
    (revision(set.get()).unwrap_or_default(), age_order(set))
}
