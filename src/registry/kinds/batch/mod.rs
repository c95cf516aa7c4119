//! The kinds of the `batch` group.

mod cron_job;
mod job;
