//! The decision about a CronJob: which jobs to make, which to remove, and what to say.
//!
//! Follows upstream `syncCronJob` (pkg/controller/cronjob/cronjob_controllerv2.go, v1.35), with one
//! difference: a job that was made for a time is known by its annotation, so that a restart between
//! making it and saying so loses nothing.

use super::times::{Calendar, NeverDue, Since};
use crate::api::owner::controller_reference;
use crate::client::{DeleteOptions, Propagation, ResourceType, key_of, object_reference};
use crate::control::{Attempt, Detail, Plan, Planned, Report, Write};
use crate::controllers::job_end::{JobEnd, job_end};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// The time for which a job was made.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub cron_job: Arc<CronJob>,
    /// The schedule in its time zone, or the reason and the message of why there is none.
    pub calendar: Result<Calendar, (&'static str, String)>,
    /// The jobs that it controls.
    pub jobs: Vec<Arc<Job>>,
    /// Names of other jobs in its namespace that begin like its own.
    pub others: BTreeSet<String>,
    /// Uids of its active jobs that are gone, according to the API server itself.
    pub gone: BTreeSet<String>,
    pub attempt: Attempt,
}

pub fn plan(observed: &Observed) -> Plan {
    let cron_job = &*observed.cron_job;
    let Some(spec) = &cron_job.spec else { return Plan::default() };
    let mut draft = Draft::of(observed, spec);
    draft.follow_jobs();
    draft.forget_the_gone();
    draft.remove_history();
    if cron_job.metadata.deletion_timestamp.is_none() && spec.suspend != Some(true) {
        draft.schedule();
    }
    draft.finish()
}

struct Draft<'a> {
    observed: &'a Observed,
    spec: &'a CronJobSpec,
    status: CronJobStatus,
    deletes: Vec<Planned>,
    create: Option<Planned>,
    reports: Vec<Report>,
    recheck_after: Option<Duration>,
}

impl<'a> Draft<'a> {
    fn of(observed: &'a Observed, spec: &'a CronJobSpec) -> Self {
        Self {
            observed,
            spec,
            status: observed.cron_job.status.clone().unwrap_or_default(),
            deletes: Vec::new(),
            create: None,
            reports: Vec::new(),
            recheck_after: None,
        }
    }

    fn active(&self) -> &[ObjectReference] {
        self.status.active.as_deref().unwrap_or_default()
    }

    fn is_active(&self, job: &Job) -> bool {
        self.active().iter().any(|active| active.uid == job.metadata.uid)
    }

    fn end_activity(&mut self, uid: Option<&str>) {
        if let Some(active) = &mut self.status.active {
            active.retain(|active| active.uid.as_deref() != uid);
        }
        self.status.active.take_if(|active| active.is_empty());
    }

    /// Jobs that were made become active, those that have ended cease to be.
    fn follow_jobs(&mut self) {
        for job in &self.observed.jobs {
            let name = job.metadata.name.as_deref().unwrap_or_default();
            let made_for = scheduled_time(job).filter(|at| *at <= self.observed.attempt.now);
            let last = self.status.last_schedule_time.as_ref().map(|last| last.0);
            if made_for > last {
                self.status.last_schedule_time = made_for.map(Time);
            }
            match job_end(job) {
                None if self.is_active(job) => {}
                None if made_for.is_some() => {
                    let active = self.status.active.get_or_insert_default();
                    active.push(object_reference(&**job));
                }
                None => {
                    let message =
                        format!("Saw a job that the controller did not create or forgot: {name}");
                    self.reports.push(Report::warning("UnexpectedJob", message));
                }
                Some(end) => {
                    if self.is_active(job) {
                        self.end_activity(job.metadata.uid.as_deref());
                        let message = format!("Saw completed job: {name}, condition: {end}");
                        self.reports.push(Report::normal("SawCompletedJob", message));
                    }
                    self.note_success(job, end);
                }
            }
        }
    }

    fn note_success(&mut self, job: &Job, end: JobEnd) {
        let completed = job.status.as_ref().and_then(|status| status.completion_time.clone());
        let last = self.status.last_successful_time.as_ref().map(|last| last.0);
        if end == JobEnd::Complete && completed.as_ref().map(|completed| completed.0) > last {
            self.status.last_successful_time = completed;
        }
    }

    fn forget_the_gone(&mut self) {
        let is_gone = |active: &&ObjectReference| {
            active.uid.as_ref().is_some_and(|uid| self.observed.gone.contains(uid))
        };
        let gone: Vec<ObjectReference> = self.active().iter().filter(is_gone).cloned().collect();
        for job in gone {
            let message = format!("Active job went missing: {}", job.name.unwrap_or_default());
            self.reports.push(Report::normal("MissingJob", message));
            self.end_activity(job.uid.as_deref());
        }
    }

    /// Keeps the newest jobs of those that have ended: upstream `cleanupFinishedJobs`.
    fn remove_history(&mut self) {
        for (end, limit) in [
            (JobEnd::Complete, self.spec.successful_jobs_history_limit),
            (JobEnd::Failed, self.spec.failed_jobs_history_limit),
        ] {
            let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
            let ended = self.observed.jobs.iter().filter(|job| {
                job_end(job) == Some(end) && job.metadata.deletion_timestamp.is_none()
            });
            let mut ended: Vec<&Arc<Job>> = ended.collect();
            ended.sort_by_key(|job| {
                let start = job.status.as_ref().and_then(|status| status.start_time.as_ref());
                (start.is_none(), start.map(|start| start.0), job.metadata.name.clone())
            });
            let surplus = ended.len().saturating_sub(limit);
            self.deletes.extend(ended[..surplus].iter().map(|job| delete(job)));
        }
    }

