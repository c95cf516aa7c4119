//! Backups that a server makes by itself, when its schedule says.

use super::directory::prune;
use super::plan::Retention;
use super::save::{Saved, Saving, save};
use crate::api::cron::{BadSchedule, Schedule, ZonedSchedule};
use crate::stdx::{Clock, monotonic};
use crate::storage::sqlite::Halt;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Whoever asks the API goes first: the thread that makes backups is nicer by this.
const NICENESS: i32 = 10;

/// Where a server keeps backups, and when it makes them.
#[derive(Clone, Debug)]
pub struct BackupConfig {
    pub directory: PathBuf,
    /// `None`: when somebody asks for one.
    pub schedule: Option<BackupSchedule>,
    /// So many of those that are made by schedule are kept.
    pub retention: usize,
}

/// A CronJob's schedule; in the time zone of this machine, where it does not name another.
#[derive(Clone, Debug)]
pub struct BackupSchedule {
    schedule: Schedule,
    zone: TimeZone,
}

/// Why a text is no schedule for backups.
#[derive(Debug, thiserror::Error)]
pub enum BadBackupSchedule {
    #[error(transparent)]
    Schedule(#[from] BadSchedule),
    #[error("there is no time zone {zone:?}")]
    Zone {
        zone: String,
        #[source]
        source: jiff::Error,
    },
    #[error("it is never due")]
    Never,
}

impl FromStr for BackupSchedule {
    type Err = BadBackupSchedule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ZonedSchedule { zone, schedule } = text.parse()?;
        let zone = match zone {
            None => TimeZone::system(),
            Some(zone) => {
                TimeZone::get(&zone).map_err(|source| BadBackupSchedule::Zone { zone, source })?
            }
        };
        let parsed = Self { schedule, zone };
        match parsed.next(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(parsed),
            None => Err(BadBackupSchedule::Never),
        }
    }
}

impl BackupSchedule {
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.next(after, &self.zone)
    }
}

/// Makes a backup whenever one is due, until `shutdown`. What was due while no server ran is not made
/// up for.
pub(in crate::daemon) async fn keep(
    schedule: BackupSchedule,
    retention: usize,
    saving: Saving,
    clock: Clock,
    shutdown: CancellationToken,
) {
    loop {
        let mut settings = clock.settings();
        let Some(due) = schedule.next(clock.now()) else {
            warn!("no backup is due any more");
            return shutdown.cancelled().await;
        };
        let is_due = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = clock.sleep_until(due) => true,
            // It may have been set back by a year, or past the time.
            () = settings.next() => due <= clock.now(),
        };
        if is_due {
            back_up(&saving, retention, clock.now(), &shutdown).await;
        }
    }
}

/// Makes a backup and removes the oldest. Says in the log what has come of it.
async fn back_up(saving: &Saving, retention: usize, now: Timestamp, shutdown: &CancellationToken) {
    let began = monotonic();
    let halt = Arc::new(Halt::default());
    let (tell, mut told) = oneshot::channel();
    let (work, watched) = (saving.clone(), Arc::clone(&halt));
    let thread = std::thread::Builder::new().name("backup".into()).spawn(move || {
        be_nice();
        // Nobody is there any more who would want to know.
        tell.send(save_and_prune(&work, retention, now, &watched)).ok();
    });
    if let Err(error) = thread {
        warn!(error = crate::stdx::chain(&error), "no thread could be started for a backup");
        return;
    }
    let result = tokio::select! {
        result = &mut told => result,
        () = shutdown.cancelled() => {
            halt.ask();
            // It removes what it has begun.
            told.await.ok();
            return;
        }
    };
    match result {
        Ok(Ok((Saved { path, bytes, head }, removed))) => {
            let (path, milliseconds) = (path.display(), began.elapsed().as_millis());
            let (revision, objects) = (head.store.revision, head.store.objects);
            info!(%path, bytes, revision, objects, removed, "backed up in {milliseconds} ms");
        }
        Ok(Err(error)) => {
            warn!(
                error = format!("{error:#}"),
                "no backup was made; the next one is due as planned"
            );
        }
        Err(_panicked) => warn!("the thread that makes a backup has panicked"),
    }
}

fn save_and_prune(
    saving: &Saving,
    retention: usize,
    now: Timestamp,
    halt: &Halt,
) -> anyhow::Result<(Saved, usize)> {
    let saved = save(saving, now, halt)?;
    let retention = Retention { keep: retention, scheduled_only: true };
    // The backup is there; that others are not gone yet is no reason to say that it is not.
    let removed = prune(&saving.directory, retention).unwrap_or_else(|error| {
        warn!(error = format!("{error:#}"), "old backups could not be removed");
        Vec::new()
    });
    Ok((saved, removed.len()))
}

/// Has this thread wait for others.
pub fn be_nice() {
    let this = rustix::thread::gettid();
    // Where the kernel refuses, it is as urgent as others.
    rustix::process::setpriority_process(Some(this), NICENESS).ok();
}
