//! Runs the pods of a Job until so many have succeeded, or too many have failed.
//!
//! Start at [`plan()`]; how pods are counted is in [`track`]. What upstream's controller keeps in
//! memory is told from the pods here; only the times of failures are remembered for pods that are
//! gone.

mod backoff;
mod indexes;
mod look;
mod plan;
mod policy;
mod render;
mod scale;
#[cfg(test)]
mod tests;
mod track;
mod verdict;

pub use backoff::Failures;
pub use plan::{Observed, ObservedJob, plan};

use super::Caches;
use super::ownership::{concerned, matches, stays};
use crate::api::ObjectKey;
use crate::api::owner::controller_of;
use crate::client::{Cache, Client, ResourceType, Seen, key_of};
use crate::control::{Attempt, Controller, Plan, Queue};
use k8s_openapi::Resource as _;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use look::{has_finalizer, is_failed, is_finished};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Changes of pods are looked at after this long, all of a Job's at once: a hundred pods that end
/// together are a few writes of the status. (Upstream's `SyncJobBatchPeriod` is a second.)
const POD_CHANGES_BATCH: Duration = Duration::from_millis(50);

/// The value of `managedBy` that means this controller.
const MANAGED_BY_US: &str = "kubernetes.io/job-controller";

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Job(ObjectKey),
    /// A pod that may be left without a Job.
    Pod(ObjectKey),
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(key) => write!(formatter, "{key}"),
            Self::Pod(key) => write!(formatter, "pod {key}"),
        }
    }
}

/// Looks at Jobs and their pods.
#[derive(Debug)]
pub struct JobController {
    client: Client,
    jobs: Arc<Cache<Job>>,
    pods: Arc<Cache<Pod>>,
    /// Of the Jobs that are not over, with their uids.
    failures: Mutex<BTreeMap<ObjectKey, (String, Failures)>>,
}

impl JobController {
    /// `client` is asked only whether a Job that is to adopt pods is still there.
    #[must_use]
    pub fn new(client: Client, caches: &Caches) -> Self {
        let (jobs, pods) = (Arc::clone(&caches.jobs), Arc::clone(&caches.pods));
        Self { client, jobs, pods, failures: Mutex::default() }
    }

    /// Queues a Job when it or one of its pods changes, and pods that a Job has left behind.
    #[must_use]
    pub fn queue(&self) -> Queue<Key> {
        let queue = Queue::new();
        let (changed, pods) = (queue.clone(), Arc::clone(&self.pods));
        self.jobs.on_change(move |change| {
            changed.add(&Key::Job(change.key.clone()));
            let is_over = change.new.as_ref().is_none_or(|job| is_finished(job));
            let job = change.new.as_ref().or(change.old.as_ref()).filter(|_| is_over);
            let uid = job.and_then(|job| job.metadata.uid.as_deref());
            for pod in uid.map(|uid| pods.owned_by(uid)).unwrap_or_default() {
                if has_finalizer(&pod) {
                    changed.add(&Key::Pod(key_of(&pod.metadata)));
                }
            }
        });
        let (changed, jobs) = (queue.clone(), Arc::clone(&self.jobs));
        self.pods.on_change(move |change| {
            for key in concerned(change, &jobs, selects) {
                changed.add_after(&Key::Job(key), POD_CHANGES_BATCH);
            }
            if change.new.as_ref().is_some_and(|pod| is_left_behind(pod, &jobs)) {
                changed.add(&Key::Pod(change.key.clone()));
            }
        });
        queue
    }

    async fn observe_job(&self, key: &ObjectKey, attempt: Attempt) -> Option<ObservedJob> {
        let job = self.jobs.get(key).filter(|job| is_ours(job) && !is_finished(job));
        let Some(job) = job else {
            self.failures.lock().expect("no panics under this lock").remove(key);
            return None;
        };
        let uid = job.metadata.uid.as_deref()?;
        let selector = plan::selector(&job)?;
        let mut pods = self.pods.owned_by(uid);
        let failures = self.learn_failures(key, &job, &pods);
        let orphans = self.pods.list_where(key.namespace.as_deref()?, |pod| {
            pod.metadata.deletion_timestamp.is_none()
                && controller_of(&pod.metadata).is_none()
                && matches(&selector, &pod.metadata)
        });
        let may_adopt = !orphans.is_empty() && stays(&self.client, &*job).await;
        pods.extend(orphans);
        Some(ObservedJob { job, pods, may_adopt, failures, attempt })
    }

    fn learn_failures(&self, key: &ObjectKey, job: &Job, pods: &[Arc<Pod>]) -> Failures {
        let uid = job.metadata.uid.clone().unwrap_or_default();
        let mut all = self.failures.lock().expect("no panics under this lock");
        let (known_uid, failures) = all.entry(key.clone()).or_default();
        if *known_uid != uid {
            (*known_uid, *failures) = (uid, Failures::default());
        }
        if let Some(spec) = &job.spec {
            failures.learn(pods.iter().map(|pod| &**pod), |pod| delays_others(spec, pod));
        }
        failures.clone()
    }
}

impl Controller for JobController {
    const NAME: &'static str = "job-controller";
    type Key = Key;
    type Observed = Observed;

    async fn observe(&self, key: &Key, attempt: Attempt) -> Option<Observed> {
        match key {
            Key::Job(key) => {
                let observed = self.observe_job(key, attempt).await?;
                Some(Observed::Job(Box::new(observed)))
            }
            Key::Pod(key) => {
                let pod = self.pods.get(key)?;
                is_left_behind(&pod, &self.jobs).then_some(Observed::Orphan(pod))
            }
        }
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (ResourceType::of::<Job>(), Arc::clone(&self.jobs) as Arc<dyn Seen>),
            (ResourceType::of::<Pod>(), Arc::clone(&self.pods) as Arc<dyn Seen>),
        ]
    }
}

/// Whether the pod's end delays the next pods. A pod that was taken out of the count and then
/// deleted has not failed: there were too many, or the Job was suspended.
fn delays_others(spec: &JobSpec, pod: &Pod) -> bool {
    is_failed(spec, pod) && (has_finalizer(pod) || pod.metadata.deletion_timestamp.is_none())
}

/// Whether no other controller has been named for the Job.
fn is_ours(job: &Job) -> bool {
    let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
    manager.is_none_or(|manager| manager == MANAGED_BY_US)
}

fn selects(job: &Job, metadata: &ObjectMeta) -> bool {
    plan::selector(job).is_some_and(|selector| matches(&selector, metadata))
}

/// Whether the pod has the finalizer of Jobs, and no Job that would ever take it off: upstream
/// `handleSingleOrphanPod`.
fn is_left_behind(pod: &Pod, jobs: &Cache<Job>) -> bool {
    if !has_finalizer(pod) {
        return false;
    }
    let Some(owner) = controller_of(&pod.metadata) else { return true };
    if owner.kind != Job::KIND || owner.api_version != Job::API_VERSION {
        return false;
    }
    let key = ObjectKey { namespace: pod.metadata.namespace.clone(), name: owner.name.clone() };
    let job = jobs.get(&key).filter(|job| job.metadata.uid.as_deref() == Some(owner.uid.as_str()));
    job.is_none_or(|job| is_ours(&job) && is_finished(&job))
}
