//! A Job and its pods as the plan sees them: what counts, what has counted already, what is over.

use super::backoff::{Failures, finished_at};
use super::indexes::Indexes;
use super::policy::{FailureAction, failure_action};
use crate::api::pod::{is_active, phase};
use crate::controllers::availability::is_terminating;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet};

/// While a pod has it, the pod is not in the Job's counts: it stays until it is.
pub(super) const TRACKING_FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub(super) const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub(super) const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub(super) const INDEX_IGNORED_FAILURES: &str =
    "batch.kubernetes.io/job-index-ignored-failure-count";

const FINISHED: [&str; 2] = ["Complete", "Failed"];

/// See the module.
#[derive(Debug)]
pub(super) struct Look<'a> {
    pub(super) job: &'a Job,
    pub(super) spec: &'a JobSpec,
    pub(super) status: JobStatus,
    /// All pods of the Job, by completion index and name.
    pub(super) pods: Vec<&'a Pod>,
    pub(super) active: Vec<&'a Pod>,
    pub(super) failures: &'a Failures,
    /// The indexes that had succeeded by the status.
    pub(super) counted_indexes: Indexes,
    /// Those, and the ones of pods that are not counted yet. Empty where there are no indexes.
    pub(super) succeeded_indexes: Indexes,
    /// Only where indexes have a back-off limit of their own.
    pub(super) failed_indexes: Option<Indexes>,
    /// The failed pod of each index that waits for its replacement, which is to inherit its counts.
    pub(super) awaiting_replacement: BTreeMap<i32, &'a Pod>,
    pub(super) now: Timestamp,
}

impl<'a> Look<'a> {
    pub(super) fn new(
        job: &'a Job,
        mut pods: Vec<&'a Pod>,
        failures: &'a Failures,
        now: Timestamp,
    ) -> Option<Self> {
        pods.sort_by_key(|pod| (completion_index(pod), &pod.metadata.name));
        let mut look = Self {
            job,
            spec: job.spec.as_ref()?,
            status: job.status.clone().unwrap_or_default(),
            active: pods.iter().copied().filter(|pod| is_active(pod)).collect(),
            pods,
            failures,
            counted_indexes: Indexes::default(),
            succeeded_indexes: Indexes::default(),
            failed_indexes: None,
            awaiting_replacement: BTreeMap::new(),
            now,
        };
        if look.is_indexed() {
            look.find_indexes();
        }
        Some(look)
    }

    /// Upstream `calculateSucceededIndexes`, `calculateFailedIndexes` and
    /// `getPodsWithDelayedDeletionPerIndex` (indexed_job_utils.go).
    fn find_indexes(&mut self) {
        let completions = self.completions();
        let known = self.status.completed_indexes.as_deref().unwrap_or_default();
        self.counted_indexes = Indexes::parse(known, completions);
        let uncounted = |pod: &&&Pod| has_finalizer(pod) && self.valid_index(pod).is_some();
        let tracked: Vec<&'a Pod> = self.pods.iter().filter(uncounted).copied().collect();
        let indexes_of = |is_wanted: &dyn Fn(&Pod) -> bool| -> Indexes {
            let wanted = tracked.iter().filter(|pod| is_wanted(pod));
            wanted.filter_map(|pod| self.valid_index(pod)).collect()
        };
        let succeeded = indexes_of(&|pod| phase(pod) == "Succeeded");
        let failed = self.has_limit_per_index().then(|| {
            let known = self.status.failed_indexes.as_deref().unwrap_or_default();
            let new = indexes_of(&|pod| self.fails_its_index(pod));
            Indexes::parse(known, completions).union(&new)
        });
        self.succeeded_indexes = self.counted_indexes.union(&succeeded);
        self.failed_indexes = failed;
        if self.has_limit_per_index() {
            self.awaiting_replacement = self.find_replaced(&tracked);
        }
    }

