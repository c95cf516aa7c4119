//! Backups of a server: its store, its authorities and its keys in one file.
//!
//! Start at [`save()`] and [`restore()`]; [`start`] is what a server does by itself. A backup is a tar
//! compressed with zstd, whose first member says what is in it ([`Head`]). It is made while the server
//! runs, read back and compared before it gets its name, and is for its owner only: who has it has the
//! cluster.
//!
//! Deliberately absent: what a node makes anew (`agent/`, images), and volumes of claims.

mod archive;
mod directory;
mod head;
mod plan;
mod restore;
mod save;
mod schedule;
#[cfg(test)]
mod tests;

pub use directory::{Listed, list, prune};
pub use head::{BadBackup, Head, Member, StoreFacts, Trigger};
pub use plan::Retention;
pub use restore::{Existing, Restored, restore};
pub use save::{Saved, Saving, save};
pub use schedule::{BackupConfig, BackupSchedule, BadBackupSchedule, be_nice};

use crate::stdx::{Clock, Tasks};
use std::path::PathBuf;

/// Has the server whose directory this is make backups, where it is to.
pub(super) fn start(
    config: &BackupConfig,
    server: PathBuf,
    node: &str,
    clock: &Clock,
    tasks: &mut Tasks,
) {
    let Some(schedule) = config.schedule.clone() else { return };
    let saving = Saving {
        server,
        directory: config.directory.clone(),
        node: node.to_owned(),
        trigger: Trigger::Schedule,
    };
    let kept = schedule::keep(schedule, config.retention, saving, clock.clone(), tasks.shutdown());
    tasks.spawn("backups", kept);
}
