//! How many pods a Job is to have now: which to make, which to remove.
//!
//! Follows upstream `manageJob` (pkg/controller/job/job_controller.go, v1.35).

use super::backoff::wait_of_index;
use super::look::{Look, completion_index, has_finalizer, index_failures_of_all};
use super::render::render_pod;
use super::track::untrack_unchanged;
use crate::api::pod::{is_bound, is_ready, phase};
use crate::control::{Detail, Planned, Report, Write};
use crate::controllers::availability::{is_terminating, ready_since};
use crate::controllers::slow_start::{BURST_PODS_MAX, slow_start};
use k8s_openapi::api::core::v1::Pod;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

/// What is done about the pods, and what that will have changed.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) steps: Vec<Vec<Planned>>,
    pub(super) created: usize,
    pub(super) deleted: usize,
    pub(super) deleted_ready: usize,
    pub(super) recheck_after: Option<Duration>,
}

impl Change {
    /// Removes pods that are not to count any more: first from the count, then from the cluster.
    fn remove(pods: &[&Pod]) -> Self {
        let tracked = pods.iter().filter(|pod| has_finalizer(pod));
        let untracked: Vec<Planned> = tracked.map(|pod| untrack_unchanged(pod).into()).collect();
        let mut change = Self::delete(pods);
        if !untracked.is_empty() {
            change.steps.insert(0, untracked);
        }
        change
    }

    /// Deletes pods that will count, once they are looked at again.
    pub(super) fn delete(pods: &[&Pod]) -> Self {
        let delete = |pod: &&Pod| Planned {
            write: Write::delete(*pod),
            succeeded: Some(Report::normal("SuccessfulDelete", "Deleted pod: ").with(Detail::Name)),
            failed: Some(Report::warning("FailedDelete", "Error deleting: ").with(Detail::Error)),
        };
        let deletes: Vec<Planned> = pods.iter().map(delete).collect();
        Self {
            deleted: deletes.len(),
            deleted_ready: pods.iter().filter(|pod| is_ready(pod)).count(),
            steps: if deletes.is_empty() { Vec::new() } else { vec![deletes] },
            ..Self::default()
        }
    }

    fn wait(after: Duration) -> Self {
        Self { recheck_after: Some(after), ..Self::default() }
    }
}

pub(super) fn scale(look: &Look<'_>) -> Change {
    if look.is_suspended() {
        return Change::remove(&look.active);
    }
    let wanted = wanted_active(look);
    let surplus = surplus(look, look.active.len().saturating_sub(wanted));
    if !surplus.is_empty() {
        return Change::remove(&surplus[..surplus.len().min(BURST_PODS_MAX)]);
    }
    // Where pods are replaced only once they have ended, those on their way out still count.
    let leaving = if look.replaces_only_failed() { look.terminating() } else { 0 };
    let missing = wanted.saturating_sub(look.active.len() + leaving).min(BURST_PODS_MAX);
    if missing == 0 {
        return Change::default();
    }
    if !look.has_limit_per_index()
        && let Some(wait) = look.failures.wait(look.now)
    {
        return Change::wait(wait);
    }
    create(look, missing)
}

/// As many as are still to succeed, and no more at once than may be.
fn wanted_active(look: &Look<'_>) -> usize {
    let count = |count: Option<i32>| usize::try_from(count.unwrap_or_default()).unwrap_or_default();
    let parallelism = count(look.spec.parallelism);
    match look.spec.completions {
        Some(_) => count(look.spec.completions).saturating_sub(look.succeeded()).min(parallelism),
        // One success is enough: those that run may end, and no others begin.
        None if look.succeeded() > 0 => look.active.len(),
        None => parallelism,
    }
}

/// The pods to remove, `at_least` so many: upstream `activePodsForRemoval`. Beyond upstream, a pod
/// that runs without the finalizer goes too: a removal was cut short there, and no count would ever
/// have it.
fn surplus<'a>(look: &Look<'a>, at_least: usize) -> Vec<&'a Pod> {
    let mut ranked = look.active.clone();
    ranked.sort_by_key(|pod| removal_rank(pod));
    let (mut kept, mut removed) = (Vec::new(), Vec::new());
    let mut kept_indexes = BTreeSet::new();
    // The last of an index in this order is the one to keep.
    for pod in ranked.into_iter().rev() {
        let is_wanted = has_finalizer(pod)
            && (!look.is_indexed()
                || look.valid_index(pod).is_some_and(|index| kept_indexes.insert(index)));
        if is_wanted { kept.push(pod) } else { removed.push(pod) }
    }
    let more = at_least.saturating_sub(removed.len());
    removed.extend(kept.iter().rev().take(more));
    removed
}

/// Pods that have come less far go first: upstream `ActivePods` (pkg/controller/controller_utils.go).
fn removal_rank(pod: &Pod) -> impl Ord + use<> {
    let phase_rank = match phase(pod) {
        "Unknown" => 1,
        "Running" => 2,
        _ => 0,
    };
    let containers =
        pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let restarts = containers.map(|container| container.restart_count).max().unwrap_or_default();
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (
        (is_bound(pod), phase_rank, is_ready(pod)),
        Reverse((ready_since(pod), restarts, created)),
        pod.metadata.name.clone(),
    )
}

fn create(look: &Look<'_>, missing: usize) -> Change {
    let pods = if look.is_indexed() {
        let (ready, wait) = indexes_to_create(look, missing);
        if let (true, Some(wait)) = (ready.is_empty(), wait) {
            return Change::wait(wait);
        }
        ready.into_iter().map(|index| creation(&render_pod(look, Some(index)))).collect()
    } else {
        vec![creation(&render_pod(look, None)); missing]
    };
    let created = pods.len();
    Change { steps: batches(pods), created, ..Change::default() }
}

fn batches(writes: Vec<Planned>) -> Vec<Vec<Planned>> {
    let sizes = slow_start(writes.len());
    let mut writes = writes.into_iter();
    sizes.map(|size| writes.by_ref().take(size).collect()).collect()
}

fn creation(pod: &Pod) -> Planned {
    Planned {
        write: Write::create(pod),
        succeeded: Some(Report::normal("SuccessfulCreate", "Created pod: ").with(Detail::Name)),
        failed: Some(Report::warning("FailedCreate", "Error creating: ").with(Detail::Error)),
    }
}

/// The lowest indexes that are neither done nor under way and need not wait, and for how long the
/// first of the others waits: upstream `firstPendingIndexes` and
/// `getPodCreationInfoForIndependentIndexes`.
fn indexes_to_create(look: &Look<'_>, count: usize) -> (Vec<i32>, Option<Duration>) {
    let is_leaving = |pod: &&&Pod| look.replaces_only_failed() && is_terminating(pod);
    let leaving = look.pods.iter().filter(is_leaving);
    let under_way = look.active.iter().chain(leaving).filter_map(|pod| completion_index(pod));
    let mut taken = look.succeeded_indexes.union(&under_way.collect());
    if let Some(failed) = &look.failed_indexes {
        taken = taken.union(failed);
    }
    let (mut ready, mut first_wait) = (Vec::new(), None::<Duration>);
    for index in taken.first_missing(count, look.completions()) {
        let failed = look.awaiting_replacement.get(&index);
        let wait = failed.and_then(|pod| wait_of_index(pod, index_failures_of_all(pod), look.now));
        match wait {
            None => ready.push(index),
            Some(wait) => first_wait = Some(first_wait.map_or(wait, |first| first.min(wait))),
        }
    }
    (ready, first_wait)
}