    /// The last failure of each index that is neither done nor active.
    fn find_replaced(&self, tracked: &[&'a Pod]) -> BTreeMap<i32, &'a Pod> {
        let active: BTreeSet<i32> =
            self.active.iter().filter_map(|pod| completion_index(pod)).collect();
        let mut last: BTreeMap<i32, &'a Pod> = BTreeMap::new();
        for pod in tracked.iter().filter(|pod| self.is_failed(pod)) {
            let Some(index) = self.valid_index(pod) else { continue };
            let is_failed =
                self.failed_indexes.as_ref().is_some_and(|failed| failed.contains(index));
            if is_failed || self.succeeded_indexes.contains(index) || active.contains(&index) {
                continue;
            }
            let rank = |pod: &Pod| (index_failures_of_all(pod), finished_at(pod));
            let kept = last.entry(index).or_insert(pod);
            let (kept_failures, kept_end) = rank(kept);
            let (failures, end) = rank(pod);
            if kept_failures <= failures && kept_end <= end {
                *kept = pod;
            }
        }
        last
    }

    pub(super) fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    /// The number of completions; for an Indexed Job there always is one.
    pub(super) fn completions(&self) -> i32 {
        self.spec.completions.unwrap_or_default()
    }

    pub(super) fn has_limit_per_index(&self) -> bool {
        self.is_indexed() && self.spec.backoff_limit_per_index.is_some()
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    pub(super) fn is_going(&self) -> bool {
        self.job.metadata.deletion_timestamp.is_some()
    }

    pub(super) fn replaces_only_failed(&self) -> bool {
        replaces_only_failed(self.spec)
    }

    pub(super) fn is_failed(&self, pod: &Pod) -> bool {
        is_failed(self.spec, pod)
    }

    pub(super) fn failure_action(&self, pod: &Pod) -> FailureAction {
        failure_action(self.spec.pod_failure_policy.as_ref(), pod)
    }

    /// Upstream `isIndexFailed`.
    fn fails_its_index(&self, pod: &Pod) -> bool {
        if !self.is_failed(pod) {
            return false;
        }
        match self.failure_action(pod) {
            FailureAction::FailIndex => true,
            FailureAction::Ignore => false,
            FailureAction::Count | FailureAction::FailJob { .. } => {
                let limit = self.spec.backoff_limit_per_index.unwrap_or(i32::MAX);
                annotated_count(pod, INDEX_FAILURES) >= limit
            }
        }
    }

    /// The pod's index where it is one that the Job asks for.
    pub(super) fn valid_index(&self, pod: &Pod) -> Option<i32> {
        completion_index(pod).filter(|index| *index < self.completions())
    }

    /// Whether the pod is in no count yet, and will be: upstream `getValidPodsWithFilter`.
    fn is_new(&self, pod: &Pod, counted: Option<&Vec<String>>) -> bool {
        has_finalizer(pod)
            && !contains_uid(counted, pod)
            && (!self.is_indexed() || self.valid_index(pod).is_some())
    }

    /// Pods that have succeeded, with those that no count has yet.
    pub(super) fn succeeded(&self) -> usize {
        if self.is_indexed() {
            return self.succeeded_indexes.len();
        }
        let uncounted = self.uncounted_succeeded();
        let is_new = |pod: &&&Pod| phase(pod) == "Succeeded" && self.is_new(pod, uncounted);
        counted(self.status.succeeded)
            + uncounted.map_or(0, Vec::len)
            + self.pods.iter().filter(is_new).count()
    }

    /// Pods that have failed and were not ignored, with those that no count has yet.
    pub(super) fn failed(&self) -> usize {
        let uncounted = self.uncounted_failed();
        let is_new = |pod: &&&Pod| {
            self.is_failed(pod) && self.is_new(pod, uncounted) && self.failure_action(pod).counts()
        };
        counted(self.status.failed)
            + uncounted.map_or(0, Vec::len)
            + self.pods.iter().filter(is_new).count()
    }

    pub(super) fn terminating(&self) -> usize {
        self.pods.iter().filter(|pod| is_terminating(pod)).count()
    }

    pub(super) fn uncounted_succeeded(&self) -> Option<&Vec<String>> {
        self.status.uncounted_terminated_pods.as_ref()?.succeeded.as_ref()
    }

    pub(super) fn uncounted_failed(&self) -> Option<&Vec<String>> {
        self.status.uncounted_terminated_pods.as_ref()?.failed.as_ref()
    }
}

/// Whether pods are replaced only once they have ended (upstream `onlyReplaceFailedPods`).
fn replaces_only_failed(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
}

/// Whether the pod counts as failed: a pod that was deleted does too, since it may never come to
/// say how it ended (upstream `isPodFailed`).
pub(super) fn is_failed(spec: &JobSpec, pod: &Pod) -> bool {
    match phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => !replaces_only_failed(spec) && pod.metadata.deletion_timestamp.is_some(),
    }
}

pub(super) fn contains_uid(uids: Option<&Vec<String>>, pod: &Pod) -> bool {
    let uid = pod.metadata.uid.as_ref();
    uids.into_iter().flatten().any(|counted| Some(counted) == uid)
}

fn counted(count: Option<i32>) -> usize {
    usize::try_from(count.unwrap_or_default()).unwrap_or_default()
}

/// Whether the Job is over, one way or the other (upstream `IsJobFinished`).
pub(super) fn is_finished(job: &Job) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|it| it.status == "True" && FINISHED.contains(&it.type_.as_str()))
}

pub(super) fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == TRACKING_FINALIZER)
}

/// The index of a pod of an Indexed Job.
pub(super) fn completion_index(pod: &Pod) -> Option<i32> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(COMPLETION_INDEX)?.parse().ok().filter(|index| *index >= 0)
}

/// A count that a pod inherited from the pod before it.
pub(super) fn annotated_count(pod: &Pod, annotation: &str) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let text = annotations.and_then(|annotations| annotations.get(annotation));
    text.and_then(|text| text.parse().ok()).filter(|count| *count >= 0).unwrap_or_default()
}

/// All failures of an index before this pod, ignored ones too.
pub(super) fn index_failures_of_all(pod: &Pod) -> i32 {
    annotated_count(pod, INDEX_FAILURES)
        .saturating_add(annotated_count(pod, INDEX_IGNORED_FAILURES))
}
