//! The counts of a Job: how a pod that has ended gets into them once, and only once.
//!
//! A pod carries a finalizer until it is counted. First the status names it among the uncounted,
//! then the finalizer goes, and only when it is seen to be gone the count goes up and the name is
//! taken out. Whatever is cut short, the next look goes on from there. For the successes of an
//! Indexed Job, the index in the status is what keeps a pod from being counted again.
//!
//! Follows upstream `trackJobStatusAndRemoveFinalizers` (pkg/controller/job, v1.35).

use super::look::{Look, TRACKING_FINALIZER, contains_uid, has_finalizer};
use super::verdict::Verdict;
use crate::api::pod::phase;
use crate::client::Patch;
use crate::control::Write;
use k8s_openapi::api::batch::v1::{JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A status names at most this many uncounted pods, which keeps it below 20 KiB; the next looks name
/// the others. Upstream's `MaxUncountedPods`.
const UNCOUNTED_PODS_MAX: usize = 500;

/// What is written of the counts, and what may go once it is.
#[derive(Debug)]
pub(super) struct Tracked<'a> {
    /// The pods that need their finalizers no more, as soon as the status is stored.
    pub(super) released: Vec<&'a Pod>,
    /// Every pod that has ended is in the counts, and none is on its way.
    pub(super) is_settled: bool,
}

/// Brings the counts of `status` up to date.
pub(super) fn track<'a>(
    look: &Look<'a>,
    verdict: Option<&Verdict>,
    status: &mut JobStatus,
) -> Tracked<'a> {
    let mut uncounted = status.uncounted_terminated_pods.take().unwrap_or_default();
    count_those_seen(look, &mut uncounted, status);
    let mut new_indexes = BTreeSet::new();
    let mut released = Vec::new();
    let mut is_full = false;
    for pod in look.pods.iter().filter(|pod| has_finalizer(pod)) {
        if !may_release(look, verdict, pod) {
            continue;
        }
        released.push(*pod);
        match outcome(look, verdict, pod) {
            Outcome::SucceededIndex(index) => drop(new_indexes.insert(index)),
            Outcome::Succeeded => push(&mut uncounted.succeeded, pod),
            Outcome::Failed => push(&mut uncounted.failed, pod),
            Outcome::Uncounted => {}
        }
        let named = length(uncounted.succeeded.as_ref()) + length(uncounted.failed.as_ref());
        if new_indexes.len() + named >= UNCOUNTED_PODS_MAX {
            is_full = true;
            break;
        }
    }
    if look.is_indexed() {
        let counted = look.counted_indexes.union(&new_indexes.into_iter().collect());
        status.succeeded = shown(counted.len());
        status.completed_indexes = Some(counted.to_string()).filter(|text| !text.is_empty());
        status.failed_indexes = look.failed_indexes.as_ref().map(ToString::to_string);
    }
    let is_settled = released.is_empty()
        && !is_full
        && length(uncounted.succeeded.as_ref()) + length(uncounted.failed.as_ref()) == 0;
    status.uncounted_terminated_pods = Some(uncounted);
    Tracked { released, is_settled }
}

/// Counts the uncounted whose finalizers are gone: upstream `cleanUncountedPodsWithoutFinalizers`.
fn count_those_seen(look: &Look<'_>, named: &mut UncountedTerminatedPods, status: &mut JobStatus) {
    let tracked = look.pods.iter().filter(|pod| has_finalizer(pod));
    let tracked: BTreeSet<&str> = tracked.filter_map(|pod| pod.metadata.uid.as_deref()).collect();
    for (uids, count) in
        [(&mut named.succeeded, &mut status.succeeded), (&mut named.failed, &mut status.failed)]
    {
        let before = length(uids.as_ref());
        if let Some(uids) = uids {
            uids.retain(|uid| tracked.contains(uid.as_str()));
        }
        let counted = before - length(uids.as_ref());
        uids.take_if(|uids| uids.is_empty());
        if counted > 0 {
            let total = usize::try_from(count.unwrap_or_default()).unwrap_or_default() + counted;
            *count = shown(total);
        }
    }
}

/// Whether the pod has nothing more to tell: upstream `canRemoveFinalizer`.
fn may_release(look: &Look<'_>, verdict: Option<&Verdict>, pod: &Pod) -> bool {
    if look.is_going() || verdict.is_some() || phase(pod) == "Succeeded" {
        return true;
    }
    let awaits_replacement = || {
        let index = look.valid_index(pod);
        let last = index.and_then(|index| look.awaiting_replacement.get(&index));
        last.is_some_and(|last| last.metadata.uid == pod.metadata.uid)
    };
    look.is_failed(pod) && !awaits_replacement()
}

/// What a pod that is released adds to the counts.
enum Outcome {
    SucceededIndex(i32),
    Succeeded,
    Failed,
    /// Nothing, or it is named already.
    Uncounted,
}

fn outcome(look: &Look<'_>, verdict: Option<&Verdict>, pod: &Pod) -> Outcome {
    let is_named_failed = contains_uid(look.uncounted_failed(), pod);
    if phase(pod) == "Succeeded" && !is_named_failed {
        return if look.is_indexed() {
            let index =
                look.valid_index(pod).filter(|index| !look.counted_indexes.contains(*index));
            index.map_or(Outcome::Uncounted, Outcome::SucceededIndex)
        } else if contains_uid(look.uncounted_succeeded(), pod) {
            Outcome::Uncounted
        } else {
            Outcome::Succeeded
        };
    }
    // Once the Job has failed, so has every pod that has not succeeded.
    let is_failed = look.is_failed(pod) || verdict.is_some_and(Verdict::is_failure);
    let has_index = !look.is_indexed() || look.valid_index(pod).is_some();
    let counts = is_failed && !is_named_failed && has_index && look.failure_action(pod).counts();
    if counts { Outcome::Failed } else { Outcome::Uncounted }
}

fn push(uids: &mut Option<Vec<String>>, pod: &Pod) {
    uids.get_or_insert_default().extend(pod.metadata.uid.clone());
}

fn length(uids: Option<&Vec<String>>) -> usize {
    uids.map_or(0, Vec::len)
}

/// Zeros are left out of the object, as upstream's encoding leaves them out.
pub(super) fn shown(count: usize) -> Option<i32> {
    i32::try_from(count).ok().filter(|count| *count != 0)
}

/// Takes the finalizer off a pod that is counted.
pub(super) fn untrack(pod: &Pod) -> Write {
    remove_finalizer(json!({"uid": pod.metadata.uid}), pod)
}

/// Takes the finalizer off a pod that is not to count, unless it has changed: it may have ended
/// meanwhile, and would be lost. (Upstream does without this.)
pub(super) fn untrack_unchanged(pod: &Pod) -> Write {
    let (uid, version) = (&pod.metadata.uid, &pod.metadata.resource_version);
    remove_finalizer(json!({"uid": uid, "resourceVersion": version}), pod)
}

fn remove_finalizer(mut metadata: Value, pod: &Pod) -> Write {
    metadata["$deleteFromPrimitiveList/finalizers"] = json!([TRACKING_FINALIZER]);
    Write::patch(pod, Patch::Strategic(json!({"metadata": metadata})))
}
