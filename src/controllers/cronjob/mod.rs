//! Makes a Job whenever a CronJob's schedule says so, and removes those of long ago.
//!
//! Start at [`plan()`]; which times count is in [`times`]. A CronJob is looked at when it or one of
//! its jobs changes, and when its next time comes.

mod plan;
#[cfg(test)]
mod tests;
mod times;

pub use plan::{Observed, plan};
pub use times::Calendar;

use super::Caches;
use super::ownership::{queue_of, queue_owners};
use crate::api::ObjectKey;
use crate::api::cron::ZonedSchedule;
use crate::client::{Cache, Client, ResourceType, Seen};
use crate::control::{Attempt, Controller, Plan, Queue};
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, Job};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Looks at CronJobs and their jobs.
#[derive(Debug)]
pub struct CronJobController {
    client: Client,
    cron_jobs: Arc<Cache<CronJob>>,
    jobs: Arc<Cache<Job>>,
    /// Of schedules that name none.
    own_zone: TimeZone,
}

impl CronJobController {
    /// `client` is asked only whether an active job that cannot be seen is really gone.
    #[must_use]
    pub fn new(client: Client, caches: &Caches) -> Self {
        Self {
            client,
            cron_jobs: Arc::clone(&caches.cron_jobs),
            jobs: Arc::clone(&caches.jobs),
            own_zone: TimeZone::system(),
        }
    }

    /// Queues a CronJob when it or one of its jobs changes.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = queue_of(&self.cron_jobs);
        queue_owners(&queue, &self.jobs, &self.cron_jobs, |_, _| false);
        queue
    }

    fn calendar(&self, spec: &CronJobSpec) -> Result<Calendar, (&'static str, String)> {
        let parsed: Result<ZonedSchedule, _> = spec.schedule.parse();
        let unparseable = |problem: &dyn std::fmt::Display| {
            let message = format!("unparseable schedule: {:?} : {problem}", spec.schedule);
            ("UnparseableSchedule", message)
        };
        if let Some(zone) = &spec.time_zone
            && let Err(error) = TimeZone::get(zone)
        {
            return Err(("UnknownTimeZone", format!("invalid timeZone: {zone:?}: {error}")));
        }
        let ZonedSchedule { zone, schedule } = parsed.map_err(|error| unparseable(&error))?;
        let zone = match zone.as_ref().or(spec.time_zone.as_ref()) {
            None => self.own_zone.clone(),
            Some(zone) => TimeZone::get(zone)
                .map_err(|error| unparseable(&format!("provided bad location {zone}: {error}")))?,
        };
        Ok(Calendar { schedule, zone })
    }

    /// The active jobs that are gone. One that this cache does not show may be newer than it.
    async fn gone(&self, cron_job: &CronJob, jobs: &[Arc<Job>]) -> BTreeSet<String> {
        let active = cron_job.status.iter().flat_map(|status| status.active.iter().flatten());
        let mut gone = BTreeSet::new();
        for active in active {
            let uid = active.uid.clone().unwrap_or_default();
            if jobs.iter().any(|job| job.metadata.uid.as_ref() == Some(&uid)) {
                continue;
            }
            let key = ObjectKey {
                namespace: cron_job.metadata.namespace.clone(),
                name: active.name.clone().unwrap_or_default(),
            };
            let is_gone = match self.client.get::<Job>(&key).await {
                Ok(job) => job.metadata.uid.as_ref() != Some(&uid),
                Err(error) => error.is_not_found(),
            };
            if is_gone {
                gone.insert(uid);
            }
        }
        gone
    }
}

impl Controller for CronJobController {
    const NAME: &'static str = "cronjob-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, attempt: Attempt) -> Option<Observed> {
        let cron_job = self.cron_jobs.get(key)?;
        let uid = cron_job.metadata.uid.as_deref()?;
        let jobs = self.jobs.owned_by(uid);
        let prefix = format!("{}-", key.name);
        let others = self.jobs.list_where(key.namespace.as_deref()?, |job| {
            job.metadata.name.as_ref().is_some_and(|name| name.starts_with(&prefix))
        });
        let others = others.iter().filter_map(|job| job.metadata.name.clone()).collect();
        let gone = self.gone(&cron_job, &jobs).await;
        let calendar = self.calendar(cron_job.spec.as_ref()?);
        Some(Observed { cron_job, calendar, jobs, others, gone, attempt })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (ResourceType::of::<CronJob>(), Arc::clone(&self.cron_jobs) as Arc<dyn Seen>),
            (ResourceType::of::<Job>(), Arc::clone(&self.jobs) as Arc<dyn Seen>),
        ]
    }
}
