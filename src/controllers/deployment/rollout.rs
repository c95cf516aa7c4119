//! How the sets of a Deployment change size while one template takes the place of another.
//!
//! Upstream: pkg/controller/deployment/rolling.go, recreate.go and sync.go (v1.35).

use super::bounds::{Bounds, Strategy};
use super::draft::{Set, Sets, age_order};
use super::revision::{desired_replicas, max_replicas};
use std::cmp::Reverse;

/// How many pods a set with the Deployment's template should have, given those there are: upstream
/// `NewRSNewReplicas`.
pub(super) fn new_size(sets: &Sets, bounds: Bounds) -> i32 {
    let current = sets.new.as_ref().map_or(0, Set::replicas);
    match bounds.strategy {
        Strategy::Recreate => bounds.replicas,
        Strategy::RollingUpdate { .. } => {
            let room = bounds.pods_max().saturating_sub(sets.replicas()).max(0);
            current + room.min(bounds.replicas - current)
        }
    }
}

/// One step of a rolling update: the new set grows as far as it may, or else the old ones shrink.
pub(super) fn roll(sets: &mut Sets, bounds: Bounds) {
    let before = sets.new.as_ref().map(Set::replicas);
    let size = new_size(sets, bounds);
    if let Some(new) = &mut sets.new {
        new.resize(size, bounds);
    }
    if before == sets.new.as_ref().map(Set::replicas) {
        shrink_old(sets, bounds);
    }
}

/// Upstream `reconcileOldReplicaSets`. Pods of old sets that are not available go first: they help
/// nobody. Then as many others go as can be missed, not counting on pods of the new set that are not
/// available yet. Unlike upstream, nothing is done about sets that have not acknowledged their size.
fn shrink_old(sets: &mut Sets, bounds: Bounds) {
    let new_unavailable = sets.new.as_ref().map_or(0, |new| new.replicas() - new.lasting());
    let surplus = sets.replicas() - bounds.available_min() - new_unavailable;
    if surplus <= 0 {
        return;
    }
    let mut left = surplus;
    for set in sets.old.iter_mut().filter(|set| set.is_acknowledged()) {
        let unhealthy = (set.replicas() - set.lasting()).min(left);
        set.resize(set.replicas() - unhealthy, bounds);
        left -= unhealthy;
    }
    let mut left = (sets.lasting() - bounds.available_min()).max(0);
    for set in sets.old.iter_mut().filter(|set| set.is_acknowledged()) {
        let missed = set.replicas().min(left);
        set.resize(set.replicas() - missed, bounds);
        left -= missed;
    }
}

/// Says whether the Deployment was resized since its sets were last scaled: upstream
/// `isScalingEvent`.
pub(super) fn was_resized(sets: &Sets, bounds: Bounds) -> bool {
    let active = sets.all().filter(|set| set.replicas() > 0);
    active.filter_map(|set| desired_replicas(set.get())).any(|desired| desired != bounds.replicas)
}

/// Follows a change of the Deployment's size, without furthering a rollout that is under way:
/// upstream `scale`.
pub(super) fn follow_size(sets: &mut Sets, bounds: Bounds, reported_replicas: i32) {
    if let Some(only) = only_active_or_newest(sets) {
        only.scale(bounds.replicas, bounds);
        return;
    }
    let is_saturated = sets.new.as_ref().is_some_and(|new| {
        new.replicas() == bounds.replicas
            && desired_replicas(new.get()) == Some(bounds.replicas)
            && new.available() == bounds.replicas
    });
    if is_saturated {
        sets.old.iter_mut().for_each(|set| set.resize(0, bounds));
    } else if matches!(bounds.strategy, Strategy::RollingUpdate { .. }) {
        share_out(sets, bounds, reported_replicas);
    }
}

/// Upstream `FindActiveOrLatest`: `None` where several sets have pods.
fn only_active_or_newest(sets: &mut Sets) -> Option<&mut Set> {
    match sets.all().filter(|set| set.replicas() > 0).count() {
        0 => sets.new.as_mut().or(sets.old.last_mut()),
        1 => sets.all_mut().find(|set| set.replicas() > 0),
        _ => None,
    }
}

/// Gives each set with pods its share of what there is to add or take away, so that their sizes keep
/// their proportions: upstream `scale` and `GetReplicaSetProportion`.
fn share_out(sets: &mut Sets, bounds: Bounds, reported_replicas: i32) {
    let allowed = if bounds.replicas > 0 { bounds.pods_max() } else { 0 };
    let change = allowed - sets.replicas();
    let mut active: Vec<&mut Set> = sets.all_mut().filter(|set| set.replicas() > 0).collect();
    // Larger ones first; of two alike, the newer grows and the older shrinks.
    active.sort_by_key(|set| age_order(set));
    if change > 0 {
        active.reverse();
    }
    active.sort_by_key(|set| Reverse(set.replicas()));
    let mut shared = 0;
    let mut sizes = Vec::with_capacity(active.len());
    for set in &active {
        let left = change - shared;
        let share = fraction(set, bounds, reported_replicas);
        let share = match change {
            0 => 0,
            1.. => share.min(left),
            _ => share.max(left),
        };
        shared += share;
        sizes.push(set.replicas() + share);
    }
    if let Some(largest) = sizes.first_mut() {
        *largest = (*largest + change - shared).max(0);
    }
    for (set, size) in active.into_iter().zip(sizes) {
        set.scale(size, bounds);
    }
}

/// By how much a set's size would have to change to keep its part of the whole: upstream
/// `getReplicaSetFraction`.
fn fraction(set: &Set, bounds: Bounds, reported_replicas: i32) -> i32 {
    if bounds.replicas == 0 {
        return -set.replicas();
    }
    let before = max_replicas(set.get()).filter(|max| *max > 0).unwrap_or(reported_replicas);
    if before == 0 {
        return 0;
    }
    let scaled = i64::from(set.replicas()) * i64::from(bounds.pods_max());
    // Rounded half away from zero; nothing here is negative.
    let rounded = (2 * scaled + i64::from(before)) / (2 * i64::from(before));
    i32::try_from(rounded).unwrap_or(i32::MAX) - set.replicas()
}
