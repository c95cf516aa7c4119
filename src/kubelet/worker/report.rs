//! Writes the status of a pod to the API: only when it changes, one write at a time, the newest
//! always last, and again and again until it is there.

use super::job::Done;
use super::pod::{Failure, PodWorker};
use crate::client::{ClientError, Patch, revision_of};
use crate::kubelet::pod::patch::patch;
use crate::kubelet::pod::plan::PodPlan;
use crate::kubelet::pod::status::{Inputs, ResizeNews, status};
use crate::kubelet::pod::{BoundPod, PodFacts};
use crate::kubelet::static_pods::is_static;
use crate::kubelet::tally::Span;
use crate::stdx::chain;
use crate::stdx::json;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, warn};

/// After a write the cache shows it within this time, or the next look does without.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// What is to be reported and what has been.
#[derive(Debug)]
pub(super) struct Reporter {
    /// What is to be reported.
    wanted: PodStatus,
    /// What was written last.
    written: Option<Written>,
    under_way: bool,
    failure: Option<Failure>,
}

/// A status that the API has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    wanted: u64,
    /// What the API made of it: anything else later is somebody else's doing.
    in_api: u64,
}

impl Reporter {
    pub(super) fn new(pod: &BoundPod, now: Timestamp) -> Self {
        let mut wanted = pod.status();
        wanted.start_time.get_or_insert(Time(now));
        Self { wanted, written: None, under_way: false, failure: None }
    }

    /// The last status that was made for this pod.
    pub(super) fn last(&self) -> &PodStatus {
        &self.wanted
    }

    /// When a write that failed is tried again, unless that is under way.
    pub(super) fn retry_at(&self) -> Option<Timestamp> {
        let failure = self.failure.as_ref().filter(|_| !self.under_way)?;
        Some(failure.retry_at)
    }

    /// What has failed is tried again at once.
    pub(super) fn retry(&mut self) {
        self.failure = None;
    }

    /// Whether the API has what was to be reported.
    pub(super) fn is_done(&self, pod: &BoundPod) -> bool {
        !self.under_way && self.change(pod, pod.uid()).is_none()
    }

    /// Something is being written.
    pub(super) fn begin(&mut self) {
        self.under_way = true;
    }

    /// What is to be written.
    fn change(&self, pod: &BoundPod, uid: &str) -> Option<Value> {
        let change = patch(uid, &pod.status(), &self.wanted)?;
        // An API server that keeps something in another form than it was sent would be sent it for
        // ever.
        let now = Written { wanted: hash(&self.wanted), in_api: hash(&pod.status()) };
        (self.written != Some(now)).then_some(change)
    }

    pub(super) fn take(
        &mut self,
        pod: &BoundPod,
        wanted: u64,
        result: Result<(), ClientError>,
        now: Timestamp,
    ) {
        self.under_way = false;
        match result {
            Ok(()) => {
                self.failure = None;
                self.written = Some(Written { wanted, in_api: 0 });
            }
            // Gone, or another pod of the same name: the cache will show it.
            Err(error) if error.is_not_found() || error.is_conflict() => {
                debug!(%pod, error = chain(&error), "a status has no pod any more");
                self.failure = Some(Failure::after(self.failure.as_ref(), now));
            }
            Err(error) => {
                if self.failure.is_none() {
                    warn!(%pod, error = chain(&error), "cannot report a pod's status; will retry");
                }
                self.failure = Some(Failure::after(self.failure.as_ref(), now));
            }
        }
    }

    /// Remembers what the API made of the last write, at the first look after it.
    fn settle(&mut self, pod: &BoundPod) {
        if let Some(written) = self.written.as_mut().filter(|written| written.in_api == 0) {
            written.in_api = hash(&pod.status());
        }
    }
}

fn hash(status: &PodStatus) -> u64 {
    let mut hasher = DefaultHasher::new();
    let bytes = json::to_vec(status);
    bytes.hash(&mut hasher);
    // Zero means that it is not known.
    hasher.finish().max(1)
}

