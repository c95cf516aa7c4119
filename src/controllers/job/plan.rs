//! The decision about a Job: what happens to its pods, and what its status says.

use super::backoff::Failures;
use super::look::{Look, TRACKING_FINALIZER};
use super::scale::{Change, scale};
use super::track::{shown, track, untrack};
use super::verdict::{SUSPENDED, Verdict, deadline_after, set_condition, verdict};
use crate::api::labels::Selector;
use crate::api::pod::is_ready;
use crate::client::object_reference;
use crate::control::{Attempt, Plan, Planned, Report, Write};
use crate::controllers::ownership::{Claims, matches};
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::sync::Arc;

/// Everything a decision may depend on.
#[derive(Clone, Debug)]
pub enum Observed {
    Job(Box<ObservedJob>),
    /// A pod that has the finalizer of Jobs and no Job that would ever take it off.
    Orphan(Arc<Pod>),
}

/// A Job that is not over, and its pods.
#[derive(Clone, Debug)]
pub struct ObservedJob {
    pub job: Arc<Job>,
    /// Pods of the Job's namespace: all that it controls and all that nobody controls and its
    /// selector matches.
    pub pods: Vec<Arc<Pod>>,
    /// The API server itself has said that the Job is there and stays. Asked only where there are
    /// pods to adopt.
    pub may_adopt: bool,
    /// What is known of the pods' failures, with those of pods that are gone.
    pub failures: Failures,
    pub attempt: Attempt,
}

pub fn plan(observed: &Observed) -> Plan {
    match observed {
        Observed::Job(observed) => plan_job(observed).unwrap_or_default(),
        Observed::Orphan(pod) => Plan::of([untrack(pod)]),
    }
}

pub(super) fn selector(job: &Job) -> Option<Selector> {
    Selector::of_object(job.spec.as_ref()?.selector.as_ref()).ok()
}

/// Upstream `syncJob` (pkg/controller/job/job_controller.go, v1.35). What it does in one go, from
/// naming the pods that have ended to counting them, is two looks here.
fn plan_job(observed: &ObservedJob) -> Option<Plan> {
    let job = &*observed.job;
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    let pods = observed.pods.iter().map(|pod| &**pod);
    let selector = selector(job)?;
    let claims = Claims::sort_out(uid, |metadata| matches(&selector, metadata), pods);
    let finalizer = Some(TRACKING_FINALIZER);
    if let Some(plan) = claims.plan_with(job, observed.may_adopt, finalizer) {
        return Some(plan);
    }
    let look = Look::new(job, claims.own, &observed.failures, observed.attempt.now)?;
    let early = verdict(&look);
    let change = match &early {
        Some(_) => Change::delete(&look.active),
        None if look.is_going() => Change::default(),
        None => scale(&look),
    };
    // After a look at which something failed, nothing is said before it is seen.
    let is_foretold = observed.attempt.failure.is_none();
    let counts = Counts::of(&look, &change, is_foretold);
    let verdict =
        early.or_else(|| is_complete(&look, counts.active).then(Verdict::completions_reached));
    let report = report(&look, &change, counts, verdict.as_ref());
    let status = (look.job.status.as_ref() != Some(&report.status)).then(|| {
        let reported = Job { status: Some(report.status), ..job.clone() };
        vec![Planned::from(Write::update_status(&reported))]
    });
    let mut plan = Plan { regarding: object_reference(job), ..Plan::default() };
    let (before, after) = if is_foretold { (None, status) } else { (status, None) };
    plan.steps = before.into_iter().chain(change.steps).chain(after).collect();
    plan.then(report.released.iter().map(|pod| untrack(pod)));
    plan.reports = report.events;
    let deadline = deadline_after(&look).filter(|_| verdict.is_none());
    plan.recheck_after = [change.recheck_after, deadline].into_iter().flatten().min();
    Some(plan)
}

/// How many pods there are, after a change of them.
#[derive(Clone, Copy)]
struct Counts {
    active: usize,
    ready: usize,
    terminating: usize,
}

impl Counts {
    fn of(look: &Look<'_>, change: &Change, is_foretold: bool) -> Self {
        let seen = Self {
            active: look.active.len(),
            ready: look.active.iter().filter(|pod| is_ready(pod)).count(),
            terminating: look.terminating(),
        };
        if !is_foretold {
            return seen;
        }
        Self {
            active: seen.active + change.created - change.deleted,
            ready: seen.ready - change.deleted_ready,
            terminating: seen.terminating + change.deleted,
        }
    }
}

/// What is told of a Job, and which pods are free once it is stored.
struct Told<'a> {
    status: JobStatus,
    released: Vec<&'a Pod>,
    events: Vec<Report>,
}

fn report<'a>(
    look: &Look<'a>,
    change: &Change,
    counts: Counts,
    verdict: Option<&Verdict>,
) -> Told<'a> {
    let mut status = look.status.clone();
    let mut events = Vec::new();
    if status.start_time.is_none() && !look.is_suspended() {
        status.start_time = Some(Time(look.now));
    }
    status.active = shown(counts.active);
    status.ready = i32::try_from(counts.ready).ok();
    status.terminating = i32::try_from(counts.terminating).ok();
    let tracked = track(look, verdict, &mut status);
    match verdict {
        Some(verdict) => {
            let is_over = tracked.is_settled
                && change.steps.is_empty()
                && counts.active + counts.terminating == 0;
            verdict.write(&mut status, is_over, look.now);
            if is_over {
                events = events_at_end(look, &status, verdict);
            }
        }
        None if look.is_going() => {}
        None => events.extend(suspend_or_resume(look, &mut status)),
    }
    Told { status, released: tracked.released, events }
}

/// Enough pods have succeeded, and no others run.
fn is_complete(look: &Look<'_>, active: usize) -> bool {
    let wanted =
        look.spec.completions.map_or(1, |count| usize::try_from(count).unwrap_or_default());
    look.succeeded() >= wanted && active == 0
}

fn suspend_or_resume(look: &Look<'_>, status: &mut JobStatus) -> Option<Report> {
    if look.is_suspended() {
        let why = ("JobSuspended", "Job suspended");
        return set_condition(status, SUSPENDED, "True", why, look.now)
            .then(|| Report::normal("Suspended", "Job suspended"));
    }
    let why = ("JobResumed", "Job resumed");
    set_condition(status, SUSPENDED, "False", why, look.now).then(|| {
        // The time for which a Job may be active begins anew.
        status.start_time = Some(Time(look.now));
        Report::normal("Resumed", "Job resumed")
    })
}

/// Upstream `recordJobFinished`.
fn events_at_end(look: &Look<'_>, status: &JobStatus, verdict: &Verdict) -> Vec<Report> {
    if verdict.is_failure() {
        // Reasons of events are constants; those of verdicts come back from the status.
        let reasons = [
            "BackoffLimitExceeded",
            "DeadlineExceeded",
            "PodFailurePolicy",
            "MaxFailedIndexesExceeded",
            "FailedIndexes",
        ];
        let reason = reasons.into_iter().find(|reason| *reason == verdict.reason);
        return vec![Report::warning(reason.unwrap_or("Failed"), verdict.message.clone())];
    }
    let mut events = Vec::new();
    if look.spec.completions.is_some_and(|wanted| status.succeeded.unwrap_or_default() > wanted) {
        let message = "Too many succeeded pods running after completion count reached";
        events.push(Report::warning("TooManySucceededPods", message));
    }
    events.push(Report::normal("Completed", "Job completed"));
    events
}