    fn schedule(&mut self) {
        let observed = self.observed;
        if self.spec.schedule.contains("TZ") {
            let message = format!(
                "CRON_TZ or TZ used in schedule {:?} is not officially supported, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details",
                self.spec.schedule
            );
            self.reports.push(Report::warning("UnsupportedSchedule", message));
        }
        let calendar = match &observed.calendar {
            Ok(calendar) => calendar,
            Err((reason, message)) => {
                self.reports.push(Report::warning(reason, message.clone()));
                return;
            }
        };
        let since = self.since();
        let scheduled = match calendar.due(since) {
            Ok(due) => {
                if due.many_missed {
                    let message = "too many missed start times. Set or decrease \
                                   .spec.startingDeadlineSeconds or check clock skew";
                    self.reports.push(Report::warning("TooManyMissedTimes", message));
                }
                due.latest
            }
            Err(error @ NeverDue) => {
                let message = format!("invalid schedule: {} : {error}", self.spec.schedule);
                self.reports.push(Report::warning("InvalidSchedule", message));
                return;
            }
        };
        if let Some(scheduled) = scheduled {
            self.act_on(scheduled, &calendar.zone);
        }
        let next = calendar.next_after(since).map(|next| next.duration_since(since.now));
        self.recheck_after = next.and_then(|left| Duration::try_from(left).ok());
    }

    fn since(&self) -> Since {
        let created = &self.observed.cron_job.metadata.creation_timestamp;
        let last = self.status.last_schedule_time.as_ref().or(created.as_ref());
        let now = self.observed.attempt.now;
        let deadline = self.spec.starting_deadline_seconds.map(SignedDuration::from_secs);
        Since { last: last.map_or(now, |last| last.0), deadline, now }
    }

    /// A time of the schedule has come.
    fn act_on(&mut self, scheduled: Timestamp, zone: &TimeZone) {
        let Since { deadline, now, .. } = self.since();
        if deadline.is_some_and(|deadline| scheduled + deadline < now) {
            let at = scheduled.strftime("%a, %d %b %Y %H:%M:%S +0000");
            let message = format!("Missed scheduled time to start a job: {at}");
            self.reports.push(Report::warning("MissSchedule", message));
            return;
        }
        let job = render_job(&self.observed.cron_job, self.spec, scheduled, zone);
        let name = job.metadata.name.clone().unwrap_or_default();
        let is_made =
            self.observed.jobs.iter().any(|job| job.metadata.name.as_ref() == Some(&name));
        if is_made || self.observed.others.contains(&name) {
            return;
        }
        match self.spec.concurrency_policy.as_deref() {
            Some("Forbid") if !self.active().is_empty() => {
                let message = "Not starting job because prior execution is running and \
                               concurrency policy is Forbid";
                self.reports.push(Report::normal("JobAlreadyActive", message));
                return;
            }
            Some("Replace") => {
                let jobs = self.observed.jobs.iter();
                let active: Vec<&Arc<Job>> = jobs.filter(|job| self.is_active(job)).collect();
                for job in active {
                    self.deletes.push(delete(job));
                    self.end_activity(job.metadata.uid.as_deref());
                }
            }
            _ => {}
        }
        self.create = Some(Planned {
            write: Write::create(&job),
            succeeded: Some(Report::normal("SuccessfulCreate", "Created job ").with(Detail::Name)),
            failed: Some(
                Report::warning("FailedCreate", "Error creating job: ").with(Detail::Error),
            ),
        });
    }

    fn finish(self) -> Plan {
        let cron_job = &*self.observed.cron_job;
        let mut plan = Plan { regarding: object_reference(cron_job), ..Plan::default() };
        plan.then(self.deletes);
        plan.then(self.create);
        if cron_job.status.as_ref() != Some(&self.status) {
            let reported = CronJob { status: Some(self.status), ..cron_job.clone() };
            plan.then([Write::update_status(&reported)]);
        }
        plan.reports = self.reports;
        plan.recheck_after = self.recheck_after;
        plan
    }
}

/// The time for which the job was made, if it was made for one.
fn scheduled_time(job: &Job) -> Option<Timestamp> {
    job.metadata.annotations.as_ref()?.get(SCHEDULED)?.parse().ok()
}

/// The name tells the time: no job is made twice for one.
fn render_job(
    cron_job: &CronJob,
    spec: &CronJobSpec,
    scheduled: Timestamp,
    zone: &TimeZone,
) -> Job {
    let template = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = template.annotations.unwrap_or_default();
    let shown = scheduled.to_zoned(zone.clone());
    let shown = if shown.offset().is_zero() {
        shown.strftime("%Y-%m-%dT%H:%M:%SZ")
    } else {
        shown.strftime("%Y-%m-%dT%H:%M:%S%:z")
    };
    annotations.insert(SCHEDULED.to_owned(), shown.to_string());
    let name = cron_job.metadata.name.as_deref().unwrap_or_default();
    let minutes = scheduled.as_second().div_euclid(60);
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{minutes}")),
            namespace: cron_job.metadata.namespace.clone(),
            labels: template.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(cron_job)]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    }
}

/// The pods of the job go after it.
fn delete(job: &Arc<Job>) -> Planned {
    let write = Write::Delete {
        resource: ResourceType::of::<Job>(),
        key: key_of(&job.metadata),
        options: DeleteOptions {
            uid: job.metadata.uid.clone(),
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        },
    };
    Planned {
        write,
        succeeded: Some(Report::normal("SuccessfulDelete", "Deleted job ").with(Detail::Name)),
        failed: Some(Report::warning("FailedDelete", "Deleted job: ").with(Detail::Error)),
    }
}