impl PodWorker {
    /// Makes the status, and begins to write it where the API has another.
    pub(super) fn report(&mut self, facts: &PodFacts, plan: &PodPlan, now: Timestamp) {
        let node = self.shared.node();
        let addresses = self.reported_addresses(facts);
        let wanted = status(&Inputs {
            pod: &self.pod,
            facts,
            last: &self.reporter.wanted,
            waiting: &self.waiting,
            probes: &self.probes,
            addresses: &addresses,
            node_addresses: &node.addresses,
            ending: plan.ending.as_ref().map(|ending| (ending, plan.ended)),
            resize: ResizeNews {
                denied: self.resizing.denied.as_ref(),
                error: self.resizing.error.as_deref(),
            },
            now,
        });
        let before = std::mem::replace(&mut self.reporter.wanted, wanted);
        if is_static(self.pod.object()) && before != self.reporter.wanted {
            self.shared.statics.note_status(self.pod.uid(), &self.reporter.wanted);
            self.shared.changes.send_replace(());
        }
        self.tell_of_resize(&before, &self.reporter.wanted);
        self.count_start(&before, now);
        self.write_report(now);
    }

    /// Notes how long it took until the pod ran.
    fn count_start(&self, before: &PodStatus, now: Timestamp) {
        let is_running = |status: &PodStatus| status.phase.as_deref() == Some("Running");
        if before.phase.as_deref() != Some("Pending") || !is_running(&self.reporter.wanted) {
            return;
        }
        let tally = &self.shared.tally;
        tally.note_span(Span::Start, self.began.elapsed(), true);
        let created = self.pod.object().metadata.creation_timestamp.as_ref();
        if let Some(Ok(age)) = created.map(|at| Duration::try_from(now.duration_since(at.0))) {
            tally.note_span(Span::StartSinceCreation, age, true);
        }
    }

    /// Begins to write what is to be reported, unless that is under way or has to wait.
    pub(super) fn write_report(&mut self, now: Timestamp) {
        let waits = self.reporter.retry_at().is_some_and(|retry_at| now < retry_at);
        if self.reporter.under_way || waits || self.gone {
            return;
        }
        self.reporter.settle(&self.pod);
        let Some(uid) = self.uid_in_api() else { return self.begin_mirror() };
        let Some(change) = self.reporter.change(&self.pod, &uid) else {
            self.reporter.failure = None;
            return;
        };
        self.reporter.under_way = true;
        let wanted = hash(&self.reporter.wanted);
        let (shared, key) = (Arc::clone(&self.shared), self.key());
        self.begin(Box::pin(async move {
            let patch = Patch::Strategic(change);
            let written = shared.client.patch::<Pod>(&key, &patch, Some("status")).await;
            let result = match written {
                Ok(pod) => {
                    if let Some(revision) = revision_of(&pod.metadata) {
                        let seen = shared.pods.wait_seen(revision);
                        // Late is no harm: a look at an older pod writes the same again.
                        tokio::time::timeout(SEEN_WITHIN, seen).await.ok();
                    }
                    Ok(())
                }
                Err(error) => Err(error),
            };
            Done::Reported { hash: wanted, result }
        }));
    }

    /// By which the API knows the pod. `None` for a static pod whose mirror is not there, or going.
    pub(super) fn uid_in_api(&self) -> Option<String> {
        let uid = self.shared.uid_in_api(&self.pod)?;
        let object = self.shared.pods.get(&self.pod.key());
        let goes = object.is_some_and(|it| it.metadata.deletion_timestamp.is_some());
        (!goes || uid == self.pod.uid()).then_some(uid)
    }

    /// The sandbox's addresses. Until it is known whether a sandbox that an earlier process made is
    /// on the network, those that the API has for it.
    fn reported_addresses(&self, facts: &PodFacts) -> Vec<IpAddr> {
        if facts.ready_sandbox().is_none() {
            return Vec::new();
        }
        if let Some(attached) = &self.attached {
            return attached.addresses.clone();
        }
        let known = self.reporter.wanted.pod_ips.iter().flatten();
        known.filter_map(|it| it.ip.parse().ok()).collect()
    }
}
